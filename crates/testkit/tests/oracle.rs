//! The oracle sees what differs and nothing else, on both versions.

use ptr_testkit::{DatabaseState, ServerVersion, TestServer, TestServerOptions, assert_equal_states};

/// One of everything: inheritance, partitions, generated columns, a materialised view, types without
/// an order, sequences.
const SCHEMA: &str = "
CREATE TABLE parent (id int PRIMARY KEY, note text);
CREATE TABLE child (extra json) INHERITS (parent);
CREATE TABLE parts (day date NOT NULL, n serial) PARTITION BY RANGE (day);
CREATE TABLE parts_2024 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE boxes (a int, twice int GENERATED ALWAYS AS (a * 2) STORED, at point, doc json);
CREATE MATERIALIZED VIEW total AS SELECT count(*) FROM parent WITH NO DATA;
CREATE UNLOGGED TABLE scratch (i int);
INSERT INTO parent VALUES (1, 'one'), (2, E'two\\tand \\\\ more');
INSERT INTO child VALUES (3, 'three', '{\"b\":1,  \"a\":2}');
INSERT INTO parts (day) SELECT date '2024-01-01' + i FROM generate_series(0, 9) i;
INSERT INTO boxes (a, at, doc) VALUES (1, '(1,2)', '{\"a\": 1}'), (1, '(1,2)', '{\"a\": 1}');
REFRESH MATERIALIZED VIEW total;
";

/// What capture puts on a primary.
const CAPTURE: &str = "
CREATE SCHEMA postgres_test_replay;
CREATE TABLE postgres_test_replay.note (i int);
CREATE FUNCTION postgres_test_replay.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER \"!postgres_test_replay\" ON ddl_command_end EXECUTE FUNCTION postgres_test_replay.on_ddl();
COMMENT ON EVENT TRIGGER \"!postgres_test_replay\" IS 'ours';
COMMENT ON SCHEMA postgres_test_replay IS 'ours';
GRANT USAGE ON SCHEMA postgres_test_replay TO PUBLIC;
CREATE PUBLICATION feed FOR TABLE parent;
ALTER TABLE parent REPLICA IDENTITY FULL;
INSERT INTO scratch VALUES (1);
";

async fn pair(version: ServerVersion) -> (TestServer, DatabaseState) {
    let server = TestServer::start(version, TestServerOptions::default()).await;
    server.database("one").await;
    server.psql("one", SCHEMA).await;
    server.database_from("two", "one").await;
    let state = DatabaseState::capture(&server.dsn("one")).await;
    (server, state)
}

#[tokio::test]
async fn a_copy_is_equal_and_so_is_a_primary_under_capture() {
    for version in ServerVersion::ALL {
        let (server, expected) = pair(version).await;
        assert_equal_states(&expected, &DatabaseState::capture(&server.dsn("two")).await);
        server.psql("two", CAPTURE).await;
        let captured = DatabaseState::capture_without_publications(&server.dsn("two"), &["feed"]).await;
        assert_equal_states(&expected, &captured);
    }
}

#[tokio::test]
async fn row_order_on_disk_makes_no_difference() {
    let (server, expected) = pair(ServerVersion::Debian15).await;
    server.psql("two", "UPDATE parent SET note = note WHERE id = 1").await;
    assert_equal_states(&expected, &DatabaseState::capture(&server.dsn("two")).await);
}

#[tokio::test]
async fn every_kind_of_difference_is_seen_and_named() {
    let (server, expected) = pair(ServerVersion::Pypi18).await;
    for (change, seen) in [
        ("UPDATE ONLY parent SET note = 'uno' WHERE id = 1", "+ \"public\".\"parent\": 1\tuno"),
        ("UPDATE child SET extra = '{\"b\":1, \"a\":2}'", "- \"public\".\"child\""),
        ("DELETE FROM boxes WHERE ctid = '(0,1)'", "- \"public\".\"boxes\": 1\t(1,2)\t{\"a\": 1}\t2"),
        ("SELECT setval('parts_n_seq', 99)", "sequence \"public\".\"parts_n_seq\""),
        ("ALTER TABLE parent ALTER note SET DEFAULT 'x'", "+ schema: parent; Type: TABLE"),
        ("REFRESH MATERIALIZED VIEW total WITH NO DATA", "- table \"public\".\"total\""),
        ("CREATE TABLE more ()", "+ table \"public\".\"more\""),
    ] {
        server.psql("two", change).await;
        let differences = expected.differences(&DatabaseState::capture(&server.dsn("two")).await);
        assert!(differences.iter().any(|text| text.starts_with(seen)), "{change}: {differences:#?}");
    }
}
