//! Opening a log after any end of its last writer.
//!
//! What is committed and readable stays, what was never acknowledged is cut, and what was acknowledged but
//! cannot be read is an error, never cut. Two witnesses tell the last two apart: blocks say how much of the file
//! was durable when they were written, and the index knows only durable transactions.
//!
//! That something can be read does not show that it is on the disk. Linux forgets what a failed `fdatasync` did not
//! write: it is read from memory for a while, and the next sync succeeds without it. So what the index does not know to
//! be durable is written back before it is judged.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use ptr_model::{OperationCounts, Position, Timestamp};

use crate::{
    Beginning, Damage, LogError,
    beginning::start,
    disk::Disk,
    format::{Form, FormatError, RelationId, SegmentHeader},
    identity::{Layout, LogIdentity},
    index::{Index, IndexRow, Place, TableId, add_counts},
    lock::Purpose,
    log::{move_index, remove_before},
    rehearsal::crash_point,
    segment::{
        self, Depth, Fault, OpenSegment, ScannedTransaction, Scanner, SegmentFile, Settled, proof_of_damage,
    },
};

/// Transactions added to the index at a time.
const INDEX_BATCH: usize = 4096;

/// Bytes written back at a time.
const WRITE_BACK_BYTES: usize = 1 << 20;

/// What recovery did, for whoever opened the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Bytes of unfinished transactions that were cut from the last segment.
    pub cut_bytes: u64,
    /// Transactions that the index lacked.
    pub indexed: u64,
    /// How far coverage can be relied on.
    pub coverage: Coverage,
}

/// How much of what a log was given it still knows, beyond what its transactions show. What the server was told follows
/// from that, so whoever goes on can tell whether somebody else took something meanwhile, or cannot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Coverage {
    /// All of it.
    #[default]
    Known,
    /// The machine was started again, or is another one, since a writer was here that did not end in order: the index may
    /// lack its last commits, those that told of coverage alone.
    Doubtful,
    /// Not what came after the last transaction.
    Forgotten,
    /// The same, and the end of the log was cut, of which nobody knows any more whether it was acknowledged.
    Cut,
}

impl Coverage {
    /// As the index keeps it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Doubtful => "doubtful",
            Self::Forgotten => "forgotten",
            Self::Cut => "cut",
        }
    }

    /// What is not known of is as little to be relied on as can be.
    pub(crate) fn of_word(word: &str) -> Self {
        let all = [Self::Known, Self::Doubtful, Self::Forgotten, Self::Cut];
        all.into_iter().find(|coverage| coverage.word() == word).unwrap_or(Self::Forgotten)
    }
}

/// A log that is ready to be appended to.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) segment: OpenSegment,
    /// The first relation id that the open segment does not use.
    pub(crate) next_relation: RelationId,
    pub(crate) head: Position,
    /// Full segments that a crash kept from being sealed.
    pub(crate) unsealed: Vec<u64>,
    pub(crate) report: Recovery,
}

/// Recovers the log, whose lock the caller holds, and says whether he goes on to write it.
pub(crate) fn recover(
    layout: &Layout,
    identity: &LogIdentity,
    disk: &Arc<dyn Disk>,
    purpose: Purpose,
) -> Result<Recovered, LogError> {
    loop {
        let beginning = layout.read_beginning(disk)?;
        match attempt(layout, identity, disk, purpose) {
            // Its oldest part was removed meanwhile: what was missing is not missed.
            Err(_) if layout.read_beginning(disk)? != beginning => {}
            outcome => return outcome,
        }
    }
}

fn attempt(
    layout: &Layout,
    identity: &LogIdentity,
    disk: &Arc<dyn Disk>,
    purpose: Purpose,
) -> Result<Recovered, LogError> {
    let directory = layout.segments();
    segment::remove_unfinished(disk, &directory)?;
    // Before the beginning is read: whoever writes a later one holds the index too.
    let mut index = Index::open(&layout.index(), identity)?;
    let beginning = layout.read_beginning(disk)?;
    let segments = from_beginning(layout, disk, beginning.as_ref())?;
    let start = start(identity, beginning.as_ref());
    if index.beginning().is_some_and(|known| known.position.ordinal > start.ordinal) {
        // An index of another copy of this log, of which more was removed.
        index.forget(identity)?;
    }
    match &beginning {
        Some(beginning) if index.beginning() != Some(*beginning) => {
            index = move_index(index, layout, identity, disk, beginning)?;
        }
        _ => {}
    }
    let mut recovery =
        Run { disk, identity, start, directory, index, unsealed: Vec::new(), report: Recovery::default() };
    let (segment, next_relation, head) = recovery.run(&segments)?;
    let Run { mut index, unsealed, mut report, .. } = recovery;
    let writes = purpose == Purpose::Writing;
    report.coverage = index.judge_coverage(report.cut_bytes > 0, report.indexed > 0, writes)?;
    crash_point("recover");
    index.commit(segment.first_ordinal(), segment.file_end())?;
    crash_point("recovered");
    Ok(Recovered { index, segment, next_relation, head, unsealed, report })
}

