//! Receives the stream, has it written to the log, and confirms what is on disk.
//!
//! Last step of capture. [`listen`] keeps a connection and begins again after it breaks; `receive` reads one
//! connection and hands [`Step`]s on through the `queue`, which is bounded in bytes; `writer` is a thread that
//! owns the log: it appends what is queued, syncs once for all of it, and publishes how far the log is durable.
//!
//! Invariants: only what is on disk is confirmed; the log gets whole transactions in commit order, each once; the
//! status goes out on time however slow the writer is; memory does not depend on the size of transactions.

mod backoff;
mod error;
mod log;
mod primary;
mod queue;
mod receive;
mod state;
mod writer;

use std::{path::PathBuf, sync::Arc};

use ptr_log::LogError;
use ptr_model::{Lsn, Relation};
use ptr_postgres::Dsn;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{assemble::Assembler, ddl::Secret, transport::ReplicationConnection};
use backoff::Backoff;
use error::Verdict;
pub use error::{ListenError, MarkerError, SetupError};
pub use log::TransactionLog;
use primary::{SlotPatience, Stream};
use receive::{Ended, Receiver};
pub use state::{ListenerProgress, ListenerState, ListenerStatus};
use writer::WriterThread;

#[cfg(doc)]
use crate::assemble::Step;

/// Bytes of changes that may wait between the receiver and the writer.
pub const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// What to listen to.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// The captured database.
    pub dsn: Dsn,
    /// The slot that set-up made.
    pub slot: String,
    /// The publication that set-up made.
    pub publication: String,
    /// The secret of the event triggers; `None` where there are none.
    pub secret: Option<Secret>,
    /// The tables of the log as they were last, where there are no event triggers; else none are needed.
    pub known: Vec<Arc<Relation>>,
    /// Bytes of changes that may wait for the writer; [`QUEUE_BYTES`] unless a test says otherwise.
    pub queue_bytes: usize,
}

/// Captures until `shutdown`, through lost connections; then everything received is durable and confirmed.
///
/// # Errors
/// [`ListenError`] where going on makes no sense before somebody has done what it says.
pub async fn listen(
    options: ListenerOptions,
    log_directory: PathBuf,
    status: watch::Sender<ListenerStatus>,
    shutdown: CancellationToken,
) -> Result<(), ListenError> {
    let open = move || ptr_log::Writer::open(&log_directory, ptr_log::WriterOptions::default());
    listen_to(options, open, status, shutdown).await
}

/// As [`listen`], with any log. `open` is called on the thread that then writes.
///
/// # Errors
/// As [`listen`].
pub async fn listen_to<L: TransactionLog>(
    options: ListenerOptions,
    open: impl FnOnce() -> Result<L, LogError> + Send + 'static,
    status: watch::Sender<ListenerStatus>,
    shutdown: CancellationToken,
) -> Result<(), ListenError> {
    let result = run(&options, open, &status, &shutdown).await;
    status.send_modify(|status| {
        status.state = match &result {
            Ok(()) => ListenerState::Stopped,
            Err(error) => ListenerState::Failed { error: error.to_string() },
        };
    });
    result
}

async fn run<L: TransactionLog>(
    options: &ListenerOptions,
    open: impl FnOnce() -> Result<L, LogError> + Send + 'static,
    status: &watch::Sender<ListenerStatus>,
    shutdown: &CancellationToken,
) -> Result<(), ListenError> {
    let writer = WriterThread::start(open, options.queue_bytes).await?;
    let mut listener = Listener {
        options,
        status,
        shutdown,
        received: writer.opened().head,
        writer,
        backoff: Backoff::default(),
        slot_patience: SlotPatience::default(),
        refusals: 0,
        known: options.known.clone(),
    };
    let outcome = listener.keep_listening().await;
    let finished = listener.writer.finish().await;
    // A log that failed is the cause of whatever the receiver saw.
    finished.map_err(ListenError::Log)?;
    outcome
}

struct Listener<'a> {
    options: &'a ListenerOptions,
    status: &'a watch::Sender<ListenerStatus>,
    shutdown: &'a CancellationToken,
    writer: WriterThread,
    /// The end of the last transaction that the writer was given.
    received: Lsn,
    backoff: Backoff,
    slot_patience: SlotPatience,
    /// Logins refused in a row.
    refusals: u32,
    /// What is known of tables.
    known: Vec<Arc<Relation>>,
}

impl Listener<'_> {
    async fn keep_listening(&mut self) -> Result<(), ListenError> {
        while !self.shutdown.is_cancelled() {
            let ended = match self.connect().await {
                Ok(Some(stream)) => self.receive(stream).await,
                Ok(None) => return Ok(()),
                Err(error) => Err(error),
            };
            let error = match ended {
                Ok(Ended::Shutdown | Ended::LogFailed) => return Ok(()),
                Err(error) => error,
            };
            if error.verdict(&mut self.slot_patience, &mut self.refusals) == Verdict::Fatal {
                return Err(error);
            }
            self.wait(&error).await;
        }
        Ok(())
    }

    /// `None` at shutdown.
    async fn connect(&mut self) -> Result<Option<Stream>, ListenError> {
        let start = async {
            let connection = ReplicationConnection::connect(&self.options.dsn).await?;
            primary::start(connection, self.options, &self.writer.opened(), self.received).await
        };
        let stream = tokio::select! {
            stream = start => stream?,
            () = self.shutdown.cancelled() => return Ok(None),
        };
        self.refusals = 0;
        self.slot_patience = SlotPatience::default();
        Ok(Some(stream))
    }

    async fn receive(&mut self, stream: Stream) -> Result<Ended, ListenError> {
        let mut assembler = Assembler::new(self.received, self.options.secret.clone());
        assembler.recall(std::mem::take(&mut self.known));
        let mut receiver = Receiver::new(stream, assembler, &mut self.writer, self.status);
        let ended = receiver.run(self.options, self.shutdown, &mut self.backoff).await;
        self.known = receiver.known_relations();
        self.received = receiver.leave(matches!(ended, Ok(Ended::Shutdown))).await;
        ended
    }

    async fn wait(&mut self, error: &ListenError) {
        let delay = self.backoff.next_delay();
        let attempt = self.backoff.attempts();
        tracing::warn!(%error, attempt, ?delay, "capture is interrupted and will go on where it stopped");
        self.status.send_modify(|status| {
            status.state = ListenerState::reconnecting(error, attempt, delay);
            status.progress.reconnects += 1;
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}
