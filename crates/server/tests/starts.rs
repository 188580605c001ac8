//! What keeps a service from starting, on real servers. The oracle is the primary's own catalog.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use ptr_server::{Code, Role};
use ptr_testkit::{Pooler, ServerVersion, TestServer, TestServerOptions, wait_until};
use serde_json::json;
use support::{Api, configuration};

const DATABASE: &str = "shop";

async fn primary() -> TestServer {
    let primary = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    primary.database(DATABASE).await;
    primary.psql(DATABASE, "CREATE TABLE t (id int PRIMARY KEY)").await;
    primary
}

/// How many things of ours are on the primary.
async fn traces(primary: &TestServer) -> String {
    let ours = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)
                + (SELECT count(*) FROM pg_event_trigger)";
    primary.psql(DATABASE, ours).await.trim().to_owned()
}

/// The same database by another name of the machine.
fn by_another_name(uri: &str) -> String {
    let (there, other) =
        if uri.contains("127.0.0.1") { ("127.0.0.1", "localhost") } else { ("localhost", "127.0.0.1") };
    assert!(uri.contains(there), "{uri}");
    uri.replacen(there, other, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn input_and_output_that_are_one_database_by_two_names_are_refused_in_every_role() {
    let primary = primary().await;
    let input = primary.dsn(DATABASE).to_uri_with_password();
    let output = by_another_name(&input);
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[("INPUT_DSN", &input), ("OUTPUT_DSN", &output)]);
    for role in [Role::Up, Role::Listener, Role::Ipc] {
        let problem = Api::refused(configuration.clone(), role).await;
        assert_eq!(problem.code, Code::Precondition, "{problem:?}");
        assert!(problem.detail.contains("INPUT_DSN and OUTPUT_DSN are one database"), "{}", problem.detail);
    }
    assert_eq!(traces(&primary).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_stands_in_the_way_is_told_at_once_with_its_fix() {
    let primary = primary().await;
    primary
        .psql(DATABASE, "SELECT pg_create_logical_replication_slot('postgres_test_replay', 'pgoutput')")
        .await;
    primary.database("full").await;
    primary.psql("full", "CREATE TABLE theirs (x int)").await;
    let (input, output) = (primary.dsn(DATABASE), primary.dsn("full"));
    let folder = tempfile::tempdir().unwrap();
    let dsns =
        [("INPUT_DSN", &*input.to_uri_with_password()), ("OUTPUT_DSN", &*output.to_uri_with_password())];
    let problem = Api::refused(configuration(folder.path(), &dsns), Role::Up).await;
    assert_eq!(problem.code, Code::Precondition, "{problem:?}");
    for expected in
        ["a slot \"postgres_test_replay\" is there already", "pg_drop_replication_slot", "public.theirs"]
    {
        assert!(problem.detail.contains(expected), "{}", problem.detail);
    }
    assert_eq!(traces(&primary).await, "1");
}

/// Another data directory may need it: then its history would end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_left_over_is_dropped_with_consent_only() {
    let primary = primary().await;
    primary
        .psql(DATABASE, "SELECT pg_create_logical_replication_slot('postgres_test_replay', 'pgoutput')")
        .await;
    let (input, output) = (primary.dsn(DATABASE), primary.dsn("replica"));
    let folder = tempfile::tempdir().unwrap();
    let dsns =
        [("INPUT_DSN", &*input.to_uri_with_password()), ("OUTPUT_DSN", &*output.to_uri_with_password())];
    let api = Api::open(configuration(folder.path(), &dsns), Role::Offline).await;
    let left = api.post("/api/doctor/fix", "").await;
    assert_eq!((&left["healthy"], &left["findings"][0]["code"]), (&json!(false), &json!("leftover_slot")));
    assert_eq!(traces(&primary).await, "1");
    let left = api.post("/api/doctor/fix", r#"{"drop_slot": true}"#).await;
    assert_eq!(left["healthy"], true, "{left}");
    assert_eq!(traces(&primary).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_every_server_needs_is_refused_with_what_to_name() {
    let primary = primary().await;
    let output = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let dsns = [
        ("INPUT_DSN", &*primary.dsn(DATABASE).to_uri_with_password()),
        ("OUTPUT_DSN", &*output.dsn("postgres").to_uri_with_password()),
    ];
    let problem = Api::refused(configuration(folder.path(), &dsns), Role::Up).await;
    assert_eq!(problem.code, Code::Precondition, "{problem:?}");
    assert!(
        problem.detail.contains("the database \"postgres\", which no session can have")
            && problem.detail.contains("name another database in OUTPUT_DSN"),
        "{}",
        problem.detail
    );
    assert_eq!(traces(&primary).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_behind_a_pooler_is_refused_with_the_way_past_it() {
    let primary = primary().await;
    primary.database("replica").await;
    let (input, output) = (primary.dsn(DATABASE).to_uri_with_password(), primary.dsn("replica"));
    let Some(pooler) = Pooler::start_in_mode(&primary, "replica", "transaction").await else { return };
    let folder = tempfile::tempdir().unwrap();
    let by = |output: &str| configuration(folder.path(), &[("INPUT_DSN", &input), ("OUTPUT_DSN", output)]);
    let problem = Api::refused(by(&pooler.dsn(&output).to_uri_with_password()), Role::Up).await;
    assert_eq!(problem.code, Code::Precondition, "{problem:?}");
    assert!(problem.detail.contains("set OUTPUT_DSN to the server's own port"), "{}", problem.detail);
    assert_eq!(traces(&primary).await, "0");
    // It keeps what it opened.
    drop(pooler);
    wait_until("its connections are gone", Duration::from_secs(30), async || {
        let of_replica = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'replica'";
        primary.psql("postgres", of_replica).await.trim() == "0"
    })
    .await;
    let api = Api::open(by(&output.to_uri_with_password()), Role::Up).await;
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_told_as_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = "postgres://nobody@127.0.0.1:1/none";
    let dsns = [("INPUT_DSN", nobody), ("OUTPUT_DSN", nobody)];
    let problem = Api::refused(configuration(folder.path(), &dsns), Role::Up).await;
    assert_eq!(problem.code, Code::Unreachable, "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_before_anything_is_changed() {
    let primary = primary().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (input, output) = (primary.dsn(DATABASE), primary.dsn("replica"));
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("INPUT_DSN", &*input.to_uri_with_password()),
        ("OUTPUT_DSN", &*output.to_uri_with_password()),
        ("SERVER_ADDR", &*address),
    ];
    let problem = Api::refused(configuration(folder.path(), &variables), Role::Up).await;
    assert_eq!(problem.code, Code::Precondition, "{problem:?}");
    assert!(problem.detail.contains(&address), "{}", problem.detail);
    assert_eq!(traces(&primary).await, "0");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
