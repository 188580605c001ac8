//! Reading a log, from any process, while its writer appends.
//!
//! Everything is asked of the index first, which knows only what is durable; segments are opened where records
//! themselves are wanted. Nothing here waits for the writer.

mod candidates;
mod check;
mod entries;
mod extent;
mod histogram;
mod migration;
mod parts;
mod reader;
mod resolve;
mod statistics;
mod trim;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use ptr_model::{Lsn, MarkerToken, Operation, Position, Timestamp, TransactionSummary, Xid};

use self::candidates::Candidates;
pub(crate) use self::trim::{move_index, remove_before};
pub use self::{
    check::CheckReport,
    entries::{Entry, EntryPage, EntryQuery},
    extent::Extent,
    histogram::{Axis, Bucket},
    parts::PartReader,
    reader::{Item, Outline, Reader},
    resolve::ResolveError,
    statistics::LogStatistics,
};
use crate::{
    LogError, LogIdentity,
    beginning::start,
    disk::{Disk, SystemDisk},
    hole::Hole,
    identity::Layout,
    index::{IndexReaders, recorded_extent},
    lock::{self, Attempt, Purpose},
    recovery,
    segment::{self, SegmentFile},
};

/// Segments that are kept open.
const KEPT_SEGMENTS: usize = 4;

/// The most that one page holds.
const MAX_PAGE: usize = 1000;

/// A log opened for reading. Cheap to clone; every thread may ask.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    identity: LogIdentity,
    disk: Arc<dyn Disk>,
    index: IndexReaders,
    /// The segments read last, the latest at the end.
    segments: Mutex<Vec<Arc<SegmentFile>>>,
    /// Where it began when that was asked last, for when it cannot be asked.
    begins: Mutex<Position>,
}

/// In which order of history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// From the oldest on.
    #[default]
    Forward,
    /// From the newest back.
    Backward,
}

/// Which transactions are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransactionQuery {
    /// The first ordinal; `None` is the log's beginning.
    pub since: Option<u64>,
    /// The ordinal to stop before; `None` is the head.
    pub until: Option<u64>,
    /// Only those that changed this table, as `schema.table` or as a bare name in any schema.
    pub table: Option<String>,
    /// Only those with at least one of these; all where it is empty.
    pub operations: Vec<Operation>,
    /// From which end.
    pub direction: Direction,
    /// At most this many, and never more than 1,000.
    pub limit: usize,
}

impl Log {
    /// Opens a log. Where no process writes it and its last writer did not end in order, it is recovered first.
    ///
    /// # Errors
    /// [`LogError::Unsuitable`] where there is no log, [`LogError::Damaged`] where recovery finds damage.
    pub fn open(directory: &Path) -> Result<Self, LogError> {
        Self::open_on(directory, SystemDisk::shared())
    }

    /// The same, with segments on a given disk.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(directory: &Path, disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        let layout = Layout::new(directory);
        let identity = layout.read_identity()?;
        match lock::acquire(&layout, Purpose::Recovering)? {
            Attempt::Busy(_) => {}
            Attempt::Held(_lock) => {
                if !is_complete(&layout, &identity, &disk)? {
                    recovery::recover(&layout, &identity, &disk, Purpose::Recovering)?;
                }
            }
        }
        let index = IndexReaders::new(layout.index(), identity.clone());
        let begins = Mutex::new(start(&identity, layout.read_beginning(&disk)?.as_ref()));
        let inner = Inner { layout, identity, disk, index, segments: Mutex::default(), begins };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Learns the index again from the segments. Nobody may be writing the log.
    ///
    /// # Errors
    /// [`LogError::Locked`] while somebody writes it, [`LogError::Damaged`] where a segment cannot be read.
    pub fn rebuild_index(directory: &Path) -> Result<(), LogError> {
        let layout = Layout::new(directory);
        let identity = layout.read_identity()?;
        match lock::acquire(&layout, Purpose::Recovering)? {
            Attempt::Busy(holder) => Err(holder.refusal(directory)),
            Attempt::Held(_lock) => recovery::rebuild(&layout, &identity, &SystemDisk::shared()),
        }
    }

    /// Whose history it is.
    #[must_use]
    pub fn identity(&self) -> &LogIdentity {
        &self.inner.identity
    }

