//! The log, read on a thread of its own and handed over in portions.
//!
//! Reading and decompressing take time that would otherwise be waited for between statements. The channel is
//! short, so that what is read ahead stays small whatever the range.

use std::ops::Range;

use ptr_log::{Item, Log, LogError};
use ptr_model::{Change, OldTuple, SchemaChange};
use tokio::sync::mpsc;

use crate::{apply, stop::Place};

/// Items of the log in one portion.
const PORTION: usize = 2_000;
/// Bytes of values after which a portion is full before it has so many: rows may be large.
const PORTION_BYTES: usize = 1 << 20;
/// Portions read ahead.
const AHEAD: usize = 4;

type Portions = mpsc::Sender<Result<Vec<Item>, LogError>>;

/// A range of the log, on its way.
#[derive(Debug)]
pub(crate) struct Feed {
    portions: mpsc::Receiver<Result<Vec<Item>, LogError>>,
}

impl Feed {
    /// Starts to read the transactions from `from` up to and without `to`.
    pub(crate) fn start(log: &Log, from: u64, to: u64) -> Self {
        let log = log.clone();
        Self::reading(move |sender| send(log.read(from, to)?, sender))
    }

    /// Starts to read the entries of one transaction that have an index in `part`.
    pub(crate) fn start_part(log: &Log, ordinal: u64, part: Range<u64>) -> Self {
        let log = log.clone();
        Self::reading(move |sender| {
            send(log.read_part(ordinal, part)?.map(|change| change.map(Item::Change)), sender)
        })
    }

    fn reading(read: impl FnOnce(&Portions) -> Result<(), LogError> + Send + 'static) -> Self {
        let (sender, portions) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&sender) {
                // Nobody listens any more where the range is no longer wanted.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Self { portions }
    }

    /// The next portion; `None` at the end of the range.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<Item>, LogError>> {
        self.portions.recv().await
    }
}

/// Where in one transaction statements begin and end whose rows come in between, read before its rows are applied.
pub(crate) async fn boundaries(log: &Log, ordinal: u64) -> Result<Vec<(Place, SchemaChange)>, LogError> {
    let log = log.clone();
    let read = move || {
        let (mut boundaries, mut number, mut entry) = (Vec::new(), 0, 0);
        for item in log.read(ordinal, ordinal + 1)? {
            match item? {
                Item::Begin(outline) => entry = outline.first_entry,
                Item::Change(change) => {
                    let place = Place::of(&change, number, entry);
                    number += 1;
                    entry += u64::from(place.entry.is_some());
                    boundaries.extend(apply::boundary(change).map(|event| (place, event)));
                }
                Item::Commit => {}
            }
        }
        Ok(boundaries)
    };
    tokio::task::spawn_blocking(read).await.expect("reading the log does not panic")
}

fn send(items: impl Iterator<Item = Result<Item, LogError>>, sender: &Portions) -> Result<(), LogError> {
    let (mut portion, mut bytes) = (Vec::with_capacity(PORTION), 0);
    for item in items {
        let item = item?;
        bytes += size(&item);
        portion.push(item);
        if portion.len() == PORTION || bytes >= PORTION_BYTES {
            bytes = 0;
            let full = std::mem::replace(&mut portion, Vec::with_capacity(PORTION));
            if sender.blocking_send(Ok(full)).is_err() {
                return Ok(());
            }
        }
    }
    // The receiver may be gone by now; then nobody wants the rest.
    let _ = sender.blocking_send(Ok(portion));
    Ok(())
}

/// Bytes of the values of an item, roughly.
fn size(item: &Item) -> usize {
    let Item::Change(change) = item else { return 0 };
    match change {
        Change::Insert { new, .. } => new.size(),
        Change::Update { old, new, .. } => old_size(old) + new.size(),
        Change::Delete { old, .. } => old_size(old),
        Change::Rows(rows) => rows.rows.iter().flatten().flatten().map(String::len).sum(),
        Change::Truncate { .. } | Change::Schema(_) | Change::Message(_) | Change::Gap(_) => 0,
    }
}

fn old_size(old: &OldTuple) -> usize {
    match old {
        OldTuple::Full(tuple) | OldTuple::Key(tuple) => tuple.size(),
        OldTuple::Unchanged => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use ptr_model::{Datum, Oid, Relation, ReplicaIdentity, Tuple};

    use super::*;

    /// The portions of so many rows of so many bytes, as lengths.
    fn portions(rows: usize, bytes: usize) -> Vec<usize> {
        let relation = Arc::new(Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: "t".into(),
            replica_identity: ReplicaIdentity::Full,
            columns: Vec::new(),
        });
        let value = Bytes::from(vec![b'x'; bytes]);
        let items = (0..rows).map(|_| {
            let new = Tuple(vec![Datum::Text(value.clone())]);
            Ok(Item::Change(Change::Insert { relation: Arc::clone(&relation), new }))
        });
        let (sender, mut portions) = mpsc::channel(rows + 1);
        send(items, &sender).unwrap();
        drop(sender);
        std::iter::from_fn(|| portions.blocking_recv()).map(|portion| portion.unwrap().len()).collect()
    }

    #[test]
    fn a_portion_is_full_by_its_rows_or_by_their_bytes() {
        assert_eq!(portions(5_000, 10), [2_000, 2_000, 1_000]);
        assert_eq!(
            portions(5, 600 << 10),
            [2, 2, 1],
            "what is read ahead stays small however large the rows"
        );
    }
}
