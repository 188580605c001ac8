//! What a finding says is to be done is done, as it says it, and the finding is gone.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use std::time::Duration;

use ptr_capture::{
    doctor::{Finding, OutputOptions, check_output, check_primary},
    source::{prepare, teardown},
    transport::ReplicationConnection,
};
use ptr_postgres::{Dsn, Password, QualifiedName, programs::Installations};
use ptr_testkit::{Pooler, ServerVersion, TestServerOptions, wait_until};
use source_support::{Primary, create_role};
use tokio::net::TcpListener;

async fn found(primary: &Primary, code: &str) -> Finding {
    let findings = check_primary(&primary.options).await;
    let found = findings.iter().find(|finding| finding.code == code).cloned();
    found.unwrap_or_else(|| panic!("{code} is not among {findings:#?}"))
}

async fn is_gone(primary: &Primary, code: &str) {
    let findings = check_primary(&primary.options).await;
    assert!(findings.iter().all(|finding| finding.code != code), "{findings:#?}");
}

/// The statement of a fix: from these words on, to where it ends.
fn statement<'a>(finding: &'a Finding, beginning: &str) -> &'a str {
    let at = finding.fix.find(beginning).unwrap_or_else(|| panic!("no {beginning} in {finding:?}"));
    finding.fix[at..].split(';').next().unwrap()
}

fn log_in_as(primary: &mut Primary, role: &str) {
    primary.options.dsn = primary.options.dsn.with_user(role, primary.options.dsn.password().cloned());
}

async fn with_role(version: ServerVersion, options: &str) -> Primary {
    let mut primary = Primary::start(version).await;
    primary.run(&create_role(&primary.server, "app", options)).await;
    log_in_as(&mut primary, "app");
    primary
}

/// The same DSN with something else in it.
fn altered(dsn: &Dsn, from: &str, to: &str) -> Dsn {
    let uri = dsn.to_uri_with_password();
    assert!(uri.contains(from), "{from}");
    Dsn::parse(&uri.replacen(from, to, 1), &|_| None).unwrap()
}

