//! Checkpoints: names for positions.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// `POST /api/checkpoints`. Without `at`, `lsn` and `entry_index` it is now, exactly: every transaction whose
/// commit returned before the request is in, none that starts after the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCheckpoint {
    /// Its name, unique in its database's log; not one that reads like another form of a position.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A position expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// An LSN in the log; with `entry_index`, both must name the same position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<String>,
    /// An entry in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_index: Option<u64>,
    /// Keep hashes of the primary's contents and schema as they are there, for `POST /api/verify` with `at`; only
    /// of now. Where others write meanwhile the position is the one that the hashes are of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hash: bool,
    /// The session that it is listed with, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The captured database; that of the session, else of the active one, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointAnswer {
    /// Names it for ever, whatever it is renamed to.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether people made it.
    pub kind: CheckpointKind,
    /// For people; empty where none was given.
    pub description: String,
    /// The captured database.
    pub database: String,
    /// Its position: the end of the last transaction before it.
    pub lsn: String,
    /// Its position: entries of the log before it.
    pub entry_index: u64,
    /// Its position: transactions of the log before it.
    pub transaction: u64,
    /// The session that it is listed with.
    pub session_id: Option<String>,
    /// Whether its position was set by hand and stays; only MIGRATION is ever not.
    pub pinned: bool,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Of what hashes are kept; absent where it was made without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<CheckpointHash>,
}

/// What is kept of the primary at a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointHash {
    /// Tables with a hash of their contents each.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// One hash over the whole schema.
    pub catalog_fingerprint: String,
}

/// Whether people made a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointKind {
    /// Where the history begins: where capture did, until gc removes its oldest part. Cannot be deleted.
    Creation,
    /// The end of the first schema migration; cannot be deleted.
    Migration,
    /// Made by people.
    Manual,
}

/// `GET /api/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CheckpointQuery {
    /// Only those listed with this session, and the fixed two; id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Only those of this captured database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// `PATCH /api/checkpoints/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameCheckpoint {
    /// The new name.
    pub name: String,
}

/// `POST /api/checkpoints/migration/pin`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinMigration {
    /// The position; where MIGRATION is now when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The captured database; that of the active session when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}
