//! Capture never changes what a user's statement does: the same statements are run on a database that is captured
//! and on one that is not, and every outcome and the two databases in the end are compared.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use ptr_capture::source::prepare;
use ptr_postgres::QualifiedName;
use ptr_testkit::{DatabaseState, ServerVersion, assert_equal_states};
use source_support::{Primary, create_role, options, session_as, sqlstate};

/// What an ordinary role may do, and what it may not.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE plain (id int PRIMARY KEY, v text)",
    "INSERT INTO plain SELECT n, 'v' || n FROM generate_series(1, 50) n",
    "CREATE TABLE keyless (a int, b text)",
    "INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (2, NULL)",
    "UPDATE keyless SET b = 'y' WHERE a = 1",
    "DELETE FROM keyless WHERE a = 2",
    "CREATE TABLE stored (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
    "INSERT INTO stored VALUES (1, 1), (2, 2)",
    "UPDATE stored SET a = 5 WHERE id = 1",
    "CREATE TABLE keyless_stored (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
    "INSERT INTO keyless_stored VALUES (1)",
    "UPDATE keyless_stored SET a = 2",
    "DELETE FROM keyless_stored",
    // DROP and CREATE INDEX CONCURRENTLY, a failing one too.
    "CREATE INDEX CONCURRENTLY plain_v ON plain (v)",
    "DROP INDEX CONCURRENTLY plain_v",
    "CREATE UNIQUE INDEX CONCURRENTLY keyless_a ON keyless (a)",
    "DROP INDEX CONCURRENTLY keyless_a",
    "REINDEX TABLE CONCURRENTLY plain",
    "ALTER TABLE plain ADD COLUMN t timestamptz DEFAULT '2020-01-01'",
    "ALTER TABLE plain ALTER COLUMN id TYPE bigint",
    "ALTER TABLE plain ADD COLUMN w double precision DEFAULT 0.5 + length('x')",
    "CREATE TABLE copy AS SELECT * FROM plain",
    "SELECT * INTO into_copy FROM plain",
    "CREATE TABLE IF NOT EXISTS plain (x int)",
    "CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM plain",
    "REFRESH MATERIALIZED VIEW counted",
    "CREATE UNIQUE INDEX ON counted (count)",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY counted",
    "CREATE TEMP TABLE scratch (x int) ON COMMIT DROP",
    "CREATE TEMP TABLE kept (x int); INSERT INTO kept VALUES (1); CREATE TABLE from_temp AS SELECT * FROM kept; DROP TABLE kept",
    "DO $$ BEGIN EXECUTE 'CREATE TABLE in_do (a int)'; CREATE TABLE in_do_too (a int); END $$",
    "CREATE FUNCTION makes() RETURNS void LANGUAGE sql AS 'CREATE TABLE by_sql (x int)'",
    "SELECT makes()",
    "SELECT makes()",
    "CREATE FUNCTION fails() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE gone (x int); RAISE 'no'; END $$",
    "SELECT fails()",
    "CREATE FUNCTION catches() RETURNS void LANGUAGE plpgsql AS $$ BEGIN BEGIN PERFORM fails(); EXCEPTION WHEN OTHERS THEN NULL; END; END $$",
    "SELECT catches()",
    "BEGIN; CREATE TABLE half (x int); SAVEPOINT s; ALTER TABLE half ADD y int; ROLLBACK TO s; ALTER TABLE half ADD z int; COMMIT",
    "BEGIN; CREATE TABLE never (x int); ROLLBACK",
    "BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TABLE serial (x int); ALTER TABLE serial ADD PRIMARY KEY (x); COMMIT",
    "BEGIN ISOLATION LEVEL REPEATABLE READ; ALTER TABLE plain ADD COLUMN rr int; COMMIT",
    // No schema to be found, other people's schemas, and names that look like ours.
    "SET search_path = ''; CREATE TABLE public.without_path (x int); RESET search_path",
    "CREATE SCHEMA mine; SET search_path = mine, public; CREATE TABLE in_mine (x int); RESET search_path",
    "CREATE SCHEMA with_parts CREATE TABLE part (x int) CREATE VIEW seen AS SELECT * FROM part",
    "CREATE FUNCTION mine.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$",
    "SET search_path = mine, pg_catalog, public; CREATE TABLE mine.shadowed (x int); RESET search_path",
    "SET search_path = postgres_test_replay, public; CREATE TABLE public.through_ours (x int); RESET search_path",
    "SET plpgsql.extra_errors = 'all'; CREATE TABLE strict (x int); RESET plpgsql.extra_errors",
    "SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601'; CREATE TABLE styled (d date DEFAULT '31.12.2020'); RESET ALL",
    "SET postgres_test_replay.n = 'nonsense'; SET postgres_test_replay.rewrites = '1:2,x'; ALTER TABLE plain ALTER COLUMN w TYPE text; RESET ALL",
    "SET statement_timeout = '30s'; CREATE TABLE timed (x int); RESET statement_timeout",
    "DISCARD ALL",
    "CREATE TABLE parted (id int, k int) PARTITION BY RANGE (id)",
    "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE parted_2 (id int, k int); ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20)",
    "INSERT INTO parted SELECT n, n FROM generate_series(0, 19) n",
    "UPDATE parted SET k = 7 WHERE id < 3",
    "UPDATE parted SET id = 15 WHERE id = 4",
    "ALTER TABLE parted DETACH PARTITION parted_2 CONCURRENTLY",
    "CREATE TYPE mood AS ENUM ('sad'); ALTER TYPE mood ADD VALUE 'happy'",
    "CREATE TYPE pair AS (a int, b int)",
    "CREATE TABLE typed OF pair",
    "ALTER TYPE pair ADD ATTRIBUTE c int CASCADE",
    "CREATE VIEW v AS SELECT 1 AS one; CREATE OR REPLACE VIEW v AS SELECT 1 AS one, 2 AS two",
    "CREATE SEQUENCE s; ALTER SEQUENCE s RESTART 100; SELECT nextval('s')",
    "COMMENT ON TABLE plain IS 'a comment'; GRANT SELECT ON plain TO PUBLIC; REVOKE SELECT ON plain FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER TABLE plain RENAME COLUMN v TO words; ALTER TABLE plain RENAME TO renamed",
    "ALTER TABLE renamed DROP COLUMN words",
    "CREATE UNLOGGED TABLE fast (x int); ALTER TABLE fast SET LOGGED",
    "ALTER TABLE keyless REPLICA IDENTITY FULL",
    "UPDATE keyless SET b = 'z'",
    "TRUNCATE keyless",
    "PREPARE p AS SELECT 1; EXECUTE p; DEALLOCATE p",
    "DROP TABLE IF EXISTS missing",
    "DROP TABLE copy, into_copy",
    "DROP SCHEMA with_parts CASCADE",
    "DROP TABLE no_such_table",
    "CREATE TABLE renamed (x int)",
    "CREATE EVENT TRIGGER theirs ON ddl_command_end EXECUTE FUNCTION makes()",
    "SELECT postgres_no_such_function()",
    "BEGIN READ ONLY; CREATE TABLE refused (x int); COMMIT",
    "BEGIN READ ONLY; SELECT count(*) FROM keyless; COMMIT",
    "SET default_transaction_read_only = on; CREATE TEMP TABLE allowed (x int); RESET default_transaction_read_only",
    "SET lock_timeout = '20ms'; CREATE TABLE hasty (x int); UPDATE hasty SET x = 1; RESET lock_timeout",
    "CREATE TABLE wide (x text, y text)",
    "INSERT INTO wide SELECT repeat('x', 50000000), repeat('y', 50000000)",
    "UPDATE wide SET x = 'short'",
    "DELETE FROM wide",
    "BEGIN; CREATE TABLE in_one (x int); INSERT INTO in_one VALUES (1); UPDATE in_one SET x = 2; DELETE FROM in_one; COMMIT",
    "DROP OWNED BY app_two",
];

