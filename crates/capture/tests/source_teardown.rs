//! Teardown leaves the primary as if capture had never been.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use ptr_capture::source::{TeardownStep, prepare, teardown};
use source_support::{Primary, create_role};

const SCHEMA: &str = "
    CREATE TABLE keyed (id int PRIMARY KEY, v text);
    CREATE TABLE keyless (v text);
    CREATE TABLE nothing (v text); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE already_full (v text); ALTER TABLE already_full REPLICA IDENTITY FULL;
    CREATE TABLE parted (id int) PARTITION BY RANGE (id);
    CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE by_index (a int NOT NULL, b int);
    CREATE UNIQUE INDEX by_index_a ON by_index (a);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a;
    CREATE SCHEMA \"Odd.Name\"; CREATE TABLE \"Odd.Name\".\"a \"\"b\" (x int);
    CREATE PUBLICATION theirs FOR TABLE keyed;";

/// As `pg_dump` writes it, without the random key that newer minor versions print.
async fn schema(primary: &Primary) -> String {
    let dump = primary.server.pg_dump_schema("shop").await;
    dump.lines().filter(|line| !line.contains("restrict")).collect::<Vec<_>>().join("\n")
}

async fn identities(primary: &Primary) -> String {
    primary
        .value(
            "SELECT string_agg(concat(c.oid::regclass, ' ', relreplident, ' ',
                (SELECT string_agg(indexrelid::regclass::text, ',') FROM pg_index WHERE indrelid = c.oid AND indisreplident)), E'\\n' ORDER BY c.oid)
             FROM pg_class c WHERE relkind IN ('r', 'p') AND oid >= 16384",
        )
        .await
}

