//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::Origin;

/// Why the configuration could not be used. No variant shows a password or token.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A value that its setting does not take.
    #[error("{setting} from {origin} is wrong: {problem}")]
    Value {
        /// The setting, by its variable's name.
        setting: &'static str,
        /// Where the value stands.
        origin: Origin,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A file that is there, or was named, and cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder that was found and not named, and is another user's.
    #[error(
        "{path} was found and belongs to {owner}, not to you, so it is not used; if it is meant, name it: {flag} {path}; else name another one, or work in another folder",
        path = .path.display()
    )]
    Strange {
        /// The file or folder.
        path: PathBuf,
        /// Who has it.
        owner: String,
        /// The option that names one.
        flag: &'static str,
    },
    /// A file that cannot be understood.
    #[error("{path}, line {line}: {problem}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// TLS needs both files.
    #[error("{set} is set and {missing} is not; TLS needs both, the certificate and its private key")]
    HalfOfTls {
        /// The one that is set.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// The API would be open to others without a token.
    #[error(
        "the API would listen on {address}, where others can reach it, and API_TOKEN is not set; set API_TOKEN to a long random text, or listen on 127.0.0.1"
    )]
    TokenMissing {
        /// The address.
        address: String,
    },
}
