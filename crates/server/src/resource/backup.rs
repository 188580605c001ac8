//! Backups made by `pg_dump`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::position::PositionAnswer;

/// `POST /api/backups`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBackup {
    /// Its name; made from the database and the time when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A captured database of the primary; the first one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// A session's database instead, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// pg_dump's format; `custom` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<BackupFormat>,
    /// Answer at once (status 202), to be asked at `/api/backups/{id}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

/// pg_dump's format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupFormat {
    /// One compressed file (`-Fc`).
    #[default]
    Custom,
    /// A folder, dumped by several connections (`-Fd`).
    Directory,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupAnswer {
    /// Names it; also its file's name.
    pub id: String,
    /// The same for people.
    pub name: String,
    /// The database that was dumped.
    pub database: String,
    /// The session that it is of; absent where it is of the primary.
    pub session_id: Option<String>,
    /// pg_dump's format.
    pub format: BackupFormat,
    /// Where the dump is.
    pub path: String,
    /// Its size on disk.
    pub bytes: u64,
    /// The version of the server that was dumped.
    pub server_version: String,
    /// The log's position that the dump shows, and how sure that is.
    pub position: Option<BackupPosition>,
    /// How it stands.
    pub state: BackupState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was begun, RFC 3339.
    pub created_at: String,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// The log's position that a dump shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupPosition {
    /// The position; where it is not exact, the earliest that it can be, or the one that a session was written into from.
    pub at: PositionAnswer,
    /// Whether the dump shows exactly this position: nothing was committed on the primary while its snapshot was taken; a
    /// session was there, and not open for local writes.
    pub exact: bool,
}

/// How a backup stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// Being made.
    Running,
    /// Whole.
    Complete,
    /// Not whole, and of no use but for its error.
    Failed,
}

/// `POST /api/backups/{id}/restore`: into a session's database or into a database of the output server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreBackup {
    /// A session, by id or name; its database is replaced, and it is opened for local writes, because what it
    /// then holds is no position of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// A database on the output server; made if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Consent to replace a database that is not empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    /// Always `restored`.
    pub status: String,
    /// The backup.
    pub backup_id: String,
    /// The database that it is in now, on the output server.
    pub database: String,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// What a backup's verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupVerified {
    /// The backup.
    pub backup_id: String,
    /// Whether it restores whole, and every table holds as many rows as when it was dumped.
    pub sound: bool,
    /// Tables that were restored and counted.
    pub tables: u64,
    /// Rows that were restored and counted.
    pub rows: u64,
    /// What is wrong.
    pub findings: Vec<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}
