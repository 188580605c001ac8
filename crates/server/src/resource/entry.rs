//! Entries of the log.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryAnswer {
    /// Its `entry_index`, counted from 0.
    pub index: u64,
    /// The same as a text that names it for ever in this log: `<commit LSN>:<index>`.
    pub id: String,
    /// When its transaction committed, RFC 3339 with microseconds.
    pub timestamp: String,
    /// The end of its transaction: the LSN of the position just after it.
    pub lsn: String,
    /// The commit record of its transaction.
    pub commit_lsn: String,
    /// Its transaction.
    pub xid: u32,
    /// `INSERT`, `UPDATE`, `DELETE`, `TRUNCATE`, `DDL` or `MESSAGE`.
    pub operation: String,
    /// The table's schema; empty where the entry names no table.
    pub schema: String,
    /// The table's name; several of a TRUNCATE are separated by `, `.
    pub table: String,
    /// The row after the change, by column, or the row that a DELETE took away, as far as the server sent it.
    /// `null` is NULL. A column that the server did not send because it is stored apart and did not change is
    /// `{"unchanged": true}`. Whole numbers of 32 bits and booleans are themselves; every other value is the
    /// server's own text, so that none loses precision.
    pub data: Value,
    /// The row before an UPDATE, as far as the server sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_data: Option<Value>,
    /// The statement of a DDL entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
}

/// A page of entries, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<EntryAnswer>,
    /// Entries that the filter matches, on all pages; `text` and `key` left aside, which are looked for page by page.
    pub total_count: u64,
    /// Entries on this page.
    pub returned: usize,
    /// What `cursor` fetches the next page; absent on the last.
    pub next_cursor: Option<String>,
    /// Entries that were looked at for `text` or `key`. One answer looks at a bounded number, so a page may be short,
    /// or empty, and have a next one; absent without these filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched: Option<u64>,
}

/// `GET /api/wal-logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EntryQuery {
    /// Entries on a page, 1 to 1000; 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only this table, `schema.table` or `table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Only these operations, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only entries that hold this text in a value, before or after, in a statement or in a message; without regard
    /// to upper and lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Only rows with this key, before or after: `COLUMN=VALUE` for any column, or a value of the primary key as it
    /// is now on the primary. Where that is not known it is the replica identity, and of whole rows the first column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only after this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only before this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// `asc` (as it happened, the usual) or `desc`: pages go from the newest back; each page is still oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// The captured database; that of the active session when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}
