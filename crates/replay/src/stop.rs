//! Where a replay could not go on, why, and what can be done about it. Pure.

use std::fmt;

use ptr_log::TableName;
use ptr_model::{Change, Position, redacted};
use serde::{Deserialize, Serialize};

use crate::error::{Mismatch, ReplayError};

/// Where and why replay cannot go on. The session is at `position`, with all that the log says up to there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stop {
    /// The position before the transaction that cannot be replayed.
    pub position: Position,
    /// Which of the transaction's changes, from 0; `None` where it is none of them in particular.
    pub change: Option<u64>,
    /// Its entry, if it is one.
    pub entry: Option<u64>,
    /// What it does: `INSERT`, `DDL`.
    pub operation: Option<String>,
    /// The table whose rows do not fit, or are not in the log.
    pub table: Option<TableName>,
    /// The statement, where it is one, without passwords.
    pub statement: Option<String>,
    /// What the server answered, where it refused.
    pub sqlstate: Option<String>,
    /// Why.
    pub reason: String,
    /// Whether log and replica do not agree, rather than that the log holds what cannot be replayed.
    pub mismatch: bool,
}

/// What can be done about a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Try again: what went wrong goes by.
    Again,
    /// Build the session's database anew from a keyframe.
    Rebuild,
    /// Leave this one change out.
    Skip,
    /// Take the table's rows from the primary.
    Resync,
    /// Leave the table out from here on.
    LeaveOut,
    /// Stay.
    Stay,
}

/// A statement is shown up to this many characters; the whole is in [`Stop::statement`].
const SHOWN: usize = 200;

/// Beginnings of SQLSTATEs that say nothing about what was to be done: connection, transaction rollback,
/// resources, locks, the operator's intervention, the system.
const PASSING: [&str; 7] = ["08", "40", "53", "55006", "55P03", "57", "58"];

/// The library of an extension is not installed: class 58 otherwise means the system.
const UNDEFINED_FILE: &str = "58P01";

impl Stop {
    pub(crate) fn new(position: Position, reason: impl Into<String>) -> Self {
        Self {
            position,
            change: None,
            entry: None,
            operation: None,
            table: None,
            statement: None,
            sqlstate: None,
            reason: reason.into(),
            mismatch: false,
        }
    }

    pub(crate) fn at_statement(mut self, statement: &str) -> Self {
        self.statement = Some(redacted(statement));
        self
    }

    /// About rows of a table, by its name as SQL writes it.
    pub(crate) fn about_rows_of(mut self, written: &str) -> Self {
        self.table = written.parse().ok();
        self
    }

    pub(crate) fn about(self, table: &TableName) -> Self {
        Self { table: Some(table.clone()), ..self }
    }

    /// What can be done, the likeliest first.
    #[must_use]
    pub fn choices(&self) -> Vec<Choice> {
        if self.sqlstate.as_deref().is_some_and(passes) {
            return vec![Choice::Again, Choice::Stay];
        }
        let mut choices = Vec::new();
        choices.extend(self.mismatch.then_some(Choice::Rebuild));
        choices.extend(self.change.map(|_| Choice::Skip));
        if self.table.is_some() {
            choices.extend([Choice::Resync, Choice::LeaveOut]);
        }
        choices.push(Choice::Stay);
        choices
    }

    /// What it stops before, for people.
    #[must_use]
    pub fn before(&self) -> String {
        let entry = self.entry.map_or_else(String::new, |entry| format!(" (entry {entry})"));
        match (&self.statement, &self.operation, &self.table) {
            (Some(statement), ..) => format!("\"{}\"{entry}", shortened(statement)),
            (None, Some(operation), Some(table)) => format!("{operation} of {table}{entry}"),
            (None, Some(operation), None) => format!("{operation}{entry}"),
            (None, None, Some(table)) => format!("changes of {table}"),
            (None, None, None) => "the next transaction".to_owned(),
        }
    }

    fn state(&self) -> String {
        self.sqlstate.as_deref().map_or_else(String::new, |state| format!(" [SQLSTATE {state}]"))
    }
}

/// Whether an error of that SQLSTATE may go by itself.
#[must_use]
pub fn passes(state: &str) -> bool {
    state != UNDEFINED_FILE && PASSING.iter().any(|class| state.starts_with(class))
}

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (position, reason) = (self.position, &self.reason);
        write!(f, "replay stops at {position}, before {}: {reason}{}", self.before(), self.state())
    }
}

