//! Catching up by SQL: a listener that is far behind reads its slot in large chunks before it streams.
//!
//! peek -> append, sync -> advance, chunk by chunk, and then START_REPLICATION where the last chunk ended. Nothing
//! is lost or doubled on the way, because every step asks the same question of a commit record: does it *begin*
//! before the LSN? The server hands over exactly those of a chunk (`pg_logical_slot_get_changes_guts` stops at the
//! first record that ends at or after `upto`), the stream leaves out exactly those before its start
//! (`SnapBuildXactNeedsSkip` in `DecodeCommit`), and the assembler those before the end of what the log holds.
//! The slot advances only to what is on disk, so after a crash anywhere the rest comes again.
//!
//! Each chunk makes the server decode again from the slot's restart_lsn, which lies before the oldest transaction
//! that was open. So chunks are large, and where an old writer holds restart_lsn back we stream instead. That also
//! bounds what gathers on the server: no transaction in a chunk began before restart_lsn.

use ptr_model::{Lsn, MarkerToken, Timestamp};
use ptr_postgres::{ServerError, SqlState, quote_literal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ListenError, ListenerOptions, ListenerState, ListenerStatus, gather::Gatherer, in_time, receive::Ended,
    writer::WriterThread,
};
use crate::{
    assemble::{Assembler, Memory},
    transport::{Peeked, ReplicationConnection, TransportError},
};

/// When to catch up by SQL, in bytes of WAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CatchUp {
    /// A listener that is this far behind is far behind. The stream needs about a second for as much.
    pub far: u64,
    /// How much is read at once. The server keeps the changes in it, in a temporary file, until they are read.
    pub chunk: u64,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { far: 64 << 20, chunk: 1 << 30 }
    }
}

/// Why the slot is not read by SQL any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrainError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the server warns: {0}")]
    Warned(ServerError),
    #[error("the server says of the slot {found:?}")]
    Slot { found: Vec<Option<String>> },
}

/// What a catch-up needs.
pub(super) struct Drain<'a> {
    pub(super) options: &'a ListenerOptions,
    pub(super) writer: &'a mut WriterThread,
    pub(super) status: &'a watch::Sender<ListenerStatus>,
    pub(super) shutdown: &'a CancellationToken,
    /// Everything that committed before this was given to the writer.
    pub(super) received: &'a mut Lsn,
    /// What the next connection, or chunk, needs of those before it.
    pub(super) memory: &'a mut Memory,
}

impl Drain<'_> {
    /// Reads chunk after chunk, until streaming is as fast; `None` then.
    ///
    /// # Errors
    /// [`DrainError`] where the server will not or cannot; the connection is of no more use, streaming may be.
    pub(super) async fn run(
        &mut self,
        connection: &mut ReplicationConnection,
    ) -> Result<Option<Ended>, DrainError> {
        loop {
            let next = tokio::select! {
                next = self.next(connection) => next?,
                () = self.shutdown.cancelled() => return Ok(Some(Ended::Shutdown)),
            };
            let Some((distance, upto)) = next else { return Ok(None) };
            tracing::info!(from = %distance.confirmed, %upto, "far behind: catching up by SQL");
            if let Some(ended) = self.chunk(connection, &distance, upto).await? {
                return Ok(Some(ended));
            }
        }
    }

    /// Where the slot is and where the next chunk ends, if one pays; the slot is at what is durable then.
    async fn next(
        &self,
        connection: &mut ReplicationConnection,
    ) -> Result<Option<(Distance, Lsn)>, DrainError> {
        let slot = &self.options.slot;
        let measured = in_time(&self.options.dsn, Distance::measure(connection, slot));
        let mut distance = measured.await?;
        let Some(upto) = distance.next_chunk(self.options.catch_up) else { return Ok(None) };
        connection.prepare_to_peek().await?;
        let durable = self.writer.durable.borrow().lsn;
        if durable > distance.confirmed {
            connection.advance(slot, durable).await?;
            distance.confirmed = durable;
        }
        Ok(Some((distance, upto)))
    }

    /// Gives the writer what committed before `upto`, and waits until it is durable.
    async fn chunk(
        &mut self,
        connection: &mut ReplicationConnection,
        distance: &Distance,
        upto: Lsn,
    ) -> Result<Option<Ended>, DrainError> {
        let (from, target) = (*self.received, distance.flushed);
        self.status.send_modify(|status| status.state = ListenerState::CatchingUp { from, target });
        // The server announces every table again with each chunk, as on a new connection.
        let mut assembler = Assembler::new(from, self.options.secret.clone());
        assembler.recall(std::mem::take(self.memory));
        // No marker is awaited here; that of the stream comes later.
        let mut gatherer = Gatherer::new(assembler, MarkerToken::random());
        let read = tokio::select! {
            read = self.read(connection, distance, upto, &mut gatherer) => read,
            () = self.shutdown.cancelled() => Ok(Some(Ended::Shutdown)),
        };
        let is_complete = matches!(read, Ok(None));
        if is_complete {
            gatherer.cover(upto);
        }
        let settled = gatherer.settle(&self.writer.queue).await;
        *self.memory = gatherer.assembler.memory();
        *self.received = gatherer.assembler.log_end().max(if is_complete { upto } else { from });
        let ended = read?;
        if ended.is_none() && !settled_durably(settled).await {
            return Ok(Some(Ended::LogFailed));
        }
        self.publish(distance, &gatherer);
        let ignored = gatherer.assembler.ignored().count;
        self.status.send_modify(|status| status.progress.ignored_messages += ignored);
        Ok(ended)
    }

    async fn read(
        &self,
        connection: &mut ReplicationConnection,
        distance: &Distance,
        upto: Lsn,
        gatherer: &mut Gatherer,
    ) -> Result<Option<Ended>, DrainError> {
        let ListenerOptions { dsn, slot, publication, .. } = self.options;
        let mut peek = connection.peek(slot, publication, upto).await?;
        loop {
            match peek.next().await? {
                Peeked::Message(payload) => gatherer.take(payload, distance.asked_at, dsn).await?,
                // A stream says what it means.
                Peeked::Warning(warning)
                    if warning.sqlstate == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE =>
                {
                    return Err(DrainError::Warned(warning));
                }
                Peeked::Warning(warning) => tracing::warn!(%warning, "the server warns while it decodes"),
                Peeked::End => return Ok(None),
            }
            if gatherer.is_full() {
                let room = self.writer.queue.room(gatherer.bytes).await;
                if gatherer.hand_on(&self.writer.queue, room).is_err() {
                    return Ok(Some(Ended::LogFailed));
                }
                self.publish(distance, gatherer);
            }
        }
    }

    fn publish(&self, distance: &Distance, gatherer: &Gatherer) {
        let durable = *self.writer.durable.borrow();
        self.status.send_if_modified(|status| {
            let news = status.progress.durable_lsn != durable.lsn;
            let progress = &mut status.progress;
            progress.received_lsn = gatherer.assembler.log_end();
            progress.confirmed_lsn = distance.confirmed;
            progress.server_wal_end = distance.flushed;
            durable.tell(progress);
            news
        });
    }
}

