//! A listener that is far behind reads its slot by SQL and then streams: what it writes is what the server sent, once
//! and in commit order, wherever the one ends and the other begins, and wherever it is killed.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use ptr_capture::listener::{CatchUp, ListenerState, ListenerStatus, listen};
use ptr_testkit::{ServerVersion, TestServerOptions, wait_until};
use tokio::sync::watch;

use crate::{oracle, setting::Setting};

const PATIENCE: Duration = Duration::from_secs(120);
/// Anything is far, and a chunk is small enough that there are many.
const EAGER: CatchUp = CatchUp { far: 32 << 10, chunk: 2 << 20 };
const KILLS: u32 = 40;

fn logging_statements() -> TestServerOptions {
    TestServerOptions::default().with("log_statement", "all")
}

async fn eager_setting(version: ServerVersion, options: TestServerOptions) -> Setting {
    let mut setting = Setting::new(version, options).await;
    setting.catch_up = EAGER;
    setting
}

/// How often the server was asked for something.
fn asked(setting: &Setting, what: &str) -> usize {
    let log = std::fs::read_to_string(setting.server.cluster().log_file()).unwrap();
    // Our statements only: the oracle's is another one.
    log.lines().filter(|line| line.contains("statement: ") && line.contains(what)).count()
}

fn peeks(setting: &Setting) -> usize {
    asked(setting, "COPY (SELECT data FROM pg_catalog.pg_logical_slot_peek_binary_changes('app'")
}

/// Several chunks of WAL. A PostgreSQL checkpoint notes which transactions run, by which restart_lsn moves on.
async fn backlog(setting: &Setting) {
    for _ in 0..6 {
        setting.server.pgbench("app", &["-n", "-c", "4", "-t", "400"]).await;
        setting.client.batch_execute("CHECKPOINT").await.unwrap();
    }
}

