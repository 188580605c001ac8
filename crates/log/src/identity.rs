//! Whose history a log holds: `log.json`, written once.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ptr_model::{Lsn, Oid, Position, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    LogError,
    disk::{create_private_directory, sync_parent, sync_way_to},
    format::SegmentHeader,
    index::Index,
};

/// The longest name of a database; PostgreSQL's own limit is 63 bytes unless it was built otherwise.
const MAX_NAME_BYTES: usize = 1024;

/// Whose history a log holds, and from where on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogIdentity {
    /// `pg_control_system().system_identifier` of the primary.
    pub system_identifier: u64,
    /// The primary's WAL branch when capture began.
    pub timeline: u32,
    /// The captured database.
    pub database: String,
    /// Its `pg_database.oid`.
    pub database_oid: Oid,
    /// The slot's consistent point: history begins here.
    pub creation: Lsn,
    /// When that was, by this machine's clock.
    pub created_at: Timestamp,
    /// Names this log for ever.
    pub log_id: Uuid,
}

impl LogIdentity {
    /// The position before the first transaction.
    #[must_use]
    pub fn creation_position(&self) -> Position {
        Position::creation(self.creation)
    }

    pub(crate) fn owns(&self, header: &SegmentHeader) -> bool {
        header.log_id == self.log_id && header.system_identifier == self.system_identifier
    }
}

/// The files of a log.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    directory: PathBuf,
}

impl Layout {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.directory.join("log.json")
    }

    pub(crate) fn beginning(&self) -> PathBuf {
        self.directory.join("beginning.json")
    }

    pub(crate) fn holes(&self) -> PathBuf {
        self.directory.join("holes.json")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.directory.join("index.sqlite")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.directory.join("segments")
    }

    /// Reads `log.json`.
    pub(crate) fn read_identity(&self) -> Result<LogIdentity, LogError> {
        let path = self.identity();
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LogError::Unsuitable {
                path: self.directory.clone(),
                problem:
                    "holds no log: capture of this database was not set up here; run `up` or `listener` first"
                        .to_owned(),
            },
            _ => LogError::File { operation: "read", path: path.clone(), source },
        })?;
        serde_json::from_slice(&text).map_err(|error| LogError::Unsuitable {
            path,
            problem: format!("is not what was written ({error}); put it back from a copy of the folder"),
        })
    }
}

/// Makes an empty log in `directory`, which is made too, with the folders above it.
///
/// # Errors
/// [`LogError::Unsuitable`] where there is a log already; [`LogError::File`] where the folder cannot be written.
pub fn create(directory: &Path, identity: &LogIdentity) -> Result<(), LogError> {
    let layout = Layout::new(directory);
    if identity.database.is_empty() || identity.database.len() > MAX_NAME_BYTES {
        let problem = format!(
            "cannot hold the log of {:?}: a database has a name of 1 to {MAX_NAME_BYTES} bytes",
            identity.database
        );
        return Err(LogError::Unsuitable { path: directory.to_owned(), problem });
    }
    create_private_directory(&layout.segments()).map_err(LogError::file("create", layout.segments()))?;
    let path = layout.identity();
    if path.exists() {
        let problem =
            "is there already: a log is never overwritten; open it, or choose another folder".to_owned();
        return Err(LogError::Unsuitable { path, problem });
    }
    // Before the identity, with which the log is there: readers ask the index from then on, a writer may come later.
    Index::open(&layout.index(), identity)?.commit_as_is()?;
    let json = serde_json::to_vec_pretty(identity).expect("an identity has string keys only");
    write_new(&path, &json).map_err(LogError::write(&path, json.len()))?;
    sync_way_to(directory).map_err(LogError::file("make durable", directory))
}

/// Writes a file so that it is there whole or not at all, and never over one that is there.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = write_beside(path, bytes)?;
    fs::hard_link(&unfinished, path)?;
    fs::remove_file(&unfinished)?;
    // A name that could not be made durable must not be found by who tries again: a later sync says nothing of it.
    sync_parent(path).inspect_err(|_| drop(fs::remove_file(path)))
}

/// Writes what is to become a JSON file, durable but for its name, which is returned.
pub(crate) fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let unfinished = path.with_extension("json.new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(unfinished)
}
