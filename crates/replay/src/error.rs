//! What can go wrong on the way from log to replica.

use ptr_log::LogError;
use ptr_model::Position;
use ptr_postgres::{ConnectError, QualifiedName};

use crate::{
    cursor::CursorError,
    database::DatabaseError,
    fold::{FoldError, NotReversible},
    sql::SqlError,
};

/// Why a replica could not be taken to a position. Wherever this is returned, the session's database is at
/// the position that its cursor says.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log holds something that cannot be reproduced.
    #[error(transparent)]
    Stopped(Box<Stop>),
    /// Log and replica do not agree: somebody else wrote to the replica, or the log is not its history.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// A connection to the output server failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed on the output server.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The position in a session's database cannot be used.
    #[error("{0}")]
    Cursor(String),
    /// The caller asked to stop; everything up to this position is applied.
    #[error("interrupted at {at}; navigate again to go on from there")]
    Cancelled {
        /// Where the session is.
        at: Position,
    },
}

/// Where and why replay cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "replay stops at {position}, before {}: {reason}{}",
    .statement.as_deref().map_or_else(|| "the next transaction".to_owned(), |text| format!("\"{}\"", shortened(text))),
    .sqlstate.as_deref().map(|state| format!(" [SQLSTATE {state}]")).unwrap_or_default()
)]
pub struct Stop {
    /// The position before the transaction that cannot be replayed: where the session is.
    pub position: Position,
    /// The statement, where it is one.
    pub statement: Option<String>,
    /// What the server answered, where it refused.
    pub sqlstate: Option<String>,
    /// Why.
    pub reason: String,
    /// What can be done.
    pub choices: Vec<String>,
}

/// A statement is shown up to this many characters; the whole is in [`Stop::statement`].
const SHOWN: usize = 200;

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

impl Stop {
    pub(crate) fn new(position: Position, reason: impl Into<String>) -> Self {
        Self {
            position,
            statement: None,
            sqlstate: None,
            reason: reason.into(),
            choices: vec![
                format!("stay at {position}, the last position that can be reached"),
                "run `teardown`, then `up`: a new base image begins another history, and this one stays readable"
                    .to_owned(),
            ],
        }
    }

    pub(crate) fn at_statement(mut self, statement: &str) -> Self {
        self.statement = Some(statement.to_owned());
        self
    }
}

impl From<Stop> for ReplayError {
    fn from(stop: Stop) -> Self {
        Self::Stopped(Box::new(stop))
    }
}

/// How log and replica disagree.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mismatch {
    /// A statement affected another number of rows than the log says.
    #[error(
        "{action} on table {table} changed {found} rows where the log has {expected}, on the way from {position}: \
         the session's database was changed by somebody else; delete the session and create it again, \
         or navigate by keyframe"
    )]
    Rows {
        /// The table.
        table: QualifiedName,
        /// DELETE, UPDATE or INSERT.
        action: &'static str,
        /// What the log says.
        expected: u64,
        /// What the server did.
        found: u64,
        /// Where the session is.
        position: Position,
    },
    /// The server refused a row that the primary held.
    #[error(
        "{action} on table {table} failed on the way from {position}: {message} [SQLSTATE {sqlstate}]; the \
         session's database was changed by somebody else, or its schema differs from the primary's"
    )]
    Refused {
        /// The table.
        table: QualifiedName,
        /// DELETE, UPDATE or INSERT.
        action: &'static str,
        /// The server's message.
        message: String,
        /// Its SQLSTATE.
        sqlstate: String,
        /// Where the session is.
        position: Position,
    },
    /// The changes contradict each other.
    #[error("the log contradicts itself after {position}: {error}")]
    Fold {
        /// What the fold says.
        error: FoldError,
        /// Where the session is.
        position: Position,
    },
    /// The changes do not fit the table.
    #[error("{error}, on the way from {position}")]
    Table {
        /// What building SQL says.
        error: SqlError,
        /// Where the session is.
        position: Position,
    },
    /// The replica has no such table.
    #[error("the replica has no table {table}, but the log has changes of it after {position}")]
    NoTable {
        /// The table.
        table: QualifiedName,
        /// Where the session is.
        position: Position,
    },
    /// An undo met changes without old rows.
    #[error(transparent)]
    NotReversible(#[from] NotReversible),
    /// A database that is at another position than the caller believed, or of another log.
    #[error("database {database} {problem}")]
    Cursor {
        /// The database.
        database: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl From<Mismatch> for ReplayError {
    fn from(mismatch: Mismatch) -> Self {
        Self::Mismatch(Box::new(mismatch))
    }
}

impl From<CursorError> for ReplayError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Database(error) => Self::Database(error),
            damaged @ CursorError::Damaged { .. } => Self::Cursor(damaged.to_string()),
        }
    }
}

impl ReplayError {
    /// What the server answered, where it was the server that refused.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Stopped(stop) => stop.sqlstate.as_deref(),
            Self::Mismatch(mismatch) => match mismatch.as_ref() {
                Mismatch::Refused { sqlstate, .. } => Some(sqlstate),
                _ => None,
            },
            Self::Database(error) => error.sqlstate(),
            Self::Connect(_) | Self::Log(_) | Self::Cursor(_) | Self::Cancelled { .. } => None,
        }
    }
}
