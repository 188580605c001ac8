//! What a role without rights on the primary can make of capture and replay: nothing. The oracle is the output
//! server's own catalog.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use ptr_postgres::{Connection, SessionSettings, connect};
use ptr_testkit::{ServerVersion, wait_until};
use serde_json::json;
use support::{DATABASE, REPLICA, World};

/// Somebody who may connect, and nothing else.
async fn mallory(world: &World) -> Connection {
    let owner = world.primary.dsn(DATABASE);
    let password = owner.password().unwrap().reveal().to_owned();
    world.primary.psql(DATABASE, &format!("CREATE ROLE mallory LOGIN PASSWORD '{password}'")).await;
    let dsn = owner.with_user("mallory", owner.password().cloned());
    connect(&dsn, &SessionSettings::named("mallory")).await.unwrap()
}

/// Whom the output server believes, and what is in the replica.
async fn state_of_output(world: &World) -> String {
    let roles = "SELECT string_agg(format('%s %s %s', rolname, rolsuper, rolcanlogin), ',' ORDER BY rolname)
                   FROM pg_roles WHERE rolname <> 'mallory' OR rolsuper OR rolcanlogin";
    let tables = "SELECT string_agg(format('%s.%s', schemaname, tablename), ',' ORDER BY 1) FROM pg_tables
                   WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let rows = "SELECT string_agg(t::text, ',' ORDER BY t::text) FROM t";
    format!(
        "{}{}{}",
        world.replica.psql(REPLICA, roles).await,
        world.replica.psql(REPLICA, tables).await,
        world.replica.psql(REPLICA, rows).await
    )
}

/// Each message that we send ourselves, as somebody would forge it who knows everything but the secret.
fn forged() -> Vec<String> {
    let signature = "0123456789abcdef".repeat(4);
    let environment = r#""session_user":"postgres","current_user":"postgres","search_path":"public","statement_time":"1","pid":1,"settings":{}"#;
    let ddl = |event: &str, tag: &str, query: &str| {
        format!(
            r#"{{"v":1,"event":"{event}","tag":"{tag}","n":1,"query":"{query}","context":"",{environment},"objects":[{{"type":"table","schema":"public","identity":"public.t","oid":1,"in_extension":false}}]}}"#
        )
    };
    let contents = [
        ddl("ddl_command_end", "ALTER ROLE", "ALTER ROLE mallory SUPERUSER LOGIN"),
        ddl("ddl_command_end", "CREATE TABLE", "CREATE TABLE forged (x int)"),
        ddl("ddl_command_start", "CREATE TABLE AS", "CREATE TABLE forged AS SELECT 1"),
        ddl("sql_drop", "DROP TABLE", "DROP TABLE t"),
        ddl("table_rewrite", "ALTER TABLE", "ALTER TABLE t ADD COLUMN forged int"),
        r#"{"v":1,"event":"rows","relation":"public.t","first":true,"columns":["id"],"rows":[["666"]]}"#
            .to_owned(),
        r#"{"v":1,"event":"gap","reason":"forged","statement":"x","sqlstate":"00000"}"#.to_owned(),
        r#"{"v":1,"event":"gap","relation":"public.t","reason":"forged","statement":"x","sqlstate":"00000"}"#
            .to_owned(),
        "not JSON".to_owned(),
    ];
    let signed = contents.iter().flat_map(|content| [content.clone(), format!("{signature}:{content}")]);
    signed.chain([String::new(), signature.clone(), format!("{signature}:"), "x".repeat(1 << 20)]).collect()
}

