//! The log, read on a thread of its own and handed over in portions.
//!
//! Reading and decompressing take time that would otherwise be waited for between statements. The channel is
//! short, so that what is read ahead stays small whatever the range.

use std::ops::Range;

use ptr_log::{Item, Log, LogError};
use ptr_model::SchemaChange;
use tokio::sync::mpsc;

use crate::{apply, stop::Place};

/// Items of the log in one portion.
const PORTION: usize = 2_000;
/// Bytes of memory after which a portion is full before it has so many: rows, messages and statements may be large.
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

/// About how much memory an item holds, beside its place in the portion.
fn size(item: &Item) -> usize {
    match item {
        Item::Change(change) => change.weight(),
        Item::Begin(_) | Item::Commit => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use ptr_model::{Change, Datum, Message, Oid, Relation, ReplicaIdentity, Tuple};

    use super::*;

    /// The portions of so many such changes, as lengths.
    fn portions_of(count: usize, change: &Change) -> Vec<usize> {
        let items = (0..count).map(|_| Ok(Item::Change(change.clone())));
        let (sender, mut portions) = mpsc::channel(count + 1);
        send(items, &sender).unwrap();
        drop(sender);
        std::iter::from_fn(|| portions.blocking_recv()).map(|portion| portion.unwrap().len()).collect()
    }

    fn row(values: Vec<Datum>) -> Change {
        let relation = Arc::new(Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: "t".into(),
            replica_identity: ReplicaIdentity::Full,
            columns: Vec::new(),
        });
        Change::Insert { relation, new: Tuple(values) }
    }

    /// The portions of so many rows of so many bytes, as lengths.
    fn portions(rows: usize, bytes: usize) -> Vec<usize> {
        portions_of(rows, &row(vec![Datum::Text(Bytes::from(vec![b'x'; bytes]))]))
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

    #[test]
    fn a_portion_is_full_by_messages_statements_and_nulls_too() {
        let content = Bytes::from(vec![b'x'; 100 << 10]);
        let message = Message { prefix: "outbox".into(), content, transactional: true };
        let lengths = portions_of(2_000, &Change::Message(message));
        assert!(lengths.iter().all(|length| *length <= 11), "{lengths:?}");

        let long = format!("COMMENT ON TABLE t IS '{}'", "x".repeat(600 << 10));
        let statement = serde_json::json!({
            "tag": "COMMENT", "is_entry": true, "event": "ddl_command_end", "statement": {"text": long},
            "environment": {"session_user": "", "current_user": "", "search_path": ""},
        });
        let change = serde_json::from_value(statement).unwrap();
        assert_eq!(portions_of(5, &Change::Schema(Box::new(change))), [2, 2, 1]);

        let lengths = portions_of(2_000, &row(vec![Datum::Null; 1_600]));
        let most = PORTION_BYTES / (1_600 * size_of::<Datum>()) + 1;
        assert!(lengths.iter().all(|length| *length <= most), "{lengths:?}");
    }
}
