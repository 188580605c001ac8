//! The log in buckets, for a timeline.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{position::PositionAnswer, transaction::Counts};

/// `GET /api/histogram`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistogramQuery {
    /// How many buckets, 1 to 1000; 100 when left out. There may be fewer, or one more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<usize>,
    /// `transaction` (the usual), buckets of about as many transactions each, or `time`, buckets of one length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Only after this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only before this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The captured database; that of the active session when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// The log, or a part of it, in buckets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistogramAnswer {
    /// `transaction` or `time`.
    pub by: String,
    /// Where the first bucket begins.
    pub since: PositionAnswer,
    /// Where the last bucket ends.
    pub until: PositionAnswer,
    /// When the last transaction of the range committed, RFC 3339; absent where there is none.
    pub until_time: Option<String>,
    /// The buckets in log order, one beginning where the one before ends; none where the range is empty.
    pub buckets: Vec<BucketAnswer>,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketAnswer {
    /// The position that it begins at.
    pub since: PositionAnswer,
    /// When it begins, RFC 3339; by transaction, when the first of them committed.
    pub time: String,
    /// Its transactions.
    pub transactions: u64,
    /// Its entries by kind.
    pub counts: Counts,
}