/// The segments from the log's beginning on; what a crash left from before it is removed. The index is held.
fn from_beginning(
    layout: &Layout,
    disk: &Arc<dyn Disk>,
    beginning: Option<&Beginning>,
) -> Result<Vec<u64>, LogError> {
    let directory = layout.segments();
    let mut segments = segment::list(disk, &directory)?;
    let Some(beginning @ Beginning { position, .. }) = beginning else { return Ok(segments) };
    if !segments.contains(&position.ordinal) {
        let problem = FormatError::Short("the history: the segment that it begins with is missing");
        let lost = (position.ordinal, segments.iter().copied().find(|ordinal| *ordinal > position.ordinal));
        let path = segment::segment_path(&directory, position.ordinal);
        return Err(Damage { path, offset: 0, problem, lost }.into());
    }
    if segments.first().is_some_and(|first| *first < position.ordinal) {
        // What was read may be in memory only, if making it durable failed; what is removed now is needed without it.
        layout.write_beginning(disk, beginning)?;
        remove_before(disk, layout, position.ordinal)?;
    }
    segments.retain(|ordinal| *ordinal >= position.ordinal);
    Ok(segments)
}

struct Run<'r> {
    disk: &'r Arc<dyn Disk>,
    identity: &'r LogIdentity,
    /// Where the log begins.
    start: Position,
    directory: PathBuf,
    index: Index,
    unsealed: Vec<u64>,
    report: Recovery,
}

