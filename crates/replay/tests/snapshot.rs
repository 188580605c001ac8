//! A snapshot that is tied to a position shows what the log holds up to there, whatever eight writers do. The
//! oracle is a table into which each transaction writes its own id.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ptr_log::TransactionQuery;
use ptr_model::Position;
use ptr_postgres::{SessionSettings, connect};
use ptr_replay::snapshot::Exported;
use ptr_testkit::ServerVersion;
use support::{PRIMARY, World};

const WRITERS: usize = 8;
const ACCEPTED: usize = 20;

/// Plain transactions, ones with subtransactions that stay and that do not, read-only ones, and unlogged ones.
const STATEMENTS: [&str; 5] = [
    "INSERT INTO own VALUES (pg_current_xact_id()::text::bigint)",
    "BEGIN; SAVEPOINT a; INSERT INTO own VALUES (pg_current_xact_id()::text::bigint); RELEASE a; COMMIT",
    "BEGIN; INSERT INTO own VALUES (pg_current_xact_id()::text::bigint); SAVEPOINT a;
     INSERT INTO own VALUES (-1); ROLLBACK TO a; COMMIT",
    "SELECT count(*) FROM own",
    "INSERT INTO unlogged VALUES (1)",
];

async fn write(dsn: ptr_postgres::Dsn, first: usize, stop: Arc<AtomicBool>) {
    let client = connect(&dsn, &SessionSettings::named("writer")).await.unwrap();
    for number in first.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        client.batch_execute(STATEMENTS[number % STATEMENTS.len()]).await.unwrap();
    }
}

/// Now in the log. Our own commit flushes every commit before it.
async fn now(world: &mut World) -> Position {
    world.sql("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'test', '')").await;
    world.capture().await
}

/// The ids of the transactions before a position that wrote theirs.
fn logged(world: &World, until: Position) -> BTreeSet<i64> {
    let mut xids = BTreeSet::new();
    let mut since = 0;
    while since < until.ordinal {
        let query = TransactionQuery {
            since: Some(since),
            until: Some(until.ordinal),
            limit: 1000,
            ..TransactionQuery::default()
        };
        let page = world.log.transactions(&query).unwrap();
        xids.extend(page.iter().filter(|one| !one.tables.is_empty()).map(|one| i64::from(one.header.xid.0)));
        since = page.last().unwrap().ordinal + 1;
    }
    xids
}

async fn every_accepted_snapshot_is_its_position(version: ServerVersion) {
    let schema = "CREATE TABLE own (xid bigint); CREATE UNLOGGED TABLE unlogged (x int)";
    let mut world = World::new(version, schema).await;
    let stop = Arc::new(AtomicBool::new(false));
    let dsn = world.server.dsn(PRIMARY);
    let writing: Vec<_> =
        (0..WRITERS).map(|first| tokio::spawn(write(dsn.clone(), first, Arc::clone(&stop)))).collect();
    let (mut accepted, mut tried) = (0, 0);
    let mut before = now(&mut world).await;
    while accepted < ACCEPTED {
        tried += 1;
        assert!(tried < 50 * ACCEPTED, "{accepted} of {tried} snapshots match a position");
        let exported = Exported::open(&dsn).await.unwrap();
        let after = now(&mut world).await;
        let found = exported.visibility().position_in(&world.log, before, after).unwrap();
        before = after;
        let Some(position) = found else { continue };
        accepted += 1;
        let rows = exported.connection().query("SELECT xid FROM public.own", &[]).await.unwrap();
        let seen: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
        let logged = logged(&world, position);
        let (only_seen, only_logged): (Vec<_>, Vec<_>) =
            (seen.difference(&logged).collect(), logged.difference(&seen).collect());
        assert!(
            only_seen.is_empty() && only_logged.is_empty(),
            "{only_seen:?} {only_logged:?} at {position}"
        );
        exported.close().await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writing {
        writer.await.unwrap();
    }
    println!("{accepted} of {tried} snapshots match a position");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_snapshot_is_its_position_on_15() {
    every_accepted_snapshot_is_its_position(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_snapshot_is_its_position_on_18() {
    every_accepted_snapshot_is_its_position(ServerVersion::Pypi18).await;
}
