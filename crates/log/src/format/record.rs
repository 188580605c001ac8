//! Records: the steps of transactions, as bytes. A record never spans two blocks.

use std::sync::Arc;

use bytes::Bytes;
use ptr_model::{
    Change, Datum, Gap, Lsn, Message, OldTuple, Operation, Origin, Relation, RelationRows, Timestamp,
    TransactionHeader, TruncateOptions, Tuple, Xid,
};

use super::{
    FormatError, Input, RelationId, RelationMap,
    input::{put_bytes, put_varint},
};

const BEGIN: u8 = 1;
const COMMIT: u8 = 2;
const INSERT: u8 = 3;
const UPDATE_FULL: u8 = 4;
const UPDATE_KEY: u8 = 5;
const UPDATE: u8 = 6;
const DELETE_FULL: u8 = 7;
const DELETE_KEY: u8 = 8;
const DELETE: u8 = 9;
const TRUNCATE: u8 = 10;
const STATEMENT: u8 = 11;
const SCHEMA_EVENT: u8 = 12;
const ROWS: u8 = 13;
const GAP: u8 = 14;
const MESSAGE: u8 = 15;

/// A datum begins with a varint: one of these three, or 3 + 2 * length, plus 1 where the value is binary.
const DATUM_NULL: u64 = 0;
const DATUM_UNCHANGED: u64 = 1;
/// Equal to the same column of the full old tuple before it.
const DATUM_SAME: u64 = 2;
const DATUM_VALUE: u64 = 3;

/// A record as it is read.
#[derive(Debug)]
pub(crate) enum Record {
    /// `end_lsn` is not known yet and reads as `commit_lsn`.
    Begin(TransactionHeader),
    Commit {
        /// Bytes from the commit record's LSN to its end.
        commit_bytes: u64,
        /// Entries of the transaction.
        entries: u64,
    },
    Change(Change),
}

/// What can be said of a record without copying its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Glance {
    Begin,
    Commit,
    Row(Operation, RelationId),
    Truncate,
    Statement,
    SchemaEvent,
    Rows,
    Gap,
    Message,
}

impl Glance {
    pub(crate) fn operation(self) -> Option<Operation> {
        match self {
            Self::Row(operation, _) => Some(operation),
            Self::Truncate => Some(Operation::Truncate),
            Self::Statement => Some(Operation::Ddl),
            Self::Message => Some(Operation::Message),
            Self::Begin | Self::Commit | Self::SchemaEvent | Self::Rows | Self::Gap => None,
        }
    }
}

pub(crate) fn put_begin(buffer: &mut Vec<u8>, header: &TransactionHeader) {
    buffer.push(BEGIN);
    put_varint(buffer, header.xid.0.into());
    buffer.extend_from_slice(&header.commit_lsn.0.to_le_bytes());
    buffer.extend_from_slice(&header.commit_time.0.to_le_bytes());
    buffer.push(header.origin.is_some().into());
    if let Some(origin) = &header.origin {
        put_bytes(buffer, origin.name.as_bytes());
        buffer.extend_from_slice(&origin.commit_lsn.0.to_le_bytes());
    }
}

pub(crate) fn put_commit(buffer: &mut Vec<u8>, commit_bytes: u64, entries: u64) {
    buffer.push(COMMIT);
    put_varint(buffer, commit_bytes);
    put_varint(buffer, entries);
}

/// Appends a change; `identify` gives the id of each relation that it names.
pub(crate) fn put_change(
    buffer: &mut Vec<u8>,
    change: &Change,
    mut identify: impl FnMut(&Arc<Relation>) -> RelationId,
) -> Result<(), FormatError> {
    match change {
        Change::Insert { relation, new } => {
            put_row(buffer, INSERT, identify(relation));
            put_tuple(buffer, new);
        }
        Change::Update { relation, old, new } => put_update(buffer, identify(relation), old, new),
        Change::Delete { relation, old } => put_delete(buffer, identify(relation), old),
        Change::Truncate { relations, options } => {
            buffer.push(TRUNCATE);
            buffer.push(u8::from(options.cascade) | u8::from(options.restart_identity) << 1);
            put_varint(buffer, relations.len() as u64);
            for relation in relations {
                put_varint(buffer, identify(relation).0.into());
            }
        }
        Change::Schema(change) => {
            buffer.push(if change.is_entry { STATEMENT } else { SCHEMA_EVENT });
            put_bytes(buffer, &serde_json::to_vec(change)?);
        }
        Change::Rows(rows) => put_rows(buffer, rows),
        Change::Gap(gap) => {
            buffer.push(GAP);
            put_bytes(buffer, &serde_json::to_vec(gap)?);
        }
        Change::Message(message) => {
            buffer.push(MESSAGE);
            buffer.push(message.transactional.into());
            put_bytes(buffer, message.prefix.as_bytes());
            put_bytes(buffer, &message.content);
        }
    }
    Ok(())
}

