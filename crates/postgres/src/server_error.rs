//! What a server answered when it refused something: the fields of its `ErrorResponse`.
//!
//! [`ServerError`] is a value (clonable, comparable) so that errors of other modules can carry it.

use std::fmt;
use tokio_postgres::error::{DbError, SqlState};

/// An error as the server reported it. Prints message, detail and SQLSTATE on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The SQLSTATE: the only field to decide by.
    pub sqlstate: SqlState,
    /// The primary message, in the server's language.
    pub message: String,
    /// More about the case, if the server has more to say.
    pub detail: Option<String>,
    /// The server's own advice.
    pub hint: Option<String>,
    /// The call stack inside the server (`CONTEXT`).
    pub context: Option<String>,
}

impl ServerError {
    /// The server's part of a client error, or `None` when the error is not the server's
    /// (a lost connection, a value of the wrong type).
    pub fn of(error: &tokio_postgres::Error) -> Option<Self> {
        error.as_db_error().map(Self::from)
    }

    /// Whether trying again later may succeed; see [`crate::sqlstate::is_transient`].
    pub fn is_transient(&self) -> bool {
        crate::sqlstate::is_transient(&self.sqlstate)
    }
}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> Self {
        Self {
            sqlstate: error.code().clone(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            context: error.where_().map(str::to_owned),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        write!(f, " [SQLSTATE {}]", self.sqlstate.code())
    }
}

impl std::error::Error for ServerError {}
