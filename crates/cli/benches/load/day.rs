//! A day in fast motion: pgbench's transactions at full speed, a session that follows, and eyes on memory, lag and disk.

use std::{
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use ptr_testkit::TestServer;
use serde_json::json;
use tokio_postgres::Client;

use crate::{
    report,
    servers::setting,
    stage::{DATABASE, Stage, at},
};

/// Transactions of a day at 100 a second.
const DAY: u64 = 8_640_000;

/// Sessions that make them.
const CLIENTS: u64 = 4;

/// The four changes of pgbench's own transaction. A procedure's loop leaves the processors to whom it is about: with a client
/// for each statement a day took half as long again.
const TRANSACTIONS: &str = "
    CREATE PROCEDURE transactions(number bigint) LANGUAGE plpgsql AS $$
    DECLARE account int; teller int; branch int; change int;
    BEGIN
        FOR i IN 1..number LOOP
            account := 1 + floor(random() * 1000000);
            teller := 1 + floor(random() * 100);
            branch := 1 + floor(random() * 10);
            change := floor(random() * 10001) - 5000;
            UPDATE pgbench_accounts SET abalance = abalance + change WHERE aid = account;
            UPDATE pgbench_tellers SET tbalance = tbalance + change WHERE tid = teller;
            UPDATE pgbench_branches SET bbalance = bbalance + change WHERE bid = branch;
            INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)
                VALUES (teller, branch, account, change, CURRENT_TIMESTAMP);
            COMMIT;
        END LOOP;
    END $$";

/// How the service is at one moment.
struct Sample {
    transactions: u64,
    resident: u64,
    /// WAL that is not captured yet, in bytes.
    lag: u64,
    /// Transactions that the session is behind the log.
    behind: u64,
    /// Bytes of segments and of the index.
    log: (u64, u64),
    /// How long answers took: the status, a page of entries.
    answers: [Duration; 2],
}

