//! What can go wrong with a log, and what to do then.

use std::{fmt, io, path::PathBuf};

use crate::format::FormatError;

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file operation failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// There is no room: the disk is full, or a quota or a limit on the size of files is reached. What was durable
    /// before still is.
    #[error(
        "the disk is full: {needed} more bytes do not fit into {} ({source}); free some space, then capture goes on \
         where it stopped, and nothing is lost",
        path.display()
    )]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// How many bytes it should have grown by.
        needed: u64,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process has this log.
    #[error("the log {} is being {}", path.display(), held(holder, *writes))]
    Locked {
        /// The log's folder.
        path: PathBuf,
        /// Who holds it, such as `process 812`.
        holder: String,
        /// Whether it writes the log until it ends; else it recovers the log, or removes its oldest part.
        writes: bool,
    },
    /// The folder is not a log that can be used for what was asked.
    #[error("{} {problem}", path.display())]
    Unsuitable {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Bytes of a segment are not what was written.
    #[error("{0}")]
    Damaged(#[from] Damage),
    /// SQLite failed on the index, which can always be rebuilt.
    #[error(
        "the index {} failed ({source}); if it stays so, stop the listener, delete the file, and it is rebuilt from the \
         segments at the next start",
        path.display()
    )]
    Index {
        /// The index.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The writer failed before, and nobody knows what of the failed write is on disk.
    #[error("the log's writer stopped after an error ({cause}); open the log again, which recovers it")]
    Poisoned {
        /// The error that stopped it.
        cause: String,
    },
    /// The caller asked for something that the log does not take or does not have.
    #[error("{0}")]
    Refused(String),
}

impl LogError {
    /// Whether trying again later, with nothing changed by the user, may succeed: files can be short of room or of
    /// descriptors for a while, and an index busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::File { source, .. } => {
                !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            }
            Self::DiskFull { .. } | Self::Index { .. } | Self::Locked { .. } => true,
            Self::Unsuitable { .. } | Self::Damaged(_) | Self::Poisoned { .. } | Self::Refused(_) => false,
        }
    }

    /// A failed file operation, the full disk told apart.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            // What makes or names a file needs a block of the file system at least.
            kind if is_full(kind) => Self::DiskFull { path, needed: 4096, source },
            _ => Self::File { operation, path, source },
        }
    }

    pub(crate) fn write(path: impl Into<PathBuf>, needed: usize) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            kind if is_full(kind) => Self::DiskFull { path, needed: needed as u64, source },
            _ => Self::File { operation: "write", path, source },
        }
    }

    pub(crate) fn index(path: impl Into<PathBuf>) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.into();
        move |source| {
            if is_full_index(&source) {
                return Self::DiskFull { path, needed: 4096, source: io::Error::other(source) };
            }
            Self::Index { path, source }
        }
    }
}

fn held(holder: &str, writes: bool) -> String {
    match writes {
        true => format!("written by {holder}; stop it first, a log has one writer"),
        false => format!(
            "recovered by {holder}, or its oldest part removed, for a minute by now; try again when that is done"
        ),
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// SQLite knows a full disk; a quota and a limit are failed writes to it, as all others are.
fn is_full_index(error: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return false };
    failure.code == rusqlite::ErrorCode::DiskFull
        || [rusqlite::ffi::SQLITE_IOERR_WRITE, rusqlite::ffi::SQLITE_IOERR_SHMSIZE]
            .contains(&failure.extended_code)
}

/// A place in a segment where bytes are not what was written.
#[derive(Debug, thiserror::Error)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Bytes from its beginning to where the damage was noticed.
    pub offset: u64,
    /// What is wrong.
    #[source]
    pub problem: FormatError,
    /// What cannot be read because of it, by ordinal; the end is `None` where nobody knows.
    pub lost: (u64, Option<u64>),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, problem, lost } = self;
        write!(f, "{} is damaged at byte {offset}: {problem}; ", path.display())?;
        match lost {
            (first, Some(end)) if *end == first + 1 => write!(f, "transaction {first} of the log")?,
            (first, Some(end)) => write!(f, "transactions {first} to {} of the log", end.saturating_sub(1))?,
            (first, None) => write!(f, "transactions from {first} on")?,
        }
        f.write_str(
            " cannot be read, what lies before can. Nothing was cut. Copy the log's folder, then put the file back \
             from a copy of it, or move the folder away and set capture up anew",
        )
    }
}
