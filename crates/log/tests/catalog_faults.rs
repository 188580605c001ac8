//! A disk that fails under the catalog: what was acknowledged stays, nothing is there half, and errors say where.
//!
//! The disk is a library between the test and the system. What is held is what the catalog answered, noted by the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use ptr_log::{Catalog, CatalogError, MoveOutcome, MoveStep, NewCheckpoint, NewMove, NewSession};
use ptr_model::{Lsn, Position, SessionId, Timestamp};
use ptr_testkit::{DiskFault, DiskFaults, EIO, ENOSPC, FileOperation};
use support::memory_folder;

fn position(ordinal: u64) -> Position {
    Position { ordinal, lsn: Lsn(0x100_0000 + ordinal), entry_index: 2 * ordinal }
}

/// What the catalog says, a line for each thing, by a name that never changes.
type Lines = BTreeMap<String, String>;

/// What was acknowledged, and what may be either way because it was told to have failed.
#[derive(Default)]
struct Expected {
    lines: Lines,
    /// What each of these may be as well.
    uncertain: BTreeMap<String, Vec<Option<String>>>,
    /// What a power failure may take: moves, until they are known to be durable.
    loose: BTreeSet<String>,
    errors: Vec<String>,
}

impl Expected {
    /// Notes the answer to a change of `key`, after which it is `line`.
    fn change<T>(
        &mut self,
        key: &str,
        answer: Result<T, CatalogError>,
        line: impl FnOnce(&T) -> Option<String>,
    ) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.uncertain.remove(key);
                match line(&answer) {
                    Some(line) => self.lines.insert(key.to_owned(), line),
                    None => self.lines.remove(key),
                };
                Some(answer)
            }
            Err(error) => {
                self.told(&error);
                None
            }
        }
    }

    fn told(&mut self, error: &CatalogError) {
        let text = format!("{error}: {:?}", std::error::Error::source(error).map(ToString::to_string));
        assert!(text.contains("catalog.sqlite"), "it does not say where: {text}");
        self.errors.push(text);
    }

    /// What may have been made of `key` though it was told to have failed.
    fn may_be(&mut self, key: &str, line: Option<String>) {
        let known = self.lines.get(key).cloned();
        self.uncertain.entry(key.to_owned()).or_insert_with(|| vec![known]).push(line);
    }

    fn assert_is(&self, found: &Lines, is_after_power_failure: bool, context: &str) {
        let keys = self.lines.keys().chain(found.keys()).chain(self.uncertain.keys());
        for key in keys {
            let (known, found) = (self.lines.get(key), found.get(key));
            let either =
                self.uncertain.get(key).is_some_and(|all| all.iter().any(|one| one.as_ref() == found));
            let loose = is_after_power_failure && self.loose.contains(key);
            assert!(
                known == found || either || loose,
                "{context}: {key} was acknowledged as {known:?}, and is {found:?}; told: {:#?}",
                self.errors
            );
        }
    }
}

fn lines_of(catalog: &Catalog) -> Result<Lines, CatalogError> {
    let mut lines = Lines::new();
    for checkpoint in catalog.checkpoints(None)? {
        let key = checkpoint.description.chars().take(20).collect::<String>();
        let name =
            if checkpoint.kind == ptr_log::CheckpointKind::Manual { key } else { checkpoint.name.clone() };
        lines.insert(format!("checkpoint {name}"), checkpoint_line(&checkpoint));
    }
    for session in catalog.sessions()? {
        lines.insert(format!("session {}", session.name), session_line(&session));
        for step in catalog.moves(session.id, 100)? {
            lines.insert(format!("move {}", step.strategy), move_line(&step));
        }
    }
    Ok(lines)
}

fn checkpoint_line(checkpoint: &ptr_log::Checkpoint) -> String {
    format!("{} at {:?}, {} bytes", checkpoint.name, checkpoint.position, checkpoint.description.len())
}

fn session_line(session: &ptr_log::Session) -> String {
    format!("of {} on {}, follows: {}", session.database, session.target_database, session.follow)
}

