//! What is written is read, whole and in order, by whoever reads it and whatever form the segments have.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use ptr_log::{
    Begun, Coverage, Direction, EntryQuery, Log, LogError, TransactionQuery, Writer, WriterOptions,
};
use ptr_model::{Change, Lsn, MarkerToken, Operation, Transaction, Xid};
use support::{
    TestLog, append, append_all, collect, delete, every_kind, files, insert, message, read_all, relation,
    row, schema_event, transaction, update,
};

#[test]
fn everything_that_is_written_is_read() {
    let test = TestLog::create();
    test.write(&every_kind());
    assert_eq!(read_all(&test.log()), every_kind());
    assert!(test.log().check().unwrap().is_sound());
}

#[test]
fn sealed_segments_hold_the_same_as_open_ones() {
    let test = TestLog::create();
    let mut writer = test.writer_with(1);
    for transaction in every_kind() {
        append(&mut writer, &transaction);
        writer.flush().unwrap();
    }
    let reader_before = test.log().read(0, 6).unwrap();
    writer.close().unwrap();
    assert_eq!(test.segments().len(), 7, "one segment for each transaction, and the open one");
    assert_eq!(collect(reader_before), every_kind());
    assert_eq!(read_all(&test.log()), every_kind());
    let report = test.log().check().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.transactions, report.segments), (6, 7));
}

#[test]
fn nothing_is_visible_before_it_is_flushed() {
    let test = TestLog::create();
    let mut writer = test.writer();
    let log = test.log();
    append_all(&mut writer, &every_kind());
    assert_eq!(log.head().unwrap(), log.creation());
    assert_eq!(writer.head(), log.creation());
    let head = writer.flush().unwrap();
    assert_eq!(log.head().unwrap(), head);
    assert_eq!(head.ordinal, 6);
    assert_eq!(head.entry_index, 2 + 5 + 2 + 5 + 1 + 1);
    assert_eq!(head.lsn, every_kind()[5].header.end_lsn);
}

#[test]
fn a_flush_inside_a_transaction_leaves_it_out() {
    let test = TestLog::create();
    let mut writer = test.writer();
    let [first, second, ..] = &every_kind()[..] else { unreachable!() };
    append(&mut writer, first);
    writer.begin(&second.header).unwrap();
    writer.append(&second.changes[0]).unwrap();
    assert_eq!(writer.flush().unwrap().ordinal, 1);
    assert_eq!(read_all(&test.log()), every_kind()[..1]);
    for change in &second.changes[1..] {
        writer.append(change).unwrap();
    }
    writer.commit(second.header.end_lsn).unwrap();
    writer.flush().unwrap();
    assert_eq!(read_all(&test.log()), every_kind()[..2]);
}

#[test]
fn a_transaction_without_changes_is_not_kept_but_is_covered() {
    let test = TestLog::create();
    let mut writer = test.writer();
    let empty = transaction(3, Vec::new());
    assert_eq!(writer.begin(&empty.header).unwrap(), Begun::New);
    assert_eq!(writer.commit(empty.header.end_lsn).unwrap(), None);
    writer.flush().unwrap();
    let log = test.log();
    assert_eq!(log.head().unwrap(), log.creation());
    assert_eq!(log.covered_lsn().unwrap(), empty.header.end_lsn);
}

#[test]
fn a_transaction_without_entries_is_kept_for_its_schema_events() {
    let test = TestLog::create();
    let only_event = transaction(0, vec![schema_event("create table ours()", false)]);
    test.write(std::slice::from_ref(&only_event));
    assert_eq!(read_all(&test.log()), [only_event]);
    assert_eq!(test.log().head().unwrap().entry_index, 0);
}

#[test]
fn a_repeated_transaction_is_taken_and_dropped() {
    let test = TestLog::create();
    let mut writer = test.writer();
    append_all(&mut writer, &every_kind());
    writer.flush().unwrap();
    for transaction in every_kind() {
        assert_eq!(writer.begin(&transaction.header).unwrap(), Begun::Repetition);
        writer.append(&transaction.changes[0]).unwrap();
        assert_eq!(writer.commit(transaction.header.end_lsn).unwrap(), None);
    }
    drop(writer);
    let mut writer = test.writer();
    assert_eq!(writer.begin(&every_kind()[5].header).unwrap(), Begun::Repetition);
    writer.commit(every_kind()[5].header.end_lsn).unwrap();
    let next = transaction(6, vec![message("next")]);
    append(&mut writer, &next);
    writer.flush().unwrap();
    assert_eq!(read_all(&test.log()), [every_kind(), vec![next]].concat());
}

