//! Keyframes: whole images of a captured database on the output server.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::position::PositionAnswer;

/// A keyframe, or a spare of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyframeAnswer {
    /// Its database on the output server.
    pub name: String,
    /// Where it is.
    pub position: PositionAnswer,
    /// Its bytes on disk, as it was made.
    pub bytes: u64,
    /// `creation`, `schema_change`, `distance` or `manual`; of a spare, its keyframe's.
    pub reason: String,
}

/// `GET /api/keyframes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyframeList {
    /// The captured database.
    pub database: String,
    /// Bytes that all but CREATION's may have together (`KEYFRAME_BUDGET`).
    pub budget_bytes: u64,
    /// Bytes that they have.
    pub used_bytes: u64,
    /// The keyframes, in log order.
    pub keyframes: Vec<KeyframeAnswer>,
    /// Copies of keyframes that wait to become a session's database.
    pub spares: Vec<KeyframeAnswer>,
    /// What is being made or removed at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    /// Why something could not be made; it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `GET /api/keyframes` and `DELETE /api/keyframes/{name}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeyframeQuery {
    /// The captured database; that of the active session when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// `POST /api/keyframes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyframe {
    /// Where; head when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The captured database; that of the active session when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}
