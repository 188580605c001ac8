use super::*;
use crate::ddl::event::{Event, FunctionSource, Object, parse};

fn event(tag: &str, query: &str) -> SchemaEvent {
    let json = serde_json::json!({
        "v": 1, "event": "ddl_command_end", "tag": tag, "query": query, "statement_time": "2026-05-01 12:00:00+00",
    });
    match parse(json.to_string().as_bytes()).unwrap() {
        Event::Schema(event) => *event,
        other => panic!("{other:?}"),
    }
}

fn touching(mut event: SchemaEvent, identity: &str) -> SchemaEvent {
    event.objects.push(Object {
        object_type: "table".to_owned(),
        schema: None,
        identity: identity.to_owned(),
        oid: 0,
        in_extension: false,
    });
    event
}

fn within(mut event: SchemaEvent, frames: &str) -> SchemaEvent {
    event.context = format!(
        "PL/pgSQL function postgres_test_replay.capture() line 1 at GET DIAGNOSTICS\n\
         SQL statement \"SELECT postgres_test_replay.capture()\"\n\
         PL/pgSQL function postgres_test_replay.on_event() line 3 at PERFORM\n{frames}"
    );
    event
}

fn text(statement: Statement) -> String {
    match statement {
        Statement::Text(text) => text,
        Statement::Underivable { reason, .. } => panic!("underivable: {reason}"),
    }
}

fn reason(statement: Statement) -> String {
    match statement {
        Statement::Underivable { reason, .. } => reason,
        Statement::Text(text) => panic!("derived {text}"),
    }
}

#[test]
fn a_statement_sent_alone_is_itself() {
    let mut derivation = Derivation::default();
    assert_eq!(
        text(derivation.statement(&event("CREATE TABLE", " create table t (a int); "))),
        "create table t (a int)"
    );
}

#[test]
fn statements_sent_together_are_told_apart_by_tag_and_order() {
    let query =
        "create table a (x int); insert into a values (1); create index on a (x); create table b (y int)";
    let mut derivation = Derivation::default();
    let mut next = |tag| text(derivation.statement(&event(tag, query)));
    assert_eq!(next("CREATE TABLE"), "create table a (x int)");
    assert_eq!(next("CREATE INDEX"), "create index on a (x)");
    assert_eq!(next("CREATE TABLE"), "create table b (y int)");
}

#[test]
fn a_statement_that_had_nothing_to_do_is_passed_over() {
    let query = "create table if not exists a (x int); create table if not exists b (x int)";
    let event = touching(event("CREATE TABLE", query), "public.b");
    assert_eq!(text(Derivation::default().statement(&event)), "create table if not exists b (x int)");
}

/// Runs the events of one string, each with what it touched, and compares the statements.
fn derives(query: &str, events: &[(&str, &str, &str)]) {
    let mut derivation = Derivation::default();
    for (tag, touched, expected) in events {
        let mut event = event(tag, query);
        event.search_path = "\"$user\", public".to_owned();
        event.current_user = "alice".to_owned();
        assert_eq!(text(derivation.statement(&touching(event, touched))), *expected, "{query}");
    }
}

#[test]
fn a_grant_that_fires_no_event_is_passed_over() {
    let query = "grant connect on database shop to app; grant clerk to app; \
                 grant usage on schema public to app; grant select on all tables in schema public to app";
    derives(
        query,
        &[
            ("GRANT", "", "grant usage on schema public to app"),
            ("GRANT", "", "grant select on all tables in schema public to app"),
        ],
    );
}