impl Run<'_> {
    fn run(&mut self, segments: &[u64]) -> Result<(OpenSegment, RelationId, Position), LogError> {
        let start = self.start;
        let Some((last, full)) = segments.split_last() else {
            self.refuse_if_index_is_ahead(start, None)?;
            return Ok((self.new_segment(start)?, RelationId(0), start));
        };
        let mut expected = Some(start);
        for (first_ordinal, next) in full.iter().zip(&segments[1..]) {
            expected = self.full_segment(*first_ordinal, *next, expected)?;
        }
        let segment = self.open(*last)?;
        check_chain(&segment, expected)?;
        if segment.header().form == Form::Sealed {
            // The open segment behind it is missing, empty or not: the index tells.
            let end = self.index_segment(&segment)?.position;
            self.refuse_if_index_is_ahead(end, Some(&segment))?;
            return Ok((self.new_segment(end)?, RelationId(0), end));
        }
        let (settled, next_relation) = self.last_segment(&segment)?;
        if settled.position == segment.header().start {
            // It was never flushed, so its name may be in memory only, if making that durable failed.
            let empty = OpenSegment::create(self.disk, &self.directory, segment.header())?;
            return Ok((empty, next_relation, settled.position));
        }
        let resumed = OpenSegment::resume(segment, settled.file_end, settled.logical_end)?;
        Ok((resumed, next_relation, settled.position))
    }

    fn open(&self, first_ordinal: u64) -> Result<SegmentFile, LogError> {
        SegmentFile::open(self.disk, &self.directory, first_ordinal, self.identity)
    }

    fn new_segment(&self, start: Position) -> Result<OpenSegment, LogError> {
        OpenSegment::create(self.disk, &self.directory, &new_header(self.identity, start))
    }

    /// Looks at a segment that is not the last, and says where it ends if that was found out.
    fn full_segment(
        &mut self,
        first_ordinal: u64,
        next: u64,
        expected: Option<Position>,
    ) -> Result<Option<Position>, LogError> {
        let segment = self.open(first_ordinal)?;
        check_chain(&segment, expected)?;
        if segment.header().form == Form::Open {
            self.unsealed.push(first_ordinal);
        }
        if self.index.head().ordinal >= next {
            return Ok(segment.footer().map(|footer| footer.end));
        }
        self.index_segment(&segment).map(|settled| Some(settled.position))
    }

    /// Adds what the index lacks of a segment in which everything must hold.
    fn index_segment(&mut self, segment: &SegmentFile) -> Result<Settled, LogError> {
        let mut scanner = Scanner::new(segment, Depth::Glance)?;
        let fault = match self.index_rest(segment, &mut scanner)? {
            None => scanner.finish().err(),
            fault => fault,
        };
        let settled = scanner.settled();
        match fault {
            None => Ok(settled),
            Some(fault) => Err(fault.into_error(segment.path(), (settled.position.ordinal, None))),
        }
    }

    /// Recovers the segment that was appended to.
    fn last_segment(&mut self, segment: &SegmentFile) -> Result<(Settled, RelationId), LogError> {
        write_back(segment, self.first_unknown(segment)?)?;
        let mut scanner = Scanner::new(segment, Depth::Glance)?;
        let fault = self.index_rest(segment, &mut scanner)?;
        let (settled, length) = (scanner.settled(), segment.blocks_end()?);
        let lost = (settled.position.ordinal, None);
        if let Some(fault) = fault {
            let Fault::Format { offset, problem } = fault else {
                return Err(fault.into_error(segment.path(), lost));
            };
            let proof = proof_of_damage(segment.file(), segment.seed(), offset, length)
                .map_err(LogError::file("read", segment.path()))?;
            if proof.is_some() || self.index.head().ordinal > settled.position.ordinal {
                let known = self.index.head().ordinal;
                let lost = (settled.position.ordinal, (known > settled.position.ordinal).then_some(known));
                return Err(Damage { path: segment.path().to_owned(), offset, problem, lost }.into());
            }
        }
        self.refuse_if_index_is_ahead(settled.position, Some(segment))?;
        self.forget_foreign_index(segment, settled)?;
        if length > settled.file_end {
            self.report.cut_bytes = length - settled.file_end;
            segment.file().truncate(settled.file_end).map_err(LogError::file("cut", segment.path()))?;
        }
        segment.file().sync().map_err(LogError::file("make durable", segment.path()))?;
        Ok((settled, scanner.relations().next_id()))
    }

    /// Where in the file the first block begins that has a transaction unknown to the index. A flush makes whole blocks
    /// durable before it tells the index of them, so a block is known as a whole or not at all.
    fn first_unknown(&self, segment: &SegmentFile) -> Result<u64, LogError> {
        let known = self.index.head().ordinal;
        let mut walker = segment.walk()?;
        loop {
            match walker.next_block() {
                Ok(Some(block)) if block.header.facts.first_ordinal >= known => return Ok(block.file_offset),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(walker.at()),
                // Whether that is damage is judged after it was written back.
                Err(Fault::Format { offset, .. }) => return Ok(offset),
                Err(Fault::Io(error)) => return Err(LogError::file("read", segment.path())(error)),
            }
        }
    }

    /// An index whose end is not the log's, though it has as many transactions, was put here from elsewhere.
    fn forget_foreign_index(&mut self, last: &SegmentFile, settled: Settled) -> Result<(), LogError> {
        if self.index.head() == settled.position {
            return Ok(());
        }
        self.index.clear(self.identity)?;
        self.report.indexed = 0;
        let last_ordinal = last.header().start.ordinal;
        for first_ordinal in segment::list(self.disk, &self.directory)? {
            if first_ordinal >= self.start.ordinal && first_ordinal < last_ordinal {
                let segment = self.open(first_ordinal)?;
                self.index_segment(&segment)?;
            }
        }
        // What that index knew of durable blocks counts for nothing either.
        write_back(last, last.header_bytes())?;
        let mut scanner = Scanner::new(last, Depth::Glance)?;
        // Where it ends was judged before.
        self.index_rest(last, &mut scanner).map(|_| ())
    }

    /// Adds the transactions of a segment that the index lacks, up to its end or to a fault.
    fn index_rest(
        &mut self,
        segment: &SegmentFile,
        scanner: &mut Scanner<'_>,
    ) -> Result<Option<Fault>, LogError> {
        let first_ordinal = segment.header().start.ordinal;
        let mut rows = Vec::new();
        let fault = loop {
            match scanner.next_transaction() {
                Ok(Some(transaction)) if transaction.ordinal < self.index.head().ordinal => {}
                Ok(Some(transaction)) => rows.push(index_row(&mut self.index, first_ordinal, transaction)),
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
            if rows.len() >= INDEX_BATCH {
                self.insert(&mut rows)?;
            }
        };
        self.insert(&mut rows)?;
        Ok(fault)
    }

    fn insert(&mut self, rows: &mut Vec<IndexRow>) -> Result<(), LogError> {
        self.index.insert(rows)?;
        self.report.indexed += rows.len() as u64;
        rows.clear();
        Ok(())
    }

    fn refuse_if_index_is_ahead(&self, end: Position, last: Option<&SegmentFile>) -> Result<(), LogError> {
        let known = self.index.head().ordinal;
        if known <= end.ordinal {
            return Ok(());
        }
        let path = last.map_or_else(|| self.directory.clone(), |segment| segment.path().to_owned());
        let offset = last.map_or(Ok(0), SegmentFile::blocks_end)?;
        let problem = FormatError::Short("the history: the index knows more of it");
        Err(Damage { path, offset, problem, lost: (end.ordinal, Some(known)) }.into())
    }
}

