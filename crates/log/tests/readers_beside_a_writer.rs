//! Readers see a whole, growing prefix of history while a writer appends, seals, and is killed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use ptr_log::{ResolveError, Writer, WriterOptions};
use ptr_model::{Anchor, PositionExpression, Timestamp, Transaction};
use support::{
    TestLog, append, append_all, collect, every_kind, faulty_disk::Random, insert, relation, transaction,
};

/// Small, so that segments are sealed all the time.
const SEGMENT_BYTES: u64 = 20_000;

fn numbered(number: u64) -> Transaction {
    let table = relation(1, "t", &["id", "v"]);
    let rows = 1 + number % 4;
    transaction(
        number,
        (0..rows).map(|row| insert(&table, &[&number.to_string(), &row.to_string()])).collect(),
    )
}

#[test]
fn readers_see_a_growing_prefix_while_segments_are_written_and_sealed() {
    let test = TestLog::create();
    let mut writer = test.writer_with(SEGMENT_BYTES);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let log = test.log();
                let mut last = 0;
                loop {
                    let finished = done.load(Ordering::Acquire);
                    let head = log.head().unwrap().ordinal;
                    assert!(head >= last, "the head went back");
                    let from = last.saturating_sub(50);
                    let read = collect(log.read(from, head).unwrap());
                    let expected: Vec<_> = (from..head).map(numbered).collect();
                    assert!(read == expected, "something else was read from {from} to {head}");
                    last = head;
                    if finished {
                        break;
                    }
                }
                assert_eq!(last, 2_000);
            });
        }
        for number in 0..2_000 {
            append(&mut writer, &numbered(number));
            if number % 7 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.close().unwrap();
        done.store(true, Ordering::Release);
    });
    let report = test.log().check().unwrap();
    assert!(report.is_sound() && report.segments > 3, "{report:?}");
}

/// Which is asked for again and again, as long as the log does not go so far.
#[test]
fn an_lsn_that_is_asked_for_while_its_transaction_is_written_is_never_the_position_before() {
    let test = TestLog::create();
    let mut writer = test.writer();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let log = test.log();
            let anchor = Anchor { session_ordinal: None, now: Timestamp(i64::MAX) };
            for number in 0..100 {
                let end = PositionExpression::Lsn(numbered(number).header.end_lsn);
                let position = loop {
                    match log.resolve(&end, anchor, &|_| None) {
                        Err(ResolveError::OutOfRange { .. }) => {}
                        found => break found.unwrap(),
                    }
                };
                assert_eq!(position.ordinal, number + 1);
            }
        });
        let mut number = 0;
        while !reader.is_finished() {
            append(&mut writer, &numbered(number));
            writer.flush().unwrap();
            number += 1;
        }
    });
}

/// Not a test: what the test below runs in another process, to be killed.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_that_appends_for_ever() {
    let directory = std::env::var("LOG_DIRECTORY").unwrap();
    let options = WriterOptions { segment_bytes: SEGMENT_BYTES, ..WriterOptions::default() };
    let mut writer = Writer::open(Path::new(&directory), options).unwrap();
    for number in writer.head().ordinal.. {
        append(&mut writer, &numbered(number));
        if number % 5 == 0 {
            println!("acknowledged {}", writer.flush().unwrap().ordinal);
        }
    }
}

/// Starts a writer in another process, kills it after some acknowledgements, and gives the last one.
fn kill_a_writer(directory: &Path, after: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_appends_for_ever", "--ignored", "--nocapture"])
        .env("LOG_DIRECTORY", directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged =
        |line: String| line.split("acknowledged ").nth(1).and_then(|number| number.parse().ok());
    let mut last = 0;
    let mut seen = 0;
    while seen < after {
        if let Some(number) = acknowledged(lines.next().expect("the child ended by itself").unwrap()) {
            last = number;
            seen += 1;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.map_while(Result::ok).filter_map(acknowledged).last().unwrap_or(last)
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    let test = TestLog::create();
    let seed = 4;
    let mut random = Random(seed);
    for round in 0..20 {
        let acknowledged = kill_a_writer(&test.path(), 1 + random.below(150));
        let log = test.log();
        let head = log.head().unwrap().ordinal;
        assert!(
            head >= acknowledged,
            "seed {seed}, round {round}: {acknowledged} acknowledged, {head} there"
        );
        let from = head.saturating_sub(1_000);
        let expected: Vec<_> = (from..head).map(numbered).collect();
        assert!(collect(log.read(from, head).unwrap()) == expected, "seed {seed}, round {round}");
    }
    let report = test.log().check().unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// A log that was written when the format was specified, in both forms of a segment.
#[test]
fn a_log_of_format_version_1_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-1");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        make_golden(&golden);
    }
    let test = TestLog::create();
    for path in support::files(&golden) {
        std::fs::copy(&path, test.path().join("segments").join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(support::read_all(&test.log()), every_kind());
    assert!(test.log().check().unwrap().is_sound());
}

/// Two segments: one sealed with the first transactions, one open with the others.
fn make_golden(golden: &Path) {
    let test = TestLog::create();
    let mut writer = test.writer_with(1);
    append_all(&mut writer, &every_kind()[..3]);
    writer.close().unwrap();
    let mut writer = test.writer();
    append_all(&mut writer, &every_kind()[3..]);
    writer.close().unwrap();
    std::fs::create_dir_all(golden).unwrap();
    for path in test.segments() {
        std::fs::copy(&path, golden.join(path.file_name().unwrap())).unwrap();
    }
}
