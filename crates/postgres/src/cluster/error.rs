//! Why a private cluster could not be made, started or stopped. Every variant carries a path.

use std::io;
use std::path::{Path, PathBuf};

/// Why a private cluster could not be made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or folder of the cluster.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: "create", "read", "write", "copy", "run".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A PostgreSQL program failed.
    #[error("{} failed for {}:\n{output}", program.display(), directory.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The cluster's folder.
        directory: PathBuf,
        /// What it printed last.
        output: String,
    },
    /// The server ended while starting, or did not get ready in time.
    #[error("the server in {} did not start; the end of {}:\n{log_tail}", directory.display(), log.display())]
    NotStarted {
        /// The cluster's folder.
        directory: PathBuf,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        log_tail: String,
    },
    /// The server is still there after a shutdown was asked for.
    #[error("the server in {} (pid {pid}) did not stop within {seconds} s; end the programs that use it, then try again", directory.display())]
    NotStopped {
        /// The cluster's folder.
        directory: PathBuf,
        /// The postmaster.
        pid: u32,
        /// How long we waited.
        seconds: u64,
    },
    /// A fixed port that somebody else has.
    #[error("port {port}, set for the server in {}, is in use; choose another, or none to have one chosen", directory.display())]
    PortInUse {
        /// The cluster's folder.
        directory: PathBuf,
        /// The port.
        port: u16,
    },
    /// We are root, and no account for the server can use what it needs.
    #[error("the account {account:?}, as which the server has to run, cannot enter {}; move it, or run as an ordinary user", path.display())]
    NotEnterable {
        /// The account's name.
        account: String,
        /// What it cannot enter.
        path: PathBuf,
    },
    /// The data directory is of another major version than the programs.
    #[error("{} was made by PostgreSQL {found}, and the programs are {wanted}; set PG_BIN to the bin folder of version {found}", directory.display())]
    OtherVersion {
        /// The cluster's folder.
        directory: PathBuf,
        /// The version in `PG_VERSION`.
        found: String,
        /// The programs' major version.
        wanted: u32,
    },
    /// No account to run a server as.
    #[error(
        "as root, PostgreSQL has to run as another account, and /etc/passwd has neither postgres nor nobody; add one (useradd postgres)"
    )]
    NoAccount,
}

impl ClusterError {
    /// For `map_err` on file operations.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
