//! Receives the stream, has it written to the log, and confirms what is on disk.
//!
//! Last step of capture. [`listen`] keeps a connection and begins again after it breaks; `receive` reads one
//! connection and hands [`Step`]s on through the `queue`, which is bounded in bytes; `drain` does so before, by SQL,
//! where the listener is far behind; `writer` is a thread that owns the log: it appends what is queued, syncs once
//! for all of it, and publishes how far the log is durable.
//!
//! Invariants: only what is on disk is confirmed; the log gets whole transactions in commit order, each once; the
//! status goes out on time however slow the writer is; memory does not depend on the size of transactions.

mod backoff;
mod drain;
mod error;
mod gather;
mod log;
mod patience;
mod primary;
mod queue;
mod receive;
mod state;
mod writer;

use std::{path::PathBuf, sync::Arc, time::Instant};

use ptr_log::LogError;
use ptr_model::{Lsn, Relation};
use ptr_postgres::Dsn;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    assemble::{Assembler, Memory},
    ddl::Secret,
    transport::{ReplicationConnection, TransportError},
};
use backoff::Backoff;
pub use drain::CatchUp;
use drain::{Drain, DrainError};
use error::Verdict;
pub use error::{ListenError, MarkerError, SetupError};
pub use log::{Covered, TransactionLog};
use patience::Patience;
use primary::{Ahead, Primary, Stream};
use queue::Closed;
use receive::{Ended, Receiver};
pub use state::{ListenerProgress, ListenerState, ListenerStatus};
use writer::WriterThread;

#[cfg(doc)]
use crate::assemble::Step;

/// Bytes of changes that may wait between the receiver and the writer.
pub const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// How often `connect_timeout` of the DSN it may take to log in and ask what is asked before a stream.
const BEGINNING: u32 = 3;

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
    /// When to catch up by SQL; [`CatchUp::default`] unless a test says otherwise.
    pub catch_up: CatchUp,
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
            Err(error) => ListenerState::Failed { error: error.to_string(), again: false },
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
    if let Some(lsn) = writer.opened().lacks_until {
        status.send_modify(|status| status.progress.slot_ahead = Some(lsn));
    }
    let mut listener = Listener {
        options,
        status,
        shutdown,
        received: writer.opened().head,
        writer,
        drains: true,
        backoff: Backoff::default(),
        patience: Patience::default(),
        memory: Memory { relations: options.known.clone(), ..Memory::default() },
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
    /// Everything that committed before this was given to the writer.
    received: Lsn,
    /// Whether SQL may be tried where it is faster; no more once it failed.
    drains: bool,
    backoff: Backoff,
    /// How long what may pass by itself has lasted.
    patience: Patience,
    /// What the next connection needs of those before it.
    memory: Memory,
}

impl Listener<'_> {
    async fn keep_listening(&mut self) -> Result<(), ListenError> {
        while !self.shutdown.is_cancelled() {
            let error = match self.listen_once().await {
                Ok(Ended::Shutdown | Ended::LogFailed) => return Ok(()),
                Err(error) => error,
            };
            if error.verdict(&mut self.patience, Instant::now()) == Verdict::Fatal {
                return Err(error);
            }
            self.wait(&error).await;
        }
        Ok(())
    }

    /// Connects, catches up by SQL where that pays, and streams.
    async fn listen_once(&mut self) -> Result<Ended, ListenError> {
        loop {
            let Some((mut connection, primary)) = self.connect().await? else { return Ok(Ended::Shutdown) };
            if let Some(ahead) = primary.slot_ahead
                && self.tell_ahead(ahead).await.is_err()
            {
                return Ok(Ended::LogFailed);
            }
            match self.drain(&mut connection).await {
                Ok(None) => {}
                Ok(Some(ended)) => return Ok(ended),
                Err(error) => {
                    tracing::warn!(%error, "catching up by SQL failed; capture goes on by streaming");
                    self.drains = false;
                    continue;
                }
            }
            let start = primary::start(connection, self.options, primary, self.received);
            let stream = tokio::select! {
                stream = in_time(&self.options.dsn, start) => stream?,
                () = self.shutdown.cancelled() => return Ok(Ended::Shutdown),
            };
            self.patience.streams();
            return self.receive(stream).await;
        }
    }

    /// `None` at shutdown.
    async fn connect(&self) -> Result<Option<(ReplicationConnection, Primary)>, ListenError> {
        let connect = async {
            let mut connection = ReplicationConnection::connect(&self.options.dsn).await?;
            let log = self.writer.opened();
            let known = self.received.max(self.writer.durable.borrow().lsn);
            let primary = primary::check(&mut connection, self.options, &log, known).await?;
            Ok(Some((connection, primary)))
        };
        tokio::select! {
            connected = in_time(&self.options.dsn, connect) => connected,
            () = self.shutdown.cancelled() => Ok(None),
        }
    }

    /// Tells that the log lacks something, and has it noted before more is received: then nothing would show it.
    async fn tell_ahead(&self, ahead: Ahead) -> Result<(), Closed> {
        self.status.send_modify(|status| status.progress.slot_ahead = Some(ahead.slot));
        match ahead.is_certain {
            true => self.writer.note_lack(ahead.received, ahead.slot).await,
            false => Ok(()),
        }
    }

    async fn drain(&mut self, connection: &mut ReplicationConnection) -> Result<Option<Ended>, DrainError> {
        if !self.drains {
            return Ok(None);
        }
        let Self { options, status, shutdown, writer, received, memory, .. } = self;
        Drain { options, writer, status, shutdown, received, memory }.run(connection).await
    }

    async fn receive(&mut self, stream: Stream) -> Result<Ended, ListenError> {
        let mut assembler = Assembler::new(self.received, self.options.secret.clone());
        assembler.recall(std::mem::take(&mut self.memory));
        let mut receiver = Receiver::new(stream, assembler, &mut self.writer, self.status);
        let ended = receiver.run(self.options, self.shutdown, &mut self.backoff).await;
        (self.received, self.memory) = receiver.leave(matches!(ended, Ok(Ended::Shutdown))).await;
        ended
    }

    async fn wait(&mut self, error: &ListenError) {
        let delay = self.backoff.next_delay().max(error.shortest_pause());
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

/// The questions before a stream are quick ones. Where no answer comes from any host, the connection is dead.
async fn in_time<T, E: From<TransportError>>(
    dsn: &Dsn,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let hosts = u32::try_from(dsn.hosts().len()).unwrap_or(u32::MAX).saturating_mul(BEGINNING);
    let limit =
        dsn.connect_timeout().unwrap_or(ptr_postgres::dsn::DEFAULT_CONNECT_TIMEOUT).saturating_mul(hosts);
    let answered = tokio::time::timeout(limit, asked).await;
    answered.unwrap_or_else(|_| Err(TransportError::Silent { seconds: limit.as_secs() }.into()))
}
