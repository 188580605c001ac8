//! Bytes that nobody thought of, in each part of a segment. A file's bytes come this far only with checksums that hold,
//! so the parts are given them without: what is read is what would be written, and nothing does harm.

use std::sync::Arc;

use bytes::Bytes;
use ptr_model::{Change, Column, Datum, Oid, OldTuple, Relation, ReplicaIdentity, Tuple};
use ptr_testkit::fuzz;

use super::*;

fn table() -> Arc<Relation> {
    let column = |name: &str, type_oid| Column {
        name: name.to_owned(),
        in_identity: true,
        type_oid: Oid(type_oid),
        type_modifier: -1,
        type_name: "text".to_owned(),
    };
    Arc::new(Relation {
        oid: Oid(16_400),
        schema: "public".to_owned(),
        name: "t".to_owned(),
        replica_identity: ReplicaIdentity::Full,
        columns: vec![column("id", 23), column("v", 25)],
    })
}

fn relations() -> (Vec<u8>, RelationMap) {
    let (mut section, mut map) = (Vec::new(), RelationMap::default());
    put_relation(&mut section, RelationId(0), &table());
    map.learn(&section).unwrap();
    (section, map)
}

/// Each kind of record.
fn records() -> Vec<Vec<u8>> {
    let relation = table();
    let row = |id: &'static str| Tuple(vec![Datum::Text(Bytes::from_static(id.as_bytes())), Datum::Null]);
    let message = ptr_model::Message {
        prefix: "app".to_owned(),
        content: Bytes::from_static(b"content"),
        transactional: true,
    };
    let rows = ptr_model::RelationRows {
        relation: "public.t".to_owned(),
        columns: vec!["id".to_owned()],
        first: true,
        rows: vec![vec![Some("1".to_owned())], vec![None]],
    };
    let options = ptr_model::TruncateOptions { cascade: true, restart_identity: false };
    let changes = [
        Change::Insert { relation: Arc::clone(&relation), new: row("1") },
        Change::Update { relation: Arc::clone(&relation), old: OldTuple::Full(row("1")), new: row("1") },
        Change::Update { relation: Arc::clone(&relation), old: OldTuple::Key(row("1")), new: row("2") },
        Change::Update { relation: Arc::clone(&relation), old: OldTuple::Unchanged, new: row("2") },
        Change::Delete { relation: Arc::clone(&relation), old: OldTuple::Full(row("2")) },
        Change::Truncate { relations: vec![relation], options },
        Change::Message(message),
        Change::Rows(Box::new(rows)),
    ];
    let mut records: Vec<Vec<u8>> = changes.iter().map(record).collect();
    let mut commit = Vec::new();
    put_commit(&mut commit, 48, 3);
    records.push(commit);
    records
}

fn record(change: &Change) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_change(&mut bytes, change, |_| RelationId(0)).unwrap();
    bytes
}

#[test]
fn whatever_reads_as_a_record_is_written_so_that_it_reads_as_the_same() {
    let (_, relations) = relations();
    fuzz("records", &records(), |input| {
        let seen = glance(&mut Input::new(input));
        let _ = truncated_relations(input);
        let Ok(decoded) = decode_record(input, &relations) else { return false };
        assert!(seen.is_ok(), "{decoded:?} is read and cannot be passed over");
        if let Record::Change(change) = &decoded {
            let again = decode_record(&record(change), &relations);
            assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, FormatError>(&decoded)));
        }
        true
    });
}

/// A block of these records, as it is written.
fn block(records: &[u8]) -> Vec<u8> {
    let facts = BlockFacts {
        logical: 0,
        first_ordinal: 0,
        first_entry: 0,
        synced: 0,
        continues: false,
        unfinished: false,
    };
    let mut encoder = BlockEncoder::new(Compression::Quick).unwrap();
    let (block, _) = encoder.encode(7, facts, std::iter::empty(), records).unwrap();
    block.to_vec()
}

#[test]
fn a_block_that_says_more_than_its_bytes_can_hold_is_refused_before_memory_is_taken() {
    let block = block(&[7; 1 << 20]);
    let (head, stored) = block.split_first_chunk::<BLOCK_HEADER_BYTES>().unwrap();
    let header = BlockHeader::decode(head).unwrap();
    let mut payload = Vec::new();
    decode_payload(&header, stored, &mut payload).unwrap();
    assert_eq!((payload.len(), stored.len() < 1_000), (1 << 20, true));
    let mut payload = Vec::new();
    let mut swollen = header;
    swollen.payload_bytes = u32::MAX;
    assert!(decode_payload(&swollen, stored, &mut payload).is_err());
    assert_eq!(payload.capacity(), 0);
}

#[test]
fn definitions_headers_and_footers_of_any_bytes_are_read_or_refused() {
    let (section, _) = relations();
    fuzz("relation sections", &[section], |input| {
        let (mut map, whole) = (RelationMap::default(), RelationMap::definitions(input));
        let learnt = map.learn(input);
        assert!(learnt.is_err() || whole.is_ok());
        learnt.is_ok()
    });
    fuzz("blocks", &[block(&records().concat().repeat(40))], |input| {
        let Some((head, stored)) = input.split_first_chunk::<BLOCK_HEADER_BYTES>() else { return false };
        let Ok(header) = BlockHeader::decode(head) else { return false };
        let mut payload = Vec::new();
        // The checksum is what keeps altered bytes away from here.
        decode_payload(&header, stored, &mut payload).is_ok()
    });
    let footer = Footer {
        end: ptr_model::Position { ordinal: 3, lsn: ptr_model::Lsn(9), entry_index: 4 },
        logical_end: 77,
        blocks: Vec::new(),
    };
    fuzz("footers", &[footer.encode(7)], |input| {
        let _ = SegmentHeader::decode(input);
        Footer::decode(input, 7).is_ok()
    });
}