on_every_version! {
    async fn the_right_to_replicate(version) {
        let primary = with_role(version, "").await;
        let finding = found(&primary, "replication_right").await;
        primary.run(statement(&finding, "ALTER ROLE")).await;
        is_gone(&primary, "replication_right").await;
    }

    async fn a_superuser_for_all_tables_and_event_triggers(version) {
        let primary = with_role(version, "REPLICATION").await;
        let (tables, triggers) = (found(&primary, "all_tables").await, found(&primary, "event_triggers").await);
        assert_eq!(statement(&tables, "ALTER ROLE"), statement(&triggers, "ALTER ROLE"));
        primary.run(statement(&triggers, "ALTER ROLE")).await;
        assert_eq!(check_primary(&primary.options).await, []);
    }

    async fn a_primary_key_for_a_table_that_would_break(version) {
        let mut primary = Primary::start(version).await;
        primary.run("CREATE TABLE keyless (x int)").await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "keyless")];
        let finding = found(&primary, "unpublishable_tables").await;
        primary.run(&statement(&finding, "ALTER TABLE").split(':').next().unwrap().replace("...", "x")).await;
        is_gone(&primary, "unpublishable_tables").await;
        // What set-up then does breaks nothing.
        primary.prepare().await;
        primary.run("INSERT INTO keyless VALUES (1); UPDATE keyless SET x = 2; DELETE FROM keyless").await;
    }

    async fn more_slots_or_one_less(version) {
        let server = TestServerOptions::default().with("max_replication_slots", "1");
        let primary = Primary::start_with(version, server).await;
        primary.run("SELECT pg_create_physical_replication_slot('theirs')").await;
        let finding = found(&primary, "slots").await;
        assert!(statement(&finding, "ALTER SYSTEM").contains("max_replication_slots = 6"), "{finding:?}");
        primary.run(statement(&finding, "SELECT pg_drop")).await;
        is_gone(&primary, "slots").await;
    }

    async fn wal_that_is_kept_is_told_before_the_slot_is_lost_and_teardown_lets_it_go(version) {
        let server = TestServerOptions::default().with("max_slot_wal_keep_size", "64MB");
        let primary = Primary::start_with(version, server).await;
        primary.prepare().await;
        is_gone(&primary, "wal_kept").await;
        primary.run("CREATE TABLE t (x int)").await;
        for _ in 0..3 {
            primary.run("INSERT INTO t VALUES (1); SELECT pg_switch_wal()").await;
        }
        let finding = found(&primary, "wal_kept").await;
        assert!(finding.meaning.contains("max_slot_wal_keep_size (64MB)") && finding.fix.contains("teardown"), "{finding:?}");
        teardown(&primary.options, &()).await.unwrap();
        is_gone(&primary, "wal_kept").await;
        assert_eq!(primary.value("SELECT count(*) FROM pg_replication_slots").await, "0");
    }

    async fn set_up_again_after_a_slot_was_lost_or_a_publication_went(version) {
        let primary = Primary::with_a_lost_slot(version).await;
        for code in ["slot_lost", "publication_gone", "slot_gone"] {
            match code {
                "publication_gone" => primary.run("DROP PUBLICATION postgres_test_replay").await,
                "slot_gone" => primary.run("SELECT pg_drop_replication_slot('postgres_test_replay')").await,
                _ => {}
            }
            assert!(found(&primary, code).await.fix.starts_with("run teardown, then up"));
            teardown(&primary.options, &()).await.unwrap();
            // `up` sets the earlier history aside.
            let base = &primary.options.base_directory;
            std::fs::rename(base, base.with_extension(code)).unwrap();
            primary.prepare().await;
            is_gone(&primary, code).await;
        }
    }

    async fn standbys_that_commits_wait_for_are_listed_by_name(version) {
        let primary = Primary::start(version).await;
        let _standby = primary.server.standby().await;
        for (list, mended) in [
            ("*", "FIRST 1 (\"postgres-test-replay-testkit\")"),
            ("ANY 1 (*)", "ANY 1 (\"postgres-test-replay-testkit\")"),
            ("ANY 2 (theirs, \"Postgres_Test_Replay\")", "ANY 1 (theirs)"),
        ] {
            primary.run(&format!("ALTER SYSTEM SET synchronous_standby_names = '{list}'")).await;
            primary.run("SELECT pg_reload_conf()").await;
            wait_until("it is in force", Duration::from_secs(20), async || {
                primary.value("SHOW synchronous_standby_names").await == list
            })
            .await;
            let finding = found(&primary, "synchronous_standby").await;
            assert!(finding.fix.contains(mended), "{finding:?}");
            assert!(prepare(&primary.options, &()).await.unwrap_err().to_string().contains("synchronous_standby_names"));
            primary.run(statement(&finding, "ALTER SYSTEM")).await;
            primary.run("SELECT pg_reload_conf()").await;
            wait_until("it is in force", Duration::from_secs(20), async || {
                primary.value("SHOW synchronous_standby_names").await == mended
            })
            .await;
            is_gone(&primary, "synchronous_standby").await;
        }
    }

    async fn what_a_slot_waits_for_is_ended(version) {
        let primary = Primary::start(version).await;
        let elsewhere = primary.server.client("postgres").await;
        elsewhere.batch_execute("BEGIN; CREATE TABLE held (x int); PREPARE TRANSACTION 'it''s'; BEGIN; CREATE TABLE held_too (x int)").await.unwrap();
        let finding = found(&primary, "open_writers").await;
        primary.run(statement(&finding, "SELECT pg_terminate_backend")).await;
        primary.server.psql("postgres", statement(&finding, "ROLLBACK PREPARED")).await;
        wait_until("the session ends", Duration::from_secs(20), async || {
            check_primary(&primary.options).await.iter().all(|finding| finding.code != "open_writers")
        })
        .await;
    }
}

/// Somebody else's client of the slot.
fn ptr_receiver(primary: &Primary, version: ServerVersion) -> Receiver {
    let mut command = std::process::Command::new(version.installation().program("pg_recvlogical"));
    primary.options.dsn.apply_to(&mut command);
    command.args(["--slot", "theirs", "--start", "--no-loop", "-f", "/dev/null", "--dbname", "shop"]);
    command.args(["-o", "proto_version=1", "-o", "publication_names=p"]);
    Receiver(command.stderr(std::process::Stdio::null()).spawn().unwrap())
}

