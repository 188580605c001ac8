//! The net difference between two positions.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::position::PositionAnswer;

/// `GET /api/diff`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DiffQuery {
    /// Where the comparison begins: any position expression.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// Only this table, `schema.table` or `table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// `stat` (counts only), `rows` (the usual) or `sql` (rows, refused where those of a table are not net).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Rows in all, 1 to 1000; 100 when left out. `truncated` says that there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The session that `@` starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The captured database; that of the active session when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// The net difference, table by table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiffAnswer {
    /// Where it begins.
    pub from: PositionAnswer,
    /// Where it ends.
    pub to: PositionAnswer,
    /// Tables with a difference, in order of name.
    pub tables: Vec<TableDiff>,
    /// Schema changes between the two, in order. They are not folded.
    pub schema_changes: Vec<String>,
    /// Whether rows were left out to keep to the limit; the counts are whole.
    pub truncated: bool,
}

/// One table's net difference.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableDiff {
    /// `schema.table`.
    pub table: String,
    /// Rows that came to be.
    pub inserted: u64,
    /// Rows that are other than they were.
    pub updated: u64,
    /// Rows that went away.
    pub deleted: u64,
    /// Whether it was emptied between, so that what it held before cannot be told from the log.
    pub truncated: bool,
    /// The columns that tell its rows apart; none where all of their values do.
    #[serde(default)]
    pub key: Vec<String>,
    /// Columns that the primary computes: no statement may write them.
    #[serde(default)]
    pub computed: Vec<String>,
    /// The rows.
    pub rows: Vec<RowDiff>,
}

/// One row's net difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RowDiff {
    /// `insert`, `update` or `delete`.
    pub change: String,
    /// The row before, as far as the log knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The row after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}
