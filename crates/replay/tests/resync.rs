//! A table that replay could not follow gets the primary's rows at a position, and is replayed from there on.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::time::Duration;

use ptr_log::{Decision, DecisionId, DecisionKind, TableName};
use ptr_model::{Position, Timestamp};
use ptr_replay::{Choice, Decisions, Notice, Strategy, keyframe::Reason, resync, snapshot::Exported};
use ptr_testkit::{ServerVersion, assert_equal_states, wait_until};
use support::{PRIMARY, World};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CONTENTS: &str = "taken";

impl World {
    /// Takes a table from the primary, which is quiet, and decides; the position of what was taken.
    async fn resync(&mut self, table: &str, from: Position) -> Position {
        let until = self.capture().await;
        let table: TableName = table.parse().unwrap();
        let snapshot = Exported::open(&self.server.dsn(PRIMARY)).await.unwrap();
        let folder = self.folder.path().join("resync").join(CONTENTS);
        let taken = resync::take(&snapshot, &table, &folder).await.unwrap_or_else(|error| panic!("{error}"));
        let mut dump = std::process::Command::new(self.server.cluster().installation().program("pg_dump"));
        self.server.dsn(PRIMARY).apply_to(&mut dump);
        let dump = dump
            .args(["--schema-only", "--no-publications"])
            .arg(format!("--snapshot={}", snapshot.id()))
            .arg(format!("--table={table}"))
            .arg(format!("--file={}", folder.join(resync::SCHEMA).display()));
        assert!(dump.status().unwrap().success());
        resync::keep(&folder, self.folder.path()).unwrap();
        snapshot.close().await;
        let kind = DecisionKind::Resync { table, oid: Some(taken.oid), until, contents: CONTENTS.to_owned() };
        let decision = Decision {
            id: DecisionId(1),
            session_id: self.session.session_id,
            from,
            kind,
            what: String::new(),
            decided_at: Timestamp(0),
        };
        self.decisions = Decisions::new(vec![decision]).with_contents_in(&self.folder.path().join("resync"));
        until
    }

    async fn read(&self, sql: &str) -> String {
        self.server.psql(&self.session.name, sql).await.trim().to_owned()
    }
}

async fn versions(test: impl AsyncFn(ServerVersion)) {
    for version in [ServerVersion::Debian15, ServerVersion::Pypi18] {
        test(version).await;
    }
}

const SHOP: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO t SELECT i, E'a\\tb\\\\\\n' FROM generate_series(1, 1000) i";

#[tokio::test]
async fn a_table_that_somebody_wrote_to_is_the_primarys_again_and_each_time_the_session_passes() {
    versions(async |version| {
        let mut world = World::new(version, SHOP).await;
        world.go(world.log.creation()).await;
        let (start, before) = world.arrives().await;
        world.sql("UPDATE t SET v = NULL WHERE id = 7; INSERT INTO other VALUES (1)").await;
        world.sql("INSERT INTO other VALUES (2)").await;
        world.sql("DELETE FROM t WHERE id > 900; INSERT INTO t (id, v) VALUES (5000, '\\N')").await;
        let head = world.capture().await;
        world.tamper("DELETE FROM t WHERE id = 7").await;
        let stop = world.stops(head).await;
        assert!(stop.choices().contains(&Choice::Resync), "{stop}");

        let until = world.resync("t", stop.position).await;
        assert_eq!(until, head);
        world.sql("UPDATE t SET v = 'later' WHERE id = 8; INSERT INTO other VALUES (3)").await;
        let (later, expected) = world.arrives().await;

        // Taken back within the database as far as it was resynchronised, and not further.
        let back = world.go(until).await;
        assert_eq!(back.strategy, Strategy::Undo);
        let middle = world.log.position_at(stop.position.ordinal + 1).unwrap();
        let back = world.go(middle).await;
        assert_eq!(
            (back.strategy, back.reason.as_str()),
            (Strategy::Keyframe, "a table that was resynchronised on the way cannot be taken back (entry 2)")
        );
        assert_eq!(world.read("SELECT array_agg(id) FROM other").await, "{1}");
        assert_eq!(world.read("SELECT count(*), count(v) FROM t").await, "1000|1000", "left out until then");
        let there = world.go(until).await;
        let loaded = Notice::Resynchronised { decision: 1, table: "public.t".into(), rows: 901 };
        assert!(there.notices.contains(&loaded), "{:?}", there.notices);
        world.go(start).await;
        assert_equal_states(&before, &world.session_state().await);
        world.go(later).await;
        assert_equal_states(&expected, &world.session_state().await);
    })
    .await;
}

