//! Transactions of the log.

use ptr_model::{OperationCounts, TransactionSummary};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{entry::EntryAnswer, position::PositionAnswer};

/// How many entries of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Rows inserted.
    pub inserts: u64,
    /// Rows updated.
    pub updates: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// TRUNCATEs.
    pub truncates: u64,
    /// DDL statements.
    pub ddl: u64,
    /// Logical messages of the user's.
    pub messages: u64,
}

impl From<OperationCounts> for Counts {
    fn from(counts: OperationCounts) -> Self {
        let OperationCounts { inserts, updates, deletes, truncates, ddl, messages } = counts;
        Self { inserts, updates, deletes, truncates, ddl, messages }
    }
}

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionAnswer {
    /// Transactions of the log before it.
    pub ordinal: u64,
    /// Its id; 0 for a logical message outside a transaction.
    pub xid: u32,
    /// Its commit record.
    pub commit_lsn: String,
    /// When it committed, RFC 3339 with microseconds.
    pub commit_time: String,
    /// The position just after it.
    pub position: PositionAnswer,
    /// The index of its first entry.
    pub first_entry: u64,
    /// All its entries.
    pub entries: u64,
    /// Its entries by kind.
    pub counts: Counts,
    /// The tables that it changed, as `schema.table`.
    pub tables: Vec<String>,
    /// Whether it holds something that could not be captured.
    pub has_gap: bool,
}

impl From<TransactionSummary> for TransactionAnswer {
    fn from(summary: TransactionSummary) -> Self {
        Self {
            ordinal: summary.ordinal,
            xid: summary.header.xid.0,
            commit_lsn: summary.header.commit_lsn.to_string(),
            commit_time: summary.header.commit_time.to_string(),
            position: summary.after().into(),
            first_entry: summary.first_entry,
            entries: summary.counts.total(),
            counts: summary.counts.into(),
            tables: summary.tables,
            has_gap: summary.has_gap,
        }
    }
}

/// A page of transactions, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionPage {
    /// The transactions.
    pub transactions: Vec<TransactionAnswer>,
    /// Transactions of the whole log, whatever the filter.
    pub total_count: u64,
    /// Transactions on this page.
    pub returned: usize,
    /// What `cursor` fetches the next page; absent on the last.
    pub next_cursor: Option<String>,
    /// Entries that were looked at for `text` or `key`. One answer looks at a bounded number, so a page may be short,
    /// or empty, and have a next one; absent without these filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched: Option<u64>,
}

/// `GET /api/transactions/{xid}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TransactionDetail {
    /// The transaction.
    pub transaction: TransactionAnswer,
    /// Its entries, the first page.
    pub entries: Vec<EntryAnswer>,
    /// What `cursor` of `/api/transactions/{xid}` fetches the next page; absent on the last.
    pub next_cursor: Option<String>,
}

/// `GET /api/transactions` and, but for the filters, `GET /api/transactions/{xid}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TransactionQuery {
    /// Transactions on a page, 1 to 1000; 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only from the transaction of this ordinal on: a list that is scrolled begins a page anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Only those that changed this table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Only those with such an entry, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only those with an entry that holds this text in a value, before or after, in a statement or in a message; without regard
    /// to upper and lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Only those with a row of this key, before or after: `COLUMN=VALUE` for any column, or a value of the primary key as it
    /// is now on the primary. Where that is not known it is the replica identity, and of whole rows the first column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Only after this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only before this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// `asc` or `desc`: pages go from the newest back; each page is still oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// The captured database; that of the active session when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}
