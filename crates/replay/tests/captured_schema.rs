//! A primary set up as users do it: base image, event triggers, and replay of what both say.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_replay::{Choice, Notice, Strategy};
use ptr_testkit::{ServerVersion, assert_equal_states};
use support::{PRIMARY, World};

const SCHEMA: &str = "
CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL, price numeric(10, 2));
CREATE TABLE note (what text);
INSERT INTO item (name, price) SELECT 'item ' || i, i FROM generate_series(1, 20) i;
CREATE MATERIALIZED VIEW chance AS SELECT random() AS x FROM generate_series(1, 3);
CREATE INDEX ON chance (x);
COMMENT ON DATABASE shop IS 'of the shop';
ALTER DATABASE shop SET search_path = public, pg_catalog;";

/// Each is one transaction, or what a client sends in one string.
const STEPS: &[&str] = &[
    "INSERT INTO note VALUES ('first')",
    "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int REFERENCES item, at timestamptz DEFAULT now())",
    "INSERT INTO orders (item) SELECT id FROM item WHERE id < 5",
    "ALTER TABLE item ADD added timestamptz NOT NULL DEFAULT now()",
    "BEGIN; ALTER TABLE item RENAME price TO cost; ALTER TABLE item ADD lucky float8 DEFAULT random(); UPDATE item SET name = upper(name), cost = 7 WHERE id = 3; COMMIT",
    "CREATE VIEW dear AS SELECT * FROM item WHERE cost > 10; CREATE INDEX ON item (cost); CREATE TYPE mood AS ENUM ('sad', 'happy')",
    "ALTER TABLE note ADD m mood DEFAULT 'sad'; INSERT INTO note VALUES ('second', 'happy')",
    "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1'; CREATE TABLE copied AS SELECT id, random() AS r FROM item",
    "DROP VIEW dear; ALTER TABLE item ALTER cost TYPE text USING cost::text || random()",
    "DO $$ BEGIN CREATE TABLE inner_one (a int); INSERT INTO inner_one VALUES (1); END $$",
    "CREATE SCHEMA other; CREATE TABLE other.t (a int PRIMARY KEY); INSERT INTO other.t VALUES (1); ALTER TABLE other.t SET SCHEMA public",
    "CREATE TABLE part (id int, k text) PARTITION BY LIST (k); CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a'); INSERT INTO part VALUES (1, 'a')",
    "TRUNCATE orders; DROP TABLE copied; DROP FUNCTION f; DELETE FROM note WHERE what = 'first'",
    "GRANT SELECT ON item TO PUBLIC; COMMENT ON TABLE item IS 'what is sold'",
];

async fn schema_changes_are_replayed(version: ServerVersion) {
    let mut world = World::set_up(version, SCHEMA).await;
    let mut kept = vec![(world.log.creation(), world.primary_state().await)];
    for step in STEPS {
        world.sql(step).await;
        let position = world.capture().await;
        kept.push((position, world.primary_state().await));
    }
    let mut strategies = Vec::new();
    for (position, expected) in kept.iter().chain(kept.iter().rev().step_by(3)) {
        strategies.push(world.go(*position).await.strategy);
        assert_equal_states(expected, &world.session_state().await);
    }
    assert!(strategies.contains(&Strategy::Keyframe) && strategies.contains(&Strategy::Redo));
}