fn move_line(step: &ptr_log::Move) -> String {
    format!("{:?} from {:?} to {:?}: {:?}", step.step, step.from, step.to, step.outcome)
}

/// Changes of all kinds by two users, each noted with what was answered. When the first two have gone, SQLite has emptied
/// its write-ahead log, and two others come.
fn work(faults: &DiskFaults, path: &Path, expected: &mut Expected) {
    for numbers in [1..4, 4..6] {
        let users = [Catalog::open(path), Catalog::open(path)];
        users.iter().filter_map(|user| user.as_ref().err()).for_each(|error| expected.told(error));
        for (number, user) in numbers.zip(users.iter().cycle()) {
            if let Ok(user) = user {
                use_it(user, expected, number);
                assert_survives_power_failure(faults, path, expected, "meanwhile");
            }
        }
    }
}

fn assert_survives_power_failure(faults: &DiskFaults, path: &Path, expected: &Expected, context: &str) {
    let survived = memory_folder();
    faults.after_power_failure(path.parent().unwrap(), survived.path());
    let again = Catalog::open(&survived.path().join("catalog.sqlite"));
    let found = again.and_then(|again| lines_of(&again));
    let found = found.unwrap_or_else(|error| panic!("{context}, without power: {error}"));
    expected.assert_is(&found, true, &format!("{context}, without power"));
}

fn use_it(user: &Catalog, expected: &mut Expected, number: u64) {
    if number.is_multiple_of(2) {
        make_fixed(user, expected);
    }
    let mover = make_session(user, expected, number);
    make_checkpoint(user, expected, number);
    if let Some(session) = mover {
        go(user, expected, session, number);
    }
    match lines_of(user) {
        Ok(lines) => expected.assert_is(&lines, false, "asked meanwhile"),
        Err(error) => expected.told(&error),
    }
}

fn make_fixed(catalog: &Catalog, expected: &mut Expected) {
    let made = catalog.ensure_fixed_checkpoints("shop", position(0), Timestamp(5));
    let line = |name: &str| (format!("checkpoint {name}"), format!("{name} at {:?}, 0 bytes", position(0)));
    for (key, line) in ["CREATION", "MIGRATION"].map(line) {
        match &made {
            Ok(()) => drop(expected.lines.insert(key, line)),
            Err(_) => expected.may_be(&key, Some(line)),
        }
    }
    made.err().into_iter().for_each(|error| expected.told(&error));
}

fn make_session(catalog: &Catalog, expected: &mut Expected, number: u64) -> Option<SessionId> {
    let new = NewSession {
        name: format!("s{number}"),
        description: String::new(),
        database: "shop".to_owned(),
        target_database: format!("shop_{number}"),
    };
    let key = format!("session s{number}");
    let line = |follows| format!("of shop on shop_{number}, follows: {follows}");
    let made = expected.change(&key, catalog.create_session(&new), |_| Some(line(false)));
    let Some(made) = made else {
        expected.may_be(&key, Some(line(false)));
        return None;
    };
    if expected.change(&key, catalog.set_session_follow(made.id, true), |_| Some(line(true))).is_none() {
        expected.may_be(&key, Some(line(true)));
    }
    Some(made.id)
}

fn make_checkpoint(catalog: &Catalog, expected: &mut Expected, number: u64) {
    let length = 5_000;
    let description = format!("{number:0>20}{}", "x".repeat(length));
    let key = format!("checkpoint {number:0>20}");
    let line = |name: &str| format!("{name} at {:?}, {} bytes", position(number), length + 20);
    let new = NewCheckpoint {
        name: format!("c{number}"),
        database: "shop".to_owned(),
        description,
        position: position(number),
        session_id: None,
        hash: None,
    };
    let made = expected.change(&key, catalog.create_checkpoint(&new), |made| Some(checkpoint_line(made)));
    let Some(made) = made else { return expected.may_be(&key, Some(line(&new.name))) };
    if number % 3 == 1 {
        let renamed = format!("renamed{number}");
        if expected
            .change(&key, catalog.rename_checkpoint(made.id, &renamed), |_| Some(line(&renamed)))
            .is_none()
        {
            expected.may_be(&key, Some(line(&renamed)));
        }
    }
    if number % 3 == 2 && expected.change(&key, catalog.delete_checkpoint(made.id), |_| None).is_none() {
        expected.may_be(&key, None);
    }
}