async fn far_behind(version: ServerVersion) {
    let setting = eager_setting(version, logging_statements()).await;
    setting
        .client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE TABLE kinds (id int PRIMARY KEY, v text, m mood, big text, f float8, t timestamptz, i interval);
             ALTER TABLE kinds ALTER big SET STORAGE EXTERNAL;
             ALTER DATABASE app SET DateStyle = 'SQL, DMY'; ALTER DATABASE app SET TimeZone = 'Asia/Tokyo';
             ALTER DATABASE app SET extra_float_digits = 0; ALTER DATABASE app SET IntervalStyle = 'iso_8601';
             INSERT INTO kinds VALUES (1, 'a', 'ok', repeat('x', 300000), 0.1::float8 + 0.2, now(), '1 mon 2 days');
             INSERT INTO kinds VALUES (2);
             UPDATE kinds SET v = 'b' WHERE id = 1; DELETE FROM kinds WHERE id = 2; TRUNCATE kinds;
             SELECT pg_logical_emit_message(true, 'mine', 'hi');
             SELECT pg_logical_emit_message(true, 'postgres_test_replay', '{\"forged\": true}');
             BEGIN; INSERT INTO kinds VALUES (3); ALTER TABLE kinds ADD c text DEFAULT 'x'; UPDATE kinds SET id = 4; COMMIT;
             BEGIN; INSERT INTO kinds VALUES (9); ROLLBACK",
        )
        .await
        .unwrap();
    backlog(&setting).await;
    let behind = setting.current_lsn().await;
    let listener = setting.listen();
    // Written while it catches up: the change from SQL to the stream falls among these.
    setting.server.pgbench("app", &["-n", "-c", "4", "-t", "500"]).await;
    listener.until_streaming().await;
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (7)").await.unwrap();
    setting.until_captured(&listener).await;
    assert!(setting.head() > behind);
    assert_eq!(listener.status().progress.reconnects, 0, "the connection was lost");
    assert_eq!(listener.status().progress.ignored_messages, 1, "the forged message is counted");
    listener.stop().await.unwrap();
    assert!(peeks(&setting) > 2, "it caught up in {} chunks", peeks(&setting));
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_far_behind_catches_up_by_sql_and_goes_on_by_streaming_on_15() {
    far_behind(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_far_behind_catches_up_by_sql_and_goes_on_by_streaming_on_18() {
    far_behind(ServerVersion::Pypi18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sql_fails_capture_streams() {
    let mut setting = Setting::new(ServerVersion::Debian15, logging_statements()).await;
    setting.catch_up = CatchUp { chunk: 1 << 30, ..EAGER };
    setting.client.batch_execute("ALTER SYSTEM SET temp_file_limit = '1MB'").await.unwrap();
    setting.client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let rows = "INSERT INTO pgbench_history (tid, filler) SELECT aid, repeat('f', 22) FROM pgbench_accounts";
    setting.client.batch_execute(rows).await.unwrap();
    let listener = setting.listen();
    listener.until_streaming().await;
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    let log = std::fs::read_to_string(setting.server.cluster().log_file()).unwrap();
    assert!(log.contains("temporary file size exceeds temp_file_limit"), "nothing failed");
    setting.client.batch_execute("SET temp_file_limit = -1").await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_holds_the_slot_back_is_waited_for_by_streaming() {
    let setting = eager_setting(ServerVersion::Debian15, logging_statements()).await;
    let old = setting.server.client("app").await;
    old.batch_execute("BEGIN; INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
    let begun = setting.confirmed_lsn().await;
    backlog(&setting).await;
    backlog(&setting).await;
    let chunks = (setting.current_lsn().await.0 - begun.0) / EAGER.chunk;
    let listener = setting.listen();
    listener.until_streaming().await;
    let before = peeks(&setting);
    old.batch_execute("COMMIT").await.unwrap();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    assert!(chunks >= 6, "the backlog was too small to mean anything: {chunks} chunks");
    assert!(before <= 4, "{before} of {chunks} chunks, each decoded from the old transaction on");
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_while_it_catches_up_loses_nothing() {
    let setting = eager_setting(ServerVersion::Debian15, logging_statements()).await;
    backlog(&setting).await;
    for _ in 0..4 {
        let listener = setting.listen();
        let before = setting.head();
        wait_until("a part of it is durable", PATIENCE, async || {
            let status = listener.status();
            status.progress.durable_lsn > before || status.state == ListenerState::Streaming
        })
        .await;
        listener.stop().await.unwrap();
    }
    let listener = setting.listen();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

async fn killed(version: ServerVersion) {
    let setting = eager_setting(version, logging_statements()).await;
    let seed = std::env::var("PTR_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let mut chance: u64 = seed.unwrap_or_else(|| u64::from(uuid::Uuid::new_v4().as_fields().0) | 1);
    println!("seed: PTR_TEST_SEED={chance}");
    for _ in 0..KILLS {
        setting.server.pgbench("app", &["-n", "-c", "4", "-t", "50"]).await;
        setting.client.batch_execute("CHECKPOINT").await.unwrap();
        let mut child = listener_process(&setting);
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Not a wait for something: the moment of the kill is the input of this test.
        tokio::time::sleep(Duration::from_millis(10 + (chance >> 33) % 400)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let by_sql = peeks(&setting);
    println!(
        "{KILLS} kills, {by_sql} chunks begun, {} advances",
        asked(&setting, "pg_replication_slot_advance")
    );
    let listener = setting.listen();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    assert!(by_sql > 20, "the kills hardly met the reading by SQL: {by_sql} chunks");
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_when_it_is_killed_while_it_catches_up_on_15() {
    killed(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_when_it_is_killed_while_it_catches_up_on_18() {
    killed(ServerVersion::Pypi18).await;
}

/// This program again, as a listener that can be killed.
fn listener_process(setting: &Setting) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "catch_up::as_a_process_of_its_own"])
        .env("LISTENER_DSN", setting.options().dsn.to_uri_with_password())
        .env("LISTENER_LOG", &setting.log_directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by other tests, which kill it"]
async fn as_a_process_of_its_own() {
    let (Ok(dsn), Ok(log)) = (std::env::var("LISTENER_DSN"), std::env::var("LISTENER_LOG")) else { return };
    let options = Setting::options_for(ptr_postgres::Dsn::from_environment(&dsn).unwrap(), EAGER);
    let (status, _) = watch::channel(ListenerStatus::default());
    listen(options, log.into(), status, Default::default()).await.unwrap();
}
