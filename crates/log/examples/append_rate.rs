//! How fast transactions like pgbench's are appended, what they cost, and how small they become.
//!
//! `cargo run --release -p ptr-log --example append_rate [TRANSACTIONS] [TRANSACTIONS PER FLUSH]`
//!
//! The bytes are compared with those of the same changes as pgoutput sends them (protocol 1, text, whole old
//! rows), without the frame of each message.

use std::{error::Error, fs, hint::black_box, sync::Arc, time::Instant};

use bytes::Bytes;
use ptr_log::{Item, Log, LogIdentity, Writer, WriterOptions};
use ptr_model::{
    Anchor, Change, Column, Datum, Lsn, Oid, OldTuple, PositionExpression, Relation, ReplicaIdentity,
    Timestamp, TransactionHeader, Tuple, Xid,
};

/// 2026-01-01.
const FIRST_TIME: i64 = 1_767_225_600_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let transactions: u32 = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let per_flush: u32 = arguments.next().map_or(Ok(1_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("log");
    ptr_log::create(&directory, &identity())?;
    let history: Vec<_> = PgBench::new().take(transactions as usize).collect();
    let wire_bytes: usize = history.iter().map(|(_, changes)| wire_size(changes)).sum();

    let mut writer = Writer::open(&directory, WriterOptions::default())?;
    let (started, cpu) = (Instant::now(), thread_seconds()?);
    for (number, (header, changes)) in (1u32..).zip(&history) {
        writer.begin(header)?;
        for change in changes {
            writer.append(change)?;
        }
        writer.commit(header.end_lsn)?;
        if number % per_flush == 0 {
            writer.flush()?;
        }
    }
    writer.flush()?;
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), thread_seconds()? - cpu);
    let before_sealing = size_of_segments(&directory)?;
    writer.close()?;
    let sealed = started.elapsed().as_secs_f64();

    let log = Log::open(&directory)?;
    let statistics = log.statistics()?;
    let index_bytes = fs::metadata(directory.join("index.sqlite"))?.len();
    let each = f64::from(transactions);
    println!(
        "{transactions} transactions, {} entries, {per_flush} transactions a flush",
        statistics.counts.total()
    );
    println!(
        "append and flush   {elapsed:.2} s, {:.2} us of the writer's CPU a transaction",
        cpu / each * 1e6
    );
    println!("  and sealed       {sealed:.2} s");
    let ratio = |bytes: u64| bytes as f64 / wire_bytes as f64;
    println!("pgoutput           {wire_bytes} bytes");
    println!(
        "records            {} bytes, {:.3} of pgoutput",
        statistics.raw_bytes,
        ratio(statistics.raw_bytes)
    );
    println!("before sealing     {before_sealing} bytes, {:.3}", ratio(before_sealing));
    println!("after sealing      {} bytes, {:.3}", statistics.segment_bytes, ratio(statistics.segment_bytes));
    println!("index              {index_bytes} bytes, {:.0} a transaction", index_bytes as f64 / each);

    let started = Instant::now();
    let mut entries = 0u64;
    for item in log.read(0, statistics.transactions)? {
        if let Item::Change(change) = item? {
            black_box(&change);
            entries += 1;
        }
    }
    println!("read               {:.2} s for {entries} entries", started.elapsed().as_secs_f64());
    let (started, span) =
        (Instant::now(), history.last().map_or(0, |(header, _)| header.commit_time.0 - FIRST_TIME));
    for probe in 0..1_000 {
        let time = Timestamp(FIRST_TIME + span / 1_000 * probe);
        let anchor = Anchor { session_ordinal: None, now: time };
        black_box(log.resolve(&PositionExpression::Time(time), anchor, &|_| None)?);
    }
    println!("resolve a time     {:.2} ms each", started.elapsed().as_secs_f64());
    let started = Instant::now();
    Log::rebuild_index(&directory)?;
    println!("index rebuilt      {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn identity() -> LogIdentity {
    LogIdentity {
        system_identifier: 1,
        timeline: 1,
        database: "bench".to_owned(),
        database_oid: Oid(5),
        creation: Lsn(0x100_0000),
        created_at: Timestamp(0),
        log_id: uuid::Uuid::from_u128(1),
    }
}

