//! Sequences: what logical replication does not carry.

use serde::{Deserialize, Serialize};

/// What a sequence holds. Sampled at checkpoints, because the stream says nothing of sequences.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SequenceState {
    /// Its schema, unquoted.
    pub schema: String,
    /// Its name, unquoted.
    pub name: String,
    /// `last_value`: the value handed out last, or the one to be handed out first.
    pub last_value: i64,
    /// `is_called`: whether `last_value` has been handed out.
    pub is_called: bool,
}
