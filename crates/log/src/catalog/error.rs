//! Why the catalog does not do what it is asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use ptr_model::ExpressionError;

/// Why the catalog does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A name must be one's own.
    #[error("there is a {what} {name:?} already; choose another name, or delete that one first")]
    NameTaken {
        /// `checkpoint` or `session`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two sessions cannot share a database.
    #[error(
        "database {database:?} belongs to session {session:?}; choose another database, or delete that session"
    )]
    TargetTaken {
        /// The database on the output server.
        database: String,
        /// Whose it is.
        session: String,
    },
    /// Nothing has that name or id.
    #[error("there is no {what} {name:?}; `{what} list` shows those there are")]
    NotFound {
        /// `checkpoint`, `session` or `move`.
        what: &'static str,
        /// The name or id.
        name: String,
    },
    /// What is always there cannot go away or change its name.
    #[error("{what} {name} is always there: it cannot be deleted or renamed")]
    Fixed {
        /// `checkpoint` or `session`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The active session cannot be deleted, for exactly one is active.
    #[error("session {name:?} is the active one; switch to another first")]
    Active {
        /// The session.
        name: String,
    },
    /// A name that cannot be given.
    #[error(transparent)]
    Name(#[from] ExpressionError),
    /// A name that cannot be a session's.
    #[error("{name:?} cannot name a session: {reason}")]
    SessionName {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// The file cannot be used.
    #[error("cannot {operation} {}: {source}; check that its disk works and has space", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The catalog, or its write-ahead log.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A newer program made it.
    #[error("{} was made by a newer version of this program (version {found} of the catalog); use that one", path.display())]
    Newer {
        /// The catalog.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// SQLite failed.
    #[error("the catalog {} failed ({source}); check that its disk has space and the file is writable, else put it back from a copy", path.display())]
    Database {
        /// The catalog.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl CatalogError {
    pub(super) fn database(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Database { path, source }
    }

    /// Whether the disk failed, be it that it is full.
    pub(super) fn is_of_disk(&self) -> bool {
        use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
        match self {
            Self::File { .. } => true,
            Self::Database { source, .. } => {
                source.sqlite_error_code().is_some_and(|code| matches!(code, DiskFull | SystemIoFailure))
            }
            _ => false,
        }
    }

    pub(super) fn not_found(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }
}

/// Whether a change was refused because a unique value is there already.
pub(super) fn is_taken(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _)
        if failure.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
}