fn put_row(buffer: &mut Vec<u8>, tag: u8, relation: RelationId) {
    buffer.push(tag);
    put_varint(buffer, relation.0.into());
}

fn put_update(buffer: &mut Vec<u8>, relation: RelationId, old: &OldTuple, new: &Tuple) {
    match old {
        OldTuple::Full(old) => {
            put_row(buffer, UPDATE_FULL, relation);
            put_tuple(buffer, old);
            put_new_tuple(buffer, old, new);
        }
        OldTuple::Key(old) => {
            put_row(buffer, UPDATE_KEY, relation);
            put_tuple(buffer, old);
            put_tuple(buffer, new);
        }
        OldTuple::Unchanged => {
            put_row(buffer, UPDATE, relation);
            put_tuple(buffer, new);
        }
    }
}

fn put_delete(buffer: &mut Vec<u8>, relation: RelationId, old: &OldTuple) {
    match old {
        OldTuple::Full(old) => {
            put_row(buffer, DELETE_FULL, relation);
            put_tuple(buffer, old);
        }
        OldTuple::Key(old) => {
            put_row(buffer, DELETE_KEY, relation);
            put_tuple(buffer, old);
        }
        OldTuple::Unchanged => put_row(buffer, DELETE, relation),
    }
}

fn put_tuple(buffer: &mut Vec<u8>, tuple: &Tuple) {
    put_varint(buffer, tuple.0.len() as u64);
    for datum in &tuple.0 {
        put_datum(buffer, datum);
    }
}

/// A new tuple leaves out what equals the full old one: most columns of most updates.
fn put_new_tuple(buffer: &mut Vec<u8>, old: &Tuple, new: &Tuple) {
    put_varint(buffer, new.0.len() as u64);
    for (column, datum) in new.0.iter().enumerate() {
        if datum.size() > 0 && old.0.get(column) == Some(datum) {
            put_varint(buffer, DATUM_SAME);
        } else {
            put_datum(buffer, datum);
        }
    }
}

fn put_datum(buffer: &mut Vec<u8>, datum: &Datum) {
    let (value, binary) = match datum {
        Datum::Null => return put_varint(buffer, DATUM_NULL),
        Datum::UnchangedToast => return put_varint(buffer, DATUM_UNCHANGED),
        Datum::Text(value) => (value, 0),
        Datum::Binary(value) => (value, 1),
    };
    put_varint(buffer, DATUM_VALUE + 2 * value.len() as u64 + binary);
    buffer.extend_from_slice(value);
}

fn put_rows(buffer: &mut Vec<u8>, rows: &RelationRows) {
    buffer.push(ROWS);
    buffer.push(rows.first.into());
    put_bytes(buffer, rows.relation.as_bytes());
    put_varint(buffer, rows.columns.len() as u64);
    for column in &rows.columns {
        put_bytes(buffer, column.as_bytes());
    }
    put_varint(buffer, rows.rows.len() as u64);
    for row in &rows.rows {
        put_varint(buffer, row.len() as u64);
        for value in row {
            // 0 is NULL, else one more than the length.
            put_varint(buffer, value.as_ref().map_or(0, |value| value.len() as u64 + 1));
            buffer.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        }
    }
}

/// Moves past one record and says what it is.
pub(crate) fn glance(input: &mut Input<'_>) -> Result<Glance, FormatError> {
    let tag = input.byte("a record")?;
    match tag {
        BEGIN => read_begin(input).map(|_| Glance::Begin),
        COMMIT => {
            input.varint("COMMIT")?;
            input.varint("COMMIT")?;
            Ok(Glance::Commit)
        }
        INSERT..=DELETE => glance_row(tag, input),
        TRUNCATE => read_truncate(input).map(|_| Glance::Truncate),
        STATEMENT => skip_bytes(input).map(|()| Glance::Statement),
        SCHEMA_EVENT => skip_bytes(input).map(|()| Glance::SchemaEvent),
        ROWS => skip_rows(input).map(|()| Glance::Rows),
        GAP => skip_bytes(input).map(|()| Glance::Gap),
        MESSAGE => {
            input.byte("a message")?;
            skip_bytes(input)?;
            skip_bytes(input).map(|()| Glance::Message)
        }
        value => Err(FormatError::Unknown { what: "record", value: value.into() }),
    }
}

