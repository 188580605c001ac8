//! Set-up: what it makes, in which order, what it waits for, and what a crash in its middle leaves.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::Duration;

use ptr_capture::source::{
    Manifest, OpenTransaction, Progress, SchemaCapture, SetupEvent, SourceError, SourceRecord, Step, prepare,
    teardown,
};
use ptr_postgres::{Dsn, QualifiedName, SessionSettings, connect};
use ptr_testkit::wait_until;
use source_support::{Primary, create_role};
use tokio::sync::{mpsc::unbounded_channel, oneshot};

const SCHEMA: &str = "
    CREATE TABLE keyed (id int PRIMARY KEY, v text);
    INSERT INTO keyed SELECT n, 'v' || n FROM generate_series(1, 100) n;
    CREATE TABLE keyless (v text);
    CREATE TABLE parted (id int) PARTITION BY RANGE (id);
    CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE by_index (a int NOT NULL, b int);
    CREATE UNIQUE INDEX by_index_a ON by_index (a);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a;
    CREATE MATERIALIZED VIEW dice AS SELECT n, random() AS r FROM generate_series(1, 3) n;
    CREATE SEQUENCE numbers START 41;
    SELECT nextval('numbers');";

/// Stops set-up where it says a certain thing.
struct StopAt {
    is_it: fn(&SetupEvent) -> bool,
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl Progress for StopAt {
    fn report(&self, event: SetupEvent) {
        let stop = if (self.is_it)(&event) { self.stop.lock().unwrap().take() } else { None };
        if let Some(stop) = stop {
            stop.send(()).unwrap();
        }
    }
}

/// Runs set-up until it says a certain thing, and drops it there, as a crash would.
async fn crash_at(primary: &Primary, is_it: fn(&SetupEvent) -> bool) {
    let (stop, stopped) = oneshot::channel();
    let progress = StopAt { is_it, stop: Mutex::new(Some(stop)) };
    tokio::select! {
        biased;
        stopped = stopped => stopped.unwrap(),
        outcome = prepare(&primary.options, &progress) => panic!("set-up went through: {outcome:?}"),
    }
}

on_every_version! {
    async fn everything_that_capture_needs_is_made_once(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        let prepared = primary.prepare().await;
        assert!(!prepared.was_prepared);
        assert_eq!(prepared.schema_capture, SchemaCapture::On);
        let full = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relreplident = 'f'";
        assert_eq!(primary.value(full).await, "by_index keyed keyless leaf parted");
        let slot = "SELECT plugin || ' ' || confirmed_flush_lsn FROM pg_replication_slots";
        assert_eq!(primary.value(slot).await, format!("pgoutput {}", prepared.identity.creation));
        assert_eq!(primary.value("SELECT puballtables FROM pg_publication").await, "t");
        assert_eq!(primary.value("SELECT count(*) FROM pg_event_trigger WHERE evtenabled = 'A'").await, "5");

        let again = primary.prepare().await;
        assert!(again.was_prepared);
        assert_eq!((again.identity, again.manifest), (prepared.identity, prepared.manifest));
        assert_eq!(again.secret.unwrap().reveal(), prepared.secret.unwrap().reveal());
    }

    async fn the_base_image_is_the_database_at_the_slots_point(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        primary.run("COMMENT ON DATABASE shop IS 'all of it'; ALTER DATABASE shop SET extra_float_digits = 0").await;
        primary.run("CREATE ROLE clerk; CREATE SCHEMA s; CREATE PUBLICATION theirs FOR TABLE keyed").await;
        let dice = primary.value("SET extra_float_digits = 3; COPY (SELECT n, r FROM dice) TO STDOUT").await;
        let prepared = primary.prepare().await;
        primary.run("DELETE FROM keyed; REFRESH MATERIALIZED VIEW dice").await;

        let manifest = Manifest::load(&primary.options.base_directory).unwrap();
        assert_eq!(manifest, prepared.manifest);
        assert_eq!((manifest.lsn, manifest.database.comment.as_deref()), (prepared.identity.creation, Some("all of it")));
        assert_eq!(manifest.database.settings[0].name, "extra_float_digits");
        assert!(manifest.roles.iter().any(|role| role.name == "clerk"));
        assert_eq!((manifest.sequences[0].last_value, manifest.sequences[0].is_called), (41, true));
        let view = primary.options.base_directory.join(&manifest.materialized_views[0].file);
        assert_eq!(std::fs::read_to_string(view).unwrap().trim(), dice);

        // pg_restore, led by the list, makes the database without anything of ours.
        primary.restore(&manifest, "restored").await;
        let restored = |sql: &'static str| primary.server.psql("restored", sql);
        assert_eq!(restored("SELECT count(*) FROM keyed").await.trim(), "100");
        assert_eq!(restored("SELECT count(*) FROM pg_event_trigger").await.trim(), "0");
        assert_eq!(restored("SELECT string_agg(pubname, ' ') FROM pg_publication").await.trim(), "theirs");
        assert_eq!(restored("SELECT count(*) FROM pg_namespace WHERE nspname = 'postgres_test_replay'").await.trim(), "0");
        assert_eq!(restored("SELECT relispopulated FROM pg_class WHERE relname = 'dice'").await.trim(), "f");
    }

    async fn a_crash_at_any_point_is_undone_and_set_up_begins_again(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        let points: [fn(&SetupEvent) -> bool; 6] = [
            |event| matches!(event, SetupEvent::InstallingTriggers),
            |event| matches!(event, SetupEvent::SettingIdentities { .. }),
            |event| matches!(event, SetupEvent::Publishing { .. }),
            |event| matches!(event, SetupEvent::CreatingSlot { .. }),
            |event| matches!(event, SetupEvent::SlotCreated { .. }),
            |event| matches!(event, SetupEvent::Dumping { .. }),
        ];
        let identities = "SELECT string_agg(concat(relname, relreplident), ' ' ORDER BY relname) FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384 AND relnamespace = 'public'::regnamespace";
        let before = primary.value(identities).await;
        for is_it in points {
            crash_at(&primary, is_it).await;
            assert!(!SourceRecord::load(&primary.options.record_path).unwrap().unwrap().began(Step::Complete));
            assert!(!primary.options.base_directory.exists());
        }
        assert!(!primary.prepare().await.was_prepared);
        assert_eq!(primary.value("SELECT count(*) FROM pg_replication_slots").await, "1");
        teardown(&primary.options, &()).await.unwrap();
        assert_eq!(primary.value(identities).await, before);
    }

    async fn an_open_writer_and_a_prepared_transaction_are_named_while_the_slot_waits(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (x int)").await;
        let elsewhere = primary.server.client("postgres").await;
        elsewhere.batch_execute("BEGIN; CREATE TABLE held (x int)").await.unwrap();
        let session = primary.session().await;
        session.batch_execute("BEGIN; CREATE TABLE forgotten (x int); PREPARE TRANSACTION 'forgotten'").await.unwrap();

        let (sender, mut events) = unbounded_channel();
        let options = primary.options.clone();
        let preparing = tokio::spawn(async move { prepare(&options, &sender).await });
        let waits = loop {
            match events.recv().await.expect("set-up says what it waits for") {
                SetupEvent::WaitingForSlot { waits } if waits.len() == 2 => break waits,
                _ => {}
            }
        };
        assert!(waits.iter().any(|wait| matches!(wait, OpenTransaction::Session { database, query, .. }
            if database == "postgres" && query.contains("held"))), "{waits:?}");
        assert!(waits.iter().any(|wait| matches!(wait, OpenTransaction::Prepared { gid, .. } if gid == "forgotten")), "{waits:?}");
        elsewhere.batch_execute("ROLLBACK").await.unwrap();
        session.batch_execute("ROLLBACK PREPARED 'forgotten'").await.unwrap();
        preparing.await.unwrap().unwrap();
    }

    async fn tables_of_transactions_that_are_older_than_the_triggers_are_looked_at_too(version) {
        for is_list in [false, true] {
            let mut primary = Primary::start(version).await;
            if is_list {
                // One that may not be published, so that the others are listed by name.
                primary.run("CREATE TABLE excluded (x int)").await;
                primary.options.exclude_tables = vec![QualifiedName::new("public", "excluded")];
            }
            let older = primary.session().await;
            older.batch_execute("BEGIN; CREATE TABLE keyless (x int); INSERT INTO keyless VALUES (1), (2);
                                 CREATE TABLE keyed (id int PRIMARY KEY)").await.unwrap();
            let (sender, mut events) = unbounded_channel();
            let options = primary.options.clone();
            let preparing = tokio::spawn(async move { prepare(&options, &sender).await });
            while !matches!(events.recv().await.expect("set-up says what it waits for"), SetupEvent::WaitingForSlot { .. }) {}
            older.batch_execute("COMMIT").await.unwrap();
            preparing.await.unwrap().unwrap();
            primary.run("UPDATE keyless SET x = 3 WHERE x = 1; DELETE FROM keyless WHERE x = 2").await;
            let identities = "SELECT string_agg(concat(relname, ' ', relreplident), ', ' ORDER BY relname) FROM pg_class WHERE relname LIKE 'key%' AND relkind = 'r'";
            assert_eq!(primary.value(identities).await, "keyed f, keyless f");
            let published = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE schemaname = 'public'";
            assert_eq!(primary.value(published).await, "keyed keyless");
            teardown(&primary.options, &()).await.unwrap();
            assert_eq!(primary.value(identities).await, "keyed d, keyless d");
        }
    }

    async fn time_limits_of_the_server_do_not_end_set_up(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (x int); CREATE MATERIALIZED VIEW slow AS SELECT n, repeat('x', 100) FROM generate_series(1, 200000) n").await;
        let mut limits = vec![("idle_in_transaction_session_timeout", "100ms"), ("idle_session_timeout", "100ms"), ("statement_timeout", "30ms")];
        if version == ptr_testkit::ServerVersion::Pypi18 {
            limits.push(("transaction_timeout", "150ms"));
        }
        for (name, limit) in limits {
            let limited = format!("ALTER DATABASE shop SET {name} = '{limit}'");
            primary.server.psql("postgres", &limited).await;
            assert!(!primary.prepare().await.was_prepared, "{name}");
            teardown(&primary.options, &()).await.unwrap();
            std::fs::remove_dir_all(&primary.options.base_directory).unwrap();
            primary.server.psql("postgres", "ALTER DATABASE shop RESET ALL").await;
        }
    }

    async fn a_locked_table_is_tried_again_without_holding_others_up(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (x int)").await;
        let reader = primary.session().await;
        reader.batch_execute("BEGIN; SELECT * FROM t").await.unwrap();
        let (sender, mut events) = unbounded_channel();
        let options = primary.options.clone();
        let preparing = tokio::spawn(async move { prepare(&options, &sender).await });
        let holders = loop {
            if let SetupEvent::WaitingForTable { holders, .. } = events.recv().await.expect("set-up says it waits") {
                break holders;
            }
        };
        assert!(holders[0].to_string().contains("SELECT * FROM t"), "{holders:?}");
        // Between the attempts others get through.
        let other = primary.session().await;
        other.batch_execute("SET statement_timeout = '10s'; SELECT * FROM t").await.unwrap();
        reader.batch_execute("COMMIT").await.unwrap();
        preparing.await.unwrap().unwrap();
    }

    async fn a_table_that_a_prepared_transaction_holds_is_given_up_by_name(version) {
        let mut primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (x int)").await;
        primary.run("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'forgotten'").await;
        primary.options.lock_patience = Duration::from_millis(500);
        let error = prepare(&primary.options, &()).await.unwrap_err();
        assert!(matches!(&error, SourceError::Locked { holders, .. } if holders.contains("forgotten")), "{error}");
    }

    async fn a_slot_of_somebody_elses_is_left_alone(version) {
        let primary = Primary::start(version).await;
        primary.run("SELECT pg_create_logical_replication_slot('postgres_test_replay', 'pgoutput')").await;
        let error = prepare(&primary.options, &()).await.unwrap_err();
        assert!(matches!(error, SourceError::NotOurs { what: "slot", .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("used by nobody") && text.contains("pg_drop_replication_slot('postgres_test_replay')"), "{text}");
        assert!(SourceRecord::load(&primary.options.record_path).unwrap().is_none());
        teardown(&primary.options, &()).await.unwrap();
        assert_eq!(primary.value("SELECT count(*) FROM pg_replication_slots").await, "1");
        assert_eq!(primary.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'postgres_test_replay'").await, "0");
    }

    async fn an_ordinary_owner_captures_its_tables_without_schema_changes(version) {
        let primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "owner", "REPLICATION")).await;
        primary.run("CREATE TABLE theirs (x int); GRANT ALL ON SCHEMA public TO owner; GRANT CREATE ON DATABASE shop TO owner;
                     GRANT SELECT ON theirs TO owner; SET ROLE owner; CREATE TABLE own (id int PRIMARY KEY); CREATE TABLE own_keyless (x int)").await;
        let mut options = primary.options.clone();
        options.dsn = options.dsn.with_user("owner", options.dsn.password().cloned());
        let prepared = prepare(&options, &()).await.unwrap();
        assert!(matches!(prepared.schema_capture, SchemaCapture::Off { .. }));
        let codes: Vec<&str> = prepared.warnings.iter().map(|finding| finding.code).collect();
        assert!(codes.contains(&"event_triggers") && codes.contains(&"unpublished_tables"), "{codes:?}");
        let published = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables";
        assert_eq!(primary.value(published).await, "own own_keyless");
        connect(&options.dsn, &SessionSettings::named("a test")).await.unwrap()
            .batch_execute("UPDATE own SET id = 1; UPDATE own_keyless SET x = 1").await.unwrap();
        teardown(&options, &()).await.unwrap();
        assert_eq!(primary.value("SELECT count(*) FROM pg_publication").await, "0");
    }

    async fn of_several_hosts_the_one_that_was_reached_gets_its_own_password(version) {
        let mut primary = Primary::start(version).await;
        let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let direct = primary.options.dsn.clone();
        let (port, password) = (direct.hosts()[0].port, direct.password().unwrap().reveal());
        let home = tempfile::tempdir().unwrap();
        let passfile = home.path().join(".pgpass");
        std::fs::write(&passfile, format!("127.0.0.1:{away}:*:*:another\n127.0.0.1:{port}:*:*:{password}\n")).unwrap();
        std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!("postgres://postgres@127.0.0.1:{away},127.0.0.1:{port}/shop");
        let in_home = |name: &str| (name == "HOME").then(|| home.path().display().to_string());
        primary.options.dsn = Dsn::resolve(&text, &in_home).unwrap();
        primary.prepare().await;
    }

    async fn what_was_lost_after_set_up_is_told(version) {
        let primary = Primary::start(version).await;
        primary.prepare().await;
        primary.run("SELECT pg_drop_replication_slot('postgres_test_replay')").await;
        let error = prepare(&primary.options, &()).await.unwrap_err();
        assert!(matches!(&error, SourceError::Broken { what, .. } if what.contains("slot")), "{error}");
    }

    async fn functions_of_an_earlier_version_are_replaced_while_sessions_go_on(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        let functions = "SELECT string_agg(concat(p.oid, ' ', md5(pg_get_functiondef(p.oid)), ' ', p.proacl), E'\n' ORDER BY p.oid)
            FROM pg_proc p WHERE pronamespace = 'postgres_test_replay'::regnamespace";
        let ours = primary.value(functions).await;
        let session = primary.session().await;
        session.batch_execute("CREATE TABLE before (x int)").await.unwrap();
        // What an earlier version left: another text, a function that is no more, rights that were given.
        primary.run("CREATE OR REPLACE FUNCTION postgres_test_replay.is_ours() RETURNS boolean LANGUAGE sql AS 'SELECT false';
            CREATE FUNCTION postgres_test_replay.before_unlogged() RETURNS boolean LANGUAGE sql AS 'SELECT true';
            GRANT EXECUTE ON FUNCTION postgres_test_replay.seal(json) TO PUBLIC;
            COMMENT ON FUNCTION postgres_test_replay.on_event() IS 'another'").await;
        session.batch_execute("CREATE TABLE meanwhile (x int)").await.unwrap();
        let told = primary.messages(&secret).await.0.len();
        assert!(primary.prepare().await.was_prepared);
        assert_eq!(primary.value(functions).await, ours);
        assert_eq!(primary.value("SELECT count(*) FROM pg_event_trigger WHERE evtenabled = 'A'").await, "5");
        assert_eq!(primary.messages(&secret).await.0.len(), told, "of what we do ourselves nothing is said");
        session.batch_execute("CREATE TABLE after (x int)").await.unwrap();
        assert_eq!(primary.messages(&secret).await.0.len(), told + 1);
        // Once.
        let row = "SELECT xmin::text FROM pg_proc WHERE oid = 'postgres_test_replay.on_event'::regproc";
        let replaced = primary.value(row).await;
        primary.prepare().await;
        assert_eq!(primary.value(row).await, replaced);
    }

    async fn the_walsender_that_made_the_slot_is_gone_after_set_up(version) {
        let primary = Primary::start(version).await;
        primary.prepare().await;
        let session = primary.session().await;
        wait_until("the slot to be free", Duration::from_secs(10), async || {
            let row = session.query_one("SELECT count(*) FROM pg_stat_replication", &[]).await.unwrap();
            row.get::<_, i64>(0) == 0
        })
        .await;
    }
}
