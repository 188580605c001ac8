//! Going back over a schema change against restoring a dump, and going to random positions of a long log.
//!
//! `script/bench keyframes`. A database of about 100 MB (`BENCH_SCALE`, pgbench's, 7) gets a column; a session goes back
//! to before it, with a spare ready, and with none (`KEYFRAME_BUDGET=0`: copy of the base image). The peer is
//! `pg_restore -j2` of a directory dump of the same database into a fresh one, on the same server, in turn
//! (`BENCH_ROUNDS`, 5). Then a table of 100,000 rows takes `BENCH_TRANSACTIONS` (1,000,000) updates of one row each, and
//! the session goes to `BENCH_POSITIONS` (1,000) random positions. Times are end to end, by curl. Nothing is asserted:
//! it prints.
#![allow(missing_docs)]

#[path = "shared/report.rs"]
mod report;
#[path = "shared/servers.rs"]
mod servers;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use ptr_testkit::TestServer;
use serde_json::{Value, json};
use servers::setting;
use support::{Chance, Product, Running, path, wait_until};

/// The captured database, and the session's.
const DATABASE: &str = "bank";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        over_a_schema_change(setting("BENCH_SCALE", 7), setting("BENCH_ROUNDS", 5)).await;
        random_positions(setting("BENCH_TRANSACTIONS", 1_000_000), setting("BENCH_POSITIONS", 1_000)).await;
    });
}

/// Two servers and the product between them.
struct Bench {
    primary: TestServer,
    replica: TestServer,
    product: Product,
    up: Option<Running>,
}

impl Bench {
    async fn start(fill: impl AsyncFnOnce(&TestServer)) -> Self {
        let (primary, replica) = servers::pair("8GB").await;
        primary.database(DATABASE).await;
        fill(&primary).await;
        let product = Product::new(
            Some(&primary.dsn(DATABASE).to_uri_with_password()),
            Some(&replica.dsn(DATABASE).to_uri_with_password()),
        );
        let mut bench = Self { primary, replica, product, up: None };
        bench.up(&[]);
        bench
    }

    /// Starts the service, with settings.
    fn up(&mut self, settings: &[(&str, &str)]) {
        if self.up.is_some() {
            self.product.run(&["down"]);
        }
        let log = self.product.folder.path().join("up.log");
        drop(std::fs::remove_file(&log));
        let file = std::fs::File::create(&log).expect("a log file");
        let child = self
            .product
            .command(&["up", "--addr", "127.0.0.1:0"])
            .envs(settings.iter().copied())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the program starts");
        let mut up = Running { child, log };
        up.wait_for_text("capturing");
        self.up = Some(up);
    }

    fn call(&self, method: &str, what: &str, body: Option<&Value>) -> (Value, Duration) {
        let file = self.product.data_directory().join("run/service.json");
        let service: Value = serde_json::from_slice(&std::fs::read(file).expect("a service")).expect("JSON");
        let text = |name: &str| service[name].as_str().expect("a text").to_owned();
        let mut curl = Command::new("curl");
        curl.args(["-s", "-X", method, "-w", "\n%{time_total}"]);
        if let Some(body) = body {
            curl.args(["-d", &body.to_string()]);
        }
        let output = curl.arg(format!("http://{}{what}", text("address"))).output().expect("curl starts");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let (answer, took) = printed.rsplit_once('\n').expect("an answer and a time");
        let answer = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {printed}"));
        (answer, Duration::from_secs_f64(took.parse().expect("seconds")))
    }

    fn go(&self, position: &str) -> (Value, Duration) {
        let (answer, took) =
            self.call("POST", "/api/navigate", Some(&json!({"position": position, "limit": 1})));
        assert_eq!(answer["status"], "success", "{answer:#}");
        (answer, took)
    }

    fn keyframes(&self) -> Value {
        self.call("GET", "/api/keyframes", None).0
    }

