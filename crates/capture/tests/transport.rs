//! Logins in replication mode, in every way that a server may ask for, and slots on every version.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use ptr_capture::transport::{ReplicationConnection, SlotKind, TransportError};
use ptr_postgres::{ConnectError, Dsn, SqlState};
use ptr_testkit::{ServerVersion, TestServer, TestServerOptions, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

fn dsn(server: &TestServer, user: &str, password: &str, options: &str) -> Dsn {
    let port = server.cluster().port();
    let text = format!("postgres://{user}:{password}@127.0.0.1:{port}/postgres?{options}");
    Dsn::parse(&text, &|_| None).unwrap()
}

async fn login(dsn: &Dsn) -> Result<String, TransportError> {
    let mut connection = ReplicationConnection::connect(dsn).await?;
    let rows = connection.query("SELECT current_user, current_setting('TimeZone')").await?;
    connection.close().await?;
    assert_eq!(rows[0][1].as_deref(), Some("UTC"), "the canonical settings");
    Ok(rows[0][0].clone().unwrap())
}

/// Roles that log in by scram, md5 and clear text, and TLS with a certificate of its own.
async fn server() -> TestServer {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let data = server.cluster().data_directory();
    let arguments =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
    let files = ["-keyout", "server.key", "-out", "server.crt"];
    let made = Command::new("openssl")
        .args(arguments.split(' '))
        .args(files)
        .current_dir(server.folder())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    for name in ["server.key", "server.crt"] {
        give(&server.folder().join(name), &data.join(name), &data);
    }
    let rules = data.join("pg_hba.conf");
    let before = fs::read_to_string(&rules).unwrap();
    fs::write(
        &rules,
        format!(
            "host all scram all scram-sha-256\nhost all hash all md5\nhost all clear all password\n{before}"
        ),
    )
    .unwrap();
    server
        .psql(
            "postgres",
            "CREATE ROLE scram LOGIN REPLICATION PASSWORD 's p@ss'; SET password_encryption = md5;
             CREATE ROLE hash LOGIN REPLICATION PASSWORD 'hash'; CREATE ROLE clear LOGIN REPLICATION PASSWORD 'clear';",
        )
        .await;
    server.psql("postgres", "ALTER SYSTEM SET ssl = on").await;
    server.psql("postgres", "SELECT pg_reload_conf()").await;
    wait_until("TLS is on", PATIENCE, async || server.psql("postgres", "SHOW ssl").await.trim() == "on")
        .await;
    server
}

fn give(file: &Path, target: &Path, like: &Path) {
    fs::copy(file, target).unwrap();
    fs::set_permissions(target, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(like).unwrap();
    chown(target, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test]
async fn every_way_to_log_in_works_in_replication_mode() {
    let server = server().await;
    for (user, password, options) in [
        ("scram", "s%20p%40ss", "sslmode=disable"),
        ("scram", "s%20p%40ss", "sslmode=require&channel_binding=require"),
        ("scram", "s%20p%40ss", "sslmode=require&channel_binding=disable"),
        ("hash", "hash", "sslmode=disable"),
        ("clear", "clear", "sslmode=require"),
    ] {
        assert_eq!(login(&dsn(&server, user, password, options)).await.unwrap(), user, "{user} {options}");
    }
}

#[tokio::test]
async fn a_login_that_cannot_be_says_why_and_shows_no_password() {
    let server = server().await;
    let wrong = login(&dsn(&server, "scram", "sesame", "")).await.unwrap_err();
    assert!(matches!(wrong, TransportError::Connect(ConnectError::LoginRefused { .. })), "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("sesame"));
    // Whoever asks for a bound channel must not hand the password to a server that offers none.
    for (user, password) in [("clear", "clear"), ("hash", "hash")] {
        let error = login(&dsn(&server, user, password, "sslmode=require&channel_binding=require"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("channel_binding=require"), "{error}");
    }
    let unbound =
        login(&dsn(&server, "scram", "s%20p%40ss", "sslmode=disable&channel_binding=require")).await;
    assert!(unbound.unwrap_err().to_string().contains("channel_binding=require"));
    let none =
        Dsn::parse(&format!("postgres://scram@127.0.0.1:{}/postgres", server.cluster().port()), &|_| None);
    assert!(login(&none.unwrap()).await.unwrap_err().to_string().contains("~/.pgpass"));
}

#[tokio::test]
async fn a_role_without_the_right_is_refused_by_sqlstate() {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    server.psql("postgres", "CREATE ROLE plain LOGIN PASSWORD 'plain'").await;
    let error = login(&dsn(&server, "plain", "plain", "")).await.unwrap_err();
    assert_eq!(error.server_error().unwrap().sqlstate, SqlState::INSUFFICIENT_PRIVILEGE, "{error}");
}

#[tokio::test]
async fn a_slot_comes_with_a_snapshot_that_others_can_use_on_every_version() {
    for version in ServerVersion::ALL {
        let server = TestServer::start(version, TestServerOptions::default()).await;
        let mut connection = ReplicationConnection::connect(&server.dsn("postgres")).await.unwrap();
        let system = connection.identify_system().await.unwrap();
        assert_eq!((system.database.as_str(), system.timeline), ("postgres", 1));
        // SQL has no unsigned type for it and shows the same bits as a signed number.
        let identifier = server.psql("postgres", "SELECT system_identifier FROM pg_control_system()").await;
        assert_eq!(identifier.trim().parse::<i64>().unwrap(), system.system_identifier.cast_signed());
        let major = version.installation().version.major;
        let slot = connection.create_slot("a_slot", SlotKind::Temporary, major).await.unwrap();
        assert!(slot.consistent_point >= system.flush_lsn);
        let import = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'; COMMIT",
            slot.snapshot
        );
        server.psql("postgres", &import).await;
        let error = connection.create_slot("a_slot", SlotKind::Temporary, major).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().sqlstate, SqlState::DUPLICATE_OBJECT);
        // An error leaves the connection as it was.
        assert_eq!(connection.query("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
    }
}

/// Decoding runs in transactions, which `transaction_timeout` of the database or of the role would end.
#[tokio::test]
async fn no_limit_of_time_of_a_database_is_one_for_the_stream() {
    for (version, limit) in
        [(ServerVersion::Debian15, "statement_timeout"), (ServerVersion::Pypi18, "transaction_timeout")]
    {
        let server = TestServer::start(version, TestServerOptions::default()).await;
        server.psql("postgres", &format!("ALTER DATABASE postgres SET {limit} = '50s'")).await;
        let mut connection = ReplicationConnection::connect(&server.dsn("postgres")).await.unwrap();
        let shown = connection.query(&format!("SHOW {limit}")).await.unwrap();
        assert_eq!(shown, [[Some("0".to_owned())]], "{version:?}");
    }
}

#[tokio::test]
async fn of_several_hosts_the_one_that_target_session_attrs_asks_for_is_taken() {
    for version in ServerVersion::ALL {
        let primary = TestServer::start(version, TestServerOptions::default()).await;
        let standby = primary.standby().await;
        let password = primary.dsn("postgres").password().unwrap().reveal().to_owned();
        for (wanted, in_recovery) in
            [("primary", "f"), ("read-write", "f"), ("standby", "t"), ("prefer-standby", "t"), ("any", "t")]
        {
            let hosts =
                format!("127.0.0.1:{},127.0.0.1:{}", standby.cluster().port(), primary.cluster().port());
            let text =
                format!("postgres://postgres:{password}@{hosts}/postgres?target_session_attrs={wanted}");
            let mut connection =
                ReplicationConnection::connect(&Dsn::parse(&text, &|_| None).unwrap()).await.unwrap();
            let rows = connection.query("SELECT pg_is_in_recovery()").await.unwrap();
            assert_eq!(rows[0][0].as_deref(), Some(in_recovery), "{wanted}");
            connection.close().await.unwrap();
        }
    }
}
