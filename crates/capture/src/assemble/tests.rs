use ptr_model::{Datum, OldTuple, ReplicaIdentity, TruncateOptions};
use serde_json::json;

use super::*;
use crate::decode::{RelationColumn, RelationMessage};

const TABLE: Oid = Oid(16_400);
const NOW: Timestamp = Timestamp(5);

fn secret() -> Secret {
    "ab".repeat(32).parse().unwrap()
}

fn assembler(log_end: u64) -> Assembler {
    Assembler::new(Lsn(log_end), Some(secret()))
}

fn begin(lsn: u64) -> PgOutput {
    PgOutput::Begin { final_lsn: Lsn(lsn), commit_time: Timestamp(1), xid: Xid(7) }
}

fn commit(lsn: u64, end: u64) -> PgOutput {
    PgOutput::Commit { commit_lsn: Lsn(lsn), end_lsn: Lsn(end), commit_time: Timestamp(1) }
}

fn relation(columns: &[&str]) -> PgOutput {
    let columns = columns.iter().map(|name| RelationColumn {
        in_identity: true,
        name: (*name).to_owned(),
        type_oid: Oid(23),
        type_modifier: -1,
    });
    PgOutput::Relation(RelationMessage {
        oid: TABLE,
        schema: String::new(),
        name: "t".to_owned(),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.collect(),
    })
}

fn insert(values: usize) -> PgOutput {
    PgOutput::Insert { relation: TABLE, new: Tuple(vec![Datum::Null; values]) }
}

fn message(transactional: bool, lsn: u64, prefix: &str, content: impl Into<Bytes>) -> PgOutput {
    PgOutput::Message { transactional, lsn: Lsn(lsn), prefix: prefix.to_owned(), content: content.into() }
}

fn steps(assembler: &mut Assembler, messages: Vec<PgOutput>) -> Vec<Step> {
    let mut steps = Vec::new();
    for message in messages {
        assembler.take(message, NOW, &mut steps).unwrap();
    }
    steps
}

