//! Looking for a text or a key in the entries of the log.
//!
//! Neither is in the index, so entries are read and looked at. One request looks at a bounded number of them, says how
//! many those were, and where the next one goes on; the filters of the index (table, operation, range) come first.

use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, Instant},
};

use ptr_log::{Direction, Entry, EntryQuery as LogQuery, Log, LogError};
use ptr_model::{Change, Column, Datum, OldTuple, Relation, ReplicaIdentity, Tuple};

use super::values;

/// Entries that one request looks at.
const MOST_ENTRIES: u64 = 200_000;

/// How long one request looks. It ends after the entries that are being looked at.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Entries that are read at a time.
const PART: usize = 500;

/// The primary key's columns of each table, by `schema.table`.
pub(super) type Keys = HashMap<String, Vec<String>>;

/// What is looked for; all of it where there is more than one thing.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    /// In lower case.
    text: Option<String>,
    key: Option<String>,
    keys: Keys,
}

/// What was found, in the order in which it was looked at.
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// Entries that were looked at.
    pub(super) looked_at: u64,
    /// Where to go on; `None` at the end.
    pub(super) next: Option<u64>,
}

/// What is found of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Each {
    /// Every entry.
    Entry,
    /// The first entry only: it is the transaction that is wanted.
    Transaction,
}

impl Search {
    /// `None` where nothing is looked for.
    pub(super) fn of(text: Option<&str>, key: Option<&str>) -> Option<Self> {
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let (text, key) = (given(text).map(|text| text.to_lowercase()), given(key));
        (text.is_some() || key.is_some()).then(|| Self { text, key, keys: Keys::new() })
    }

    /// Whether the primary's keys would help.
    pub(super) fn wants_keys(&self) -> bool {
        self.key.is_some()
    }

    /// With the primary's keys.
    pub(super) fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    /// Looks through what the query asks for until `limit` are found, or enough was looked at.
    pub(super) fn look(
        &self,
        log: &Log,
        query: &LogQuery,
        limit: usize,
        each: Each,
    ) -> Result<Found, LogError> {
        let started = Instant::now();
        let mut found = Found { entries: Vec::new(), looked_at: 0, next: query.after };
        loop {
            let page = log.entries(&LogQuery { after: found.next, limit: PART, ..query.clone() })?;
            let last = page.next.is_none();
            let mut entries = page.entries;
            if query.direction == Direction::Backward {
                entries.reverse();
            }
            for entry in entries {
                if each == Each::Transaction
                    && found
                        .entries
                        .last()
                        .is_some_and(|one| one.transaction.ordinal == entry.transaction.ordinal)
                {
                    continue;
                }
                found.looked_at += 1;
                let index = entry.index;
                if self.matches(&entry.change) {
                    found.next = Some(index);
                    if each == Each::Transaction {
                        found.next = Some(beyond(&entry, query.direction));
                    }
                    found.entries.push(entry);
                    if found.entries.len() == limit {
                        return Ok(found);
                    }
                }
            }
            // What is left of a transaction that was found need not be read.
            let inside = found.entries.last().filter(|_| each == Each::Transaction);
            let inside = inside.filter(|one| page.next.is_some_and(|next| holds(one, next)));
            found.next = inside.map_or(page.next, |one| Some(beyond(one, query.direction)));
            if last || found.looked_at >= MOST_ENTRIES || started.elapsed() >= MOST_TIME {
                return Ok(found);
            }
        }
    }

    fn matches(&self, change: &Change) -> bool {
        self.text.as_ref().is_none_or(|text| holds_text(change, text))
            && self.key.as_ref().is_none_or(|key| self.has_key(change, key))
    }

    fn has_key(&self, change: &Change, key: &str) -> bool {
        let Some(relation) = relation(change) else { return false };
        let named = key.split_once('=');
        let named = named.filter(|(name, _)| relation.columns.iter().any(|column| column.name == *name));
        let (columns, value) = match named {
            Some((name, value)) => (vec![name], value),
            None => (self.key_columns(relation), key),
        };
        rows(change).any(|(columns_sent, tuple)| {
            let mut cells = relation.columns.iter().zip(&tuple.0);
            cells.any(|(column, datum)| {
                columns_sent.has(column)
                    && columns.contains(&column.name.as_str())
                    && shown(column, datum).is_some_and(|text| text == value)
            })
        })
    }