struct Receiver(std::process::Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_pg_dump_that_is_new_enough() {
    let version = ServerVersion::Pypi18;
    let mut primary = Primary::start(version).await;
    let older = ServerVersion::Debian15.installation().bin_dir.display().to_string();
    let newer = version.installation().bin_dir.display().to_string();
    let lookup = |bin: String| {
        let path = newer.clone();
        Installations::find(&move |name| match name {
            "PG_BIN" => Some(bin.clone()),
            "PATH" => Some(path.clone()),
            _ => None,
        })
        .unwrap()
    };
    primary.options.programs = lookup(older);
    let finding = found(&primary, "pg_dump").await;
    let (_, named) = finding.fix.rsplit_once("; ").unwrap();
    primary.options.programs = lookup(named.strip_suffix(" has it").unwrap().to_owned());
    is_gone(&primary, "pg_dump").await;
}

#[tokio::test]
async fn a_pooler_is_passed_by() {
    let mut primary = Primary::start(ServerVersion::Pypi18).await;
    let Some(pooler) = Pooler::start(&primary.server, "shop").await else { return };
    let direct = primary.options.dsn.clone();
    primary.options.dsn = pooler.dsn(&direct);
    let finding = found(&primary, "pooler").await;
    assert!(finding.fix.contains("INPUT_DSN") && finding.fix.contains("own port"), "{finding:?}");
    primary.options.dsn = direct;
    is_gone(&primary, "pooler").await;
}

#[tokio::test]
async fn a_line_in_pg_hba() {
    let version = ServerVersion::Pypi18;
    let primary = with_role(version, "SUPERUSER").await;
    let file = primary.value("SHOW hba_file").await;
    let others = std::fs::read_to_string(&file).unwrap();
    let only = "host all postgres 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(&file, only).unwrap();
    primary.run("SELECT pg_reload_conf()").await;
    wait_until("nobody else is let in", Duration::from_secs(20), async || {
        check_primary(&primary.options).await.iter().any(|finding| finding.code == "primary_connection")
    })
    .await;
    let finding = found(&primary, "primary_connection").await;
    assert!(finding.fix.contains("pg_hba.conf") && finding.meaning.contains("app"), "{finding:?}");
    // Nothing for "replication": a line for the database is what counts.
    std::fs::write(&file, format!("{only}host shop app 127.0.0.1/32 scram-sha-256\n")).unwrap();
    primary.run("SELECT pg_reload_conf()").await;
    wait_until("the line is in force", Duration::from_secs(20), async || {
        check_primary(&primary.options).await.is_empty()
    })
    .await;
    std::fs::write(&file, others).unwrap();
}

#[tokio::test]
async fn nothing_listens_there_and_localhost_is_the_container_itself() {
    let version = ServerVersion::Pypi18;
    let mut primary = Primary::start(version).await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let right = primary.options.dsn.clone();
    primary.options.dsn = altered(&right, &format!(":{}", right.hosts()[0].port), &format!(":{unused}"));
    assert!(found(&primary, "primary_connection").await.fix.contains("use the service name"));
    primary.options.dsn = right;
    assert_eq!(check_primary(&primary.options).await, []);
}

#[tokio::test]
async fn a_password_that_has_to_be_encoded() {
    let version = ServerVersion::Pypi18;
    let primary = Primary::start(version).await;
    let password = "p@ss:w/o#rd?% 'é";
    let role = format!("CREATE ROLE app SUPERUSER LOGIN PASSWORD {}", ptr_postgres::quote_literal(password));
    primary.run(&role).await;
    let port = primary.options.dsn.hosts()[0].port;
    let uri = |password: &str| format!("postgres://app:{password}@127.0.0.1:{port}/shop");
    let error = Dsn::parse(&uri(password), &|_| None).unwrap_err().to_string();
    assert!(error.contains("at character") && !error.contains("ss:w"), "{error}");
    // As the error says: in a user name or password write @ as %40, : as %3A, ...
    let (_, said) = error.split_once("password write ").unwrap();
    let pairs: Vec<(&str, &str)> = said.split(", ").filter_map(|pair| pair.split_once(" as ")).collect();
    let encode = |char: char| {
        let name = if char == ' ' { "space".to_owned() } else { char.to_string() };
        pairs.iter().find(|(from, _)| *from == name).map_or(char.to_string(), |(_, to)| (*to).to_owned())
    };
    let encoded: String = password.chars().map(encode).collect();
    let dsn = Dsn::parse(&uri(&encoded), &|_| None).unwrap();
    assert_eq!(dsn.password().map(Password::reveal), Some(password));
    let found = ReplicationConnection::connect(&dsn).await.unwrap();
    found.close().await.unwrap();
}

#[tokio::test]
async fn the_right_to_turn_triggers_off() {
    let version = ServerVersion::Pypi18;
    let primary = with_role(version, "").await;
    let options = OutputOptions { output: primary.options.dsn.clone(), input: None };
    let findings = check_output(&options).await;
    let finding = findings.iter().find(|finding| finding.code == "session_replication_role").unwrap();
    primary.run(statement(finding, "GRANT SET")).await;
    assert_eq!(check_output(&options).await, []);
}

#[tokio::test]
async fn a_slot_that_somebody_uses() {
    let version = ServerVersion::Pypi18;
    let mut primary = Primary::start(version).await;
    primary.run("CREATE PUBLICATION p FOR ALL TABLES; SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')").await;
    primary.options.slot = "theirs".to_owned();
    let receiver = ptr_receiver(&primary, version);
    wait_until("the slot is in use", Duration::from_secs(20), async || {
        primary.value("SELECT active FROM pg_replication_slots").await == "t"
    })
    .await;
    let finding = found(&primary, "leftover_slot").await;
    assert!(!finding.fixable && finding.meaning.contains("used by process"), "{finding:?}");
    primary.run(statement(&finding, "SELECT pg_terminate_backend")).await;
    wait_until("the slot is free", Duration::from_secs(20), async || {
        primary.value("SELECT active FROM pg_replication_slots").await == "f"
    })
    .await;
    drop(receiver);
    primary.run(statement(&found(&primary, "leftover_slot").await, "SELECT pg_drop")).await;
    is_gone(&primary, "leftover_slot").await;
}

/// 17 and newer: then event triggers that are ENABLE ALWAYS do not fire either.
#[tokio::test]
async fn where_event_triggers_are_switched_off() {
    let (primary, patience) = (Primary::start(ServerVersion::Pypi18).await, Duration::from_secs(30));
    is_gone(&primary, "event_triggers_off").await;
    for (sql, whom, fix) in [
        (
            "ALTER SYSTEM SET event_triggers = off; SELECT pg_reload_conf()",
            "the server",
            "ALTER SYSTEM SET event_triggers = on; SELECT pg_reload_conf()",
        ),
        ("ALTER ROLE ALL SET event_triggers = off", "every role", "ALTER ROLE ALL RESET event_triggers"),
        (
            "ALTER DATABASE shop SET event_triggers = off",
            "database shop",
            "ALTER DATABASE shop RESET event_triggers",
        ),
        (
            "CREATE ROLE \"Who ever\"; ALTER ROLE \"Who ever\" SET event_triggers = 'no'",
            "role \"Who ever\"",
            "ALTER ROLE \"Who ever\" RESET event_triggers",
        ),
        (
            "ALTER ROLE \"Who ever\" IN DATABASE shop SET event_triggers = false",
            "role \"Who ever\" in database shop",
            "ALTER ROLE \"Who ever\" IN DATABASE shop RESET event_triggers",
        ),
    ] {
        for statement in sql.split("; ") {
            primary.run(statement).await;
        }
        let is_told =
            async || check_primary(&primary.options).await.iter().any(|one| one.code == "event_triggers_off");
        wait_until("the setting is told of", patience, is_told).await;
        let finding = found(&primary, "event_triggers_off").await;
        assert_eq!(finding.title, format!("event_triggers is off for {whom}"));
        assert!(finding.fix.starts_with(fix), "{finding:?}");
        for statement in fix.split("; ") {
            primary.run(statement).await;
        }
        wait_until("it is told of no more", patience, async || !is_told().await).await;
    }
    primary.server.database("other").await;
    primary
        .run("ALTER DATABASE other SET event_triggers = off; ALTER DATABASE shop SET event_triggers = on")
        .await;
    is_gone(&primary, "event_triggers_off").await;
}