#[test]
fn what_had_nothing_to_do_is_told_by_schema_and_name() {
    for (query, tag, touched, expected) in [
        (
            "create table if not exists a.t (x int); create table if not exists b.t (y int)",
            "CREATE TABLE",
            "b.t",
            "create table if not exists b.t (y int)",
        ),
        (
            "create table if not exists t (x int); create table if not exists b.t (y int)",
            "CREATE TABLE",
            "b.t",
            "create table if not exists b.t (y int)",
        ),
        (
            "create table if not exists a.t (x int); create table if not exists t (y int)",
            "CREATE TABLE",
            "alice.t",
            "create table if not exists t (y int)",
        ),
        (
            "create index if not exists i on t (a); create index on t (b)",
            "CREATE INDEX",
            "public.t_b_idx",
            "create index on t (b)",
        ),
        (
            "create index if not exists i on elsewhere.t (a); create index on t (b)",
            "CREATE INDEX",
            "elsewhere.i",
            "create index if not exists i on elsewhere.t (a)",
        ),
        (
            "alter table if exists a.t add x int; alter table b.t add x int",
            "ALTER TABLE",
            "b.t",
            "alter table b.t add x int",
        ),
        (
            "create schema if not exists there; create schema if not exists authorization bob",
            "CREATE SCHEMA",
            "bob",
            "create schema if not exists authorization bob",
        ),
        (
            "drop trigger if exists tr on a; drop trigger if exists tr on b",
            "DROP TRIGGER",
            "tr on public.b",
            "drop trigger if exists tr on b",
        ),
    ] {
        derives(query, &[(tag, touched, expected)]);
    }
}

#[test]
fn where_all_that_are_left_had_nothing_to_do_nothing_is_guessed() {
    let query = "create table if not exists a (x int); create table if not exists b (x int)";
    let why = reason(Derivation::default().statement(&touching(event("CREATE TABLE", query), "public.c")));
    assert!(why.contains("none names what it was done to"), "{why}");
}

#[test]
fn the_start_of_a_command_does_not_use_up_its_statement() {
    let query = "create index a on t (x); create index b on t (x)";
    let mut derivation = Derivation::default();
    let mut start = event("CREATE INDEX", query);
    start.event = EventKind::DdlCommandStart;
    assert_eq!(text(derivation.statement(&start)), "create index a on t (x)");
    assert_eq!(text(derivation.statement(&event("CREATE INDEX", query))), "create index a on t (x)");
    assert_eq!(text(derivation.statement(&start)), "create index b on t (x)");
}

#[test]
fn what_a_called_function_did_is_not_taken_for_the_call() {
    let mut derivation = Derivation::default();
    assert!(
        reason(derivation.statement(&event("CREATE INDEX", "select create_hypertable('t')")))
            .contains("called")
    );
    assert!(
        reason(derivation.statement(&event("CREATE INDEX", "select 1; select 2"))).contains("none of the 2")
    );
}

#[test]
fn a_statement_inside_a_procedure_comes_from_the_context() {
    let frames =
        "SQL statement \"create table nested(a int)\"\nPL/pgSQL function f() line 1 at SQL statement";
    let event = within(event("CREATE TABLE", "select f()"), frames);
    assert_eq!(text(Derivation::default().statement(&event)), "create table nested(a int)");
}

#[test]
fn the_same_text_run_again_in_a_loop_starts_over() {
    let frames =
        "SQL statement \"create table x (a int); drop table x\"\nPL/pgSQL function f() line 1 at EXECUTE";
    let mut derivation = Derivation::default();
    for _ in 0..2 {
        for (tag, expected) in [("CREATE TABLE", "create table x (a int)"), ("DROP TABLE", "drop table x")] {
            assert_eq!(text(derivation.statement(&within(event(tag, "call f()"), frames))), expected);
        }
    }
}

#[test]
fn a_statement_of_an_sql_function_comes_from_its_source() {
    let mut call = within(event("CREATE TABLE", "select f()"), "SQL function \"f\" statement 2");
    let source = |source: &str| FunctionSource { name: "f".to_owned(), source: source.to_owned() };
    assert!(reason(Derivation::default().statement(&call)).contains("not known"));
    call.functions.push(source("select 1; create table t (a int);"));
    assert_eq!(text(Derivation::default().statement(&call)), "create table t (a int)");
    call.functions.push(source("select 1; create table u (a int);"));
    assert!(reason(Derivation::default().statement(&call)).contains("2 SQL functions"));
}

