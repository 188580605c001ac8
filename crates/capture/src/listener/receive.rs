//! Reads one connection until it ends.
//!
//! One loop with four things to wait for: the server, room in the queue, the disk, and the clock. It never waits
//! for the writer alone, so the server hears from us in time whatever the writer does; when the queue is full it
//! stops reading, and the server waits in turn.

use std::time::Duration;

use bytes::Bytes;
use ptr_log::crash_point;
use ptr_model::{Lsn, MarkerToken, Timestamp};
use ptr_postgres::SqlState;
use tokio::{
    sync::watch,
    task::JoinError,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    ListenError, ListenerOptions, ListenerState, ListenerStatus,
    backoff::Backoff,
    error::{MarkerError, SetupError, while_streaming},
    gather::Gatherer,
    primary::{Stream, send_marker},
    state::now,
    writer::WriterThread,
};
use crate::{
    assemble::{Assembler, Memory},
    transport::{ReplicationStream, StandbyStatus, StreamMessage, TransportError},
};

/// The server writes each change by itself, and whoever waits for it is woken by each, at the expense of both. So many
/// messages in a breath are a flood, of which a read should bring many: about 2,000 small transactions a second.
const FLOOD: u32 = 12;
/// How long to let a flood gather in the socket's buffer.
const BREATH: Duration = Duration::from_millis(1);
/// A status that nobody waits for goes out, and state is published, this often at most.
const PACE: Duration = Duration::from_millis(200);
/// How often the patience with a silent server is doubled at most: an hour then.
const LONGEST_SILENCE: u32 = 6;
/// How long the end of a connection may wait for the disk before the server is left without a last word.
const FAREWELL: Duration = Duration::from_secs(10);

/// Why a connection ended in good order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// We were asked to.
    Shutdown,
    /// The writer is gone, and knows why.
    LogFailed,
}

/// Reads one connection.
pub(super) struct Receiver<'a> {
    stream: ReplicationStream,
    gatherer: Gatherer,
    writer: &'a mut WriterThread,
    status: &'a watch::Sender<ListenerStatus>,
    status_interval: Duration,
    /// After so long without a word the connection is taken for dead.
    silence: Duration,
    from: Lsn,
    target: Lsn,
    /// How far the server had decoded when nothing was left to send.
    server_wal_end: Lsn,
    /// Between transactions everything before this was received; not queued yet.
    coverable: Option<Lsn>,
    confirmed: Lsn,
    status_sent: Instant,
    /// The server asked, and has not heard yet that what it asked about is on disk.
    answer_owed: bool,
    /// The server asked, and has not heard from us since.
    answer_now: bool,
    /// How much of what was covered is queued.
    covered: Lsn,
    /// Messages not believed on connections before.
    ignored_before: u64,
    /// A position after our marker, once it was sent. Its round trip proves that the stream carries something.
    marker_before: Option<Lsn>,
    /// When we last looked, and the messages since.
    looked: (Instant, u32),
    /// Whether anything came since it was last looked whether anything does, and when something last had.
    heard: (bool, Instant),
}

impl<'a> Receiver<'a> {
    pub(super) fn new(
        stream: Stream,
        assembler: Assembler,
        writer: &'a mut WriterThread,
        status: &'a watch::Sender<ListenerStatus>,
    ) -> Self {
        let confirmed = writer.durable.borrow_and_update().lsn;
        Self {
            stream: stream.stream,
            gatherer: Gatherer::new(assembler, MarkerToken::random()),
            writer,
            status,
            status_interval: stream.primary.status_interval,
            silence: stream.primary.silence,
            from: stream.from,
            target: stream.primary.flushed,
            server_wal_end: Lsn::INVALID,
            coverable: None,
            confirmed,
            status_sent: Instant::now(),
            answer_owed: false,
            answer_now: false,
            covered: Lsn::INVALID,
            ignored_before: status.borrow().progress.ignored_messages,
            marker_before: None,
            looked: (Instant::now(), 0),
            heard: (true, Instant::now()),
        }
    }