#[test]
fn an_aborted_transaction_leaves_nothing() {
    let test = TestLog::create();
    let table = relation(1, "t", &["v"]);
    let large = "x".repeat(300_000);
    let mut writer = test.writer();
    append(&mut writer, &every_kind()[0]);
    let aborted = transaction(1, Vec::new());
    writer.begin(&aborted.header).unwrap();
    for _ in 0..10 {
        writer.append(&insert(&table, &[&large])).unwrap();
    }
    writer.flush().unwrap();
    writer.abort();
    append(&mut writer, &every_kind()[1]);
    writer.flush().unwrap();
    assert_eq!(read_all(&test.log()), every_kind()[..2]);
    assert!(test.log().check().unwrap().is_sound());
}

fn large_transaction(rows: u32) -> Transaction {
    let table = relation(1, "large", &["id", "v"]);
    let value = "value ".repeat(30);
    let changes = (0..rows).map(|id| insert(&table, &[&id.to_string(), &value])).collect();
    transaction(1, changes)
}

#[test]
fn a_transaction_larger_than_a_block_comes_back_whole_and_leaves_memory_on_its_way() {
    let test = TestLog::create();
    let large = large_transaction(20_000);
    let after = transaction(2, vec![message("after")]);
    let mut writer = test.writer_with(1 << 20);
    append(&mut writer, &every_kind()[0]);
    writer.begin(&large.header).unwrap();
    for change in &large.changes {
        writer.append(change).unwrap();
        assert!(writer.pending_bytes() < 1 << 20);
    }
    writer.commit(large.header.end_lsn).unwrap();
    append(&mut writer, &after);
    writer.flush().unwrap();
    let expected = [every_kind()[0].clone(), large, after];
    assert_eq!(read_all(&test.log()), expected);
    writer.close().unwrap();
    assert_eq!(read_all(&test.log()), expected);
    assert!(test.log().check().unwrap().is_sound());
}

#[test]
fn entries_inside_a_large_transaction_are_found_in_both_directions() {
    let test = TestLog::create();
    let large = large_transaction(20_000);
    for seal in [false, true] {
        let mut writer = test.writer_with(if seal { 1 } else { 1 << 30 });
        if !seal {
            append(&mut writer, &every_kind()[0]);
            append(&mut writer, &large);
        }
        writer.close().unwrap();
        let log = test.log();
        let query = EntryQuery { after: Some(15_000), limit: 3, ..all_entries(&log) };
        let page = log.entries(&query).unwrap();
        assert_eq!(indexes(&page), [15_001, 15_002, 15_003]);
        assert_eq!(page.entries[0].change, large.changes[14_999]);
        assert_eq!(page.next, Some(15_003));
        let page = log.entries(&EntryQuery { direction: Direction::Backward, ..query }).unwrap();
        assert_eq!(indexes(&page), [14_997, 14_998, 14_999]);
        assert_eq!(page.next, Some(14_997));
    }
}

fn all_entries(log: &Log) -> EntryQuery {
    EntryQuery {
        table: None,
        operations: Vec::new(),
        since: log.creation(),
        until: log.head().unwrap(),
        after: None,
        limit: 1000,
        direction: Direction::Forward,
    }
}

fn indexes(page: &ptr_log::EntryPage) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.index).collect()
}

