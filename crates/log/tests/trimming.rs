//! A log whose oldest part was removed: the rest is there as it was, under the numbers that it had.
//!
//! What is expected is worked out from the transactions that were written, never asked of the log.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use ptr_log::{Axis, Direction, EntryQuery, Log, LogError, ResolveError, Writer, WriterOptions};
use ptr_model::{Anchor, OperationCounts, Position, Timestamp, Transaction};
use support::{
    START, TestLog, append, append_all, collect, ddl,
    faulty_disk::{FaultyDisk, Random},
    files, identity, insert, message, relation, transaction,
};

const NOW: Timestamp = Timestamp(START + 9_000_000_000);

/// More than two chunks of the index.
const LENGTH: u64 = 2_500;

fn history(length: u64) -> Vec<Transaction> {
    let (first, second) = (relation(1, "first", &["id"]), relation(2, "second", &["id"]));
    let changes = |number: u64| match number % 7 {
        0 => vec![ddl("alter table first add x int"), insert(&first, &["1"])],
        1 => vec![message("m")],
        2 => vec![insert(&first, &["1"]), insert(&second, &["2"]), insert(&second, &["3"])],
        _ => vec![insert(&second, &["4"])],
    };
    (0..length).map(|number| transaction(number, changes(number))).collect()
}

/// What stands before each transaction, and at the end.
fn positions(history: &[Transaction]) -> Vec<Position> {
    let mut all = vec![identity().creation_position()];
    for transaction in history {
        let Position { ordinal, entry_index, .. } = all[all.len() - 1];
        let entries = transaction.changes.iter().filter(|change| change.operation().is_some()).count();
        all.push(Position {
            ordinal: ordinal + 1,
            lsn: transaction.header.end_lsn,
            entry_index: entry_index + entries as u64,
        });
    }
    all
}

fn counts(history: &[Transaction]) -> OperationCounts {
    let mut counts = OperationCounts::default();
    history.iter().flat_map(|one| &one.changes).filter_map(|c| c.operation()).for_each(|op| counts.add(op));
    counts
}

/// Written in segments of some hundred transactions.
fn written(history: &[Transaction]) -> TestLog {
    let test = TestLog::create();
    write(test.writer_with(4_000), history);
    test
}

/// The same on a disk that can be made to fail.
fn written_on_faulty_disk(history: &[Transaction], segment_bytes: u64) -> (TestLog, FaultyDisk) {
    let (test, disk) = (TestLog::create(), FaultyDisk::new());
    let options = WriterOptions { segment_bytes, disk: disk.shared() };
    write(Writer::open(&test.path(), options).unwrap(), history);
    (test, disk)
}

