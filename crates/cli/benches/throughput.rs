//! Capture and replay of the same changes by us and by PostgreSQL's own tools, in one run, as ratios.
//!
//! `cargo bench -p postgres-test-replay`, or `script/bench`. One primary makes 800,000 changes with pgbench; then
//! `pg_recvlogical` and our listener each drain a slot that kept them all, and a built-in subscription and our
//! `navigate` each bring a replica from before them to after them. Then the same replay of a million updates of a hundred
//! rows. Nothing is asserted: it prints.
#![allow(missing_docs)]

#[path = "shared/report.rs"]
mod report;
#[path = "shared/servers.rs"]
mod servers;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ptr_testkit::TestServer;
use servers::setting;
use support::{Product, path};

const SCALE: &str = "10";
const CLIENTS: u64 = 4;

/// Our slot's name.
const SLOT: &str = "postgres_test_replay";

/// What one side of a comparison cost.
struct Cost {
    wall: Duration,
    cpu: Duration,
    peak_kilobytes: u64,
}

impl Cost {
    /// The median of each figure.
    fn median(costs: &[Self]) -> Self {
        let mut wall: Vec<_> = costs.iter().map(|cost| cost.wall).collect();
        let mut cpu: Vec<_> = costs.iter().map(|cost| cost.cpu).collect();
        let mut peak: Vec<_> = costs.iter().map(|cost| cost.peak_kilobytes).collect();
        wall.sort();
        cpu.sort();
        peak.sort();
        let middle = costs.len() / 2;
        Self { wall: wall[middle], cpu: cpu[middle], peak_kilobytes: peak[middle] }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} s, {:.2} s of CPU", self.wall.as_secs_f64(), self.cpu.as_secs_f64())
    }
}

/// Our slot and our log before a round of capture.
struct Saved {
    log: tempfile::TempDir,
}

/// What our slot is copied to while rounds use up copies of it.
const SAVED_SLOT: &str = "before_the_rounds";

impl Saved {
    async fn of(primary: &TestServer, product: &Product) -> Self {
        copy_slot(primary, SAVED_SLOT).await;
        let log = tempfile::tempdir_in(product.folder.path()).expect("a folder");
        copy_folder(&product.data_directory().join("log"), &log.path().join("log"));
        Self { log }
    }

