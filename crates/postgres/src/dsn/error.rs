//! What can be wrong with a connection string. No variant carries text that may hold a password.

use std::path::PathBuf;

/// Why a DSN was not understood.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    /// The text does not follow the syntax.
    #[error("the connection string is wrong at character {at}: {problem}; {hint}")]
    Malformed {
        /// 1-based, in characters.
        at: usize,
        /// What was expected there.
        problem: &'static str,
        /// What to write instead.
        hint: &'static str,
    },
    /// An option libpq does not know either.
    #[error("unknown option {option:?} in the connection string{}", suggestion(.similar))]
    UnknownOption {
        /// The option as written.
        option: String,
        /// A known option that looks like it.
        similar: Option<&'static str>,
    },
    /// An option libpq knows and we cannot honour.
    #[error("the option {option} is not supported here: {reason}")]
    Unsupported {
        /// The option's name.
        option: &'static str,
        /// Why, and what to use instead.
        reason: &'static str,
    },
    /// A known option with a value out of its range.
    #[error("the option {option} has the value {value:?}; it takes {expected}")]
    InvalidValue {
        /// The option's name.
        option: &'static str,
        /// The value as given; never a password.
        value: String,
        /// The values it takes.
        expected: &'static str,
    },
    /// Lists of hosts, addresses and ports that do not match.
    #[error("the connection string has {hosts} hosts but {others} {option} values; give one for each host")]
    UnequalLists {
        /// Number of hosts.
        hosts: usize,
        /// Number of values of the other list.
        others: usize,
        /// `port` or `hostaddr`.
        option: &'static str,
    },
    /// A service that could not be looked up.
    #[error("the service {service:?} is not defined{}; add a section [{service}] to ~/.pg_service.conf or set PGSERVICEFILE", searched(.files))]
    UnknownService {
        /// The service's name.
        service: String,
        /// The files that were searched.
        files: Vec<PathBuf>,
    },
    /// A file that is there and could not be read or understood.
    #[error("{path}: {problem}", path = .path.display())]
    File {
        /// The service file.
        path: PathBuf,
        /// What is wrong with it, with the line.
        problem: String,
        /// The cause, when reading failed.
        source: Option<std::io::Error>,
    },
    /// No role to log in as.
    #[error("no user name is known; add user=NAME to the connection string or set PGUSER")]
    NoUser,
}

fn suggestion(similar: &Option<&'static str>) -> String {
    similar.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

fn searched(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if names.is_empty() { String::new() } else { format!(" in {}", names.join(" or ")) }
}

/// Advice for a URI that fell apart, most often because of its password.
pub(super) const ENCODE: &str = "in a user name or password write @ as %40, : as %3A, / as %2F, # as %23, ? as %3F, % as %25, space as %20";

/// Advice for a keyword string that fell apart.
pub(super) const QUOTE: &str = r"write keyword=value pairs separated by spaces, and a value with spaces in quotes: password='two words' (\' for a quote, \\ for a backslash)";
