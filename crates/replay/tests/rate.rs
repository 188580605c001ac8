//! How fast `pgbench`'s changes are applied. Not run with the other tests; in release mode:
//! `cargo test --release -p ptr-replay --test rate -- --ignored --nocapture`

mod support;

use std::time::Instant;

use ptr_testkit::{ServerVersion, assert_equal_states};
use support::{PRIMARY, World};

/// TPC-B's tables at scale 1, as `pgbench -i` makes them.
const TABLES: &str = "
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
INSERT INTO pgbench_branches VALUES (1, 0, NULL);
INSERT INTO pgbench_tellers SELECT i, 1, 0, NULL FROM generate_series(1, 10) i;
INSERT INTO pgbench_accounts SELECT i, 1, 0, '' FROM generate_series(1, 100000) i;";

/// Transactions a client; four changes each, four clients.
fn transactions() -> u64 {
    std::env::var("PTR_RATE_TRANSACTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(12_500)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn rate_of_pgbench_changes() {
    let mut world = World::new(ServerVersion::Debian15, TABLES).await;
    let count = transactions().to_string();
    world.server.pgbench(PRIMARY, &["-n", "-c", "4", "-t", &count]).await;
    let captured = Instant::now();
    let end = world.capture().await;
    println!("capture of {} entries: {:.2?}", end.entry_index, captured.elapsed());
    let creation = world.log.creation();
    world.go(creation).await;
    let expected = world.primary_state().await;
    let forward = world.go(end).await;
    assert_equal_states(&expected, &world.session_state().await);
    let back = world.go(creation).await;
    for (name, outcome) in [("forward", forward), ("back", back)] {
        let seconds = outcome.elapsed.as_secs_f64();
        let entries = outcome.entries_applied.max(end.entry_index);
        println!("{name}: {:?} {entries} entries in {seconds:.2} s", outcome.strategy);
    }
    let middle = world.log.position_at(end.ordinal - 1_000).unwrap();
    world.go(end).await;
    for to in [middle, end] {
        let outcome = world.go(to).await;
        println!(
            "1,000 transactions: {:?} {} entries in {:?}",
            outcome.strategy, outcome.entries_applied, outcome.elapsed
        );
    }
}
