//! The log, read on a thread of its own and handed over in portions.
//!
//! Reading and decompressing take time that would otherwise be waited for between statements. The channel is
//! short, so that what is read ahead stays small whatever the range.

use ptr_log::{Item, Log, LogError};
use ptr_model::SchemaChange;
use tokio::sync::mpsc;

use crate::{apply, stop::Place};

/// Items of the log in one portion.
const PORTION: usize = 2_000;
/// Portions read ahead.
const AHEAD: usize = 4;

/// A range of the log, on its way.
#[derive(Debug)]
pub(crate) struct Feed {
    portions: mpsc::Receiver<Result<Vec<Item>, LogError>>,
}

impl Feed {
    /// Starts to read the transactions from `from` up to and without `to`.
    pub(crate) fn start(log: &Log, from: u64, to: u64) -> Self {
        let (sender, portions) = mpsc::channel(AHEAD);
        let log = log.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&log, from, to, &sender) {
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

/// The ends of the CREATE TABLE AS of one transaction, read before its rows are applied, and where they are.
pub(crate) async fn ends_of_table_as(
    log: &Log,
    ordinal: u64,
) -> Result<Vec<(Place, SchemaChange)>, LogError> {
    let log = log.clone();
    let read = move || {
        let (mut ends, mut number, mut entry) = (Vec::new(), 0, 0);
        for item in log.read(ordinal, ordinal + 1)? {
            match item? {
                Item::Begin(summary) => entry = summary.first_entry,
                Item::Change(change) => {
                    let place = Place::of(&change, number, entry);
                    number += 1;
                    entry += u64::from(place.entry.is_some());
                    ends.extend(apply::ends_of_table_as(change).map(|end| (place, end)));
                }
                Item::Commit => {}
            }
        }
        Ok(ends)
    };
    tokio::task::spawn_blocking(read).await.expect("reading the log does not panic")
}

fn read(
    log: &Log,
    from: u64,
    to: u64,
    sender: &mpsc::Sender<Result<Vec<Item>, LogError>>,
) -> Result<(), LogError> {
    let mut portion = Vec::with_capacity(PORTION);
    for item in log.read(from, to)? {
        portion.push(item?);
        if portion.len() == PORTION {
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
