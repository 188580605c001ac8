//! `pg_dump` and `pg_restore` over ways that fall silent, or are slow: the silent end with what to do, the slow are waited for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ptr_postgres::{
    Dsn,
    programs::{name_sessions, session_name, until_lost},
};
use ptr_testkit::{Proxy, ServerVersion, TestServer, TestServerOptions, newest_program, wait_until};
use std::{
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

/// A server with a table of 30 MB, and a way to it.
async fn by_a_way() -> (TestServer, Proxy, Dsn) {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let way = Proxy::to(server.cluster().port()).await;
    let sql =
        "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 100) AS v FROM generate_series(1, 10000) g";
    server.psql("postgres", sql).await;
    let uri = way.lead(&server.dsn("postgres")).to_uri_with_password();
    let dsn = Dsn::parse(&format!("{uri}?connect_timeout=1"), &|_| None).unwrap();
    (server, way, dsn)
}

/// How a program ended: by itself, or given up for this reason.
type Ended = Result<ExitStatus, String>;

async fn run(name: &str, arguments: &[&str], dsn: &Dsn, session: &str) -> Ended {
    let mut command = Command::new(newest_program(name));
    dsn.apply_to(&mut command);
    name_sessions(&mut command, session);
    command.args(arguments).stdout(Stdio::null());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
    let process = child.id();
    let ended = async {
        tokio::select! {
            status = child.wait() => Ok(status.unwrap()),
            lost = until_lost(process, dsn, session) => Err(lost),
        }
    };
    tokio::time::timeout(Duration::from_secs(100), ended).await.unwrap_or_else(|_| panic!("{name} hangs"))
}

async fn sessions(server: &TestServer, session: &str) -> String {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{session}'");
    server.psql("postgres", &sql).await.trim().to_owned()
}

async fn workers_of(folder: &str) -> bool {
    let output = Command::new("ps").args(["-eo", "args"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .any(|line| line.contains("pg_dump") && line.contains(folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_whose_way_fell_silent_is_given_up_with_its_processes_and_sessions() {
    let (server, way, dsn) = by_a_way().await;
    for (messages, jobs) in [(10, 1), (40, 1), (60, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dump").display().to_string();
        let session = session_name("ptr test");
        way.silence_after(messages);
        let arguments = ["--format=directory", &format!("--jobs={jobs}"), "--file", &target];
        let ended = run("pg_dump", &arguments, &dsn, &session).await;
        way.heal();
        let lost = ended.expect_err("it ended by itself: nothing fell silent in its midst");
        println!("silent after {messages} messages, {jobs} jobs: {lost}");
        assert!(lost.contains("leads nowhere") && lost.contains("try again"), "{lost}");
        wait_until("all of it is gone", Duration::from_secs(20), async || {
            sessions(&server, &session).await == "0" && !workers_of(&target).await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_restore_whose_way_fell_silent_is_given_up() {
    let (server, way, dsn) = by_a_way().await;
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump").display().to_string();
    let made = run("pg_dump", &["--format=directory", "--file", &dump], &dsn, "whole").await;
    assert!(made.unwrap().success());
    server.psql("postgres", "CREATE DATABASE copy").await;
    let session = session_name("ptr test");
    way.silence_after(200);
    let ended = run("pg_restore", &["--dbname=copy", &dump], &dsn, &session).await;
    let lost = ended.expect_err("it ended by itself");
    assert!(lost.contains("leads nowhere") && lost.contains("try again"), "{lost}");
    wait_until("its session is ended", Duration::from_secs(20), async || {
        sessions(&server, &session).await == "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_any_more_ends_a_pg_dump() {
    let (server, way, dsn) = by_a_way().await;
    let session = session_name("ptr test");
    way.silence_after(40);
    let running = run("pg_dump", &["--file=/dev/null"], &dsn, &session);
    let cutting = async {
        wait_until("it is silent", Duration::from_secs(20), async || way.silenced() > 0).await;
        way.hold_up();
    };
    let (ended, ()) = tokio::join!(running, cutting);
    let lost = ended.expect_err("it ended by itself");
    assert!(lost.contains("cannot be reached") && lost.contains("try again"), "{lost}");
    way.heal();
    wait_until("what it left there is ended", Duration::from_secs(30), async || {
        sessions(&server, &session).await == "0"
    })
    .await;
}

/// Longer than a silent one is waited for; it is what is tried.
const LONG: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_that_waits_for_a_lock_is_waited_for() {
    let (server, _way, dsn) = by_a_way().await;
    let holder = server.client("postgres").await;
    holder.batch_execute("BEGIN; LOCK t").await.unwrap();
    let session = session_name("ptr test");
    let running = run("pg_dump", &["--file=/dev/null"], &dsn, &session);
    let holding = async {
        tokio::time::sleep(LONG).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (ended, ()) = tokio::join!(running, holding);
    assert!(ended.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pg_dump_over_a_slow_way_is_waited_for() {
    let (_server, way, dsn) = by_a_way().await;
    way.slow_to(60_000);
    let session = session_name("ptr test");
    let begun = std::time::Instant::now();
    let ended = run("pg_dump", &["--schema-only", "--file=/dev/null"], &dsn, &session).await;
    assert!(ended.unwrap().success());
    assert!(begun.elapsed() > LONG / 3, "it was not slow: {:?}", begun.elapsed());
}
