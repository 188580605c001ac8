//! Every form of a position, and its edges.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use ptr_log::{Log, ResolveError};
use ptr_model::{Anchor, Lsn, Position, PositionExpression, Timestamp, Transaction, Xid};
use support::{START, TestLog, ddl, message, transaction};

/// Transactions 0 to 4 with two entries each, at LSN 0x1000000 + 0x100 n, one second apart from START + 1 s on.
fn history() -> Vec<Transaction> {
    (0..5).map(|number| transaction(number, vec![message("a"), message("b")])).collect()
}

fn now() -> Timestamp {
    Timestamp(START + 3_600_000_000)
}

fn resolve_at(log: &Log, text: &str, session: Option<u64>) -> Result<u64, ResolveError> {
    let expression: PositionExpression = text.parse().unwrap();
    let anchor = Anchor { session_ordinal: session, now: now() };
    let position = log.resolve(&expression, anchor, &|_| None)?;
    assert!(log.contains(position).unwrap());
    Ok(position.ordinal)
}

fn resolve(log: &Log, text: &str) -> Result<u64, ResolveError> {
    resolve_at(log, text, None)
}

fn nearest(result: Result<u64, ResolveError>) -> u64 {
    let Err(ResolveError::OutOfRange { first, last, nearest, .. }) = result else {
        panic!("in range: {result:?}")
    };
    assert_eq!((first.ordinal, last.ordinal), (0, 5));
    nearest.ordinal
}

fn log_of(transactions: &[Transaction]) -> (TestLog, Log) {
    let test = TestLog::create();
    test.write(transactions);
    let log = test.log();
    (test, log)
}

#[test]
fn head_and_steps_from_a_session() {
    let (_test, log) = log_of(&history());
    assert_eq!(resolve(&log, "head").unwrap(), 5);
    for (text, ordinal) in [("@", 3), ("@-3", 0), ("@+2", 5), ("@-1", 2)] {
        assert_eq!(resolve_at(&log, text, Some(3)).unwrap(), ordinal, "{text}");
    }
    assert_eq!(nearest(resolve_at(&log, "@-4", Some(3))), 0);
    assert_eq!(nearest(resolve_at(&log, "@+3", Some(3))), 5);
    assert!(matches!(resolve(&log, "@-1"), Err(ResolveError::NoSession { .. })));
}

#[test]
fn an_lsn_means_the_last_position_at_or_before_it() {
    let (_test, log) = log_of(&history());
    let cases = [
        ("0/1000000", 0), // where capture began
        ("0/100002F", 0), // inside the first transaction
        ("0/1000030", 1), // its end
        ("0/1000100", 1), // the next commit record begins
        ("0/100022F", 2),
        ("0/1000430", 5), // the head
    ];
    for (text, ordinal) in cases {
        assert_eq!(resolve(&log, text).unwrap(), ordinal, "{text}");
    }
    assert_eq!(nearest(resolve(&log, "0/FFFFFF")), 0);
    assert_eq!(nearest(resolve(&log, "0/1000431")), 5);
    assert_eq!(nearest(resolve(&log, "FFFFFFFF/FFFFFFFF")), 5);
}

#[test]
fn an_lsn_behind_the_head_is_the_head_as_far_as_capture_came() {
    let test = TestLog::create();
    let mut writer = test.writer();
    support::append_all(&mut writer, &history());
    writer.covered(Lsn(0x100_0500));
    writer.flush().unwrap();
    let log = test.log();
    assert_eq!(resolve(&log, "0/1000431").unwrap(), 5);
    assert_eq!(resolve(&log, "0/1000500").unwrap(), 5);
    assert_eq!(nearest(resolve(&log, "0/1000501")), 5);
}

#[test]
fn an_entry_means_the_position_before_its_transaction() {
    let (_test, log) = log_of(&history());
    for (text, ordinal) in [("entry:0", 0), ("#1", 0), ("#2", 1), ("#3", 1), ("#9", 4), ("#10", 5)] {
        assert_eq!(resolve(&log, text).unwrap(), ordinal, "{text}");
    }
    assert_eq!(nearest(resolve(&log, "#11")), 5);
}

