//! What capture costs the primary: pgbench's throughput and the servers' CPU with capture on and off, and the cost of
//! the event triggers on DDL, in one run, as ratios.
//!
//! `script/bench overhead`. Two servers alike: one is captured; the other has nothing of ours, and `wal_level`
//! replica, as it would have without us. They take turns, in alternating order; for pgbench a third one comes after them,
//! whose changes `pg_recvlogical` writes to a file, without REPLICA IDENTITY FULL: what any logical replication costs.
//! Nothing is asserted: it prints.
//! `OVERHEAD_PAIRS` (7), `OVERHEAD_TRANSACTIONS` (20000 a run), `OVERHEAD_DDL` (10000 statements).
#![allow(missing_docs)]

#[path = "shared/report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions, wait_until};
use support::{Product, Running};

const DATABASE: &str = "bank";
const SLOT: &str = "postgres_test_replay";

/// One run of one side.
struct Cost {
    wall: Duration,
    /// Of all processes of the server.
    server_cpu: Duration,
}

/// A server that is measured, and our process on it, if there is one.
struct Side {
    server: TestServer,
    capture: Option<Running>,
    /// Whether somebody reads the slot.
    is_read: bool,
}

/// `pg_recvlogical` on a server of its own.
struct Peer {
    side: Side,
    reader: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended with its server.
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tuned = |role, level: &str| {
            let options = TestServerOptions { role, ..TestServerOptions::default() };
            options
                .with("max_wal_size", "16GB")
                .with("shared_buffers", "256MB")
                .with("checkpoint_timeout", "1h")
                .with("max_locks_per_transaction", "2000")
                .with("wal_level", level)
        };
        let off = TestServer::start(ServerVersion::Debian15, tuned(ClusterRole::Primary, "replica")).await;
        let on = TestServer::start(ServerVersion::Debian15, tuned(ClusterRole::Primary, "logical")).await;
        let streamed =
            TestServer::start(ServerVersion::Debian15, tuned(ClusterRole::Primary, "logical")).await;
        let replica =
            TestServer::start(ServerVersion::Debian15, tuned(ClusterRole::Replica, "replica")).await;
        for server in [&off, &on, &streamed] {
            server.database(DATABASE).await;
            server.pgbench(DATABASE, &["-i", "-q", "-s", "10"]).await;
        }
        let input = on.dsn(DATABASE).to_uri_with_password();
        let product = Product::new(Some(&input), Some(&replica.dsn(DATABASE).to_uri_with_password()));
        // Keyframes are made on the output server, which is another machine's where the primary's time is dear.
        let product = product.with("KEYFRAME_BUDGET", "0");
        let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
        up.wait_for_text("capturing");
        let sides = [
            Side { server: off, capture: None, is_read: false },
            Side { server: on, capture: Some(up), is_read: true },
        ];
        transactions(&sides, &peer(streamed).await).await;
        schema_changes(&sides).await;
    });
}

