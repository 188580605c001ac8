//! Messages and statements that nobody thought of: what comes from a server, and what anybody there may have put into it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{BufMut, Bytes};
use ptr_capture::{
    ddl::{
        event,
        split::{Backslashes, split},
    },
    decode::{PgOutput, decode},
};
use ptr_model::{Datum, OldTuple, ReplicaIdentity, Tuple};
use ptr_testkit::{corpus, fuzz};

/// As PostgreSQL writes it (manual, "Logical Replication Message Formats").
fn encode(message: &PgOutput) -> Vec<u8> {
    let mut bytes = Vec::new();
    match message {
        PgOutput::Begin { final_lsn, commit_time, xid } => {
            bytes.put_u8(b'B');
            bytes.put_u64(final_lsn.0);
            bytes.put_i64(commit_time.to_postgres());
            bytes.put_u32(xid.0);
        }
        PgOutput::Commit { commit_lsn, end_lsn, commit_time } => {
            bytes.put_slice(b"C\0");
            bytes.put_u64(commit_lsn.0);
            bytes.put_u64(end_lsn.0);
            bytes.put_i64(commit_time.to_postgres());
        }
        PgOutput::Origin { commit_lsn, name } => {
            bytes.put_u8(b'O');
            bytes.put_u64(commit_lsn.0);
            string(&mut bytes, name);
        }
        PgOutput::Relation(relation) => {
            bytes.put_u8(b'R');
            bytes.put_u32(relation.oid.0);
            string(&mut bytes, &relation.schema);
            string(&mut bytes, &relation.name);
            bytes.put_u8(match relation.replica_identity {
                ReplicaIdentity::Default => b'd',
                ReplicaIdentity::Nothing => b'n',
                ReplicaIdentity::Full => b'f',
                ReplicaIdentity::Index => b'i',
            });
            bytes.put_u16(u16::try_from(relation.columns.len()).unwrap());
            for column in &relation.columns {
                bytes.put_u8(u8::from(column.in_identity));
                string(&mut bytes, &column.name);
                bytes.put_u32(column.type_oid.0);
                bytes.put_i32(column.type_modifier);
            }
        }
        PgOutput::Type { oid, schema, name } => {
            bytes.put_u8(b'Y');
            bytes.put_u32(oid.0);
            string(&mut bytes, schema);
            string(&mut bytes, name);
        }
        PgOutput::Insert { relation, new } => {
            bytes.put_u8(b'I');
            bytes.put_u32(relation.0);
            tuple(&mut bytes, b'N', new);
        }
        PgOutput::Update { relation, old, new } => {
            bytes.put_u8(b'U');
            bytes.put_u32(relation.0);
            old_tuple(&mut bytes, old);
            tuple(&mut bytes, b'N', new);
        }
        PgOutput::Delete { relation, old } => {
            bytes.put_u8(b'D');
            bytes.put_u32(relation.0);
            old_tuple(&mut bytes, old);
        }
        PgOutput::Truncate { relations, options } => {
            bytes.put_u8(b'T');
            bytes.put_u32(u32::try_from(relations.len()).unwrap());
            bytes.put_u8(u8::from(options.cascade) | u8::from(options.restart_identity) << 1);
            relations.iter().for_each(|oid| bytes.put_u32(oid.0));
        }
        PgOutput::Message { transactional, lsn, prefix, content } => {
            bytes.put_u8(b'M');
            bytes.put_u8(u8::from(*transactional));
            bytes.put_u64(lsn.0);
            string(&mut bytes, prefix);
            bytes.put_u32(u32::try_from(content.len()).unwrap());
            bytes.put_slice(content);
        }
    }
    bytes
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.put_slice(text.as_bytes());
    bytes.put_u8(0);
}

fn old_tuple(bytes: &mut Vec<u8>, old: &OldTuple) {
    match old {
        OldTuple::Full(row) => tuple(bytes, b'O', row),
        OldTuple::Key(row) => tuple(bytes, b'K', row),
        OldTuple::Unchanged => {}
    }
}

fn tuple(bytes: &mut Vec<u8>, kind: u8, row: &Tuple) {
    bytes.put_u8(kind);
    bytes.put_u16(u16::try_from(row.0.len()).unwrap());
    for datum in &row.0 {
        let (kind, value) = match datum {
            Datum::Null => (b'n', None),
            Datum::UnchangedToast => (b'u', None),
            Datum::Text(value) => (b't', Some(value)),
            Datum::Binary(value) => (b'b', Some(value)),
        };
        bytes.put_u8(kind);
        if let Some(value) = value {
            bytes.put_u32(u32::try_from(value.len()).unwrap());
            bytes.put_slice(value);
        }
    }
}

#[test]
fn whatever_decodes_is_what_a_server_would_have_sent() {
    fuzz("pgoutput", &corpus("pgoutput.hex"), |input| {
        let Ok(message) = decode(Bytes::copy_from_slice(input)) else { return false };
        let encoded = encode(&message);
        assert_eq!(encoded.len(), input.len(), "{message:?}");
        // Bits that stand for nothing (flags of a column but the first) are dropped, times before 1970 - 292,471 years are
        // not; all else comes back.
        let again = decode(Bytes::from(encoded)).unwrap_or_else(|error| panic!("{message:?}: {error}"));
        assert_eq!(message, again);
        true
    });
}

#[test]
fn a_schema_event_of_any_form_is_read_or_refused() {
    fuzz("schema events", &corpus("schema-events.jsonl"), |input| {
        let _ = event::statement_of_unreadable(input);
        event::parse(input).is_ok()
    });
}

#[test]
fn statements_of_any_string_are_parts_of_it_in_order() {
    fuzz("strings of statements", &corpus("statements.sql.txt"), |input| {
        let Ok(sql) = std::str::from_utf8(input) else { return false };
        let mut was_split = false;
        for backslashes in [Backslashes::Ordinary, Backslashes::Escape] {
            let Ok(statements) = split(sql, backslashes) else { continue };
            was_split = true;
            let mut end = 0;
            for statement in statements {
                let at = statement.text.as_ptr() as usize - sql.as_ptr() as usize;
                assert!(at >= end && !statement.text.is_empty(), "{:?} of {sql:?}", statement.text);
                end = at + statement.text.len();
            }
            assert!(end <= sql.len());
        }
        was_split
    });
}
