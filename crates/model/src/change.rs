//! One thing that a transaction did.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Gap, Relation, RelationRows, SchemaChange, Tuple};

/// One step of a transaction, in the order in which the server did them.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A row came to be.
    Insert {
        /// Its table, as it was then.
        relation: Arc<Relation>,
        /// The row. Never holds `UnchangedToast`.
        new: Tuple,
    },
    /// A row changed.
    Update {
        /// Its table, as it was then.
        relation: Arc<Relation>,
        /// What the server sent of the row before.
        old: OldTuple,
        /// The row after; may hold `UnchangedToast` where `old` is not full.
        new: Tuple,
    },
    /// A row went away.
    Delete {
        /// Its table, as it was then.
        relation: Arc<Relation>,
        /// What the server sent of the row.
        old: OldTuple,
    },
    /// Tables were emptied, all by one statement.
    Truncate {
        /// The tables, including those that CASCADE reached.
        relations: Vec<Arc<Relation>>,
        /// The statement's options.
        options: TruncateOptions,
    },
    /// The schema changed.
    Schema(Box<SchemaChange>),
    /// All rows of a table after a rewrite, which the server itself does not send. Not an entry: it belongs
    /// to the schema change before it.
    Rows(Box<RelationRows>),
    /// Something happened here that could not be captured. Not an entry; replay stops at it and says why.
    Gap(Gap),
    /// A logical message of the user's.
    Message(Message),
}

/// What the server sent of a row before an UPDATE or DELETE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OldTuple {
    /// The whole row (`REPLICA IDENTITY FULL`).
    Full(Tuple),
    /// Only the columns of the replica identity; the others read `Null` and mean nothing.
    Key(Tuple),
    /// Nothing was sent: the identity's columns did not change, so `new` holds them too.
    Unchanged,
}

impl OldTuple {
    fn weight(&self) -> usize {
        match self {
            Self::Full(tuple) | Self::Key(tuple) => tuple.weight(),
            Self::Unchanged => 0,
        }
    }
}

/// Options of a TRUNCATE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TruncateOptions {
    /// CASCADE was given.
    pub cascade: bool,
    /// RESTART IDENTITY was given.
    pub restart_identity: bool,
}

/// Bytes that somebody put into the stream with `pg_logical_emit_message`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its prefix, which names its sender by convention.
    pub prefix: String,
    /// Its bytes.
    pub content: Bytes,
    /// Whether it belongs to a transaction, or stands in a transaction-like unit of its own.
    pub transactional: bool,
}

/// What kind of entry a change is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A row inserted.
    Insert,
    /// A row updated.
    Update,
    /// A row deleted.
    Delete,
    /// A TRUNCATE.
    Truncate,
    /// A DDL statement.
    Ddl,
    /// A logical message of the user's.
    Message,
}

impl Operation {
    /// All of them, in the order in which they are listed to users.
    pub const ALL: [Self; 6] =
        [Self::Insert, Self::Update, Self::Delete, Self::Truncate, Self::Ddl, Self::Message];

    /// Its name in the log, the API and the CLI.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::Ddl => "DDL",
            Self::Message => "MESSAGE",
        }
    }

    /// The operation of that name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name().eq_ignore_ascii_case(name))
    }
}

impl Change {
    /// About how many bytes of memory it holds beside itself.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Insert { new, .. } => new.weight(),
            Self::Update { old, new, .. } => old.weight() + new.weight(),
            Self::Delete { old, .. } => old.weight(),
            Self::Truncate { relations, .. } => relations.len() * size_of::<usize>(),
            Self::Message(message) => message.content.len(),
            Self::Rows(rows) => {
                let value =
                    |value: &Option<String>| size_of::<String>() + value.as_ref().map_or(0, String::len);
                rows.rows.iter().flatten().map(value).sum()
            }
            // What comes beside the text is small.
            Self::Schema(change) => 1024 + change.statement.text().len(),
            Self::Gap(gap) => gap.reason.len() + gap.statement.as_ref().map_or(0, String::len),
        }
    }

    /// Which entry this is, or `None` where it is none: only entries are counted and numbered.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        match self {
            Self::Insert { .. } => Some(Operation::Insert),
            Self::Update { .. } => Some(Operation::Update),
            Self::Delete { .. } => Some(Operation::Delete),
            Self::Truncate { .. } => Some(Operation::Truncate),
            Self::Schema(change) => change.is_entry.then_some(Operation::Ddl),
            Self::Message(_) => Some(Operation::Message),
            Self::Rows(_) | Self::Gap(_) => None,
        }
    }

    /// The tables that this change names, none for those that name no table.
    pub fn relations(&self) -> &[Arc<Relation>] {
        match self {
            Self::Insert { relation, .. } | Self::Update { relation, .. } | Self::Delete { relation, .. } => {
                std::slice::from_ref(relation)
            }
            Self::Truncate { relations, .. } => relations,
            Self::Schema(_) | Self::Rows(_) | Self::Gap(_) | Self::Message(_) => &[],
        }
    }
}
