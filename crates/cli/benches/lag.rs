//! How long after a commit returned it is durable in the log, at a steady rate of small transactions.
//!
//! `script/bench lag`. Clients commit one row each on a fixed schedule, so a slow moment is not hidden by asking less
//! (`BENCH_RATE` transactions a second, 1000, for `BENCH_SECONDS`, 20). The log is watched as any reader sees it, from
//! another process: its head moves when the transaction is in the segment, synced, and in the index. The k-th commit
//! that returned is set against the head's k-th step, for commits are in the log in commit order. Looking takes place
//! every 0.1 ms, which is in the figures. Nothing is asserted: it prints.
#![allow(missing_docs)]

#[path = "shared/report.rs"]
mod report;
#[path = "shared/servers.rs"]
mod servers;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use ptr_log::Log;
use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};
use servers::setting;
use support::{Product, wait_until};

const CLIENTS: u64 = 4;
const LOOK: Duration = Duration::from_micros(100);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(setting("BENCH_RATE", 1000), setting("BENCH_SECONDS", 20)));
}

async fn measure(rate: u64, seconds: u64) {
    let options = |role| TestServerOptions { role, ..TestServerOptions::default() };
    // As in production: a commit returns when it is on the primary's disk.
    let durable = options(ClusterRole::Primary).with("fsync", "on").with("synchronous_commit", "on");
    let primary = TestServer::start(ServerVersion::Debian15, durable).await;
    let replica = TestServer::start(ServerVersion::Debian15, options(ClusterRole::Replica)).await;
    primary.database("bank").await;
    primary.psql("bank", "CREATE TABLE ticks (id bigint PRIMARY KEY, at timestamptz DEFAULT now())").await;
    println!("primary: fsync {}", primary.psql("bank", "SHOW fsync").await.trim());
    let product = Product::new(
        Some(&primary.dsn("bank").to_uri_with_password()),
        Some(&replica.dsn("bank").to_uri_with_password()),
    );
    let mut listener = product.spawn("listener", &["listener"]);
    listener.wait_for_text("capturing");
    let log = Log::open(&product.data_directory().join("log").join("bank")).expect("the log");
    let before = head(&log);

    let total = rate * seconds;
    let given_up = AtomicBool::new(false);
    let (returned, durable) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| steps(&log, before, total, &given_up));
        let returned = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(commits(&primary, rate, total))
        });
        // What is not durable a minute after the last commit is not going to be.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !watch.is_finished() && Instant::now() < deadline {
            std::thread::sleep(LOOK * 100);
        }
        given_up.store(true, Ordering::Relaxed);
        (returned, watch.join().expect("the watcher"))
    });
    assert_eq!(durable.len(), returned.len(), "every commit becomes durable");
    wait_until("the listener to be as it was", || head(&log) >= before + total);
    report(rate, &returned, &durable);
}

fn head(log: &Log) -> u64 {
    log.head().expect("the log's head").ordinal
}

/// When each transaction was in the log.
fn steps(log: &Log, before: u64, total: u64, given_up: &AtomicBool) -> Vec<Instant> {
    let mut seen = Vec::new();
    while (seen.len() as u64) < total && !given_up.load(Ordering::Relaxed) {
        let steps = head(log) - before;
        let now = Instant::now();
        seen.resize(usize::try_from(steps.min(total)).expect("it fits into memory"), now);
        std::thread::sleep(LOOK);
    }
    seen
}

/// When each commit returned, in order.
async fn commits(primary: &TestServer, rate: u64, total: u64) -> Vec<Instant> {
    let start = Instant::now() + Duration::from_millis(100);
    let mut clients = Vec::new();
    for first in 0..CLIENTS {
        let client = primary.client("bank").await;
        clients.push(tokio::spawn(async move {
            let insert = client.prepare("INSERT INTO ticks (id) VALUES ($1)").await.expect("a statement");
            let mut returned = Vec::new();
            for tick in (first..total).step_by(usize::try_from(CLIENTS).expect("few")) {
                let due = start + Duration::from_nanos(tick * 1_000_000_000 / rate);
                tokio::time::sleep_until(due.into()).await;
                let id = i64::try_from(tick).expect("below 2^63");
                client.execute(&insert, &[&id]).await.expect("a commit");
                returned.push(Instant::now());
            }
            returned
        }));
    }
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.expect("a client"));
    }
    all.sort();
    all
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn report(rate: u64, returned: &[Instant], durable: &[Instant]) {
    let mut lags: Vec<Duration> = returned
        .iter()
        .zip(durable)
        .map(|(returned, durable)| durable.saturating_duration_since(*returned))
        .collect();
    lags.sort();
    let elapsed = returned[returned.len() - 1] - returned[0];
    println!(
        "{} commits, {:.0} a second of {rate} asked for",
        returned.len(),
        returned.len() as f64 / elapsed.as_secs_f64()
    );
    let at = |per_mille: usize| lags[(lags.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    println!(
        "commit to durable: p50 {:.2} ms   p90 {:.2} ms   p99 {:.2} ms   p99.9 {:.2} ms   longest {:.2} ms",
        at(500),
        at(900),
        at(990),
        at(999),
        at(1000)
    );
    let ours = format!("p50 {:.2} ms, p99 {:.2} ms", at(500), at(990));
    report::figure("live lag, commit to durable", "", &ours, "p50 2 ms, p99 10 ms");
}