    /// Reads until the connection breaks, the log fails or `shutdown`.
    pub(super) async fn run(
        &mut self,
        options: &ListenerOptions,
        shutdown: &CancellationToken,
        backoff: &mut Backoff,
    ) -> Result<Ended, ListenError> {
        let (from, target) = (self.from, self.target);
        self.status.send_modify(|status| status.state = ListenerState::CatchingUp { from, target });
        self.send_status().await?;
        let mut marker =
            AbortOnDropHandle::new(tokio::spawn(send_marker(options.dsn.clone(), self.gatherer.awaited)));
        let mut pace = ticker();
        loop {
            self.breathe().await;
            self.take_buffered(options).await?;
            if std::mem::take(&mut self.answer_now) {
                self.send_status().await?;
            }
            if self.gatherer.marker_seen {
                backoff.reset();
            }
            let room = self.writer.queue.room(self.gatherer.bytes);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
                changed = self.writer.durable.changed() => match changed {
                    Ok(()) => self.became_durable().await?,
                    Err(_) => return Ok(Ended::LogFailed),
                },
                _ = pace.tick() => {
                    self.notice_silence(backoff.attempts()).await?;
                    self.keep_pace().await?;
                },
                sent = &mut marker, if self.marker_before.is_none() => self.marker_sent(sent)?,
                room = room, if !self.gatherer.is_empty() => {
                    if self.gatherer.hand_on(&self.writer.queue, room).is_err() {
                        return Ok(Ended::LogFailed);
                    }
                },
                message = self.stream.receive(), if !self.gatherer.is_full() => {
                    let message = message.map_err(|error| self.meaning(error, options))?;
                    self.take(message, options).await?;
                },
            }
        }
    }

    /// Waits a moment when messages come faster than it pays to read one at a time.
    async fn breathe(&mut self) {
        let (since, messages) = self.looked;
        let elapsed = since.elapsed();
        if messages < FLOOD && elapsed < BREATH {
            return;
        }
        if messages >= FLOOD && elapsed < BREATH * 2 {
            tokio::time::sleep(BREATH).await;
        }
        self.looked = (Instant::now(), 0);
    }

    /// Takes what is in memory already, as far as the batch has room.
    async fn take_buffered(&mut self, options: &ListenerOptions) -> Result<(), ListenError> {
        while !self.gatherer.is_full() {
            match self.stream.buffered().map_err(|error| self.meaning(error, options))? {
                Some(message) => self.take(message, options).await?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn take(&mut self, message: StreamMessage, options: &ListenerOptions) -> Result<(), ListenError> {
        self.heard.0 = true;
        match message {
            StreamMessage::Data { wal_end, sent_at, payload } => {
                self.looked.1 += 1;
                self.server_wal_end = self.server_wal_end.max(wal_end);
                self.data(payload, sent_at, options).await
            }
            StreamMessage::Keepalive { wal_end, reply_requested } => {
                self.keepalive(wal_end, reply_requested);
                self.check_proof(options)
            }
            StreamMessage::Warning(warning)
                if warning.sqlstate == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE =>
            {
                Err(SetupError::PublicationMissing { publication: options.publication.clone() }.into())
            }
            StreamMessage::Warning(warning) => {
                tracing::warn!(%warning, "the server warns while streaming");
                Ok(())
            }
            StreamMessage::End => Err(TransportError::Closed.into()),
        }
    }

    async fn data(
        &mut self,
        payload: Bytes,
        sent_at: Timestamp,
        options: &ListenerOptions,
    ) -> Result<(), ListenError> {
        // What was covered before may not be said after what begins here.
        self.cover();
        self.gatherer.take(payload, sent_at, &options.dsn).await
    }

    fn keepalive(&mut self, wal_end: Lsn, reply_requested: bool) {
        self.server_wal_end = self.server_wal_end.max(wal_end);
        if self.gatherer.assembler.is_between_transactions() {
            self.coverable = Some(wal_end);
        }
        if reply_requested {
            self.cover();
            self.answer_now = true;
            self.answer_owed = true;
        }
    }

    /// Queues what the last keepalive covered.
    fn cover(&mut self) {
        if let Some(lsn) = self.coverable.take().filter(|lsn| *lsn > self.covered) {
            self.covered = lsn;
            self.gatherer.cover(lsn);
        }
    }

    /// The server has decoded past the marker, so the marker must have come.
    fn check_proof(&self, options: &ListenerOptions) -> Result<(), ListenError> {
        let due = self.marker_before.is_some_and(|lsn| self.server_wal_end >= lsn);
        if due && !self.gatherer.marker_seen {
            return Err(SetupError::MarkerLost { slot: options.slot.clone() }.into());
        }
        Ok(())
    }

    fn marker_sent(&mut self, sent: Result<Result<Lsn, MarkerError>, JoinError>) -> Result<(), ListenError> {
        match sent {
            Ok(Ok(lsn)) => self.marker_before = Some(lsn),
            Ok(Err(error)) => return Err(ListenError::Marker(error)),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        Ok(())
    }

    async fn became_durable(&mut self) -> Result<(), ListenError> {
        let durable = self.writer.durable.borrow_and_update().lsn;
        let answered = self.answer_owed && durable >= self.covered;
        if answered {
            self.answer_owed = false;
            self.send_status().await?;
        }
        Ok(())
    }

    /// Says what can wait: what was covered, how far we are, and what we are doing.
    async fn keep_pace(&mut self) -> Result<(), ListenError> {
        self.cover();
        let news = self.writer.durable.borrow().lsn > self.confirmed;
        if news || self.status_sent.elapsed() >= self.status_interval {
            self.send_status().await?;
        }
        self.publish();
        Ok(())
    }

    async fn send_status(&mut self) -> Result<(), TransportError> {
        self.tell_server(false).await
    }

    async fn tell_server(&mut self, asks: bool) -> Result<(), TransportError> {
        self.confirmed = self.writer.durable.borrow().lsn;
        self.status_sent = Instant::now();
        let written = self.gatherer.assembler.log_end().max(self.confirmed);
        crash_point("confirm");
        self.stream.send_status(StandbyStatus { written, flushed: self.confirmed, asks }, now()).await?;
        crash_point("confirmed");
        Ok(())
    }

    /// A connection that is half-open never ends by itself: nothing comes, and what is sent vanishes. A server that has
    /// nothing to say is asked, and has to answer. It may be busy with a large transaction that is not for us, and then
    /// answers late; so each time in a row that we gave up, it gets twice as long.
    async fn notice_silence(&mut self, gave_up: u32) -> Result<(), TransportError> {
        // What is not read cannot be heard.
        if std::mem::take(&mut self.heard.0) || self.gatherer.is_full() {
            self.heard.1 = Instant::now();
            return Ok(());
        }
        let silent = self.heard.1.elapsed();
        if silent >= self.silence * (1 << gave_up.min(LONGEST_SILENCE)) {
            return Err(TransportError::Silent { seconds: silent.as_secs() });
        }
        if silent >= self.status_interval && self.status_sent.elapsed() >= self.status_interval {
            self.tell_server(true).await?;
        }
        Ok(())
    }

    fn publish(&self) {
        let durable = *self.writer.durable.borrow();
        self.status.send_if_modified(|status| {
            let before = status.clone();
            if self.gatherer.marker_seen {
                status.state = ListenerState::Streaming;
            }
            let progress = &mut status.progress;
            progress.received_lsn = self.gatherer.assembler.log_end();
            progress.confirmed_lsn = self.confirmed;
            progress.server_wal_end = self.server_wal_end;
            durable.tell(progress);
            progress.ignored_messages = self.ignored_before + self.gatherer.assembler.ignored().count;
            *status != before
        });
    }

    fn meaning(&self, error: TransportError, options: &ListenerOptions) -> ListenError {
        while_streaming(error, &options.publication, self.gatherer.assembler.log_end())
    }

    /// Hands on what is left and takes back a transaction that did not end; after a shutdown also has all of it
    /// written, confirms it and says goodbye. Answers with the end of the last transaction received, and with what the
    /// next connection needs.
    pub(super) async fn leave(mut self, shutdown: bool) -> (Lsn, Memory) {
        let settled = self.gatherer.settle(&self.writer.queue).await;
        let memory = self.gatherer.assembler.memory();
        let log_end = self.gatherer.assembler.log_end();
        let Ok(is_settled) = settled else { return (log_end, memory) };
        if shutdown && tokio::time::timeout(FAREWELL, is_settled).await.is_ok() {
            // The server may be gone already; then it hears it at the next start.
            let _ = self.send_status().await;
            self.publish();
            let _ = self.stream.close().await;
        }
        (log_end, memory)
    }
}

fn ticker() -> Interval {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}
