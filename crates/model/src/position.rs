//! A point in history between two transactions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Lsn;

/// A point between two transactions of one log.
///
/// The three fields say the same thing three ways and are kept together because each reader needs another:
/// `ordinal` orders and counts, `lsn` means something to PostgreSQL, `entry_index` is what users see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Position {
    /// Transactions of the log before this point.
    pub ordinal: u64,
    /// The end of the last transaction before this point; where capture began if there is none.
    pub lsn: Lsn,
    /// Entries of the log before this point, and so the index of the next one.
    pub entry_index: u64,
}

impl Position {
    /// Where a log begins, given the consistent point of the slot.
    #[must_use]
    pub fn creation(lsn: Lsn) -> Self {
        Self { ordinal: 0, lsn, entry_index: 0 }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.ordinal, self.lsn, self.entry_index).cmp(&(other.ordinal, other.lsn, other.entry_index))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (entry {})", self.lsn, self.entry_index)
    }
}
