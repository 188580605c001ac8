//! Statements that make tables before their event says so: CREATE TABLE AS, whose rows come before its end. Pure.
//!
//! Not those of extensions: one that finds nothing to do begins and has no end. What a script made belongs to its
//! extension, which the primary says when it is asked.

use ptr_model::Change;

/// Those that are open in a transaction.
#[derive(Debug, Default)]
pub(super) struct Brackets {
    open: u32,
}

impl Brackets {
    pub(super) fn see(&mut self, change: &Change) {
        let Change::Schema(change) = change else { return };
        let makes_tables = ["CREATE TABLE AS", "SELECT INTO"].contains(&change.tag.as_str());
        match change.event.as_str() {
            "ddl_command_start" if makes_tables => self.open += 1,
            "ddl_command_end" if makes_tables => self.open = self.open.saturating_sub(1),
            _ => {}
        }
    }

    pub(super) fn are_open(&self) -> bool {
        self.open > 0
    }
}