pub async fn run() -> u64 {
    let transactions = setting("LOAD_DAY_TRANSACTIONS", DAY / 20) / CLIENTS * CLIENTS;
    let mut stage = Stage::set("day", &[], TRANSACTIONS).await;
    stage.primary.pgbench(DATABASE, &["-i", "-q", "-s", "10"]).await;
    stage.checkpoint("filled");
    stage.api.post("/api/navigate", &json!({"position": "head", "follow": true}));
    let first = captured(&mut stage);
    println!("  {transactions} transactions of four changes: {:.1} h of 100 a second", hours(transactions));

    let began = Instant::now();
    let mut writers: Vec<Child> =
        (0..CLIENTS).map(|_| writer(&stage.primary, transactions / CLIENTS)).collect();
    let client = stage.primary.client(DATABASE).await;
    let mut samples = Vec::new();
    let mut generated = None;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sample = look(&mut stage, &client, first).await;
        let (lag, behind, done) = (sample.lag, sample.behind, sample.transactions);
        samples.push(sample);
        let ended: Vec<_> =
            writers.iter_mut().map(|one| one.try_wait().expect("psql can be waited for")).collect();
        assert!(ended.iter().flatten().all(ExitStatus::success), "psql failed: {ended:?}");
        if ended.iter().all(Option::is_some) {
            generated.get_or_insert(began.elapsed());
            if (done >= transactions && behind == 0) || (lag == 0 && done < transactions) {
                break;
            }
        }
    }
    client.close().await;
    stage.tell("all of it captured and followed", began);
    let generated = generated.expect("the writers ended");
    let whole = began.elapsed();
    println!(
        "  they took {} ({:.0} transactions a second), the rest {} more",
        report::time(generated),
        rate(transactions, generated),
        report::time(whole.saturating_sub(generated))
    );
    tell(&mut stage, &samples, transactions);
    compare(&mut stage, first, transactions).await;
    stage.end()
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn hours(transactions: u64) -> f64 {
    transactions as f64 / DAY as f64 * 24.0
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(transactions: u64, took: Duration) -> f64 {
    transactions as f64 / took.as_secs_f64()
}

fn writer(primary: &TestServer, transactions: u64) -> Child {
    Command::new(primary.cluster().installation().program("psql"))
        .envs(primary.dsn(DATABASE).libpq_environment())
        .args(["-X", "-q", "-c", &format!("CALL transactions({transactions})"), DATABASE])
        .stdout(Stdio::null())
        .spawn()
        .expect("psql starts")
}

/// Transactions in the log.
fn captured(stage: &mut Stage) -> u64 {
    stage.api.get("/api/position?at=head")["transaction"].as_u64().expect("a number")
}

async fn look(stage: &mut Stage, client: &Client, first: u64) -> Sample {
    let sql =
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots";
    let lag: i64 = client.query_one(sql, &[]).await.expect("a slot").get(0);
    let transactions = captured(stage) - first;
    let session = stage.api.get("/api/sessions/default");
    let at = session["position"]["transaction"].as_u64().unwrap_or_default();
    let mut answers = [Duration::ZERO; 2];
    for (path, took) in ["/api/status", "/api/wal-logs?limit=100"].iter().zip(&mut answers) {
        let began = Instant::now();
        stage.api.get(path);
        *took = began.elapsed();
    }
    Sample {
        transactions,
        resident: stage.resident(),
        lag: lag.unsigned_abs(),
        behind: (transactions + first).saturating_sub(at),
        log: stage.log_bytes(),
        answers,
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn tell(stage: &mut Stage, samples: &[Sample], transactions: u64) {
    let figures = |what: &str, unit: &str, value: &dyn Fn(&Sample) -> f64| {
        let values: Vec<f64> = samples.iter().map(value).collect();
        let tenth = values.len() / 10;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        println!(
            "  {what:<34} first tenth {:9.1}  last tenth {:9.1}  p50 {:9.1}  most {:9.1} {unit}",
            mean(&values[..=tenth]),
            mean(&values[values.len() - 1 - tenth..]),
            at(&sorted, 500),
            at(&sorted, 1000)
        );
    };
    figures("resident memory", "MB", &|sample| sample.resident as f64);
    figures("lag of capture", "MB of WAL", &|sample| sample.lag as f64 / 1e6);
    figures("the session is behind the log", "transactions", &|sample| sample.behind as f64);
    figures("GET /api/status", "ms", &|sample| sample.answers[0].as_secs_f64() * 1e3);
    figures("GET /api/wal-logs", "ms", &|sample| sample.answers[1].as_secs_f64() * 1e3);

    // What the first tenth says about the whole; the open segment and SQLite's WAL vary, but not with the length.
    let early = samples.iter().find(|sample| sample.transactions >= transactions / 10).expect("a tenth");
    let last = samples.last().expect("a sample");
    let each = |bytes: u64, sample: &Sample| bytes as f64 / sample.transactions as f64;
    for (what, part) in [("segments", (|log| log.0) as fn((u64, u64)) -> u64), ("index", |log| log.1)] {
        let (predicted, found) = (each(part(early.log), early), each(part(last.log), last));
        println!(
            "  {what:<34} predicted {predicted:6.1} bytes a transaction, in the end {found:6.1}: {:.0} MB",
            part(last.log) as f64 / 1e6
        );
    }
    let total = |log: (u64, u64)| log.0 + log.1;
    let ratio = each(total(last.log), last) / each(total(early.log), early);
    println!("  disk, found / predicted            {ratio:.2}");
    let rows = [
        (
            "load, day: lag of capture, most",
            samples.iter().map(|sample| sample.lag).max().unwrap_or_default() >> 20,
            "MB",
        ),
        (
            "load, day: disk for 1,000,000 transactions",
            (total(last.log) * 1_000_000 / last.transactions.max(1)) >> 20,
            "MB",
        ),
    ];
    for (what, number, unit) in rows {
        report::figure(what, "", &format!("{number} {unit}"), "");
    }
    stage.judge(
        last.transactions == transactions,
        &format!("{} transactions in the log, {transactions} made", last.transactions),
    );
}

/// The sides are equal, and so is what pgbench keeps equal at any position.
async fn compare(stage: &mut Stage, first: u64, transactions: u64) {
    for table in ["pgbench_accounts", "pgbench_tellers", "pgbench_branches", "pgbench_history"] {
        let sql = format!("SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t");
        stage.same(table, &sql).await;
    }
    let sums = "SELECT count(*) || ' ' || (sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts)
                  AND sum(delta) = (SELECT sum(tbalance) FROM pgbench_tellers)
                  AND sum(delta) = (SELECT sum(bbalance) FROM pgbench_branches)) FROM pgbench_history";
    for part in [9, 1, 5, 7] {
        let back = transactions - transactions * part / 10;
        let position = format!("@-{back}");
        stage.api.post("/api/navigate", &json!({"position": "head", "limit": 1}));
        let began = Instant::now();
        let answer = stage.api.post("/api/navigate", &json!({"position": position, "limit": 1}));
        stage.tell(&format!("{back} transactions back, by {}", answer["strategy"]), began);
        let at = answer["to"]["transaction"].as_u64().expect("a position") - first;
        let found = stage.replica.psql(DATABASE, sums).await;
        stage.judge(
            found.trim() == format!("{at} true"),
            &format!("the replica is consistent there, at {at}: {}", found.trim()),
        );
    }
}