/// One word a step.
fn outline(steps: &[Step]) -> String {
    let words = steps.iter().map(|step| match step {
        Step::Begin(header) => format!("begin {}", header.commit_lsn),
        Step::Change(change) => change.operation().map_or("other", |operation| operation.name()).to_owned(),
        Step::Commit { end_lsn } => format!("commit {end_lsn}"),
        Step::Passed { end_lsn } => format!("passed {end_lsn}"),
        Step::Marker { lsn, .. } => format!("marker {lsn}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn changes_carry_the_relation_as_it_was_announced_last() {
    let mut assembler = assembler(0);
    let steps = steps(
        &mut assembler,
        vec![begin(16), relation(&["a"]), insert(1), relation(&["a", "b"]), insert(2), commit(16, 32)],
    );
    assert_eq!(outline(&steps), "begin 0/10 INSERT INSERT commit 0/20");
    let columns = |step: &Step| match step {
        Step::Change(change) => change.relations()[0].columns.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((columns(&steps[1]), columns(&steps[2])), (1, 2));
    let Step::Change(change) = &steps[1] else { panic!() };
    assert_eq!(change.relations()[0].schema, "pg_catalog");
    assert_eq!(change.relations()[0].columns[0].type_name, "integer");
}

#[test]
fn an_origin_is_part_of_the_header() {
    let origin = PgOutput::Origin { commit_lsn: Lsn(3), name: "o".to_owned() };
    let steps =
        steps(&mut assembler(0), vec![begin(16), origin, relation(&["a"]), insert(1), commit(16, 32)]);
    let Step::Begin(header) = &steps[0] else { panic!() };
    assert_eq!(header.origin, Some(Origin { name: "o".to_owned(), commit_lsn: Lsn(3) }));
}

#[test]
fn a_transaction_that_the_log_holds_is_passed_over() {
    let mut assembler = assembler(32);
    let steps = steps(
        &mut assembler,
        vec![
            begin(16),
            relation(&["a"]),
            insert(1),
            message(true, 17, "p", "x"),
            commit(16, 32),
            begin(32),
            insert(1),
            commit(32, 48),
        ],
    );
    assert_eq!(outline(&steps), "passed 0/20 begin 0/20 INSERT commit 0/30");
}

#[test]
fn a_transaction_without_changes_is_passed_over() {
    assert_eq!(outline(&steps(&mut assembler(0), vec![begin(16), commit(16, 32)])), "passed 0/20");
}

#[test]
fn a_marker_is_seen_and_leaves_nothing_in_the_log() {
    let token = MarkerToken::random();
    let marker = message(true, 8, OUR_SCHEMA, token.to_content());
    let steps = steps(&mut assembler(0), vec![begin(16), marker, commit(16, 32)]);
    assert_eq!(steps, [Step::Marker { token, lsn: Lsn(8) }, Step::Passed { end_lsn: Lsn(32) }]);
}

#[test]
fn a_message_outside_transactions_is_a_transaction_of_its_own() {
    let mut assembler = assembler(0);
    let messages = vec![
        begin(16),
        relation(&["a"]),
        insert(1),
        commit(16, 32),
        message(false, 40, "p", "x"),
        message(false, 40, "p", "sent again"),
        // A commit record may begin just where the message's record ends.
        begin(40),
        insert(1),
        commit(40, 48),
    ];
    let steps = steps(&mut assembler, messages);
    assert_eq!(
        outline(&steps),
        "begin 0/10 INSERT commit 0/20 begin 0/28 MESSAGE commit 0/28 passed 0/28 begin 0/28 INSERT commit 0/30"
    );
    let Step::Begin(header) = &steps[3] else { panic!() };
    assert_eq!((header.xid, header.commit_time), (Xid(0), NOW));
}

#[test]
fn a_signed_schema_event_is_a_change_and_a_forged_one_is_counted() {
    let json =
        json!({"v": 1, "event": "ddl_command_end", "tag": "CREATE TABLE", "query": "create table t ()"})
            .to_string();
    let mut assembler = assembler(0);
    let messages = vec![
        begin(16),
        message(true, 8, OUR_SCHEMA, json.clone()),
        message(true, 8, OUR_SCHEMA, secret().sign(Xid(8), &json)),
        message(true, 8, OUR_SCHEMA, secret().sign(Xid(7), &json)),
        commit(16, 32),
        message(false, 40, OUR_SCHEMA, secret().sign(Xid(0), &json)),
    ];
    assert_eq!(outline(&steps(&mut assembler, messages)), "begin 0/10 DDL commit 0/20 passed 0/28");
    assert_eq!(assembler.ignored().count, 3);
}

#[test]
fn an_empty_message_of_ours_is_neither_a_change_nor_forged() {
    let mut assembler = assembler(0);
    let messages = vec![begin(16), message(true, 8, OUR_SCHEMA, ""), commit(16, 32)];
    assert_eq!(outline(&steps(&mut assembler, messages)), "passed 0/20");
    assert_eq!(assembler.ignored().count, 0);
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let refused = |before: Vec<PgOutput>, message: PgOutput| {
        let mut assembler = assembler(0);
        let mut steps = steps(&mut assembler, before);
        assembler.take(message, NOW, &mut steps).unwrap_err().to_string()
    };
    let delete = PgOutput::Delete { relation: TABLE, old: OldTuple::Key(Tuple::default()) };
    let truncate = PgOutput::Truncate { relations: vec![TABLE], options: TruncateOptions::default() };
    assert!(refused(vec![], insert(1)).contains("outside a transaction"));
    assert!(refused(vec![], commit(1, 2)).contains("outside a transaction"));
    assert!(refused(vec![], message(true, 1, "p", "")).contains("outside a transaction"));
    assert!(refused(vec![begin(1)], begin(2)).contains("inside a transaction"));
    assert!(refused(vec![begin(1)], message(false, 1, "p", "")).contains("inside a transaction"));
    assert!(refused(vec![begin(1)], delete).contains("16400"));
    assert!(refused(vec![begin(1)], truncate).contains("16400"));
    assert!(refused(vec![begin(1), relation(&["a"])], insert(2)).contains("pg_catalog.t with 2 columns"));
}
