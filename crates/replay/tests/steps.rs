//! How large the steps are in which a session goes forwards.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_testkit::{ServerVersion, assert_equal_states};
use support::World;

/// Transactions behind the trouble.
const BEHIND: i64 = 300;

impl World {
    /// The next transaction id of the server.
    async fn next_xid(&self) -> i64 {
        self.server
            .psql("postgres", "SELECT pg_snapshot_xmax(pg_current_snapshot())")
            .await
            .trim()
            .parse()
            .unwrap()
    }
}

/// A check that asks another table holds in the order of the log, and not in that of a fold.
#[tokio::test]
async fn steps_are_large_again_behind_a_trouble() {
    let schema = "CREATE TABLE known (id int PRIMARY KEY); INSERT INTO known VALUES (1);
        CREATE FUNCTION is_known(int) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN RETURN EXISTS (SELECT FROM public.known k WHERE k.id = $1); END';
        CREATE TABLE uses (id int PRIMARY KEY, of int CHECK (is_known(of))); CREATE TABLE line (n int);";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    world.go(world.log.creation()).await;
    world.sql("INSERT INTO uses VALUES (1, 1)").await;
    world.sql("INSERT INTO known VALUES (2)").await;
    world.sql("INSERT INTO uses VALUES (2, 2)").await;
    for number in 0..BEHIND {
        world.sql(&format!("INSERT INTO line VALUES ({number})")).await;
    }
    let head = world.capture().await;
    let expected = world.primary_state().await;
    let before = world.next_xid().await;
    world.go(head).await;
    let transactions = world.next_xid().await - before;
    assert_equal_states(&expected, &world.session_state().await);
    assert!(transactions < BEHIND / 4, "{transactions} transactions of the replica");
}
