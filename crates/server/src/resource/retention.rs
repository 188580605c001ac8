//! What is no longer needed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/gc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// Only say what would be removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Remove what is older of the present histories, and earlier ones whose last transaction is: `30d`, `12h`, `45m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Remove the oldest part until the log of each present history is no larger, and the oldest of the earlier ones until
    /// these together are no larger: `10GB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_bytes: Option<String>,
    /// Also drop databases on the output server that hold histories which this data directory does not have, and those
    /// whose session is gone: what it left, or a copy that somebody made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collected {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Bytes of all that is in `removed`.
    pub bytes: u64,
    /// What is gone.
    pub removed: Vec<Thing>,
    /// What could be thought superfluous and stays, with the reason.
    pub kept: Vec<Thing>,
}

/// A history, the beginning of one, a database or a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Thing {
    /// `history`, `beginning`, `database` or `file`.
    pub kind: String,
    /// Its name, or its path.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Why it goes or stays.
    pub reason: String,
}

/// What a running service lets go by itself (`RETAIN_AGE`, `RETAIN_BYTES`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionStatus {
    /// How old a transaction may become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<String>,
    /// How large a log may become, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What it did last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastCollection>,
}

/// What was let go at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastCollection {
    /// When, RFC 3339.
    pub at: String,
    /// Bytes of what went.
    pub bytes: u64,
    /// What went.
    pub removed: Vec<Thing>,
    /// Beginnings of histories that the policy would let go and that stay, with the reason.
    pub kept: Vec<Thing>,
    /// Why it could not be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
