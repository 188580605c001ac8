//! Connection services: named sections of options in `PGSERVICEFILE`, `~/.pg_service.conf` or
//! `$PGSYSCONFDIR/pg_service.conf`, the first file that has the section winning.

use super::error::DsnError;
use super::parameters::Parameters;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Looks the service up in the files libpq looks in.
pub(super) fn look_up(name: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Parameters, DsnError> {
    let users = lookup("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| lookup("HOME").map(|home| PathBuf::from(home).join(".pg_service.conf")));
    let system = lookup("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    let files: Vec<PathBuf> =
        users.into_iter().chain([PathBuf::from(system).join("pg_service.conf")]).collect();
    for file in &files {
        if let Some(found) = in_file(file, name)? {
            return Ok(found);
        }
    }
    Err(DsnError::UnknownService { service: name.to_owned(), files })
}

fn in_file(path: &Path, name: &str) -> Result<Option<Parameters>, DsnError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let problem = format!("the service file cannot be read: {error}");
            return Err(DsnError::File { path: path.to_owned(), problem, source: Some(error) });
        }
    };
    section(&text, name).map_err(|problem| DsnError::File { path: path.to_owned(), problem, source: None })
}

fn section(text: &str, name: &str) -> Result<Option<Parameters>, String> {
    let mut found: Option<Parameters> = None;
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            inside = header.trim_end_matches(']') == name;
            if inside {
                found = Some(Parameters::default());
            }
        } else if let (true, Some(parameters)) = (inside, &mut found) {
            let (option, value) =
                line.split_once('=').ok_or_else(|| format!("line {number}: write option=value"))?;
            if option == "service" {
                return Err(format!("line {number}: a service cannot name another service"));
            }
            parameters.set(option, value.to_owned()).map_err(|error| format!("line {number}: {error}"))?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[test]\nhost=a\n\n[shop]\nhost=b\nport=6543\n[shop]\nhost=never\n";

    #[test]
    fn the_first_section_of_that_name_is_taken() {
        let found = section(FILE, "shop").unwrap().unwrap();
        assert_eq!((found.get("host"), found.get("port")), (Some("b"), Some("6543")));
        assert!(section(FILE, "missing").unwrap().is_none());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        assert_eq!(section("[x]\nhost=a\nnonsense", "x").unwrap_err(), "line 3: write option=value");
    }
}
