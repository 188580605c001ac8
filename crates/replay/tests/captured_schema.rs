//! A primary set up as users do it: base image, event triggers, and replay of what both say.

mod support;

use ptr_replay::Strategy;
use ptr_testkit::{ServerVersion, assert_equal_states};
use support::World;

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
