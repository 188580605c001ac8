//! The thread that owns the log.
//!
//! It takes what is queued, appends it, and makes all of it durable at once: while it waits for the disk, the next
//! transactions gather, so the number of syncs follows the disk's speed and not the number of commits.

use std::{
    thread,
    time::{Duration, Instant},
};

use ptr_log::{LogError, LogIdentity};
use ptr_model::{Lsn, Timestamp};
use tokio::sync::{
    mpsc::{UnboundedReceiver, error::TryRecvError},
    oneshot, watch,
};

use super::{
    Covered, ListenerProgress, TransactionLog,
    queue::{Batch, Closed, Command, Queue, queue},
};
use crate::assemble::Step;

/// How long a commit waits at most for others to share its sync, while there is more to append.
const GATHERING: Duration = Duration::from_millis(200);
/// Syncing each handful of commits would cost more than all else: from so many since the last sync on, they gather for so
/// long. Four in a breath are a busy server, sixteen are a flood.
const PATIENCE: [(u64, Duration); 2] = [(16, Duration::from_millis(10)), (4, Duration::from_millis(2))];
/// How long to look away while they do.
const PAUSE: Duration = Duration::from_micros(500);
/// How much the log may keep in memory before it is synced, commits waiting or not.
const PENDING_BYTES: usize = 8 * 1024 * 1024;

/// What is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Durable {
    /// Everything that committed before.
    pub(super) lsn: Lsn,
    /// Transactions since the start.
    pub(super) transactions: u64,
    /// Entries since the start.
    pub(super) entries: u64,
    /// When the last of them committed.
    pub(super) last_commit_time: Option<Timestamp>,
}

impl Durable {
    /// Puts it where others look for it.
    pub(super) fn tell(&self, progress: &mut ListenerProgress) {
        progress.durable_lsn = self.lsn;
        progress.last_commit_time = self.last_commit_time;
        progress.transactions = self.transactions;
        progress.entries = self.entries;
    }
}

/// What the log said when it was opened.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    pub(super) identity: LogIdentity,
    /// The end of its last transaction, or where it begins.
    pub(super) head: Lsn,
    /// How far everything that committed was in it.
    pub(super) covered: Covered,
    /// Where capture went on behind what the log was last found to lack.
    pub(super) lacks_until: Option<Lsn>,
}

/// The receiver's handle of the thread.
#[derive(Debug)]
pub(super) struct WriterThread {
    pub(super) queue: Queue,
    pub(super) durable: watch::Receiver<Durable>,
    opened: Opened,
    result: oneshot::Receiver<Result<(), LogError>>,
}

impl WriterThread {
    /// Starts it and waits until the log is open.
    pub(super) async fn start<L: TransactionLog>(
        open: impl FnOnce() -> Result<L, LogError> + Send + 'static,
        queue_bytes: usize,
    ) -> Result<Self, LogError> {
        let (queue, batches) = queue(queue_bytes);
        let (opened_sender, opened) = oneshot::channel();
        let (result_sender, result) = oneshot::channel();
        let nothing = Durable { lsn: Lsn::INVALID, transactions: 0, entries: 0, last_commit_time: None };
        let (durable_sender, durable) = watch::channel(nothing);
        let run = move || {
            let log = match open() {
                Ok(log) => log,
                Err(error) => return drop(opened_sender.send(Err(error))),
            };
            let opened = Opened {
                identity: log.identity().clone(),
                head: log.head().lsn,
                covered: log.covered_before(),
                lacks_until: log.lacks_until(),
            };
            durable_sender.send_modify(|durable| durable.lsn = opened.head);
            let durable = *durable_sender.borrow();
            let writer = Writer {
                durable,
                published: durable_sender,
                log,
                unsynced: None,
                synced: 0,
                commit_time: None,
            };
            // Both are refused only when the listener was dropped, which then wants to know nothing.
            let _ = opened_sender.send(Ok(opened));
            let _ = result_sender.send(writer.run(batches));
        };
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(run)
            .expect("the system has a thread to spare when the program starts its work");
        let opened = opened.await.expect("the thread answers or panics")?;
        Ok(Self { queue, durable, opened, result })
    }

    pub(super) fn opened(&self) -> Opened {
        self.opened.clone()
    }