#[test]
fn an_entry_behind_a_transaction_without_entries_is_after_that() {
    let mut history = history();
    history[1].changes = vec![support::schema_event("create schema ours", false)];
    let (_test, log) = log_of(&history);
    assert_eq!(resolve(&log, "#2").unwrap(), 2);
}

#[test]
fn an_xid_means_just_after_its_latest_transaction() {
    let mut history = history();
    history[3].header.xid = history[1].header.xid;
    history[4].header.xid = Xid(0);
    let (_test, log) = log_of(&history);
    assert_eq!(resolve(&log, "xid:700").unwrap(), 1);
    assert_eq!(resolve(&log, "xid:701").unwrap(), 4, "the id wrapped: the latest counts");
    for unknown in ["xid:9999", "xid:0"] {
        assert!(matches!(resolve(&log, unknown), Err(ResolveError::UnknownXid { .. })), "{unknown}");
    }
}

fn at(microseconds: i64) -> String {
    Timestamp(START + microseconds).to_string()
}

#[test]
fn a_time_means_after_the_last_transaction_that_committed_at_or_before_it() {
    let (_test, log) = log_of(&history());
    for (time, ordinal) in
        [(0, 0), (999_999, 0), (1_000_000, 1), (1_000_001, 1), (4_999_999, 4), (5_000_000, 5)]
    {
        assert_eq!(resolve(&log, &at(time)).unwrap(), ordinal, "{time}");
    }
    assert_eq!(resolve(&log, &now().to_string()).unwrap(), 5);
    assert_eq!(nearest(resolve(&log, &at(-1))), 0);
    assert_eq!(nearest(resolve(&log, &at(3_600_000_001))), 5);
}

#[test]
fn a_span_is_counted_back_from_now() {
    let (_test, log) = log_of(&history());
    assert_eq!(resolve(&log, "1m ago").unwrap(), 5);
    assert_eq!(resolve(&log, "-59m57s").unwrap(), 3);
    assert_eq!(resolve(&log, "1h ago").unwrap(), 0);
    assert_eq!(nearest(resolve(&log, "2h ago")), 0);
}

#[test]
fn times_that_tie_and_clocks_that_go_back_follow_the_order_of_the_log() {
    let mut history = history();
    let seconds = [3, 3, 9, 2, 3];
    for (transaction, second) in history.iter_mut().zip(seconds) {
        transaction.header.commit_time = Timestamp(START + second * 1_000_000);
    }
    let (_test, log) = log_of(&history);
    assert_eq!(resolve(&log, &at(3_000_000)).unwrap(), 5);
    assert_eq!(resolve(&log, &at(2_000_000)).unwrap(), 4);
    assert_eq!(resolve(&log, &at(1_999_999)).unwrap(), 0);
}

#[test]
fn a_commit_time_ahead_of_this_machines_clock_is_found() {
    let mut history = history();
    history[4].header.commit_time = Timestamp(now().0 + 5_000_000);
    let (_test, log) = log_of(&history);
    assert_eq!(resolve(&log, &Timestamp(now().0 + 5_000_000).to_string()).unwrap(), 5);
    assert_eq!(resolve(&log, &Timestamp(now().0 + 4_999_999).to_string()).unwrap(), 4);
}

