//! Between the receiver, which must never block, and the writer, which does little else.
//!
//! Bounded by the memory that waits in it, not by the number of things: a change may be ten bytes or a gigabyte.

use std::{mem::size_of, sync::Arc};

use ptr_model::Lsn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::assemble::Step;

/// What the writer is to do.
#[derive(Debug)]
pub(super) enum Command {
    /// The next step of the stream.
    Step(Step),
    /// Everything that committed before this was queued.
    Covered(Lsn),
    /// The connection was lost inside a transaction; it will come again.
    Abort,
    /// Note that the log was not given what committed from one LSN until another, then answer.
    Lack { from: Lsn, until: Lsn, noted: oneshot::Sender<()> },
    /// Make all of it durable, then answer.
    Settle(oneshot::Sender<()>),
}

/// Commands, and the room that they take up until they are done.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
    _room: Room,
}

/// Room in the queue.
pub(super) type Room = OwnedSemaphorePermit;

/// The writer is gone.
#[derive(Debug)]
pub(super) struct Closed;

/// The receiver's end.
#[derive(Debug)]
pub(super) struct Queue {
    batches: mpsc::UnboundedSender<Batch>,
    room: Arc<Semaphore>,
    capacity: u32,
}

/// A queue of `bytes`, and the writer's end of it.
pub(super) fn queue(bytes: usize) -> (Queue, mpsc::UnboundedReceiver<Batch>) {
    let (batches, receiver) = mpsc::unbounded_channel();
    let capacity = u32::try_from(bytes.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    let permits = usize::try_from(capacity).unwrap_or(Semaphore::MAX_PERMITS);
    (Queue { batches, room: Arc::new(Semaphore::new(permits)), capacity }, receiver)
}

impl Queue {
    /// Waits for room. What is larger than the whole queue waits until it is empty.
    pub(super) fn room(&self, bytes: usize) -> impl Future<Output = Result<Room, Closed>> + use<> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.capacity);
        let room = Arc::clone(&self.room).acquire_many_owned(wanted);
        async move { room.await.map_err(|_| Closed) }
    }

    /// Hands commands to the writer.
    pub(super) fn send(&self, commands: Vec<Command>, room: Room) -> Result<(), Closed> {
        self.batches.send(Batch { commands, _room: room }).map_err(|_| Closed)
    }
}

/// About how much memory a step holds.
pub(super) fn weight(step: &Step) -> usize {
    const FIXED: usize = size_of::<Command>();
    match step {
        Step::Change(change) => FIXED + change.weight(),
        _ => FIXED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_waits_until_there_is_room() {
        let (queue, mut receiver) = queue(100);
        let room = queue.room(60).await.unwrap();
        queue.send(vec![Command::Abort], room).unwrap();
        let mut second = std::pin::pin!(queue.room(1000));
        assert!(futures_util::poll!(&mut second).is_pending(), "the queue took more than it holds");
        drop(receiver.recv().await);
        assert!(futures_util::poll!(&mut second).is_ready());
    }
}
