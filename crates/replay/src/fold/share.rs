//! Rows divided into shares by what tells them apart, so that a fold that is too large is made in several passes.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

/// One of several shares of the rows of all tables: every row is in exactly one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    part: u64,
    of: u64,
}

impl Default for Share {
    /// All rows.
    fn default() -> Self {
        Self { part: 0, of: 1 }
    }
}

impl Share {
    /// All shares of that number; one, if it is zero.
    pub fn all(number: u64) -> impl Iterator<Item = Self> {
        let of = number.max(1);
        (0..of).map(move |part| Self { part, of })
    }

    /// Whether a row that is told apart by this is in the share.
    pub(super) fn has(self, row: &impl Hash) -> bool {
        self.of == 1 || FixedState::default().hash_one(row) % self.of == self.part
    }
}
