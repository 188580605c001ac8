//! A disk that fails under the index: nothing moves, nothing is hidden, errors say where, and afterwards all is there.
//!
//! The disk under `index.sqlite` is a library between the test and the system; segments are on one that works. What is held
//! is the history that the test sent, and what the writer acknowledged.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;

use ptr_log::{Axis, Direction, EntryQuery, Log, LogError, TransactionQuery, Writer, WriterOptions};
use ptr_model::{Change, MarkerToken, Position, Timestamp, Transaction};
use ptr_testkit::{DiskFault, DiskFaults, EIO, ENOSPC, FileOperation};
use support::{START, append, files, identity, insert, memory_folder, relation, transaction, try_collect};
use uuid::Uuid;

/// Small, so that segments are begun and sealed.
const SEGMENT_BYTES: u64 = 1_000;

const LENGTH: u64 = 16;

/// Transactions of one to three rows, of two tables in turn.
fn history() -> Vec<Transaction> {
    let tables = [relation(1, "t", &["id", "v"]), relation(2, "u", &["id", "v"])];
    let table = |number: u64| &tables[usize::try_from(number % 2).unwrap()];
    (0..LENGTH)
        .map(|number| {
            let rows = (0..=number % 3).map(|id| insert(table(number), &[&id.to_string(), &"v".repeat(60)]));
            transaction(number, rows.collect())
        })
        .collect()
}

fn after(history: &[Transaction], ordinal: u64) -> Position {
    let before = &history[..usize::try_from(ordinal).unwrap()];
    Position {
        ordinal,
        lsn: before.last().map_or(identity().creation, |last| last.header.end_lsn),
        entry_index: before.iter().map(|transaction| transaction.changes.len() as u64).sum(),
    }
}

fn token(number: u64) -> MarkerToken {
    MarkerToken(Uuid::from_u128(u128::from(number) + 1))
}

/// One life of a log above a disk that fails.
struct World<'h> {
    history: &'h [Transaction],
    acknowledged: u64,
    /// Markers that were acknowledged, while no index was lost.
    markers: Vec<u64>,
    errors: Vec<String>,
}

impl World<'_> {
    fn told(&mut self, error: &LogError) {
        let text = format!("{error}: {:?}", std::error::Error::source(error).map(ToString::to_string));
        assert!(text.contains("index.sqlite"), "it does not say where: {text}");
        self.errors.push(text);
    }

    /// Sends all that is missing, as a listener does that opens the log again after an error; so many times.
    fn write(&mut self, path: &Path, attempts: usize, reader: Option<&Log>) {
        for _ in 0..attempts {
            match self.try_write(path, reader) {
                Ok(()) => return,
                Err(error) => self.told(&error),
            }
        }
    }

    fn try_write(&mut self, path: &Path, reader: Option<&Log>) -> Result<(), LogError> {
        let options = WriterOptions { segment_bytes: SEGMENT_BYTES, ..WriterOptions::default() };
        let mut writer = Writer::open(path, options)?;
        assert!(writer.head().ordinal >= self.acknowledged, "the writer begins before what it acknowledged");
        for number in writer.head().ordinal..LENGTH {
            append(&mut writer, &self.history[usize::try_from(number).unwrap()]);
            writer.marker(token(number), after(self.history, number + 1).lsn);
            if number % 2 == 1 {
                self.acknowledged = writer.flush()?.ordinal;
                self.markers.extend([number - 1, number]);
                if let Some(reader) = reader {
                    self.ask(reader, self.acknowledged..number + 1);
                }
            }
        }
        writer.close().map(|_| ())
    }

    /// Everything that can be asked. Each answer is right or an error, while so many transactions are sent.
    fn ask(&mut self, log: &Log, heads: std::ops::Range<u64>) {
        let heads = heads.start..=heads.end;
        let answers: [(&str, Result<(), LogError>); 6] = [
            (
                "head",
                log.head().map(|head| {
                    assert!(heads.contains(&head.ordinal), "{head:?} of {heads:?}");
                    assert_eq!(head, after(self.history, head.ordinal));
                }),
            ),
            ("everything", log.head().and_then(|head| self.ask_everything(log, head))),
            (
                "statistics",
                log.statistics().map(|all| {
                    assert!(heads.contains(&all.transactions), "{} of {heads:?}", all.transactions);
                    assert_eq!(all.counts.total(), after(self.history, all.transactions).entry_index);
                }),
            ),
            (
                "one",
                log.transaction_of_xid(self.history[0].header.xid).map(|found| {
                    let is_there = found.is_some_and(|found| found.header == self.history[0].header);
                    assert!(is_there || *heads.start() == 0, "the first transaction is hidden");
                }),
            ),
            (
                "time",
                log.first_since(Timestamp(START + 2_000_000)).map(|found| {
                    assert!(
                        found == Some(1) || found.is_none() && *heads.start() < 2,
                        "{found:?} of {heads:?}"
                    );
                }),
            ),
            (
                "markers",
                self.markers.iter().try_for_each(|number| {
                    let found = log.marker(token(*number))?;
                    assert_eq!(found, Some(after(self.history, number + 1)), "marker {number}");
                    Ok(())
                }),
            ),
        ];
        assert_eq!(log.creation(), after(self.history, 0));
        for (_, answer) in answers {
            if let Err(error) = answer {
                self.told(&error);
            }
        }
    }

    fn ask_everything(&self, log: &Log, head: Position) -> Result<(), LogError> {
        let sent = &self.history[..usize::try_from(head.ordinal).unwrap()];
        let changes: Vec<&Change> = sent.iter().flat_map(|transaction| &transaction.changes).collect();
        assert!(try_collect(log.read(0, head.ordinal)?)? == sent, "something else is read");
        let page = |table: Option<&str>| EntryQuery {
            table: table.map(str::to_owned),
            operations: Vec::new(),
            since: after(self.history, 0),
            until: head,
            after: None,
            limit: 1_000,
            direction: Direction::Forward,
        };
        let found = log.entries(&page(None))?;
        assert!(found.entries.iter().map(|entry| &entry.change).eq(changes.iter().copied()), "other entries");
        let of_t = changes.iter().filter(|change| change.relations()[0].name == "t").count();
        assert_eq!(log.entries(&page(Some("t")))?.entries.len(), of_t);
        assert_eq!(log.count_entries(&page(Some("t")))?, of_t as u64);
        let listed = log.transactions(&TransactionQuery {
            until: Some(head.ordinal),
            limit: 1_000,
            ..TransactionQuery::default()
        })?;
        assert!(
            listed.iter().map(|one| &one.header).eq(sent.iter().map(|one| &one.header)),
            "others are listed"
        );
        let buckets = log.histogram(0..head.ordinal, Axis::Transactions, 10)?;
        assert_eq!(buckets.iter().map(|bucket| bucket.transactions).sum::<u64>(), head.ordinal);
        Ok(())
    }
}

