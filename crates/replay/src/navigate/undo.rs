//! Backwards: the fold of each window with old and new swapped, the last window first, in one transaction.
//!
//! A window is some transactions, or a part of one that is too large to be held. It is sent while the one before it is
//! folded.

use std::ops::Range;

use ptr_log::{Item, Log, LogError};
use ptr_model::{Change, Position, TransactionSummary};

use super::{NavigateError, Travel, transactions};
use crate::{
    apply::Applier,
    decisions::{Names, Ruling},
    error::{Mismatch, ReplayError},
    feed::Feed,
    fold::{Fold, Membership, NotReversible, Pushed, TableEffect, table_name},
};

/// Summaries read at once.
const PAGE: usize = 1_000;

impl Travel<'_> {
    pub(super) async fn undo(
        &mut self,
        database: &str,
        from: Position,
        to: Position,
    ) -> Result<(), NavigateError> {
        let mut applier = self.open(database).await?;
        self.expect(&applier, from)?;
        let outcome = self.undo_with(&mut applier, from, to).await;
        self.count(&applier);
        match outcome {
            Ok(()) => self.keep(applier),
            Err(error) => {
                applier.give_up().await;
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn undo_with(
        &self,
        applier: &mut Applier,
        from: Position,
        to: Position,
    ) -> Result<(), ReplayError> {
        self.progress.send_modify(|progress| progress.total = from.ordinal - to.ordinal);
        for window in self.windows(from, to).await?.into_iter().rev() {
            // Nothing is committed before the end, so an interruption leaves the session where it was.
            if self.cancel.is_cancelled() {
                return Err(ReplayError::Cancelled { at: from });
            }
            let effects = self.fold_window(applier, &window).await?;
            let back: Result<Vec<TableEffect>, NotReversible> =
                effects.into_iter().map(TableEffect::reversed).collect();
            applier.undo(back.map_err(Mismatch::from)?).await?;
            self.progress.send_modify(|progress| progress.done = from.ordinal - window.begin());
        }
        applier.settle_at(to).await?;
        self.restore_sequences(applier, to).await
    }

    /// The way in windows that are small enough to be folded in memory, in log order.
    async fn windows(&self, from: Position, to: Position) -> Result<Vec<Window>, ReplayError> {
        let (log, limit) = (self.request.log.clone(), self.request.limits.window_bytes as u64);
        let read = tokio::task::spawn_blocking(move || {
            let mut windows = Windows { limit, begin: to.ordinal, weight: 0, found: Vec::new() };
            let mut next = to.ordinal;
            while next < from.ordinal {
                let page = transactions(&log, next, from.ordinal, PAGE)?;
                if page.is_empty() {
                    break;
                }
                for transaction in &page {
                    windows.add(&log, transaction)?;
                    next = transaction.ordinal + 1;
                }
            }
            windows.close(from.ordinal);
            Ok(windows.found)
        });
        read.await.expect("reading the log does not panic")
    }

    async fn fold_window(
        &self,
        applier: &mut Applier,
        window: &Window,
    ) -> Result<Vec<TableEffect>, ReplayError> {
        let mut fold = Fold::default();
        let log = &self.request.log;
        let (mut feed, mut ordinal, mut number) = match window {
            Window::Whole { begin, end } => (Feed::start(log, *begin, *end), *begin, 0),
            // What is undone has entries only, so they are numbered as changes are.
            Window::Part { ordinal, first_entry, part } => {
                (Feed::start_part(log, *ordinal, part.clone()), *ordinal, part.start - first_entry)
            }
        };
        while let Some(portion) = feed.next().await {
            let portion = portion?;
            applier.acquaint(&portion).await?;
            for item in portion {
                match item {
                    Item::Begin(outline) => (ordinal, number) = (outline.ordinal, 0),
                    Item::Change(change) => {
                        // What the log says that a row was is not what it is to be again.
                        fold.know_old_rows_by_key(self.request.decisions.skipped_by(ordinal));
                        // What was left out on the way there is nothing to take back.
                        let ruling = self.request.decisions.rule(ordinal, number, change, &Names::default());
                        if let Ruling::Apply(change) = ruling {
                            push(applier, &mut fold, change).await?;
                        }
                        number += 1;
                    }
                    Item::Commit => {}
                }
            }
        }
        Ok(fold.take())
    }
}

/// What is folded at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Window {
    /// The transactions with an ordinal from `begin` on, before `end`.
    Whole { begin: u64, end: u64 },
    /// The entries of a transaction with an index in `part`.
    Part { ordinal: u64, first_entry: u64, part: Range<u64> },
}

impl Window {
    /// The ordinal of its first transaction.
    fn begin(&self) -> u64 {
        match self {
            Self::Whole { begin, .. } => *begin,
            Self::Part { ordinal, .. } => *ordinal,
        }
    }
}

/// What the two images of a changed row cost in memory beside their values. In the log a small row is a fraction of that.
const ROW: u64 = 400;

/// Bytes of memory, roughly, that the fold of so many entries holds whose records are of so many bytes.
fn weight(bytes: u64, entries: u64) -> u64 {
    2 * bytes + ROW * entries
}

/// Bytes of records of which the fold weighs no more than `limit`, in a transaction of so many bytes and entries.
fn bytes_within(limit: u64, bytes: u64, entries: u64) -> u64 {
    let part = u128::from(limit) * u128::from(bytes) / u128::from(weight(bytes, entries).max(1));
    u64::try_from(part).unwrap_or(limit).max(1)
}

/// Gathers windows.
struct Windows {
    /// What the fold of one may weigh.
    limit: u64,
    begin: u64,
    weight: u64,
    found: Vec<Window>,
}

impl Windows {
    fn add(&mut self, log: &Log, transaction: &TransactionSummary) -> Result<(), LogError> {
        let TransactionSummary { ordinal, bytes, first_entry, ref counts, .. } = *transaction;
        let weight = weight(bytes, counts.total());
        if self.weight + weight > self.limit {
            self.close(ordinal);
        }
        if weight > self.limit {
            let part = |part| Window::Part { ordinal, first_entry, part };
            let bytes = bytes_within(self.limit, bytes, counts.total());
            self.found.extend(log.parts(ordinal, bytes)?.into_iter().map(part));
            self.begin = ordinal + 1;
        } else {
            self.weight += weight;
        }
        Ok(())
    }

    /// Ends the window that is being gathered before the transaction `end`.
    fn close(&mut self, end: u64) {
        if self.begin < end {
            self.found.push(Window::Whole { begin: self.begin, end });
        }
        (self.begin, self.weight) = (end, 0);
    }
}

async fn push(applier: &mut Applier, fold: &mut Fold, change: Change) -> Result<(), ReplayError> {
    let is_row = matches!(change, Change::Insert { .. } | Change::Update { .. } | Change::Delete { .. });
    let Some(relation) = change.relations().first().filter(|_| is_row).cloned() else {
        // Schema changes, TRUNCATEs and gaps were looked for when the move was planned.
        return Ok(());
    };
    let not_reversible = || Mismatch::from(NotReversible { table: table_name(&relation) });
    match fold.membership(&relation) {
        Membership::Known => {}
        Membership::New => {
            let identity = applier.identity(&relation).await?;
            fold.add_table(relation.clone(), identity);
        }
        Membership::Outdated => return Err(not_reversible().into()),
    }
    let position = applier.position();
    match fold.push(change).map_err(|error| Mismatch::Fold { error, position })? {
        Pushed::Folded => Ok(()),
        Pushed::Alone(_) => Err(not_reversible().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_large_transaction_is_as_small_as_its_rows_are_many() {
        let limit = 24 << 20;
        for (bytes, entries) in [(90 * 3_000_000, 3_000_000), (20 * 10_000_000, 10_000_000), (1 << 30, 1_000)]
        {
            let part = bytes_within(limit, bytes, entries);
            let held = weight(part, entries * part / bytes);
            assert!(held <= limit && held > limit * 9 / 10, "{bytes} bytes, {entries} entries: {held}");
        }
    }
}
