//! Moves of sessions.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{entry::EntryAnswer, position::PositionAnswer};

/// `POST /api/navigate`: with `checkpoint_id` or `position`, a move; with `start_id` and `end_id`, only a look
/// at the entries between.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Navigate {
    /// A UUID of the client's own, by which the move can be ended from before it begins until it is over, while it waits
    /// for another one too: `DELETE /api/moves/{id}`. Left out, it can be ended once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A checkpoint's id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<String>,
    /// Any position expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The session to move, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Only plan.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Build the session's database anew from a keyframe, whatever it holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuild: bool,
    /// Keep the session at head until its next move; only with `position: "head"`, or without a position.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Answer at once with the move under way (status 202), to be asked at `/api/moves/{id}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// A look: where it begins, a checkpoint's id or name or any position expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_id: Option<String>,
    /// A look: where it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_id: Option<String>,
    /// Entries on the page of the answer, 1 to 1000; 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// A look: `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// `POST /api/replay`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// A UUID of the client's own to end the move by, as that of `/api/navigate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The session, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// A checkpoint's id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<String>,
    /// Any position expression, in place of a checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
}

/// `POST /api/undo` and `POST /api/redo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A UUID of the client's own to end the move by, as that of `/api/navigate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The session, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Only plan.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a move did, or, with `dry_run`, would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Navigated {
    /// `success`; `planned` with `dry_run`.
    pub status: String,
    /// The session.
    pub session_id: String,
    /// Where it was; absent where its database said nothing.
    pub from: Option<PositionAnswer>,
    /// Where it is.
    pub to: PositionAnswer,
    /// `nothing`, `redo`, `undo` or `keyframe`.
    pub strategy: String,
    /// Why this strategy, for people.
    pub reason: String,
    /// Transactions between the two positions.
    pub transactions: u64,
    /// Entries that were applied to get there.
    pub entries_applied: u64,
    /// Entries between the two positions.
    pub count: u64,
    /// The first of them.
    pub entries: Vec<EntryAnswer>,
    /// What `cursor` of `{start_id, end_id}` fetches the next page; absent on the last.
    pub next_cursor: Option<String>,
    /// How long it took, in milliseconds; with `dry_run` an estimate.
    pub elapsed_ms: u64,
    /// How long it was expected to take, in milliseconds, from what the index says and what moves took before.
    #[serde(default)]
    pub estimate_ms: f64,
    /// The other ways, the cheapest first, then those that cannot be gone. After a move, those that were looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<AlternativeAnswer>,
    /// Connections of others to the session's database that had to be ended.
    #[serde(default)]
    pub connections_ended: u64,
    /// With `dry_run`: whose connections the move would end now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections_to_end: Vec<String>,
    /// What was done otherwise than on the primary, for people: statements not run, roles made.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Names the move for `/api/moves/{id}`; absent with `dry_run`.
    pub move_id: Option<String>,
}

/// A way that was not chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlternativeAnswer {
    /// `redo`, `undo` or `keyframe`.
    pub strategy: String,
    /// The way, for people.
    pub way: String,
    /// How long it would take, in milliseconds; absent where it cannot be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_ms: Option<f64>,
    /// Why it cannot be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<String>,
}

/// The entries between two positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Between {
    /// The earlier position.
    pub from: PositionAnswer,
    /// The later position.
    pub to: PositionAnswer,
    /// Transactions between.
    pub transactions: u64,
    /// Entries between.
    pub count: u64,
    /// The entries of this page, oldest first.
    pub entries: Vec<EntryAnswer>,
    /// What `cursor` fetches the next page; absent on the last.
    pub next_cursor: Option<String>,
}

/// A move, under way or over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MoveAnswer {
    /// Names it for ever.
    pub id: String,
    /// The session.
    pub session_id: String,
    /// Where it was.
    pub from: Option<PositionAnswer>,
    /// Where it goes or went.
    pub to: PositionAnswer,
    /// `nothing`, `redo`, `undo` or `keyframe`.
    pub strategy: String,
    /// How it stands.
    pub state: MoveState,
    /// What is being done, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it did not get there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339; absent while it runs.
    pub finished_at: Option<String>,
}

/// How a move or job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MoveState {
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Over, without its goal.
    Failed,
    /// Ended by request.
    Cancelled,
}

/// How far something is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What is being done, for people.
    pub step: String,
    /// Units done.
    pub done: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
    /// What a unit is: `entries`, `bytes`, `tables`.
    pub unit: String,
}

/// `GET /api/moves`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MoveQuery {
    /// The session, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}
