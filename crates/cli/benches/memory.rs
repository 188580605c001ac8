//! The service's memory over a long log and a long transaction, and the net difference of a million entries.
//!
//! `script/bench memory`. One service (`up`) captures `BENCH_ENTRIES` (1,000,000) updates, a transaction each, of
//! 100,000 rows, as many spread over a million rows, and one transaction of `BENCH_ROWS` (3,000,000) rows of 200 bytes;
//! it moves a session there and back, and compares checkpoints. Before each step the peak of its resident memory is set
//! back. The peer of the difference reads both databases, in order of the key, and compares what comes out. Nothing is
//! asserted: it prints.
#![allow(missing_docs)]

#[path = "shared/api.rs"]
mod api;
#[path = "shared/report.rs"]
mod report;
#[path = "shared/servers.rs"]
mod servers;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use api::Api;
use ptr_testkit::TestServer;
use serde_json::{Value, json};
use servers::setting;
use support::{Product, Running};

const DATABASE: &str = "bank";

/// What the service may hold, in MB.
const GOAL: u64 = 256;

struct Bench {
    primary: TestServer,
    replica: TestServer,
    product: Product,
    up: Running,
    api: Api,
    most: u64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure(setting("BENCH_ENTRIES", 1_000_000), setting("BENCH_ROWS", 3_000_000)));
}

async fn measure(entries: u64, rows: u64) {
    let mut bench = Bench::start().await;
    bench.checkpoint("start");
    for (name, table) in [("near", "few"), ("spread", "many")] {
        let sql = format!(
            "DO $$ DECLARE count int := (SELECT count(*) FROM {table}); one int; BEGIN
             FOR i IN 1..{entries} LOOP
               one := 1 + floor(random() * count)::int; UPDATE {table} SET v = v + 1 WHERE id = one; COMMIT;
             END LOOP; END $$"
        );
        bench.primary.psql(DATABASE, &sql).await;
        bench.checkpoint(name);
        bench.peak(&format!("capture of {entries} transactions ({table})"));
    }
    let sql = format!("INSERT INTO wide SELECT i, repeat(md5(i::text), 6) FROM generate_series(1, {rows}) i");
    bench.primary.psql(DATABASE, &sql).await;
    bench.checkpoint("wide");
    bench.peak(&format!("capture of one transaction of {rows} rows"));
    for place in ["near", "spread", "wide", "spread", "start", "wide"] {
        let start = Instant::now();
        let answer = bench.navigate(place);
        let (strategy, took) = (answer["strategy"].as_str().unwrap_or_default().to_owned(), start.elapsed());
        bench.peak(&format!("to {place} by {strategy}, {}", report::time(took)));
    }
    // The replica is where the primary is: both are read for the peer's figure.
    let mut figures = Vec::new();
    for (from, to, table) in
        [("start", "near", "few"), ("near", "spread", "many"), ("spread", "wide", "wide")]
    {
        let mut ours: Vec<_> = (0..3).map(|_| bench.difference(from, to)).collect();
        ours.sort_by_key(|(took, _)| *took);
        let (took, rows) = ours[1];
        let peer = bench.read_both(table);
        println!(
            "net difference {from} to {to}: {rows} rows in {}; reading both sides' {table}: {}",
            report::time(took),
            report::time(peer)
        );
        bench.peak(&format!("difference of {rows} rows"));
        figures.push((took, peer));
    }
    let (took, peer) = figures[0];
    report::figure(
        "net difference of 1,000,000 entries",
        &format!("reading both: {}", report::time(peer)),
        &report::time(took),
        "1 s",
    );
    let most = bench.most;
    println!("at most {most} MB");
    report::figure("memory of the service, at most", "", &format!("{most} MB"), &format!("{GOAL} MB"));
    bench.product.run(&["down"]);
}

impl Bench {
    async fn start() -> Self {
        let (primary, replica) = servers::pair("16GB").await;
        primary.database(DATABASE).await;
        let fill = "CREATE TABLE few (id int PRIMARY KEY, v int NOT NULL);
                    CREATE TABLE many (id int PRIMARY KEY, v int NOT NULL);
                    CREATE TABLE wide (id int PRIMARY KEY, filler text NOT NULL);
                    INSERT INTO few SELECT i, 0 FROM generate_series(1, 100000) i;
                    INSERT INTO many SELECT i, 0 FROM generate_series(1, 1000000) i; VACUUM ANALYZE";
        primary.psql(DATABASE, fill).await;
        let product = Product::new(
            Some(&primary.dsn(DATABASE).to_uri_with_password()),
            Some(&replica.dsn(DATABASE).to_uri_with_password()),
        );
        let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
        up.wait_for_text("capturing");
        let api = Api::of(&product.data_directory());
        let mut bench = Self { primary, replica, product, up, api, most: 0 };
        bench.peak("start");
        bench
    }

    fn checkpoint(&mut self, name: &str) {
        self.api.checkpoint(name);
    }

    fn navigate(&mut self, place: &str) -> Value {
        self.api.post("/api/navigate", &json!({"checkpoint_id": place, "limit": 1}))
    }

    /// How long it took, and of how many rows it is.
    fn difference(&mut self, from: &str, to: &str) -> (Duration, u64) {
        let start = Instant::now();
        let answer = self.api.get(&format!("/api/diff?from={from}&to={to}&limit=100"));
        let took = start.elapsed();
        let count = |table: &Value| -> u64 {
            ["inserted", "updated", "deleted"].iter().filter_map(|what| table[*what].as_u64()).sum()
        };
        (took, answer["tables"].as_array().expect("tables").iter().map(count).sum())
    }

    /// Both sides' table in order of its key, compared.
    fn read_both(&self, table: &str) -> Duration {
        let start = Instant::now();
        let read = |server: &TestServer| {
            Command::new(server.cluster().installation().program("psql"))
                .envs(server.dsn(DATABASE).libpq_environment())
                .args(["-qc", &format!("COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT"), DATABASE])
                .stdout(Stdio::piped())
                .spawn()
                .expect("psql starts")
        };
        let (mut primary, mut replica) = (read(&self.primary), read(&self.replica));
        let mut sides = [&mut primary, &mut replica]
            .map(|side| std::io::BufReader::new(side.stdout.take().expect("piped")));
        let (mut lines, mut differing) = ([String::new(), String::new()], 0_u64);
        loop {
            let mut ended = false;
            for (side, line) in sides.iter_mut().zip(&mut lines) {
                line.clear();
                ended |= std::io::BufRead::read_line(side, line).expect("a line") == 0;
            }
            if ended {
                break;
            }
            differing += u64::from(lines[0] != lines[1]);
        }
        let took = start.elapsed();
        for mut child in [primary, replica] {
            assert!(child.wait().expect("psql ends").success(), "psql failed");
        }
        assert_eq!(differing, 0, "the replica is where the primary is");
        took
    }

    /// Prints the peak since the last time, and sets it back.
    fn peak(&mut self, what: &str) {
        let folder = format!("/proc/{}", self.up.child.id());
        let status = std::fs::read_to_string(format!("{folder}/status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
        let kilobytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        // 5: the peak becomes what is resident now.
        std::fs::write(format!("{folder}/clear_refs"), "5").expect("the process is ours");
        self.most = self.most.max(kilobytes >> 10);
        println!("{:4} MB  {what}", kilobytes >> 10);
    }
}