/// Only where generated columns may be virtual.
const STATEMENTS_18: &[&str] = &[
    "CREATE TABLE virtual (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2))",
    "INSERT INTO virtual VALUES (1, 1), (2, 2)",
    "UPDATE virtual SET a = 5 WHERE id = 1",
    "DELETE FROM virtual WHERE id = 2",
    "CREATE TABLE becomes_virtual (id int PRIMARY KEY, a int)",
    "INSERT INTO becomes_virtual VALUES (1, 1)",
    "ALTER TABLE becomes_virtual ADD COLUMN b int GENERATED ALWAYS AS (a + 1) VIRTUAL",
    "UPDATE becomes_virtual SET a = 2",
    // Without a key: such a table cannot be published with UPDATE and DELETE.
    "CREATE TABLE keyless_virtual (a int, b int GENERATED ALWAYS AS (a * 2))",
    "INSERT INTO keyless_virtual VALUES (1), (2), (3)",
    "UPDATE keyless_virtual SET a = 5 WHERE a = 1",
    "DELETE FROM keyless_virtual WHERE a = 2",
    "BEGIN; CREATE TABLE at_once (a int, b int GENERATED ALWAYS AS (a * 2)); INSERT INTO at_once VALUES (1); UPDATE at_once SET a = 2; COMMIT",
    "ALTER TABLE keyless ADD COLUMN v int GENERATED ALWAYS AS (a + 1) VIRTUAL",
    "UPDATE keyless SET b = 'v'",
    "ALTER TABLE virtual DROP CONSTRAINT virtual_pkey",
    "UPDATE virtual SET a = 6",
    "ALTER TABLE virtual ADD PRIMARY KEY (id)",
    "UPDATE virtual SET a = 7",
    "CREATE TABLE becomes_unlogged (id int PRIMARY KEY)",
    "INSERT INTO becomes_unlogged VALUES (1)",
    "ALTER TABLE becomes_unlogged SET UNLOGGED",
    "INSERT INTO becomes_unlogged VALUES (2)",
    "ALTER TABLE becomes_unlogged SET LOGGED",
    "DO $$ BEGIN EXECUTE 'ALTER TABLE becomes_unlogged SET ' || 'UNLOGGED'; END $$",
    "ALTER TABLE IF EXISTS no_such_table SET UNLOGGED",
    "ALTER TABLE renamed SET UNLOGGED",
    "BEGIN; SAVEPOINT s; ALTER TABLE renamed SET LOGGED; ROLLBACK TO s; ALTER TABLE renamed ADD COLUMN late int; COMMIT",
    "CREATE TABLE copied_later AS SELECT 1 AS a, 'x' AS b",
    "UPDATE copied_later SET a = 2",
    "CREATE TABLE parted_virtual (a int, b int GENERATED ALWAYS AS (a * 2)) PARTITION BY LIST (a)",
    "CREATE TABLE parted_virtual_1 PARTITION OF parted_virtual FOR VALUES IN (1, 2)",
    "INSERT INTO parted_virtual VALUES (1)",
    "UPDATE parted_virtual SET a = 2",
    "BEGIN; SET TRANSACTION READ ONLY; SELECT count(*) FROM virtual; COMMIT",
    "SET lock_timeout = '50ms'; SET statement_timeout = '20s'; CREATE TABLE short (a int, b int GENERATED ALWAYS AS (a)); UPDATE short SET a = 1; RESET ALL",
];

