//! Each finding about the primary on a real server in that state, and again after its fix.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use std::process::Command;

use ptr_capture::doctor::{Finding, Severity, check_primary, fix};
use ptr_capture::source::{TeardownStep, teardown};
use ptr_postgres::QualifiedName;
use ptr_postgres::programs::Installations;
use ptr_testkit::{ServerVersion, TestServerOptions};
use source_support::{Primary, create_role, sqlstate};

async fn find(primary: &Primary, code: &str) -> Option<Finding> {
    check_primary(&primary.options).await.into_iter().find(|finding| finding.code == code)
}

async fn found(primary: &Primary, code: &str) -> Finding {
    let findings = check_primary(&primary.options).await;
    let found = findings.iter().find(|finding| finding.code == code).cloned();
    let finding = found.unwrap_or_else(|| panic!("{code} is not among {findings:#?}"));
    assert!(
        !finding.title.is_empty() && !finding.meaning.is_empty() && !finding.fix.is_empty(),
        "{finding:?}"
    );
    finding
}

/// Connects as another role from now on.
fn log_in_as(primary: &mut Primary, role: &str) {
    let dsn = primary.options.dsn.with_user(role, primary.options.dsn.password().cloned());
    primary.options.dsn = dsn;
}

on_every_version! {
    async fn a_server_that_is_ready_has_no_finding(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (id int PRIMARY KEY)").await;
        assert_eq!(check_primary(&primary.options).await, []);
        primary.prepare().await;
        assert_eq!(check_primary(&primary.options).await, []);
    }

    async fn wal_level_is_set_and_waits_for_a_restart(version) {
        let server = TestServerOptions::default().with("wal_level", "replica");
        let mut primary = Primary::start_with(version, server).await;
        let finding = found(&primary, "wal_level").await;
        assert_eq!((finding.severity, finding.fixable), (Severity::Error, true));
        // The test server's own setting is on its command line or in its file; the system's own comes after it.
        let done = fix(&primary.options, &finding, &()).await.unwrap();
        assert!(done.contains("restart"), "{done}");
        let set = primary.value("SELECT setting FROM pg_file_settings WHERE name = 'wal_level' ORDER BY seqno DESC LIMIT 1").await;
        assert_eq!(set, "logical");
        primary.server.restart().await;
        primary.options.dsn = primary.server.dsn("shop");
        assert_eq!(find(&primary, "wal_level").await, None);
    }

    async fn a_role_that_may_not_replicate(version) {
        let mut primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "app", "")).await;
        log_in_as(&mut primary, "app");
        let finding = found(&primary, "replication_right").await;
        assert!(finding.fix.contains("ALTER ROLE \"app\" REPLICATION"), "{finding:?}");
        primary.run("ALTER ROLE app REPLICATION").await;
        assert_eq!(find(&primary, "replication_right").await, None);
    }

    async fn a_role_that_is_no_superuser(version) {
        let mut primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "app", "REPLICATION")).await;
        primary.run("CREATE TABLE theirs (id int PRIMARY KEY)").await;
        log_in_as(&mut primary, "app");
        assert_eq!(found(&primary, "event_triggers").await.severity, Severity::Warning);
        assert_eq!(found(&primary, "nothing_to_publish").await.severity, Severity::Error);
        primary.run("CREATE TABLE own (id int PRIMARY KEY); ALTER TABLE own OWNER TO app").await;
        assert_eq!(find(&primary, "nothing_to_publish").await, None);
        assert!(found(&primary, "unpublished_tables").await.meaning.contains("\"theirs\""));
        primary.run("ALTER ROLE app SUPERUSER").await;
        assert_eq!(check_primary(&primary.options).await, []);
    }

    async fn the_owner_of_the_event_triggers_functions_is_no_superuser_any_more(version) {
        let mut primary = Primary::start(version).await;
        primary.run(&(create_role(&primary.server, "boss", "SUPERUSER") + &create_role(&primary.server, "app", ""))).await;
        primary.run("GRANT CREATE ON SCHEMA public TO app").await;
        log_in_as(&mut primary, "boss");
        let secret = primary.prepare().await.secret.unwrap();
        assert_eq!(find(&primary, "functions_owner").await, None);
        primary.run("ALTER ROLE boss NOSUPERUSER").await;
        let finding = found(&primary, "functions_owner").await;
        assert!(finding.severity == Severity::Error && finding.fix.starts_with("ALTER ROLE \"boss\" SUPERUSER"), "{finding:?}");
        // Nobody's statement fails, and it is told that it is not captured.
        let app = primary.session_as("app").await;
        for statement in ["CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t ADD a int", "INSERT INTO t VALUES (1, 1)", "DROP TABLE t"] {
            assert_eq!(sqlstate(&app, statement).await, "00000", "{statement}");
        }
        let told = primary.messages(&secret).await.0;
        assert!(told.iter().all(|message| message["event"] == "gap") && told.len() == 4, "{told:?}");
        assert!(told[0]["reason"].as_str().unwrap().contains("role boss"), "{told:?}");
        primary.run("ALTER ROLE boss SUPERUSER").await;
        assert_eq!(find(&primary, "functions_owner").await, None);
        app.batch_execute("CREATE TABLE t (x int)").await.unwrap();
        assert_eq!(primary.messages(&secret).await.0[4]["event"], "ddl_command_end");
        // The other way that the finding names.
        primary.run("ALTER ROLE boss NOSUPERUSER").await;
        log_in_as(&mut primary, "postgres");
        let report = teardown(&primary.options, &()).await.unwrap();
        assert!(!report.steps.iter().any(|step| matches!(step, TeardownStep::Left { .. })), "{report:?}");
        assert_eq!(find(&primary, "functions_owner").await, None);
    }

    async fn who_can_read_the_secret_is_told(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE ROLE analyst").await;
        primary.prepare().await;
        primary.run("GRANT pg_read_all_data TO analyst").await;
        let finding = found(&primary, "secret_readers").await;
        assert!(finding.severity == Severity::Info && finding.meaning.ends_with(": \"analyst\""), "{finding:?}");
        primary.run("REVOKE pg_read_all_data FROM analyst").await;
        assert_eq!(find(&primary, "secret_readers").await, None);
    }

    /// A nightly dump must not come to fail without a word.
    async fn the_owners_dump_needs_an_option_and_goes_on_with_it(version) {
        let primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "own", "")).await;
        primary.run("ALTER DATABASE shop OWNER TO own; SET ROLE own; CREATE SCHEMA shop CREATE TABLE t (id int PRIMARY KEY)").await;
        let dump = async |option: Option<&str>| {
            let dsn = primary.options.dsn.with_user("own", primary.options.dsn.password().cloned());
            let mut command = Command::new(primary.server.cluster().installation().program("pg_dump"));
            dsn.apply_to(&mut command);
            let output = tokio::process::Command::from(command).args(option).output().await.unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
        };
        assert!(dump(None).await.0);
        assert_eq!(found(&primary, "owner_dump").await.severity, Severity::Warning);
        let warnings = primary.prepare().await.warnings;
        assert!(warnings.iter().any(|finding| finding.code == "owner_dump"), "{warnings:?}");
        let (_, _, error) = dump(None).await;
        assert!(error.contains("permission denied for table configuration"), "{error}");

        let finding = found(&primary, "owner_dump").await;
        assert_eq!(finding.severity, Severity::Info);
        let option = finding.fix.split([' ', ';']).nth(1).unwrap();
        let (is_done, dumped, error) = dump(Some(option)).await;
        assert!(is_done && dumped.contains("CREATE TABLE shop.t") && !dumped.contains("CREATE SCHEMA postgres"), "{error}");
    }

    async fn tables_whose_key_is_not_sent_whole_are_listed(version) {
        let mut primary = Primary::start(version).await;
        primary.run("CREATE TABLE coded (code text, short text GENERATED ALWAYS AS (left(code, 3)) STORED PRIMARY KEY)").await;
        assert_eq!(find(&primary, "identity_in_part").await, None);
        primary.options.replica_identity = false;
        let finding = find(&primary, "identity_in_part").await;
        assert_eq!(finding.is_some(), version == ServerVersion::Debian15, "{finding:?}");
        let Some(finding) = finding else { return };
        primary.run(finding.fix.split(',').next().unwrap()).await;
        assert_eq!(find(&primary, "identity_in_part").await, None);
    }

    async fn tables_without_a_key_are_listed_and_those_that_would_break_left_out(version) {
        let mut primary = Primary::start(version).await;
        primary.run("CREATE TABLE keyless (x int)").await;
        assert_eq!(found(&primary, "keyless_tables").await.severity, Severity::Info);
        primary.options.exclude_tables = vec![QualifiedName::new("public", "keyless")];
        let finding = found(&primary, "unpublishable_tables").await;
        assert!(finding.severity == Severity::Warning && finding.meaning.contains("\"keyless\""), "{finding:?}");
        primary.run("ALTER TABLE keyless ADD PRIMARY KEY (x)").await;
        assert_eq!(find(&primary, "unpublishable_tables").await, None);
    }

    async fn all_slots_are_used(version) {
        let server = TestServerOptions::default().with("max_replication_slots", "1");
        let primary = Primary::start_with(version, server).await;
        primary.run("SELECT pg_create_physical_replication_slot('theirs')").await;
        assert!(found(&primary, "slots").await.meaning.contains("theirs (not in use)"));
        primary.run("SELECT pg_drop_replication_slot('theirs')").await;
        assert_eq!(find(&primary, "slots").await, None);
    }

    async fn all_walsenders_are_used(version) {
        let server = TestServerOptions::default().with("max_wal_senders", "1");
        let mut primary = Primary::start_with(version, server).await;
        let other = ptr_capture::transport::ReplicationConnection::connect(&primary.options.dsn).await.unwrap();
        let finding = found(&primary, "senders").await;
        assert_eq!(finding.severity, Severity::Error);
        // One that is not needed is ended, found by the query that it names.
        let (_, query) = finding.fix.split_once("(SELECT ").unwrap();
        let (query, _) = query.split_once(')').unwrap();
        let pid = primary.value(&format!("SELECT pid FROM (SELECT {query}) t")).await;
        primary.run(&format!("SELECT pg_terminate_backend({pid})")).await;
        drop(other);
        ptr_testkit::wait_until("the walsender to end", std::time::Duration::from_secs(10), async || {
            primary.value("SELECT count(*) FROM pg_stat_replication").await == "0"
        })
        .await;
        assert_eq!(find(&primary, "senders").await, None);
        // Or more are allowed.
        let _third = ptr_capture::transport::ReplicationConnection::connect(&primary.options.dsn).await.unwrap();
        let finding = found(&primary, "senders").await;
        let set = &finding.fix[finding.fix.find("ALTER SYSTEM").unwrap()..];
        primary.run(set.split(';').next().unwrap()).await;
        primary.server.restart().await;
        primary.options.dsn = primary.server.dsn("shop");
        let _fourth = ptr_capture::transport::ReplicationConnection::connect(&primary.options.dsn).await.unwrap();
        assert_eq!(find(&primary, "senders").await, None);
    }

    async fn a_leftover_slot_is_dropped_if_its_prefix_is_ours(version) {
        let mut primary = Primary::start(version).await;
        primary.run("SELECT pg_create_logical_replication_slot('postgres_test_replay', 'pgoutput'); SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')").await;
        let finding = found(&primary, "leftover_slot").await;
        assert!(finding.fixable);
        fix(&primary.options, &finding, &()).await.unwrap();
        assert_eq!(find(&primary, "leftover_slot").await, None);
        primary.options.slot = "theirs".to_owned();
        let finding = found(&primary, "leftover_slot").await;
        assert!(!finding.fixable && fix(&primary.options, &finding, &()).await.is_err(), "{finding:?}");
        assert_eq!(primary.value("SELECT slot_name FROM pg_replication_slots").await, "theirs");
    }

    async fn what_another_data_directory_left_is_told_before_set_up_refuses_it(version) {
        let mut primary = Primary::start(version).await;
        primary.prepare().await;
        let elsewhere = tempfile::tempdir().unwrap();
        primary.options.record_path = elsewhere.path().join("shop.json");
        primary.options.slot = "another".to_owned();
        let publication = found(&primary, "leftover_publication").await;
        assert!(publication.fix.contains("PUBLICATION_NAME") && !publication.fixable, "{publication:?}");
        let schema = found(&primary, "leftover_schema").await;
        assert!(schema.fix.contains("teardown") && !schema.fixable, "{schema:?}");
        primary.options.publication = "another".to_owned();
        assert_eq!(find(&primary, "leftover_publication").await, None);
        let refused = ptr_capture::source::prepare(&primary.options, &()).await.unwrap_err();
        assert!(refused.to_string().contains("another data directory captures this database"), "{refused}");
    }

    async fn a_slot_whose_wal_was_given_up_is_told(version) {
        let primary = Primary::with_a_lost_slot(version).await;
        assert_eq!(found(&primary, "slot_lost").await.severity, Severity::Error);
    }

    async fn a_slot_or_publication_that_is_gone_is_told(version) {
        let primary = Primary::start(version).await;
        primary.prepare().await;
        primary.run("DROP PUBLICATION postgres_test_replay").await;
        assert_eq!(found(&primary, "publication_gone").await.severity, Severity::Error);
        primary.run("SELECT pg_drop_replication_slot('postgres_test_replay')").await;
        assert_eq!(found(&primary, "slot_gone").await.severity, Severity::Error);
    }

    async fn what_a_new_slot_would_wait_for_is_named(version) {
        let primary = Primary::start(version).await;
        let elsewhere = primary.server.client("postgres").await;
        elsewhere.batch_execute("BEGIN; CREATE TABLE held (x int)").await.unwrap();
        let finding = found(&primary, "open_writers").await;
        assert!(finding.meaning.contains("CREATE TABLE held") && finding.meaning.contains("in postgres"), "{finding:?}");
        elsewhere.batch_execute("ROLLBACK; BEGIN; CREATE TABLE held (x int); PREPARE TRANSACTION 'forgotten'").await.unwrap();
        assert!(found(&primary, "open_writers").await.meaning.contains("\"forgotten\""));
        elsewhere.batch_execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
        assert_eq!(find(&primary, "open_writers").await, None);
    }

    async fn a_pg_dump_older_than_the_server_is_named(version) {
        let mut primary = Primary::start(version).await;
        if version == ServerVersion::Pypi18 {
            let bin = ServerVersion::Debian15.installation().bin_dir.display().to_string();
            primary.options.programs = Installations::find(&|name| (name == "PG_BIN").then(|| bin.clone())).unwrap();
            assert!(found(&primary, "pg_dump").await.fix.contains("18"));
        } else {
            assert_eq!(find(&primary, "pg_dump").await, None);
        }
    }

    async fn tables_that_keep_their_identity_are_listed_with_the_reason(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE listed (id int PRIMARY KEY, a int, b int); CREATE PUBLICATION theirs FOR TABLE listed (id, a)").await;
        if version == ServerVersion::Pypi18 {
            primary.run("CREATE TABLE computed (id int PRIMARY KEY, a int GENERATED ALWAYS AS (id + 1) VIRTUAL)").await;
        }
        let finding = found(&primary, "identity_exceptions").await;
        assert!(finding.meaning.contains("publication \"theirs\" has a column list"), "{finding:?}");
        assert_eq!(finding.meaning.contains("\"computed\""), version == ServerVersion::Pypi18);
        primary.prepare().await;
        primary.run("UPDATE listed SET a = 1").await;
    }

    async fn what_full_would_cost_is_estimated(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE wide (id int PRIMARY KEY, counter int, document text);
            INSERT INTO wide SELECT n, 0, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 3200) WHERE n > 0) FROM generate_series(1, 5) n;
            ANALYZE wide").await;
        assert_eq!(find(&primary, "identity_cost").await, None);
        primary.run("DO $$ BEGIN FOR n IN 1..400 LOOP UPDATE wide SET counter = counter + 1; END LOOP; END $$; SELECT pg_stat_force_next_flush()").await;
        let finding = found(&primary, "identity_cost").await;
        assert!(finding.meaning.contains("\"wide\"") && finding.meaning.contains("2000 rows"), "{finding:?}");
    }

    async fn a_table_that_lost_full_gets_it_again(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (id int PRIMARY KEY)").await;
        let secret = primary.prepare().await.secret.unwrap();
        primary.run("UPDATE pg_class SET relreplident = 'd' WHERE relname = 't'").await;
        let finding = found(&primary, "replica_identity").await;
        assert!(finding.fixable);
        fix(&primary.options, &finding, &()).await.unwrap();
        assert_eq!(check_primary(&primary.options).await, []);
        // What we do ourselves is no schema change of the user's.
        assert_eq!(primary.messages(&secret).await, (vec![], 0));
    }

    async fn a_server_that_does_not_answer_is_a_finding_with_a_hint(version) {
        let mut primary = Primary::start(version).await;
        primary.server.stop().await;
        let finding = found(&primary, "primary_connection").await;
        assert_eq!(finding.severity, Severity::Error);
    }
}