/// Makes the bytes of an open segment from an offset on durable, whatever was lost of them by a sync that failed.
fn write_back(segment: &SegmentFile, from: u64) -> Result<(), LogError> {
    let (file, path, end) = (segment.file(), segment.path(), segment.blocks_end()?);
    let mut buffer = vec![0; WRITE_BACK_BYTES];
    let mut at = from;
    while at < end {
        let read = file.read_at(at, &mut buffer).map_err(LogError::file("read", path))?;
        if read == 0 {
            break;
        }
        file.write_at(at, &buffer[..read]).map_err(LogError::write(path, read))?;
        at += read as u64;
    }
    if at > from {
        let written = usize::try_from(at - from).unwrap_or(usize::MAX);
        file.sync().map_err(LogError::write(path, written))?;
    }
    Ok(())
}

/// A segment must begin where the one before it ends.
fn check_chain(segment: &SegmentFile, expected: Option<Position>) -> Result<(), LogError> {
    let start = segment.header().start;
    match expected {
        Some(expected) if expected != start => {
            let problem = FormatError::Contradiction(
                "it does not begin where the segment before it ends; one is missing",
            );
            Err(Damage {
                path: segment.path().to_owned(),
                offset: 0,
                problem,
                lost: (expected.ordinal, Some(start.ordinal)),
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// The header of a segment that begins at `start`.
pub(crate) fn new_header(identity: &LogIdentity, start: Position) -> SegmentHeader {
    SegmentHeader {
        form: Form::Open,
        system_identifier: identity.system_identifier,
        log_id: identity.log_id,
        database_oid: identity.database_oid,
        timeline: identity.timeline,
        start,
        created: now(),
        database: identity.database.clone(),
    }
}

/// This machine's clock.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

pub(crate) fn index_row(index: &mut Index, segment: u64, transaction: ScannedTransaction) -> IndexRow {
    let mut tables: Vec<(TableId, OperationCounts)> = Vec::new();
    for (relation, counts) in &transaction.tables {
        let id = index.intern(&relation.schema, &relation.name);
        // A table that was altered inside the transaction has several definitions.
        match tables.iter_mut().find(|(known, _)| *known == id) {
            Some((_, total)) => add_counts(total, counts),
            None => tables.push((id, *counts)),
        }
    }
    let ScannedTransaction { header, ordinal, first_entry, counts, has_gap, has_schema_event, .. } =
        transaction;
    let place = Place { segment, logical: transaction.logical, bytes: transaction.bytes };
    IndexRow { header, ordinal, first_entry, counts, place, tables, has_gap, has_schema_event }
}

/// Forgets the index and learns it again.
pub(crate) fn rebuild(layout: &Layout, identity: &LogIdentity, disk: &Arc<dyn Disk>) -> Result<(), LogError> {
    let directory = layout.segments();
    let mut index = Index::open(&layout.index(), identity)?;
    let beginning = layout.read_beginning(disk)?;
    let segments = from_beginning(layout, disk, beginning.as_ref())?;
    let known = index.head();
    index.forget(identity)?;
    if let Some(beginning) = &beginning {
        index.begin_at(beginning, identity, &[])?;
    }
    let (report, start) = (Recovery::default(), start(identity, beginning.as_ref()));
    let mut run =
        Run { disk, identity, start, directory: directory.clone(), index, unsealed: Vec::new(), report };
    let (segment, _, head) = run.run(&segments)?;
    if head.ordinal < known.ordinal {
        // The old index stays, as the only witness of what is missing.
        let problem = FormatError::Short("the history: the index knows more of it");
        return Err(Damage {
            path: directory,
            offset: 0,
            problem,
            lost: (head.ordinal, Some(known.ordinal)),
        }
        .into());
    }
    run.index.judge_coverage(run.report.cut_bytes > 0, true, false)?;
    run.index.commit(segment.first_ordinal(), segment.file_end())
}