/// What only a superuser does.
const SUPERUSER_STATEMENTS: &[&str] = &[
    "CREATE TABLE listed (id int PRIMARY KEY, a int, b int); INSERT INTO listed VALUES (1, 1, 1)",
    "CREATE PUBLICATION theirs FOR TABLE listed (id, a)",
    "UPDATE listed SET a = 2",
    "DROP PUBLICATION theirs",
    "UPDATE listed SET a = 3",
    "CREATE PUBLICATION later FOR TABLE listed",
    "ALTER PUBLICATION later SET TABLE listed (id, b)",
    "UPDATE listed SET a = 4; DELETE FROM listed",
    "SET lc_messages = 'de_DE.UTF-8'; RESET lc_messages",
    "SET session_replication_role = replica; CREATE TABLE under_replica (x int); RESET session_replication_role",
    "CREATE TABLE log (tag text)",
    "CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO log SELECT command_tag FROM pg_event_trigger_ddl_commands(); END $$",
    "CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note()",
    "CREATE TABLE noted (x int)",
    "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN IF tg_tag = 'CREATE VIEW' THEN RAISE 'no views here'; END IF; END $$",
    "CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()",
    "CREATE VIEW refused AS SELECT 1",
    "BEGIN; SAVEPOINT s; CREATE VIEW refused AS SELECT 1; ROLLBACK TO s; CREATE TABLE after_refusal (x int); COMMIT",
    "CREATE FUNCTION adds() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN IF tg_tag = 'CREATE SCHEMA' THEN CREATE TABLE added_by_trigger (x int); END IF; END $$",
    "CREATE EVENT TRIGGER adds ON ddl_command_end EXECUTE FUNCTION adds()",
    "CREATE SCHEMA makes_a_table",
    "DROP EVENT TRIGGER note; DROP EVENT TRIGGER refuse; DROP EVENT TRIGGER adds",
];

