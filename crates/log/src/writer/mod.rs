//! The one writer of a log.
//!
//! Changes are encoded into memory as they come. [`Writer::flush`] writes them as one block, makes the segment
//! durable, and then lets the index know: in that order, so that nobody sees what a crash could take back. A
//! transaction that outgrows memory goes to the segment in parts and counts only when its commit is durable.

mod batch;
mod relations;

use std::{path::Path, sync::Arc};

use ptr_model::{Change, Lsn, MarkerToken, OperationCounts, Position, TransactionHeader};

use self::{
    batch::Batch,
    relations::{RelationTable, Tally},
};
use crate::{
    LogError, LogIdentity,
    disk::{Disk, SystemDisk},
    format::{MAX_RECORD_BYTES, put_begin, put_change, put_commit},
    hole::{self, Hole},
    identity::Layout,
    index::{Index, IndexRow, Place},
    lock::{self, Attempt, Lock, Purpose},
    recovery::{self, Coverage, Recovered, Recovery},
    rehearsal::{crash_point, segment_bytes},
    segment::{BlockRange, OpenSegment, Sealer},
};

/// Records that are gathered before a block is written without being asked for.
const BLOCK_BYTES: usize = 512 << 10;

/// How a log is written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// A segment that has reached this size is sealed at the next flush, and the next one begun.
    pub segment_bytes: u64,
    /// Where segments are kept.
    pub disk: Arc<dyn Disk>,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { segment_bytes: segment_bytes(), disk: SystemDisk::shared() }
    }
}

/// Whether a transaction that begins is news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// It is not in the log yet.
    New,
    /// It is in the log already, sent again after a reconnection. What follows of it is taken and dropped.
    Repetition,
}

/// A transaction that went into the log, durable with the next flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The position after it.
    pub position: Position,
    /// Its entries by kind.
    pub counts: OperationCounts,
    /// Bytes of its records, before compression.
    pub bytes: u64,
}

/// Appends to a log, whose lock it holds. After an error it refuses everything until the log is opened again.
pub struct Writer {
    identity: LogIdentity,
    layout: Layout,
    options: WriterOptions,
    report: Recovery,
    holes: Vec<Hole>,
    /// Whether the index says that its coverage is not to be relied on.
    distrusts_coverage: bool,
    index: Index,
    segment: OpenSegment,
    relations: RelationTable,
    /// Whole transactions that are not written yet.
    settled: Batch,
    /// What is not written yet of the transaction that has begun.
    current: Batch,
    state: State,
    tally: Tally,
    /// Transactions that the index does not know yet.
    committed: Vec<IndexRow>,
    markers: Vec<(MarkerToken, u64, Lsn)>,
    /// After the last commit, durable or not.
    end: Position,
    /// After the last durable commit.
    head: Position,
    covered: Lsn,
    /// The error after which nothing is written any more.
    poison: Option<String>,
    /// The same error, where it happened to what gives none back; whatever is called next does.
    untold: Option<LogError>,
    sealer: Sealer,
    /// Last, so that it is given back last.
    _lock: Lock,
}

/// Where the writer is between BEGIN and COMMIT.
enum State {
    Idle,
    Open(Unfinished),
    /// Inside a transaction that the log has.
    Repeating,
}

/// The transaction that has begun.
struct Unfinished {
    header: TransactionHeader,
    /// Where it begins in the open segment, once a part of it was written.
    spilled: Option<Spill>,
    /// Bytes of its records so far.
    bytes: u64,
    is_empty: bool,
    has_gap: bool,
    has_schema_event: bool,
}

#[derive(Clone, Copy)]
struct Spill {
    file: u64,
    logical: u64,
}

impl Writer {
    /// Opens a log to write it, and recovers it first: cuts what was never acknowledged, completes the index.
    ///
    /// # Errors
    /// [`LogError::Locked`] while another process writes it, [`LogError::Damaged`] where acknowledged
    /// transactions cannot be read, [`LogError::Unsuitable`] where there is no log.
    pub fn open(directory: &Path, options: WriterOptions) -> Result<Self, LogError> {
        let layout = Layout::new(directory);
        let identity = layout.read_identity()?;
        let lock = match lock::acquire(&layout, Purpose::Writing)? {
            Attempt::Held(lock) => lock,
            Attempt::Busy(holder) => return Err(holder.refusal(directory)),
        };
        let recovered = recovery::recover(&layout, &identity, &options.disk, Purpose::Writing)?;
        let Recovered { index, segment, next_relation, head, unsealed, report } = recovered;
        let holes = layout.read_holes()?;
        let sealer = Sealer::start(Arc::clone(&options.disk), layout.segments(), identity.clone());
        unsealed.into_iter().for_each(|first_ordinal| sealer.push(first_ordinal));
        Ok(Self {
            covered: index.covered(),
            identity,
            layout,
            options,
            report,
            holes,
            distrusts_coverage: report.coverage != Coverage::Known,
            index,
            segment,
            relations: RelationTable::new(next_relation),
            settled: Batch::default(),
            current: Batch::default(),
            state: State::Idle,
            tally: Tally::default(),
            committed: Vec::new(),
            markers: Vec::new(),
            end: head,
            head,
            poison: None,
            untold: None,
            sealer,
            _lock: lock,
        })
    }

