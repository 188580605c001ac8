//! Random schemas, random DDL and random data: whatever the primary did, the replica is what it was.
//!
//! Without more it is the same history each time. `PTR_TEST_SEED` is a seed of yours, or `random` for a new one, which
//! is printed; `PTR_RANDOM_TRANSACTIONS` sets its length (thousands to look for faults), and
//! `PTR_RANDOM_TRACE` names a file for the statements that the primary took, in a form that psql takes.
#![allow(missing_docs)]

mod alter;
mod create;
mod rows;
#[path = "../support/mod.rs"]
mod support;
mod values;
mod work;
mod world;

use ptr_testkit::{ServerVersion, TestServerOptions};
use support::{
    Chance,
    pair::{DATABASE, Pair},
};
use work::Worker;

/// A table for triggers to write to, roles, and the unrelated.
const BEFORE: &str = "
CREATE TABLE audit (id bigserial PRIMARY KEY, what text, at timestamptz);
CREATE SCHEMA app; CREATE SCHEMA \"Other Schema\";
GRANT CREATE, USAGE ON SCHEMA public, app TO app_owner;
";
const ROLES: &str = "CREATE ROLE app_owner; CREATE ROLE app_reader";

/// How often the state is kept in a run.
const KEPT: usize = 12;

async fn random_history(version: ServerVersion, default_transactions: usize) {
    let mut chance = Chance::seeded();
    let transactions = std::env::var("PTR_RANDOM_TRANSACTIONS").ok().and_then(|text| text.parse().ok());
    let transactions: usize = transactions.unwrap_or(default_transactions);
    let options = TestServerOptions::default().with("max_prepared_transactions", "10");
    let pair = Pair::capturing_with(version, options, async |primary| {
        primary.psql(DATABASE, &format!("{ROLES}; {BEFORE}")).await;
    })
    .await;
    let mut worker = Worker::new(&pair.primary).await;
    let mut kept = vec![pair.keep_creation().await];
    for number in 1..=transactions {
        worker.transaction(&mut chance).await;
        let left = transactions - number;
        if kept.len() <= KEPT && (left == 0 || chance.below(left + 1) <= KEPT - kept.len()) {
            worker.settle().await;
            kept.push(pair.keep(&format!("after {number}")).await);
        }
    }
    println!("{}", worker.summary());
    pair.assert_all_come_back(&kept, &mut chance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_history_comes_back_on_15() {
    random_history(ServerVersion::Debian15, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_history_comes_back_on_18() {
    random_history(ServerVersion::Pypi18, 100).await;
}