#[tokio::test]
async fn a_table_without_identity_is_the_primarys_again_beside_a_users_publication() {
    versions(async |version| {
        let mut world = World::set_up(version, "").await;
        world.go(world.log.creation()).await;
        let made =
            "CREATE TABLE t (id int, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i";
        world.sql(made).await;
        world.sql("CREATE PUBLICATION everything FOR ALL TABLES").await;
        world.arrives().await;
        world.sql("UPDATE t SET v = 'changed' WHERE id = 7").await;
        let head = world.capture().await;
        world.tamper("TRUNCATE t; INSERT INTO t VALUES (0, 'not of the primary')").await;
        let stop = world.stops(head).await;
        world.resync("t", stop.position).await;
        world.arrives().await;
        world.sql("DELETE FROM t WHERE id > 10; UPDATE t SET v = upper(v)").await;
        world.arrives().await;
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_missing_or_has_other_columns_is_made_as_the_primary_has_it() {
    versions(async |version| {
        let mut world = World::new(version, SHOP).await;
        world.go(world.log.creation()).await;
        // Nothing in the log tells of these.
        world
            .sql(
                "CREATE ROLE keeper; CREATE SCHEMA s;
                 CREATE TABLE s.\"Made\" (id serial PRIMARY KEY, of int REFERENCES other, v text DEFAULT E'x\\n\\\\.\\n--');
                 CREATE INDEX ON s.\"Made\" (v); COMMENT ON TABLE s.\"Made\" IS 'kept';
                 ALTER TABLE s.\"Made\" REPLICA IDENTITY FULL; GRANT SELECT ON s.\"Made\" TO keeper",
            )
            .await;
        world.tamper("CREATE SCHEMA s").await;
        world.sql("INSERT INTO other VALUES (1); INSERT INTO s.\"Made\" (of) VALUES (1), (1)").await;
        let head = world.capture().await;
        let stop = world.stops(head).await;
        assert_eq!(stop.choices(), [Choice::Skip, Choice::Resync, Choice::LeaveOut, Choice::Stay], "{stop}");
        assert!(stop.reason.contains("was left out"), "{stop}");
        world.resync("s.\"Made\"", stop.position).await;
        world.arrives().await;
        world.tamper("INSERT INTO s.\"Made\" (of) VALUES (1)").await;
        assert_eq!(world.read("SELECT max(id) FROM s.\"Made\"").await, "3", "the sequence goes on");
        world.tamper("DELETE FROM s.\"Made\" WHERE id = 3").await;
        world.sql("UPDATE s.\"Made\" SET v = 'b'").await;
        world.arrives().await;

        // Columns that the replica does not have.
        std::fs::remove_dir_all(world.folder.path().join("resync")).unwrap();
        world.decisions = Decisions::default();
        let here = world.cursor().await;
        world.sql("ALTER TABLE s.\"Made\" ADD COLUMN extra int DEFAULT 5; UPDATE s.\"Made\" SET extra = 6").await;
        let head = world.capture().await;
        let stop = world.stops(head).await;
        assert_eq!(stop.position, here, "{stop}");
        world.resync("s.\"Made\"", stop.position).await;
        world.tamper("CREATE VIEW s.needs AS SELECT id FROM s.\"Made\"").await;
        let stop = world.stops(head).await;
        assert!(stop.reason.contains("cannot drop table") && stop.table.is_some(), "{stop}");
        world.tamper("DROP VIEW s.needs").await;
        world.arrives().await;
    })
    .await;
}

#[tokio::test]
async fn a_materialised_view_and_tables_with_computed_columns_or_none_are_taken_too() {
    versions(async |version| {
        let schema = "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2); CREATE TABLE none ();
                      CREATE TABLE made (a int, b int GENERATED ALWAYS AS IDENTITY, c int GENERATED ALWAYS AS (a + 1) STORED);
                      CREATE MATERIALIZED VIEW m AS SELECT id, random() AS r FROM t";
        for table in ["m", "none", "made"] {
            let mut world = World::new(version, schema).await;
            let start = world.log.creation();
            world.go(start).await;
            // The refresh is not in the log: it is no statement of `World::ddl`.
            world
                .sql(
                    "INSERT INTO t VALUES (3); INSERT INTO none DEFAULT VALUES; REFRESH MATERIALIZED VIEW m;
                     INSERT INTO made (a) VALUES (1), (2)",
                )
                .await;
            world.resync(table, start).await;
            let expected = world.primary_state().await;
            let until = world.capture().await;
            world.go(until).await;
            if table == "m" {
                assert_equal_states(&expected, &world.session_state().await);
            } else {
                let rows = format!("SELECT count(*), string_agg({table}::text, ',') FROM {table}");
                assert_eq!(world.read(&rows).await, world.server.psql(PRIMARY, &rows).await.trim());
            }
        }
    })
    .await;
}

/// The nearest image of any session is of the very position that the rows are of, and holds what the log says.
#[tokio::test]
async fn rows_are_taken_at_head_though_a_keyframe_stands_there() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY); CREATE MATERIALIZED VIEW m AS SELECT id FROM t";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    // The refresh is not in the log: it is no statement of `World::ddl`.
    world.sql("INSERT INTO t VALUES (1), (2); REFRESH MATERIALIZED VIEW m").await;
    let head = world.capture().await;
    world.go(head).await;
    assert_eq!(world.read("SELECT count(*) FROM m").await, "0");
    let (_moves, mut quiet) = watch::channel(0);
    let (keyframes, cancel) = (world.session.keyframes(), CancellationToken::new());
    keyframes.make(&world.log, head, Reason::Manual, &mut quiet, &cancel).await.unwrap();

    let until = world.resync("m", head).await;
    assert_eq!(until, head);
    let made = world.rebuild(head).await.unwrap();
    let loaded = Notice::Resynchronised { decision: 1, table: "public.m".into(), rows: 2 };
    assert!(made.notices.contains(&loaded), "{:?}", made.plan);
    assert_equal_states(&world.primary_state().await, &world.session_state().await);
}

#[tokio::test]
async fn whatever_ends_a_load_the_session_is_before_it_whole() {
    let mut world = World::new(ServerVersion::Debian15, SHOP).await;
    let (start, _) = world.arrives().await;
    world.sql("INSERT INTO other VALUES (1)").await;
    let (here, before) = world.arrives().await;
    world.sql("UPDATE t SET v = 'b'").await;
    let until = world.resync("t", start).await;
    let expected = world.primary_state().await;

    // The connection ends while the table's rows go in.
    let holder = world.server.client("session").await;
    holder.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").await.unwrap();
    let killed = async {
        let waiting =
            "SELECT pid FROM pg_stat_activity WHERE datname = 'session' AND wait_event_type = 'Lock'";
        let admin = world.server.client("postgres").await;
        wait_until("the load waits for the table", Duration::from_secs(30), async || {
            admin.query_opt(waiting, &[]).await.unwrap().is_some()
        })
        .await;
        let kill = format!("SELECT pg_terminate_backend(pid) FROM ({waiting}) w");
        admin.batch_execute(&kill).await.unwrap();
    };
    let (moved, ()) = tokio::join!(world.try_go(until), killed);
    assert!(moved.is_err());
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(world.cursor().await, here);
    assert_equal_states(&before, &world.session_state().await);

    // What was taken is not what was written.
    let rows = world.folder.path().join("resync").join(CONTENTS).join("rows.copy");
    let sound = std::fs::read(&rows).unwrap();
    let mut damaged = sound.clone();
    *damaged.iter_mut().rfind(|byte| **byte == b'b').unwrap() = b'c';
    std::fs::write(&rows, &damaged).unwrap();
    let stop = world.stops(until).await;
    assert!(stop.reason.contains("rows.copy") && stop.choices().contains(&Choice::Resync), "{stop}");
    assert_eq!(stop.position, here);
    assert_equal_states(&before, &world.session_state().await);

    std::fs::write(&rows, sound).unwrap();
    world.go(until).await;
    assert_equal_states(&expected, &world.session_state().await);
}

/// DROP INDEX CONCURRENTLY waits twice: for who may still read the index, then for who may still write to it. New
/// transactions leave it alone during the second wait, and what they commit comes before the drop in the log.
#[tokio::test]
async fn a_unique_index_that_is_about_to_be_dropped_is_named_where_it_refuses_a_row() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE UNIQUE INDEX \"Of v\" ON t (v);
        INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i";
    let mut world = World::set_up(ServerVersion::Debian15, schema).await;
    world.go(world.log.creation()).await;
    let client = async || world.server.client(PRIMARY).await;
    let (reader, writer, dropping) = (client().await, client().await, client().await);
    reader.batch_execute("BEGIN; INSERT INTO t VALUES (21, 'read')").await.unwrap();
    let drop = async {
        dropping.batch_execute("DROP INDEX CONCURRENTLY \"Of v\"").await.unwrap();
    };
    let is = async |flag: &str| {
        let sql = format!("SELECT {flag} FROM pg_index WHERE indexrelid = '\"Of v\"'::regclass");
        world.primary.query_one(&sql, &[]).await.unwrap().get::<_, bool>(0)
    };
    let others = async {
        let limit = Duration::from_secs(30);
        wait_until("the index is invalid", limit, async || !is("indisvalid").await).await;
        writer.batch_execute("BEGIN; INSERT INTO t VALUES (22, 'write')").await.unwrap();
        reader.batch_execute("COMMIT").await.unwrap();
        wait_until("the index is dead", limit, async || !is("indislive").await).await;
        world.sql("INSERT INTO t VALUES (23, 'v1')").await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    tokio::join!(drop, others);
    let head = world.capture().await;
    let stop = world.stops(head).await;
    assert_eq!(stop.sqlstate.as_deref(), Some("23505"), "{stop}");
    let follows = "\"DROP INDEX CONCURRENTLY \\\"Of v\\\"\" follows, which says so only when it is done";
    assert!(stop.reason.ends_with(follows), "{}", stop.reason);
    assert!(stop.choices().contains(&Choice::Resync), "{stop}");
    world.resync("t", stop.position).await;
    world.arrives().await;
}
