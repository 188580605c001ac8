//! Messages of the server to commands for the writer, gathered until they are worth handing on.

use bytes::Bytes;
use ptr_model::{Lsn, MarkerToken, Timestamp};
use ptr_postgres::Dsn;

use super::{
    ListenError,
    queue::{Closed, Command, Queue, Room, weight},
};
use crate::{
    assemble::{Assembler, Step},
    decode::{PgOutput, decode},
    undescribed::{LookUpError, look_up},
};

/// Changes are handed on when this much has gathered, or nothing more is there to read.
const BATCH_BYTES: usize = 256 * 1024;

/// What one connection brought, on its way to the writer.
#[derive(Debug)]
pub(super) struct Gatherer {
    pub(super) assembler: Assembler,
    /// The marker to look out for.
    pub(super) awaited: MarkerToken,
    pub(super) marker_seen: bool,
    steps: Vec<Step>,
    batch: Vec<Command>,
    /// About the memory that `batch` holds.
    pub(super) bytes: usize,
}

impl Gatherer {
    pub(super) fn new(assembler: Assembler, awaited: MarkerToken) -> Self {
        let (steps, batch) = (Vec::new(), Vec::new());
        Self { assembler, awaited, marker_seen: false, steps, batch, bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES
    }

    /// Takes one message of the output plugin. Dropped halfway, it has taken nothing.
    pub(super) async fn take(
        &mut self,
        payload: Bytes,
        sent_at: Timestamp,
        dsn: &Dsn,
    ) -> Result<(), ListenError> {
        let after = self.assembler.log_end();
        let message = decode(payload).map_err(|error| ListenError::Decode { after, error })?;
        describe(&mut self.assembler, &message, dsn, &mut self.steps).await?;
        self.assembler
            .take(message, sent_at, &mut self.steps)
            .map_err(|error| ListenError::Assemble { after, error })?;
        for step in self.steps.drain(..) {
            self.marker_seen |= matches!(step, Step::Marker { token, .. } if token == self.awaited);
            self.bytes += weight(&step);
            self.batch.push(Command::Step(step));
        }
        Ok(())
    }

    pub(super) fn cover(&mut self, lsn: Lsn) {
        self.bytes += 1;
        self.batch.push(Command::Covered(lsn));
    }

    /// Hands on what has gathered, in room for it.
    pub(super) fn hand_on(&mut self, queue: &Queue, room: Result<Room, Closed>) -> Result<(), Closed> {
        self.bytes = 0;
        // The next batch is likely as long: growing it step by step would copy it as often.
        let next = Vec::with_capacity(self.batch.len());
        queue.send(std::mem::replace(&mut self.batch, next), room?)
    }

    /// Hands on what is left, takes back a transaction that did not end, and gives word when all of it is durable.
    pub(super) async fn settle(
        &mut self,
        queue: &Queue,
    ) -> Result<tokio::sync::oneshot::Receiver<()>, Closed> {
        if self.assembler.has_begun() {
            self.batch.push(Command::Abort);
        }
        let (settled, is_settled) = tokio::sync::oneshot::channel();
        self.batch.push(Command::Settle(settled));
        let room = queue.room(self.bytes).await;
        self.hand_on(queue, room)?;
        Ok(is_settled)
    }
}

/// Asks about a table that no event told of, before its rows go to the log.
async fn describe(
    assembler: &mut Assembler,
    message: &PgOutput,
    dsn: &Dsn,
    steps: &mut Vec<Step>,
) -> Result<(), ListenError> {
    let Some(asked) = assembler.undescribed(message) else { return Ok(()) };
    let table = format!("{}.{}", asked.relation.schema, asked.relation.name);
    match look_up(dsn, &asked).await {
        Ok(Some(made)) => assembler.describe(made, steps),
        Ok(None) => tracing::debug!(table, "an announced table keeps the replica identity that it has"),
        // The transaction is not in the log yet, so that the next connection asks again.
        Err(error @ LookUpError::Connect(_)) => return Err(ListenError::LookUp { table, error }),
        Err(error) => tracing::warn!(%error, table, "the primary does not say how a table came about"),
    }
    Ok(())
}