#[test]
fn a_prepared_statement_is_taken_out_of_its_prepare() {
    let event = event("SELECT INTO", "prepare p (int) as select 1 into t");
    assert_eq!(text(Derivation::default().statement(&event)), "select 1 into t");
}

#[test]
fn quotes_are_read_as_the_session_read_them() {
    let mut event = event("COMMENT", r"comment on table t is 'it\'s; x'; select 1");
    assert!(reason(Derivation::default().statement(&event)).contains("split"));
    event.settings.insert("standard_conforming_strings".to_owned(), "off".to_owned());
    assert_eq!(text(Derivation::default().statement(&event)), r"comment on table t is 'it\'s; x'");
}

#[test]
fn a_string_that_goes_over_several_transactions_goes_on_where_it_was() {
    let query = "alter table t add a int; commit; alter table t add b int; commit; alter table t add c int";
    let mut derivation = Derivation::default();
    for expected in ["alter table t add a int", "alter table t add b int", "alter table t add c int"] {
        derivation.begin();
        assert_eq!(text(derivation.statement(&touching(event("ALTER TABLE", query), "public.t"))), expected);
    }
    assert!(reason(derivation.statement(&event("ALTER TABLE", query))).contains("left"));
}

/// Two transactions of one string, each with a comment.
const TWO_TRANSACTIONS: &str = "begin; create table t (); comment on table t is 'one'; commit; \
                                begin; comment on table t is 'two'; create index i on t (a); commit";

fn continuing(mut event: SchemaEvent) -> SchemaEvent {
    event.continues = true;
    event
}

#[test]
fn a_string_goes_on_where_its_last_whole_transaction_ended() {
    let mut derivation = Derivation::default();
    let comment = || continuing(event("COMMENT", TWO_TRANSACTIONS));
    assert_eq!(text(derivation.statement(&event("CREATE TABLE", TWO_TRANSACTIONS))), "create table t ()");
    assert_eq!(
        text(derivation.statement(&event("COMMENT", TWO_TRANSACTIONS))),
        "comment on table t is 'one'"
    );
    derivation.begin();
    for _ in 0..2 {
        assert_eq!(text(derivation.statement(&comment())), "comment on table t is 'two'");
        // The connection ends here; the transaction comes again.
        derivation.abort();
    }
}

#[test]
fn what_comes_before_the_first_transaction_that_is_remembered_makes_nothing_uncertain_that_is_alone() {
    let mut derivation = Derivation::default();
    let why = reason(derivation.statement(&continuing(event("COMMENT", TWO_TRANSACTIONS))));
    assert!(why.contains("2 of them do COMMENT"), "{why}");
    let index = continuing(event("CREATE INDEX", TWO_TRANSACTIONS));
    assert_eq!(text(derivation.statement(&index)), "create index i on t (a)");
    derivation.abort();
    let why = reason(derivation.statement(&continuing(event("COMMENT", TWO_TRANSACTIONS))));
    assert!(why.contains("in the midst"), "{why}");
}

#[test]
fn a_string_whose_earlier_events_a_language_ran_is_remembered() {
    let query =
        "begin; do 'create table t()'; commit; alter table t add a int; commit; alter table t add b int";
    let block =
        within(event("CREATE TABLE", query), "SQL statement \"create table t()\"\nPL/pgSQL function x");
    let mut derivation = Derivation::default();
    assert_eq!(text(derivation.statement(&block)), "create table t()");
    for expected in ["alter table t add a int", "alter table t add b int"] {
        derivation.begin();
        assert_eq!(text(derivation.statement(&continuing(event("ALTER TABLE", query)))), expected);
    }
}
