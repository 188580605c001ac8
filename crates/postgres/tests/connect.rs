//! Reaching real servers: logins, hosts in turn, TLS in all modes, and errors sorted by who can help.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ptr_postgres::{
    ConnectError, Connection, Dsn, Password, SessionSettings, connect, dsn::SslMode, open_stream,
};
use ptr_testkit::{Proxy, ServerVersion, TestServer, TestServerOptions, wait_until};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

async fn server() -> TestServer {
    TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await
}

fn session() -> SessionSettings {
    SessionSettings::canonical("connect-test")
}

async fn text(connection: &Connection, sql: &str) -> String {
    connection.query_one(sql, &[]).await.unwrap().get(0)
}

fn parse(text: &str) -> Dsn {
    Dsn::parse(text, &|_| None).unwrap()
}

#[tokio::test]
async fn a_session_has_its_name_and_the_canonical_settings() {
    let server = server().await;
    server.psql("postgres", "ALTER DATABASE postgres SET timezone = 'Asia/Tokyo'").await;
    let connection = connect(&server.dsn("postgres"), &session()).await.unwrap();
    assert_eq!(text(&connection, "SHOW application_name").await, "connect-test");
    assert_eq!(text(&connection, "SHOW TimeZone").await, "UTC");
    assert_eq!(text(&connection, "SELECT (0.1::float8 + 0.2::float8)::text").await, "0.30000000000000004");
    connection.close().await;
}

/// What a database may have for its users, and what a session of ours has then.
#[tokio::test]
async fn no_limit_of_time_of_a_database_is_one_for_us() {
    for version in ServerVersion::ALL {
        let server = TestServer::start(version, TestServerOptions::default()).await;
        server.database("shop").await;
        let sql =
            "SELECT string_agg(format('ALTER DATABASE shop SET %I = 50000', name), ';') FROM pg_settings
                   WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
                                  'idle_session_timeout', 'transaction_timeout')";
        let limits = server.psql("postgres", sql).await;
        server.psql("postgres", &limits).await;
        server
            .psql("postgres", "ALTER DATABASE shop SET default_transaction_isolation = 'serializable'")
            .await;
        for settings in [session(), SessionSettings::named("connect-test")] {
            let connection = connect(&server.dsn("shop"), &settings).await.unwrap();
            let sql = "SELECT coalesce(string_agg(name, ', '), 'none') FROM pg_settings
                       WHERE name LIKE '%\\_timeout' AND setting = '50000'";
            assert_eq!(text(&connection, sql).await, "none", "{version:?}");
            assert_eq!(text(&connection, "SHOW transaction_isolation").await, "read committed");
            connection.close().await;
        }
        assert!(!limits.is_empty() && server.psql("shop", "SHOW lock_timeout").await.starts_with("50"));
    }
}

#[tokio::test]
async fn hosts_are_tried_in_turn_but_not_after_a_refused_login() {
    let server = server().await;
    let dsn = server.dsn("postgres");
    let (port, password) = (dsn.hosts()[0].port, dsn.password().unwrap().reveal().to_owned());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let several =
        parse(&format!("postgres://postgres:{password}@127.0.0.1:{free},127.0.0.1:{port}/postgres"));
    let connection = connect(&several, &session()).await.unwrap();
    assert_eq!(connection.host().port, port);
    let refused = parse(&format!("postgres://postgres:no@127.0.0.1:{port},127.0.0.1:{free}/postgres"));
    assert!(matches!(connect(&refused, &session()).await, Err(ConnectError::LoginRefused { .. })));
    let standby = parse(&format!("{}?target_session_attrs=standby", dsn.to_uri_with_password()));
    assert!(matches!(connect(&standby, &session()).await, Err(ConnectError::WrongKind { .. })));
    let prefer = parse(&format!("{}?target_session_attrs=prefer-standby", dsn.to_uri_with_password()));
    connect(&prefer, &session()).await.unwrap();
}