#[tokio::test]
async fn captured_schema_changes_are_replayed_on_15() {
    schema_changes_are_replayed(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn captured_schema_changes_are_replayed_on_18() {
    schema_changes_are_replayed(ServerVersion::Pypi18).await;
}

/// The log is in the order of commits: what was not there yet when the statement ran is there before it on the replica.
#[tokio::test]
async fn a_drop_that_found_nothing_drops_nothing_that_another_session_made_meanwhile() {
    for version in ServerVersion::ALL {
        let mut world = World::set_up(version, SCHEMA).await;
        world
            .sql("CREATE TABLE old (a int); CREATE FUNCTION of_old(int) RETURNS SETOF old LANGUAGE sql AS 'TABLE old'")
            .await;
        world.arrives().await;
        let other = world.server.client(PRIMARY).await;
        world.sql("BEGIN; DROP TABLE IF EXISTS staging; DROP VIEW IF EXISTS seen; DROP SCHEMA IF EXISTS area CASCADE").await;
        world
            .sql(
                "DROP FUNCTION IF EXISTS g(int); DROP TYPE IF EXISTS size; DROP INDEX IF EXISTS by_what;
                 DROP SEQUENCE IF EXISTS ticket; DROP TRIGGER IF EXISTS nothing ON item; DROP TABLE IF EXISTS own;
                 CREATE TABLE own (a int); DO $$ BEGIN DROP TABLE IF EXISTS staging; END $$;
                 DROP TABLE IF EXISTS staging, old CASCADE; DROP SCHEMA IF EXISTS area, none_such CASCADE",
            )
            .await;
        other
            .batch_execute(
                "CREATE TABLE staging (a int); INSERT INTO staging VALUES (1); CREATE VIEW seen AS SELECT * FROM staging;
                 CREATE SCHEMA area CREATE TABLE t (a int); CREATE INDEX by_what ON note (what); CREATE SEQUENCE ticket;
                 CREATE FUNCTION g(int) RETURNS int LANGUAGE sql AS 'SELECT $1'; CREATE TYPE size AS ENUM ('s', 'l')",
            )
            .await
            .unwrap();
        world.sql("COMMIT").await;
        world.arrives().await;
        // A user's event trigger that drops before the command ends that fired it.
        world
            .sql(
                "CREATE TABLE note_of_staging (a int); CREATE FUNCTION tidy() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                 DROP TABLE IF EXISTS nothing; DROP TABLE IF EXISTS note_of_staging, own; END $$;
                 CREATE EVENT TRIGGER tidy ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP VIEW') EXECUTE FUNCTION tidy()",
            )
            .await;
        world
            .sql("DROP VIEW seen; CREATE TABLE own (a int); DROP TABLE staging; DROP EVENT TRIGGER tidy")
            .await;
        world.arrives().await;
        // What finds something is run again, whatever stands before it in the same string.
        world
            .sql(
                "DROP TABLE IF EXISTS nothing; DROP TABLE IF EXISTS item CASCADE; DROP SCHEMA IF EXISTS area CASCADE;
                 DROP FUNCTION IF EXISTS nothing(int); DROP FUNCTION IF EXISTS g(int); DROP TABLE IF EXISTS note, nothing",
            )
            .await;
        world.arrives().await;
    }
}

/// Where others are refused nothing, but told in a warning that they grant nothing, or own something else.
#[tokio::test]
async fn what_a_superuser_of_the_primary_grants_is_granted_where_the_role_is_none() {
    for version in ServerVersion::ALL {
        let roles = "CREATE ROLE alice SUPERUSER; CREATE ROLE reader; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'";
        let mut world = World::set_up(version, roles).await;
        world.arrives().await;
        world
            .sql(
                "SET ROLE alice; GRANT USAGE ON SCHEMA public TO reader; GRANT EXECUTE ON FUNCTION f() TO reader;
                 REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC; RESET ROLE",
            )
            .await;
        // The trusted extension's script would be run by the server's first superuser.
        let has_contrib = version == ServerVersion::Debian15;
        if has_contrib {
            world.sql("SET ROLE alice; CREATE EXTENSION citext; RESET ROLE").await;
        }
        let head = world.capture().await;
        let expected = world.primary_state().await;
        // With this the extension would be hers, and what it makes not.
        world.tamper("ALTER ROLE alice NOSUPERUSER; GRANT CREATE ON DATABASE session TO alice").await;
        let outcome = world.go(head).await;
        assert_equal_states(&expected, &world.session_state().await);
        let is_lent =
            |notice: &&Notice| matches!(notice, Notice::RanWithMoreRights { role, .. } if role == "alice");
        let lent = outcome.notices.iter().filter(is_lent).count();
        assert_eq!(lent, if has_contrib { 4 } else { 3 }, "{:?}", outcome.notices);
        let ask = async |sql: &str| world.server.psql(&world.session.name, sql).await.trim().to_owned();
        assert_eq!(ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'alice'").await, "f");
        if has_contrib {
            assert_eq!(ask("SELECT typowner::regrole FROM pg_type WHERE typname = 'citext'").await, "alice");
        }
    }
}

#[tokio::test]
async fn a_setting_that_a_function_takes_from_its_session_is_the_sessions_or_stops_replay() {
    for (version, unknown) in
        [(ServerVersion::Debian15, "statement_timeout"), (ServerVersion::Pypi18, "session_replication_role")]
    {
        let mut world = World::set_up(version, SCHEMA).await;
        world
            .sql(
                "SET search_path = public, pg_temp; SET timezone = 'Asia/Tokyo';
                 CREATE FUNCTION f() RETURNS text LANGUAGE sql SET search_path FROM CURRENT SET TimeZone FROM CURRENT AS 'SELECT 1';
                 ALTER FUNCTION f() SET DateStyle FROM CURRENT",
            )
            .await;
        world.arrives().await;
        world.sql(&format!("ALTER FUNCTION f() SET {unknown} FROM CURRENT")).await;
        let head = world.capture().await;
        let stop = world.stops(head).await;
        assert!(stop.reason.contains(&format!("SET {unknown} FROM CURRENT")), "{stop}");
        assert_eq!(stop.choices(), [Choice::Skip, Choice::Stay], "{stop}");
    }
}

#[tokio::test]
async fn bounds_of_foreign_partitions_and_of_those_made_with_their_schema_are_the_primarys() {
    for version in ServerVersion::ALL {
        let schema = "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w;
            CREATE TABLE m (at timestamptz) PARTITION BY RANGE (at)";
        let mut world = World::set_up(version, schema).await;
        world
            .sql("CREATE FOREIGN TABLE old PARTITION OF m FOR VALUES FROM (MINVALUE) TO (now()) SERVER far")
            .await;
        world
            .sql(
                "CREATE SCHEMA area CREATE TABLE q (at timestamptz) PARTITION BY RANGE (at)
                    CREATE TABLE q_old PARTITION OF q FOR VALUES FROM (MINVALUE) TO (now())",
            )
            .await;
        world.arrives().await;
    }
}