#[test]
fn entries_are_filtered_by_table_operation_and_range() {
    let test = TestLog::create();
    test.write(&every_kind());
    let log = test.log();
    let all = all_entries(&log);
    let of = |query: &EntryQuery| (indexes(&log.entries(query).unwrap()), log.count_entries(query).unwrap());
    assert_eq!(of(&all).1, 16);
    let keyed = EntryQuery { table: Some("keyed".to_owned()), ..all.clone() };
    // 12 is the TRUNCATE of two tables, and belongs to both.
    assert_eq!(of(&keyed), (vec![1, 5, 6, 9, 10, 12, 14], 7));
    let qualified = EntryQuery { table: Some("public.keyed".to_owned()), ..all.clone() };
    assert_eq!(of(&qualified), of(&keyed));
    let deletes = EntryQuery { operations: vec![Operation::Delete, Operation::Truncate], ..keyed.clone() };
    assert_eq!(of(&deletes), (vec![9, 10, 12], 3));
    let ddl = EntryQuery { operations: vec![Operation::Ddl], ..all.clone() };
    assert_eq!(of(&ddl), (vec![7], 1));
    let range = EntryQuery {
        since: log.position_at(1).unwrap(),
        until: log.position_at(3).unwrap(),
        ..keyed.clone()
    };
    assert_eq!(of(&range), (vec![5, 6], 2));
    let unknown = EntryQuery { table: Some("other".to_owned()), ..all };
    assert_eq!(of(&unknown), (vec![], 0));
}

#[test]
fn pages_cover_everything_once_in_both_directions() {
    let test = TestLog::create();
    let table = relation(1, "t", &["v"]);
    let other = relation(2, "u", &["v"]);
    let history: Vec<Transaction> = (0..3000)
        .map(|number| {
            let table = if number % 700 == 3 { &other } else { &table };
            transaction(number, vec![insert(table, &["a"]), update(table, &["a"], &["b"])])
        })
        .collect();
    test.write(&history);
    let log = test.log();
    for table in [None, Some("u".to_owned())] {
        for direction in [Direction::Forward, Direction::Backward] {
            let mut query = EntryQuery { table: table.clone(), direction, limit: 7, ..all_entries(&log) };
            let mut seen = Vec::new();
            loop {
                let page = log.entries(&query).unwrap();
                assert!(indexes(&page).is_sorted());
                seen.extend(indexes(&page));
                query.after = page.next;
                if page.next.is_none() {
                    break;
                }
            }
            seen.sort_unstable();
            assert_eq!(seen.len() as u64, log.count_entries(&query).unwrap());
            seen.dedup();
            let expected = if table.is_none() { 6000 } else { 10 };
            assert_eq!(seen.len(), expected);
        }
    }
}

#[test]
fn transactions_are_filtered_and_listed_from_either_end() {
    let test = TestLog::create();
    test.write(&every_kind());
    let log = test.log();
    let ordinals = |query: &TransactionQuery| {
        log.transactions(query).unwrap().iter().map(|found| found.ordinal).collect::<Vec<_>>()
    };
    let all = TransactionQuery { limit: 100, ..TransactionQuery::default() };
    assert_eq!(ordinals(&all), [0, 1, 2, 3, 4, 5]);
    let newest = TransactionQuery { direction: Direction::Backward, limit: 2, ..all.clone() };
    assert_eq!(ordinals(&newest), [5, 4]);
    let account = TransactionQuery { table: Some("account".to_owned()), ..all.clone() };
    assert_eq!(ordinals(&account), [0, 1, 2, 3]);
    let inserts = TransactionQuery { operations: vec![Operation::Insert], since: Some(1), ..account };
    assert_eq!(ordinals(&inserts), [2], "transaction 4 inserts into another table");
}

#[test]
fn a_summary_says_what_a_transaction_did() {
    let test = TestLog::create();
    test.write(&every_kind());
    let summary = test.log().transaction_of_xid(Xid(703)).unwrap().unwrap();
    assert_eq!(summary.tables, ["public.keyed", "public.account"]);
    assert_eq!((summary.counts.deletes, summary.counts.truncates, summary.counts.messages), (3, 1, 1));
    assert!(!summary.has_gap);
    let with_gap = test.log().transaction(2).unwrap().unwrap();
    assert!(with_gap.has_gap);
    assert_eq!((with_gap.counts.ddl, with_gap.counts.inserts), (1, 1));
    let of_entry = test.log().transaction_of_entry(8).unwrap().unwrap();
    assert_eq!(of_entry.ordinal, 2);
    let replicated = test.log().transaction(4).unwrap().unwrap();
    assert_eq!(replicated.header, every_kind()[4].header);
}