    /// The log's folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.inner.layout.directory()
    }

    /// The position before the first transaction that the log has: where capture began, or where the log begins since
    /// its oldest part was removed.
    #[must_use]
    pub fn creation(&self) -> Position {
        let asked = self.inner.index.with(|index| index.start());
        let mut begins = self.inner.begins.lock().unwrap_or_else(PoisonError::into_inner);
        // An index that cannot be read is told by whatever is asked next.
        if let Ok(asked) = asked {
            *begins = asked;
        }
        *begins
    }

    /// The position after the last durable transaction. Cheap enough to be asked again and again.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn head(&self) -> Result<Position, LogError> {
        self.inner.index.with(|index| index.head())
    }

    /// What it is known to lack, as it was found.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn holes(&self) -> Result<Vec<Hole>, LogError> {
        self.inner.layout.read_holes()
    }

    /// Every transaction that ended at or before this LSN is in the log. Never before the head.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn covered_lsn(&self) -> Result<Lsn, LogError> {
        self.inner.index.with(|index| index.covered())
    }

    /// The position before the transaction of that ordinal.
    ///
    /// # Errors
    /// [`LogError::Refused`] beyond the head.
    pub fn position_at(&self, ordinal: u64) -> Result<Position, LogError> {
        let position = self.inner.index.with(|index| index.position_at(ordinal))?;
        position.ok_or_else(|| match self.creation().ordinal {
            first if ordinal < first => LogError::Refused(format!(
                "the log begins with transaction {first}: what was before was removed by gc, {ordinal} with it"
            )),
            _ => LogError::Refused(format!("the log has fewer than {ordinal} transactions")),
        })
    }

    /// The position from which on all transactions committed within a time; the beginning where all did. What committed
    /// after that time did so by another clock, or before a clock was set back.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn only_within(&self, after: Timestamp, upto: Timestamp) -> Result<Position, LogError> {
        let found = self.inner.index.with(|index| {
            let last = index.last_outside(after, upto)?;
            index.position_at(last.map_or(0, |ordinal| ordinal + 1))
        })?;
        Ok(found.unwrap_or_else(|| self.creation()))
    }

    /// Where a marker came round, `None` as long as it did not.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn marker(&self, token: MarkerToken) -> Result<Option<Position>, LogError> {
        self.inner.index.with(|index| match index.marker(token)? {
            Some(ordinal) => index.position_at(ordinal),
            None => Ok(None),
        })
    }

    /// The transaction of that ordinal.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn transaction(&self, ordinal: u64) -> Result<Option<TransactionSummary>, LogError> {
        self.inner
            .index
            .with(|index| index.transaction(ordinal)?.map(|found| index.summary(&found)).transpose())
    }

    /// The latest transaction with that id: ids wrap around.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn transaction_of_xid(&self, xid: Xid) -> Result<Option<TransactionSummary>, LogError> {
        self.inner
            .index
            .with(|index| index.transaction_of_xid(xid)?.map(|found| index.summary(&found)).transpose())
    }

    /// The transaction that an entry is part of.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn transaction_of_entry(&self, entry: u64) -> Result<Option<TransactionSummary>, LogError> {
        self.inner.index.with(|index| {
            let head = index.head()?;
            let ordinal = index.partition(head.ordinal, |transaction| transaction.end_entry() <= entry)?;
            index.transaction(ordinal)?.map(|found| index.summary(&found)).transpose()
        })
    }

    /// Transactions, in the order of the query's direction.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn transactions(&self, query: &TransactionQuery) -> Result<Vec<TransactionSummary>, LogError> {
        self.inner.index.with(|index| {
            let head = index.head()?.ordinal;
            let range = query.since.unwrap_or_default()..query.until.unwrap_or(head).min(head);
            let mut candidates =
                Candidates::new(index, range, query.direction, query.table.as_deref(), &query.operations)?;
            let mut found = Vec::new();
            while found.len() < query.limit.min(MAX_PAGE)
                && let Some(transaction) = candidates.next(index)?
            {
                found.push(transaction);
            }
            index.summaries(&found)
        })
    }

    /// Reads the transactions from one ordinal up to, but not with, another.
    ///
    /// # Errors
    /// [`LogError::Refused`] where the range is reversed or goes beyond the head.
    pub fn read(&self, from_ordinal: u64, to_ordinal: u64) -> Result<Reader, LogError> {
        let (first, head) = (self.creation().ordinal, self.head()?.ordinal);
        if from_ordinal < first {
            return Err(LogError::Refused(format!(
                "transactions {from_ordinal} to {to_ordinal} cannot be read: the log begins with {first}, what was \
                 before was removed by gc"
            )));
        }
        if from_ordinal > to_ordinal || to_ordinal > head {
            return Err(LogError::Refused(format!(
                "transactions {from_ordinal} to {to_ordinal} cannot be read: the log has {head}, counted from 0"
            )));
        }
        Ok(Reader::new(self.clone(), from_ordinal, to_ordinal))
    }

    fn forget_segments_before(&self, first_ordinal: u64) {
        let mut kept = self.inner.segments.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|segment| segment.header().start.ordinal >= first_ordinal);
    }

    /// The segment that begins with this ordinal, opened.
    fn segment(&self, first_ordinal: u64) -> Result<Arc<SegmentFile>, LogError> {
        let mut kept = self.inner.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = kept.iter().position(|segment| segment.header().start.ordinal == first_ordinal) {
            let segment = kept.remove(place);
            kept.push(Arc::clone(&segment));
            return Ok(segment);
        }
        let (disk, identity) = (&self.inner.disk, &self.inner.identity);
        let opened = SegmentFile::open(disk, &self.inner.layout.segments(), first_ordinal, identity)?;
        let segment = Arc::new(opened);
        if kept.len() == KEPT_SEGMENTS {
            kept.remove(0);
        }
        kept.push(Arc::clone(&segment));
        Ok(segment)
    }
}

/// Whether the index knows the last segment as it is: nothing was appended since, and nothing is missing.
fn is_complete(layout: &Layout, identity: &LogIdentity, disk: &Arc<dyn Disk>) -> Result<bool, LogError> {
    let last = segment::list(disk, &layout.segments())?.last().copied();
    let beginning = layout.read_beginning(disk)?;
    let recorded = recorded_extent(&layout.index(), identity, beginning.as_ref());
    let (Some(last), Some((known, file_end))) = (last, recorded) else {
        return Ok(false);
    };
    if last != known {
        return Ok(false);
    }
    let path = segment::segment_path(&layout.segments(), last);
    let file = disk.open(&path).map_err(LogError::file("open", &path))?;
    Ok(file.length().map_err(LogError::file("read the length of", &path))? == file_end)
}
