//! Private clusters, against the real programs: each test has a folder and a server of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ptr_postgres::cluster::{Account, ClusterRole, Durability, Started};
use ptr_postgres::programs::Installations;
use ptr_postgres::{Cluster, ClusterError, ClusterOptions, SessionSettings, connect};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn options(directory: &Path) -> ClusterOptions {
    let installation = Installations::from_environment().unwrap().newest_server().unwrap().clone();
    let mut options = ClusterOptions::new(directory, installation, ClusterRole::Primary);
    options.durability = Durability::Volatile;
    options.template_cache = Some(templates());
    options
}

fn templates() -> PathBuf {
    let user = std::env::var("USER").unwrap_or_else(|_| "nameless".to_owned());
    PathBuf::from(format!("/var/tmp/postgres-test-replay-cluster-tests-{user}"))
}

/// A folder that every account may enter, gone with the test.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("ptr-cluster-").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

async fn text(cluster: &Cluster, sql: &str) -> String {
    let connection = connect(&cluster.dsn("postgres"), &SessionSettings::named("test")).await.unwrap();
    connection.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_cluster_starts_takes_logins_by_password_only_and_stops() {
    let folder = folder();
    let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
    assert_eq!(cluster.start().await.unwrap(), Started::New);
    assert_eq!(text(&cluster, "SELECT current_setting('wal_level')").await, "logical");
    assert_eq!(text(&cluster, "SELECT current_setting('server_encoding')").await, "UTF8");
    let stranger = cluster.dsn("postgres").with_user("postgres", Some(ptr_postgres::Password::new("wrong")));
    let error = connect(&stranger, &SessionSettings::named("test")).await.unwrap_err();
    assert!(matches!(error, ptr_postgres::ConnectError::LoginRefused { .. }), "{error}");
    cluster.stop().await.unwrap();
    assert!(!cluster.is_running());
}

/// The log has statements in it; the server's account, if that is another, needs to get through and no more.
#[tokio::test]
async fn what_is_in_a_clusters_folder_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
    let own = *cluster.account() == Account::Own;
    std::fs::write(cluster.log_file(), "").unwrap();
    cluster.start().await.unwrap();
    for name in ["server.log", "password", "port"] {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(folder.path()), if own { 0o700 } else { 0o711 });
    assert_eq!(mode(&cluster.data_directory()), 0o700);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn two_clusters_from_one_template_have_their_own_identity_and_password() {
    let (one, two) = (folder(), folder());
    let mut first = Cluster::create_or_open(options(one.path())).await.unwrap();
    let mut second = Cluster::create_or_open(options(two.path())).await.unwrap();
    first.start().await.unwrap();
    second.start().await.unwrap();
    let identifier = "SELECT system_identifier::text FROM pg_control_system()";
    assert_ne!(text(&first, identifier).await, text(&second, identifier).await);
    assert_ne!(first.dsn("postgres").password(), second.dsn("postgres").password());
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_outlived_its_starter_is_picked_up_with_its_data_and_port() {
    let folder = folder();
    let (port, pid) = {
        let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
        cluster.start().await.unwrap();
        (cluster.port(), cluster.pid())
    };
    let mut again = Cluster::create_or_open(options(folder.path())).await.unwrap();
    assert_eq!(again.start().await.unwrap(), Started::PickedUp);
    assert_eq!((again.port(), again.pid()), (port, pid));
    assert_eq!(text(&again, "SELECT 'here'::text").await, "here");
    again.stop().await.unwrap();
}

/// Runs itself as a child: see [`starts_a_server_and_waits`].
#[tokio::test]
async fn a_server_whose_starter_was_killed_is_picked_up() {
    let folder = folder();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "starts_a_server_and_waits", "--ignored", "--nocapture"])
        .env("CLUSTER_FOLDER", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let pid = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("pid=").map(|(_, l)| l.to_owned()));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
    assert_eq!(cluster.start().await.unwrap(), Started::PickedUp);
    assert_eq!(cluster.pid().map(|pid| pid.to_string()), pid);
    cluster.stop().await.unwrap();
    assert!(!cluster.is_running());
}

