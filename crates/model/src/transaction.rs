//! Committed transactions, the unit of the log.

use serde::{Deserialize, Serialize};

use crate::{Change, Lsn, Operation, Position, Timestamp, Xid};

/// What is known of a transaction beside its changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransactionHeader {
    /// Its id; 0 for a non-transactional logical message, which stands alone.
    pub xid: Xid,
    /// The LSN of its commit record.
    pub commit_lsn: Lsn,
    /// Just past its commit record.
    pub end_lsn: Lsn,
    /// When it committed, by the primary's clock.
    pub commit_time: Timestamp,
    /// Where it came from, when it was itself replicated to the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A replication origin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Its name on the primary.
    pub name: String,
    /// The commit LSN on the origin.
    pub commit_lsn: Lsn,
}

/// A whole transaction in memory. Long ones are read in parts instead.
#[derive(Clone, PartialEq, Debug)]
pub struct Transaction {
    /// What is known of it beside its changes.
    pub header: TransactionHeader,
    /// What it did, in order.
    pub changes: Vec<Change>,
}

/// How many entries of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OperationCounts {
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

impl OperationCounts {
    /// Counts one more.
    pub fn add(&mut self, operation: Operation) {
        let count = match operation {
            Operation::Insert => &mut self.inserts,
            Operation::Update => &mut self.updates,
            Operation::Delete => &mut self.deletes,
            Operation::Truncate => &mut self.truncates,
            Operation::Ddl => &mut self.ddl,
            Operation::Message => &mut self.messages,
        };
        *count += 1;
    }

    /// All entries together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.inserts + self.updates + self.deletes + self.truncates + self.ddl + self.messages
    }
}

/// A transaction as the index knows it, without its changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TransactionSummary {
    /// What is known of it beside its changes.
    pub header: TransactionHeader,
    /// How many transactions of the log come before it.
    pub ordinal: u64,
    /// The index of its first entry.
    pub first_entry: u64,
    /// Its entries by kind.
    pub counts: OperationCounts,
    /// The tables that it changed, as `schema.table`, each once, in order of first appearance.
    pub tables: Vec<String>,
    /// Bytes of its records in the log, before compression.
    pub bytes: u64,
    /// Whether its end is a position that replay must stop at: it holds a [`crate::Gap`].
    pub has_gap: bool,
}

impl TransactionSummary {
    /// The position just before it, given the end of the transaction before.
    #[must_use]
    pub fn before(&self, previous_end: Lsn) -> Position {
        Position { ordinal: self.ordinal, lsn: previous_end, entry_index: self.first_entry }
    }

    /// The position just after it.
    #[must_use]
    pub fn after(&self) -> Position {
        Position {
            ordinal: self.ordinal + 1,
            lsn: self.header.end_lsn,
            entry_index: self.first_entry + self.counts.total(),
        }
    }
}
