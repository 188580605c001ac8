//! A crash at any moment: what was acknowledged is there, once, in order; nothing is there half.
//!
//! The disk is one in memory that forgets or tears what was not synced. The index is a real SQLite file; it is
//! written only after the segment is durable, so it may be kept, or lost as a whole, but never be ahead.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::io;

use ptr_log::{Log, LogError, Writer, WriterOptions};
use ptr_model::{Lsn, Transaction};
use support::{
    TestLog, collect, every_kind,
    faulty_disk::{FaultyDisk, Random, ReadFault},
    files, insert, message, relation, transaction, try_collect,
};

/// Small, so that sealing and rotation happen often.
const SEGMENT_BYTES: u64 = 3_000;

fn options(disk: &FaultyDisk) -> WriterOptions {
    WriterOptions { segment_bytes: SEGMENT_BYTES, disk: disk.shared() }
}

/// A history of small and of large transactions.
fn history(random: &mut Random, length: u64) -> Vec<Transaction> {
    let table = relation(1, "t", &["id", "v"]);
    let big = "x".repeat(200_000);
    (0..length)
        .map(|number| {
            let changes = match random.below(12) {
                0 => (0..4).map(|id| insert(&table, &[&id.to_string(), &big])).collect(),
                1 => vec![message("m")],
                _ => (0..=random.below(5)).map(|id| insert(&table, &[&id.to_string(), "v"])).collect(),
            };
            transaction(number, changes)
        })
        .collect()
}

/// What a writer got done before its disk failed.
#[derive(Debug, Default)]
struct Progress {
    acknowledged: u64,
    /// Transactions that were committed to the writer, acknowledged or not.
    committed: u64,
}

/// Sends a history, as a server does after a reconnection: from anywhere at or before the end of the log.
fn send(
    writer: &mut Writer,
    history: &[Transaction],
    random: &mut Random,
    progress: &mut Progress,
) -> Result<(), LogError> {
    let head = writer.head().ordinal;
    progress.acknowledged = progress.acknowledged.max(head);
    let from = head.saturating_sub(random.below(3));
    for transaction in &history[usize::try_from(from).unwrap()..] {
        if random.below(20) == 0 {
            writer.begin(&transaction.header)?;
            writer.append(&transaction.changes[0])?;
            writer.abort();
        }
        writer.begin(&transaction.header)?;
        for change in &transaction.changes {
            writer.append(change)?;
            if random.below(25) == 0 {
                progress.acknowledged = writer.flush()?.ordinal;
            }
        }
        if writer.commit(transaction.header.end_lsn)?.is_some() {
            progress.committed += 1;
        }
        if random.below(3) == 0 {
            progress.acknowledged = writer.flush()?.ordinal;
        }
    }
    progress.acknowledged = writer.flush()?.ordinal;
    Ok(())
}

fn assert_holds(
    test: &TestLog,
    disk: &FaultyDisk,
    history: &[Transaction],
    acknowledged: u64,
    context: &str,
) {
    let log = Log::open_on(&test.path(), disk.shared()).unwrap_or_else(|error| panic!("{context}: {error}"));
    let head = log.head().unwrap().ordinal;
    assert!(head >= acknowledged, "{context}: {acknowledged} were acknowledged, {head} are there");
    let read = collect(log.read(0, head).unwrap());
    assert!(read == history[..usize::try_from(head).unwrap()], "{context}: the log holds something else");
    let report = log.check().unwrap();
    assert!(report.is_sound(), "{context}: {report:?}");
}

