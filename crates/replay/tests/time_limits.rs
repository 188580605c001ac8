//! Limits of time that the captured database has for its users, and that every session's database has then too.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_testkit::{ServerVersion, assert_equal_states, wait_until};
use std::time::Duration;
use support::World;

/// A move that waits for a client's lock much longer than the limit lets anybody.
async fn a_move_takes_its_time(version: ServerVersion, limit: &str) {
    let schema = format!(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a');
        ALTER DATABASE shop SET {limit} = '200ms'"
    );
    let mut world = World::set_up(version, &schema).await;
    world.sql("UPDATE t SET v = 'b'").await;
    let head = world.capture().await;
    let expected = world.primary_state().await;
    world.go(world.log.creation()).await;
    let holder = world.server.client("session").await;
    let lock = "SET default_transaction_read_only = off; SET lock_timeout = 0; SET statement_timeout = 0;
        BEGIN; LOCK TABLE t";
    holder.batch_execute(lock).await.unwrap();
    let observer = world.server.client("postgres").await;
    let release = async {
        let waited = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'session'
            AND wait_event_type = 'Lock' AND now() - query_start > '1s')";
        wait_until("the move has waited for long", Duration::from_secs(30), async || {
            observer.query_one(waited, &[]).await.unwrap().get::<_, bool>(0)
        })
        .await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let moves = world.try_go(head);
    let outcome = tokio::select! {
        biased;
        outcome = moves => outcome,
        () = async { release.await; std::future::pending().await } => unreachable!(),
    };
    outcome.unwrap_or_else(|error| panic!("{limit}: {error}"));
    assert_equal_states(&expected, &world.session_state().await);
}

#[tokio::test]
async fn a_lock_timeout_of_the_database_ends_no_move() {
    a_move_takes_its_time(ServerVersion::Debian15, "lock_timeout").await;
}

#[tokio::test]
async fn a_transaction_timeout_of_the_database_ends_no_move_on_18() {
    a_move_takes_its_time(ServerVersion::Pypi18, "transaction_timeout").await;
}