fn glance_row(tag: u8, input: &mut Input<'_>) -> Result<Glance, FormatError> {
    let relation = RelationId(input.varint_u32("relation")?);
    let (operation, tuples) = match tag {
        INSERT => (Operation::Insert, 1),
        UPDATE_FULL | UPDATE_KEY => (Operation::Update, 2),
        UPDATE => (Operation::Update, 1),
        DELETE_FULL | DELETE_KEY => (Operation::Delete, 1),
        _ => (Operation::Delete, 0),
    };
    for _ in 0..tuples {
        skip_tuple(input)?;
    }
    Ok(Glance::Row(operation, relation))
}

fn skip_bytes(input: &mut Input<'_>) -> Result<(), FormatError> {
    let length = input.length("a record")?;
    input.take(length, "a record").map(|_| ())
}

fn skip_tuple(input: &mut Input<'_>) -> Result<(), FormatError> {
    for _ in 0..input.length("a tuple")? {
        if let Some((length, _)) = value_length(input.varint("a value")?)? {
            input.take(length, "a value")?;
        }
    }
    Ok(())
}

fn skip_rows(input: &mut Input<'_>) -> Result<(), FormatError> {
    input.byte("rows")?;
    skip_bytes(input)?;
    for _ in 0..input.length("rows")? {
        skip_bytes(input)?;
    }
    for _ in 0..input.length("rows")? {
        for _ in 0..input.length("rows")? {
            read_optional(input)?;
        }
    }
    Ok(())
}

/// Length of a datum's value and whether it is binary; `None` where no value follows.
fn value_length(head: u64) -> Result<Option<(usize, bool)>, FormatError> {
    let Some(value) = head.checked_sub(DATUM_VALUE) else { return Ok(None) };
    let length = usize::try_from(value >> 1).map_err(|_| FormatError::Short("a value"))?;
    Ok(Some((length, value & 1 == 1)))
}

/// The tables of a TRUNCATE record.
pub(crate) fn truncated_relations(record: &[u8]) -> Result<Vec<RelationId>, FormatError> {
    let mut input = Input::new(record);
    input.byte("TRUNCATE")?;
    read_truncate(&mut input).map(|(relations, _)| relations)
}

/// Decodes one whole record. Its values share one copy of the record, and nothing else, so that keeping a
/// row in memory keeps no block.
pub(crate) fn decode_record(record: &[u8], relations: &RelationMap) -> Result<Record, FormatError> {
    let mut input = Input::new(record);
    let tag = input.byte("a record")?;
    let result = match tag {
        BEGIN => Record::Begin(read_begin(&mut input)?),
        COMMIT => Record::Commit { commit_bytes: input.varint("COMMIT")?, entries: input.varint("COMMIT")? },
        INSERT..=DELETE => Record::Change(decode_row(tag, record, &mut input, relations)?),
        TRUNCATE => {
            let (ids, options) = read_truncate(&mut input)?;
            let relations = ids.into_iter().map(|id| relations.get(id).cloned()).collect::<Result<_, _>>()?;
            Record::Change(Change::Truncate { relations, options })
        }
        STATEMENT | SCHEMA_EVENT => {
            Record::Change(Change::Schema(serde_json::from_slice(read_bytes(&mut input)?)?))
        }
        ROWS => Record::Change(Change::Rows(Box::new(read_rows(&mut input)?))),
        GAP => Record::Change(Change::Gap(serde_json::from_slice::<Gap>(read_bytes(&mut input)?)?)),
        MESSAGE => Record::Change(Change::Message(Message {
            transactional: input.byte("a message")? != 0,
            prefix: input.string("a message")?,
            content: Bytes::copy_from_slice(read_bytes(&mut input)?),
        })),
        value => return Err(FormatError::Unknown { what: "record", value: value.into() }),
    };
    if input.is_empty() {
        Ok(result)
    } else {
        Err(FormatError::Contradiction("a record is longer than its fields"))
    }
}

fn decode_row(
    tag: u8,
    record: &[u8],
    input: &mut Input<'_>,
    relations: &RelationMap,
) -> Result<Change, FormatError> {
    let shared = Bytes::copy_from_slice(record);
    let relation = Arc::clone(relations.get(RelationId(input.varint_u32("relation")?))?);
    Ok(match tag {
        INSERT => Change::Insert { relation, new: read_tuple(input, &shared, None)? },
        UPDATE_FULL => {
            let old = read_tuple(input, &shared, None)?;
            let new = read_tuple(input, &shared, Some(&old))?;
            Change::Update { relation, old: OldTuple::Full(old), new }
        }
        UPDATE_KEY => {
            let old = OldTuple::Key(read_tuple(input, &shared, None)?);
            Change::Update { relation, old, new: read_tuple(input, &shared, None)? }
        }
        UPDATE => {
            Change::Update { relation, old: OldTuple::Unchanged, new: read_tuple(input, &shared, None)? }
        }
        DELETE_FULL => Change::Delete { relation, old: OldTuple::Full(read_tuple(input, &shared, None)?) },
        DELETE_KEY => Change::Delete { relation, old: OldTuple::Key(read_tuple(input, &shared, None)?) },
        _ => Change::Delete { relation, old: OldTuple::Unchanged },
    })
}

