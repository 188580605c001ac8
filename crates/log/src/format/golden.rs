//! A sealed segment of one block, made of fixed values, byte by byte what it was when the format was specified.

use std::sync::Arc;

use bytes::Bytes;
use ptr_model::{
    Change, Column, Datum, Lsn, Message, Oid, OldTuple, Origin, Position, Relation, ReplicaIdentity,
    Timestamp, TransactionHeader, TruncateOptions, Tuple, Xid,
};
use uuid::Uuid;

use super::*;

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/format-1.seg");

fn relation() -> Arc<Relation> {
    let column = |name: &str, in_identity, type_oid, type_name: &str| Column {
        name: name.to_owned(),
        in_identity,
        type_oid: Oid(type_oid),
        type_modifier: -1,
        type_name: type_name.to_owned(),
    };
    Arc::new(Relation {
        oid: Oid(16_385),
        schema: "public".to_owned(),
        name: "t".to_owned(),
        replica_identity: ReplicaIdentity::Full,
        columns: vec![column("id", true, 23, "integer"), column("v", true, 25, "text")],
    })
}

fn tuple(id: &'static str, value: Datum) -> Tuple {
    Tuple(vec![Datum::Text(Bytes::from_static(id.as_bytes())), value])
}

fn changes() -> Vec<Change> {
    let relation = relation();
    let binary = Datum::Binary(Bytes::from_static(&[0, 1, 255]));
    let text = Datum::Text(Bytes::from_static(b"a"));
    vec![
        Change::Insert { relation: Arc::clone(&relation), new: tuple("1", text.clone()) },
        Change::Update {
            relation: Arc::clone(&relation),
            old: OldTuple::Full(tuple("1", text)),
            new: tuple("1", binary),
        },
        Change::Update {
            relation: Arc::clone(&relation),
            old: OldTuple::Unchanged,
            new: tuple("1", Datum::UnchangedToast),
        },
        Change::Delete { relation: Arc::clone(&relation), old: OldTuple::Key(tuple("1", Datum::Null)) },
        Change::Truncate {
            relations: vec![relation],
            options: TruncateOptions { cascade: true, restart_identity: true },
        },
        Change::Message(Message {
            prefix: "app".to_owned(),
            content: Bytes::from_static(b"hello"),
            transactional: true,
        }),
    ]
}

fn transaction() -> TransactionHeader {
    TransactionHeader {
        xid: Xid(800),
        commit_lsn: Lsn(0x200_0000),
        end_lsn: Lsn(0x200_0030),
        commit_time: Timestamp(1_767_225_600_000_000),
        origin: Some(Origin { name: "upstream".to_owned(), commit_lsn: Lsn(77) }),
    }
}

fn segment() -> Vec<u8> {
    let start = Position { ordinal: 3, lsn: Lsn(0x100_0000), entry_index: 10 };
    let header = SegmentHeader {
        form: Form::Sealed,
        system_identifier: 7_300_000_000_000_000_001,
        log_id: Uuid::from_u128(0x0190_a5a4_1c1f_7000_8000_0000_0000_0001),
        database_oid: Oid(16_384),
        timeline: 1,
        start,
        created: Timestamp(1_767_225_600_000_000),
        database: "shop".to_owned(),
    };
    let mut segment = header.encode();
    let (_, header_bytes, seed) = SegmentHeader::decode(&segment).unwrap();
    let mut definition = Vec::new();
    put_relation(&mut definition, RelationId(0), &relation());
    let mut records = Vec::new();
    put_begin(&mut records, &transaction());
    for change in changes() {
        put_change(&mut records, &change, |_| RelationId(0)).unwrap();
    }
    put_commit(&mut records, 0x30, 6);
    let facts = BlockFacts {
        logical: 0,
        first_ordinal: 3,
        first_entry: 10,
        synced: 0,
        continues: false,
        unfinished: false,
    };
    let mut encoder = BlockEncoder::new(Compression::Thorough).unwrap();
    let (block, _) = encoder.encode(seed, facts, [definition.as_slice()].into_iter(), &records).unwrap();
    segment.extend_from_slice(block);
    let place = BlockPlace { file: header_bytes as u64, logical: 0, first_ordinal: 3, first_entry: 10 };
    let end = Position { ordinal: 4, lsn: Lsn(0x200_0030), entry_index: 16 };
    segment.extend(Footer { end, logical_end: records.len() as u64, blocks: vec![place] }.encode(seed));
    segment
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/format-1.seg"), segment()).unwrap();
        return;
    }
    assert_eq!(segment(), GOLDEN, "a new format needs a new version number; see docs/log-format.md");
}

#[test]
fn the_golden_bytes_are_read_as_what_they_were_made_of() {
    let (_, start, seed) = SegmentHeader::decode(GOLDEN).unwrap();
    let head = GOLDEN[start..].first_chunk().unwrap();
    let header = BlockHeader::decode(head).unwrap();
    let stored = &GOLDEN[start + BLOCK_HEADER_BYTES..][..header.stored_bytes as usize];
    header.verify(head, stored, seed).unwrap();
    let mut payload = Vec::new();
    decode_payload(&header, stored, &mut payload).unwrap();
    let (section, mut records) = payload.split_at(header.relation_bytes as usize);
    let mut relations = RelationMap::default();
    relations.learn(section).unwrap();
    let mut read = Vec::new();
    while !records.is_empty() {
        let mut input = Input::new(records);
        glance(&mut input).unwrap();
        let (record, rest) = records.split_at(input.at());
        match decode_record(record, &relations).unwrap() {
            Record::Begin(begun) => {
                assert_eq!(begun, TransactionHeader { end_lsn: begun.commit_lsn, ..transaction() });
            }
            Record::Commit { commit_bytes, entries } => assert_eq!((commit_bytes, entries), (0x30, 6)),
            Record::Change(change) => read.push(change),
        }
        records = rest;
    }
    assert_eq!(read, changes());
}