async fn settled_durably(settled: Result<tokio::sync::oneshot::Receiver<()>, super::queue::Closed>) -> bool {
    match settled {
        Ok(settled) => settled.await.is_ok(),
        Err(_) => false,
    }
}

/// How far the slot is behind its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Distance {
    /// How far the server's WAL is flushed.
    flushed: Lsn,
    /// The slot's commits before this were confirmed.
    confirmed: Lsn,
    /// Where the server begins to decode.
    restart: Lsn,
    /// The server's clock.
    asked_at: Timestamp,
}

impl Distance {
    async fn measure(connection: &mut ReplicationConnection, slot: &str) -> Result<Self, DrainError> {
        let sql = format!(
            "SELECT pg_catalog.pg_current_wal_flush_lsn(), confirmed_flush_lsn, restart_lsn, \
             (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint \
             FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            quote_literal(slot)
        );
        let found = connection.query(&sql).await?.into_iter().next().unwrap_or_default();
        let field = |at: usize| found.get(at).and_then(Option::as_deref);
        let distance = || {
            Some(Self {
                flushed: field(0)?.parse().ok()?,
                confirmed: field(1)?.parse().ok()?,
                restart: field(2)?.parse().ok()?,
                asked_at: Timestamp(field(3)?.parse().ok()?),
            })
        };
        distance().ok_or(DrainError::Slot { found })
    }

    /// Where the next chunk ends, if one pays. Behind `confirmed` the server decodes for nothing: with every chunk,
    /// and once more for the stream. That has to be little against what lies ahead, and against a chunk.
    fn next_chunk(&self, catch_up: CatchUp) -> Option<Lsn> {
        let ahead = self.flushed.0.saturating_sub(self.confirmed.0);
        let behind = self.confirmed.0.saturating_sub(self.restart.0);
        let pays = ahead >= catch_up.far && behind <= ahead && behind <= catch_up.chunk.saturating_mul(2);
        pays.then(|| Lsn(self.confirmed.0 + ahead.min(catch_up.chunk)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CatchUp = CatchUp { far: 100, chunk: 1000 };

    fn chunk(restart: u64, confirmed: u64, flushed: u64) -> Option<u64> {
        let (restart, confirmed, flushed) = (Lsn(restart), Lsn(confirmed), Lsn(flushed));
        let distance = Distance { flushed, confirmed, restart, asked_at: Timestamp(0) };
        distance.next_chunk(LIMITS).map(|lsn| lsn.0)
    }

    #[test]
    fn a_slot_far_behind_is_read_in_chunks_to_where_the_wal_is_flushed() {
        assert_eq!(chunk(0, 50, 149), None, "not far behind");
        assert_eq!(chunk(0, 50, 150), Some(150));
        assert_eq!(chunk(0, 50, 5050), Some(1050));
        assert_eq!(chunk(50, 1050, 5050), Some(2050), "the chunk before is decoded again");
    }

    #[test]
    fn a_slot_that_an_old_writer_holds_back_is_streamed() {
        assert_eq!(chunk(0, 1001, 2000), None, "as much behind as ahead");
        assert_eq!(chunk(0, 2001, 90_000), None, "more than two chunks behind");
    }
}
