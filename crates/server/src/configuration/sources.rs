//! The edge: reads flags, environment and files into plain values, and changes none of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{ConfigurationError, Setting, find_data_directory};

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
}

impl Sources {
    /// Reads everything. A file that was named must be there; one that is looked for may be missing. `.env`
    /// and `config.json` are looked for in the current folder, then beside the data directory.
    ///
    /// # Errors
    /// A file that cannot be read or, for `.env`, not be understood.
    pub fn read(flags: &Flags) -> Result<Self, ConfigurationError> {
        let here = Path::new(".");
        let current_folder = std::env::current_dir()
            .map_err(|source| ConfigurationError::Unreadable { path: here.to_owned(), source })?;
        let found = find_data_directory(&current_folder);
        let beside = found.as_deref().and_then(Path::parent);
        let folders: Vec<&Path> = std::iter::once(current_folder.as_path()).chain(beside).collect();
        let env_file = match file(flags.env_file.as_deref(), ".env", &folders)? {
            Some(file) => Some((file.path.clone(), env_variables(&file)?)),
            None => None,
        };
        let variables = std::env::vars_os();
        let environment =
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Self {
            flags: flags.values.clone(),
            environment: environment.collect(),
            env_file,
            json: file(flags.config.as_deref(), "config.json", &folders)?,
            found_data_directory: found,
            current_folder,
        })
    }
}

fn file(
    named: Option<&Path>,
    usual: &str,
    folders: &[&Path],
) -> Result<Option<FileText>, ConfigurationError> {
    let candidate = folders.iter().map(|folder| folder.join(usual)).find(|path| path.is_file());
    let Some(path) = named.map(Path::to_owned).or(candidate) else { return Ok(None) };
    let path = std::path::absolute(&path).unwrap_or(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(FileText { path, text })),
        Err(source) => Err(ConfigurationError::Unreadable { path, source }),
    }
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
    fn a_dollar_that_stays_or_is_not_ours_is_taken() {
        let taken = variables("PS1=$HOME\nINPUT_DSN='a$b'\nOUTPUT_DSN=a\\$b # costs $5\n# $x\nAPI_TOKEN=x\n");
        let taken = taken.unwrap();
        assert_eq!((&*taken["INPUT_DSN"], &*taken["OUTPUT_DSN"]), ("a$b", "a$b"));
        assert_eq!(taken["API_TOKEN"], "x");
    }
}