    fn key_columns<'r>(&'r self, relation: &'r Relation) -> Vec<&'r str> {
        if let Some(columns) = self.keys.get(&format!("{}.{}", relation.schema, relation.name)) {
            return columns.iter().map(String::as_str).collect();
        }
        let names = relation.columns.iter();
        if relation.replica_identity == ReplicaIdentity::Full {
            return names.take(1).map(|column| column.name.as_str()).collect();
        }
        names.filter(|column| column.in_identity).map(|column| column.name.as_str()).collect()
    }
}

/// The cursor that goes on after a transaction, in that direction.
fn beyond(entry: &Entry, direction: Direction) -> u64 {
    let transaction = &entry.transaction;
    match direction {
        Direction::Forward => transaction.first_entry + transaction.counts.total().saturating_sub(1),
        Direction::Backward => transaction.first_entry,
    }
}

/// Whether an entry is of the same transaction.
fn holds(one: &Entry, index: u64) -> bool {
    let first = one.transaction.first_entry;
    (first..first + one.transaction.counts.total()).contains(&index)
}

fn relation(change: &Change) -> Option<&Relation> {
    match change {
        Change::Insert { relation, .. }
        | Change::Update { relation, .. }
        | Change::Delete { relation, .. } => Some(relation),
        _ => None,
    }
}

/// Which columns of a tuple mean something.
#[derive(Clone, Copy)]
enum Sent {
    All,
    Identity,
}

impl Sent {
    fn has(self, column: &Column) -> bool {
        matches!(self, Self::All) || column.in_identity
    }
}

/// The rows of a change, before and after, as far as they were sent.
fn rows(change: &Change) -> impl Iterator<Item = (Sent, &Tuple)> {
    let (old, new) = match change {
        Change::Insert { new, .. } => (None, Some(new)),
        Change::Update { old, new, .. } => (Some(old), Some(new)),
        Change::Delete { old, .. } => (Some(old), None),
        _ => (None, None),
    };
    let old = old.and_then(|old| match old {
        OldTuple::Full(tuple) => Some((Sent::All, tuple)),
        OldTuple::Key(tuple) => Some((Sent::Identity, tuple)),
        OldTuple::Unchanged => None,
    });
    old.into_iter().chain(new.map(|tuple| (Sent::All, tuple)))
}

/// A value as the API shows it; nothing of NULL and of what was not sent.
fn shown<'d>(column: &Column, datum: &'d Datum) -> Option<Cow<'d, str>> {
    match datum {
        Datum::Null | Datum::UnchangedToast => None,
        Datum::Text(bytes) => Some(values::as_shown(column.type_oid, String::from_utf8_lossy(bytes))),
        Datum::Binary(bytes) => Some(Cow::Owned(values::hexadecimal(bytes))),
    }
}

fn holds_text(change: &Change, wanted: &str) -> bool {
    match change {
        Change::Schema(schema) => contains(&schema.statement.shown(), wanted),
        Change::Message(message) => {
            contains(&message.prefix, wanted) || contains(&String::from_utf8_lossy(&message.content), wanted)
        }
        _ => relation(change).is_some_and(|relation| {
            rows(change).any(|(sent, tuple)| {
                let mut cells = relation.columns.iter().zip(&tuple.0);
                cells.any(|(column, datum)| {
                    sent.has(column) && shown(column, datum).is_some_and(|text| contains(&text, wanted))
                })
            })
        }),
    }
}

/// Whether a text contains another, which is in lower case.
fn contains(text: &str, wanted: &str) -> bool {
    if wanted.is_ascii() {
        // Without a copy: most of what is looked at does not match.
        return text
            .as_bytes()
            .windows(wanted.len())
            .any(|part| part.eq_ignore_ascii_case(wanted.as_bytes()));
    }
    text.to_lowercase().contains(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_and_lower_case_are_the_same() {
        assert!(contains("Ada@Example.com", "ada@example"));
        assert!(contains("STRASSE ÜBER", "über"));
        assert!(!contains("Ada", "adam"));
    }

    #[test]
    fn nothing_given_looks_for_nothing() {
        assert!(Search::of(None, Some("")).is_none());
        assert!(Search::of(Some("x"), None).is_some_and(|search| !search.wants_keys()));
        assert!(Search::of(None, Some("7")).is_some_and(|search| search.wants_keys()));
    }
}
