//! The edge: reads flags, environment and files into plain values, and changes none of them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{ConfigurationError, Setting, find_data_directory, owner::Trusted};

/// What was typed on the command line.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--env-file`; without it `.env` is looked for.
    pub env_file: Option<PathBuf>,
    /// `--config`; without it `config.json` is looked for.
    pub config: Option<PathBuf>,
    /// Flags that are settings, such as `--data-dir` and `--addr`.
    pub values: BTreeMap<Setting, String>,
}

/// A file's path and content.
#[derive(Debug, Clone)]
pub struct FileText {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// All places in which a setting may stand, read and not yet understood.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Settings given as flags.
    pub flags: BTreeMap<Setting, String>,
    /// The environment of the process, also `PG*`, `HOME` and `USER`, which DSNs are completed from.
    pub environment: BTreeMap<String, String>,
    /// `.env`, if there is one.
    pub env_file: Option<(PathBuf, BTreeMap<String, String>)>,
    /// The JSON file, if there is one.
    pub json: Option<FileText>,
    /// What relative paths of flags and environment start from.
    pub current_folder: PathBuf,
    /// A data directory at or above the current folder.
    pub found_data_directory: Option<PathBuf>,
    /// Who has it, where that is another user: then it is used only if it is named.
    pub found_data_directory_of: Option<String>,
}

impl Sources {
    /// Reads everything. A file that was named must be there; one that is looked for may be missing. `.env`
    /// and `config.json` are looked for in the current folder, then beside the data directory.
    ///
    /// # Errors
    /// A file that cannot be read or, for `.env`, not be understood; one that was found and is another user's.
    pub fn read(flags: &Flags) -> Result<Self, ConfigurationError> {
        let here = Path::new(".");
        let current_folder = std::env::current_dir()
            .map_err(|source| ConfigurationError::Unreadable { path: here.to_owned(), source })?;
        let variables = std::env::vars_os();
        let environment: BTreeMap<_, _> = variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let trusted = Trusted::of_this_process(&environment);
        Self::read_in(current_folder, flags, environment, &trusted)
    }

    fn read_in(
        current_folder: PathBuf,
        flags: &Flags,
        environment: BTreeMap<String, String>,
        trusted: &Trusted,
    ) -> Result<Self, ConfigurationError> {
        let found = find_data_directory(&current_folder);
        let found_data_directory_of = match &found {
            Some(path) => trusted
                .stranger(path)
                .map_err(|source| ConfigurationError::Unreadable { path: path.clone(), source })?,
            None => None,
        };
        let beside = found.as_deref().and_then(Path::parent);
        let folders: Vec<&Path> = std::iter::once(current_folder.as_path()).chain(beside).collect();
        let file = |named: Option<&Path>, usual: Usual| match named {
            Some(path) => read(path, |_| Ok(())).map(Some),
            None => look_for(usual, &folders, trusted),
        };
        let env_file = match file(flags.env_file.as_deref(), Usual(".env", "--env-file"))? {
            Some(file) => Some((file.path.clone(), env_variables(&file)?)),
            None => None,
        };
        Ok(Self {
            flags: flags.values.clone(),
            environment,
            env_file,
            json: file(flags.config.as_deref(), Usual("config.json", "--config"))?,
            found_data_directory: found,
            found_data_directory_of,
            current_folder,
        })
    }
}

/// The name under which a file is looked for, and the option that names one instead.
#[derive(Clone, Copy)]
struct Usual(&'static str, &'static str);

/// The first of that name in the folders, which must be of somebody who is trusted.
fn look_for(
    usual: Usual,
    folders: &[&Path],
    trusted: &Trusted,
) -> Result<Option<FileText>, ConfigurationError> {
    let Usual(name, flag) = usual;
    let Some(path) = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let strange = |owner| ConfigurationError::Strange { path: path.clone(), owner, flag };
    if let Some(owner) = trusted.stranger(&path).map_err(unreadable(&path))? {
        return Err(strange(owner));
    }
    // Asked of the file that was opened too: under its name there may be another by now.
    let check = |file: &File| {
        let uid = file.metadata().map_err(unreadable(&path))?.uid();
        trusted.stranger_of(uid).map_or(Ok(()), |owner| Err(strange(owner)))
    };
    read(&path, check).map(Some)
}

fn read(
    path: &Path,
    check: impl FnOnce(&File) -> Result<(), ConfigurationError>,
) -> Result<FileText, ConfigurationError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut file = File::open(&path).map_err(unreadable(&path))?;
    check(&file)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable(&path))?;
    Ok(FileText { path, text })
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ConfigurationError {
    |source| ConfigurationError::Unreadable { path: path.to_owned(), source }
}

