//! `verify` says equal where the databases are, and names what differs where they are not.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_postgres::Dsn;
use ptr_replay::{
    VerifyReport,
    snapshot::Exported,
    verify,
    verify::{ColumnDifference, RowDifference, Side, TableReport, VerifyOptions, VerifyProgress, hash},
};
use ptr_testkit::{ServerVersion, TestServer, TestServerOptions};
use support::{PRIMARY, World};
use tokio::sync::watch;

fn options(server: &TestServer) -> VerifyOptions {
    VerifyOptions {
        installation: server.cluster().installation().clone(),
        publication: "postgres_test_replay".into(),
        jobs: 3,
        application_name: "comparing".into(),
    }
}

async fn compare(server: &TestServer, primary: &Dsn, replica: &Dsn) -> (VerifyReport, VerifyProgress) {
    let (primary, replica) = (Exported::open(primary).await.unwrap(), Exported::open(replica).await.unwrap());
    let (progress, watched) = watch::channel(VerifyProgress::default());
    let report = verify(&primary, &replica, &options(server), &progress).await;
    let last = watched.borrow().clone();
    (report.unwrap_or_else(|error| panic!("{error}")), last)
}

async fn report(world: &World) -> VerifyReport {
    compare(&world.server, &world.server.dsn(PRIMARY), &world.dsn()).await.0
}

fn table<'a>(report: &'a VerifyReport, name: &str) -> &'a TableReport {
    report.tables.iter().find(|table| table.table == name).unwrap()
}

