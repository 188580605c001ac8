//! Positions as they are shown.

use ptr_model::Position;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A point between two transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PositionAnswer {
    /// The end of the last transaction before it, such as `0/16B3748`.
    pub lsn: String,
    /// Entries of the log before it.
    pub entry_index: u64,
    /// Transactions of the log before it.
    pub transaction: u64,
}

impl From<Position> for PositionAnswer {
    fn from(position: Position) -> Self {
        Self {
            lsn: position.lsn.to_string(),
            entry_index: position.entry_index,
            transaction: position.ordinal,
        }
    }
}

/// `GET /api/position?at=...`: what an expression means now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PositionQuery {
    /// Any position expression: `head`, `@-3`, a checkpoint, an LSN, `entry:42`, `xid:812`, a time, `5m ago`.
    pub at: String,
    /// The session that `@` starts from, by id or name; else the active one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The captured database in whose log it is; that of the session when left out, and where a session is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}
