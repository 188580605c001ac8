//! What the tests of the log share: a log in a folder of its own, and transactions to put into it.
#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

pub mod faulty_disk;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use ptr_log::{Item, Log, LogIdentity, Writer, WriterOptions};
use ptr_model::{
    Change, Column, Datum, Environment, Gap, Lsn, Message, Oid, OldTuple, Origin, Relation, RelationRows,
    ReplicaIdentity, SchemaChange, Statement, Timestamp, Transaction, TransactionHeader, TruncateOptions,
    Tuple, Xid,
};
use tempfile::TempDir;
use uuid::Uuid;

/// 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600_000_000;

pub fn identity() -> LogIdentity {
    LogIdentity {
        system_identifier: 7_300_000_000_000_000_001,
        timeline: 1,
        database: "shop".to_owned(),
        database_oid: Oid(16_384),
        creation: Lsn(0x100_0000),
        created_at: Timestamp(START),
        log_id: Uuid::from_u128(0x0190_a5a4_1c1f_7000_8000_0000_0000_0001),
    }
}

/// An empty log in a folder that goes away with it.
pub struct TestLog {
    folder: TempDir,
}

impl TestLog {
    pub fn create() -> Self {
        Self::create_for(&identity())
    }

    pub fn create_for(identity: &LogIdentity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        ptr_log::create(&folder.path().join("log"), identity).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn writer(&self) -> Writer {
        Writer::open(&self.path(), WriterOptions::default()).unwrap()
    }

    pub fn writer_with(&self, segment_bytes: u64) -> Writer {
        Writer::open(&self.path(), WriterOptions { segment_bytes, ..WriterOptions::default() }).unwrap()
    }

    pub fn log(&self) -> Log {
        Log::open(&self.path()).unwrap()
    }

    pub fn segments(&self) -> Vec<PathBuf> {
        files(&self.path().join("segments"))
    }

    /// Writes transactions, durable all at once.
    pub fn write(&self, transactions: &[Transaction]) {
        let mut writer = self.writer();
        append_all(&mut writer, transactions);
        writer.close().unwrap();
    }
}

pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

pub fn append(writer: &mut Writer, transaction: &Transaction) {
    writer.begin(&transaction.header).unwrap();
    for change in &transaction.changes {
        writer.append(change).unwrap();
    }
    writer.commit(transaction.header.end_lsn).unwrap();
}

pub fn append_all(writer: &mut Writer, transactions: &[Transaction]) {
    for transaction in transactions {
        append(writer, transaction);
    }
}

/// Everything a log holds, as transactions again.
pub fn read_all(log: &Log) -> Vec<Transaction> {
    collect(log.read(0, log.head().unwrap().ordinal).unwrap())
}

pub fn collect(reader: ptr_log::Reader) -> Vec<Transaction> {
    try_collect(reader).unwrap()
}

pub fn try_collect(reader: ptr_log::Reader) -> Result<Vec<Transaction>, ptr_log::LogError> {
    let mut transactions = Vec::new();
    let mut open: Option<Transaction> = None;
    for item in reader {
        match item? {
            Item::Begin(outline) => {
                open = Some(Transaction { header: outline.header, changes: Vec::new() });
            }
            Item::Change(change) => open.as_mut().unwrap().changes.push(change),
            Item::Commit => transactions.push(open.take().unwrap()),
        }
    }
    assert!(open.is_none(), "a transaction was read half");
    Ok(transactions)
}

pub fn relation(oid: u32, name: &str, columns: &[&str]) -> Arc<Relation> {
    Arc::new(Relation {
        oid: Oid(oid),
        schema: "public".to_owned(),
        name: name.to_owned(),
        replica_identity: ReplicaIdentity::Full,
        columns: columns
            .iter()
            .map(|name| Column {
                name: (*name).to_owned(),
                in_identity: true,
                type_oid: Oid(25),
                type_modifier: -1,
                type_name: "text".to_owned(),
            })
            .collect(),
    })
}

pub fn text(value: &str) -> Datum {
    Datum::Text(Bytes::copy_from_slice(value.as_bytes()))
}

pub fn row(values: &[&str]) -> Tuple {
    Tuple(values.iter().map(|value| text(value)).collect())
}

pub fn insert(relation: &Arc<Relation>, values: &[&str]) -> Change {
    Change::Insert { relation: Arc::clone(relation), new: row(values) }
}

pub fn update(relation: &Arc<Relation>, old: &[&str], new: &[&str]) -> Change {
    Change::Update { relation: Arc::clone(relation), old: OldTuple::Full(row(old)), new: row(new) }
}

pub fn delete(relation: &Arc<Relation>, old: &[&str]) -> Change {
    Change::Delete { relation: Arc::clone(relation), old: OldTuple::Full(row(old)) }
}

pub fn ddl(statement: &str) -> Change {
    schema_event(statement, true)
}

pub fn schema_event(statement: &str, is_entry: bool) -> Change {
    Change::Schema(Box::new(SchemaChange {
        tag: statement.split(' ').take(2).collect::<Vec<_>>().join(" ").to_uppercase(),
        is_entry,
        event: "ddl_command_end".to_owned(),
        statement: Statement::Text(statement.to_owned()),
        environment: Environment { session_user: "alice".to_owned(), ..Environment::default() },
        objects: Vec::new(),
        dropped: Vec::new(),
        rewrites: Vec::new(),
        missing_values: Vec::new(),
        roles: None,
        details: std::collections::BTreeMap::new(),
    }))
}

pub fn message(content: &str) -> Change {
    Change::Message(Message {
        prefix: "app".to_owned(),
        content: Bytes::copy_from_slice(content.as_bytes()),
        transactional: true,
    })
}

pub fn gap(reason: &str) -> Change {
    Change::Gap(Gap {
        reason: reason.to_owned(),
        statement: None,
        sqlstate: Some("42501".to_owned()),
        relation: None,
    })
}

/// The `number`th transaction of a history, one second after the one before, with these changes.
pub fn transaction(number: u64, changes: Vec<Change>) -> Transaction {
    let commit_lsn = Lsn(0x100_0000 + number * 0x100);
    let header = TransactionHeader {
        xid: Xid(700 + u32::try_from(number).unwrap()),
        commit_lsn,
        end_lsn: Lsn(commit_lsn.0 + 0x30),
        commit_time: Timestamp(START + 1_000_000 * i64::try_from(number + 1).unwrap()),
        origin: None,
    };
    Transaction { header, changes }
}

/// A history in which everything occurs that a log can hold.
pub fn every_kind() -> Vec<Transaction> {
    let account = relation(100, "account", &["id", "name", "note"]);
    let mut keyed = (*relation(101, "keyed", &["id", "v"])).clone();
    keyed.replica_identity = ReplicaIdentity::Default;
    keyed.columns[1].in_identity = false;
    let keyed = Arc::new(keyed);
    let wide = relation(100, "account", &["id", "name", "note", "added"]);
    let mixed =
        Tuple(vec![Datum::Null, Datum::UnchangedToast, Datum::Binary(Bytes::from_static(&[0, 255, 1]))]);
    let empty = Tuple(vec![text(""), Datum::Binary(Bytes::new()), Datum::Null]);
    let rows = RelationRows {
        relation: "public.account".to_owned(),
        columns: vec!["id".to_owned(), "name".to_owned()],
        first: true,
        rows: vec![vec![Some("1".to_owned()), None], vec![Some(String::new()), Some("é".to_owned())]],
    };
    let options = TruncateOptions { cascade: true, restart_identity: false };
    let mut replicated = transaction(4, vec![insert(&keyed, &["9", "from elsewhere"])]);
    replicated.header.origin = Some(Origin { name: "upstream".to_owned(), commit_lsn: Lsn(77) });
    let mut alone = transaction(5, vec![message("not in a transaction")]);
    alone.header.xid = Xid(0);
    vec![
        transaction(0, vec![insert(&account, &["1", "ann", "x"]), insert(&keyed, &["1", "a"])]),
        transaction(
            1,
            vec![
                update(&account, &["1", "ann", "x"], &["1", "ann", "y"]),
                Change::Update {
                    relation: Arc::clone(&account),
                    old: OldTuple::Full(empty.clone()),
                    new: mixed.clone(),
                },
                Change::Update {
                    relation: Arc::clone(&account),
                    old: OldTuple::Full(mixed.clone()),
                    new: mixed.clone(),
                },
                Change::Update {
                    relation: Arc::clone(&keyed),
                    old: OldTuple::Key(Tuple(vec![text("1"), Datum::Null])),
                    new: row(&["2", "a"]),
                },
                Change::Update {
                    relation: Arc::clone(&keyed),
                    old: OldTuple::Unchanged,
                    new: row(&["2", "b"]),
                },
            ],
        ),
        transaction(
            2,
            vec![
                ddl("alter table account add column added text"),
                schema_event("create table ours()", false),
                Change::Rows(Box::new(rows)),
                insert(&wide, &["2", "bob", "", "new"]),
                gap("no rights"),
            ],
        ),
        transaction(
            3,
            vec![
                Change::Delete { relation: Arc::clone(&keyed), old: OldTuple::Key(row(&["2", ""])) },
                Change::Delete { relation: Arc::clone(&keyed), old: OldTuple::Unchanged },
                delete(&wide, &["2", "bob", "", "new"]),
                Change::Truncate { relations: vec![Arc::clone(&wide), Arc::clone(&keyed)], options },
                message("hello"),
            ],
        ),
        replicated,
        alone,
    ]
}

/// A folder in memory where the system has one: real syncs would take most of a test's time.
pub fn memory_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
