//! The listener against real servers: what it writes is what the server sent, once and in commit order, whatever
//! happens to the connection and however slow the log is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod catch_up;
mod oracle;
mod setting;
mod slow_log;
mod ways;

use std::time::Duration;

use ptr_capture::listener::{ListenError, ListenerState, SetupError, listen_to};
use ptr_postgres::Dsn;
use ptr_testkit::{ServerVersion, TestServerOptions, wait_until};

use setting::{Listening, Setting, fatal_error};
use slow_log::SlowLog;

const PATIENCE: Duration = Duration::from_secs(60);

async fn pgbench_survives_broken_connections(version: ServerVersion) {
    let setting = Setting::new(version, TestServerOptions::default()).await;
    let listener = setting.listen();
    listener.until_streaming().await;
    let bench = setting.server.pgbench("app", &["-n", "-c", "4", "-t", "250"]);
    let kills = async {
        for _ in 0..5 {
            listener.until_streaming().await;
            let before = listener.status().progress.reconnects;
            setting.terminate_walsender().await;
            wait_until("the loss is noticed", PATIENCE, async || {
                listener.status().progress.reconnects > before
            })
            .await;
        }
    };
    tokio::join!(bench, kills);
    setting
        .client
        .batch_execute("INSERT INTO pgbench_history (tid, filler) VALUES (NULL, 'last')")
        .await
        .unwrap();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_is_captured_once_in_commit_order_through_broken_connections_on_15() {
    pgbench_survives_broken_connections(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_is_captured_once_in_commit_order_through_broken_connections_on_18() {
    pgbench_survives_broken_connections(ServerVersion::Pypi18).await;
}

async fn every_kind_of_change(version: ServerVersion) {
    let setting = Setting::new(version, TestServerOptions::default()).await;
    let listener = setting.listen();
    listener.until_streaming().await;
    setting
        .client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE TABLE kinds (id int PRIMARY KEY, v text, m mood, big text);
             ALTER TABLE kinds ALTER big SET STORAGE EXTERNAL;
             CREATE TABLE whole (a int, b numeric(5,2)); ALTER TABLE whole REPLICA IDENTITY FULL;
             BEGIN; INSERT INTO kinds VALUES (1, 'a', 'ok', repeat('x', 3000)), (2, NULL, NULL, NULL); COMMIT;
             BEGIN; UPDATE kinds SET v = 'b' WHERE id = 1; UPDATE kinds SET id = 3 WHERE id = 2; COMMIT;
             BEGIN; INSERT INTO whole VALUES (0.1 + 0.2, 1.5); UPDATE whole SET a = 2; DELETE FROM whole;
                 DELETE FROM kinds WHERE id = 3; TRUNCATE kinds, whole RESTART IDENTITY CASCADE; COMMIT;
             BEGIN; SELECT pg_logical_emit_message(true, 'mine', 'hi'); COMMIT;
             SELECT pg_logical_emit_message(false, 'mine', 'alone');
             BEGIN; SELECT pg_logical_emit_message(true, 'postgres_test_replay', '{\"forged\": true}'); COMMIT;
             BEGIN; INSERT INTO whole VALUES (1, 1); ROLLBACK;
             BEGIN; INSERT INTO whole VALUES (1, 1); ALTER TABLE whole ADD c text DEFAULT 'x'; UPDATE whole SET a = 3; COMMIT",
        )
        .await
        .unwrap();
    setting.until_captured(&listener).await;
    wait_until("the forged message is counted", PATIENCE, async || {
        listener.status().progress.ignored_messages == 1
    })
    .await;
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_is_in_the_log_as_it_was_sent_on_15() {
    every_kind_of_change(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_is_in_the_log_as_it_was_sent_on_18() {
    every_kind_of_change(ServerVersion::Pypi18).await;
}

async fn names_of_types(version: ServerVersion) {
    let setting = Setting::new(version, TestServerOptions::default()).await;
    setting
        .client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a int, b mood); CREATE SCHEMA \"Odd One\";
             CREATE TYPE \"Odd One\".\"select\" AS ENUM ('x'); CREATE DOMAIN posint AS int;
             DO $$ DECLARE columns text; BEGIN
                 SELECT string_agg(format('c%s %s', t.oid, format_type(t.oid, -1)), ', ') INTO columns FROM pg_type t
                  WHERE typtype IN ('b', 'r', 'm') AND typisdefined AND (t.oid < 10000 OR t.oid >= 16384)
                    AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid AND (e.typtype = 'c' OR e.typtype = 'p'))
                    AND t.typname NOT LIKE 'pg\\_%' AND t.typname NOT LIKE '\\_pg\\_%'
                    AND (t.oid < 10000 OR t.typelem = 0);
                 EXECUTE format('CREATE TABLE everything (d posint, %s)', columns);
             END $$",
        )
        .await
        .unwrap();
    let listener = setting.listen();
    setting.client.batch_execute("INSERT INTO everything DEFAULT VALUES").await.unwrap();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    let relation = oracle::last_relation(&setting);
    // A domain is announced by its base type.
    assert_eq!((relation.columns[0].name.as_str(), relation.columns[0].type_name.as_str()), ("d", "integer"));
    assert!(relation.columns.len() > 100, "{} columns", relation.columns.len());
    setting.client.batch_execute("SET search_path = pg_catalog").await.unwrap();
    let query =
        "SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 'public.everything'::regclass
                 AND attname = $1";
    for column in &relation.columns[1..] {
        let expected: String = setting.client.query_one(query, &[&column.name]).await.unwrap().get(0);
        assert_eq!(column.type_name, expected, "oid {}", column.type_oid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_have_the_names_that_format_type_gives_them_on_15() {
    names_of_types(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_have_the_names_that_format_type_gives_them_on_18() {
    names_of_types(ServerVersion::Pypi18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_database_writes_does_not_hold_wal_back() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    setting.server.database("busy").await;
    let listener = setting.listen();
    listener.until_streaming().await;
    let busy = setting.server.client("busy").await;
    busy.batch_execute("CREATE TABLE t AS SELECT g, repeat('x', 100) FROM generate_series(1, 50000) g")
        .await
        .unwrap();
    let written = setting.current_lsn().await;
    wait_until("the slot is confirmed past it", PATIENCE, async || setting.confirmed_lsn().await >= written)
        .await;
    listener.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_log_does_not_make_the_server_give_up() {
    let options = TestServerOptions::default().with("wal_sender_timeout", "2s");
    let setting = Setting::new(ServerVersion::Debian15, options).await;
    let directory = setting.log_directory.clone();
    let listener =
        setting.listen_with(64 * 1024, move || SlowLog::open(&directory, Duration::from_micros(200)));
    listener.until_streaming().await;
    setting
        .client
        .batch_execute(
            "INSERT INTO pgbench_history (tid, filler) SELECT g, 'f' FROM generate_series(1, 40000) g",
        )
        .await
        .unwrap();
    setting.until_captured(&listener).await;
    assert_eq!(listener.status().progress.reconnects, 0, "the connection was lost");
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_starts_again_goes_on_where_it_stopped() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    for round in 0..3 {
        let listener = setting.listen();
        setting
            .client
            .batch_execute(&format!("INSERT INTO pgbench_history (tid) VALUES ({round})"))
            .await
            .unwrap();
        setting.until_captured(&listener).await;
        listener.stop().await.unwrap();
        setting.client.batch_execute("UPDATE pgbench_branches SET bbalance = bbalance + 1").await.unwrap();
    }
    let listener = setting.listen();
    setting.until_captured(&listener).await;
    // What is in the log is confirmed with the next feedback.
    let is_confirmed = async || setting.confirmed_lsn().await >= setting.head();
    ptr_testkit::wait_until("the log's head is confirmed", Duration::from_secs(60), is_confirmed).await;
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_in_one_transaction_take_little_memory() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let listener = setting.listen();
    listener.until_streaming().await;
    let before = peak_memory_kb();
    setting
        .client
        .batch_execute(
            "INSERT INTO pgbench_history (tid, filler) SELECT g, repeat('f', 22) FROM generate_series(1, 1000000) g",
        )
        .await
        .unwrap();
    setting.until_captured(&listener).await;
    let grown = peak_memory_kb() - before;
    listener.stop().await.unwrap();
    assert!(grown < 80 * 1024, "the peak grew by {grown} kB");
    let log = ptr_log::Log::open(&setting.log_directory).unwrap();
    assert_eq!(log.head().unwrap().entry_index, 1_000_000);
}

/// The most memory that this process ever held. Tests run in processes of their own under nextest.
fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_slot_or_publication_ends_capture_and_says_so() {
    for version in ServerVersion::ALL {
        let setting = Setting::new(version, TestServerOptions::default()).await;
        setting.client.batch_execute("DROP PUBLICATION app").await.unwrap();
        let error = fatal_error(setting.listen()).await;
        assert!(matches!(error, ListenError::Setup(SetupError::PublicationMissing { .. })), "{error}");
        setting.client.batch_execute("SELECT pg_drop_replication_slot('app')").await.unwrap();
        let error = fatal_error(setting.listen()).await;
        assert!(matches!(error, ListenError::Setup(SetupError::PublicationMissing { .. })), "{error}");
        setting.client.batch_execute("CREATE PUBLICATION app FOR ALL TABLES").await.unwrap();
        let error = fatal_error(setting.listen()).await;
        assert!(matches!(error, ListenError::Setup(SetupError::SlotMissing { .. })), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_made_after_the_changes_is_not_taken_for_an_empty_stream() {
    for version in ServerVersion::ALL {
        let setting = Setting::new(version, TestServerOptions::default()).await;
        setting
            .client
            .batch_execute(
                "DROP PUBLICATION app; INSERT INTO pgbench_history (tid) VALUES (1);
                 CREATE PUBLICATION app FOR ALL TABLES",
            )
            .await
            .unwrap();
        let error = fatal_error(setting.listen()).await;
        assert!(matches!(error, ListenError::Setup(SetupError::PublicationMissing { .. })), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_or_database_is_refused() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let directory = setting.log_directory.join("other");
    let mut identity = setting.identity.clone();
    identity.system_identifier += 1;
    ptr_log::create(&directory, &identity).unwrap();
    let open = move || ptr_log::Writer::open(&directory, ptr_log::WriterOptions::default());
    let error = listen_to(setting.options(), open, Default::default(), Default::default()).await.unwrap_err();
    assert!(matches!(error, ListenError::Setup(SetupError::OtherCluster { .. })), "{error}");
}

/// What the hint of `synchronous_standby` rests on.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_standbys_that_matches_our_name_makes_us_one_of_them() {
    for version in ServerVersion::ALL {
        let setting = Setting::new(version, TestServerOptions::default()).await;
        let listener = setting.listen();
        listener.until_streaming().await;
        let role =
            "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'postgres_test_replay'";
        for (list, expected) in [("*", "sync"), ("ANY 1 (*)", "quorum"), ("FIRST 1 (theirs)", "async")] {
            setting
                .client
                .batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{list}'"))
                .await
                .unwrap();
            setting.client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
            wait_until(expected, PATIENCE, async || {
                setting.client.query_one(role, &[]).await.unwrap().get::<_, String>(0) == expected
            })
            .await;
        }
        listener.stop().await.unwrap();
    }
}

/// As docker's proxy, `ssh -L` or a load balancer whose server is down.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_takes_connections_and_closes_them_is_tried_again() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closing.local_addr().unwrap().port();
    let way = tokio::spawn(async move {
        loop {
            drop(closing.accept().await);
        }
    });
    let dsn = Dsn::parse(&format!("postgres://u@127.0.0.1:{port}/app?sslmode=require"), &|_| None).unwrap();
    let listener = setting.listen_by(dsn);
    wait_until("it is tried three times", PATIENCE, async || {
        matches!(listener.status().state, ListenerState::Reconnecting { attempt: 3.., .. })
    })
    .await;
    listener.stop().await.unwrap();
    way.abort();
}

/// As while a directory service is out of order.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_for_some_seconds_is_tried_again() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let dsn = setting.server.dsn("app");
    let password = dsn.password().unwrap().reveal().to_owned();
    let role =
        format!("CREATE ROLE listener LOGIN SUPERUSER PASSWORD '{password}'; ALTER ROLE listener NOLOGIN");
    setting.client.batch_execute(&role).await.unwrap();
    let listener = setting.listen_by(dsn.with_user("listener", dsn.password().cloned()));
    wait_until("it is said, and tried three times", PATIENCE, async || {
        matches!(listener.status().state,
            ListenerState::Reconnecting { error, attempt: 3.., .. } if error.contains("28000"))
    })
    .await;
    setting.client.batch_execute("ALTER ROLE listener LOGIN").await.unwrap();
    listener.until_streaming().await;
    listener.stop().await.unwrap();
}

/// One DSN that names the primary and its standby, with the primary away for a while.
async fn a_standby_beside_the_primary(version: ServerVersion, attributes: &str) {
    let mut setting = Setting::new(version, TestServerOptions::default()).await;
    let standby = setting.server.standby().await;
    let direct = setting.server.dsn("app");
    let password = direct.password().unwrap().reveal();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", direct.hosts()[0].port, standby.cluster().port());
    let text = format!("postgres://postgres:{password}@{hosts}/app?{attributes}");
    let listener = setting.listen_by(Dsn::parse(&text, &|_| None).unwrap());
    listener.until_streaming().await;
    setting.server.crash().await;
    wait_until("it is tried three times", PATIENCE, async || {
        matches!(listener.status().state, ListenerState::Reconnecting { attempt: 3.., .. })
    })
    .await;
    assert_goes_on_once_it_is_back(&mut setting, listener).await;
}

/// The server starts again, and what is written then is captured.
async fn assert_goes_on_once_it_is_back(setting: &mut Setting, listener: Listening) {
    setting.server.start_again().await;
    listener.until_streaming().await;
    setting.reconnect_client().await;
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_not_captured_while_its_primary_is_away_on_15() {
    a_standby_beside_the_primary(ServerVersion::Debian15, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_passed_by_where_the_primary_is_asked_for_on_18() {
    a_standby_beside_the_primary(ServerVersion::Pypi18, "target_session_attrs=primary").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_waited_for() {
    let mut setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let listener = setting.listen();
    listener.until_streaming().await;
    setting.server.crash().await;
    wait_until("the loss is noticed", PATIENCE, async || {
        matches!(listener.status().state, ListenerState::Reconnecting { .. })
    })
    .await;
    assert_goes_on_once_it_is_back(&mut setting, listener).await;
    oracle::assert_log_is_stream(&setting).await;
}

/// The server says nothing of it, and begins behind what somebody else took.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_somebody_else_read_from_is_told_of() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let listener = setting.listen();
    listener.until_streaming().await;
    setting.until_captured(&listener).await;
    assert_eq!(listener.status().progress.slot_ahead, None);
    listener.stop().await.unwrap();
    // Nobody else did anything: an end and another start say nothing.
    let listener = setting.listen();
    listener.until_streaming().await;
    assert_eq!(listener.status().progress.slot_ahead, None);
    listener.stop().await.unwrap();

    setting
        .client
        .batch_execute("INSERT INTO pgbench_history (tid, filler) VALUES (NULL, 'taken')")
        .await
        .unwrap();
    let take = "SELECT count(*) FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)";
    setting.client.query(take, &[&"app", &"app"]).await.unwrap();
    let taken = setting.confirmed_lsn().await;
    let listener = setting.listen();
    listener.until_streaming().await;
    assert_eq!(listener.status().progress.slot_ahead, Some(taken));
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();

    // It is said as long as there is this history, though the log covers more by now, and its index is lost.
    for loses_index in [false, true] {
        if loses_index {
            setting.lose_index();
        }
        let listener = setting.listen();
        listener.until_streaming().await;
        assert_eq!(listener.status().progress.slot_ahead, Some(taken));
        setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
        setting.until_captured(&listener).await;
        listener.stop().await.unwrap();
    }
}

/// The index is what knows that the last flush was durable: without it a damaged one is taken for a torn tail.
#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_end_that_was_cut_because_the_index_was_lost_is_told_of_from_then_on() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let listener = setting.listen();
    listener.until_streaming().await;
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    let before = setting.head();
    let listener = setting.listen();
    listener.until_streaming().await;
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (2)").await.unwrap();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    let confirmed = setting.confirmed_lsn().await;
    assert!(confirmed >= setting.head() && setting.head() > before);

    setting.lose_index();
    setting.damage_end();
    // Whoever opens the log first recovers it; the listener comes later.
    assert_eq!(setting.head(), before);
    for _ in 0..2 {
        let listener = setting.listen();
        listener.until_streaming().await;
        assert_eq!(listener.status().progress.slot_ahead, Some(confirmed));
        listener.stop().await.unwrap();
    }
}

/// As after a power failure of a machine whose primary is another one.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_lost_with_nothing_cut_is_no_reason_for_alarm() {
    let setting = Setting::new(ServerVersion::Debian15, TestServerOptions::default()).await;
    let listener = setting.listen();
    listener.until_streaming().await;
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
    setting.until_captured(&listener).await;
    // Behind the head the slot is confirmed for what held nothing for the log.
    setting.client.batch_execute("BEGIN; CREATE TABLE never (x int); ROLLBACK").await.unwrap();
    setting.client.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    wait_until("it is confirmed", PATIENCE, async || setting.confirmed_lsn().await > setting.head()).await;
    listener.stop().await.unwrap();
    setting.lose_index();
    for _ in 0..2 {
        let listener = setting.listen();
        listener.until_streaming().await;
        assert_eq!(listener.status().progress.slot_ahead, None);
        listener.stop().await.unwrap();
    }
}
