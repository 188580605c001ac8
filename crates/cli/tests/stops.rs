//! What a user does where replay cannot go on: reads the choices, takes one, goes on.
#![allow(missing_docs)]

mod support;

use std::os::unix::fs::PermissionsExt;

use ptr_testkit::{ServerVersion, TestServerOptions};
use serde_json::{Value, json};
use support::{both, pair::Pair, wait_until};

/// What the program says, on stderr, of a failure with this exit code; it asks nothing.
#[track_caller]
fn fails(pair: &Pair, code: i32, arguments: &[&str]) -> Value {
    let output = pair.product.output(&[&["--json", "--no-input"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", both(&output));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let last = text.lines().last().expect("a problem");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs the command that a choice of a stop offers.
#[track_caller]
fn choose(pair: &Pair, stop: &Value, choice: &str) -> Value {
    let choices = stop["choices"].as_array().expect("choices");
    let found = choices.iter().find(|one| one["choice"] == choice);
    let command =
        found.unwrap_or_else(|| panic!("no {choice} in {stop:#}"))["command"].as_str().expect("a command");
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    pair.product.json(&[&["--no-input"], &words[..]].concat())
}

async fn tamper(pair: &Pair, sql: &str) {
    pair.replica.psql("shop", &format!("SET default_transaction_read_only = off; {sql}")).await;
}

#[track_caller]
fn verifies(pair: &Pair) {
    let verified = pair.product.json(&["verify"]);
    assert_eq!(verified["equal"], json!(true), "{verified:#}");
}

async fn a_table_is_resynchronised(version: ServerVersion) {
    let mut pair = Pair::capturing(version, async |primary| {
        let schema = "CREATE TABLE t (id serial PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY);
                      INSERT INTO t (v) SELECT 'a' FROM generate_series(1, 100)";
        primary.psql("shop", schema).await;
    })
    .await;
    let one = pair.keep("one").await;
    pair.assert_replica_is(&one.state, "one").await;
    pair.primary.psql("shop", "UPDATE t SET v = 'b' WHERE id = 7").await;
    pair.product.run(&["checkpoint", "create", "between"]);
    pair.primary.psql("shop", "INSERT INTO t (v) VALUES ('c')").await;
    tamper(&pair, "DELETE FROM t WHERE id = 7").await;
    let stop = fails(&pair, 6, &["navigate", "head"]);
    assert_eq!((&stop["code"], &stop["table"]), (&json!("integrity"), &json!("public.t")), "{stop:#}");
    let told = both(&pair.product.output(&["navigate", "head"]));
    assert!(told.contains("postgres-test-replay session resync public.t"), "{told}");

    let decision = choose(&pair, &stop, "resync");
    assert_eq!((&decision["kind"], &decision["table"]), (&json!("resync"), &json!("public.t")));
    let folder = pair.product.data_directory().join("resync");
    let session = folder.join(only_entry(&folder));
    let taken = session.join(only_entry(&session));
    for file in std::fs::read_dir(&taken).expect("files") {
        let mode = file.expect("a file").metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    // The product dies while the rows go in.
    let holder = pair.replica.client("shop").await;
    holder.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").await.expect("a lock");
    let mut navigate = pair.product.spawn("navigate", &["navigate", "head"]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND wait_event_type = 'Lock'";
    while pair.replica.psql("postgres", waits).await.trim() == "0" {
        assert!(navigate.child.try_wait().expect("a child").is_none(), "{}", navigate.printed());
    }
    pair.kill();
    navigate.kill();
    holder.batch_execute("ROLLBACK").await.expect("no lock");
    drop(holder);
    let gone =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND backend_type = 'client backend'";
    while pair.replica.psql("postgres", gone).await.trim() != "0" {}
    let here = pair.replica.psql("shop", "SELECT count(*) FROM t").await;
    assert_eq!(here.trim(), "99", "as it was");
    pair.start_again();

    pair.product.run(&["navigate", "head"]);
    verifies(&pair);
    let head = pair.keep("resynchronised").await;
    pair.product.run(&["navigate", "between"]);
    let session = pair.product.json(&["session", "show", "default"]);
    let differs = session["differs"][0].as_str().expect("it differs");
    assert!(differs.contains("public.t held there is not known"), "{differs}");
    pair.assert_replica_is(&one.state, "one").await;
    pair.assert_replica_is(&head.state, "resynchronised").await;
    pair.primary.psql("shop", "UPDATE t SET v = 'd'; INSERT INTO u VALUES (1)").await;
    let after = pair.keep("after").await;
    pair.assert_replica_is(&after.state, "after").await;
    verifies(&pair);

    // Taken back, the log alone says what the table holds, and the files are gone.
    let gone = pair.product.json(&["session", "undecide", &decision["id"].to_string()]);
    assert_eq!(gone["rebuilds"], true);
    assert!(!taken.exists());
    pair.assert_replica_is(&after.state, "after").await;
}

fn only_entry(folder: &std::path::Path) -> std::ffi::OsString {
    let entries: Vec<_> = std::fs::read_dir(folder).expect("a folder").collect();
    assert_eq!(entries.len(), 1);
    entries[0].as_ref().expect("an entry").file_name()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_wrote_to_is_resynchronised_on_15() {
    a_table_is_resynchronised(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_wrote_to_is_resynchronised_on_18() {
    a_table_is_resynchronised(ServerVersion::Pypi18).await;
}

/// Rows of a rewrite that could not be read are a gap: replay stops at it, and the table can be taken from the primary.
async fn a_gap_is_crossed_by_taking_the_table(version: ServerVersion) {
    let pair = Pair::capturing(version, async |primary| {
        let schema = "CREATE TABLE t (id serial PRIMARY KEY, v float8); CREATE TABLE u (id int PRIMARY KEY);
                      INSERT INTO t (v) SELECT i FROM generate_series(1, 100) i";
        primary.psql("shop", schema).await;
    })
    .await;
    let before = pair.keep("before").await;
    pair.assert_replica_is(&before.state, "before").await;
    let send_rows =
        |from: &str, to: &str| format!("ALTER FUNCTION postgres_test_replay.{from}(oid) RENAME TO {to}");
    pair.primary.psql("shop", &send_rows("send_rows", "gone")).await;
    let rewrite =
        "BEGIN; INSERT INTO u VALUES (1); ALTER TABLE t ALTER v TYPE text USING (v + random())::text; COMMIT";
    pair.primary.psql("shop", rewrite).await;
    pair.primary.psql("shop", &send_rows("gone", "send_rows")).await;
    pair.primary.psql("shop", "INSERT INTO t (v) VALUES ('later'); INSERT INTO u VALUES (2)").await;
    pair.product.run(&["checkpoint", "create", "after"]);

    let stop = fails(&pair, 4, &["navigate", "after"]);
    let detail = stop["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("the rows of public.t after its rewrite or refresh could not be read"),
        "{stop:#}"
    );
    assert!(detail.contains("ALTER TABLE t ALTER v TYPE text"), "{stop:#}");
    assert_eq!((&stop["table"], &stop["sqlstate"]), (&json!("public.t"), &json!("42883")), "{stop:#}");
    let held = pair.replica.psql("shop", "SELECT count(*) FROM u").await;
    assert_eq!(held.trim(), "0", "the session is at the transaction before");

    choose(&pair, &stop, "resync");
    pair.product.run(&["navigate", "head"]);
    verifies(&pair);
    pair.primary.psql("shop", "UPDATE t SET v = 'last' WHERE id = 101; DELETE FROM t WHERE id < 50").await;
    let last = pair.keep("last").await;
    pair.assert_replica_is(&last.state, "last").await;
    pair.assert_replica_is(&before.state, "before").await;
    pair.assert_replica_is(&last.state, "last").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_crossed_by_taking_the_table_on_15() {
    a_gap_is_crossed_by_taking_the_table(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_crossed_by_taking_the_table_on_18() {
    a_gap_is_crossed_by_taking_the_table(ServerVersion::Pypi18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_missing_extension_stops_is_skipped_or_left_out_and_a_table_left_out_can_be_taken() {
    let options = TestServerOptions::default();
    let (primary, replica) = (ServerVersion::Debian15, ServerVersion::Pypi18);
    let pair = Pair::between(primary, replica, options, async |primary| {
        let parted = "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
                      CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)";
        primary.psql("shop", &format!("CREATE TABLE t (id int PRIMARY KEY); {parted}")).await;
    })
    .await;
    pair.primary.psql("shop", "CREATE EXTENSION hstore").await;
    pair.primary.psql("shop", "CREATE TABLE h (id serial PRIMARY KEY, bag hstore)").await;
    pair.primary.psql("shop", "INSERT INTO h (bag) VALUES ('a=>1'); INSERT INTO t VALUES (1)").await;

    let stop = fails(&pair, 4, &["navigate", "head"]);
    assert_eq!(stop["statement"], "CREATE EXTENSION hstore", "{stop:#}");
    choose(&pair, &stop, "skip");
    let stop = fails(&pair, 4, &["navigate", "head"]);
    assert_eq!(choose(&pair, &stop, "skip")["kind"], "skip");
    let stop = fails(&pair, 4, &["navigate", "head"]);
    assert_eq!((&stop["table"], &stop["operation"]), (&json!("public.h"), &json!("INSERT")), "{stop:#}");
    assert!(stop["reason"].as_str().expect("a reason").contains("was left out"), "{stop:#}");

    // The type is still missing: it says so, before the rows.
    choose(&pair, &stop, "resync");
    let stop = fails(&pair, 4, &["navigate", "head"]);
    assert!(stop["reason"].as_str().expect("a reason").contains("hstore"), "{stop:#}");
    choose(&pair, &stop, "leave_out");
    pair.product.run(&["navigate", "head"]);
    assert_eq!(pair.product.json(&["session", "decisions"]).as_array().expect("a list").len(), 3);

    // A table that was left out is taken, and followed again.
    pair.primary.psql("shop", "INSERT INTO t VALUES (2)").await;
    pair.product.run(&["checkpoint", "create", "t2"]);
    pair.product.run(&["navigate", "head"]);
    pair.product.run(&["session", "skip", "--table", "public.t"]);
    pair.primary.psql("shop", "INSERT INTO t VALUES (3)").await;
    pair.product.run(&["checkpoint", "create", "t3"]);
    pair.product.run(&["navigate", "head"]);
    assert_eq!(pair.replica.psql("shop", "SELECT count(*) FROM t").await.trim(), "2");
    pair.primary.psql("shop", "INSERT INTO t VALUES (4)").await;
    pair.product.run(&["checkpoint", "create", "t4"]);
    let taken = pair.product.json(&["session", "resync", "public.t"]);
    assert_eq!(taken["rebuilds"], Value::Null, "it was left out until here: {taken:#}");
    pair.product.run(&["navigate", "head"]);
    assert_eq!(pair.replica.psql("shop", "SELECT count(*) FROM t").await.trim(), "4");
    pair.primary.psql("shop", "INSERT INTO t VALUES (5)").await;
    pair.product.run(&["checkpoint", "create", "t5"]);
    pair.product.run(&["navigate", "head"]);
    assert_eq!(pair.replica.psql("shop", "SELECT count(*) FROM t").await.trim(), "5");

    // What cannot be decided, and why.
    for command in [&["session", "resync", "p"][..], &["session", "skip", "--table", "public.p"]] {
        let refused = fails(&pair, 4, command);
        assert!(refused["hint"].as_str().expect("a hint").contains("public.p1"), "{refused:#}");
    }
    fails(&pair, 3, &["session", "resync", "public.nowhere"]);
    fails(&pair, 2, &["session", "resync", "a.b.c"]);
    wait_until("the product to be there still", || pair.product.output(&["status"]).status.success());
}