#[tokio::test]
#[ignore = "the child of a_server_whose_starter_was_killed_is_picked_up"]
async fn starts_a_server_and_waits() {
    let folder = PathBuf::from(std::env::var_os("CLUSTER_FOLDER").unwrap());
    let mut cluster = Cluster::create_or_open(options(&folder)).await.unwrap();
    cluster.start().await.unwrap();
    println!("pid={}", cluster.pid().unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn after_a_crash_of_the_server_its_left_over_pid_file_does_not_matter() {
    let folder = folder();
    let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
    cluster.start().await.unwrap();
    let pid = cluster.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    drop(cluster);
    let pid_file = folder.path().join("data/postmaster.pid");
    assert!(pid_file.exists());
    let mut again = Cluster::create_or_open(options(folder.path())).await.unwrap();
    assert_eq!(again.start().await.unwrap(), Started::New);
    again.stop().await.unwrap();
}

#[tokio::test]
async fn children_of_a_killed_server_that_are_slow_to_go_are_waited_for() {
    let folder = folder();
    let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
    cluster.start().await.unwrap();
    let child = "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let (child, server) = (text(&cluster, child).await, cluster.pid().unwrap().to_string());
    let signal = |name: &str, pid: &str| {
        assert!(Command::new("kill").args([name, pid]).status().unwrap().success(), "{name} {pid}");
    };
    signal("-STOP", &child);
    signal("-KILL", &server);
    let mut again = Cluster::create_or_open(options(folder.path())).await.unwrap();
    {
        let mut starting = std::pin::pin!(again.start());
        // Longer than five attempts took, after which it had given up.
        let given_up = tokio::time::timeout(std::time::Duration::from_secs(2), &mut starting).await;
        signal("-CONT", &child);
        assert!(given_up.is_err(), "{given_up:?}");
        assert_eq!(starting.await.unwrap(), Started::New);
    }
    again.stop().await.unwrap();
}

#[tokio::test]
async fn opening_makes_no_cluster_and_leaves_one_alone_that_is_being_made() {
    let folder = folder();
    let making = folder.path().join("data.new");
    std::fs::create_dir(&making).unwrap();
    assert!(Cluster::open(options(folder.path())).await.unwrap().is_none());
    assert!(making.exists() && !folder.path().join("data").exists());
    Cluster::create_or_open(options(folder.path())).await.unwrap();
    assert!(
        Cluster::open(options(folder.path())).await.unwrap().is_some_and(|cluster| !cluster.is_running())
    );
}

#[tokio::test]
async fn a_port_taken_by_somebody_else_is_replaced_and_remembered_unless_it_was_fixed() {
    let folder = folder();
    let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
    let taken = cluster.port();
    let _somebody = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    cluster.start().await.unwrap();
    assert_ne!(cluster.port(), taken);
    cluster.stop().await.unwrap();
    let reopened = Cluster::create_or_open(options(folder.path())).await.unwrap();
    assert_eq!(reopened.port(), cluster.port());
    let mut fixed = Cluster::create_or_open(ClusterOptions { port: Some(taken), ..options(folder.path()) })
        .await
        .unwrap();
    let error = fixed.start().await.unwrap_err();
    assert!(matches!(error, ClusterError::PortInUse { port, .. } if port == taken), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let folder = folder();
    let mut options = options(folder.path());
    options.settings.push(("shared_preload_libraries".to_owned(), "no_such_library".to_owned()));
    let mut cluster = Cluster::create_or_open(options).await.unwrap();
    let error = cluster.start().await.unwrap_err();
    assert!(matches!(error, ClusterError::NotStarted { .. }));
    assert!(error.to_string().contains("no_such_library"), "{error}");
}

#[tokio::test]
async fn ctrl_c_at_our_terminal_does_not_reach_the_server() {
    let folder = folder();
    let mut cluster = Cluster::create_or_open(options(folder.path())).await.unwrap();
    cluster.start().await.unwrap();
    let pid = cluster.pid().unwrap().to_string();
    let group = |pid: &str| {
        let output =
            Command::new("ps").args(["-o", "pgid=", "-p", pid]).stderr(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_ne!(group(&pid), group(&std::process::id().to_string()));
    cluster.stop().await.unwrap();
}

/// Root only: elsewhere there is no folder that the server's account cannot enter.
#[tokio::test]
async fn under_a_folder_closed_to_the_servers_account_the_cluster_goes_elsewhere_and_is_found_again() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let inside = folder.path().join("cluster");
    let mut cluster = Cluster::create_or_open(options(&inside)).await.unwrap();
    if *cluster.account() == Account::Own {
        assert!(!cluster.is_elsewhere());
        return;
    }
    assert!(cluster.is_elsewhere());
    cluster.start().await.unwrap();
    cluster.stop().await.unwrap();
    let again = Cluster::create_or_open(options(&inside)).await.unwrap();
    assert_eq!(again.directory(), cluster.directory());
    assert_eq!(again.dsn("postgres").password(), cluster.dsn("postgres").password());
    std::fs::remove_dir_all(cluster.directory()).unwrap();
}