#[test]
fn statistics_count_what_was_written() {
    let test = TestLog::create();
    test.write(&every_kind());
    let statistics = test.log().statistics().unwrap();
    assert_eq!(statistics.transactions, 6);
    assert_eq!(statistics.counts.total(), 16);
    let keyed = statistics.tables.iter().find(|(name, _)| name == "public.keyed").unwrap();
    assert_eq!(keyed.1.total(), 7);
    assert_eq!(statistics.segments, 1);
    assert!(statistics.raw_bytes > 0 && statistics.segment_bytes > statistics.raw_bytes);
}

#[test]
fn statistics_of_a_log_that_grew_are_those_of_one_opened_anew() {
    let test = TestLog::create();
    let tables = [relation(1, "few", &["id"]), relation(2, "many", &["id"])];
    let mut writer = test.writer();
    let log = test.log();
    let mut written = [0, 0];
    // Before, at and after the ends of chunks of 1,024 transactions.
    for until in [1_u64, 1_000, 1_024, 1_025, 2_048, 2_900, 2_901] {
        for number in (written[0] + written[1])..until {
            let which = usize::from(number % 10 != 0);
            append(&mut writer, &transaction(number, vec![insert(&tables[which], &[&number.to_string()])]));
            written[which] += 1;
        }
        writer.flush().unwrap();
        let found = log.statistics().unwrap();
        assert_eq!(found, test.log().statistics().unwrap(), "{until} transactions");
        let counts: Vec<_> =
            found.tables.iter().map(|(name, counts)| (name.as_str(), counts.inserts)).collect();
        let expected = [("public.few", written[0]), ("public.many", written[1])];
        assert_eq!(counts, expected.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>());
        assert_eq!((found.transactions, found.counts.total()), (until, until));
    }
}

#[test]
fn a_marker_names_the_position_after_everything_committed_before_it() {
    let test = TestLog::create();
    let mut writer = test.writer();
    let [early, late] = [MarkerToken::random(), MarkerToken::random()];
    append(&mut writer, &every_kind()[0]);
    writer.marker(early, Lsn(0x100_0050));
    append(&mut writer, &every_kind()[1]);
    let log = test.log();
    assert_eq!(log.marker(early).unwrap(), None);
    writer.flush().unwrap();
    assert_eq!(log.marker(early).unwrap(), Some(log.position_at(1).unwrap()));
    assert_eq!(log.marker(late).unwrap(), None);
    writer.marker(late, Lsn(0x200_0000));
    writer.flush().unwrap();
    assert_eq!(log.marker(late).unwrap(), Some(log.head().unwrap()));
    assert_eq!(log.covered_lsn().unwrap(), Lsn(0x200_0000));
}

#[test]
fn a_log_has_one_writer() {
    let test = TestLog::create();
    let writer = test.writer();
    let second = Writer::open(&test.path(), WriterOptions::default());
    let Err(LogError::Locked { holder, writes, .. }) = second else { panic!("a second writer was let in") };
    assert_eq!((holder, writes), (format!("process {}", std::process::id()), true));
    assert!(matches!(Log::rebuild_index(&test.path()), Err(LogError::Locked { .. })));
    drop(writer);
    test.writer();
}

#[test]
fn what_a_log_lacks_is_known_to_whoever_opens_it_again_though_its_index_is_lost() {
    let test = TestLog::create();
    let mut writer = test.writer();
    assert_eq!(writer.holes(), []);
    writer.note_hole(Lsn(7), Lsn(9)).unwrap();
    writer.note_hole(Lsn(7), Lsn(9)).unwrap();
    writer.note_hole(Lsn(20), Lsn(30)).unwrap();
    drop(writer);
    for suffix in ["", "-wal", "-shm"] {
        let path = test.path().join(format!("index.sqlite{suffix}"));
        assert!(std::fs::remove_file(&path).is_ok() || !path.exists());
    }
    let known: Vec<_> = test.writer().holes().iter().map(|hole| (hole.from.0, hole.until.0)).collect();
    assert_eq!(known, [(7, 9), (20, 30)]);
}

