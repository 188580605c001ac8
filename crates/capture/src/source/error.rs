//! Why set-up or teardown did not happen.

use std::{io, path::PathBuf};

use ptr_postgres::{ConnectError, ServerError, programs::ProgramsError};

use crate::{doctor::Finding, transport::TransportError};

/// Why set-up or teardown did not happen. What had been done by then is in the record, and undone at the next try.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The server was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused something.
    #[error("{doing}: {error}")]
    Server {
        /// What was being done.
        doing: String,
        /// The server's answer.
        error: Box<ServerError>,
    },
    /// The connection was lost, or an answer made no sense.
    #[error("{doing}: the connection failed: {source}")]
    Lost {
        /// What was being done.
        doing: String,
        /// What happened.
        source: tokio_postgres::Error,
    },
    /// The checks before anything is changed found something that capture cannot work with.
    #[error("the primary is not ready to be captured: {}", summary(.0))]
    NotReady(Vec<Finding>),
    /// Something of our name is there that is not ours.
    #[error("{what} {name:?} is there already and is not of this set-up{detail}; {hint}")]
    NotOurs {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// Who made or uses it, as far as it can be known; begins with a separator.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// Set-up was complete, and now something of it is gone: changes may be missing from the log.
    #[error("{what}; changes since then are not captured. {hint}")]
    Broken {
        /// What is gone.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A table stayed locked.
    #[error(
        "table {table} stayed locked for {seconds} s by {holders}; end that transaction, or exclude the table, and try again"
    )]
    Locked {
        /// The table, qualified and quoted.
        table: String,
        /// How long it was tried.
        seconds: u64,
        /// Who holds it.
        holders: String,
    },
    /// Tables changed their files each time when the base image was begun.
    #[error(
        "{tables}: truncated or rewritten each of the {attempts} times that the base image was begun; \
         try again when no TRUNCATE, ALTER TABLE, REFRESH MATERIALIZED VIEW or VACUUM FULL runs on them"
    )]
    Overtaken {
        /// Which ones.
        tables: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A file or folder of ours.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// There is no room.
    #[error(
        "there is no room for the base image in {} ({said}); free some space, or name another folder with --data-dir, and \
         start again: set-up begins anew",
        path.display()
    )]
    NoRoom {
        /// The file or folder.
        path: PathBuf,
        /// What the system or the program says.
        said: String,
    },
    /// No fitting `pg_dump`.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// `pg_dump` or `pg_restore` failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// The last lines that it wrote.
        output: String,
    },
    /// The replication connection failed.
    #[error("{doing}: {source}")]
    Replication {
        /// What was being done.
        doing: String,
        /// What happened.
        source: Box<TransportError>,
    },
}

fn summary(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{} ({})", finding.title, finding.fix))
        .collect::<Vec<_>>()
        .join("; ")
}

impl SourceError {
    /// The server's answer, if it is one.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server { error, .. } => Some(error),
            Self::Replication { source, .. } => source.server_error(),
            _ => None,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoRoom { path, said: source.to_string() }
            }
            _ => Self::File { path, source },
        }
    }
}

/// Says what was being done when a statement failed.
pub(crate) trait Doing<T> {
    /// With what was being done.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, SourceError>;
}

impl<T> Doing<T> for Result<T, tokio_postgres::Error> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, SourceError> {
        self.map_err(|source| match ServerError::of(&source) {
            Some(error) => SourceError::Server { doing: doing(), error: Box::new(error) },
            None => SourceError::Lost { doing: doing(), source },
        })
    }
}
