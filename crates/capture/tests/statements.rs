//! Schema changes on real servers, from the client's statement to the log: each one alone, exact, in its place.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod source_support;

use std::time::Duration;

use ptr_capture::listener::{CatchUp, ListenerOptions, ListenerStatus, QUEUE_BYTES, listen};
use ptr_log::{Item, Log};
use ptr_model::{Change, SchemaChange, Statement};
use ptr_testkit::{ServerVersion, wait_until};
use source_support::Primary;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Sets capture up, runs each string as one message of the client, and gives the schema changes and gaps that came.
async fn captured(version: ServerVersion, strings: &[&str]) -> Vec<Change> {
    let primary = Primary::start(version).await;
    let prepared = primary.prepare().await;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    ptr_log::create(&directory, &prepared.identity).unwrap();
    let options = ListenerOptions {
        dsn: primary.options.dsn.clone(),
        slot: primary.options.slot.clone(),
        publication: primary.options.publication.clone(),
        secret: prepared.secret,
        known: Vec::new(),
        queue_bytes: QUEUE_BYTES,
        catch_up: CatchUp::default(),
    };
    let (sender, status) = watch::channel(ListenerStatus::default());
    let shutdown = CancellationToken::new();
    let listener = tokio::spawn(listen(options, directory.clone(), sender, shutdown.clone()));
    let session = primary.session().await;
    for string in strings {
        session.batch_execute(string).await.unwrap_or_else(|error| panic!("{string}: {error:?}"));
    }
    let row = session.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap();
    let written = row.get::<_, String>(0).parse().unwrap();
    wait_until("everything written is durable", Duration::from_secs(30), async || {
        assert!(!listener.is_finished(), "{:?}", status.borrow().state);
        status.borrow().progress.durable_lsn >= written
    })
    .await;
    shutdown.cancel();
    listener.await.unwrap().unwrap();
    let log = Log::open(&directory).unwrap();
    let items = log.read(0, log.head().unwrap().ordinal).unwrap();
    items
        .filter_map(|item| match item.unwrap() {
            Item::Change(change @ (Change::Schema(_) | Change::Gap(_))) => Some(change),
            _ => None,
        })
        .collect()
}

/// The statements that are entries; a gap or an underivable one fails the test.
fn statements(changes: Vec<Change>) -> Vec<String> {
    let entries = changes.into_iter().filter_map(|change| match change {
        Change::Schema(change) if change.is_entry => Some(exact(*change)),
        Change::Gap(gap) => panic!("{gap:?}"),
        _ => None,
    });
    entries.collect()
}

fn exact(change: SchemaChange) -> String {
    match change.statement {
        Statement::Text(text) => text,
        Statement::Underivable { reason, text } => panic!("{}: {reason}: {text}", change.tag),
    }
}

async fn statements_sent_by_the_client(version: ServerVersion) {
    let alone = [
        "CREATE SCHEMA app",
        "CREATE TYPE app.mood AS ENUM ('sad', 'ok')",
        "CREATE TABLE app.t (id serial PRIMARY KEY, v text, m app.mood)",
        "CREATE UNIQUE INDEX ON app.t (v)",
        "CREATE VIEW app.v AS SELECT ';' AS a FROM app.t",
        "CREATE SEQUENCE app.s",
        "CREATE FUNCTION app.f(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE a WHEN 1 THEN 2 END; END",
        "CREATE MATERIALIZED VIEW app.mv AS SELECT 1 AS a",
        "ALTER TABLE app.t ADD COLUMN w int DEFAULT 7, ALTER v SET NOT NULL",
        "ALTER TABLE app.t RENAME TO \"T 2\"",
        "COMMENT ON TABLE app.\"T 2\" IS 'it''s; here'",
        "GRANT SELECT ON app.\"T 2\" TO PUBLIC",
        "CREATE RULE r AS ON INSERT TO app.v DO INSTEAD (SELECT 1; SELECT 2)",
        "DROP VIEW app.v",
        "DROP SCHEMA app CASCADE",
    ];
    assert_eq!(statements(captured(version, &alone).await), alone);
}