    /// Has the log note that it is not given what committed from one LSN until another, and waits until that is durable.
    pub(super) async fn note_lack(&self, from: Lsn, until: Lsn) -> Result<(), Closed> {
        let (noted, answer) = oneshot::channel();
        let room = self.queue.room(1).await?;
        self.queue.send(vec![Command::Lack { from, until, noted }], room)?;
        answer.await.map_err(|_| Closed)
    }

    /// Lets it finish what is queued, and waits for it.
    pub(super) async fn finish(self) -> Result<(), LogError> {
        drop(self.queue);
        self.result.await.expect("the thread answers or panics")
    }
}

struct Writer<L> {
    log: L,
    durable: Durable,
    published: watch::Sender<Durable>,
    /// When the oldest thing that is not synced was committed.
    unsynced: Option<Instant>,
    /// Transactions at the last sync.
    synced: u64,
    /// Of the transaction that was begun last.
    commit_time: Option<Timestamp>,
}

impl<L: TransactionLog> Writer<L> {
    fn run(mut self, mut batches: UnboundedReceiver<Batch>) -> Result<(), LogError> {
        while let Some(batch) = batches.blocking_recv() {
            self.apply(batch)?;
            while !self.is_overdue() {
                match batches.try_recv() {
                    Ok(batch) => self.apply(batch)?,
                    Err(TryRecvError::Empty) if self.gathers() => thread::sleep(PAUSE),
                    Err(_) => break,
                }
            }
            self.sync()?;
        }
        // A transaction that is still open was aborted by the receiver; nothing is left to publish.
        self.log.close().map(|_| ())
    }

    fn is_overdue(&self) -> bool {
        self.log.pending_bytes() >= PENDING_BYTES
            || self.unsynced.is_some_and(|since| since.elapsed() >= GATHERING)
    }

    /// Few commits are synced at once, for whoever waits for them; many wait a little for more.
    fn gathers(&self) -> bool {
        let waiting = self.durable.transactions - self.synced;
        let patience = PATIENCE.iter().find(|(commits, _)| waiting >= *commits);
        self.unsynced.zip(patience).is_some_and(|(since, (_, patience))| since.elapsed() < *patience)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), LogError> {
        let mut settled = Vec::new();
        for command in batch.commands {
            match command {
                Command::Step(step) => self.step(step)?,
                Command::Covered(lsn) => self.covered(lsn),
                Command::Abort => self.log.abort(),
                Command::Lack { from, until, noted } => {
                    self.log.note_lack(from, until)?;
                    // Whoever asked may have gone.
                    let _ = noted.send(());
                }
                Command::Settle(answer) => settled.push(answer),
            }
        }
        if !settled.is_empty() {
            self.sync()?;
        }
        for answer in settled {
            // Whoever asked may have gone.
            let _ = answer.send(());
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), LogError> {
        match step {
            Step::Begin(header) => {
                self.commit_time = Some(header.commit_time);
                self.log.begin(&header)?;
            }
            Step::Change(change) => self.log.append(&change)?,
            Step::Commit { end_lsn } => self.commit(end_lsn)?,
            Step::Passed { end_lsn } => self.covered(end_lsn),
            Step::Marker { token, lsn } => {
                self.unsynced.get_or_insert_with(Instant::now);
                self.log.marker(token, lsn);
            }
        }
        Ok(())
    }

    fn commit(&mut self, end_lsn: Lsn) -> Result<(), LogError> {
        if let Some(committed) = self.log.commit(end_lsn)? {
            self.durable.transactions += 1;
            self.durable.entries += committed.counts.total();
            self.durable.last_commit_time = self.commit_time;
        }
        self.reached(end_lsn);
        Ok(())
    }

    fn covered(&mut self, lsn: Lsn) {
        if lsn > self.durable.lsn {
            self.log.covered(lsn);
            self.reached(lsn);
        }
    }

    fn reached(&mut self, lsn: Lsn) {
        self.durable.lsn = self.durable.lsn.max(lsn);
        self.unsynced.get_or_insert_with(Instant::now);
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.unsynced.take().is_some() {
            self.log.flush()?;
            self.synced = self.durable.transactions;
            self.published.send_replace(self.durable);
        }
        Ok(())
    }
}
