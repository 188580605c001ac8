//! `verify` says equal where the databases are, and names what differs where they are not.

mod support;

use ptr_replay::{
    verify,
    verify::{RowDifference, Side},
};
use ptr_testkit::ServerVersion;
use support::{PRIMARY, World};

async fn report(world: &World) -> ptr_replay::VerifyReport {
    let installation = world.server.cluster().installation().clone();
    verify(&world.server.dsn(PRIMARY), &world.dsn(), &installation, "postgres_test_replay")
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn equal_databases_are_equal_and_each_difference_is_named() {
    let schema = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE \"B \" (x int, p point);
                  CREATE TABLE empty (); CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
                  INSERT INTO \"B \" VALUES (1, '(1,2)'), (1, '(1,2)'), (NULL, NULL)";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    world.sql("INSERT INTO a SELECT i, 'v' || i FROM generate_series(1, 100) i").await;
    let end = world.capture().await;
    world.go(end).await;
    let equal = report(&world).await;
    assert!(equal.is_equal(), "{equal:#?}");
    assert_eq!(equal.tables.len(), 4);
    let change = "SET default_transaction_read_only = off; UPDATE a SET v = 'other' WHERE id = 7; DROP TABLE empty;
                  DELETE FROM \"B \" WHERE ctid = (SELECT min(ctid) FROM \"B \"); CREATE INDEX extra ON a (v)";
    world.server.psql("session", change).await;
    let report = report(&world).await;
    assert!(!report.is_equal());
    let entries: Vec<&str> = report.schema.iter().map(|one| one.entry.split(';').next().unwrap()).collect();
    assert_eq!(entries, ["empty", "extra"]);
    let a = report.tables.iter().find(|table| table.table == "\"public\".\"a\"").unwrap();
    let row = |only_on, row: &str| RowDifference { only_on, row: row.into() };
    assert_eq!(a.first_differences, [row(Side::Replica, "(7,other)"), row(Side::Primary, "(7,v7)")]);
    let b = report.tables.iter().find(|table| table.table == "\"public\".\"B \"").unwrap();
    assert_eq!((b.primary_rows, b.replica_rows), (Some(3), Some(2)));
    assert_eq!(b.first_differences, [row(Side::Primary, "(\"(1,2)\",1)")]);
}
