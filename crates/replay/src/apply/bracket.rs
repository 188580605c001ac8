//! What is open within a transaction: the start of a statement whose end comes later, rows still awaited.

use std::collections::{BTreeMap, BTreeSet};

use ptr_model::{Change, Gap};

/// Rows that arrive before their table are held up to this many bytes; a statement that made more stops
/// replay instead of filling the memory.
const HELD_BYTES: usize = 256 << 20;

#[derive(Debug, Default)]
pub(super) struct Bracket {
    /// Open CREATE TABLE AS and SELECT INTO.
    table_as: u32,
    /// Open CREATE and ALTER EXTENSION.
    extensions: u32,
    held: Vec<Change>,
    held_bytes: usize,
    /// Tables that were rewritten and whose rows have to come next.
    awaited: BTreeSet<String>,
    /// Tables whose rows are not in the log, unless they come before the transaction ends.
    missed: BTreeMap<String, Gap>,
}

pub(super) fn is_table_as(tag: &str) -> bool {
    matches!(tag, "CREATE TABLE AS" | "SELECT INTO")
}

pub(super) fn is_extension(tag: &str) -> bool {
    matches!(tag, "CREATE EXTENSION" | "ALTER EXTENSION")
}

impl Bracket {
    /// A statement begins whose end comes later.
    pub(super) fn open(&mut self, tag: &str) {
        if is_extension(tag) {
            self.extensions += 1;
        } else if is_table_as(tag) && self.extensions == 0 {
            self.table_as += 1;
        }
    }

    /// It ended.
    pub(super) fn close(&mut self, tag: &str) {
        if is_extension(tag) {
            self.extensions = self.extensions.saturating_sub(1);
        } else if is_table_as(tag) {
            self.table_as = self.table_as.saturating_sub(1);
        }
    }

    /// Whether what comes is done by an extension's script, which the statement itself will run.
    pub(super) fn skips(&self) -> bool {
        self.extensions > 0
    }

    pub(super) fn is_table_as(&self) -> bool {
        self.table_as > 0
    }

    /// Keeps a row whose table is about to be made.
    pub(super) fn hold(&mut self, change: Change) -> Result<(), String> {
        if let Change::Insert { new, .. } = &change {
            self.held_bytes += new.size() + 64;
        }
        if self.held_bytes > HELD_BYTES {
            return Err(format!(
                "a CREATE TABLE AS made more than {} MiB of rows, which this version cannot hold",
                HELD_BYTES >> 20
            ));
        }
        self.held.push(change);
        Ok(())
    }

    pub(super) fn take_held(&mut self) -> Vec<Change> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }

    pub(super) fn await_rows(&mut self, relation: String) {
        self.awaited.insert(relation);
    }

    pub(super) fn rows_arrived(&mut self, relation: &str) {
        self.awaited.remove(relation);
        self.missed.remove(relation);
    }

    /// The rows of this table are not in the log from here on.
    pub(super) fn miss_rows(&mut self, relation: String, gap: Gap) {
        self.missed.insert(relation, gap);
    }

    /// A table went away, and what was missing of it.
    pub(super) fn dropped(&mut self, relation: &str) {
        self.missed.remove(relation);
    }

    /// A table whose rows were not mended.
    pub(super) fn take_missed(&mut self) -> Option<Gap> {
        std::mem::take(&mut self.missed).into_values().next()
    }

    pub(super) fn no_rows_awaited(&self) -> Result<(), String> {
        self.awaited.first().map_or(Ok(()), |relation| {
            Err(format!(
                "table {relation} was rewritten, and the log does not hold the rows that it had afterwards; \
                 computing them again could give others"
            ))
        })
    }

    /// Called where a transaction ends: everything must be closed.
    pub(super) fn closes(&mut self) -> Result<(), String> {
        if !self.held.is_empty() {
            return Err("rows were captured of a table whose CREATE TABLE AS was not".to_owned());
        }
        (self.table_as, self.extensions) = (0, 0);
        Ok(())
    }
}