/// The machine may have lost the last that the index was told, which is not waited for.
#[test]
fn coverage_is_doubted_after_a_writer_that_did_not_end_in_order_on_another_start_of_the_machine() {
    let test = TestLog::create();
    let reopened = || test.writer().recovery().coverage;
    let start_machine_again = || {
        let index = rusqlite::Connection::open(test.path().join("index.sqlite")).unwrap();
        index.execute("UPDATE meta SET value = 'another' WHERE key = 'boot'", []).unwrap();
    };
    drop(test.writer());
    assert_eq!(reopened(), Coverage::Known, "a process that was killed loses nothing");
    start_machine_again();
    assert_eq!(reopened(), Coverage::Doubtful);
    assert_eq!(reopened(), Coverage::Doubtful, "as long as nothing was received");
    let mut writer = test.writer();
    writer.covered(Lsn(0x900_0000));
    writer.flush().unwrap();
    drop(writer);
    assert_eq!(reopened(), Coverage::Known);
    test.writer().close().unwrap();
    start_machine_again();
    assert_eq!(reopened(), Coverage::Known, "the writer ended in order");
}

#[test]
fn a_log_is_never_made_over_another_and_none_is_an_error() {
    let test = TestLog::create();
    let again = ptr_log::create(&test.path(), &support::identity());
    assert!(matches!(again, Err(LogError::Unsuitable { .. })), "{again:?}");
    let nowhere = Log::open(&test.path().join("other"));
    assert!(nowhere.unwrap_err().to_string().contains("holds no log"));
}

#[test]
fn only_the_owner_may_read_a_log() {
    let test = TestLog::create();
    test.write(&every_kind());
    for path in files(&test.path()).into_iter().chain(test.segments()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[test]
fn steps_out_of_order_are_refused() {
    let test = TestLog::create();
    let mut writer = test.writer();
    let change = delete(&relation(1, "t", &["v"]), &["a"]);
    assert!(matches!(writer.append(&change), Err(LogError::Refused(_))));
    assert!(matches!(writer.commit(Lsn(9)), Err(LogError::Refused(_))));
    writer.begin(&transaction(0, Vec::new()).header).unwrap();
    assert!(matches!(writer.begin(&transaction(1, Vec::new()).header), Err(LogError::Refused(_))));
    assert!(matches!(test.log().read(0, 1), Err(LogError::Refused(_))));
}

#[test]
fn a_missing_damaged_or_foreign_index_is_learnt_again() {
    let test = TestLog::create();
    let mut writer = test.writer_with(1);
    for transaction in every_kind() {
        append(&mut writer, &transaction);
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    let index = test.path().join("index.sqlite");
    let breakages: [&dyn Fn(); 4] = [
        &|| {
            files(&test.path())
                .iter()
                .filter(|path| path.to_string_lossy().contains("index"))
                .for_each(|path| std::fs::remove_file(path).unwrap())
        },
        &|| {
            std::fs::write(&index, b"no database, but bytes enough to be mistaken for the header of one")
                .unwrap()
        },
        &|| std::fs::write(&index, b"").unwrap(),
        &|| {
            let other = ptr_log::LogIdentity { log_id: uuid::Uuid::from_u128(2), ..support::identity() };
            let other = TestLog::create_for(&other);
            other.write(&every_kind()[..3]);
            std::fs::copy(other.path().join("index.sqlite"), &index).unwrap();
        },
    ];
    for (number, damage) in breakages.into_iter().enumerate() {
        damage();
        let log = test.log();
        assert_eq!(read_all(&log), every_kind(), "breakage {number}");
        let report = log.check().unwrap();
        assert!(report.is_sound(), "breakage {number}: {report:?}");
    }
    Log::rebuild_index(&test.path()).unwrap();
    assert_eq!(read_all(&test.log()), every_kind());
}

#[test]
fn kept_rows_do_not_keep_whole_blocks() {
    let test = TestLog::create();
    let table = relation(1, "t", &["v"]);
    test.write(&[transaction(0, vec![insert(&table, &["a"]), insert(&table, &["b"])])]);
    let read = read_all(&test.log());
    let Change::Insert { relation: first, new } = &read[0].changes[0] else { panic!("no insert") };
    let Change::Insert { relation: second, .. } = &read[0].changes[1] else { panic!("no insert") };
    assert_eq!(*new, row(&["a"]));
    assert!(Arc::ptr_eq(first, second), "a definition is shared by all its rows");
}