#[tokio::test]
async fn errors_say_who_can_do_something_about_it() {
    let server = server().await;
    let dsn = server.dsn("postgres");
    let error = connect(&server.dsn("missing"), &session()).await.unwrap_err();
    assert_eq!(error.server_error().unwrap().sqlstate.code(), "3D000");
    assert!(error.hint().contains("create the database"), "{}", error.hint());
    let wrong = dsn.with_user("postgres", Some(Password::new("s3cr")));
    let error = connect(&wrong, &session()).await.unwrap_err();
    assert_eq!(error.server_error().unwrap().sqlstate.code(), "28P01");
    assert!(!format!("{error} {error:?}").contains("s3cr"));
    assert!(error.hint().contains("check the password"));
    let none = connect(&dsn.with_user("postgres", None), &session()).await.unwrap_err();
    assert!(matches!(none, ConnectError::NoPassword { .. }) && !none.is_transient(), "{none}");
    assert!(
        none.to_string().contains("asks \"postgres\" for a password") && none.hint().contains("PGPASSWORD")
    );
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = connect(&parse(&format!("postgres://u@127.0.0.1:{free}/x")), &session()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }) && error.is_transient());
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{free}")) && error.hint().contains("nothing listens")
    );
    let error = connect(&dsn.with_sslmode(ptr_postgres::SslMode::Require), &session()).await.unwrap_err();
    assert!(error.to_string().contains("does not support TLS"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_the_time_limit() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let dsn = parse(&format!("postgres://u@127.0.0.1:{port}/x?connect_timeout=2"));
    assert!(matches!(connect(&dsn, &session()).await, Err(ConnectError::Timeout { .. })));
}

/// As docker's proxy, `ssh -L` or a load balancer whose server is down, before and during the TLS handshake.
#[tokio::test]
async fn a_way_that_ends_before_tls_is_there_is_an_unreachable_server() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for answers in [false, true] {
        let way = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = way.local_addr().unwrap().port();
        let closing = tokio::spawn(async move {
            let (mut stream, _) = way.accept().await.unwrap();
            if answers {
                stream.read_exact(&mut [0; 8]).await.unwrap();
                stream.write_all(b"S").await.unwrap();
            }
        });
        let dsn = parse(&format!("postgres://u@127.0.0.1:{port}/x?sslmode=require"));
        let error = connect(&dsn, &session()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable { .. }) && error.is_transient(), "{error:?}");
        assert!(error.hint().contains("is the server behind it running"), "{}", error.hint());
        closing.await.unwrap();
    }
}

#[tokio::test]
async fn a_running_statement_can_be_cancelled() {
    let server = server().await;
    let connection = connect(&server.dsn("postgres"), &session()).await.unwrap();
    let watcher = server.client("postgres").await;
    let running = connection.batch_execute("SELECT pg_sleep(600)");
    let cancel = async {
        let count = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        ptr_testkit::wait_until("the statement runs", std::time::Duration::from_secs(10), async || {
            text(&watcher, count).await == "1"
        })
        .await;
        connection.cancel().await.unwrap();
    };
    let (result, ()) = tokio::join!(running, cancel);
    assert_eq!(result.unwrap_err().code().unwrap().code(), "57014");
}

/// A server with TLS on, its authority, and a client certificate, all made here.
struct TlsServer {
    server: TestServer,
    files: PathBuf,
}

impl TlsServer {
    async fn start() -> Self {
        let server = server().await;
        let files = server.folder().join("tls");
        std::fs::create_dir(&files).unwrap();
        authority(&files, "ca");
        authority(&files, "stranger");
        certificate(&files, "ca", "server", "localhost");
        certificate(&files, "ca", "client", "postgres");
        let data = server.cluster().data_directory();
        let owner = std::fs::metadata(&data).unwrap();
        for name in ["server.crt", "server.key", "ca.crt"] {
            let target = data.join(name);
            std::fs::copy(files.join(name), &target).unwrap();
            chown(&target, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        reload(&server, "ALTER SYSTEM SET ssl = on; ALTER SYSTEM SET ssl_ca_file = 'ca.crt';").await;
        Self { server, files }
    }

    fn dsn(&self, host: &str, options: &str) -> Dsn {
        let dsn = self.server.dsn("postgres");
        let (port, password) = (dsn.hosts()[0].port, dsn.password().unwrap().reveal().to_owned());
        let options = options.replace("FILES", &self.files.display().to_string());
        parse(&format!("postgres://postgres:{password}@{host}:{port}/postgres?{options}"))
    }

    async fn encrypted(&self, host: &str, options: &str) -> Result<bool, ConnectError> {
        let connection = connect(&self.dsn(host, options), &session()).await?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok(connection.query_one(sql, &[]).await.unwrap().get(0))
    }
}

async fn reload(server: &TestServer, sql: &str) {
    server.psql("postgres", &format!("{sql} SELECT pg_reload_conf()")).await;
    ptr_testkit::wait_until("the settings are in force", std::time::Duration::from_secs(10), async || {
        // New sessions are forked from the postmaster, so they see what it has read.
        server.psql("postgres", "SHOW ssl").await.trim() == "on"
    })
    .await;
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 {KEY} -keyout {name}.key -out {name}.crt -subj /CN={name} -days 2 -addext subjectAltName=DNS:localhost"
        ),
    );
}

