//! Removing the oldest part of a log: everything before a position at which a segment begins.
//!
//! `beginning.json` durable -> the index begins there -> the segments before it are removed. Each step can be made
//! again; a crash leaves the old beginning, or the new one with something superfluous before it, which recovery and the
//! next removal take away. A writer that opens the log meanwhile does the same, so each step may be done already when its
//! turn comes. Whoever replays the log must be able to begin at the new position before this is called.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use ptr_model::{Position, Timestamp};

use super::Log;
use crate::{
    Beginning, LogError,
    beginning::start,
    disk::Disk,
    identity::{Layout, LogIdentity},
    index::{CHUNK, Index, IndexRow},
    lock::{self, Purpose},
    recovery::index_row,
    rehearsal::crash_point,
    segment::{self, Depth, Scanner, SegmentFile},
};

/// Chunks that the index forgets at a time.
const STEP: u64 = 16;

/// How long the index is left to others between two steps.
const PAUSE: Duration = Duration::from_millis(20);

/// After so much work it is left to them for longer: who waits for it looks every 100 ms, takes no turn (SQLite's busy
/// handler), and gives up after ten seconds.
const WORK: Duration = Duration::from_millis(500);
const LONG_PAUSE: Duration = Duration::from_millis(150);

impl Log {
    /// Where the log begins since its oldest part was removed; `None` where it has all from its creation on.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn beginning(&self) -> Result<Option<Beginning>, LogError> {
        self.inner.index.with(|index| index.beginning())
    }

    /// The position at which each segment begins, in order, with its bytes on disk.
    ///
    /// # Errors
    /// Where the index or the folder cannot be read.
    pub fn segments(&self) -> Result<Vec<(Position, u64)>, LogError> {
        let (disk, directory) = (&self.inner.disk, self.inner.layout.segments());
        let mut found = Vec::new();
        for first_ordinal in self.segment_ordinals()? {
            let path = segment::segment_path(&directory, first_ordinal);
            let file = disk.open(&path).map_err(LogError::file("open", &path))?;
            let bytes = file.length().map_err(LogError::file("read the length of", &path))?;
            found.push((self.position_at(first_ordinal)?, bytes));
        }
        Ok(found)
    }

    /// When the segment that begins with a transaction was begun, by this machine's clock: everything before it was
    /// received by then.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn segment_begun(&self, first_ordinal: u64) -> Result<Timestamp, LogError> {
        let directory = self.inner.layout.segments();
        let segment = SegmentFile::open(&self.inner.disk, &directory, first_ordinal, &self.inner.identity)?;
        Ok(segment.header().created)
    }

    /// The first ordinals of the segments that count.
    pub(super) fn segment_ordinals(&self) -> Result<Vec<u64>, LogError> {
        let first = self.inner.index.with(|index| index.start())?.ordinal;
        let mut found = segment::list(&self.inner.disk, &self.inner.layout.segments())?;
        found.retain(|ordinal| *ordinal >= first);
        Ok(found)
    }

    /// Removes everything before a position at which a segment begins. May be called again for the same position,
    /// after a crash or not. Returns the bytes of the segments that are gone.
    ///
    /// # Errors
    /// [`LogError::Refused`] where no segment begins there, or where the log begins later already.
    pub fn begin_at(&self, position: Position, now: Timestamp) -> Result<u64, LogError> {
        let (layout, identity, disk) = (&self.inner.layout, &self.inner.identity, &self.inner.disk);
        // Nobody recovers the log meanwhile, unless somebody writes it: a writer adds, or is opened again.
        let _lock = lock::acquire(layout, Purpose::Recovering)?;
        let known = layout.read_beginning(disk)?;
        let beginning = match known {
            Some(known) if known.position == position => known,
            _ => self.new_beginning(position, start(identity, known.as_ref()), now)?,
        };
        // Before anything is changed: what cannot be read is told, and nothing is removed.
        edge(layout, identity, disk, &beginning, self.head()?.ordinal)?;
        crash_point("trim");
        // Also where it is there already: it may be in memory only, if making it durable failed.
        let index = Index::attach(&layout.index(), identity)?;
        layout.write_beginning(disk, &beginning)?;
        // Held, so that whoever recovers the log sees the beginning before or this one; nothing in it was changed.
        drop(index);
        crash_point("trim-begun");
        self.forget_in_steps(&beginning)?;
        self.begin_index_at(&beginning)?;
        crash_point("trim-indexed");
        self.forget_segments_before(position.ordinal);
        let removed = remove_before(disk, layout, position.ordinal)?;
        crash_point("trimmed");
        Ok(removed)
    }

    /// Has the index forget whole chunks, some at a time: a writer waits for ten seconds and no longer. After each step
    /// the index is sound, and begins later than before.
    fn forget_in_steps(&self, to: &Beginning) -> Result<(), LogError> {
        let (layout, identity) = (&self.inner.layout, &self.inner.identity);
        let mut next = (self.creation().ordinal / CHUNK + STEP) * CHUNK;
        let mut work = Duration::ZERO;
        while next < to.position.ordinal {
            let last = self.transaction(next - 1)?;
            let position = self.inner.index.with(|index| index.position_at(next))?;
            // Whoever opened the log to write it has made the last step.
            let (Some(last), Some(position)) = (last, position) else { break };
            let step = Beginning { position, committed_at: last.header.commit_time, ..*to };
            let mut index = Index::attach(&layout.index(), identity)?;
            let held = Instant::now();
            index.begin_at(&step, identity, &[])?;
            index.commit_as_is()?;
            work += held.elapsed();
            // Who waits gets its turn.
            std::thread::sleep(if work < WORK { PAUSE } else { LONG_PAUSE });
            if work >= WORK {
                work = Duration::ZERO;
            }
            next += STEP * CHUNK;
        }
        Ok(())
    }

    /// The last step: into the midst of a chunk, which is read before the index is held.
    fn begin_index_at(&self, to: &Beginning) -> Result<(), LogError> {
        let (layout, identity, disk) = (&self.inner.layout, &self.inner.identity, &self.inner.disk);
        let end = to.position.ordinal.next_multiple_of(CHUNK);
        loop {
            let head = self.head()?.ordinal;
            let transactions = edge(layout, identity, disk, to, head)?;
            let index = Index::attach(&layout.index(), identity)?;
            // Transactions that came meanwhile, and that the chunk has too: once more. A chunk is full soon.
            if index.head().ordinal.min(end) == head.min(end) {
                return with_edge(index, identity, to, transactions)?.commit_as_is();
            }
        }
    }

    fn new_beginning(
        &self,
        position: Position,
        begins: Position,
        now: Timestamp,
    ) -> Result<Beginning, LogError> {
        let refuse = |problem: &str| {
            Err(LogError::Refused(format!(
                "the log cannot begin at {position}: {problem}; it begins at {begins}"
            )))
        };
        if position <= begins {
            return refuse("that is not after its beginning");
        }
        if !self.segment_ordinals()?.contains(&position.ordinal) || !self.contains(position)? {
            return refuse("no segment begins there");
        }
        let Some(last) = self.transaction(position.ordinal - 1)? else {
            return refuse("the index lacks the transaction before it");
        };
        Ok(Beginning { position, committed_at: last.header.commit_time, removed_at: now })
    }
}