#[test]
fn times_are_found_in_a_long_log_with_a_wandering_clock() {
    let history: Vec<Transaction> = (0..5000)
        .map(|number| {
            let mut transaction = transaction(number, vec![message("m")]);
            let wander = i64::try_from(number * 7919 % 613).unwrap() * 10_000_000;
            transaction.header.commit_time.0 += wander;
            transaction
        })
        .collect();
    let (_test, log) = log_of(&history);
    let anchor = Anchor { session_ordinal: None, now: Timestamp(i64::MAX) };
    for probe in (0..11_000_000_000_i64).step_by(97_000_001) {
        let time = Timestamp(START + probe);
        let expected =
            history.iter().rposition(|one| one.header.commit_time <= time).map_or(0, |last| last + 1);
        let found = log.resolve(&PositionExpression::Time(time), anchor, &|_| None);
        match found {
            Ok(position) => assert_eq!(position.ordinal, expected as u64, "{probe}"),
            Err(ResolveError::OutOfRange { .. }) => {
                assert!(history.iter().all(|one| one.header.commit_time < time), "{probe}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn what_committed_lately_is_told_though_a_clock_was_set_back() {
    let history: Vec<Transaction> = (0..3000)
        .map(|number| {
            let mut transaction = transaction(number, vec![message("m")]);
            // Set back by hours at 1,000, forward at 2,000, and back again at the last ten.
            let hours = match number {
                0..1000 => 5,
                1000..2000 => 1,
                2000..2990 => 9,
                _ => 2,
            };
            transaction.header.commit_time = Timestamp(START + hours * 3_600_000_000 + number.cast_signed());
            transaction
        })
        .collect();
    let (_test, log) = log_of(&history);
    for hour in 0..11 {
        for upto in hour..11 {
            let (after, upto) =
                (Timestamp(START + hour * 3_600_000_000), Timestamp(START + upto * 3_600_000_000 + 2_995));
            let is_outside =
                |one: &Transaction| one.header.commit_time <= after || one.header.commit_time > upto;
            let expected = history.iter().rposition(is_outside).map_or(0, |last| last + 1);
            assert_eq!(log.only_within(after, upto).unwrap().ordinal, expected as u64, "{after} to {upto}");
        }
    }
}

#[test]
fn checkpoints_are_asked_for_by_name() {
    let (_test, log) = log_of(&history());
    let anchor = Anchor { session_ordinal: None, now: now() };
    let third = log.position_at(3).unwrap();
    let foreign = Position { lsn: Lsn(7), ..third };
    let checkpoints = |name: &str| match name {
        "here" => Some(third),
        "elsewhere" => Some(foreign),
        _ => None,
    };
    let ask = |text: &str| log.resolve(&text.parse().unwrap(), anchor, &checkpoints);
    assert_eq!(ask("here").unwrap(), third);
    assert_eq!(ask("creation").unwrap(), log.creation());
    assert!(matches!(ask("nowhere"), Err(ResolveError::UnknownCheckpoint { .. })));
    assert!(matches!(ask("elsewhere"), Err(ResolveError::ForeignCheckpoint { .. })));
}

#[test]
fn migration_is_creation_until_a_schema_changes_and_then_the_end_of_the_first_run() {
    let (_test, log) = log_of(&history());
    assert_eq!(log.migration_position(&[]).unwrap(), log.creation());
    let mut history: Vec<Transaction> =
        (0..20).map(|number| transaction(number, vec![message("m")])).collect();
    for number in [2, 4, 7, 13] {
        history[number].changes.push(ddl("create table t()"));
    }
    let (_test, log) = log_of(&history);
    assert_eq!(log.migration_position(&[]).unwrap().ordinal, 8);
    let by_hand = log.position_at(4).unwrap();
    assert_eq!(log.migration_position(&[by_hand]).unwrap().ordinal, 3);
    let anchor = Anchor { session_ordinal: None, now: now() };
    assert_eq!(log.resolve(&"MIGRATION".parse().unwrap(), anchor, &|_| None).unwrap().ordinal, 8);
}

#[test]
fn in_an_empty_log_everything_is_creation_or_outside() {
    let (_test, log) = log_of(&[]);
    for text in ["head", "#0", "0/1000000", "CREATION", "MIGRATION", "1m ago"] {
        assert_eq!(resolve(&log, text).unwrap(), 0, "{text}");
    }
    for text in ["#1", "0/1000001", "0/1"] {
        assert!(matches!(resolve(&log, text), Err(ResolveError::OutOfRange { .. })), "{text}");
    }
}
