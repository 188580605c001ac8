//! Reading a whole segment, transaction by transaction: what recovery, sealing, `check` and the rebuilding of
//! the index learn from.

use std::sync::Arc;

use ptr_model::{Lsn, OperationCounts, Position, Relation, TransactionHeader};

use super::{Fault, SegmentFile, Walker};
use crate::{
    LogError,
    format::{
        FormatError, Glance, Input, Record, RelationId, RelationMap, decode_payload, decode_record, glance,
        truncated_relations,
    },
};

/// How much of each record is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// What the index needs.
    Glance,
    /// Every value.
    Decode,
}

/// A committed transaction, as it stands in a segment.
pub(crate) struct ScannedTransaction {
    pub(crate) header: TransactionHeader,
    pub(crate) ordinal: u64,
    pub(crate) first_entry: u64,
    pub(crate) counts: OperationCounts,
    /// Entries by table definition, in order of first appearance.
    pub(crate) tables: Vec<(Arc<Relation>, OperationCounts)>,
    /// Where its BEGIN is in the segment's concatenated record sections.
    pub(crate) logical: u64,
    pub(crate) bytes: u64,
    pub(crate) has_gap: bool,
    pub(crate) has_schema_event: bool,
}

/// The end of the last committed transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settled {
    pub(crate) position: Position,
    /// End of its last block in the file.
    pub(crate) file_end: u64,
    /// End of its records.
    pub(crate) logical_end: u64,
}

/// Reads a segment from its beginning.
pub(crate) struct Scanner<'s> {
    walker: Walker<'s>,
    depth: Depth,
    relations: RelationMap,
    payload: Vec<u8>,
    /// Where in the payload the next record begins.
    at: usize,
    /// The block's offset in the file.
    block_offset: u64,
    /// Where the next record begins in the concatenated record sections.
    logical: u64,
    position: Position,
    settled: Settled,
    current: Option<Current>,
}

/// The transaction that is being read.
struct Current {
    header: TransactionHeader,
    logical: u64,
    counts: OperationCounts,
    tables: Vec<(RelationId, OperationCounts)>,
    has_gap: bool,
    has_schema_event: bool,
}

impl<'s> Scanner<'s> {
    pub(crate) fn new(segment: &'s SegmentFile, depth: Depth) -> Result<Self, LogError> {
        let position = segment.header().start;
        let file_end = segment.header_bytes();
        Ok(Self {
            walker: segment.walk()?,
            depth,
            relations: RelationMap::default(),
            payload: Vec::new(),
            at: 0,
            block_offset: file_end,
            logical: 0,
            position,
            settled: Settled { position, file_end, logical_end: 0 },
            current: None,
        })
    }

    /// The end of the last committed transaction that was read.
    pub(crate) fn settled(&self) -> Settled {
        self.settled
    }

    /// The definitions met so far.
    pub(crate) fn relations(&self) -> &RelationMap {
        &self.relations
    }

    /// The next committed transaction; `None` at the end, where an unfinished one may have begun.
    pub(crate) fn next_transaction(&mut self) -> Result<Option<ScannedTransaction>, Fault> {
        loop {
            while self.at < self.payload.len() {
                if let Some(transaction) = self.step().map_err(Fault::at(self.block_offset))? {
                    return Ok(Some(transaction));
                }
            }
            if !self.next_block()? {
                return Ok(None);
            }
        }
    }

    /// Refuses an end inside a transaction: only the last segment of a log may end so.
    pub(crate) fn finish(&self) -> Result<(), Fault> {
        match self.current {
            None => Ok(()),
            Some(_) => Err(Fault::Format {
                offset: self.settled.file_end,
                problem: FormatError::Short("a transaction"),
            }),
        }
    }

    fn next_block(&mut self) -> Result<bool, Fault> {
        let Some(block) = self.walker.next_block()? else { return Ok(false) };
        let (header, offset) = (block.header, block.file_offset);
        decode_payload(&header, block.stored, &mut self.payload).map_err(Fault::at(offset))?;
        let contradiction =
            |problem| Err(Fault::Format { offset, problem: FormatError::Contradiction(problem) });
        let entries =
            self.position.entry_index + self.current.as_ref().map_or(0, |current| current.counts.total());
        let facts = header.facts;
        if facts.logical != self.logical || facts.continues != self.current.is_some() {
            return contradiction("a block does not go on where the one before it ends");
        }
        if facts.first_ordinal != self.position.ordinal || facts.first_entry != entries {
            return contradiction("a block counts transactions or entries differently from those before it");
        }
        self.block_offset = offset;
        self.at = header.relation_bytes as usize;
        self.relations.learn(&self.payload[..self.at]).map_err(Fault::at(offset)).map(|()| true)
    }

