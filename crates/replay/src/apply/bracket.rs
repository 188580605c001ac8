//! What is open within a transaction: the start of a statement whose end comes later, rows still awaited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ptr_model::{Change, Gap, SchemaChange};
use ptr_postgres::QualifiedName;

use super::captured_table;

#[derive(Debug, Default)]
pub(super) struct Bracket {
    /// Open CREATE TABLE AS and SELECT INTO.
    table_as: u32,
    /// Open CREATE and ALTER EXTENSION.
    extensions: u32,
    /// Ends of CREATE TABLE AS that the transaction still holds, in order; `None` where not looked for yet, an
    /// element `None` where it was run ahead, or is left out.
    ends: Option<VecDeque<Option<SchemaChange>>>,
    /// Tables that were rewritten and views that were filled, whose rows have to come next.
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

    /// Whether the rest of the transaction has to be looked at before this: rows of a CREATE TABLE AS come before
    /// its end, which says what table they are in.
    pub(super) fn needs_ends(&self, change: &Change) -> bool {
        let Change::Schema(change) = change else { return false };
        self.ends.is_none() && change.event == "ddl_command_start" && is_table_as(&change.tag)
    }

    pub(super) fn foresee(&mut self, ends: Vec<Option<SchemaChange>>) {
        self.ends = Some(ends.into());
    }

    /// The end of the open CREATE TABLE AS that makes `table`, to be run now.
    pub(super) fn take_ahead(&mut self, table: &QualifiedName) -> Option<SchemaChange> {
        let ends = self.ends.as_mut().filter(|_| self.table_as > 0)?;
        let makes = |end: &SchemaChange| captured_table::captured(end).iter().any(|made| made.is(table));
        ends.iter_mut().find(|end| end.as_ref().is_some_and(makes))?.take()
    }

    /// Whether the CREATE TABLE AS that ends here was run ahead.
    pub(super) fn was_made_ahead(&mut self) -> bool {
        self.ends.as_mut().and_then(VecDeque::pop_front).is_some_and(|end| end.is_none())
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
        self.awaited.remove(&relation);
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

    /// A table whose rows have to come next.
    pub(super) fn awaited(&self) -> Option<&str> {
        self.awaited.first().map(String::as_str)
    }

    pub(super) fn await_none_of(&mut self, is_left_out: impl Fn(&str) -> bool) {
        self.awaited.retain(|relation| !is_left_out(relation));
        self.missed.retain(|relation, _| !is_left_out(relation));
    }

    /// The transaction ends.
    pub(super) fn close_all(&mut self) {
        (self.table_as, self.extensions) = (0, 0);
        self.ends = None;
    }
}