fn column(column: &str, primary: Option<&str>, replica: Option<&str>) -> ColumnDifference {
    ColumnDifference {
        column: column.into(),
        primary: primary.map(Into::into),
        replica: replica.map(Into::into),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_databases_are_equal_and_each_difference_is_named() {
    let schema = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE \"B \" (x int, p point);
                  CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES;
                  CREATE TABLE gone (x int); CREATE INDEX dropped ON a (v);
                  CREATE TABLE two (k text, n int, v bytea, PRIMARY KEY (k, n));
                  INSERT INTO two VALUES ('ä', 1, 'x'), ('b', 2, NULL);
                  CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
                  CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
                  CREATE TABLE leaves (id int, double int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id);
                  CREATE TABLE leaf PARTITION OF leaves FOR VALUES FROM (0) TO (100);
                  INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1); INSERT INTO leaves VALUES (7);
                  CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
                  CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS one WITH NO DATA;
                  INSERT INTO \"B \" VALUES (1, '(1,2)'), (1, '(1,2)'), (NULL, NULL)";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    world.sql("INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, 5000) i").await;
    let end = world.capture().await;
    world.go(end).await;
    let equal = report(&world).await;
    assert!(equal.is_equal(), "{equal:#?}");
    assert_eq!(equal.disturbed, Vec::<String>::new());
    assert_eq!(table(&equal, "\"public\".\"a\"").replica_rows, Some(5000));
    let change = "SET default_transaction_read_only = off; DROP TABLE gone; DROP INDEX dropped;
                  UPDATE a SET v = 'other' WHERE id = 77; DELETE FROM a WHERE id = 9; INSERT INTO a VALUES (-3, NULL);
                  UPDATE two SET v = 'y' WHERE n = 1; INSERT INTO empty DEFAULT VALUES;
                  CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2';
                  DELETE FROM ONLY parent; CREATE INDEX extra ON a (v);
                  INSERT INTO \"B \" SELECT * FROM \"B \" WHERE x IS NULL";
    world.server.psql("session", change).await;
    let report = report(&world).await;
    let entry = |one: &ptr_replay::verify::SchemaDifference| {
        (one.entry.split(';').next().unwrap().to_owned(), one.only_on)
    };
    let expected = [
        ("dropped", Some(Side::Primary)),
        ("extra", Some(Side::Replica)),
        ("f()", None),
        ("gone", Some(Side::Primary)),
    ];
    let expected = expected.map(|(name, only_on)| (name.to_owned(), only_on));
    assert_eq!(report.schema.iter().map(entry).collect::<Vec<_>>(), expected);
    let a = table(&report, "\"public\".\"a\"");
    let row =
        |key: Option<&str>, only_on, columns| RowDifference { key: key.map(Into::into), only_on, columns };
    let expected = [
        row(
            Some("id=-3"),
            Some(Side::Replica),
            vec![column("id", None, Some("-3")), column("v", None, None)],
        ),
        row(
            Some("id=9"),
            Some(Side::Primary),
            vec![column("id", Some("9"), None), column("v", Some("v9"), None)],
        ),
        row(Some("id=77"), None, vec![column("v", Some("v77"), Some("other"))]),
    ];
    assert_eq!(a.first_differences, expected);
    let two = table(&report, "\"public\".\"two\"");
    let changed = row(Some("(k, n)=(ä,1)"), None, vec![column("v", Some("\\x78"), Some("\\x79"))]);
    assert_eq!(two.first_differences, [changed]);
    let b = table(&report, "\"public\".\"B \"");
    assert_eq!((b.primary_rows, b.replica_rows), (Some(3), Some(4)));
    let twice = row(None, Some(Side::Replica), vec![column("p", None, None), column("x", None, None)]);
    assert_eq!(b.first_differences, [twice]);
    assert_eq!(table(&report, "\"public\".\"empty\"").replica_rows, Some(2));
    assert_eq!(table(&report, "\"public\".\"gone\"").replica_rows, None);
    let differing = report.tables.iter().filter(|table| !table.is_equal()).count();
    assert_eq!(differing, 6, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_comment_or_a_function_that_says_nothing_as_sql_is_a_difference() {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let schema =
        "CREATE TABLE t (id int); ALTER TABLE t REPLICA IDENTITY FULL; COMMENT ON TABLE t IS E'a\n\nb';
                  CREATE FUNCTION empty() RETURNS int LANGUAGE sql AS E'\nSELECT\n\n1\n';
                  CREATE FUNCTION noted() RETURNS int LANGUAGE sql AS E'\n-- it''s one\nSELECT 1\n';
                  CREATE FUNCTION same() RETURNS int LANGUAGE sql AS E'\n\n-- same\nSELECT 1\n'";
    let primary = server.database("one").await;
    server.psql("one", schema).await;
    let replica = server.database_from("two", "one").await;
    // A table that is captured has it, and its copy has not: with it go empty lines outside of quotes.
    server.psql("two", "ALTER TABLE t REPLICA IDENTITY DEFAULT").await;
    let (equal, _) = compare(&server, &primary, &replica).await;
    assert_eq!(equal.schema, []);
    let change = "COMMENT ON TABLE t IS E'a\nb';
                  CREATE OR REPLACE FUNCTION empty() RETURNS int LANGUAGE sql AS E'\nSELECT\n1\n';
                  CREATE OR REPLACE FUNCTION noted() RETURNS int LANGUAGE sql AS E'\n-- it''s another\nSELECT 1\n'";
    server.psql("two", change).await;
    let (report, _) = compare(&server, &primary, &replica).await;
    let names: Vec<_> = report.schema.iter().map(|one| one.entry.split(';').next().unwrap()).collect();
    assert_eq!(names, ["TABLE t", "empty()", "noted()"], "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_take_no_memory_of_ours_and_the_one_that_differs_is_found() {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let rows = "CREATE TABLE t (id bigint PRIMARY KEY, v text, n numeric);
                INSERT INTO t SELECT i, repeat('x', 100) || i, i / 7.0 FROM generate_series(1, 1000000) i;
                CREATE TABLE u (x int); INSERT INTO u SELECT i % 1000 FROM generate_series(1, 100000) i";
    let primary = server.database("one").await;
    server.psql("one", rows).await;
    let replica = server.database_from("two", "one").await;
    let change = "UPDATE t SET n = n WHERE id % 3 = 0; VACUUM FULL t; UPDATE t SET v = 'y' WHERE id = 654321;
                  DELETE FROM u WHERE ctid = (SELECT min(ctid) FROM u WHERE x = 5)";
    server.psql("two", change).await;
    let before = peak_memory();
    let (report, progress) = compare(&server, &primary, &replica).await;
    let grown = peak_memory() - before;
    assert!(grown < 50_000, "{grown} kB for {} pages", progress.total);
    assert!(progress.done == progress.total && progress.total > 30_000, "{progress:?}");
    let [t, u] = report.tables.as_slice() else { panic!("{report:#?}") };
    assert_eq!(
        (t.primary_rows, t.replica_rows, u.replica_rows),
        (Some(1_000_000), Some(1_000_000), Some(99_999))
    );
    let [only] = t.first_differences.as_slice() else { panic!("{t:#?}") };
    assert_eq!((only.key.as_deref(), only.columns[0].column.as_str()), (Some("id=654321"), "v"));
    let [only] = u.first_differences.as_slice() else { panic!("{u:#?}") };
    assert_eq!(only.columns, [column("x", Some("5"), None)]);
}

/// The most memory that this process ever had, in kB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_are_the_same_on_other_versions_with_other_collations() {
    let rows = "CREATE TABLE t (k text PRIMARY KEY, f float8, r real, ts timestamptz, j jsonb, a numeric[], m money);
                INSERT INTO t SELECT chr(i) || i, i / 3.0, i / 7.0, to_timestamp(i * 1e5), jsonb_build_object('b', i, 'a', NULL),
                       ARRAY[i, NULL], i::money FROM generate_series(40, 1000) i;
                CREATE TABLE k (v text); INSERT INTO k SELECT k FROM t";
    let mut hashes = Vec::new();
    for version in ServerVersion::ALL {
        let server = TestServer::start(version, TestServerOptions::default()).await;
        let dsn = server.database("one").await;
        server.psql("one", rows).await;
        server.psql("one", "ALTER DATABASE one SET extra_float_digits = 0; ALTER DATABASE one SET timezone = 'Asia/Tokyo'").await;
        let exported = Exported::open(&dsn).await.unwrap();
        let (progress, _) = watch::channel(VerifyProgress::default());
        let (kept, disturbed) = hash(&exported, &options(&server), &progress).await.unwrap();
        assert!(disturbed.is_empty());
        hashes.push(kept);
    }
    assert_eq!(hashes[0].tables, hashes[1].tables);
    assert_eq!(hashes[0].rows(), 2 * 961);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_truncated_under_the_snapshot_is_told() {
    let server = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let dsn = server.database("one").await;
    server
        .psql("one", "CREATE TABLE t (x int); INSERT INTO t VALUES (1); CREATE TABLE u (x int, y int)")
        .await;
    let replica = server.database_from("two", "one").await;
    let (one, two) = (Exported::open(&dsn).await.unwrap(), Exported::open(&replica).await.unwrap());
    server.psql("one", "TRUNCATE t").await;
    let (progress, _) = watch::channel(VerifyProgress::default());
    let report = verify(&one, &two, &options(&server), &progress).await.unwrap();
    assert_eq!(report.disturbed, ["\"public\".\"t\""]);
    server.psql("one", "ALTER TABLE u DROP COLUMN x").await;
    let error = verify(&one, &two, &options(&server), &progress).await.unwrap_err();
    assert!(error.to_string().contains("\"public\".\"u\" changed while it was read"), "{error}");
}