/// Runs the statements of an ordinary role and then the superuser's; every outcome, in order.
async fn outcomes(primary: &Primary, database: &str, version: ServerVersion) -> Vec<(&'static str, String)> {
    let dsn = primary.server.dsn(database);
    let app = session_as(&dsn, "app").await;
    let superuser = primary.server.client(database).await;
    let virtual_columns = if version == ServerVersion::Pypi18 { STATEMENTS_18 } else { &[] };
    let mut outcomes = Vec::new();
    for (session, statements) in
        [(&app, STATEMENTS), (&app, virtual_columns), (&superuser, SUPERUSER_STATEMENTS)]
    {
        for statement in statements {
            outcomes.push((*statement, sqlstate(session, statement).await));
            // A failed BEGIN; ...; COMMIT string leaves the transaction open.
            session.batch_execute("ROLLBACK").await.unwrap();
        }
    }
    outcomes
}

on_every_version! {
    async fn every_statement_ends_as_it_would_without_capture(version) {
        let primary = Primary::start(version).await;
        primary.server.database("bare").await;
        let roles = create_role(&primary.server, "app", "") + &create_role(&primary.server, "app_two", "");
        primary.run(&roles).await;
        for database in ["shop", "bare"] {
            primary.server.psql(database, &format!("GRANT CREATE ON SCHEMA public TO app; GRANT CREATE ON DATABASE {database} TO app")).await;
        }
        primary.prepare().await;

        let captured = outcomes(&primary, "shop", version).await;
        let bare = outcomes(&primary, "bare", version).await;
        for (captured, bare) in captured.iter().zip(&bare) {
            assert_eq!(captured, bare);
        }

        let publication = primary.options.publication.as_str();
        let shop = DatabaseState::capture_without_publications(&primary.server.dsn("shop"), &[publication]).await;
        let bare = DatabaseState::capture(&primary.server.dsn("bare")).await;
        assert_equal_states(&bare, &shop);
    }

    /// Our functions are read when they first run in a session, so each of these is one of its own. With our schema in
    /// search_path it is said that nothing is captured.
    async fn whatever_a_session_has_set_its_schema_changes_succeed_and_are_told(version) {
        let mut primary = Primary::start(version).await;
        // One table that must not be published makes the publication a list, which UNLOGGED has to get round.
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        primary.run(&create_role(&primary.server, "app", "")).await;
        primary.run("GRANT CREATE ON SCHEMA public TO app; CREATE TABLE harmed (x int)").await;
        let secret = primary.prepare().await.secret.unwrap();
        let mut seen = 0;
        for (setting, is_captured) in [
            ("standard_conforming_strings = off", true),
            ("quote_all_identifiers = on", true),
            ("plpgsql.extra_errors = 'all'", true),
            ("search_path = public, postgres_test_replay", false),
        ] {
            let session = primary.session_as("app").await;
            for statement in [
                &format!("SET escape_string_warning = off; SET {setting}"),
                "CREATE TABLE public.t (id int PRIMARY KEY)",
                "ALTER TABLE public.t ADD COLUMN a int",
                "ALTER TABLE public.t SET UNLOGGED",
                "ALTER TABLE public.t SET LOGGED",
                "DROP TABLE public.t",
            ] {
                assert_eq!(sqlstate(&session, statement).await, "00000", "{setting}: {statement}");
            }
            let told = primary.messages(&secret).await.0.split_off(seen);
            seen += told.len();
            let ends = told.iter().filter(|message| message["event"] == "ddl_command_end").count();
            let gaps = told.iter().filter(|message| message["event"] == "gap").count();
            assert_eq!((ends, gaps), if is_captured { (5, 0) } else { (0, told.len()) }, "{setting}: {told:#?}");
        }
    }

    /// The server does not take the first call of a function for simple any more, whose frame is what is believed.
    async fn what_a_cancelled_statement_leaves_in_its_transaction_fails_nothing_and_is_told(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        // As Ctrl-C does while the rows of a large table are sent.
        primary.run("CREATE OR REPLACE FUNCTION postgres_test_replay.send_rows(relation oid) RETURNS void LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(60); END $$").await;
        let session = primary.session().await;
        session.batch_execute("BEGIN; CREATE TABLE t (n int)").await.unwrap();
        for (number, expected) in ["57014", "57014", "57014", "00000", "00000"].into_iter().enumerate() {
            session.batch_execute("SAVEPOINT s").await.unwrap();
            assert_eq!(sqlstate(&session, "ALTER TABLE t ALTER n TYPE bigint").await, expected, "{number}");
            session.batch_execute("ROLLBACK TO s").await.unwrap();
            assert_eq!(sqlstate(&session, &format!("CREATE TABLE after_{number} (x int)")).await, "00000");
        }
        session.batch_execute("COMMIT; CREATE TABLE afterwards (x int)").await.unwrap();
        let told = primary.messages(&secret).await.0;
        let told: Vec<String> = told[1..].iter().map(|message| match message["event"].as_str() {
            Some("gap") => format!("gap {}", message["statement"].as_str().unwrap()),
            _ => message["objects"][0]["identity"].as_str().unwrap().to_owned(),
        }).collect();
        assert_eq!(told, ["public.t", "public.after_0", "public.after_1", "gap CREATE TABLE after_2 (x int)",
            "gap CREATE TABLE after_3 (x int)", "gap CREATE TABLE after_4 (x int)", "public.afterwards"]);
    }

    async fn default_privileges_of_our_owner_take_nothing_from_others_and_give_them_nothing(version) {
        let primary = Primary::start(version).await;
        primary.run(&(create_role(&primary.server, "app", "") + &create_role(&primary.server, "analyst", ""))).await;
        primary.run("GRANT CREATE ON SCHEMA public TO app;
            ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
            ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO analyst;
            ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO analyst;
            ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO analyst").await;
        primary.prepare().await;
        let app = primary.session_as("app").await;
        for statement in ["CREATE TABLE t (x int)", "ALTER TABLE t ADD y int", "CREATE TABLE c AS SELECT 1 AS x", "DROP TABLE t"] {
            assert_eq!(sqlstate(&app, statement).await, "00000", "{statement}");
        }
        let analyst = primary.session_as("analyst").await;
        for statement in [
            "SELECT secret FROM postgres_test_replay.configuration",
            "SELECT * FROM postgres_test_replay.wanted_identity",
            "SELECT postgres_test_replay.seal('{}')",
            "SELECT postgres_test_replay.unlist_tables(NULL)",
            "CREATE TABLE postgres_test_replay.t (x int)",
        ] {
            assert_eq!(sqlstate(&analyst, statement).await, "42501", "{statement}");
        }
    }

    async fn ten_thousand_statements_in_one_transaction_take_no_transaction_id_each(version) {
        let primary = Primary::start(version).await;
        primary.prepare().await;
        let count = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8";
        let before: i64 = primary.value(count).await.parse().unwrap();
        primary.run("BEGIN; DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE t%s (x int)', n); END LOOP; END $$; COMMIT").await;
        let after: i64 = primary.value(count).await.parse().unwrap();
        assert!(after - before < 10, "{} transaction ids", after - before);
    }

    async fn setting_up_a_second_database_leaves_the_first_alone(version) {
        let primary = Primary::start(version).await;
        primary.server.database("other").await;
        let mut other = options(&primary.server, "other");
        other.slot = ptr_capture::source::slot_name(&other.slot, "other", false);
        primary.prepare().await;
        prepare(&other, &()).await.unwrap();
        primary.run("CREATE TABLE t (x int)").await;
        assert!(primary.prepare().await.was_prepared);
        let slots = primary.value("SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots").await;
        assert_eq!(slots, "postgres_test_replay postgres_test_replay_other");
    }
}
