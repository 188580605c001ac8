//! Altered, missing and truncated bytes are always noticed, and never cut away in silence.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{fs, path::Path};

use ptr_log::{Log, LogError, Writer, WriterOptions};
use support::{TestLog, append, append_all, every_kind, message, transaction};

/// A log of several flushes in one segment, open, or sealed with an empty one behind it.
fn small_log(sealed: bool) -> TestLog {
    let test = TestLog::create();
    let mut writer = test.writer();
    for transactions in every_kind().chunks(2) {
        append_all(&mut writer, transactions);
        writer.flush().unwrap();
    }
    drop(writer);
    if sealed {
        test.writer_with(1).close().unwrap();
    }
    test
}

fn read_everything(log: &Log) -> Result<(), LogError> {
    let head = log.head()?.ordinal;
    log.read(0, head)?.try_for_each(|item| item.map(|_| ()))
}

/// The damage is noticed by reading, by `check`, and by whoever opens the log to write.
fn assert_noticed(test: &TestLog, reader: &Log, what: &str) {
    let read = read_everything(reader);
    assert!(read.is_err(), "{what}: reading noticed nothing");
    match reader.check() {
        Ok(report) => assert!(!report.damages.is_empty(), "{what}: check noticed nothing"),
        Err(LogError::Unsuitable { .. }) => {}
        Err(error) => panic!("{what}: check failed: {error}"),
    }
    let opened = Writer::open(&test.path(), WriterOptions::default());
    match opened {
        // What is sealed is not read again at every opening.
        Ok(writer) => assert_eq!(writer.head().ordinal, 6, "{what}: opening cut acknowledged transactions"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(".seg") && text.len() > 60, "{what}: {text}");
        }
    }
}

fn alter_each_byte(sealed: bool) {
    let test = small_log(sealed);
    let segment = test.segments()[0].clone();
    let bytes = fs::read(&segment).unwrap();
    for at in 0..bytes.len() {
        let reader = test.log();
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        fs::write(&segment, &altered).unwrap();
        assert_noticed(&test, &reader, &format!("byte {at} of {}", bytes.len()));
        assert_eq!(fs::read(&segment).unwrap(), altered, "byte {at}: the damaged file was touched");
        fs::write(&segment, &bytes).unwrap();
    }
    assert!(test.log().check().unwrap().is_sound());
}

#[test]
fn any_altered_byte_of_an_open_segment_is_noticed() {
    alter_each_byte(false);
}

#[test]
fn any_altered_byte_of_a_sealed_segment_is_noticed() {
    alter_each_byte(true);
}

fn truncate_everywhere(sealed: bool) {
    let test = small_log(sealed);
    let segment = test.segments()[0].clone();
    let bytes = fs::read(&segment).unwrap();
    for length in 0..bytes.len() {
        let reader = test.log();
        fs::write(&segment, &bytes[..length]).unwrap();
        assert_noticed(&test, &reader, &format!("cut to {length} of {}", bytes.len()));
        fs::write(&segment, &bytes).unwrap();
    }
}

#[test]
fn a_truncated_open_segment_is_noticed() {
    truncate_everywhere(false);
}

#[test]
fn a_truncated_sealed_segment_is_noticed() {
    truncate_everywhere(true);
}

#[test]
fn without_an_index_later_blocks_prove_that_a_damaged_one_was_durable() {
    let test = small_log(false);
    let segment = test.segments()[0].clone();
    let bytes = fs::read(&segment).unwrap();
    let marks: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"\xB1PTR")).collect();
    assert_eq!(marks.len(), 3);
    for at in marks[0]..marks[2] {
        let mut altered = bytes.clone();
        altered[at] ^= 0x40;
        fs::write(&segment, &altered).unwrap();
        remove_index(&test.path());
        let opened = Writer::open(&test.path(), WriterOptions::default());
        let Err(LogError::Damaged(damage)) = opened.map(|writer| writer.head()) else {
            panic!("byte {at} was taken for a torn tail")
        };
        assert!(marks.contains(&usize::try_from(damage.offset).unwrap()));
    }
}

fn remove_index(directory: &Path) {
    for path in support::files(directory) {
        if path.to_string_lossy().contains("index.sqlite") {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_missing_segment_is_noticed() {
    let test = TestLog::create();
    let mut writer = test.writer_with(1);
    for transaction in every_kind() {
        append(&mut writer, &transaction);
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    for missing in 0..6 {
        let path = test.segments()[missing].clone();
        let bytes = fs::read(&path).unwrap();
        let reader = test.log();
        fs::remove_file(&path).unwrap();
        assert!(!reader.check().unwrap().damages.is_empty(), "check did not miss segment {missing}");
        remove_index(&test.path());
        let opened = Writer::open(&test.path(), WriterOptions::default());
        assert!(matches!(opened, Err(LogError::Damaged(_))), "opening did not miss segment {missing}");
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_damage_is_told_with_place_loss_and_remedy() {
    let test = small_log(true);
    let segment = test.segments()[0].clone();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let error = read_everything(&test.log()).unwrap_err().to_string();
    for part in [segment.to_str().unwrap(), "is damaged at byte", "transactions", "Nothing was cut"] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let test = small_log(false);
    let foreign = ptr_log::LogIdentity { log_id: uuid::Uuid::from_u128(9), ..support::identity() };
    let other = TestLog::create_for(&foreign);
    other.write(&[transaction(0, vec![message("other")])]);
    fs::copy(&other.segments()[0], &test.segments()[0]).unwrap();
    let opened = Writer::open(&test.path(), WriterOptions::default());
    assert!(matches!(opened, Err(LogError::Unsuitable { .. })));
}

#[test]
fn text_of_a_user_that_looks_like_a_block_is_no_proof_of_anything() {
    let test = TestLog::create();
    test.write(&every_kind()[..1]);
    let bytes = fs::read(&test.segments()[0]).unwrap();
    let mark = (0..bytes.len()).find(|at| bytes[*at..].starts_with(b"\xB1PTR")).unwrap();
    // A block of another log, inside a value of this one.
    let forged = TestLog::create_for(&ptr_log::LogIdentity {
        log_id: uuid::Uuid::from_u128(9),
        ..support::identity()
    });
    let block = bytes::Bytes::copy_from_slice(&bytes[mark..]);
    let change = ptr_model::Change::Message(ptr_model::Message {
        prefix: "app".to_owned(),
        content: block,
        transactional: true,
    });
    forged.write(&[transaction(0, vec![change])]);
    remove_index(&forged.path());
    let segment = forged.segments()[0].clone();
    let mut torn = fs::read(&segment).unwrap();
    let mark = (0..torn.len()).find(|at| torn[*at..].starts_with(b"\xB1PTR")).unwrap();
    torn[mark + 20] ^= 1;
    fs::write(&segment, torn).unwrap();
    let writer = Writer::open(&forged.path(), WriterOptions::default()).unwrap();
    assert_eq!(writer.head().ordinal, 0);
    assert!(writer.recovery().cut_bytes > 0);
}
