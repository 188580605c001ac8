//! Backwards: the fold of each window with old and new swapped, the last window first, in one transaction.

use ptr_log::Item;
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
        for (begin, end) in self.windows(from, to).await?.into_iter().rev() {
            // Nothing is committed before the end, so an interruption leaves the session where it was.
            if self.cancel.is_cancelled() {
                return Err(ReplayError::Cancelled { at: from });
            }
            let effects = self.fold_window(applier, begin, end).await?;
            let back: Result<Vec<TableEffect>, NotReversible> =
                effects.into_iter().map(TableEffect::reversed).collect();
            applier.undo(&back.map_err(Mismatch::from)?).await?;
            self.progress.send_modify(|progress| progress.done = from.ordinal - begin);
        }
        applier.settle_at(to).await?;
        self.restore_sequences(applier, to).await
    }

    /// Ranges of ordinals that are small enough to be folded in memory, in log order.
    async fn windows(&self, from: Position, to: Position) -> Result<Vec<(u64, u64)>, ReplayError> {
        let (log, limit) = (self.request.log.clone(), self.request.limits.window_bytes as u64);
        let read = tokio::task::spawn_blocking(move || {
            let mut windows = Vec::new();
            let (mut begin, mut bytes, mut next) = (to.ordinal, 0, to.ordinal);
            while next < from.ordinal {
                let page = transactions(&log, next, from.ordinal, PAGE)?;
                if page.is_empty() {
                    break;
                }
                for TransactionSummary { ordinal, bytes: size, .. } in page {
                    if bytes > 0 && bytes + size > limit {
                        windows.push((begin, ordinal));
                        (begin, bytes) = (ordinal, 0);
                    }
                    bytes += size;
                    next = ordinal + 1;
                }
            }
            windows.push((begin, from.ordinal));
            Ok(windows)
        });
        read.await.expect("reading the index does not panic")
    }

    async fn fold_window(
        &self,
        applier: &mut Applier,
        begin: u64,
        end: u64,
    ) -> Result<Vec<TableEffect>, ReplayError> {
        let mut fold = Fold::default();
        let mut feed = Feed::start(&self.request.log, begin, end);
        let (mut ordinal, mut number) = (begin, 0);
        while let Some(portion) = feed.next().await {
            for item in portion? {
                match item {
                    Item::Begin(summary) => (ordinal, number) = (summary.ordinal, 0),
                    Item::Change(change) => {
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
