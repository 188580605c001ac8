//! What a log is known to lack: `holes.json`. Nobody can bring it back, so it is said until the history ends.
//!
//! A file of its own beside `log.json`, and not in the index, which may be lost and made anew.

use std::{fs, io};

use ptr_model::{Lsn, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    LogError,
    disk::sync_parent,
    identity::{Layout, write_beside},
};

/// As many are kept, the latest.
const KEPT: usize = 100;

/// A part of the history that the log was never given: what committed there, if anything did, is in no log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hole {
    /// Everything that committed before is in the log.
    pub from: Lsn,
    /// Where capture went on.
    pub until: Lsn,
    /// When it was found, by this machine's clock.
    pub found_at: Timestamp,
}

/// Adds a hole, unless it is known; says whether it was added.
pub(crate) fn add(holes: &mut Vec<Hole>, hole: Hole) -> bool {
    if holes.iter().any(|known| (known.from, known.until) == (hole.from, hole.until)) {
        return false;
    }
    holes.push(hole);
    let superfluous = holes.len().saturating_sub(KEPT);
    holes.drain(..superfluous);
    true
}

impl Layout {
    /// Reads `holes.json`; nothing where there is none.
    pub(crate) fn read_holes(&self) -> Result<Vec<Hole>, LogError> {
        let path = self.holes();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| LogError::Unsuitable {
                path,
                problem: format!("is not what was written ({error}); put it back from a copy of the folder"),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(LogError::file("read", path)(error)),
        }
    }

    /// Writes it; durable when this returns.
    pub(crate) fn write_holes(&self, holes: &[Hole]) -> Result<(), LogError> {
        let json = serde_json::to_vec_pretty(holes).expect("holes have string keys only");
        let path = self.holes();
        write_beside(&path, &json)
            .and_then(|unfinished| fs::rename(unfinished, &path))
            .and_then(|()| sync_parent(&path))
            .map_err(LogError::write(&path, json.len()))
    }
}