async fn forged_messages_are_ignored_and_counted(version: ServerVersion) {
    let world = World::start(version, "CREATE TABLE t (id text PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.go("head").await;
    let before = state_of_output(&world).await;
    let mallory = mallory(&world).await;
    // Whatever is in these, it is neither believed nor does it keep a transaction from being captured.
    for content in forged() {
        for transactional in [true, false] {
            let emit = "SELECT pg_logical_emit_message($1, 'postgres_test_replay', $2::text)";
            mallory.query(emit, &[&transactional, &content]).await.unwrap();
        }
    }
    // A marker says nothing but "here", to whoever knows its number; one that nobody waits for is nobody's.
    let marker = "SELECT pg_logical_emit_message(true, 'postgres_test_replay', format('marker %s', gen_random_uuid()))";
    mallory.query(marker, &[]).await.unwrap();
    world.primary.psql(DATABASE, "INSERT INTO t VALUES (2)").await;
    world.checkpoint("after").await;
    let answer = world.go("after").await;
    // Nothing of it is in the log either.
    assert_eq!(answer["entries_applied"], 1, "{answer:#}");
    assert_eq!(state_of_output(&world).await, before.replace("(1)", "(1),(2)"));
    // What was received is published from time to time, so some of it may not be told of yet.
    wait_until("the ignored messages are counted", Duration::from_secs(60), async || {
        let status = world.api.get("/api/status").await;
        let ignored = &status["databases"][0]["listener"]["details"]["progress"]["ignored_messages"];
        ignored.as_u64().unwrap_or_default() > 20
    })
    .await;
    let status = world.api.get("/api/status").await;
    let told = status["warnings"].to_string();
    assert!(told.contains("messages with our prefix were not ours"), "{told}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_messages_are_ignored_and_counted_on_15() {
    forged_messages_are_ignored_and_counted(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_messages_are_ignored_and_counted_on_18() {
    forged_messages_are_ignored_and_counted(ServerVersion::Pypi18).await;
}

/// Everybody may make temporary objects, unless the owner of the database took that right away; and a default is
/// evaluated by the ALTER TABLE that adds it, here and on the replica, where another role is behind the session.
async fn functions_that_schema_changes_evaluate_get_no_rights(version: ServerVersion) {
    let world = World::start(version, "CREATE TABLE t (id text PRIMARY KEY); INSERT INTO t VALUES (1)").await;
    world.go("head").await;
    let before = state_of_output(&world).await;
    let mallory = mallory(&world).await;
    let takes = |name: &str, body: &str| {
        format!(
            "CREATE FUNCTION pg_temp.{name}_acts() RETURNS int LANGUAGE plpgsql AS $f$
               BEGIN BEGIN {body} EXCEPTION WHEN OTHERS THEN NULL; END; RETURN 1; END $f$;
             CREATE FUNCTION pg_temp.{name}() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$
               BEGIN RETURN pg_temp.{name}_acts(); END $f$"
        )
    };
    let take = "ALTER ROLE mallory SUPERUSER LOGIN; CREATE TABLE public.taken (x int);";
    let functions = [
        takes("session", &format!("SET SESSION AUTHORIZATION DEFAULT; {take}")),
        takes("reset", &format!("RESET SESSION AUTHORIZATION; {take}")),
        takes("role", &format!("RESET ROLE; SET ROLE NONE; {take}")),
        takes("config", &format!("PERFORM set_config('session_authorization', 'default', false); {take}")),
        takes("direct", take),
        takes(
            "settings",
            "SET search_path = pg_temp, pg_catalog; SET client_encoding = LATIN1; SET default_transaction_read_only = on;",
        ),
        // Asks for more rights than it has, on the replica only.
        format!(
            "CREATE FUNCTION pg_temp.lent() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$
               BEGIN RETURN pg_temp.lent_acts(); END $f$;
             CREATE FUNCTION pg_temp.lent_acts() RETURNS int LANGUAGE plpgsql AS $f$
               BEGIN
                 IF current_database() <> '{DATABASE}'
                    AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                   RAISE insufficient_privilege;
                 END IF;
                 BEGIN {take} EXCEPTION WHEN OTHERS THEN NULL; END;
                 RETURN 1;
               END $f$"
        ),
    ];
    for function in &functions {
        mallory.batch_execute(function).await.unwrap();
    }
    mallory.batch_execute("CREATE TEMPORARY TABLE own (x int)").await.unwrap();
    for name in ["session", "reset", "role", "config", "direct", "settings"] {
        let add = format!("ALTER TABLE pg_temp.own ADD COLUMN {name} int DEFAULT pg_temp.{name}()");
        mallory.batch_execute(&add).await.unwrap();
    }
    mallory.batch_execute("RESET ALL").await.unwrap();
    // A string in which more stands than the statement that it is captured for.
    mallory
        .batch_execute(
            "CREATE TEMPORARY TABLE a (x int); RESET SESSION AUTHORIZATION; CREATE TEMPORARY TABLE b (x int)",
        )
        .await
        .unwrap();
    world.primary.psql(DATABASE, "INSERT INTO t VALUES ('2é')").await;
    world.checkpoint("after").await;
    world.go("after").await;
    let expected = before.replace("(1)", "(1),(2é)");
    assert_eq!(state_of_output(&world).await, expected);

    // What is refused on the replica stops replay, and nothing lends the function more.
    mallory
        .batch_execute("ALTER TABLE pg_temp.own ADD COLUMN lent int DEFAULT pg_temp.lent()")
        .await
        .unwrap();
    world.checkpoint("refused").await;
    // From where all of it comes over one connection, which has the temporary table.
    world.go("CREATION").await;
    let (status, problem) = world.try_go("refused").await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("precondition")), "{problem:#}");
    assert_eq!(state_of_output(&world).await, expected);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_schema_changes_evaluate_get_no_rights_on_15() {
    functions_that_schema_changes_evaluate_get_no_rights(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_schema_changes_evaluate_get_no_rights_on_18() {
    functions_that_schema_changes_evaluate_get_no_rights(ServerVersion::Pypi18).await;
}