fn read_tuple(input: &mut Input<'_>, shared: &Bytes, old: Option<&Tuple>) -> Result<Tuple, FormatError> {
    let count = input.length("a tuple")?;
    let mut columns = Vec::with_capacity(count);
    for column in 0..count {
        let head = input.varint("a value")?;
        columns.push(match (head, value_length(head)?) {
            (DATUM_NULL, _) => Datum::Null,
            (DATUM_UNCHANGED, _) => Datum::UnchangedToast,
            (_, Some((length, binary))) => {
                let start = input.at();
                input.take(length, "a value")?;
                let value = shared.slice(start..start + length);
                if binary { Datum::Binary(value) } else { Datum::Text(value) }
            }
            (_, None) => old
                .and_then(|old| old.0.get(column))
                .cloned()
                .ok_or(FormatError::Contradiction("a value refers to an old tuple that is not there"))?,
        });
    }
    Ok(Tuple(columns))
}

fn read_bytes<'a>(input: &mut Input<'a>) -> Result<&'a [u8], FormatError> {
    let length = input.length("a record")?;
    input.take(length, "a record")
}

fn read_begin(input: &mut Input<'_>) -> Result<TransactionHeader, FormatError> {
    let xid = Xid(input.varint_u32("transaction id")?);
    let commit_lsn = Lsn(input.u64("BEGIN")?);
    let commit_time = Timestamp(input.i64("BEGIN")?);
    let origin = match input.byte("BEGIN")? {
        0 => None,
        _ => Some(Origin { name: input.string("BEGIN")?, commit_lsn: Lsn(input.u64("BEGIN")?) }),
    };
    Ok(TransactionHeader { xid, commit_lsn, end_lsn: commit_lsn, commit_time, origin })
}

fn read_truncate(input: &mut Input<'_>) -> Result<(Vec<RelationId>, TruncateOptions), FormatError> {
    let bits = input.byte("TRUNCATE")?;
    let options = TruncateOptions { cascade: bits & 1 != 0, restart_identity: bits & 2 != 0 };
    let count = input.length("TRUNCATE")?;
    let relations =
        (0..count).map(|_| input.varint_u32("relation").map(RelationId)).collect::<Result<_, _>>()?;
    Ok((relations, options))
}

fn read_rows(input: &mut Input<'_>) -> Result<RelationRows, FormatError> {
    let what = "rows";
    let first = input.byte(what)? != 0;
    let relation = input.string(what)?;
    let columns = (0..input.length(what)?).map(|_| input.string(what)).collect::<Result<_, _>>()?;
    let count = input.length(what)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let values = input.length(what)?;
        rows.push((0..values).map(|_| read_optional(input)).collect::<Result<_, _>>()?);
    }
    Ok(RelationRows { relation, columns, first, rows })
}

fn read_optional(input: &mut Input<'_>) -> Result<Option<String>, FormatError> {
    let Some(length) = input.varint("rows")?.checked_sub(1) else { return Ok(None) };
    let length = usize::try_from(length).map_err(|_| FormatError::Short("rows"))?;
    let bytes = input.take(length, "rows")?.to_vec();
    String::from_utf8(bytes).map(Some).map_err(|_| FormatError::Text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::{BLOCK_HEADER_BYTES, BlockHeader, Footer, SegmentHeader};

    proptest! {
        /// Bytes of a hostile file come this far only with a checksum that holds, and even then do no harm.
        #[test]
        fn any_bytes_decode_or_are_an_error(tag in 0u8..20, bytes: Vec<u8>) {
            let record = [&[tag], bytes.as_slice()].concat();
            let mut relations = RelationMap::default();
            let _ = relations.learn(&bytes);
            let seen = glance(&mut Input::new(&record));
            let _ = truncated_relations(&record);
            let decoded = decode_record(&record, &relations);
            prop_assert!(decoded.is_err() || seen.is_ok());
            let _ = RelationMap::definitions(&bytes);
            let _ = SegmentHeader::decode(&bytes);
            let _ = Footer::decode(&bytes, 0);
            let mut head = [0; BLOCK_HEADER_BYTES];
            head.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            let _ = BlockHeader::decode(&head);
        }
    }
}