    /// Reads one record.
    fn step(&mut self) -> Result<Option<ScannedTransaction>, FormatError> {
        let mut input = Input::new(&self.payload[self.at..]);
        let seen = glance(&mut input)?;
        let length = input.at();
        let record = &self.payload[self.at..self.at + length];
        let decoded = match (seen, self.depth) {
            (Glance::Begin | Glance::Commit, _) | (_, Depth::Decode) => {
                Some(decode_record(record, &self.relations)?)
            }
            (_, Depth::Glance) => None,
        };
        let (start, begun) = (self.logical, self.current.is_some());
        let done = match (decoded, &mut self.current) {
            (Some(Record::Begin(header)), None) => {
                self.current = Some(Current::begin(header, start));
                None
            }
            (Some(Record::Commit { commit_bytes, entries }), Some(current)) => {
                Some((current.end(commit_bytes)?, entries))
            }
            (Some(Record::Change(_)) | None, Some(current)) if begun => {
                current.add(seen, record)?;
                None
            }
            _ => return Err(FormatError::Contradiction("BEGIN and COMMIT do not alternate")),
        };
        self.at += length;
        self.logical += length as u64;
        done.map(|(end_lsn, entries)| self.commit(end_lsn, entries)).transpose()
    }

    fn commit(&mut self, end_lsn: Lsn, entries: u64) -> Result<ScannedTransaction, FormatError> {
        let current = self.current.take().expect("the caller has seen it");
        if current.counts.total() != entries {
            return Err(FormatError::Contradiction(
                "a transaction has another number of entries than its COMMIT says",
            ));
        }
        let tables =
            current.tables.iter().map(|(id, counts)| Ok((Arc::clone(self.relations.get(*id)?), *counts)));
        let transaction = ScannedTransaction {
            header: TransactionHeader { end_lsn, ..current.header },
            ordinal: self.position.ordinal,
            first_entry: self.position.entry_index,
            counts: current.counts,
            tables: tables.collect::<Result<_, FormatError>>()?,
            logical: current.logical,
            bytes: self.logical - current.logical,
            has_gap: current.has_gap,
            has_schema_event: current.has_schema_event,
        };
        self.position = Position {
            ordinal: self.position.ordinal + 1,
            lsn: end_lsn,
            entry_index: self.position.entry_index + entries,
        };
        if self.at == self.payload.len() {
            self.settled =
                Settled { position: self.position, file_end: self.walker.at(), logical_end: self.logical };
        }
        Ok(transaction)
    }
}

impl Current {
    fn begin(header: TransactionHeader, logical: u64) -> Self {
        Self {
            header,
            logical,
            counts: OperationCounts::default(),
            tables: Vec::new(),
            has_gap: false,
            has_schema_event: false,
        }
    }

    fn end(&self, commit_bytes: u64) -> Result<Lsn, FormatError> {
        let end = self.header.commit_lsn.0.checked_add(commit_bytes);
        end.map(Lsn).ok_or(FormatError::Contradiction("a commit ends beyond the last LSN"))
    }

    fn add(&mut self, seen: Glance, record: &[u8]) -> Result<(), FormatError> {
        match seen {
            Glance::Row(_, relation) => self.tally(relation, seen),
            Glance::Truncate => truncated_relations(record)?.into_iter().for_each(|id| self.tally(id, seen)),
            Glance::Statement | Glance::SchemaEvent => self.has_schema_event = true,
            Glance::Gap => self.has_gap = true,
            Glance::Begin | Glance::Commit | Glance::Rows | Glance::Message => {}
        }
        if let Some(operation) = seen.operation() {
            self.counts.add(operation);
        }
        Ok(())
    }

    fn tally(&mut self, relation: RelationId, seen: Glance) {
        let place = self.tables.iter().position(|(id, _)| *id == relation).unwrap_or_else(|| {
            self.tables.push((relation, OperationCounts::default()));
            self.tables.len() - 1
        });
        if let Some(operation) = seen.operation() {
            self.tables[place].1.add(operation);
        }
    }
}
