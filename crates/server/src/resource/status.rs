//! How everything stands: health, status, DSNs, findings, teardown.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    keyframe::KeyframeList, position::PositionAnswer, retention::RetentionStatus, session::SessionAnswer,
    transaction::Counts,
};

/// `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`: the API answers. What it depends on is in `/api/status`.
    pub status: String,
    /// Our version.
    pub version: String,
}

/// `GET /ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Whether everything works.
    pub ready: bool,
    /// What does not; `GET /api/status` says why.
    pub problems: Vec<String>,
}

/// `GET /api/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Our version.
    pub version: String,
    /// `up`, `listener`, `ipc` or `offline`.
    pub role: String,
    /// Where the API listens; absent where no service runs.
    pub address: Option<String>,
    /// What a browser opens, `http` or `https`; absent where no service runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The data directory.
    pub data_directory: String,
    /// The captured server.
    pub input: ServerStatus,
    /// The server that replays.
    pub output: ServerStatus,
    /// Each captured database.
    pub databases: Vec<DatabaseStatus>,
    /// Histories from before a set-up, by the names under which they can be read like captured databases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
    /// The active session.
    pub session: Option<SessionAnswer>,
    /// What the service lets go by itself; absent where it is told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// What the user should know, such as capture without DDL.
    pub warnings: Vec<String>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Its DSN without the password.
    pub dsn: String,
    /// Whether it is one of ours under the data directory.
    pub embedded: bool,
    /// Whether it answers.
    pub connected: bool,
    /// Its version, where it answers.
    pub version: Option<String>,
    /// Why it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One captured database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseStatus {
    /// Its name.
    pub database: String,
    /// Whether there is a log.
    pub captured: bool,
    /// Where the log begins: CREATION.
    pub creation: Option<PositionAnswer>,
    /// Where the log ends.
    pub head: Option<PositionAnswer>,
    /// What becomes of schema changes where they are not captured; absent where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_changes: Option<String>,
    /// What the listener does.
    pub listener: ListenerStatus,
    /// What the slot says.
    pub slot: Option<SlotStatus>,
    /// What the log holds.
    pub log: Option<LogStatus>,
    /// Its keyframes and spares on the output server, where that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyframes: Option<KeyframeList>,
    /// Why the log cannot be read, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_error: Option<String>,
}

/// What a listener does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListenerStatus {
    /// `absent`, `starting`, `catching_up`, `streaming`, `reconnecting`, `stopped` or `failed`.
    pub state: String,
    /// The process that it runs in.
    pub pid: Option<u32>,
    /// Its last error, and everything else that it reports.
    #[serde(default)]
    pub details: serde_json::Value,
}

/// What a slot says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotStatus {
    /// Its name.
    pub name: String,
    /// Whether somebody streams from it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL that were written and are not confirmed.
    pub lag_bytes: Option<u64>,
    /// How long the oldest of those bytes has waited, in milliseconds: as PostgreSQL measures it between writing WAL and
    /// hearing that it is durable here (`flush_lag`), or, while nobody streams, since when nobody does (PostgreSQL 17 on).
    /// Absent where the server has not measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// Bytes of WAL that it keeps on the primary.
    pub retained_bytes: Option<u64>,
    /// Why it cannot be told, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogStatus {
    /// Transactions.
    pub transactions: u64,
    /// Entries.
    pub entries: u64,
    /// Entries by kind.
    pub counts: Counts,
    /// Tables with entries, and their entries.
    pub tables: Vec<TableStatus>,
    /// Segments.
    pub segments: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// When the newest transaction committed, RFC 3339.
    pub newest: Option<String>,
    /// What committed lately.
    pub recent: RecentStatus,
}

/// What committed in the time up to now, by this machine's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecentStatus {
    /// How long that time is, in seconds.
    pub seconds: u64,
    /// Transactions.
    pub transactions: u64,
    /// Their entries.
    pub entries: u64,
}

/// One table's share of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableStatus {
    /// `schema.table`.
    pub table: String,
    /// Its entries by kind.
    pub counts: Counts,
}

/// `GET /api/dsn/{which}`: `input`, `output` or `session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DsnAnswer {
    /// Without the password.
    pub dsn: String,
    /// With it; only for a request that carries the running service's own token, which only the user who
    /// started it can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// `GET /api/dsn/{which}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DsnQuery {
    /// The session, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The captured database; the first one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// `GET /api/doctor` and `POST /api/doctor/fix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Doctor {
    /// Whether there is no error among the findings.
    pub healthy: bool,
    /// The findings, errors first.
    pub findings: Vec<FindingAnswer>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingAnswer {
    /// Names the kind of finding.
    pub code: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// What is wrong.
    pub title: String,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub fix: String,
    /// Whether `doctor --fix` does it.
    pub fixable: bool,
}

/// `POST /api/doctor/fix`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mend {
    /// Whether a slot of our name that is not of this data directory may be dropped. Another one may need it: its
    /// history ends then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop_slot: bool,
}

/// `POST /api/teardown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Teardown {
    /// One captured database; all of them when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Only say what would be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a teardown removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TornDown {
    /// What was removed and put back, for people, in order.
    pub removed: Vec<String>,
    /// What could not be, and why.
    pub left: Vec<String>,
    /// Where the history stays, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}