async fn peer(server: TestServer) -> Peer {
    server.psql(DATABASE, "CREATE PUBLICATION peer FOR ALL TABLES").await;
    let slot = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
    server.psql(DATABASE, &slot).await;
    let file = server.folder().join("stream");
    let reader = Command::new(server.cluster().installation().program("pg_recvlogical"))
        .envs(server.dsn(DATABASE).libpq_environment())
        .args(["--dbname", DATABASE, "--slot", SLOT, "--start", "-f", support::path(&file)])
        .args([
            "-o",
            "proto_version=1",
            "-o",
            "publication_names=peer",
            "-o",
            "messages=true",
            "-s",
            "1",
            "-F",
            "1",
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("pg_recvlogical starts");
    Peer { side: Side { server, capture: None, is_read: true }, reader }
}

/// pgbench on both sides in turn, and then with the peer.
async fn transactions(sides: &[Side; 2], peer: &Peer) {
    let (pairs, count) = (setting("OVERHEAD_PAIRS", 7), setting("OVERHEAD_TRANSACTIONS", 20_000));
    println!(
        "pgbench: {pairs} pairs of {count} transactions (TPC-B, scale 10, 2 clients), after one to warm up"
    );
    let each = (count / 2).to_string();
    let arguments = ["-n", "-M", "prepared", "-c", "2", "-j", "1", "-t", &each];
    let own_before = own_cpu(&sides[1]);
    let peer_before = process(peer.reader.id()).map_or(Duration::ZERO, |process| process.cpu);
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    let (mut peer_wall, mut peer_cpu) = (Vec::new(), Vec::new());
    for pair in 0..=pairs {
        let [off, on] = in_turn(pair, sides, async |side| {
            side.server.pgbench(DATABASE, &arguments).await;
        })
        .await;
        let streamed = measured(&peer.side, &async |side: &Side| {
            side.server.pgbench(DATABASE, &arguments).await;
        })
        .await;
        if pair > 0 {
            println!("{}", line(&off, &on));
            wall.push(ratio(off.wall, on.wall));
            cpu.push(ratio(on.server_cpu, off.server_cpu));
            peer_wall.push(ratio(off.wall, streamed.wall));
            peer_cpu.push(ratio(streamed.server_cpu, off.server_cpu));
        }
    }
    let own =
        own_cpu(&sides[1]).saturating_sub(own_before) / u32::try_from((pairs + 1) * count).expect("small");
    let [wall, cpu, peer_wall, peer_cpu] = [wall, cpu, peer_wall, peer_cpu].map(median);
    println!("median: throughput on / off {wall:.3}, server CPU a transaction on / off {cpu:.3}");
    for (what, peer, ours, goal) in [
        ("pgbench on the primary, throughput on / off", peer_wall, wall, "0.95"),
        ("server CPU a transaction, on / off", peer_cpu, cpu, "1.10"),
    ] {
        report::figure(what, &format!("pg_recvlogical: {peer:.3}"), &format!("{ours:.3}"), goal);
    }
    println!("our own process: {:.1} µs of CPU a transaction", own.as_secs_f64() * 1e6);
    let theirs = process(peer.reader.id()).map_or(Duration::ZERO, |process| process.cpu);
    let theirs = theirs.saturating_sub(peer_before) / u32::try_from((pairs + 1) * count).expect("small");
    println!(
        "pg_recvlogical instead: throughput {peer_wall:.3}, server CPU {peer_cpu:.3}, its own process {:.1} µs a transaction\n",
        theirs.as_secs_f64() * 1e6
    );
}

/// DDL on both sides in turn: all in one transaction, and each in its own.
async fn schema_changes(sides: &[Side; 2]) {
    let count = setting("OVERHEAD_DDL", 10_000);
    let kinds = [
        ("in one transaction", true, count / 4),
        ("in one transaction", true, count),
        ("a transaction each", false, count),
    ];
    for (name, together, count) in kinds {
        println!("{count} DDL statements, {name}");
        let sql = ddl(count, together);
        let mut walls = Vec::new();
        for pair in 0..3 {
            let [off, on] = in_turn(pair, sides, async |side| {
                side.server.psql(DATABASE, &sql).await;
            })
            .await;
            println!("{}", line(&off, &on));
            walls.push((on.wall, off.wall));
        }
        walls.sort_by_key(|(on, _)| *on);
        let (on, off) = walls[1];
        let added =
            on.saturating_sub(off).as_secs_f64() * 1e6 / f64::from(u32::try_from(count).expect("small"));
        println!("median: time on / off {:.2}, {added:.0} µs more a statement\n", ratio(on, off));
    }
}

/// Five statements a table: it is made, altered, indexed, commented on and dropped.
fn ddl(count: usize, together: bool) -> String {
    let each = |number: usize| {
        format!(
            "CREATE TABLE ddl_{number} (id int PRIMARY KEY, v text);
             ALTER TABLE ddl_{number} ADD n numeric DEFAULT 0;
             CREATE INDEX ON ddl_{number} (n);
             COMMENT ON TABLE ddl_{number} IS 'number {number}';
             DROP TABLE ddl_{number};\n"
        )
    };
    let all: String = (0..count / 5).map(each).collect();
    if together { format!("BEGIN;\n{all}COMMIT;\n") } else { all }
}

/// Does the work on both sides, the one first that was second in the pair before: off, on.
async fn in_turn(pair: usize, sides: &[Side; 2], work: impl AsyncFn(&Side)) -> [Cost; 2] {
    let [off, on] = sides;
    if pair.is_multiple_of(2) {
        let off = measured(off, &work).await;
        [off, measured(on, &work).await]
    } else {
        let on = measured(on, &work).await;
        [measured(off, &work).await, on]
    }
}

/// The time of the work alone; the CPU until capture has it all, too.
async fn measured(side: &Side, work: &impl AsyncFn(&Side)) -> Cost {
    let (start, before) = (Instant::now(), server_cpu(&side.server));
    work(side).await;
    let wall = start.elapsed();
    if side.is_read {
        let client = side.server.client(DATABASE).await;
        let end: String =
            client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.expect("an LSN").get(0);
        let caught_up = format!(
            "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        );
        wait_until("capture has caught up", Duration::from_secs(600), async || {
            // An idle server's slot moves with what comes next.
            client
                .batch_execute("SELECT pg_logical_emit_message(true, 'bench', '')")
                .await
                .expect("a message");
            client
                .query_one(&caught_up, &[])
                .await
                .is_ok_and(|row| row.get::<_, Option<bool>>(0) == Some(true))
        })
        .await;
    }
    Cost { wall, server_cpu: server_cpu(&side.server).saturating_sub(before) }
}

fn line(off: &Cost, on: &Cost) -> String {
    format!(
        "  off {:7.2} s, {:7.2} s CPU   on {:7.2} s, {:7.2} s CPU   on / off: time {:.3}, CPU {:.3}",
        off.wall.as_secs_f64(),
        off.server_cpu.as_secs_f64(),
        on.wall.as_secs_f64(),
        on.server_cpu.as_secs_f64(),
        ratio(on.wall, off.wall),
        ratio(on.server_cpu, off.server_cpu)
    )
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn own_cpu(side: &Side) -> Duration {
    let pid = side.capture.as_ref().map(|running| running.child.id());
    pid.and_then(process).map_or(Duration::ZERO, |process| process.cpu)
}

/// CPU of the postmaster, of its children, and of those that have ended.
fn server_cpu(server: &TestServer) -> Duration {
    let postmaster = server.cluster().pid().expect("it runs");
    let all = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(process);
    all.map(|process| match process {
        Process { pid, cpu, of_ended, .. } if pid == postmaster => cpu + of_ended,
        Process { parent, cpu, .. } if parent == postmaster => cpu,
        _ => Duration::ZERO,
    })
    .sum()
}

struct Process {
    pid: u32,
    parent: u32,
    cpu: Duration,
    /// Of children that ended.
    of_ended: Duration,
}

/// From `/proc/<pid>/stat`, which counts in hundredths of a second.
fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_millis(ticks * 10);
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        cpu: time(ticks(11)? + ticks(12)?),
        of_ended: time(ticks(13)? + ticks(14)?),
    })
}
