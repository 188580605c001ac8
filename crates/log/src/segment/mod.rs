//! Segments as files: names, walking over their blocks, finding a place in them, appending, sealing.

mod append;
mod cursor;
mod file;
mod scan;
mod seal;
mod walk;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use append::{BlockRange, OpenSegment};
pub(crate) use cursor::RecordCursor;
pub(crate) use file::SegmentFile;
pub(crate) use scan::{Depth, ScannedTransaction, Scanner, Settled};
pub(crate) use seal::Sealer;
pub(crate) use walk::{Walker, proof_of_damage};

use crate::{Damage, LogError, disk::Disk, format::FormatError};

const SUFFIX: &str = ".seg";
const NEW_SUFFIX: &str = ".seg.new";
const SEALING_SUFFIX: &str = ".seg.sealing";

/// The name of the segment that begins with this transaction.
pub(crate) fn segment_path(directory: &Path, first_ordinal: u64) -> PathBuf {
    directory.join(format!("{first_ordinal:020}{SUFFIX}"))
}

fn new_path(directory: &Path, first_ordinal: u64) -> PathBuf {
    directory.join(format!("{first_ordinal:020}{NEW_SUFFIX}"))
}

fn sealing_path(directory: &Path, first_ordinal: u64) -> PathBuf {
    directory.join(format!("{first_ordinal:020}{SEALING_SUFFIX}"))
}

/// The first ordinals of all segments, ascending.
pub(crate) fn list(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Vec<u64>, LogError> {
    let names = disk.list(directory).map_err(LogError::file("list", directory))?;
    let mut ordinals: Vec<u64> = names.iter().filter_map(|name| ordinal_of(name, SUFFIX)).collect();
    ordinals.sort_unstable();
    Ok(ordinals)
}

/// Removes what a crash left of segments that were being made or sealed.
pub(crate) fn remove_unfinished(disk: &Arc<dyn Disk>, directory: &Path) -> Result<(), LogError> {
    for name in disk.list(directory).map_err(LogError::file("list", directory))? {
        if ordinal_of(&name, NEW_SUFFIX).or_else(|| ordinal_of(&name, SEALING_SUFFIX)).is_some() {
            let path = directory.join(&name);
            disk.remove(&path).map_err(LogError::file("remove", &path))?;
        }
    }
    Ok(())
}

fn ordinal_of(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// A fault in a segment's bytes, before it is known which transactions it costs.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file could not be read at all.
    Io(std::io::Error),
    /// What was read is not what the format says.
    Format { offset: u64, problem: FormatError },
}

impl Fault {
    pub(crate) fn at(offset: u64) -> impl FnOnce(FormatError) -> Self {
        move |problem| Self::Format { offset, problem }
    }

    pub(crate) fn into_error(self, path: &Path, lost: (u64, Option<u64>)) -> LogError {
        match self {
            Self::Io(source) => LogError::file("read", path)(source),
            Self::Format { offset, problem } => {
                Damage { path: path.to_owned(), offset, problem, lost }.into()
            }
        }
    }
}
