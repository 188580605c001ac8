//! Buckets of the log against counting transaction by transaction.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use ptr_log::{Axis, Bucket, Log, TransactionQuery};
use ptr_model::{OperationCounts, Timestamp, Transaction};
use support::{START, TestLog, delete, insert, message, relation, transaction, update};

/// More than two chunks of the index, with a pause, and with a clock that was set back once.
fn history() -> Vec<Transaction> {
    let table = relation(1, "items", &["id"]);
    let mut time = START;
    (0..2500)
        .map(|number| {
            let change = match number % 4 {
                0 | 1 => insert(&table, &["1"]),
                2 => update(&table, &["1"], &["2"]),
                _ => delete(&table, &["2"]),
            };
            let more = (0..number % 3).map(|_| message("x"));
            let mut made = transaction(number, [change].into_iter().chain(more).collect());
            time += match number {
                700 => 3_600_000_000,
                1100 => -5_000_000,
                _ => 1_000 * (1 + i64::try_from(number % 7).unwrap()),
            };
            made.header.commit_time = Timestamp(time);
            made
        })
        .collect()
}

fn log() -> (TestLog, Log) {
    let test = TestLog::create();
    test.write(&history());
    let log = test.log();
    (test, log)
}

fn counted(log: &Log, from: u64, to: u64) -> OperationCounts {
    let mut sum = OperationCounts::default();
    let mut since = from;
    while since < to {
        let query = TransactionQuery {
            since: Some(since),
            until: Some(to),
            limit: 1000,
            ..TransactionQuery::default()
        };
        for found in log.transactions(&query).unwrap() {
            sum.inserts += found.counts.inserts;
            sum.updates += found.counts.updates;
            sum.deletes += found.counts.deletes;
            sum.messages += found.counts.messages;
            since = found.ordinal + 1;
        }
    }
    sum
}

/// The buckets follow each other without a gap, and each holds what is really there.
fn assert_whole(log: &Log, buckets: &[Bucket], from: u64, to: u64) {
    let mut next = from;
    for bucket in buckets {
        assert_eq!(bucket.since, log.position_at(next).unwrap());
        next += bucket.transactions;
        assert_eq!(bucket.counts, counted(log, bucket.since.ordinal, next));
    }
    assert_eq!(next, to);
}

#[test]
fn buckets_of_either_axis_hold_every_transaction_of_the_range_once() {
    let (_test, log) = log();
    for axis in [Axis::Transactions, Axis::Time] {
        for (from, to) in [(0, 2500), (1, 2499), (1000, 1100), (1020, 2050), (7, 8), (2499, 2500)] {
            for buckets in [1, 2, 3, 7, 120, 5000] {
                let found = log.histogram(from..to, axis, buckets).unwrap();
                assert!(found.len() <= buckets + 1, "{axis:?} {from}..{to} in {buckets}: {}", found.len());
                assert_whole(&log, &found, from, to);
            }
        }
    }
}

#[test]
fn a_bucket_of_time_begins_at_the_position_that_its_moment_means() {
    let (_test, log) = log();
    let buckets = log.histogram(0..2500, Axis::Time, 50).unwrap();
    let width = buckets[1].time.0 - buckets[0].time.0;
    assert!(buckets.windows(2).all(|pair| pair[1].time.0 - pair[0].time.0 == width));
    // The pause of an hour is most of the axis.
    assert!(buckets.iter().filter(|bucket| bucket.transactions == 0).count() > 40);
    assert_eq!(buckets[0].since.ordinal, 0);
}

#[test]
fn nothing_has_no_buckets() {
    let test = TestLog::create();
    assert!(test.log().histogram(0..10, Axis::Time, 10).unwrap().is_empty());
    let (_test, log) = log();
    assert!(log.histogram(5..5, Axis::Transactions, 10).unwrap().is_empty());
    assert_eq!(log.histogram(2490..9999, Axis::Transactions, 1).unwrap()[0].transactions, 10);
}

#[test]
fn the_extent_of_a_range_is_what_its_transactions_hold() {
    let (_test, log) = log();
    for (from, to) in [(0, 2500), (0, 1024), (1000, 1100), (1023, 2049), (7, 7), (2400, 9_000)] {
        let extent = log.extent(from..to).unwrap();
        let to = to.min(2500);
        let query = |since| TransactionQuery {
            since: Some(since),
            until: Some(to),
            limit: 1000,
            ..TransactionQuery::default()
        };
        let pages = (from..to).step_by(1000).flat_map(|since| log.transactions(&query(since)).unwrap());
        assert_eq!(extent.bytes, pages.map(|one| one.bytes).sum::<u64>());
        assert_eq!((extent.counts, extent.transactions), (counted(&log, from, to), to - from));
    }
}

#[test]
fn transactions_that_are_more_than_ordinary_rows_are_found() {
    let table = relation(1, "items", &["id"]);
    let large = ["x".repeat(2 << 20)];
    let large: Vec<&str> = large.iter().map(String::as_str).collect();
    let mut history: Vec<Transaction> =
        (0..3000).map(|number| transaction(number, vec![insert(&table, &["1"])])).collect();
    history[1500] = transaction(1500, vec![insert(&table, &large)]);
    let test = TestLog::create();
    test.write(&history);
    let log = test.log();
    let found = |range| log.next_barrier(range).unwrap().map(|one| one.ordinal);
    assert_eq!(
        [found(0..3000), found(1500..1501), found(0..1500), found(1501..3000)],
        [Some(1500), Some(1500), None, None]
    );
    assert_eq!(log.schema_changing().unwrap(), []);
}
