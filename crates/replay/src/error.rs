//! What can go wrong on the way from log to replica.

use ptr_log::LogError;
use ptr_model::Position;
use ptr_postgres::{ConnectError, QualifiedName};
use tokio_postgres::error::SqlState;

use crate::{
    cursor::CursorError,
    database::{DatabaseError, may_answer_later},
    fold::{FoldError, NotReversible},
    sql::SqlError,
    stop::{Stop, passes},
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

/// How log and replica disagree.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mismatch {
    /// A statement affected another number of rows than the log says.
    #[error(
        "{action} on table {table} changed {found} rows where the log has {expected}: the session's database was \
         changed by somebody else, or what the rows need was left out"
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
        "{action} on table {table} failed: {message}; the session's database was changed by somebody else, or \
         its schema differs from the primary's"
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
        /// The constraint or index that refused them, where one did.
        constraint: Option<String>,
        /// Where the session is.
        position: Position,
    },
    /// The changes contradict each other.
    #[error("the log contradicts itself: {error}")]
    Fold {
        /// What the fold says.
        error: FoldError,
        /// Where the session is.
        position: Position,
    },
    /// The changes do not fit the table.
    #[error("{error}")]
    Table {
        /// What building SQL says.
        error: SqlError,
        /// Where the session is.
        position: Position,
    },
    /// The replica has no such table.
    #[error("the replica has no table {table}, but the log has changes of it")]
    NoTable {
        /// The table.
        table: QualifiedName,
        /// Where the session is.
        position: Position,
    },
    /// An undo met changes without old rows.
    #[error(transparent)]
    NotReversible(#[from] NotReversible),
    /// A way within the session's database would lock more tables than the server has room for, and a new database can
    /// be taken over them in parts.
    #[error(
        "the changes are of more tables than the output server has locks for in one transaction, which only a new \
         database can take in parts; with a higher max_locks_per_transaction there the session's own can"
    )]
    ManyTables,
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

    /// Whether a new database can go where the session's own cannot.
    pub(crate) fn wants_new_database(&self) -> bool {
        matches!(self, Self::Mismatch(mismatch) if matches!(**mismatch, Mismatch::ManyTables))
    }

    /// Whether the server has no more locks to give, which are of its shared memory.
    pub(crate) fn is_out_of_locks(&self) -> bool {
        matches!(self, Self::Database(error) if error.sqlstate() == Some(SqlState::OUT_OF_MEMORY.code()))
    }

    /// Whether trying again later, with nothing changed by the user, may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => may_answer_later(error),
            Self::Database(error) => error.is_transient(),
            Self::Log(error) => error.is_transient(),
            Self::Cancelled { .. } => true,
            Self::Stopped(_) | Self::Mismatch(_) | Self::Cursor(_) => self.sqlstate().is_some_and(passes),
        }
    }
}