fn write(mut writer: Writer, history: &[Transaction]) {
    for some in history.chunks(50) {
        append_all(&mut writer, some);
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

/// A place where a segment begins, at or after an ordinal.
fn boundary(log: &Log, at_least: u64) -> Position {
    let segments = log.segments().unwrap();
    segments.into_iter().map(|(start, _)| start).find(|start| start.ordinal >= at_least).unwrap()
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// Everything that can be asked of a log of which the first part is gone.
fn assert_is(log: &Log, history: &[Transaction], first: u64, context: &str) {
    let positions = positions(history);
    let (begins, head) = (positions[index(first)], *positions.last().unwrap());
    let left = &history[index(first)..];
    assert_eq!((log.creation(), log.head().unwrap()), (begins, head), "{context}");
    assert!(collect(log.read(first, head.ordinal).unwrap()) == left, "{context}: it holds something else");
    let report = log.check().unwrap();
    assert!(report.is_sound(), "{context}: {report:?}");
    assert_eq!(report.transactions, left.len() as u64, "{context}");

    let statistics = log.statistics().unwrap();
    assert_eq!((statistics.transactions, statistics.counts), (left.len() as u64, counts(left)), "{context}");
    let mut tables: BTreeMap<String, u64> = BTreeMap::new();
    for relation in left.iter().flat_map(|one| &one.changes).flat_map(|change| change.relations()) {
        *tables.entry(format!("public.{}", relation.name)).or_default() += 1;
    }
    let told: BTreeMap<String, u64> =
        statistics.tables.iter().map(|(name, counts)| (name.clone(), counts.total())).collect();
    assert_eq!(told, tables, "{context}");
    for axis in [Axis::Transactions, Axis::Time] {
        for buckets in [1, 2, 40] {
            let mut sum = OperationCounts::default();
            let mut transactions = 0;
            for (place, bucket) in
                log.histogram(first..head.ordinal, axis, buckets).unwrap().iter().enumerate()
            {
                let from = index(bucket.since.ordinal);
                let part = &history[from..from + index(bucket.transactions)];
                assert_eq!(bucket.counts, counts(part), "{context}: {axis:?}, bucket {place} of {buckets}");
                part.iter()
                    .flat_map(|one| &one.changes)
                    .filter_map(|c| c.operation())
                    .for_each(|op| sum.add(op));
                transactions += bucket.transactions;
            }
            assert_eq!(
                (sum, transactions),
                (counts(left), left.len() as u64),
                "{context}: {axis:?} {buckets}"
            );
        }
    }

    for ordinal in [first, first + 1, (first + head.ordinal) / 2, head.ordinal - 1] {
        let (at, now) = (positions[index(ordinal)], Anchor { session_ordinal: Some(ordinal), now: NOW });
        let time = history[index(ordinal)].header.commit_time;
        for (text, expected) in [
            (at.lsn.to_string(), at),
            (format!("entry:{}", at.entry_index), at),
            ("@".to_owned(), at),
            (time.to_string(), positions[index(ordinal) + 1]),
        ] {
            let found = log.resolve(&text.parse().unwrap(), now, &|_| None).unwrap();
            assert_eq!(found, expected, "{context}: {text}");
        }
        assert_eq!(log.transaction(ordinal).unwrap().unwrap().header, history[index(ordinal)].header);
    }
    if first == 0 {
        return;
    }
    // The time at which the last one that is gone committed still means the position after it.
    let gone = &history[index(first) - 1];
    let now = Anchor { session_ordinal: Some(first), now: NOW };
    let at = log.resolve(&gone.header.commit_time.to_string().parse().unwrap(), now, &|_| None).unwrap();
    assert_eq!(at, begins, "{context}");
    let before = positions[index(first) - 1];
    let earlier = Timestamp(gone.header.commit_time.0 - 1);
    for text in [
        before.lsn.to_string(),
        format!("entry:{}", before.entry_index),
        "@-1".to_owned(),
        earlier.to_string(),
    ] {
        let error = log.resolve(&text.parse().unwrap(), now, &|_| None).unwrap_err();
        let ResolveError::OutOfRange { first, nearest, .. } = &error else {
            panic!("{context}: {text}: {error}")
        };
        assert_eq!((*first, *nearest), (begins, begins), "{context}: {text}");
        assert!(error.to_string().contains(&format!("removed by gc at {NOW}")), "{error}");
    }
    assert!(matches!(log.read(first - 1, head.ordinal), Err(LogError::Refused(_))));
    assert!(log.position_at(first - 1).unwrap_err().to_string().contains("removed by gc"));
    assert!(!log.contains(before).unwrap() && log.transaction(first - 1).unwrap().is_none());
    let query = EntryQuery {
        table: None,
        operations: Vec::new(),
        since: begins,
        until: head,
        after: None,
        limit: 3,
        direction: Direction::Forward,
    };
    assert_eq!(log.entries(&query).unwrap().entries[0].index, begins.entry_index, "{context}");
    assert_eq!(log.count_entries(&query).unwrap(), counts(left).total(), "{context}");
    let one = EntryQuery { table: Some("first".into()), ..query };
    assert_eq!(log.count_entries(&one).unwrap(), tables["public.first"], "{context}");
}

#[test]
fn what_is_left_is_as_it_was_under_the_numbers_that_it_had() {
    let history = history(LENGTH);
    let test = written(&history);
    let log = test.log();
    assert_is(&log, &history, 0, "whole");
    // In the first chunk of the index, in a later one, and beyond what a chunk holds behind it.
    for at_least in [300, 1_100, 2_100] {
        let position = boundary(&log, at_least);
        let before = fs_bytes(&test.path().join("segments"));
        let removed = log.begin_at(position, NOW).unwrap();
        assert!(removed > 0 && fs_bytes(&test.path().join("segments")) == before - removed);
        let context = format!("from {} on", position.ordinal);
        assert_is(&log, &history, position.ordinal, &context);
        assert_eq!(log.begin_at(position, NOW).unwrap(), 0, "it begins there already");
        assert_is(&test.log(), &history, position.ordinal, &format!("{context}, opened again"));
        Log::rebuild_index(&test.path()).unwrap();
        assert_is(&log, &history, position.ordinal, &format!("{context}, index learnt again"));
        for file in files(&test.path()) {
            if file.to_string_lossy().contains("index.sqlite") {
                fs::remove_file(file).unwrap();
            }
        }
        assert_is(&test.log(), &history, position.ordinal, &format!("{context}, index lost"));
    }
}

/// The index forgets in steps; a writer that waits for it gets its turn.
#[test]
fn a_long_part_goes_in_steps_beside_a_writer() {
    let history = history(52_000);
    let test = TestLog::create();
    let mut writer = test.writer_with(200_000);
    for some in history[..50_000].chunks(500) {
        append_all(&mut writer, some);
        writer.flush().unwrap();
    }
    let log = test.log();
    let position = boundary(&log, 45_000);
    std::thread::scope(|scope| {
        let trims = scope.spawn(|| log.begin_at(position, NOW).unwrap());
        for some in history[50_000..].chunks(20) {
            append_all(&mut writer, some);
            writer.flush().unwrap();
            // Whatever step it is at, what is left is found, under its number.
            let at = log.resolve(
                &"@".parse().unwrap(),
                Anchor { session_ordinal: Some(49_000), now: NOW },
                &|_| None,
            );
            assert_eq!(at.unwrap().ordinal, 49_000);
        }
        assert!(trims.join().unwrap() > 0);
    });
    assert_is(&log, &history, position.ordinal, "beside a writer");
    drop(writer);
    Log::rebuild_index(&test.path()).unwrap();
    assert_is(&test.log(), &history, position.ordinal, "index learnt again");
}

/// A full disk: the log is opened again and again, and somebody removes its oldest part to make room. Both move the index
/// and remove segments.
#[test]
fn a_log_is_opened_to_be_written_again_and_again_while_its_oldest_part_is_removed() {
    let history = history(24_000);
    for round in 0..4 {
        let test = TestLog::create();
        let mut writer = test.writer_with(10_000);
        for some in history.chunks(500) {
            append_all(&mut writer, some);
            writer.flush().unwrap();
        }
        let log = test.log();
        // More than one step of the index, and many segments.
        let position = boundary(&log, 23_000);
        let (opened, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let opens = scope.spawn(|| {
                let mut writer = Some(writer);
                while !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(std::time::Duration::from_millis(round));
                    drop(writer.take());
                    writer = Some(Writer::open(&test.path(), WriterOptions::default()).unwrap());
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            });
            let removed = log.begin_at(position, NOW);
            is_over.store(true, Ordering::Relaxed);
            opens.join().unwrap();
            assert!(removed.is_ok(), "round {round}: {removed:?}");
        });
        println!("round {round}: opened {opened:?} times meanwhile");
        assert_is(&log, &history, position.ordinal, "opened meanwhile");
        // And it can be done again.
        let next = boundary(&log, 23_500);
        log.begin_at(next, NOW).unwrap();
        assert_is(&test.log(), &history, next.ordinal, "removed once more");
    }
}

#[test]
fn a_writer_goes_on_while_the_oldest_part_is_removed() {
    let history = history(1_600);
    let test = TestLog::create();
    let mut writer = test.writer_with(4_000);
    let log = test.log();
    let mut first = 0;
    for (number, some) in history.chunks(40).enumerate() {
        append_all(&mut writer, &some[..20]);
        if number % 9 == 8 {
            // Between two flushes, and with transactions that nobody can see yet.
            let position = boundary(&log, first + 100);
            log.begin_at(position, NOW).unwrap();
            first = position.ordinal;
        }
        append_all(&mut writer, &some[20..]);
        writer.flush().unwrap();
    }
    assert!(first > 0);
    assert_is(&log, &history, first, "while it is written");
    writer.close().unwrap();
    assert_is(&test.log(), &history, first, "afterwards");
    Log::rebuild_index(&test.path()).unwrap();
    assert_is(&test.log(), &history, first, "index learnt again");
}

#[test]
fn a_crash_leaves_the_old_beginning_or_the_new_one() {
    let history = history(600);
    let test = written(&history);
    let position = boundary(&test.log(), 250);
    let whole = tempfile::tempdir().unwrap();
    copy(&test.path(), whole.path());
    test.log().begin_at(position, NOW).unwrap();
    let trimmed = tempfile::tempdir().unwrap();
    copy(&test.path(), trimmed.path());

    // It says where it begins, and nothing else was done.
    let crashed = tempfile::tempdir().unwrap();
    copy(whole.path(), crashed.path());
    fs::copy(trimmed.path().join("beginning.json"), crashed.path().join("beginning.json")).unwrap();
    assert_is(&Log::open(crashed.path()).unwrap(), &history, position.ordinal, "before the index");
    assert_eq!(segments(crashed.path()), segments(trimmed.path()));
    // The index is what a power failure left of it: the old one, or none.
    let crashed = tempfile::tempdir().unwrap();
    copy(trimmed.path(), crashed.path());
    fs::copy(whole.path().join("index.sqlite"), crashed.path().join("index.sqlite")).unwrap();
    assert_is(&Log::open(crashed.path()).unwrap(), &history, position.ordinal, "with the old index");
    // Some segments were removed, some not, one is being sealed again.
    for kept in [1, 2] {
        let crashed = tempfile::tempdir().unwrap();
        copy(trimmed.path(), crashed.path());
        for name in segments(whole.path()).iter().take(3).skip(3 - kept) {
            let segment = Path::new("segments").join(name);
            fs::copy(whole.path().join(&segment), crashed.path().join(&segment)).unwrap();
        }
        let log = Log::open(crashed.path()).unwrap();
        assert_is(&log, &history, position.ordinal, "with segments from before");
        let mut writer = Writer::open(crashed.path(), WriterOptions::default()).unwrap();
        append(&mut writer, &transaction(600, vec![message("next")]));
        writer.close().unwrap();
        assert_eq!(segments(crashed.path()), segments(trimmed.path()));
        assert_eq!(log.head().unwrap().ordinal, 601);
    }
    // The file is not there: all is as before.
    let crashed = tempfile::tempdir().unwrap();
    copy(whole.path(), crashed.path());
    assert_is(&Log::open(crashed.path()).unwrap(), &history, 0, "before anything");
    // What it begins with is missing: that is damage, and no other beginning is made up.
    let first = segments(trimmed.path())[0].clone();
    fs::remove_file(trimmed.path().join("segments").join(first)).unwrap();
    fs::remove_file(trimmed.path().join("index.sqlite")).unwrap();
    assert!(matches!(Log::open(trimmed.path()), Err(LogError::Damaged(_))));
}

/// What was not synced is lost, torn or has holes, and removals come to the disk in any order; of the index, which is on
/// another disk here, the crash leaves the old one, the new one or none.
#[test]
fn a_power_failure_at_any_write_leaves_the_old_beginning_or_the_new_one() {
    let history = history(400);
    let (mut old, mut new) = (0, 0);
    for crash_at in 1.. {
        let mut is_over = false;
        for chance in 0..3 {
            let context = format!("power fails at write {crash_at}, chance {chance}");
            let mut random = Random(chance ^ (crash_at << 8));
            let (test, disk) = written_on_faulty_disk(&history, 2_500);
            let options = || WriterOptions { segment_bytes: 2_500, disk: disk.shared() };
            let index = fs::read(test.path().join("index.sqlite")).unwrap();
            let position = boundary(&Log::open_on(&test.path(), disk.shared()).unwrap(), 150);

            disk.crash_at(disk.operations() + crash_at);
            let begun = Log::open_on(&test.path(), disk.shared()).unwrap().begin_at(position, NOW);
            is_over |= begun.is_ok();
            disk.restart(&mut random);
            let left = (chance + crash_at) % 3;
            for file in files(&test.path()) {
                if left > 0 && file.to_string_lossy().contains("index.sqlite") {
                    fs::remove_file(file).unwrap();
                }
            }
            if left == 1 {
                fs::write(test.path().join("index.sqlite"), &index).unwrap();
            }

            let opened = Log::open_on(&test.path(), disk.shared());
            let log = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            let first = log.creation().ordinal;
            assert!(
                first == position.ordinal || first == 0 && begun.is_err(),
                "{context}: it begins at {first}"
            );
            assert_is(&log, &history, first, &context);
            *(if first == 0 { &mut old } else { &mut new }) += 1;
            // It is written on, and what was broken off is done.
            Writer::open(&test.path(), options()).unwrap().close().unwrap();
            log.begin_at(position, NOW).unwrap();
            disk.cut_power();
            let log = Log::open_on(&test.path(), disk.shared()).unwrap();
            assert_eq!(log.creation(), position, "{context}, then done");
            assert!(log.check().unwrap().is_sound(), "{context}, then done");
        }
        if is_over {
            break;
        }
    }
    println!("the old beginning was left {old} times, the new one {new} times");
    assert!(old > 5 && new > 5, "{old} {new}");
}

#[test]
fn a_disk_that_fails_at_any_write_or_removal_loses_nothing_of_what_is_left() {
    let history = history(400);
    let (mut tried, mut at_new) = (0, 0);
    for failing in 1.. {
        let (test, disk) = written_on_faulty_disk(&history, 4_000);
        let log = Log::open_on(&test.path(), disk.shared()).unwrap();
        let position = boundary(&log, 150);
        disk.fail_once(disk.operations() + failing, std::io::ErrorKind::PermissionDenied);
        let failed = log.begin_at(position, NOW).is_err();
        if !failed {
            break;
        }
        tried += 1;
        let first = log.creation().ordinal;
        assert!([0, position.ordinal].contains(&first), "write {failing} failed: it begins at {first}");
        at_new += usize::from(first > 0);
        assert_is(&log, &history, first, &format!("write {failing} failed"));
        log.begin_at(position, NOW).unwrap();
        let log = Log::open_on(&test.path(), disk.shared()).unwrap();
        assert_is(&log, &history, position.ordinal, &format!("write {failing} failed, then not"));
        // What failed was in memory: nothing that it said may have been relied on.
        disk.cut_power();
        let log = Log::open_on(&test.path(), disk.shared()).unwrap();
        assert_is(&log, &history, position.ordinal, &format!("write {failing} failed, then the power"));
    }
    assert!(at_new > 0 && at_new < tried, "{at_new} of {tried}");
}

/// `beginning.json` has its new name in memory only, since making that durable failed; whoever opens the log reads it.
#[test]
fn a_beginning_that_could_not_be_made_durable_is_before_anything_is_removed() {
    let history = history(400);
    let mut failures = 0;
    for failing in 1..=6 {
        for opens_again in [false, true] {
            let (test, disk) = written_on_faulty_disk(&history, 4_000);
            let options = || WriterOptions { segment_bytes: 4_000, disk: disk.shared() };
            let log = Log::open_on(&test.path(), disk.shared()).unwrap();
            let position = boundary(&log, 150);
            let index = fs::read(test.path().join("index.sqlite")).unwrap();
            // A rename that fails does so before or after, by the number of the operation.
            if opens_again {
                Writer::open(&test.path(), options()).unwrap();
            }
            disk.fail_once(disk.operations() + failing, std::io::ErrorKind::Other);
            let failed = log.begin_at(position, NOW).is_err();
            disk.heal();
            failures += usize::from(failed);
            // Recovery removes what lies before it.
            Writer::open(&test.path(), options()).unwrap().close().unwrap();
            disk.cut_power();
            for file in files(&test.path()) {
                if file.to_string_lossy().contains("index.sqlite") {
                    fs::remove_file(file).unwrap();
                }
            }
            fs::write(test.path().join("index.sqlite"), &index).unwrap();
            let context = format!("write {failing} failed, opened before: {opens_again}");
            let opened = Log::open_on(&test.path(), disk.shared());
            let log = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
            let first = log.creation().ordinal;
            assert!([0, position.ordinal].contains(&first), "{context}: it begins at {first}");
            assert_is(&log, &history, first, &context);
        }
    }
    assert!(failures > 5, "{failures}");
}

#[test]
fn a_log_begins_only_where_a_segment_does_and_never_earlier_again() {
    let history = history(600);
    let test = written(&history);
    let log = test.log();
    let position = boundary(&log, 250);
    let inside = positions(&history)[index(position.ordinal + 1)];
    for wrong in [inside, log.creation(), Position { entry_index: 0, ..position }, log.head().unwrap()] {
        if log.segments().unwrap().iter().any(|(start, _)| *start == wrong && wrong != log.creation()) {
            continue;
        }
        assert!(matches!(log.begin_at(wrong, NOW), Err(LogError::Refused(_))), "{wrong}");
    }
    log.begin_at(position, NOW).unwrap();
    let earlier = positions(&history)[index(position.ordinal - 1)];
    assert!(matches!(log.begin_at(earlier, NOW), Err(LogError::Refused(_))));
    assert_is(&log, &history, position.ordinal, "refused");
}

fn segments(log: &Path) -> Vec<String> {
    let names = files(&log.join("segments")).into_iter();
    names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

fn fs_bytes(directory: &Path) -> u64 {
    files(directory).iter().map(|file| fs::metadata(file).unwrap().len()).sum()
}

/// A log that nobody has open, as it is on disk.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("segments")).unwrap();
    for file in files(from).into_iter().filter(|path| path.is_file()) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
    for file in files(&from.join("segments")) {
        fs::copy(&file, to.join("segments").join(file.file_name().unwrap())).unwrap();
    }
}
