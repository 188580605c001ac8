//! How many connections are open, and whose turn it is to go when there is no room.
//!
//! Whoever opens connections and says nothing could take all the room there is. Where it is used up, the connection goes
//! that has waited longest for a request, for the one that comes. One with a request that is being answered never goes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Connections of everybody at a time: as many requests and streams as are answered, and some that are told to come
/// again. The user's own commands have as many for themselves.
const MOST: usize = 1280;

/// All connections of one socket.
pub(super) struct Connections {
    room: Arc<Semaphore>,
    queue: Arc<Mutex<Queue>>,
}

/// Those that wait for a request, the longest first.
#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
    /// Somebody found no room and nobody who waited: the next that is about to wait goes.
    wanted: bool,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self::of(most(MOST))
    }

    fn of(most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most)), queue: Arc::default() }
    }

    /// Room for one more, made where there is none.
    pub(super) async fn place(&self) -> Place {
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => {
                self.end_the_longest_waiting();
                Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        Place {
            queue: Arc::clone(&self.queue),
            state: Mutex::new(None),
            ended: CancellationToken::new(),
            _room: room,
        }
    }

    pub(super) fn end_the_longest_waiting(&self) {
        let mut queue = lock(&self.queue);
        match queue.waiting.pop_first() {
            Some((_, ended)) => ended.cancel(),
            None => queue.wanted = true,
        }
    }
}

/// A connection's place; given back when dropped.
pub(super) struct Place {
    queue: Arc<Mutex<Queue>>,
    /// Its number in the queue, where it waits.
    state: Mutex<Option<u64>>,
    ended: CancellationToken,
    _room: OwnedSemaphorePermit,
}

impl Place {
    /// It has nothing to do, from now on.
    pub(super) fn waits(&self) {
        self.works();
        let mut queue = lock(&self.queue);
        if std::mem::take(&mut queue.wanted) {
            self.ended.cancel();
            return;
        }
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, self.ended.clone());
        *lock(&self.state) = Some(number);
    }

    /// It has a request.
    pub(super) fn works(&self) {
        if let Some(number) = lock(&self.state).take() {
            lock(&self.queue).waiting.remove(&number);
        }
    }

    pub(super) fn is_working(&self) -> bool {
        lock(&self.state).is_none()
    }

    /// Its room is needed.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.works();
    }
}

/// As many as wanted, with as many file descriptors left for everything else as the connections have.
fn most(wanted: usize) -> usize {
    let needed = u64::try_from(wanted * 4).unwrap_or(u64::MAX);
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(u64::MAX).min(needed);
    let have = limit.current.unwrap_or(u64::MAX);
    let raised = have < allowed
        && setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: limit.maximum }).is_ok();
    let have = if raised { allowed } else { have };
    wanted.min(usize::try_from(have / 4).unwrap_or(wanted)).max(1)
}

/// Locks a mutex whose holders never panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_longest_goes_for_who_comes_and_who_works_stays() {
        let connections = Connections::of(3);
        let (first, second, third) =
            (connections.place().await, connections.place().await, connections.place().await);
        [&first, &second, &third].into_iter().for_each(Place::waits);
        first.works();
        let mut coming = Box::pin(connections.place());
        assert!(futures_util::poll!(&mut coming).is_pending());
        second.ended().await;
        assert!(!first.ended.is_cancelled() && !third.ended.is_cancelled());
        drop(second);
        let _fourth = coming.await;
        // Nobody waits: whoever does so next goes.
        third.works();
        let mut coming = Box::pin(connections.place());
        assert!(futures_util::poll!(&mut coming).is_pending());
        third.waits();
        assert!(third.ended.is_cancelled() && !first.ended.is_cancelled());
        drop(third);
        coming.await;
    }
}