#[tokio::test]
async fn a_statement_that_the_client_sent_is_exact_on_15() {
    statements_sent_by_the_client(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn a_statement_that_the_client_sent_is_exact_on_18() {
    statements_sent_by_the_client(ServerVersion::Pypi18).await;
}

async fn statements_sent_together_or_by_functions(version: ServerVersion) {
    let strings = [
        "BEGIN; -- one; two
         CREATE TABLE a (x int); INSERT INTO a VALUES (1); CREATE TABLE IF NOT EXISTS a (x int);
         CREATE TABLE b (x int); ALTER TABLE a ADD y int; ALTER TABLE b ADD y int; DROP TABLE b; COMMIT",
        "DO $$ BEGIN CREATE TABLE c (\"x\" int); EXECUTE 'create table d (a text default ''\"'')'; END $$",
        "CREATE FUNCTION make() RETURNS void LANGUAGE sql AS 'SELECT 1; CREATE TABLE e (x int)'",
        "SELECT make()",
        "BEGIN; CREATE TABLE undone (x int); ROLLBACK",
        "CREATE TABLE copy AS SELECT * FROM a",
    ];
    let expected = [
        "CREATE TABLE a (x int)",
        "CREATE TABLE b (x int)",
        "ALTER TABLE a ADD y int",
        "ALTER TABLE b ADD y int",
        "DROP TABLE b",
        "CREATE TABLE c (\"x\" int)",
        "create table d (a text default '\"')",
        "CREATE FUNCTION make() RETURNS void LANGUAGE sql AS 'SELECT 1; CREATE TABLE e (x int)'",
        "CREATE TABLE e (x int)",
        "CREATE TABLE copy AS SELECT * FROM a",
    ];
    assert_eq!(statements(captured(version, &strings).await), expected);
}

#[tokio::test]
async fn a_statement_sent_together_with_others_or_run_by_a_function_is_exact_on_15() {
    statements_sent_together_or_by_functions(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn a_statement_sent_together_with_others_or_run_by_a_function_is_exact_on_18() {
    statements_sent_together_or_by_functions(ServerVersion::Pypi18).await;
}

/// Some of a string's statements fire no event: they are about the whole cluster, or had nothing to do.
async fn statements_beside_some_without_an_event(version: ServerVersion) {
    let strings = [
        "CREATE ROLE app; CREATE ROLE clerk",
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (x int, y int); CREATE INDEX i ON a.t (x)",
        "GRANT CONNECT ON DATABASE shop TO app; GRANT clerk TO app; GRANT USAGE ON SCHEMA a TO app;
         GRANT SELECT ON ALL TABLES IN SCHEMA a TO app",
        "REVOKE clerk FROM app; REVOKE SELECT ON a.t FROM app; REVOKE CONNECT ON DATABASE shop FROM app;
         REVOKE USAGE ON SCHEMA a FROM app",
        "COMMENT ON DATABASE shop IS 'x'; COMMENT ON ROLE clerk IS 'y'; COMMENT ON TABLE a.t IS 'z'",
        "CREATE TABLE IF NOT EXISTS a.t (x int); CREATE TABLE IF NOT EXISTS b.t (z text)",
        "SET search_path = a; CREATE TABLE IF NOT EXISTS t (x int); CREATE TABLE IF NOT EXISTS public.t (q text)",
        "CREATE INDEX IF NOT EXISTS i ON a.t (x); CREATE INDEX ON a.t (y)",
        "ALTER TABLE IF EXISTS missing RENAME y TO z; ALTER TABLE IF EXISTS a.t RENAME y TO z",
    ];
    let expected = [
        "CREATE SCHEMA a",
        "CREATE SCHEMA b",
        "CREATE TABLE a.t (x int, y int)",
        "CREATE INDEX i ON a.t (x)",
        "GRANT USAGE ON SCHEMA a TO app",
        "GRANT SELECT ON ALL TABLES IN SCHEMA a TO app",
        "REVOKE SELECT ON a.t FROM app",
        "REVOKE USAGE ON SCHEMA a FROM app",
        "COMMENT ON TABLE a.t IS 'z'",
        "CREATE TABLE IF NOT EXISTS b.t (z text)",
        "CREATE TABLE IF NOT EXISTS public.t (q text)",
        "CREATE INDEX ON a.t (y)",
        "ALTER TABLE IF EXISTS a.t RENAME y TO z",
    ];
    assert_eq!(statements(captured(version, &strings).await), expected);
}

#[tokio::test]
async fn a_statement_beside_others_that_fire_no_event_is_exact_on_15() {
    statements_beside_some_without_an_event(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn a_statement_beside_others_that_fire_no_event_is_exact_on_18() {
    statements_beside_some_without_an_event(ServerVersion::Pypi18).await;
}

#[tokio::test]
async fn an_extension_is_one_entry_and_hides_nothing_after_it() {
    let strings = [
        "CREATE EXTENSION citext",
        "CREATE EXTENSION IF NOT EXISTS citext; CREATE TABLE t (a citext)",
        "DROP TABLE t",
        "DROP EXTENSION citext",
    ];
    let expected =
        ["CREATE EXTENSION citext", "CREATE TABLE t (a citext)", "DROP TABLE t", "DROP EXTENSION citext"];
    assert_eq!(statements(captured(ServerVersion::Debian15, &strings).await), expected);
}

/// An idle statement sends nothing by itself, and what it is about may be what another of the same string did something to.
async fn statements_that_found_nothing_to_do_among_others(version: ServerVersion) {
    let strings = [
        "CREATE SCHEMA a; CREATE SCHEMA b",
        "CREATE TABLE t (a int); CREATE TABLE a.users (email text); CREATE TABLE b.users (email text)",
        "CREATE INDEX users_email ON a.users (email)",
        "ALTER TABLE IF EXISTS old RENAME TO t; ALTER TABLE t ADD CHECK (a > 0)",
        "ALTER TABLE IF EXISTS missing ADD FOREIGN KEY (x) REFERENCES t (a); ALTER TABLE t ALTER a SET DEFAULT 3",
        "CREATE TABLE users_new (id int); ALTER TABLE IF EXISTS users RENAME TO users_old; ALTER TABLE IF EXISTS users_new RENAME TO users",
        "CREATE INDEX IF NOT EXISTS users_email ON a.users (email); CREATE INDEX IF NOT EXISTS users_email ON b.users (email)",
        "ALTER TABLE IF EXISTS users RENAME TO people; ALTER TABLE people ADD COLUMN n int",
        "CREATE TABLE IF NOT EXISTS Ärzte (id int); CREATE TABLE IF NOT EXISTS Öfen (id int); CREATE TABLE after (id int)",
    ];
    let came = statements(captured(version, &strings).await);
    let expected = [
        "CREATE SCHEMA a",
        "CREATE SCHEMA b",
        "CREATE TABLE t (a int)",
        "CREATE TABLE a.users (email text)",
        "CREATE TABLE b.users (email text)",
        "CREATE INDEX users_email ON a.users (email)",
        "ALTER TABLE t ADD CHECK (a > 0)",
        "ALTER TABLE t ALTER a SET DEFAULT 3",
        "CREATE TABLE users_new (id int)",
        "ALTER TABLE IF EXISTS users_new RENAME TO users",
        "CREATE INDEX IF NOT EXISTS users_email ON b.users (email)",
        "ALTER TABLE IF EXISTS users RENAME TO people",
        "ALTER TABLE people ADD COLUMN n int",
        "CREATE TABLE IF NOT EXISTS Ärzte (id int)",
        "CREATE TABLE IF NOT EXISTS Öfen (id int)",
        "CREATE TABLE after (id int)",
    ];
    assert_eq!(came, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_found_nothing_to_do_are_not_taken_for_others_on_15() {
    statements_that_found_nothing_to_do_among_others(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_found_nothing_to_do_are_not_taken_for_others_on_18() {
    statements_that_found_nothing_to_do_among_others(ServerVersion::Pypi18).await;
}