/// The variables of a `.env` file. The process's own environment stays as it is.
fn env_variables(file: &FileText) -> Result<BTreeMap<String, String>, ConfigurationError> {
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    refuse_substitution(&file.path, text)?;
    let mut variables = BTreeMap::new();
    for pair in dotenvy::Iter::new(text.as_bytes()) {
        let (name, value) = pair.map_err(|error| env_error(&file.path, text, &error))?;
        variables.insert(name, value);
    }
    Ok(variables)
}

/// In `.env` files a `$` that is neither in single quotes nor behind a backslash is the beginning of another
/// variable's name, which most often stands for nothing: a password would silently lose its end. Values of other
/// programs are theirs.
fn refuse_substitution(path: &Path, text: &str) -> Result<(), ConfigurationError> {
    let Some((setting, line)) = dollar(text) else { return Ok(()) };
    let name = setting.variable();
    Err(ConfigurationError::Malformed {
        path: path.to_owned(),
        line,
        problem: format!(
            "the value of {name} has a $, which would begin the name of another variable; put the whole value in single quotes to keep it: {name}='...'"
        ),
    })
}

/// The quotes that a value's character stands in, as dotenv files have them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

/// The first setting with a `$` that would be replaced, and the line of the `$`, counted from 1.
fn dollar(text: &str) -> Option<(Setting, usize)> {
    let mut quotes = Quotes::None;
    let mut setting = None;
    for (line, content) in (1..).zip(text.lines()) {
        let mut value = content;
        // A value in quotes goes on in the next line.
        if quotes == Quotes::None {
            if content.trim_start().starts_with('#') {
                continue;
            }
            let Some((name, first)) = content.split_once('=') else { continue };
            let name = name.trim();
            setting = Setting::from_variable(name.strip_prefix("export").map_or(name, str::trim_start));
            value = first;
        }
        let (found, after) = scan(value, quotes);
        quotes = after;
        if let (true, Some(setting)) = (found, setting) {
            return Some((setting, line));
        }
    }
    None
}

/// Whether one line of a value has such a `$`, and the quotes that are still open at its end.
fn scan(value: &str, mut quotes: Quotes) -> (bool, Quotes) {
    let (mut found, mut before, mut is_escaped) = (false, ' ', false);
    for c in value.chars() {
        let escaped = std::mem::take(&mut is_escaped);
        match (quotes, c) {
            _ if escaped => {}
            (Quotes::Single, '\'') | (Quotes::Double, '"') => quotes = Quotes::None,
            (Quotes::Single, _) => {}
            (_, '\\') => is_escaped = true,
            (_, '$') => found = true,
            (Quotes::None, '\'') => quotes = Quotes::Single,
            (Quotes::None, '"') => quotes = Quotes::Double,
            (Quotes::None, '#') if before.is_whitespace() => break,
            _ => {}
        }
        before = c;
    }
    (found, quotes)
}

