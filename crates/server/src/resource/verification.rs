//! Comparisons of a session's database with the primary, or with what was kept of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{navigation::Progress, position::PositionAnswer};

/// `POST /api/verify`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// By what to ask for it and to end it while it goes on, a UUID; one is made when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The session, by id or name; the active one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// A checkpoint that was made with `hash`, by id or name: compare with what was kept, not with the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Connections to each side, 1 to 32; 2 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<usize>,
    /// Answer at once with the verification under way (status 202), to be asked at `/api/verifications/{id}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

/// A verification, under way or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerificationAnswer {
    /// Names it.
    pub id: String,
    /// The session.
    pub session_id: String,
    /// Whether it goes on.
    pub state: VerificationState,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it found, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Verified>,
    /// Why it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it began, RFC 3339.
    pub started_at: String,
}

/// Whether a verification goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerificationState {
    /// It does.
    Running,
    /// It has a result.
    Done,
    /// It could not compare.
    Failed,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// Whether the two are equal.
    pub equal: bool,
    /// The session.
    pub session_id: String,
    /// The position at which they were compared.
    pub position: PositionAnswer,
    /// With what: `primary`, or `checkpoint` and its name.
    pub against: String,
    /// The database on the output server that was compared.
    pub compared_database: String,
    /// Whether that was a scratch database, made from the log for this because the session is elsewhere, and
    /// dropped again; else it was the session's own.
    pub scratch: bool,
    /// Tables compared.
    pub tables: u64,
    /// Rows compared.
    pub rows: u64,
    /// Sequences compared.
    pub sequences: u64,
    /// Each difference, for people.
    pub differences: Vec<String>,
    /// The same for programs.
    pub details: Vec<Difference>,
    /// What else should be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// One difference. A side is `primary`, which is also what was kept of it at a checkpoint, or `replica`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Difference {
    /// A schema entry of `pg_dump`.
    Schema {
        /// Its heading: name, type, schema, owner.
        entry: String,
        /// The one side that has it; null where both have it, in different forms.
        only_on: Option<String>,
        /// Its SQL on the primary.
        primary: Option<String>,
        /// Its SQL on the replica.
        replica: Option<String>,
    },
    /// A table whose rows differ, or that one side has not.
    Table {
        /// Its name, quoted.
        table: String,
        /// Rows on the primary; null where it is not there.
        primary_rows: Option<u64>,
        /// Rows on the replica; null where it is not there.
        replica_rows: Option<u64>,
    },
    /// One of the first differing rows of a table.
    Row {
        /// The table's name, quoted.
        table: String,
        /// The primary key; null in a table without one.
        key: Option<String>,
        /// The one side that has it; null where both have it, with different values.
        only_on: Option<String>,
        /// The differing columns; all of them where only one side has the row.
        columns: Vec<ColumnValues>,
    },
    /// A sequence.
    Sequence {
        /// Its name, quoted.
        sequence: String,
        /// What it should hold.
        expected: i64,
        /// What it holds.
        found: i64,
        /// Whether it should hold just that, or may be further.
        exactly: bool,
    },
}

/// A column's values as text, null for NULL; long ones are cut, with a hash of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColumnValues {
    /// The column.
    pub column: String,
    /// On the primary.
    pub primary: Option<String>,
    /// On the replica.
    pub replica: Option<String>,
}
