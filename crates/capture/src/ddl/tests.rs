use ptr_model::{Change, Operation};
use serde_json::json;

use super::*;

const XID: Xid = Xid(812);

fn secret() -> Secret {
    "ab".repeat(32).parse().unwrap()
}

fn read(events: &mut SchemaEvents, json: serde_json::Value) -> Reading {
    events.read(secret().sign(XID, &json.to_string()).as_bytes(), XID)
}

fn schema(reading: Reading) -> SchemaChange {
    match reading {
        Reading::Change(Change::Schema(change)) => *change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_becomes_a_schema_change_and_unknown_fields_are_kept() {
    let event = json!({
        "v": 1, "event": "ddl_command_end", "tag": "CREATE TABLE", "n": 3, "query": "create table t (a int)",
        "context": null, "session_user": "u", "current_user": "c", "search_path": "public", "pid": 77,
        "statement_time": "x", "settings": {"TimeZone": "UTC"},
        "objects": [{"type": "table", "schema": "public", "identity": "public.t", "oid": 4_000_000_000_u32, "in_extension": false}],
        "dropped": null, "rewrites": [["public.t", 2]],
        "missing": [{"relation": "public.t", "column": "b", "value": null}], "future": [1],
    });
    let change = schema(read(&mut SchemaEvents::new(Some(secret())), event));
    assert_eq!(change.statement, Statement::Text("create table t (a int)".to_owned()));
    assert!(change.is_entry);
    assert_eq!(change.environment.backend_pid, 77);
    assert_eq!(change.objects[0].oid, 4_000_000_000);
    assert_eq!(change.rewrites, [("public.t".to_owned(), 2)]);
    assert_eq!(change.missing_values[0].value, None);
    assert_eq!(change.details["future"], json!([1]));
    assert_eq!(Change::Schema(Box::new(change)).operation(), Some(Operation::Ddl));
}

#[test]
fn what_was_dropped_goes_with_the_end_of_its_command() {
    let mut events = SchemaEvents::new(Some(secret()));
    let drop = json!({"v": 1, "event": "sql_drop", "tag": "DROP TABLE", "query": "drop table t",
        "dropped": [{"type": "table", "identity": "public.t", "is_temporary": true}]});
    assert_eq!(read(&mut events, drop), Reading::Remembered);
    let end = json!({"v": 1, "event": "ddl_command_end", "tag": "DROP TABLE", "query": "drop table t"});
    let change = schema(read(&mut events, end));
    assert_eq!(change.dropped[0].identity, "public.t");
    assert!(change.dropped[0].is_temporary && change.is_entry);
}

/// A trigger of the user's on `sql_drop` runs after ours, and before the end of the command that fired it.
#[test]
fn what_a_command_dropped_is_told_apart_from_what_a_users_event_trigger_drops_meanwhile() {
    let mut events = SchemaEvents::new(Some(secret()));
    let message = |event: &str, statement: Option<&str>, dropped: &[&str]| {
        let frames = statement
            .map(|text| format!("SQL statement \"{text}\"\nPL/pgSQL function f() line 1 at SQL statement"));
        let dropped: Vec<_> = dropped.iter().map(|name| json!({"type": "table", "identity": name})).collect();
        json!({"v": 1, "event": event, "tag": "DROP TABLE", "query": "drop table t", "context": frames, "dropped": dropped})
    };
    let (nothing, other) = ("drop table if exists u", "drop table if exists v");
    assert_eq!(read(&mut events, message("sql_drop", None, &["public.t"])), Reading::Remembered);
    assert_eq!(read(&mut events, message("sql_drop", Some(other), &["public.v"])), Reading::Remembered);
    for (statement, is_entry, dropped) in [
        (Some(other), true, "public.v"),
        (Some(nothing), false, ""),
        (None, true, "public.t"),
        (None, false, ""),
    ] {
        let change = schema(read(&mut events, message("ddl_command_end", statement, &[])));
        let names: Vec<_> = change.dropped.iter().map(|object| object.identity.as_str()).collect();
        assert_eq!((change.is_entry, names.concat().as_str()), (is_entry, dropped), "{statement:?}");
    }
}

#[test]
fn a_drop_that_dropped_nothing_is_no_entry_unless_no_list_tells_what_it_does() {
    let mut events = SchemaEvents::new(Some(secret()));
    for (tag, query, is_entry) in [
        ("DROP TABLE", "drop table if exists t", false),
        ("DROP SCHEMA", "drop schema if exists t cascade", false),
        ("DROP OWNED", "drop owned by t", true),
    ] {
        let end = json!({"v": 1, "event": "ddl_command_end", "tag": tag, "query": query});
        let change = schema(read(&mut events, end));
        assert_eq!((change.is_entry, change.statement), (is_entry, Statement::Text(query.to_owned())));
    }
}

#[test]
fn a_message_can_leave_its_query_to_an_earlier_one_of_the_same_statement_and_transaction() {
    let mut events = SchemaEvents::new(Some(secret()));
    let carrying = json!({"v": 1, "event": "ddl_command_end", "tag": "CREATE TABLE", "n": 1,
        "statement_time": "x", "query": "create table a (); create table b ()"});
    let referring = |carrier: u64, time: &str| {
        json!({"v": 1, "event": "ddl_command_end", "tag": "CREATE TABLE", "n": 2, "statement_time": time,
            "query_of": carrier})
    };
    schema(read(&mut events, carrying));
    let change = schema(read(&mut events, referring(1, "x")));
    assert_eq!(change.statement, Statement::Text("create table b ()".to_owned()));
    let mut is_gap = |json| matches!(read(&mut events, json), Reading::Change(Change::Gap(_)));
    assert!(is_gap(referring(7, "x")));
    assert!(is_gap(referring(1, "y")));
    events.begin();
    assert!(matches!(read(&mut events, referring(1, "x")), Reading::Change(Change::Gap(_))));
}

#[test]
fn what_an_extension_script_does_is_no_entry_but_the_extension_is() {
    let mut events = SchemaEvents::new(Some(secret()));
    let mut next = |event: &str, tag: &str| {
        let query = "create extension x";
        schema(read(&mut events, json!({"v": 1, "event": event, "tag": tag, "query": query}))).is_entry
    };
    assert!(!next("ddl_command_start", "CREATE EXTENSION"));
    assert!(!next("ddl_command_end", "CREATE FUNCTION"));
    assert!(next("ddl_command_end", "CREATE EXTENSION"));
}

#[test]
fn an_extension_that_was_there_already_hides_nothing_after_it() {
    let mut events = SchemaEvents::new(Some(secret()));
    let query = "create extension if not exists x; create table t (a int)";
    let mut next = |event: &str, tag: &str, query: &str| {
        schema(read(&mut events, json!({"v": 1, "event": event, "tag": tag, "query": query}))).is_entry
    };
    assert!(!next("ddl_command_start", "CREATE EXTENSION", query));
    assert!(next("ddl_command_end", "CREATE TABLE", query));
    assert!(!next("ddl_command_start", "CREATE EXTENSION", query));
    assert!(next("ddl_command_end", "CREATE VIEW", "select f()"));
}

#[test]
fn ddl_on_our_own_schema_is_no_entry() {
    let mut events = SchemaEvents::new(Some(secret()));
    let mut entry = |identity: &str| {
        let objects = json!([{"type": "table", "schema": null, "identity": identity, "oid": 1}]);
        let event = json!({"v": 1, "event": "ddl_command_end", "tag": "ALTER TABLE", "query": "x", "objects": objects});
        schema(read(&mut events, event)).is_entry
    };
    assert!(!entry("postgres_test_replay.secret"));
    assert!(!entry("postgres_test_replay"));
    assert!(entry("postgres_test_replay_of_mine.t"));
}

#[test]
fn rows_and_gaps_are_read() {
    let mut events = SchemaEvents::new(Some(secret()));
    let rows = json!({"v": 1, "event": "rows", "relation": "public.t", "columns": ["a"], "first": true, "rows": [["1"], [null]]});
    match read(&mut events, rows) {
        Reading::Change(Change::Rows(rows)) => {
            assert_eq!(rows.rows, [vec![Some("1".to_owned())], vec![None]])
        }
        other => panic!("{other:?}"),
    }
    let gap = json!({"v": 1, "event": "gap", "reason": "r", "statement": "s", "sqlstate": "42501"});
    match read(&mut events, gap) {
        Reading::Change(Change::Gap(gap)) => assert_eq!(gap.sqlstate.as_deref(), Some("42501")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signed_message_that_cannot_be_read_becomes_a_gap() {
    let mut events = SchemaEvents::new(Some(secret()));
    for event in
        [json!({"v": 2, "event": "ddl_command_end", "query": "q"}), json!([]), json!({"v": 1, "event": "x"})]
    {
        assert!(matches!(read(&mut events, event), Reading::Change(Change::Gap(_))));
    }
    let not_utf8 = [secret().sign(XID, "").into_bytes(), b"{\xff}".to_vec()].concat();
    assert!(matches!(events.read(&not_utf8, XID), Reading::Forged(SignatureError::Wrong)));
}

#[test]
fn an_unsigned_message_is_not_believed() {
    let mut events = SchemaEvents::new(Some(secret()));
    let json =
        json!({"v": 1, "event": "ddl_command_end", "tag": "DROP TABLE", "query": "drop table t"}).to_string();
    assert_eq!(events.read(json.as_bytes(), XID), Reading::Forged(SignatureError::Missing));
    let other: Secret = "cd".repeat(32).parse().unwrap();
    assert_eq!(events.read(other.sign(XID, &json).as_bytes(), XID), Reading::Forged(SignatureError::Wrong));
}
