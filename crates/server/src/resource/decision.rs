//! Where a replay stopped, and what was decided about it.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::position::PositionAnswer;

/// Where replay could not go on. The session is at `position` with all that the log says up to there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopAnswer {
    /// The position before the transaction that cannot be replayed.
    pub position: PositionAnswer,
    /// The entry; absent where it is none in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// What it does, such as `DDL` or `UPDATE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The table whose rows do not fit, as `schema.table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The statement, without passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// What the server answered, where it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// Why.
    pub reason: String,
    /// What can be done, the likeliest first.
    pub choices: Vec<ChoiceAnswer>,
}

/// Something that can be done about a stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChoiceAnswer {
    /// `again`, `rebuild`, `skip`, `resync`, `leave_out` or `stay`.
    pub choice: String,
    /// What it means, for people.
    pub does: String,
    /// The command that does it; absent where there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// `POST /api/decisions`: without anything, what the session stopped at is skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// The session, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Skip this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Leave this table out, as `schema.table`: from the stop on if it is about that table, else from where the
    /// session is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Take this table's rows, as `schema.table`, from the primary as they are now. Its changes are left out from the
    /// stop on (from where the session is, if the stop is not about it) until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync: Option<String>,
}

/// A decision: what a session leaves out, each time it passes there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionAnswer {
    /// Names it for ever.
    pub id: i64,
    /// The session.
    pub session_id: String,
    /// `skip`, `leave_out` or `resync`.
    pub kind: String,
    /// The position before the first transaction that it is about.
    pub from: PositionAnswer,
    /// A resynchronised table is the primary's again from this position on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<PositionAnswer>,
    /// The entry that is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// The table, as `schema.table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// What is left out, for people.
    pub what: String,
    /// Whether the session's database was made without it, so that the next move makes it anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuilds: bool,
    /// RFC 3339.
    pub decided_at: String,
}

/// `GET /api/decisions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DecisionQuery {
    /// The session, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}