    async fn put_back(&self, primary: &TestServer, product: &Product) {
        let swap = format!(
            "SELECT pg_drop_replication_slot('{SLOT}'); SELECT pg_copy_logical_replication_slot('{SAVED_SLOT}', '{SLOT}')"
        );
        primary.psql("bank", &swap).await;
        let log = product.data_directory().join("log");
        std::fs::remove_dir_all(&log).expect("the log of the round before");
        copy_folder(&self.log.path().join("log"), &log);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("cp starts");
    assert!(status.success(), "cp failed");
}

/// A slot where ours is.
async fn copy_slot(primary: &TestServer, name: &str) {
    primary.psql("bank", &format!("SELECT pg_copy_logical_replication_slot('{SLOT}', '{name}')")).await;
}

fn main() {
    let transactions = setting("BENCH_TRANSACTIONS", 200_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(compare(transactions));
}

async fn compare(transactions: u64) {
    let (primary, replica) = servers::pair("16GB").await;
    primary.database("bank").await;
    replica.database("peer").await;
    for (server, database) in [(&primary, "bank"), (&replica, "peer")] {
        server.pgbench(database, &["-i", "-q", "-s", SCALE]).await;
    }
    let product = Product::new(
        Some(&primary.dsn("bank").to_uri_with_password()),
        Some(&replica.dsn("bank").to_uri_with_password()),
    );
    println!("set-up and base image");
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    product.run(&["down"]);
    drop(up);
    // Our publication is for all tables, ours among them, which a subscriber does not have.
    let tables = "pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history";
    primary.psql("bank", &format!("CREATE PUBLICATION peer FOR TABLE {tables}")).await;
    primary.psql("bank", "SELECT pg_create_logical_replication_slot('peer_subscription', 'pgoutput')").await;
    let rounds = setting("BENCH_ROUNDS", 3);
    let peers: Vec<String> = (0..rounds).map(|round| format!("peer_file_{round}")).collect();
    for slot in &peers {
        copy_slot(&primary, slot).await;
    }
    println!("{transactions} pgbench transactions, {} changes", transactions * 4);
    let each = (transactions / CLIENTS).to_string();
    let clients = CLIENTS.to_string();
    primary.pgbench("bank", &["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-t", &each]).await;
    let end = primary
        .psql("bank", "SELECT pg_logical_emit_message(true, 'bench', 'end'); SELECT pg_current_wal_lsn()")
        .await;
    let end = end.lines().last().expect("an LSN").to_owned();
    primary.psql("bank", "SELECT pg_logical_emit_message(true, 'bench', 'after the end')").await;

    // Each round begins from the same files: the slot and the log as they were.
    let ahead = Saved::of(&primary, &product).await;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let file = primary.folder().join("stream");
    for (round, slot) in peers.iter().enumerate() {
        ahead.put_back(&primary, &product).await;
        // Whoever goes second finds in memory what the first one read.
        if round % 2 == 0 {
            theirs.push(receive(&primary, slot, &file, &end).await);
        }
        ours.push(listen(&primary, &product, &Pair::BANK, &end).await);
        if round % 2 == 1 {
            theirs.push(receive(&primary, slot, &file, &end).await);
        }
        println!("round {}: pg_recvlogical {}, ours {}", round + 1, theirs[round], ours[round]);
    }
    let stream_bytes = std::fs::metadata(&file).expect("the stream").len();
    let log_bytes = folder_bytes(&product.data_directory().join("log").join("bank").join("segments"));
    println!();
    row("capture", "pg_recvlogical", &Cost::median(&theirs), &Cost::median(&ours), ["0.6", "0.5"]);
    println!(
        "log bytes per stream byte: {:.3} ({log_bytes} of {stream_bytes})",
        ratio(log_bytes, stream_bytes)
    );
    report::figure(
        "sealed segments, bytes",
        &format!("pgoutput: {stream_bytes}"),
        &format!("{:.3}", ratio(log_bytes, stream_bytes)),
        "0.15",
    );

    let peer = subscribe(&primary, &replica, &Pair::BANK, &end).await;
    let ours = navigate(&product).await;
    row("replay", "subscription", &peer, &ours, ["1/6", ""]);
    let anew = navigate_to_head(&product, &["--rebuild"]).await;
    row("replay over three connections, copy included", "subscription", &peer, &anew, ["1/8", ""]);
    println!("(a subscription's CPU and memory are the server's, and not counted)");
    drop(product);
    replay_hot(&primary, &replica).await;
}

/// A captured database, the built-in subscription's copy of it, and who reads its changes.
struct Pair {
    database: &'static str,
    peer: &'static str,
    slot: &'static str,
    peer_slot: &'static str,
}

impl Pair {
    const BANK: Self = Self { database: "bank", peer: "peer", slot: SLOT, peer_slot: "peer_subscription" };
    const HOT: Self =
        Self { database: "hot", peer: "hot_peer", slot: "hot_ours", peer_slot: "hot_subscription" };
}

/// A hundred rows that change all the time, ten changes a transaction.
async fn replay_hot(primary: &TestServer, replica: &TestServer) {
    let updates = setting("BENCH_HOT", 1_000_000);
    let pair = Pair::HOT;
    primary.database(pair.database).await;
    replica.database(pair.peer).await;
    for (server, database) in [(primary, pair.database), (replica, pair.peer)] {
        let make = "CREATE TABLE hot (id int PRIMARY KEY, v bigint NOT NULL, filler text NOT NULL);
                    INSERT INTO hot SELECT i, 0, repeat('x', 80) FROM generate_series(0, 99) i";
        server.psql(database, make).await;
    }
    let product = Product::new(
        Some(&primary.dsn(pair.database).to_uri_with_password()),
        Some(&replica.dsn(pair.database).to_uri_with_password()),
    )
    .with("REPLICATION_SLOT", pair.slot);
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    product.run(&["down"]);
    drop(up);
    primary.psql(pair.database, "CREATE PUBLICATION peer FOR TABLE hot").await;
    let slot = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", pair.peer_slot);
    primary.psql(pair.database, &slot).await;
    println!("\n{updates} updates of 100 rows");
    let change = format!(
        "DO $$ BEGIN FOR i IN 1..{updates} LOOP UPDATE hot SET v = v + 1 WHERE id = i % 100;
         IF i % 10 = 0 THEN COMMIT; END IF; END LOOP; END $$"
    );
    primary.psql(pair.database, &change).await;
    let end = primary
        .psql(
            pair.database,
            "SELECT pg_logical_emit_message(true, 'bench', 'end'); SELECT pg_current_wal_lsn()",
        )
        .await;
    let end = end.lines().last().expect("an LSN").to_owned();
    primary.psql(pair.database, "SELECT pg_logical_emit_message(true, 'bench', 'after the end')").await;
    listen(primary, &product, &pair, &end).await;
    let peer = subscribe(primary, replica, &pair, &end).await;
    row("hot rows", "subscription", &peer, &navigate(&product).await, ["1/50", ""]);
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn row(what: &str, peer_name: &str, peer: &Cost, ours: &Cost, [wall_goal, cpu_goal]: [&str; 2]) {
    for (name, cost) in [(peer_name, peer), ("ours", ours)] {
        let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
        println!(
            "{what:8} {name:15} wall {wall:7.2} s   own CPU {cpu:7.2} s   peak {:6} kB",
            cost.peak_kilobytes
        );
    }
    let wall = ours.wall.as_secs_f64() / peer.wall.as_secs_f64();
    println!("{what:8} ours / {peer_name}: wall {wall:.2} ({:.2} times as fast)", 1.0 / wall);
    let told = |duration: Duration, ratio: f64| {
        format!("{:.2} s, {ratio:.2} of it, {:.1} times as fast", duration.as_secs_f64(), 1.0 / ratio)
    };
    let theirs = |duration: Duration| format!("{peer_name}: {:.2} s", duration.as_secs_f64());
    report::figure(what, &theirs(peer.wall), &told(ours.wall, wall), wall_goal);
    if !peer.cpu.is_zero() {
        let cpu = ours.cpu.as_secs_f64() / peer.cpu.as_secs_f64();
        println!("{what:8} ours / {peer_name}: own CPU {cpu:.2}");
        report::figure(&format!("{what}, own CPU"), &theirs(peer.cpu), &told(ours.cpu, cpu), cpu_goal);
    }
}

/// Watches a process until `done`, or until it ends by itself.
async fn watch(start: Instant, child: &mut Child, mut done: impl AsyncFnMut() -> bool) -> Cost {
    let mut cost = Cost { wall: Duration::ZERO, cpu: Duration::ZERO, peak_kilobytes: 0 };
    loop {
        let finished = done().await;
        if let Some((cpu, peak)) = usage(child.id()) {
            (cost.cpu, cost.peak_kilobytes) = (cpu, peak);
        }
        if finished || child.try_wait().expect("a child").is_some() {
            cost.wall = start.elapsed();
            return cost;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// CPU time and peak resident memory of a living process.
fn usage(pid: u32) -> Option<(Duration, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some((Duration::from_millis(ticks * 10), peak.trim().trim_end_matches(" kB").parse().ok()?))
}

async fn receive(primary: &TestServer, slot: &str, file: &Path, end: &str) -> Cost {
    // It appends to a file that is there.
    drop(std::fs::remove_file(file));
    let start = Instant::now();
    let mut child = Command::new(primary.cluster().installation().program("pg_recvlogical"))
        .envs(primary.dsn("bank").libpq_environment())
        .args(["--dbname", "bank", "--slot", slot, "--start", "--no-loop", "--endpos", end, "-f", path(file)])
        .args([
            "-o",
            "proto_version=1",
            "-o",
            "publication_names=postgres_test_replay",
            "-o",
            "messages=true",
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("pg_recvlogical starts");
    watch(start, &mut child, async || false).await
}

async fn listen(primary: &TestServer, product: &Product, pair: &Pair, end: &str) -> Cost {
    let client = primary.client(pair.database).await;
    let query = format!(
        "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{}'",
        pair.slot
    );
    let start = Instant::now();
    let mut running = product.spawn("listener", &["listener"]);
    let cost = watch(start, &mut running.child, async || {
        client.query_one(&query, &[]).await.is_ok_and(|row| row.get::<_, Option<bool>>(0) == Some(true))
    })
    .await;
    drop(running);
    // The server notices a moment later that nobody reads the slot.
    let in_use = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{}'", pair.slot);
    while client.query_one(&in_use, &[]).await.is_ok_and(|row| row.get(0)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cost
}

async fn subscribe(primary: &TestServer, replica: &TestServer, pair: &Pair, end: &str) -> Cost {
    let source = primary.dsn(pair.database);
    let value = |name: &str| {
        let all = source.libpq_environment();
        all.into_iter().find(|(key, _)| key == name).map(|(_, value)| value).unwrap_or_default()
    };
    let connection = format!(
        "host={} port={} user={} password={} dbname={}",
        value("PGHOST"),
        value("PGPORT"),
        value("PGUSER"),
        value("PGPASSWORD"),
        pair.database
    );
    let create = format!(
        "CREATE SUBSCRIPTION peer CONNECTION '{connection}' PUBLICATION peer
         WITH (create_slot = false, slot_name = '{}', copy_data = false, enabled = false, synchronous_commit = off)",
        pair.peer_slot
    );
    replica.psql(pair.peer, &create).await;
    let client = primary.client(pair.database).await;
    let query = format!(
        "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{}'",
        pair.peer_slot
    );
    let start = Instant::now();
    replica.psql(pair.peer, "ALTER SUBSCRIPTION peer ENABLE").await;
    while !client.query_one(&query, &[]).await.is_ok_and(|row| row.get::<_, Option<bool>>(0) == Some(true)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let wall = start.elapsed();
    replica.psql(pair.peer, "ALTER SUBSCRIPTION peer DISABLE; ALTER SUBSCRIPTION peer SET (slot_name = NONE); DROP SUBSCRIPTION peer").await;
    Cost { wall, cpu: Duration::ZERO, peak_kilobytes: 0 }
}

/// From CREATION to head, in the session's own database, which is made before, as the subscription's was.
async fn navigate(product: &Product) -> Cost {
    product.run(&["navigate", "CREATION"]);
    navigate_to_head(product, &[]).await
}

/// With `--rebuild` in a database that is made anew: a copy of the one at CREATION, and the rows over several connections.
async fn navigate_to_head(product: &Product, options: &[&str]) -> Cost {
    let start = Instant::now();
    let mut running = product.spawn("navigate", &[&["navigate", "head"], options].concat());
    let cost = watch(start, &mut running.child, async || false).await;
    print!("{}", running.printed());
    cost
}

fn folder_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("the segments");
    files.filter_map(Result::ok).filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}