    /// Waits until the keeper has nothing to do.
    fn wait_until_kept(&self) {
        let (mut before, mut since) = (Value::Null, Instant::now());
        wait_until("the keyframes to be made", || {
            let now = self.keyframes();
            if now != before || !now["doing"].is_null() {
                (before, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_secs(4)
        });
    }
}

async fn over_a_schema_change(scale: u64, rounds: u64) {
    let mut bench = Bench::start(async |primary| {
        primary.pgbench(DATABASE, &["-i", "-q", "-s", &scale.to_string()]).await;
    })
    .await;
    let dump = bench.primary.folder().join("dump");
    dump_to(&bench.primary, &dump);
    let size = bench.primary.psql(DATABASE, "SELECT pg_size_pretty(pg_database_size('bank'))").await;
    bench.product.run(&["checkpoint", "create", "before"]);
    bench
        .primary
        .psql(
            DATABASE,
            "ALTER TABLE pgbench_accounts ADD note text; UPDATE pgbench_branches SET bbalance = 1",
        )
        .await;
    bench.product.run(&["checkpoint", "create", "after"]);
    let (mut with_spare, mut without, mut restored) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        restored.push(restore(&bench.replica, &dump).await);
        bench.go("after");
        bench.wait_until_kept();
        assert!(!bench.keyframes()["spares"].as_array().expect("a list").is_empty(), "no spare is ready");
        with_spare.push(bench.go("before").1);
    }
    bench.up(&[("KEYFRAME_BUDGET", "0")]);
    for _ in 0..rounds {
        restored.push(restore(&bench.replica, &dump).await);
        bench.go("after");
        bench.wait_until_kept();
        assert!(bench.keyframes()["spares"].as_array().expect("a list").is_empty(), "there is a spare");
        without.push(bench.go("before").1);
    }
    println!("back over a schema change, database of {}", size.trim());
    let peer = told("pg_restore -j2 into a fresh database", &mut restored);
    for (what, times, goal) in
        [("with a spare ready", &mut with_spare, "20 times"), ("without, by copy", &mut without, "3 times")]
    {
        let ours = told(what, times);
        let faster = peer.as_secs_f64() / ours.as_secs_f64();
        println!("  {faster:.1} times as fast as pg_restore");
        report::figure(
            &format!("back over a schema change, {what}"),
            &format!("pg_restore: {}", report::time(peer)),
            &format!("{}, {faster:.1} times as fast", report::time(ours)),
            goal,
        );
    }
    if let Some(took) = pgcopydb(&bench).await {
        println!("pgcopydb clone of the primary's database: {took:.1?}");
        report::figure("(pgcopydb clone of the same database)", &report::time(took), "", "");
    }
}

fn dump_to(server: &TestServer, folder: &Path) {
    let program = server.cluster().installation().program("pg_dump");
    let status = Command::new(program)
        .envs(server.dsn(DATABASE).libpq_environment())
        .args(["--format=directory", "--file", path(folder), DATABASE])
        .status()
        .expect("pg_dump starts");
    assert!(status.success(), "pg_dump failed");
}

async fn restore(server: &TestServer, dump: &Path) -> Duration {
    server.psql("postgres", "DROP DATABASE IF EXISTS restored WITH (FORCE)").await;
    let program = server.cluster().installation().program("pg_restore");
    let start = Instant::now();
    server.psql("postgres", "CREATE DATABASE restored").await;
    let output = Command::new(program)
        .envs(server.dsn("restored").libpq_environment())
        .args(["-j2", "--no-owner", "--dbname", "restored", path(dump)])
        .output()
        .expect("pg_restore starts");
    let took = start.elapsed();
    // Our event triggers cannot be made without the captured server's secret; rows and tables are what is compared.
    let rows = server.psql("restored", "SELECT count(*) > 0 FROM pgbench_accounts").await;
    assert_eq!(rows.trim(), "t", "{}", String::from_utf8_lossy(&output.stderr));
    took
}

/// What else brings a database to where the primary is; `None` where it is not installed.
async fn pgcopydb(bench: &Bench) -> Option<Duration> {
    bench.replica.psql("postgres", "DROP DATABASE IF EXISTS copied WITH (FORCE)").await;
    bench.replica.psql("postgres", "CREATE DATABASE copied").await;
    let folder = bench.product.folder.path().join("pgcopydb");
    let programs = bench.primary.cluster().installation().program("psql");
    let path = format!("{}:{}", programs.parent()?.display(), std::env::var("PATH").ok()?);
    let start = Instant::now();
    let output = Command::new("pgcopydb")
        .env("PATH", path)
        .args(["clone", "--table-jobs", "2", "--index-jobs", "2", "--no-owner", "--skip-extensions", "--dir"])
        .arg(&folder)
        .args(["--source", &bench.primary.dsn(DATABASE).to_uri_with_password()])
        .args(["--target", &bench.replica.dsn("copied").to_uri_with_password()])
        .output();
    let took = start.elapsed();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("pgcopydb is left out: {error}");
            return None;
        }
    };
    let rows = "SELECT count(*), sum(abalance) FROM pgbench_accounts";
    let (theirs, source) =
        (bench.replica.psql("copied", rows).await, bench.primary.psql(DATABASE, rows).await);
    assert_eq!(theirs, source, "{}", String::from_utf8_lossy(&output.stderr));
    Some(took)
}