fn certificate(folder: &Path, authority: &str, name: &str, subject: &str) {
    std::fs::write(folder.join("ext"), format!("subjectAltName=DNS:{subject}")).unwrap();
    openssl(folder, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={subject}"));
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days 2 -extfile ext -out {name}.crt"
        ),
    );
    std::fs::set_permissions(folder.join(format!("{name}.key")), std::fs::Permissions::from_mode(0o600))
        .unwrap();
}

#[tokio::test]
async fn every_sslmode_means_what_it_means_in_libpq() {
    let server = TlsServer::start().await;
    for (host, options, expected) in [
        ("localhost", "sslmode=disable", Some(false)),
        ("localhost", "sslmode=prefer", Some(true)),
        ("127.0.0.1", "sslmode=require", Some(true)),
        ("127.0.0.1", "sslmode=require&sslrootcert=FILES/stranger.crt", None),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=FILES/ca.crt", Some(true)),
        ("localhost", "sslmode=verify-ca&sslrootcert=FILES/stranger.crt", None),
        ("localhost", "sslmode=verify-full&sslrootcert=FILES/ca.crt", Some(true)),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=FILES/ca.crt", None),
        ("localhost", "sslmode=verify-full&sslrootcert=FILES/stranger.crt", None),
        ("localhost", "sslrootcert=system", None),
        ("localhost", "sslmode=verify-full", None),
        ("localhost", "sslmode=require&channel_binding=require", Some(true)),
        ("localhost", "sslmode=disable&channel_binding=require", None),
    ] {
        let result = server.encrypted(host, options).await;
        assert_eq!(result.as_ref().ok().copied(), expected, "{host} {options}: {:?}", result.err());
    }
    let error = server.encrypted("localhost", "sslmode=verify-full").await.unwrap_err().to_string();
    assert!(error.contains("sslrootcert=FILE"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_its_own_root_is_trusted_as_in_the_manual() {
    let server = TlsServer::start().await;
    let data = server.server.cluster().data_directory();
    let owner = std::fs::metadata(&data).unwrap();
    for name in ["stranger.crt", "stranger.key"] {
        let target = data.join(name.replace("stranger", "server"));
        std::fs::copy(server.files.join(name), &target).unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&target, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    server.server.psql("postgres", "SELECT pg_reload_conf()").await;
    let options = "sslmode=verify-full&sslrootcert=FILES/stranger.crt";
    ptr_testkit::wait_until("the new certificate is shown", std::time::Duration::from_secs(10), async || {
        matches!(server.encrypted("localhost", options).await, Ok(true))
    })
    .await;
    assert!(server.encrypted("127.0.0.1", options).await.is_err());
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_an_open_key_is_refused() {
    let server = TlsServer::start().await;
    let hba = server.server.cluster().data_directory().join("pg_hba.conf");
    let rule = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n";
    std::fs::write(
        &hba,
        format!(
            "hostssl template1 all 127.0.0.1/32 scram-sha-256\n{rule}{}",
            "host all all 127.0.0.1/32 scram-sha-256\n"
        ),
    )
    .unwrap();
    server.server.psql("postgres", "SELECT pg_reload_conf()").await;
    ptr_testkit::wait_until(
        "a client certificate is asked for",
        std::time::Duration::from_secs(10),
        async || server.encrypted("localhost", "sslmode=require").await.is_err(),
    )
    .await;
    let options =
        "sslmode=verify-full&sslrootcert=FILES/ca.crt&sslcert=FILES/client.crt&sslkey=FILES/client.key";
    assert!(server.encrypted("localhost", options).await.unwrap());
    let key = server.files.join("client.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = server.encrypted("localhost", options).await.unwrap_err().to_string();
    assert!(error.contains("chmod 0600"), "{error}");
}

#[tokio::test]
async fn who_listens_at_a_servers_old_port_is_not_told_its_password() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let dsn = server.dsn("postgres").with_sslmode(SslMode::Disable).with_scram_only();
    // Ours itself shows that it knows it.
    connect(&dsn, &SessionSettings::named("test")).await.unwrap().close().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut host = dsn.hosts()[0].clone();
    host.port = listener.local_addr().unwrap().port();
    // It lets everybody in; asks for the password in clear; by MD5.
    for asked in [&[0][..], &[3], &[5, 1, 2, 3, 4]] {
        let listening = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 1024];
            let length = stream.read(&mut heard).await.unwrap();
            assert!(heard[..length].windows(4).any(|word| word == b"user"));
            let length = u8::try_from(asked.len() + 7).unwrap();
            stream.write_all(&[&[b'R', 0, 0, 0, length, 0, 0, 0], asked].concat()).await.unwrap();
            let mut told = Vec::new();
            // A stream that is dropped with bytes in it is reset.
            let _ = stream.read_to_end(&mut told).await;
            assert_eq!(told, b"", "it was told something");
        };
        let named = SessionSettings::named("test");
        let dsn = dsn.with_host(&host);
        let (refused, ()) = tokio::join!(connect(&dsn, &named), listening);
        let error = refused.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("may be another server than ours"), "{error}");
        assert!(error.hint().ends_with("start ours: postgres-test-replay up") && !error.is_transient());
    }
}

#[tokio::test]
async fn a_raw_stream_is_negotiated_and_ready_for_the_startup_message() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = TlsServer::start().await;
    for (options, encrypted) in [("sslmode=disable", false), ("sslmode=require", true)] {
        let mut opened = open_stream(&server.dsn("localhost", options)).await.unwrap();
        assert_eq!((opened.is_encrypted(), opened.channel_binding.is_some()), (encrypted, encrypted));
        let parameters = b"\0\x03\0\0user\0postgres\0database\0postgres\0replication\0database\0\0";
        let length = u32::try_from(parameters.len() + 4).unwrap();
        opened.stream.write_all(&[&length.to_be_bytes(), &parameters[..]].concat()).await.unwrap();
        opened.stream.flush().await.unwrap();
        // AuthenticationSASL: the server has read the startup message.
        assert_eq!(opened.stream.read_u8().await.unwrap(), b'R');
    }
}

/// A server, a way to it, and a session by that way which is given up soon.
async fn by_a_way(connect_timeout: u32) -> (TestServer, Proxy, Connection) {
    let server = server().await;
    let way = Proxy::to(server.cluster().port()).await;
    let dsn = way.lead(&server.dsn("postgres")).to_uri_with_password();
    let connection =
        connect(&parse(&format!("{dsn}?connect_timeout={connect_timeout}")), &session()).await.unwrap();
    (server, way, connection)
}

async fn sessions(server: &TestServer) -> String {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'connect-test'";
    server.psql("postgres", sql).await.trim().to_owned()
}

/// The server waits for us, and we for it.
#[tokio::test]
async fn a_connection_that_leads_nowhere_is_given_up_and_its_locks_are_let_go() {
    let (server, way, connection) = by_a_way(2).await;
    connection.batch_execute("CREATE TABLE public.t (x int)").await.unwrap();
    connection.batch_execute("BEGIN; LOCK public.t").await.unwrap();
    way.silence();
    let error = connection.batch_execute("INSERT INTO public.t VALUES (1)").await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    wait_until("the session is ended", Duration::from_secs(20), async || sessions(&server).await == "0")
        .await;
    server.psql("postgres", "BEGIN; LOCK t NOWAIT; COMMIT").await;
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM t").await.trim(), "0");
}

/// So is one that sent its answer into the void, in the midst of which it stopped.
#[tokio::test]
async fn an_answer_that_stops_half_way_is_not_waited_for() {
    let (server, way, connection) = by_a_way(2).await;
    let reading = connection
        .simple_query("SELECT i, CASE WHEN i = 2000 THEN pg_sleep(3600) END FROM generate_series(1, 2500) i");
    let silencing = async {
        wait_until("it runs", Duration::from_secs(20), async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            server.psql("postgres", sql).await.trim() == "1"
        })
        .await;
        way.silence();
        // What would come never ends by itself.
        server
            .psql(
                "postgres",
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
            )
            .await;
    };
    let (read, ()) = tokio::join!(reading, silencing);
    assert!(read.unwrap_err().is_closed());
    wait_until("the session is ended", Duration::from_secs(20), async || sessions(&server).await == "0")
        .await;
}

/// However long: a lock may be held for hours.
#[tokio::test]
async fn a_server_that_works_is_waited_for() {
    let (server, _way, connection) = by_a_way(2).await;
    server.psql("postgres", "CREATE TABLE t (x int)").await;
    let holder = server.client("postgres").await;
    holder.batch_execute("BEGIN; LOCK t").await.unwrap();
    let waiting = connection.batch_execute("INSERT INTO public.t VALUES (1)");
    let asked = async {
        // Longer than a silent one is waited for; it is what is tried.
        tokio::time::sleep(Duration::from_secs(14)).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, asked);
    waited.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_given_up_and_what_was_left_there_ended_later() {
    let (server, way, connection) = by_a_way(1).await;
    connection.batch_execute("CREATE TABLE public.t (x int)").await.unwrap();
    connection.batch_execute("BEGIN; LOCK public.t").await.unwrap();
    way.silence();
    way.hold_up();
    let error = connection.batch_execute("INSERT INTO public.t VALUES (1)").await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_eq!(sessions(&server).await, "1", "nobody could tell it");
    way.heal();
    wait_until("the session is ended", Duration::from_secs(20), async || sessions(&server).await == "0")
        .await;
}