fn remove_index(path: &Path) {
    for file in files(path).iter().filter(|file| file.to_string_lossy().contains("index.sqlite")) {
        std::fs::remove_file(file).unwrap();
    }
}

/// Written, read meanwhile, learnt again, with each operation of these kinds failing in turn.
fn fail_in_turn(faults: &DiskFaults, operations: &[FileOperation], errno: i32, times: Option<u64>) {
    let history = history();
    let (mut nth, mut told) = (1, 0);
    loop {
        let folder = memory_folder();
        let path = folder.path().join("log");
        ptr_log::create(&path, &identity()).unwrap();
        let index = path.join("index.sqlite");
        let mut world = World { history: &history, acknowledged: 0, markers: Vec::new(), errors: Vec::new() };
        faults.fail(&DiskFault { part: index.to_str().unwrap(), operations, nth, times, errno });
        let reader = Log::open(&path).map_err(|error| world.told(&error)).ok();
        world.write(&path, 3, reader.as_ref());
        // In every second life the index is lost as well, and learnt from the segments.
        if nth % 2 == 0 {
            remove_index(&path);
            world.markers.clear();
        }
        match Log::open(&path) {
            Ok(log) => world.ask(&log, world.acknowledged..LENGTH),
            Err(error) => world.told(&error),
        }
        let made = faults.made();
        faults.heal();
        let errors = std::mem::take(&mut world.errors);
        let context = format!("{operations:?} {nth} failed with {errno}, {times:?} times, told: {errors:#?}");
        for log in
            reader.into_iter().chain([Log::open(&path).unwrap_or_else(|error| panic!("{context}: {error}"))])
        {
            world.ask(&log, world.acknowledged..LENGTH);
        }
        world.write(&path, 1, None);
        let log = Log::open(&path).unwrap();
        world.ask(&log, LENGTH..LENGTH);
        assert!(log.check().unwrap().is_sound(), "{context}: {:?}", log.check());
        assert!(world.errors.is_empty(), "{context}; and without faults: {:#?}", world.errors);
        if made.is_empty() {
            assert!(errors.is_empty(), "nothing failed: {errors:#?}");
            break;
        }
        told += u64::from(!errors.is_empty());
        nth += if nth < 50 { 1 } else { 7 };
    }
    println!("{operations:?} failing with {errno}, {times:?} times, up to the {nth}th: {told} told");
    assert!(told > 0, "no failure was told");
}

#[test]
fn an_index_that_cannot_be_read_hides_nothing_and_is_told() {
    let Some(faults) = DiskFaults::under("an_index_that_cannot_be_read_hides_nothing_and_is_told") else {
        return;
    };
    for times in [Some(1), None] {
        fail_in_turn(&faults, &[FileOperation::Read], EIO, times);
        fail_in_turn(&faults, &[FileOperation::Open], EIO, times);
    }
}

#[test]
fn an_index_that_cannot_be_written_moves_nothing_and_is_told() {
    let Some(faults) = DiskFaults::under("an_index_that_cannot_be_written_moves_nothing_and_is_told") else {
        return;
    };
    for (errno, times) in [(EIO, Some(1)), (ENOSPC, Some(2)), (ENOSPC, None)] {
        fail_in_turn(&faults, &[FileOperation::Write, FileOperation::Truncate], errno, times);
    }
}

#[test]
fn an_index_that_cannot_be_synced_moves_nothing() {
    let Some(faults) = DiskFaults::under("an_index_that_cannot_be_synced_moves_nothing") else { return };
    for times in [Some(1), None] {
        fail_in_turn(&faults, &[FileOperation::Sync], EIO, times);
    }
}
