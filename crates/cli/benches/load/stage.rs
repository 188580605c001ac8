//! What each section plays on: two servers, a service, and eyes on its memory and its connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};
use serde_json::{Value, json};

use crate::{
    api::Api,
    report,
    support::{Product, Running},
};

pub const DATABASE: &str = "bank";

/// What the service may hold, in MB.
const GOAL: u64 = 256;

pub struct Stage {
    pub primary: TestServer,
    pub replica: TestServer,
    pub product: Product,
    pub api: Api,
    up: Running,
    section: &'static str,
    /// The most memory so far, in MB.
    most: u64,
    wrong: u64,
}

impl Stage {
    /// Fills the database on the primary, whose server has these further settings, and begins to capture it.
    pub async fn set(section: &'static str, settings: &[(&str, &str)], fill: &str) -> Self {
        let server = async |role, settings: &[(&str, &str)]| {
            let options = TestServerOptions { role, ..TestServerOptions::default() }
                .with("max_wal_size", "4GB")
                .with("shared_buffers", "512MB")
                .with("checkpoint_timeout", "1h");
            let options = settings.iter().fold(options, |options, (name, value)| options.with(name, value));
            TestServer::start(ServerVersion::Debian15, options).await
        };
        let primary = server(ClusterRole::Primary, settings).await;
        let replica = server(ClusterRole::Replica, &[]).await;
        primary.database(DATABASE).await;
        primary.psql(DATABASE, fill).await;
        let product = Product::new(
            Some(&primary.dsn(DATABASE).to_uri_with_password()),
            Some(&replica.dsn(DATABASE).to_uri_with_password()),
        );
        let began = Instant::now();
        let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
        while !up.printed().contains("capturing") {
            let ended = up.child.try_wait().expect("the service can be waited for");
            assert!(ended.is_none(), "the service ended:\n{}", up.printed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let api = Api::of(&product.data_directory());
        let mut stage = Self { primary, replica, product, api, up, section, most: 0, wrong: 0 };
        stage.tell("set-up", began);
        stage
    }

    /// Prints how long something took, and the peak of the service's memory since the last time.
    pub fn tell(&mut self, what: &str, since: Instant) {
        let took = report::time(since.elapsed());
        let peak = self.peak();
        println!("{peak:5} MB {took:>9}  {what}");
    }

    /// The peak since the last time, in MB; sets it back.
    fn peak(&mut self) -> u64 {
        let peak = self.status("VmHWM:");
        // 5: the peak becomes what is resident now.
        let file = format!("/proc/{}/clear_refs", self.up.child.id());
        std::fs::write(file, "5").expect("the process is ours");
        self.most = self.most.max(peak);
        peak
    }

    /// What is resident now, in MB.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    fn status(&self, field: &str) -> u64 {
        let file = format!("/proc/{}/status", self.up.child.id());
        let status = std::fs::read_to_string(file).expect("the service runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a size");
        let kilobytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kilobytes >> 10
    }

    /// CPU time that the service has used.
    pub fn cpu(&self) -> Duration {
        let file = format!("/proc/{}/stat", self.up.child.id());
        let stat = std::fs::read_to_string(file).expect("the service runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks = |place: usize| -> u64 {
            fields.split_whitespace().nth(place).expect("a field").parse().expect("a number")
        };
        // utime and stime, in hundredths of a second.
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    /// Prints whether something held. Only what is wrong counts, not what is slow.
    pub fn judge(&mut self, right: bool, what: &str) {
        println!("  {} {what}", if right { "held: " } else { "WRONG:" });
        self.wrong += u64::from(!right);
    }

    pub fn checkpoint(&mut self, name: &str) {
        self.api.checkpoint(name);
    }

    /// Takes the active session to a checkpoint, and tells how.
    pub fn navigate(&mut self, place: &str) -> Value {
        let began = Instant::now();
        let answer = self.api.post("/api/navigate", &json!({"checkpoint_id": place, "limit": 1}));
        let strategy = answer["strategy"].as_str().unwrap_or_default().to_owned();
        self.tell(&format!("to {place} by {strategy}"), began);
        answer
    }

    /// Asks the same of both sides, which have to agree.
    pub async fn same(&mut self, what: &str, sql: &str) {
        let (primary, replica) = (self.primary.psql(DATABASE, sql), self.replica.psql(DATABASE, sql));
        let (primary, replica) = tokio::join!(primary, replica);
        self.judge(primary == replica, &format!("{what} is the same on both sides"));
        if primary != replica {
            println!("primary: {}\nreplica: {}", primary.trim(), replica.trim());
        }
    }

    /// How long some answers take.
    pub fn time_answers(&mut self, paths: &[&str]) {
        for path in paths {
            let began = Instant::now();
            let answer = self.api.ask("GET", path, "");
            let took = began.elapsed();
            self.judge(
                answer.status == 200,
                &format!("GET {path}: {} in {}", answer.status, report::time(took)),
            );
        }
    }

    /// Bytes of the log: segments, index.
    pub fn log_bytes(&self) -> (u64, u64) {
        let log = self.product.data_directory().join("log").join(DATABASE);
        let size = |path: std::path::PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        let segments = std::fs::read_dir(log.join("segments")).expect("segments");
        let segments = segments.map(|file| size(file.expect("a file").path())).sum();
        // SQLite's write-ahead log is as long as it once was, whatever the index.
        (segments, size(log.join("index.sqlite")))
    }

    /// Watches how many connections the service has to the output server.
    pub async fn watch_connections(&self) -> Connections {
        let client = self.replica.client("postgres").await;
        let (most, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&most), Arc::clone(&ended));
        let task = tokio::spawn(async move {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postgres-test-replay'";
            while !stop.load(Ordering::Relaxed) {
                let count: i64 = client.query_one(sql, &[]).await.expect("a count").get(0);
                seen.fetch_max(count.unsigned_abs(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Connections { most, ended, task }
    }

    /// Ends the service; how many things were wrong.
    pub fn end(mut self) -> u64 {
        let most = self.most.max(self.peak());
        println!("  at most {most} MB (goal {GOAL} MB)");
        report::figure(
            &format!("load, {}: memory of the service, at most", self.section),
            "",
            &format!("{most} MB"),
            &format!("{GOAL} MB"),
        );
        self.product.run(&["down"]);
        self.wrong
    }
}

pub struct Connections {
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Connections {
    pub async fn most(self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        self.task.await.expect("the watch");
        self.most.load(Ordering::Relaxed)
    }
}

/// The value at a share of the sorted ones, in thousandths.
pub fn at<T: Copy>(sorted: &[T], per_mille: usize) -> T {
    sorted[(sorted.len() - 1) * per_mille / 1000]
}

/// `p50 1.0 ms, p99 3.0 ms, longest 5.0 ms`.
pub fn spread(mut times: Vec<Duration>) -> String {
    if times.is_empty() {
        return "none".to_owned();
    }
    times.sort();
    let [middle, late, last] = [500, 990, 1000].map(|place| report::time(at(&times, place)));
    format!("p50 {middle}, p99 {late}, longest {last}")
}

/// A history of one table in which the checkpoint `c<k>` is where `ticks` has `k` rows, a transaction each: what a
/// session at any of them holds can be told by counting.
pub async fn ticks(section: &'static str, checkpoints: u64) -> (Stage, Vec<Duration>) {
    let fill = "CREATE TABLE ticks (id bigint PRIMARY KEY, v text NOT NULL)";
    let mut stage = Stage::set(section, &[], fill).await;
    let client = stage.primary.client(DATABASE).await;
    let mut took = Vec::new();
    let began = Instant::now();
    for k in 1..=checkpoints {
        let id = i64::try_from(k).expect("few");
        let insert = "INSERT INTO ticks VALUES ($1, repeat(md5($1::bigint::text), 3))";
        client.execute(insert, &[&id]).await.expect("a row");
        let start = Instant::now();
        stage.checkpoint(&format!("c{k}"));
        took.push(start.elapsed());
    }
    client.close().await;
    stage.tell(&format!("{checkpoints} checkpoints, a transaction before each"), began);
    (stage, took)
}

/// Whether a session's database is at `c<k>`, by count and by content.
pub async fn is_at(replica: &TestServer, database: &str, k: u64) -> bool {
    let sql = "SELECT count(*) || ' ' || coalesce(sum(id), 0) || ' ' || count(*) FILTER (WHERE v <> repeat(md5(id::text), 3)) FROM ticks";
    let found = replica.psql(database, sql).await;
    found.trim() == format!("{k} {} 0", k * (k + 1) / 2)
}