impl std::error::Error for Stop {}

impl From<Stop> for ReplayError {
    fn from(stop: Stop) -> Self {
        Self::Stopped(Box::new(stop))
    }
}

/// A change for people: the statement, or operation and table, with its entry.
#[must_use]
pub fn describe(change: &Change, number: u64, entry: u64) -> String {
    Place::of(change, number, entry).named()
}

/// A change that was being applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Which of its transaction's changes, from 0.
    pub(crate) change: u64,
    /// Its entry, if it is one.
    pub(crate) entry: Option<u64>,
    operation: Option<String>,
    table: Option<TableName>,
    pub(crate) statement: Option<String>,
}

impl Place {
    pub(crate) fn of(change: &Change, number: u64, entry: u64) -> Self {
        let operation = change.operation();
        let statement = match change {
            Change::Schema(change) => Some(change.statement.shown()),
            Change::Gap(gap) => gap.statement.as_deref().map(redacted),
            _ => None,
        };
        let relation = change.relations().first();
        let table = match change {
            Change::Rows(rows) => rows.relation.parse().ok(),
            _ => relation.map(|relation| TableName::new(&relation.schema, &relation.name)),
        };
        Self {
            change: number,
            entry: operation.map(|_| entry),
            operation: operation.map(|operation| operation.name().to_owned()),
            table,
            statement,
        }
    }

    /// What it is, for people.
    pub(crate) fn named(&self) -> String {
        let stop = Stop {
            entry: self.entry,
            operation: self.operation.clone(),
            table: self.table.clone(),
            statement: self.statement.clone(),
            ..Stop::new(Position::creation(ptr_model::Lsn(0)), "")
        };
        stop.before()
    }
}

/// What a failure at a place means: a stop, where it was the change that could not be applied.
pub(crate) fn located(error: ReplayError, place: Option<Place>, at: Position) -> ReplayError {
    let mut stop = match error {
        // Rows that are missing were noticed at the change after them, which is innocent.
        ReplayError::Stopped(stop) if stop.table.is_some() => return ReplayError::Stopped(stop),
        ReplayError::Stopped(stop) => *stop,
        ReplayError::Mismatch(mismatch) => match *mismatch {
            Mismatch::Cursor { .. } => return ReplayError::Mismatch(mismatch),
            Mismatch::Refused { ref sqlstate, .. } => {
                let sqlstate = Some(sqlstate.clone());
                Stop { sqlstate, mismatch: true, ..Stop::new(at, mismatch.to_string()) }
            }
            _ => Stop { mismatch: true, ..Stop::new(at, mismatch.to_string()) },
        },
        ReplayError::Database(error) => match error.sqlstate().filter(|state| !passes(state)) {
            Some(state) => Stop { sqlstate: Some(state.to_owned()), ..Stop::new(at, error.to_string()) },
            None => return ReplayError::Database(error),
        },
        other => return other,
    };
    if let Some(place) = place {
        stop.change = Some(place.change);
        stop.entry = place.entry;
        stop.operation = place.operation;
        stop.table = place.table;
        stop.statement = stop.statement.or(place.statement);
    }
    stop.into()
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    #[test]
    fn a_stop_says_where_why_and_what_can_be_done_without_passwords() {
        let at = Position { ordinal: 2, lsn: Lsn(0x1_0000_0000), entry_index: 12 };
        let statement = "CREATE USER MAPPING FOR u SERVER s OPTIONS (password 'hush')";
        let mut stop = Stop::new(at, "server \"s\" does not exist").at_statement(statement);
        stop.sqlstate = Some("42704".into());
        (stop.change, stop.entry) = (Some(0), Some(12));
        assert_eq!(
            stop.to_string(),
            "replay stops at 1/0 (entry 12), before \"CREATE USER MAPPING FOR u SERVER s OPTIONS (password \
             '***')\" (entry 12): server \"s\" does not exist [SQLSTATE 42704]"
        );
        assert_eq!(stop.choices(), [Choice::Skip, Choice::Stay]);
        stop.sqlstate = Some("57P01".into());
        assert_eq!(stop.choices(), [Choice::Again, Choice::Stay]);
        stop.sqlstate = Some("58P01".into());
        assert_eq!(stop.choices(), [Choice::Skip, Choice::Stay]);
    }
}