fn size_of_segments(directory: &std::path::Path) -> std::io::Result<u64> {
    fs::read_dir(directory.join("segments"))?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// Seconds of CPU that this thread has had.
fn thread_seconds() -> Result<f64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

/// Bytes of a transaction's messages: BEGIN, the changes, COMMIT.
fn wire_size(changes: &[Change]) -> usize {
    let tuple = |tuple: &Tuple| 3 + tuple.0.iter().map(|datum| 5 + datum.size()).sum::<usize>();
    let change = |change: &Change| match change {
        Change::Insert { new, .. } => 5 + tuple(new),
        Change::Update { old: OldTuple::Full(old), new, .. } => 5 + tuple(old) + tuple(new),
        _ => 0,
    };
    21 + 26 + changes.iter().map(change).sum::<usize>()
}

/// The transactions of `pgbench`: three updates and an insert each, scale 10.
struct PgBench {
    relations: [Arc<Relation>; 4],
    balances: std::collections::HashMap<(usize, u64), i64>,
    random: u64,
    number: u32,
    lsn: u64,
    time: i64,
}

impl PgBench {
    fn new() -> Self {
        let relations = [
            relation(1, "pgbench_accounts", &["aid", "bid", "abalance", "filler"]),
            relation(2, "pgbench_tellers", &["tid", "bid", "tbalance", "filler"]),
            relation(3, "pgbench_branches", &["bid", "bbalance", "filler"]),
            relation(4, "pgbench_history", &["tid", "bid", "aid", "delta", "mtime", "filler"]),
        ];
        let (random, lsn, time) = (1, 0x100_0000, FIRST_TIME);
        Self { relations, balances: std::collections::HashMap::new(), random, number: 0, lsn, time }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % limit
    }

    fn update(&mut self, table: usize, key: u64, delta: i64) -> Change {
        let balance = self.balances.entry((table, key)).or_default();
        let (before, after) = (*balance, *balance + delta);
        *balance = after;
        let branch = key / 100_000 + 1;
        let row = |balance: i64| {
            let (key, branch, balance) = (text(key), text(branch), text(balance));
            Tuple(match table {
                0 => vec![key, branch, balance, text(" ".repeat(84))],
                1 => vec![key, branch, balance, Datum::Null],
                _ => vec![key, balance, Datum::Null],
            })
        };
        Change::Update {
            relation: Arc::clone(&self.relations[table]),
            old: OldTuple::Full(row(before)),
            new: row(after),
        }
    }
}

impl Iterator for PgBench {
    type Item = (TransactionHeader, Vec<Change>);

    fn next(&mut self) -> Option<Self::Item> {
        let (account, teller) = (self.below(1_000_000) + 1, self.below(100) + 1);
        let (branch, delta) = (self.below(10) + 1, self.below(10_001).cast_signed() - 5_000);
        self.time += 100 + self.below(400).cast_signed();
        let commit_lsn = Lsn(self.lsn + 700 + self.below(300));
        self.lsn = commit_lsn.0 + 48;
        self.number += 1;
        let header = TransactionHeader {
            xid: Xid(1_000 + self.number),
            commit_lsn,
            end_lsn: Lsn(self.lsn),
            commit_time: Timestamp(self.time),
            origin: None,
        };
        let time = Timestamp(self.time - 50).to_string().replace('T', " ").replace('Z', "");
        let history =
            Tuple(vec![text(teller), text(branch), text(account), text(delta), text(time), Datum::Null]);
        let changes = vec![
            self.update(0, account, delta),
            self.update(1, teller, delta),
            self.update(2, branch, delta),
            Change::Insert { relation: Arc::clone(&self.relations[3]), new: history },
        ];
        Some((header, changes))
    }
}

fn text(value: impl ToString) -> Datum {
    Datum::Text(Bytes::from(value.to_string()))
}

fn relation(oid: u32, name: &str, columns: &[&str]) -> Arc<Relation> {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        in_identity: true,
        type_oid: Oid(23),
        type_modifier: -1,
        type_name: "integer".to_owned(),
    };
    Arc::new(Relation {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: name.to_owned(),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.iter().map(column).collect(),
    })
}
