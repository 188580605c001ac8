//! Moves end to end, through the HTTP API of a running service, beside clones of a template on the same server.
//!
//! `script/bench seek`. One output server holds a session of a small database (`BENCH_SMALL_MB`, 10) and one of a large
//! one (`BENCH_BIG_MB`, 1024). A client that keeps its connection asks for each move and reads the whole answer, first
//! page of entries included; `BENCH_ROUNDS` (200) times forwards and as often backwards, in turn, seldom where many rows
//! change. The peer is what people do without us: `CREATE DATABASE ... TEMPLATE` and `DROP DATABASE` of the same
//! database on the same server, in the same run. Then the growth: over the net difference, over the length of the
//! history, over the size of the database. `BENCH_WRITE=1` writes it into `docs/seek.csv` and `docs/seek.svg`. Nothing
//! is asserted: it prints.
#![allow(missing_docs)]

#[path = "shared/api.rs"]
mod api;
#[path = "seek/plot.rs"]
mod plot;
#[path = "shared/report.rs"]
mod report;
#[path = "shared/servers.rs"]
mod servers;
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use api::Api;
use plot::{Growth, Point};
use ptr_testkit::TestServer;
use serde_json::{Value, json};
use servers::setting;
use support::{Product, Running};

/// Rows of about 550 bytes that make a megabyte, their index included.
const ROWS_A_MEGABYTE: u64 = 1_850;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure());
}

/// Which rows a transaction changes.
#[derive(Clone, Copy)]
enum Pattern {
    Neighbouring,
    Spread,
}

impl Pattern {
    fn name(self) -> &'static str {
        match self {
            Self::Neighbouring => "neighbouring",
            Self::Spread => "spread at random",
        }
    }

    /// Changes `count` of `rows` rows.
    fn statement(self, count: u64, rows: u64) -> String {
        match self {
            Self::Neighbouring => {
                let first = rows / 3;
                format!("UPDATE item SET v = v + 1 WHERE id > {first} AND id <= {first} + {count}")
            }
            Self::Spread => format!(
                "UPDATE item SET v = v + 1 WHERE id IN (SELECT id FROM item ORDER BY md5(id::text) LIMIT {count})"
            ),
        }
    }
}

struct Bench {
    primary: TestServer,
    replica: TestServer,
    product: Product,
    api: Api,
    _up: Running,
    places: u64,
}

/// One of the two databases.
struct Subject {
    database: &'static str,
    session: &'static str,
    /// The session's database.
    target: &'static str,
    megabytes: u64,
    rows: u64,
}

impl Subject {
    fn new([database, session, target]: [&'static str; 3], megabytes: u64) -> Self {
        Self { database, session, target, megabytes, rows: megabytes * ROWS_A_MEGABYTE }
    }
}

async fn measure() {
    let small = Subject::new(["small", "default", "small"], setting("BENCH_SMALL_MB", 10));
    let big = Subject::new(["big", "big", "big_big"], setting("BENCH_BIG_MB", 1024));
    let mut bench = Bench::start(&[&small, &big]).await;
    let rounds = setting("BENCH_ROUNDS", 200);
    let mut growth = Growth::default();
    println!("\n{:32} {:>22} {:>22}", "", "redo  median / p99", "undo  median / p99");
    for (pattern, count, least) in [
        (Pattern::Neighbouring, 1, 1),
        (Pattern::Neighbouring, 100, 1),
        (Pattern::Neighbouring, 1_000, 1),
        (Pattern::Spread, 1_000, 4),
        (Pattern::Spread, 100_000, 20),
    ] {
        for subject in [&small, &big] {
            if count * 5 <= subject.rows {
                let times = bench.compare(subject, pattern, count, rounds / least).await;
                growth.add("database size, 100 rows", subject.megabytes, &times, count == 100);
                bench.figure(subject, pattern, count, &times);
            }
        }
    }
    bench.clones(&[&small, &big]).await;
    println!("\ngrowth with the net difference ({} MB)", big.megabytes);
    for count in [1, 10, 100, 1_000, 10_000, 100_000] {
        if count * 5 <= big.rows {
            let times =
                bench.compare(&big, Pattern::Spread, count, (rounds * 10 / count).clamp(4, rounds)).await;
            growth.add("net difference, rows", count, &times, true);
        }
    }
    println!("\ngrowth with the history, 100 neighbouring rows ({} MB)", small.megabytes);
    for transactions in [0, 1_000, 10_000, setting("BENCH_HISTORY", 100_000)] {
        bench.history(&small, transactions).await;
        let times = bench.compare(&small, Pattern::Neighbouring, 100, rounds / 2).await;
        growth.add("history, transactions", bench.head(&small), &times, true);
    }
    growth.finish();
    bench.product.run(&["down"]);
}

/// Milliseconds of moves in one direction, sorted.
struct Times(Vec<f64>);

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    fn at(&self, per_cent: usize) -> f64 {
        self.0[(self.0.len() - 1) * per_cent / 100]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:9.2} / {:8.2} ms", self.at(50), self.at(99))
    }
}

impl Growth {
    fn add(&mut self, curve: &'static str, x: u64, times: &[Times; 2], wanted: bool) {
        if wanted {
            self.points.push(Point { curve, x, redo: times[0].at(50), undo: times[1].at(50) });
        }
    }
}