on_every_version! {
    async fn the_schema_and_the_identities_are_as_before(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        let before = (schema(&primary).await, identities(&primary).await);
        primary.prepare().await;
        assert_ne!(identities(&primary).await, before.1);
        primary.run("UPDATE nothing SET v = 'x'; UPDATE keyless SET v = 'x'").await;

        let report = teardown(&primary.options, &()).await.unwrap();
        assert!(!report.steps.iter().any(|step| matches!(step, TeardownStep::Left { .. })), "{report:?}");
        assert_eq!((schema(&primary).await, identities(&primary).await), before);
        assert_eq!(primary.value("SELECT count(*) FROM pg_replication_slots").await, "0");

        // Again, there is nothing left to do.
        let report = teardown(&primary.options, &()).await.unwrap();
        assert!(report.steps.iter().all(|step| matches!(step, TeardownStep::NotThere { .. })), "{report:?}");
    }

    async fn tables_made_and_identities_asked_for_meanwhile_are_as_the_user_wants_them(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        let later = "
            CREATE TABLE new_one (id int PRIMARY KEY);
            CREATE TABLE new_full (id int); ALTER TABLE new_full REPLICA IDENTITY FULL;
            CREATE TABLE new_index (a int NOT NULL UNIQUE); ALTER TABLE new_index REPLICA IDENTITY USING INDEX new_index_a_key;
            ALTER TABLE keyed REPLICA IDENTITY NOTHING;
            ALTER TABLE by_index REPLICA IDENTITY DEFAULT;
            ALTER TABLE keyless RENAME TO keyless_renamed;";
        // What the same statements leave where nothing is captured.
        primary.server.database("bare").await;
        primary.server.psql("bare", SCHEMA).await;
        primary.server.psql("bare", later).await;
        let expected = "SELECT string_agg(concat(c.relname, relreplident), ' ' ORDER BY c.relname) FROM pg_class c WHERE relkind IN ('r', 'p') AND oid >= 16384";
        let bare = primary.server.psql("bare", expected).await;

        primary.prepare().await;
        primary.run(later).await;
        primary.run("UPDATE keyed SET v = 'x'; UPDATE new_index SET a = 1").await;
        teardown(&primary.options, &()).await.unwrap();
        assert_eq!(primary.server.psql("shop", expected).await, bare);
    }

    /// A string is seen whole with each of its statements.
    async fn an_identity_in_the_same_string_is_not_taken_for_another_tables(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        let strings = [
            "ALTER TABLE nothing REPLICA IDENTITY DEFAULT; ALTER TABLE keyed ADD COLUMN c int",
            "ALTER TABLE \"Odd.Name\".\"a \"\"b\" REPLICA IDENTITY FULL; ALTER TABLE keyless ADD COLUMN c int",
            "CREATE TABLE new_one (id int); CREATE TABLE new_two (id int); ALTER TABLE new_two
                REPLICA  IDENTITY full; ALTER TABLE new_one ADD COLUMN c int",
            "DO $$ BEGIN ALTER TABLE leaf REPLICA IDENTITY FULL; ALTER TABLE by_index ADD COLUMN c int; END $$",
        ];
        let expected = "SELECT string_agg(concat(c.relname, relreplident), ' ' ORDER BY c.relname) FROM pg_class c WHERE relkind IN ('r', 'p') AND oid >= 16384";
        primary.server.database("bare").await;
        primary.server.psql("bare", SCHEMA).await;
        let bare = primary.server.client("bare").await;
        primary.prepare().await;
        let session = primary.session().await;
        for string in strings {
            bare.batch_execute(string).await.unwrap();
            session.batch_execute(string).await.unwrap();
        }
        teardown(&primary.options, &()).await.unwrap();
        assert_eq!(primary.server.psql("shop", expected).await, primary.server.psql("bare", expected).await);
    }

    async fn without_its_record_it_removes_what_names_tell(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        let before = (schema(&primary).await, identities(&primary).await);
        primary.prepare().await;
        std::fs::remove_file(&primary.options.record_path).unwrap();
        let error = prepare(&primary.options, &()).await.unwrap_err().to_string();
        assert!(error.contains("slot"), "{error}");
        teardown(&primary.options, &()).await.unwrap();
        assert_eq!((schema(&primary).await, identities(&primary).await), before);
        assert_eq!(primary.value("SELECT count(*) FROM pg_replication_slots").await, "0");
    }

    async fn a_schema_of_our_name_that_somebody_else_made_runs_nothing_and_stays(version) {
        let primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "mallory", "")).await;
        primary.run("GRANT CREATE ON DATABASE shop TO mallory").await;
        let mallory = primary.session_as("mallory").await;
        mallory.batch_execute(r#"
            CREATE SCHEMA postgres_test_replay; CREATE TABLE postgres_test_replay.hers (x int);
            CREATE FUNCTION postgres_test_replay.evil() RETURNS text LANGUAGE plpgsql AS
                $$ BEGIN ALTER ROLE mallory SUPERUSER; RETURN 'x'; END $$;
            CREATE VIEW postgres_test_replay.configuration AS SELECT postgres_test_replay.evil() AS secret;
            CREATE VIEW postgres_test_replay.wanted_identity AS
                SELECT 0::oid AS relation, 'd'::"char" AS identity, postgres_test_replay.evil() AS index_name;
            GRANT ALL ON SCHEMA postgres_test_replay TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA postgres_test_replay TO PUBLIC
        "#).await.unwrap();
        let error = prepare(&primary.options, &()).await.unwrap_err().to_string();
        assert!(error.contains("mallory") && !error.contains("teardown"), "{error}");
        let report = teardown(&primary.options, &()).await.unwrap();
        assert!(report.steps.iter().any(|step| matches!(step, TeardownStep::Left { what, why }
            if what == "schema postgres_test_replay" && why.contains("mallory"))), "{report:?}");
        assert_eq!(primary.value("SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'").await, "f");
        assert_eq!(primary.value("SELECT count(*) FROM postgres_test_replay.hers").await, "0");
    }

    async fn things_that_are_gone_already_do_not_stop_it(version) {
        let primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        primary.prepare().await;
        primary.run("SELECT pg_drop_replication_slot('postgres_test_replay'); DROP PUBLICATION postgres_test_replay;
                     DROP EVENT TRIGGER \"!postgres_test_replay_end\"; DROP TABLE keyed; DROP INDEX by_index_a").await;
        let report = teardown(&primary.options, &()).await.unwrap();
        let gone = report.steps.iter().filter(|step| matches!(step, TeardownStep::NotThere { .. })).count();
        assert_eq!(gone, 3, "{report:?}");
        assert_eq!(primary.value("SELECT count(*) FROM pg_event_trigger").await, "0");
    }

    async fn excluded_tables_keep_their_identity(version) {
        let mut primary = Primary::start(version).await;
        primary.run(SCHEMA).await;
        primary.options.exclude_tables = vec![ptr_postgres::QualifiedName::new("public", "keyed")];
        primary.prepare().await;
        let identity = "SELECT relreplident FROM pg_class WHERE relname = 'keyed'";
        assert_eq!(primary.value(identity).await, "d");
        primary.run("ALTER TABLE keyed ADD COLUMN w int").await;
        assert_eq!(primary.value(identity).await, "d");
    }
}