/// Has the index begin where the log does; it is committed by the caller.
pub(crate) fn move_index(
    index: Index,
    layout: &Layout,
    identity: &LogIdentity,
    disk: &Arc<dyn Disk>,
    beginning: &Beginning,
) -> Result<Index, LogError> {
    let upto = index.head().ordinal;
    let transactions = edge(layout, identity, disk, beginning, upto)?;
    with_edge(index, identity, beginning, transactions)
}

fn with_edge(
    mut index: Index,
    identity: &LogIdentity,
    beginning: &Beginning,
    transactions: Edge,
) -> Result<Index, LogError> {
    let rows: Vec<IndexRow> = transactions
        .into_iter()
        .map(|(segment, transaction)| index_row(&mut index, segment, transaction))
        .collect();
    index.begin_at(beginning, identity, &rows)?;
    Ok(index)
}

/// Transactions, and the segment that each is in.
type Edge = Vec<(u64, segment::ScannedTransaction)>;

/// The transactions from the beginning up to the end of its chunk, as the segments have them, with those: what the
/// index adds up by chunks has to be added up again for the first one.
fn edge(
    layout: &Layout,
    identity: &LogIdentity,
    disk: &Arc<dyn Disk>,
    beginning: &Beginning,
    head: u64,
) -> Result<Edge, LogError> {
    let first = beginning.position.ordinal;
    let end = first.next_multiple_of(CHUNK).min(head);
    let directory = layout.segments();
    let mut found = Vec::new();
    for first_ordinal in segment::list(disk, &directory)? {
        if first_ordinal < first || first_ordinal >= end {
            continue;
        }
        let segment = SegmentFile::open(disk, &directory, first_ordinal, identity)?;
        let mut scanner = Scanner::new(&segment, Depth::Glance)?;
        while scanner.settled().position.ordinal < end {
            let lost = (scanner.settled().position.ordinal, None);
            let read = scanner.next_transaction().map_err(|fault| fault.into_error(segment.path(), lost))?;
            match read {
                Some(transaction) if transaction.ordinal < end => found.push((first_ordinal, transaction)),
                _ => break,
            }
        }
    }
    Ok(found)
}

/// Removes the segments before an ordinal, durably, and says how many bytes they had. Somebody else may be at it.
pub(crate) fn remove_before(disk: &Arc<dyn Disk>, layout: &Layout, first: u64) -> Result<u64, LogError> {
    let directory = layout.segments();
    let mut bytes = 0;
    for ordinal in segment::list(disk, &directory)?.into_iter().filter(|ordinal| *ordinal < first) {
        let path = segment::segment_path(&directory, ordinal);
        let file = match disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(LogError::file("open", &path))?,
        };
        let length = file.length().map_err(LogError::file("read the length of", &path))?;
        match disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => {
                removed.map_err(LogError::file("remove", &path))?;
                bytes += length;
            }
        }
    }
    if bytes > 0 {
        disk.sync_names(&directory).map_err(LogError::file("make durable", &directory))?;
    }
    Ok(bytes)
}