impl Bench {
    async fn start(subjects: &[&Subject]) -> Self {
        let (primary, replica) = servers::pair("16GB").await;
        for subject in subjects {
            primary.database(subject.database).await;
            let fill = format!(
                "CREATE TABLE item (id bigint PRIMARY KEY, v bigint NOT NULL, filler text NOT NULL);
                 CREATE TABLE tick (id bigint PRIMARY KEY, v bigint NOT NULL);
                 INSERT INTO item SELECT i, 0, repeat(md5(i::text), 15) FROM generate_series(1, {}) i;
                 INSERT INTO tick SELECT i, 0 FROM generate_series(0, 99) i; VACUUM ANALYZE",
                subject.rows
            );
            primary.psql(subject.database, &fill).await;
        }
        let product = Product::new(
            Some(&primary.dsn("small").to_uri_with_password()),
            Some(&replica.dsn("small").to_uri_with_password()),
        )
        .with("INPUT_DATABASES", "small,big");
        println!("set-up and base images");
        let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
        up.wait_for_text("http://");
        let mut api = Api::of(&product.data_directory());
        api.post("/api/sessions", &json!({"name": "big", "database": "big"}));
        Self { primary, replica, product, api, _up: up, places: 0 }
    }

    /// A position of the log as it is now.
    fn here(&mut self, subject: &Subject) -> String {
        self.places += 1;
        let name = format!("place-{}", self.places);
        self.api.post("/api/checkpoints", &json!({"name": name, "database": subject.database}));
        name
    }

    fn navigate(&mut self, subject: &Subject, place: &str) -> Value {
        self.api.post("/api/navigate", &json!({"checkpoint_id": place, "session_id": subject.session}))
    }

    fn head(&mut self, subject: &Subject) -> u64 {
        let place = self.here(subject);
        self.navigate(subject, &place)["to"]["transaction"].as_u64().expect("an ordinal")
    }

    /// Moves forwards and backwards over one transaction, and prints how long it took.
    async fn compare(&mut self, subject: &Subject, pattern: Pattern, count: u64, rounds: u64) -> [Times; 2] {
        let before = self.here(subject);
        self.primary.psql(subject.database, &pattern.statement(count, subject.rows)).await;
        let after = self.here(subject);
        self.navigate(subject, &after);
        // What autovacuum would do between the moves of people: here the same rows change hundreds of times a second.
        self.replica.psql(subject.target, "VACUUM item").await;
        let (mut redo, mut undo, mut ways) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds.max(4) {
            for (place, times, usual) in [(&before, &mut undo, "undo"), (&after, &mut redo, "redo")] {
                let start = Instant::now();
                let answer = self.navigate(subject, place);
                times.push(start.elapsed().as_secs_f64() * 1e3);
                assert_eq!(answer["count"], count, "{answer}");
                if answer["strategy"] != usual && !ways.contains(&answer["strategy"]) {
                    ways.push(answer["strategy"].clone());
                }
            }
        }
        let (redo, undo) = (Times::of(redo), Times::of(undo));
        let what = format!("{count} {}, {} MB", pattern.name(), subject.megabytes);
        println!("{what:32} {redo:>22} {undo:>22}");
        if !ways.is_empty() {
            println!("    (some of them by {ways:?})");
        }
        [redo, undo]
    }

    /// Makes the log longer, by transactions of one row each, and takes the session past them.
    async fn history(&mut self, subject: &Subject, transactions: u64) {
        let sql = format!(
            "DO $$ BEGIN FOR i IN 1..{transactions} LOOP UPDATE tick SET v = v + 1 WHERE id = i % 100; COMMIT; END LOOP; END $$"
        );
        self.primary.psql(subject.database, &sql).await;
        let place = self.here(subject);
        let start = Instant::now();
        self.navigate(subject, &place);
        println!("{transactions} transactions over 100 rows: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    }

    /// A row of the table: the slower direction's median.
    fn figure(&self, subject: &Subject, pattern: Pattern, count: u64, [redo, undo]: &[Times; 2]) {
        let goal = match (pattern, count) {
            (Pattern::Neighbouring, 1) => "3 ms",
            (Pattern::Neighbouring, 100) => "5 ms",
            (Pattern::Neighbouring, _) => "15 ms",
            (Pattern::Spread, 1_000) => "40 ms",
            (Pattern::Spread, _) => "1500 ms",
        };
        let what = format!("redo or undo of {count} {} rows, {} MB", pattern.name(), subject.megabytes);
        report::figure(&what, "", &format!("{:.1} / {:.1} ms", redo.at(50), undo.at(50)), goal);
    }

    async fn clones(&self, subjects: &[&Subject]) {
        let client = self.replica.client("postgres").await;
        for subject in subjects {
            let sql =
                "SELECT datname::text FROM pg_database WHERE datname LIKE 'ptr\\_' || $1 || '\\_%creation'";
            let template: String =
                client.query_one(sql, &[&subject.database]).await.expect("a template").get(0);
            let mut times = Vec::new();
            for _ in 0..5 {
                let start = Instant::now();
                client
                    .batch_execute(&format!("CREATE DATABASE a_clone TEMPLATE \"{template}\""))
                    .await
                    .expect("a clone");
                client.batch_execute("DROP DATABASE a_clone").await.expect("a drop");
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            let times = Times::of(times);
            println!("CREATE DATABASE TEMPLATE and DROP, {} MB: {:.1} ms", subject.megabytes, times.at(50));
            let what = format!("(clone of the template and drop, {} MB)", subject.megabytes);
            report::figure(&what, &format!("{:.0} ms", times.at(50)), "", "");
        }
    }
}