/// Prints the median and the extremes, and returns the median.
fn told(what: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let (first, middle, last) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: median {middle:.1?} ({first:.1?} to {last:.1?}, {} times)", times.len());
    middle
}

async fn random_positions(transactions: u64, positions: u64) {
    let bench = Bench::start(async |primary| {
        let sql = "CREATE TABLE item (id int PRIMARY KEY, n int, name text);
                   INSERT INTO item SELECT i, 0, md5(i::text) FROM generate_series(1, 100000) i";
        primary.psql(DATABASE, sql).await;
    })
    .await;
    let script = bench.primary.folder().join("update.sql");
    std::fs::write(&script, "\\set id random(1, 100000)\nUPDATE item SET n = n + 1 WHERE id = :id;\n")
        .expect("a script");
    let each = (transactions / 4).to_string();
    let arguments = ["-n", "-M", "prepared", "-c", "4", "-j", "2", "-t", &each, "-f", path(&script)];
    bench.primary.pgbench(DATABASE, &arguments).await;
    bench.product.run(&["checkpoint", "create", "end"]);
    let start = Instant::now();
    bench.go("end");
    println!(
        "\n{transactions} transactions over 100,000 rows; CREATION to the end took {:.1?}",
        start.elapsed()
    );
    let start = Instant::now();
    bench.wait_until_kept();
    let all = bench.keyframes();
    let count = |what: &str| all[what].as_array().map_or(0, Vec::len);
    println!(
        "{} keyframes and {} spares, {} MB, once it was quiet for 4 s ({:.0?} later)",
        count("keyframes"),
        count("spares"),
        all["used_bytes"].as_u64().unwrap_or_default() >> 20,
        start.elapsed()
    );
    let mut chance = Chance::seeded();
    let bound = usize::try_from(transactions).expect("a number of transactions");
    let (mut times, mut strategies, mut within) = (Vec::new(), std::collections::BTreeMap::new(), 0);
    for _ in 0..positions {
        let entry = chance.below(bound);
        let (answer, took) = bench.go(&format!("entry:{entry}"));
        *strategies.entry(answer["strategy"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
        let (estimate, actual) = (
            answer["estimate_ms"].as_f64().unwrap_or(0.0),
            answer["elapsed_ms"].as_f64().unwrap_or(0.0).max(0.5),
        );
        within += u64::from((1.0 / 3.0..=3.0).contains(&(estimate / actual)));
        times.push(took);
    }
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{positions} random positions: p50 {:.0?}, p90 {:.0?}, p99 {:.0?}, longest {:.0?}; {strategies:?}",
        at(50),
        at(90),
        at(99),
        times[times.len() - 1]
    );
    report::figure(
        "random positions of a log of 1,000,000 transactions",
        "",
        &format!("p50 {}, p99 {}", report::time(at(50)), report::time(at(99))),
        "p99 1 s",
    );
    println!("estimates within a factor of 3: {within} of {positions}");
}
