//! A log that no server wrote, for tests of what reads logs.

use std::{path::Path, sync::Arc, time::Duration};

use ptr_log::{LogIdentity, Writer, WriterOptions};
use ptr_model::{
    Change, Column, Datum, Lsn, Oid, OldTuple, Relation, ReplicaIdentity, Timestamp, TransactionHeader,
    Tuple, Xid,
};
use uuid::Uuid;

/// The log of database `testdb`, being written: transactions 100, 101 and so on, 256 bytes of WAL each, from 2000-01-01 on.
pub struct HandwrittenLog {
    writer: Writer,
    number: u32,
    pace: Duration,
}

impl HandwrittenLog {
    /// Begins it in a folder; transactions are so long apart.
    ///
    /// # Panics
    /// When it cannot be written, as all that follows.
    pub fn begin(directory: &Path, pace: Duration) -> Self {
        let identity = LogIdentity {
            system_identifier: 7,
            timeline: 1,
            database: "testdb".into(),
            database_oid: Oid(5),
            creation: Lsn(0x100),
            created_at: Timestamp::from_postgres(0),
            log_id: Uuid::from_u128(7),
        };
        ptr_log::create(directory, &identity).expect("a log");
        let writer = Writer::open(directory, WriterOptions::default()).expect("a writer");
        Self { writer, number: 0, pace }
    }

    /// A transaction of these changes.
    pub fn transaction(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.transaction_of(100 + self.number, changes);
    }

    /// A transaction of this id.
    pub fn transaction_of(&mut self, xid: u32, changes: impl IntoIterator<Item = Change>) {
        let commit_lsn = Lsn(0x200 + u64::from(self.number) * 0x100);
        let since = i64::try_from((self.pace * self.number).as_micros()).expect("a time");
        let header = TransactionHeader {
            xid: Xid(xid),
            commit_lsn,
            end_lsn: Lsn(0),
            commit_time: Timestamp::from_postgres(since),
            origin: None,
        };
        self.writer.begin(&header).expect("a transaction");
        for change in changes {
            self.writer.append(&change).expect("a change");
        }
        self.writer.commit(Lsn(commit_lsn.0 + 0x10)).expect("a commit");
        self.number += 1;
    }

    /// Has the disk keep what was written so far, which a long log needs now and then.
    pub fn flush(&mut self) {
        self.writer.flush().expect("a flush");
    }

    /// Ends it.
    pub fn close(self) {
        self.writer.close().expect("a sealed log");
    }
}

/// A table whose rows are sent whole, and changes of them: values are what the server would send as text.
#[derive(Debug, Clone)]
pub struct HandwrittenTable(Arc<Relation>);

impl HandwrittenTable {
    /// `public.NAME`, with these columns: name, whether it is in the replica identity, its type's oid and name.
    pub fn new(name: &str, columns: &[(&str, bool, u32, &str)]) -> Self {
        let columns = columns.iter().map(|(name, in_identity, type_oid, type_name)| Column {
            name: (*name).into(),
            in_identity: *in_identity,
            type_oid: Oid(*type_oid),
            type_modifier: -1,
            type_name: (*type_name).into(),
        });
        Self(Arc::new(Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: name.into(),
            replica_identity: ReplicaIdentity::Full,
            columns: columns.collect(),
        }))
    }

    /// As it is announced.
    pub fn relation(&self) -> Arc<Relation> {
        Arc::clone(&self.0)
    }

    /// A row that was not there.
    pub fn insert(&self, new: &[&str]) -> Change {
        Change::Insert { relation: self.relation(), new: row(new) }
    }

    /// A row that changes.
    pub fn update(&self, old: &[&str], new: &[&str]) -> Change {
        Change::Update { relation: self.relation(), old: OldTuple::Full(row(old)), new: row(new) }
    }

    /// A row that goes.
    pub fn delete(&self, old: &[&str]) -> Change {
        Change::Delete { relation: self.relation(), old: OldTuple::Full(row(old)) }
    }
}

fn row(values: &[&str]) -> Tuple {
    Tuple(values.iter().map(|value| Datum::Text((*value).to_owned().into_bytes().into())).collect())
}
