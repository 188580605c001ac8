//! Where a log begins since its oldest part was removed: `beginning.json`. A log of which nothing was removed has none,
//! and begins at its creation.
//!
//! Invariants: it names a position at which a segment begins that is there; it is replaced whole, and durable before
//! anything that lies before it is removed. So whatever a crash leaves from before it is superfluous.

use std::{io, path::Path, sync::Arc};

use ptr_model::{Position, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{LogError, LogIdentity, disk::Disk, identity::Layout};

/// More bytes than it ever has.
const MOST: usize = 64 * 1024;

/// Where a log begins since its oldest part was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Beginning {
    /// The position before the first transaction that is left.
    pub position: Position,
    /// When the last transaction before it committed, by the primary's clock.
    pub committed_at: Timestamp,
    /// When what lies before it was removed, by this machine's clock.
    pub removed_at: Timestamp,
}

/// Where a log begins.
pub(crate) fn start(identity: &LogIdentity, beginning: Option<&Beginning>) -> Position {
    beginning.map_or_else(|| identity.creation_position(), |beginning| beginning.position)
}

impl Layout {
    /// Reads `beginning.json`, `None` where nothing was ever removed.
    pub(crate) fn read_beginning(&self, disk: &Arc<dyn Disk>) -> Result<Option<Beginning>, LogError> {
        let path = self.beginning();
        match read(disk, &path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| LogError::Unsuitable {
                path,
                problem: format!("is not what was written ({error}); put it back from a copy of the folder"),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::file("read", path)(error)),
        }
    }

    /// Writes it; durable when this returns.
    pub(crate) fn write_beginning(
        &self,
        disk: &Arc<dyn Disk>,
        beginning: &Beginning,
    ) -> Result<(), LogError> {
        let json = serde_json::to_vec_pretty(beginning).expect("a beginning has string keys only");
        let path = self.beginning();
        replace(disk, &path, &json).map_err(LogError::write(&path, json.len()))
    }
}

fn read(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut text = vec![0; length.min(MOST)];
    let read = file.read_at(0, &mut text)?;
    text.truncate(read);
    Ok(text)
}

/// Whole or not at all: what it is to be is durable before it has the name.
fn replace(disk: &Arc<dyn Disk>, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("json.new");
    let file = disk.create(&unfinished)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&unfinished, path)
}