fn remove_index(test: &TestLog) {
    for path in files(&test.path()) {
        if path.to_string_lossy().contains("index.sqlite") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// One history, one crash at each of its writes in turn, then all of it again, until it is whole.
fn crash_everywhere(seed: u64, length: u64) {
    let mut random = Random(seed);
    let history = history(&mut random, length);
    let operations = {
        let (test, disk) = (TestLog::create(), FaultyDisk::new());
        let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
        send(&mut writer, &history, &mut Random(seed), &mut Progress::default()).unwrap();
        writer.close().unwrap();
        disk.operations()
    };
    for crash_at in 1..=operations {
        let context = format!("seed {seed}, crash at operation {crash_at} of {operations}");
        let (test, disk) = (TestLog::create(), FaultyDisk::new());
        let mut random = Random(seed ^ crash_at);
        let mut progress = Progress::default();
        disk.crash_at(crash_at);
        if let Ok(mut writer) = Writer::open(&test.path(), options(&disk)) {
            let _ = send(&mut writer, &history, &mut random, &mut progress);
        }
        disk.restart(&mut random);
        if random.below(3) == 0 {
            for path in files(&test.path()) {
                if path.to_string_lossy().contains("index.sqlite") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        assert_holds(&test, &disk, &history, progress.acknowledged, &context);
        let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
        send(&mut writer, &history, &mut random, &mut progress).unwrap();
        writer.close().unwrap();
        assert_holds(&test, &disk, &history, length, &context);
    }
}

#[test]
fn every_acknowledged_transaction_survives_a_crash_at_any_write() {
    crash_everywhere(1, 25);
}

#[test]
fn so_it_does_in_other_histories() {
    for seed in 2..5 {
        crash_everywhere(seed, 12);
    }
}

/// A longer run with crashes one after the other, also during recovery.
#[test]
fn crashes_follow_one_another() {
    for seed in 100..104 {
        let mut random = Random(seed);
        let history = history(&mut random, 60);
        let (test, disk) = (TestLog::create(), FaultyDisk::new());
        let mut acknowledged = 0;
        for round in 0..40 {
            disk.crash_at(disk.operations() + 1 + random.below(30));
            let mut progress = Progress { acknowledged, committed: 0 };
            if let Ok(mut writer) = Writer::open(&test.path(), options(&disk)) {
                let _ = send(&mut writer, &history, &mut random, &mut progress);
            }
            acknowledged = progress.acknowledged;
            disk.restart(&mut random);
            assert_holds(&test, &disk, &history, acknowledged, &format!("seed {seed}, round {round}"));
        }
    }
}

#[test]
fn a_full_disk_is_told_and_the_log_goes_on_when_there_is_space() {
    let history = history(&mut Random(7), 10);
    let operations = {
        let (test, disk) = (TestLog::create(), FaultyDisk::new());
        let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
        send(&mut writer, &history, &mut Random(7), &mut Progress::default()).unwrap();
        writer.close().unwrap();
        // What a run does depends on its chance; none does three times as much.
        disk.operations() * 3
    };
    let mut failed = 0;
    for failing in 1..operations {
        let (test, disk) = (TestLog::create(), FaultyDisk::new());
        let mut progress = Progress::default();
        disk.fail_once(failing, io::ErrorKind::StorageFull);
        if let Ok(mut writer) = Writer::open(&test.path(), options(&disk)) {
            match send(&mut writer, &history, &mut Random(failing), &mut progress) {
                // Sealing is tried again at the next opening.
                Ok(()) => {}
                Err(error) => {
                    failed += 1;
                    let again = writer.flush();
                    assert!(matches!(again, Err(LogError::Poisoned { .. })), "it went on after {error}");
                    assert!(writer.begin(&transaction(99, Vec::new()).header).is_err());
                }
            }
        }
        disk.heal();
        let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
        assert!(writer.head().ordinal >= progress.acknowledged);
        send(&mut writer, &history, &mut Random(failing), &mut progress).unwrap();
        writer.close().unwrap();
        assert_holds(&test, &disk, &history, 10, &format!("full at operation {failing}"));
    }
    println!("{operations} writes that found the disk full, {failed} of them the writer's own");
}

/// Each write or sync fails in turn, and now and then one of the recovery after it. What the failed sync forgot is read
/// all the same; it must be on the disk before anything is acknowledged on top of it, or the power takes it.
#[test]
fn what_a_failed_sync_forgot_is_written_again_before_it_counts() {
    let (mut failed, mut again) = (0, 0);
    for seed in [21, 22] {
        let history = history(&mut Random(seed), 10);
        // What a run does depends on its chance; few do more than this.
        for failing in 1..=50 {
            let context = format!("seed {seed}, operation {failing} failed");
            let (test, disk) = (TestLog::create(), FaultyDisk::new());
            let mut random = Random(seed ^ (failing << 8));
            let mut progress = Progress::default();
            disk.fail_once(failing, io::ErrorKind::Other);
            let mut attempt = |random: &mut Random| -> Result<(), LogError> {
                let mut writer = Writer::open(&test.path(), options(&disk))?;
                send(&mut writer, &history, random, &mut progress)?;
                writer.close().map(|_| ())
            };
            let first = attempt(&mut random);
            failed += usize::from(first.is_err());
            disk.heal();
            if failing % 5 == 0 {
                remove_index(&test);
            }
            if failing % 3 == 0 {
                disk.fail_once(disk.operations() + 1 + random.below(8), io::ErrorKind::Other);
                again += usize::from(attempt(&mut random).is_err());
                disk.heal();
            }
            attempt(&mut random).unwrap_or_else(|error| panic!("{context}: {error}"));
            disk.cut_power();
            assert_holds(&test, &disk, &history, 10, &context);
        }
    }
    println!("{failed} attempts failed, and {again} of those that followed them");
    assert!(failed > 25 && again > 15, "{failed} {again}");
}

/// The next segment is begun, and its name is in memory only, since making it durable failed.
#[test]
fn a_segment_whose_name_could_not_be_made_durable_is_named_again_before_it_counts() {
    let history = history(&mut Random(31), 4);
    for failing in 1..=8 {
        let (test, disk) = (TestLog::create(), FaultyDisk::new());
        let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
        support::append(&mut writer, &history[0]);
        writer.flush().unwrap();
        drop(writer);
        // Full with each flush.
        let full = WriterOptions { segment_bytes: 1, disk: disk.shared() };
        let mut writer = Writer::open(&test.path(), full).unwrap();
        support::append(&mut writer, &history[1]);
        disk.fail_once(disk.operations() + failing, io::ErrorKind::Other);
        let _ = writer.flush();
        drop(writer);
        disk.heal();
        let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
        let head = writer.head().ordinal;
        support::append_all(&mut writer, &history[usize::try_from(head).unwrap()..]);
        let acknowledged = writer.flush().unwrap().ordinal;
        // Ended without being sealed.
        drop(writer);
        disk.cut_power();
        assert_holds(&test, &disk, &history, acknowledged, &format!("operation {failing} failed"));
    }
}

/// Writing, recovering, reading and checking, with each read that they do failing in turn.
fn read_errors(fault: ReadFault) {
    let history = history(&mut Random(11), 14);
    let whole = || {
        let (test, disk) = (TestLog::create(), FaultyDisk::new());
        let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
        send(&mut writer, &history, &mut Random(11), &mut Progress::default()).unwrap();
        writer.close().unwrap();
        (test, disk)
    };
    let work = |test: &TestLog, disk: &FaultyDisk| -> Result<Vec<Transaction>, LogError> {
        Writer::open(&test.path(), options(disk))?.close()?;
        let log = Log::open_on(&test.path(), disk.shared())?;
        if !log.check()?.is_sound() {
            panic!("a read error was taken for damage");
        }
        try_collect(log.read(0, log.head()?.ordinal)?)
    };
    let (test, disk) = whole();
    let before = disk.reads();
    work(&test, &disk).unwrap();
    let reads = disk.reads() - before;
    let mut told = 0;
    for failing in 1..=reads {
        let (test, disk) = whole();
        // Half of the time the index has to be learnt again from the segments, by reading all of them.
        if failing % 2 == 0 {
            for path in files(&test.path()) {
                if path.to_string_lossy().contains("index.sqlite") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        disk.fail_read(disk.reads() + failing, fault);
        match work(&test, &disk) {
            Ok(read) => assert!(read == history, "read {failing} failed, and something else was read"),
            Err(error) => {
                told += 1;
                let text =
                    format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
                let names = text.contains("seg") || text.contains("beginning.json");
                assert!(names && text.contains("error"), "read {failing}: {text}");
            }
        }
        disk.heal();
        assert_holds(&test, &disk, &history, 14, &format!("after read {failing} failed"));
    }
    println!("{reads} reads that failed ({fault:?}), {told} of them told");
    assert!(told > reads / 2, "hardly any failing read was told: {told} of {reads}");
}

#[test]
fn a_read_that_fails_once_is_told_and_cuts_nothing() {
    read_errors(ReadFault::Once);
}

#[test]
fn a_disk_that_reads_nothing_any_more_is_told_and_loses_nothing() {
    read_errors(ReadFault::ForGood);
}

#[test]
fn a_full_disk_is_named_with_path_and_bytes() {
    let (test, disk) = (TestLog::create(), FaultyDisk::new());
    let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
    support::append(&mut writer, &every_kind()[0]);
    disk.fail_once(disk.operations() + 1, io::ErrorKind::StorageFull);
    let Err(LogError::DiskFull { path, needed, .. }) = writer.flush() else { panic!("no error, or another") };
    assert!(path.ends_with("segments/00000000000000000000.seg"), "{}", path.display());
    assert!(needed > 100);
}

/// Giving up a transaction answers nothing; who captures waits for room, and not for an error that says nothing of it.
#[test]
fn a_disk_that_is_full_while_a_large_transaction_is_given_up_is_told_by_what_is_called_next() {
    let (test, disk) = (TestLog::create(), FaultyDisk::new());
    let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
    let table = relation(1, "t", &["v"]);
    writer.begin(&transaction(0, Vec::new()).header).unwrap();
    for _ in 0..4 {
        writer.append(&insert(&table, &[&"x".repeat(300_000)])).unwrap();
    }
    disk.fail_once(disk.operations() + 1, io::ErrorKind::StorageFull);
    writer.abort();
    assert!(matches!(writer.flush(), Err(LogError::DiskFull { .. })));
    assert!(matches!(writer.flush(), Err(LogError::Poisoned { .. })));
}

#[test]
fn unfinished_bytes_at_the_end_are_cut_and_told() {
    let (test, disk) = (TestLog::create(), FaultyDisk::new());
    let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
    support::append(&mut writer, &every_kind()[0]);
    writer.flush().unwrap();
    drop(writer);
    let segment = test.path().join("segments/00000000000000000000.seg");
    disk.alter(&segment, |bytes| bytes.extend_from_slice(&[0xB1, b'P', b'T', b'R', 1, 2, 3]));
    let writer = Writer::open(&test.path(), options(&disk)).unwrap();
    assert_eq!((writer.recovery().cut_bytes, writer.head().ordinal), (7, 1));
}

#[test]
fn a_lost_index_keeps_the_history_and_loses_only_what_was_heard_of_coverage() {
    let (test, disk) = (TestLog::create(), FaultyDisk::new());
    let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
    support::append_all(&mut writer, &every_kind());
    writer.covered(Lsn(0x900_0000));
    writer.flush().unwrap();
    drop(writer);
    for path in files(&test.path()) {
        if path.to_string_lossy().contains("index.sqlite") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let writer = Writer::open(&test.path(), options(&disk)).unwrap();
    assert_eq!(writer.recovery().indexed, 6);
    assert_eq!(writer.covered_lsn(), every_kind()[5].header.end_lsn);
}

#[test]
fn what_a_killed_process_left_unsynced_is_durable_once_it_was_seen() {
    let (test, disk) = (TestLog::create(), FaultyDisk::new());
    let table = relation(1, "t", &["v"]);
    let big = "x".repeat(300_000);
    let mut writer = Writer::open(&test.path(), options(&disk)).unwrap();
    for number in 0..4 {
        support::append(&mut writer, &transaction(number, vec![insert(&table, &[&big])]));
    }
    // Killed, not flushed: some blocks are written, none is synced, and the system has them all.
    drop(writer);
    let seen = Writer::open(&test.path(), options(&disk)).unwrap().head().ordinal;
    assert!(seen > 0, "no block was written before the end");
    disk.cut_power();
    let log = Log::open_on(&test.path(), disk.shared()).unwrap();
    assert_eq!(collect(log.read(0, seen).unwrap()).len() as u64, seen);
}
