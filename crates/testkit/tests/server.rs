//! Servers for tests, on both versions.

use ptr_testkit::{ServerVersion, TestServer, TestServerOptions, wait_until};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[tokio::test]
async fn both_versions_run_with_logical_decoding_and_their_client_programs() {
    for (version, major) in [(ServerVersion::Debian15, None), (ServerVersion::Pypi18, Some(18))] {
        let server = TestServer::start(version, TestServerOptions::default()).await;
        server.database("shop").await;
        let found = server.psql("shop", "SHOW server_version_num; SHOW wal_level").await;
        let (number, level) = found.trim().split_once('\n').expect("two lines");
        let number: u32 = number.parse().expect("a number");
        assert!(major.is_none_or(|major| number / 10_000 == major), "{number}");
        assert_eq!(level, "logical");
        server.pgbench("shop", &["-i", "-s", "1", "-q"]).await;
        assert!(server.pg_dump_schema("shop").await.contains("pgbench_accounts"));
    }
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_folder() {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let pid = server.cluster().pid().expect("it runs");
    let folder = server.folder().to_owned();
    drop(server);
    assert!(!folder.exists());
    // Reaped or a zombie of this process, but not running.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[tokio::test]
async fn data_survives_a_crash_and_a_restart() {
    let mut server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    server.psql("postgres", "CREATE TABLE t AS SELECT 1 AS i").await;
    server.crash().await;
    server.start_again().await;
    server.restart().await;
    assert_eq!(server.psql("postgres", "SELECT i FROM t").await.trim(), "1");
}

/// Runs itself as a child: see [`holds_a_server`].
#[tokio::test]
async fn a_server_dies_with_its_test_process_even_by_sigkill() {
    let this = std::env::current_exe().expect("a test knows its program");
    let mut child = Command::new(this)
        .args(["--exact", "holds_a_server", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let line = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("pid=").map(|(_, l)| l.to_owned()));
    let line = line.expect("the child says where its server is");
    let (pid, folder) = line.split_once(' ').expect("pid and folder");
    let process = format!("/proc/{pid}");
    assert!(Path::new(folder).exists());
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let gone = async || !Path::new(folder).exists() && !Path::new(&process).exists();
    wait_until("the server and its folder are gone", Duration::from_secs(20), gone).await;
}

#[tokio::test]
#[ignore = "the child of a_server_dies_with_its_test_process_even_by_sigkill"]
async fn holds_a_server() {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    println!("pid={} {}", server.cluster().pid().expect("it runs"), server.folder().display());
    std::future::pending::<()>().await;
}