/// The line is found and not shown: it may hold a password.
fn env_error(path: &Path, text: &str, error: &dotenvy::Error) -> ConfigurationError {
    let line = match error {
        dotenvy::Error::LineParse(line, _) => text.lines().position(|other| other.contains(line.trim())),
        _ => None,
    };
    ConfigurationError::Malformed {
        path: path.to_owned(),
        line: line.map_or(1, |line| line + 1),
        problem: "this is not NAME=value; put single quotes around a value with spaces, # or $".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::{Configuration, DATA_DIRECTORY_NAME};

    #[test]
    fn a_broken_line_of_an_env_file_is_named_and_not_shown() {
        let text = "A=1\nINPUT_DSN=host=localhost password=geheim dbname=x\n".to_owned();
        let error = env_variables(&FileText { path: "/x/.env".into(), text }).unwrap_err().to_string();
        assert!(error.starts_with("/x/.env, line 2:"), "{error}");
        assert!(!error.contains("geheim"), "{error}");
    }

    #[test]
    fn quoted_values_keep_spaces_and_dollars() {
        let text = "INPUT_DSN='host=localhost password=a$b'\n".to_owned();
        let variables = env_variables(&FileText { path: ".env".into(), text }).unwrap();
        assert_eq!(variables["INPUT_DSN"], "host=localhost password=a$b");
    }

    fn variables(text: &str) -> Result<BTreeMap<String, String>, ConfigurationError> {
        env_variables(&FileText { path: "/x/.env".into(), text: text.to_owned() })
    }

    #[test]
    fn a_dollar_that_would_be_replaced_is_refused_with_its_line_and_without_its_value() {
        let uri = "postgres://u:ge$heim@h/d";
        for broken in [
            format!("# a\nINPUT_DSN={uri}\n"),
            format!("A=1\nINPUT_DSN=\"{uri}\"\n"),
            format!("\nexport INPUT_DSN = {uri} # why\n"),
            format!("A='$x'\nINPUT_DSN={uri}"),
            "\nAPI_TOKEN=geheim$\n".to_owned(),
        ] {
            let error = variables(&broken).unwrap_err().to_string();
            assert!(error.starts_with("/x/.env, line 2:"), "{error}");
            assert!(error.contains("='...'") && !error.contains("heim"), "{error}");
        }
    }

    #[test]
    fn a_comment_hides_no_dollar_behind_it() {
        let text = "# dbname=the shop's database\n  # x=\"\nAPI_TOKEN=k3$9heim\n";
        let error = variables(text).unwrap_err().to_string();
        assert!(error.starts_with("/x/.env, line 3: the value of API_TOKEN has a $"), "{error}");
        // Inside quotes it is no comment, and what it ends with is the value's end.
        let taken = variables("INPUT_DSN='a\n# b=$c'\nAPI_TOKEN=x\n").unwrap();
        assert_eq!((&*taken["INPUT_DSN"], &*taken["API_TOKEN"]), ("a\n# b=$c", "x"));
    }

    #[test]
    fn a_dollar_that_stays_or_is_not_ours_is_taken() {
        let taken = variables("PS1=$HOME\nINPUT_DSN='a$b'\nOUTPUT_DSN=a\\$b # costs $5\n# $x\nAPI_TOKEN=x\n");
        let taken = taken.unwrap();
        assert_eq!((&*taken["INPUT_DSN"], &*taken["OUTPUT_DSN"]), ("a$b", "a$b"));
        assert_eq!(taken["API_TOKEN"], "x");
    }

    /// A user that has nothing here, as whom the files of the tests are a stranger's.
    const ANOTHER: u32 = 4_000_001;

    /// Settings as that user has them in a folder below one with a data directory and these files.
    fn found_by(user: u32, files: &[(&str, &str)], named: &[&str]) -> Result<Configuration, String> {
        let above = tempfile::tempdir().unwrap();
        let (here, data) = (above.path().join("work"), above.path().join(DATA_DIRECTORY_NAME));
        std::fs::create_dir(&here).unwrap();
        std::fs::create_dir(&data).unwrap();
        for (name, text) in files {
            std::fs::write(above.path().join(name), text).unwrap();
        }
        let name = |file: &str| named.contains(&file).then(|| above.path().join(file));
        let mut flags = Flags { env_file: name(".env"), config: name("config.json"), ..Flags::default() };
        if let Some(data) = name(DATA_DIRECTORY_NAME) {
            flags.values.insert(Setting::DataDirectory, data.to_str().unwrap().to_owned());
        }
        let sources = Sources::read_in(here, &flags, BTreeMap::new(), &Trusted(vec![user]));
        let configuration = sources.and_then(|sources| Configuration::resolve(&sources));
        configuration.map_err(|error| error.to_string().replace(above.path().to_str().unwrap(), ""))
    }

    #[test]
    fn what_another_user_put_in_the_way_is_used_only_where_it_is_named() {
        let env: &[_] = &[(".env", "PG_BIN=/tmp/evil\n")];
        let json: &[_] = &[("config.json", r#"{"replication": {"slot_name": "evil"}}"#)];
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(found_by(own, env, &[]).unwrap().program_directory, Some("/tmp/evil".into()));
        assert_eq!(found_by(own, json, &[]).unwrap().slot, "evil");
        for (files, name, flag) in [
            (env, ".env", "--env-file"),
            (json, "config.json", "--config"),
            (&[], DATA_DIRECTORY_NAME, "--data-dir"),
        ] {
            let error = found_by(ANOTHER, files, &[]).unwrap_err();
            assert!(error.starts_with(&format!("/{name} was found and belongs to ")), "{error}");
            assert!(error.contains(&format!("if it is meant, name it: {flag} /{name};")), "{error}");
            // As the hint says; the data directory that is there too is to be named for itself.
            found_by(ANOTHER, files, &[name, DATA_DIRECTORY_NAME]).unwrap();
        }
    }
}