fn go(catalog: &Catalog, expected: &mut Expected, session_id: SessionId, number: u64) {
    let strategy = format!("way{number}");
    let key = format!("move {strategy}");
    let new = NewMove {
        session_id,
        step: MoveStep::Navigate,
        from: Some(position(number)),
        to: position(number + 1),
        strategy,
    };
    let line = |outcome: Option<MoveOutcome>| {
        format!("Navigate from {:?} to {:?}: {outcome:?}", Some(position(number)), position(number + 1))
    };
    expected.loose.insert(key.clone());
    let begun = expected.change(&key, catalog.begin_move(&new), |_| Some(line(None)));
    let Some(begun) = begun else { return expected.may_be(&key, Some(line(None))) };
    let done = Some(MoveOutcome::Done);
    let ended = catalog.finish_move(begun.id, &MoveOutcome::Done, position(number + 1));
    if expected.change(&key, ended, |_| Some(line(done.clone()))).is_none() {
        expected.may_be(&key, Some(line(done)));
    }
    match catalog.sync() {
        Ok(()) => expected.loose.clear(),
        Err(error) => expected.told(&error),
    }
}

/// The work, with each operation of these kinds failing in turn; what is there meanwhile, after a start without faults,
/// and after a power failure.
fn fail_in_turn(faults: &DiskFaults, operations: &[FileOperation], errno: i32, times: Option<u64>) {
    let (mut nth, mut told) = (1, 0);
    loop {
        let context = format!("{operations:?} {nth} failed with {errno}, {times:?} times");
        let folder = memory_folder();
        let path = folder.path().join("catalog.sqlite");
        let mut expected = Expected::default();
        faults.fail(&DiskFault { part: path.to_str().unwrap(), operations, nth, times, errno });
        work(faults, &path, &mut expected);
        let made = faults.made();
        faults.heal();
        assert_survives_power_failure(faults, &path, &expected, &context);
        let again = Catalog::open(&path).unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = lines_of(&again).unwrap_or_else(|error| panic!("{context}: {error}"));
        expected.assert_is(&found, false, &context);
        if made.is_empty() {
            assert!(expected.errors.is_empty(), "nothing failed: {:#?}", expected.errors);
            break;
        }
        told += u64::from(!expected.errors.is_empty());
        nth += if nth < 60 { 1 } else { 3 };
    }
    println!("{operations:?} failing with {errno}, {times:?} times, up to the {nth}th: {told} told");
    assert!(told > 0, "no failure was told");
}

#[test]
fn a_disk_that_cannot_be_read_under_the_catalog_loses_nothing_and_is_told() {
    let Some(faults) =
        DiskFaults::under("a_disk_that_cannot_be_read_under_the_catalog_loses_nothing_and_is_told")
    else {
        return;
    };
    for times in [Some(1), None] {
        fail_in_turn(&faults, &[FileOperation::Read], EIO, times);
        fail_in_turn(&faults, &[FileOperation::Open], EIO, times);
    }
}

#[test]
fn a_disk_that_cannot_be_written_under_the_catalog_loses_nothing_and_is_told() {
    let Some(faults) =
        DiskFaults::under("a_disk_that_cannot_be_written_under_the_catalog_loses_nothing_and_is_told")
    else {
        return;
    };
    for (errno, times) in [(EIO, Some(1)), (ENOSPC, Some(2)), (ENOSPC, None)] {
        fail_in_turn(&faults, &[FileOperation::Write, FileOperation::Truncate], errno, times);
    }
}

#[test]
fn what_the_catalog_acknowledged_is_durable_though_a_sync_failed() {
    let Some(faults) = DiskFaults::under("what_the_catalog_acknowledged_is_durable_though_a_sync_failed")
    else {
        return;
    };
    for times in [Some(1), Some(2), None] {
        fail_in_turn(&faults, &[FileOperation::Sync], EIO, times);
    }
}