    /// Whose history it writes.
    #[must_use]
    pub fn identity(&self) -> &LogIdentity {
        &self.identity
    }

    /// What opening it had to repair.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.report
    }

    /// What it is known to lack, as it was found.
    #[must_use]
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Notes that it was not given what committed from one LSN until another; durable when this returns.
    ///
    /// # Errors
    /// File errors; the log can be written nevertheless.
    pub fn note_hole(&mut self, from: Lsn, until: Lsn) -> Result<(), LogError> {
        let mut holes = self.holes.clone();
        if hole::add(&mut holes, Hole { from, until, found_at: recovery::now() }) {
            self.layout.write_holes(&holes)?;
            self.holes = holes;
        }
        Ok(())
    }

    /// The position after the last durable transaction.
    #[must_use]
    pub fn head(&self) -> Position {
        self.head
    }

    /// Everything before this LSN is in the log, durable with the next flush.
    #[must_use]
    pub fn covered_lsn(&self) -> Lsn {
        self.covered
    }

    /// Bytes in memory that the next flush will write. The caller flushes before they become many.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.settled.records.len()
    }

    /// Begins a transaction; `end_lsn` of the header is not looked at, [`Writer::commit`] gives it.
    ///
    /// # Errors
    /// [`LogError::Refused`] inside a transaction, [`LogError::Poisoned`] after an earlier error.
    pub fn begin(&mut self, header: &TransactionHeader) -> Result<Begun, LogError> {
        self.check_sound()?;
        if !matches!(self.state, State::Idle) {
            return Err(LogError::Refused(
                "a transaction begins before the one before it has ended".to_owned(),
            ));
        }
        // Commit records do not overlap: one that begins before the end of the last commit is at or before it.
        if header.commit_lsn < self.end.lsn {
            self.state = State::Repeating;
            return Ok(Begun::Repetition);
        }
        self.current.clear();
        self.current.first_entry = self.end.entry_index;
        self.tally.clear();
        put_begin(&mut self.current.records, header);
        let bytes = self.current.records.len() as u64;
        self.state = State::Open(Unfinished {
            header: header.clone(),
            spilled: None,
            bytes,
            is_empty: true,
            has_gap: false,
            has_schema_event: false,
        });
        Ok(Begun::New)
    }

    /// Adds a change to the transaction that has begun.
    ///
    /// # Errors
    /// [`LogError::Refused`] outside a transaction, and for a change above 1.75 GiB; file errors where a part
    /// of a large transaction cannot be written.
    pub fn append(&mut self, change: &Change) -> Result<(), LogError> {
        self.check_sound()?;
        let transaction = match &mut self.state {
            State::Open(transaction) => transaction,
            State::Repeating => return Ok(()),
            State::Idle => return Err(LogError::Refused("a change comes outside a transaction".to_owned())),
        };
        let start = self.current.records.len();
        let (relations, tally, index) = (&mut self.relations, &mut self.tally, &mut self.index);
        let (mentions, operation) = (&mut self.current.mentions, change.operation());
        let encoded = put_change(&mut self.current.records, change, |relation| {
            let known = relations.place_of(relation, index);
            mentions.add(known);
            tally.count(relations.table(known), operation);
            relations.id(known)
        });
        if let Err(error) = encoded {
            // Half a record must not stay.
            return self.guard(Err(LogError::Refused(format!("a change cannot be written: {error}"))));
        }
        let added = (self.current.records.len() - start) as u64;
        if added > MAX_RECORD_BYTES {
            return Err(self.refuse_size(change, added));
        }
        if let Some(operation) = operation {
            self.tally.counts.add(operation);
        }
        transaction.bytes += added;
        transaction.is_empty = false;
        transaction.has_gap |= matches!(change, Change::Gap(_));
        transaction.has_schema_event |= matches!(change, Change::Schema(_));
        if self.current.records.len() >= BLOCK_BYTES {
            let spilled = self.spill();
            return self.guard(spilled);
        }
        Ok(())
    }

    /// Ends the transaction that has begun; `end_lsn` is just past its commit record. `None` where it did
    /// nothing that is kept, or is in the log already.
    ///
    /// # Errors
    /// [`LogError::Refused`] outside a transaction, and where `end_lsn` is before its commit; file errors.
    pub fn commit(&mut self, end_lsn: Lsn) -> Result<Option<Committed>, LogError> {
        self.check_sound()?;
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => Err(LogError::Refused("a commit comes outside a transaction".to_owned())),
            State::Repeating => Ok(None),
            State::Open(transaction) if transaction.is_empty || end_lsn <= self.end.lsn => {
                self.discard(&transaction);
                self.covered(end_lsn);
                self.check_sound().map(|()| None)
            }
            State::Open(transaction) => {
                let committed = self.finish_transaction(transaction, end_lsn);
                self.guard(committed).map(Some)
            }
        }
    }

    /// Takes back the transaction that has begun, if one has: the connection was lost inside it.
    pub fn abort(&mut self) {
        if let State::Open(transaction) = std::mem::replace(&mut self.state, State::Idle) {
            self.discard(&transaction);
        }
    }

    /// Notes that a marker came round at `lsn`: its position is the one after everything committed before.
    pub fn marker(&mut self, token: MarkerToken, lsn: Lsn) {
        self.markers.push((token, self.end.ordinal, lsn));
        self.covered(lsn);
    }

    /// Notes that everything the server wrote before `lsn` was received and is committed here or not for us.
    pub fn covered(&mut self, lsn: Lsn) {
        self.covered = self.covered.max(lsn);
    }

    /// Makes everything committed so far durable and visible, and gives the position after it.
    ///
    /// # Errors
    /// [`LogError::DiskFull`] and other file errors. After one of them nothing is written any more; what is
    /// durable is found when the log is opened again.
    pub fn flush(&mut self) -> Result<Position, LogError> {
        self.check_sound()?;
        let flushed = self.try_flush();
        self.guard(flushed)
    }

    /// Flushes, and waits until full segments are sealed. Dropping a writer does neither.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn close(mut self) -> Result<Position, LogError> {
        let position = self.flush()?;
        if let Err(error) = self.index.end() {
            // Everything is durable; only that this was in order is not noted.
            tracing::warn!(%error, "the log's end is not noted in its index");
        }
        self.sealer.finish();
        Ok(position)
    }

    fn try_flush(&mut self) -> Result<Position, LogError> {
        self.write_settled()?;
        if !self.committed.is_empty() {
            self.segment.sync()?;
        }
        self.update_index()?;
        self.head = self.end;
        if self.is_full() {
            self.rotate()?;
        }
        Ok(self.head)
    }

    fn update_index(&mut self) -> Result<(), LogError> {
        if self.committed.is_empty() && self.markers.is_empty() && self.covered <= self.index.covered() {
            return Ok(());
        }
        let trusts = self.distrusts_coverage && self.covered > self.index.covered();
        self.index.begin()?;
        if trusts {
            self.index.trust_coverage()?;
        }
        self.index.insert(&self.committed)?;
        if !self.markers.is_empty() {
            self.index.insert_markers(&self.markers)?;
        }
        self.index.cover(self.covered)?;
        crash_point("index");
        self.index.commit(self.segment.first_ordinal(), self.segment.file_end())?;
        crash_point("indexed");
        self.covered = self.index.covered();
        self.distrusts_coverage &= !trusts;
        self.committed.clear();
        self.markers.clear();
        Ok(())
    }

    fn is_full(&self) -> bool {
        let size = self.segment.file_end().max(self.segment.logical_end());
        let between = !matches!(&self.state, State::Open(Unfinished { spilled: Some(_), .. }));
        between && self.segment.logical_end() > 0 && size >= self.options.segment_bytes
    }

    /// Begins the next segment; the full one is sealed in the background.
    fn rotate(&mut self) -> Result<(), LogError> {
        crash_point("rotate");
        let header = recovery::new_header(&self.identity, self.end);
        let next = OpenSegment::create(&self.options.disk, &self.layout.segments(), &header)?;
        crash_point("rotated");
        let full = std::mem::replace(&mut self.segment, next);
        self.sealer.push(full.first_ordinal());
        Ok(())
    }

    fn finish_transaction(&mut self, transaction: Unfinished, end_lsn: Lsn) -> Result<Committed, LogError> {
        let Unfinished { mut header, spilled, bytes, has_gap, has_schema_event, .. } = transaction;
        let commit_bytes = end_lsn.0.checked_sub(header.commit_lsn.0).ok_or_else(|| {
            LogError::Refused(format!("a commit at {} ends before it, at {end_lsn}", header.commit_lsn))
        })?;
        header.end_lsn = end_lsn;
        let counts = self.tally.counts;
        let before = self.current.records.len();
        put_commit(&mut self.current.records, commit_bytes, counts.total());
        let bytes = bytes + (self.current.records.len() - before) as u64;
        let logical = match spilled {
            Some(spill) => {
                self.write_current(true, false)?;
                spill.logical
            }
            None => {
                let logical = self.segment.logical_end() + self.settled.records.len() as u64;
                if self.settled.records.is_empty() {
                    self.settled.first_ordinal = self.end.ordinal;
                    self.settled.first_entry = self.end.entry_index;
                }
                self.settled.absorb(&mut self.current);
                logical
            }
        };
        let place = Place { segment: self.segment.first_ordinal(), logical, bytes };
        let (ordinal, first_entry) = (self.end.ordinal, self.end.entry_index);
        let tables = self.tally.take();
        self.committed.push(IndexRow {
            header,
            ordinal,
            first_entry,
            counts,
            place,
            tables,
            has_gap,
            has_schema_event,
        });
        self.end = Position { ordinal: ordinal + 1, lsn: end_lsn, entry_index: first_entry + counts.total() };
        self.covered(end_lsn);
        if self.settled.records.len() >= BLOCK_BYTES {
            self.write_settled()?;
        }
        Ok(Committed { position: self.end, counts, bytes })
    }

    /// Writes a part of the transaction that has begun, in a block of its own.
    fn spill(&mut self) -> Result<(), LogError> {
        self.write_settled()?;
        let State::Open(transaction) = &mut self.state else { return Ok(()) };
        let continues = transaction.spilled.is_some();
        let start = Spill { file: self.segment.file_end(), logical: self.segment.logical_end() };
        transaction.spilled.get_or_insert(start);
        self.write_current(continues, true)
    }

    fn write_current(&mut self, continues: bool, unfinished: bool) -> Result<(), LogError> {
        let first_entry = self.current.first_entry;
        let range = BlockRange { first_ordinal: self.end.ordinal, first_entry, continues, unfinished };
        self.segment.append(
            range,
            self.relations.definitions(&self.current.mentions),
            &self.current.records,
        )?;
        self.current.clear();
        self.current.first_entry = self.end.entry_index + self.tally.counts.total();
        Ok(())
    }

    fn write_settled(&mut self) -> Result<(), LogError> {
        if self.settled.records.is_empty() {
            return Ok(());
        }
        let (first_ordinal, first_entry) = (self.settled.first_ordinal, self.settled.first_entry);
        let range = BlockRange { first_ordinal, first_entry, continues: false, unfinished: false };
        self.segment.append(
            range,
            self.relations.definitions(&self.settled.mentions),
            &self.settled.records,
        )?;
        self.settled.clear();
        Ok(())
    }

    /// Takes back what was written of a transaction. A failure poisons the writer.
    fn discard(&mut self, transaction: &Unfinished) {
        self.current.clear();
        self.tally.clear();
        if let Some(spill) = transaction.spilled {
            let cut = self.segment.cut(spill.file, spill.logical);
            let was_sound = self.poison.is_none();
            let cut = self.guard(cut);
            self.untold = cut.err().filter(|_| was_sound);
        }
    }

    fn refuse_size(&mut self, change: &Change, bytes: u64) -> LogError {
        let tables: Vec<String> = change
            .relations()
            .iter()
            .map(|relation| format!("{}.{}", relation.schema, relation.name))
            .collect();
        let error = LogError::Refused(format!(
            "one change of {} needs {bytes} bytes, the log takes at most {MAX_RECORD_BYTES} a change",
            if tables.is_empty() { "the schema".to_owned() } else { tables.join(", ") }
        ));
        self.poison = Some(error.to_string());
        error
    }

    fn check_sound(&mut self) -> Result<(), LogError> {
        match (self.untold.take(), &self.poison) {
            (Some(error), _) => Err(error),
            (None, Some(cause)) => Err(LogError::Poisoned { cause: cause.clone() }),
            (None, None) => Ok(()),
        }
    }

    fn guard<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &result {
            self.poison.get_or_insert_with(|| error.to_string());
        }
        result
    }
}
