//! Sessions: replay databases with a position of their own.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    decision::{DecisionAnswer, StopAnswer},
    position::PositionAnswer,
};

/// `POST /api/sessions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// Its name, unique among sessions.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The captured database; the first one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The database to make on the output server; made from the name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_database: Option<String>,
    /// The position to start at; CREATION when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Consent to drop a target database that exists, is not empty and is not ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionAnswer {
    /// Names it for ever.
    pub id: String,
    /// Its name.
    pub name: String,
    /// For people; empty where none was given.
    pub description: String,
    /// The captured database.
    pub database: String,
    /// Its own database on the output server.
    pub target_database: String,
    /// Where it is, as its own database says; absent while that cannot be asked.
    pub position: Option<PositionAnswer>,
    /// How its database stands.
    pub state: SessionState,
    /// Whether it is kept at head.
    pub follow: bool,
    /// Whether local writes are allowed in its database.
    pub open: bool,
    /// Whether commands mean it where none is named.
    pub active: bool,
    /// Where replay stopped, until a move gets past it or a decision is made about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopAnswer>,
    /// What it leaves out, each time it passes there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<DecisionAnswer>,
    /// In what its database differs from the primary for it, where it is now, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<String>,
    /// What its last move, and what followed it, did otherwise than on the primary, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// RFC 3339.
    pub created_at: String,
}

/// How a session's database stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// At its position.
    Settled,
    /// Between two positions: a move is under way, or one was interrupted.
    Moving,
    /// Its database, or our cursor in it, is gone; a move makes it anew.
    Missing,
    /// The output server could not be asked.
    Unreachable,
}

/// `GET /api/sessions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionQuery {
    /// Only sessions of this captured database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// `POST /api/sessions/switch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchSession {
    /// Id or name.
    pub session_id: String,
}

/// `POST /api/sessions/{id}/open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenSession {
    /// Whether local writes are allowed; `true` when left out.
    #[serde(default = "yes")]
    pub open: bool,
}

fn yes() -> bool {
    true
}

/// `DELETE /api/sessions/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteSession {
    /// Leave its database on the output server, as its user's own: with what was written into it, open to writes, and
    /// without what made it a session's.
    #[serde(default)]
    pub keep_database: bool,
}

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// Always `deleted`.
    pub status: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}
