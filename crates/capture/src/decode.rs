//! Bytes of a `pgoutput` message to a [`PgOutput`].
//!
//! Second step of capture: transport -> **decode** -> assemble. Pure, and total: any bytes at all give a
//! message or a [`DecodeError`], never a panic, and a message with bytes left over is an error too, because
//! then one of us two has misread the other.
//!
//! Facts of the protocol: PostgreSQL manual, "Logical Replication Message Formats" (protocol-logicalrep-
//! message-formats), for protocol version 1: no streamed and no two-phase transactions, so that a whole
//! transaction arrives between its Begin and its Commit.

mod cursor;
mod tuple;

use bytes::Bytes;
use ptr_model::{Lsn, Oid, OldTuple, ReplicaIdentity, Timestamp, TruncateOptions, Tuple, Xid};

use cursor::Cursor;
use tuple::{old_tuple_of_delete, old_tuple_of_update, tuple};

/// One message of `pgoutput`, protocol version 1.
#[derive(Clone, PartialEq, Debug)]
pub enum PgOutput {
    /// `B`: a transaction begins. All of it follows before anything else.
    Begin {
        /// "The final LSN of the transaction": where its commit record begins.
        final_lsn: Lsn,
        /// When it committed.
        commit_time: Timestamp,
        /// Its id.
        xid: Xid,
    },
    /// `C`: the transaction ends.
    Commit {
        /// Where the commit record begins.
        commit_lsn: Lsn,
        /// Just past the commit record.
        end_lsn: Lsn,
        /// When it committed.
        commit_time: Timestamp,
    },
    /// `O`: the transaction was replicated to this server from another.
    Origin {
        /// The commit's LSN on the origin.
        commit_lsn: Lsn,
        /// The origin's name.
        name: String,
    },
    /// `R`: what a table looks like from here on.
    Relation(RelationMessage),
    /// `Y`: the name of a type that is not built in; comes before the relation that uses it.
    Type {
        /// `pg_type.oid`.
        oid: Oid,
        /// Its schema, empty for `pg_catalog`. Of a domain, the schema of its base type.
        schema: String,
        /// Its name. Of a domain, the name of its base type (`logicalrep_write_typ`).
        name: String,
    },
    /// `I`: a row came to be.
    Insert {
        /// Its table.
        relation: Oid,
        /// The row.
        new: Tuple,
    },
    /// `U`: a row changed.
    Update {
        /// Its table.
        relation: Oid,
        /// The row before, as far as it was sent.
        old: OldTuple,
        /// The row after.
        new: Tuple,
    },
    /// `D`: a row went away.
    Delete {
        /// Its table.
        relation: Oid,
        /// The row, as far as it was sent.
        old: OldTuple,
    },
    /// `T`: tables were emptied by one statement.
    Truncate {
        /// The tables.
        relations: Vec<Oid>,
        /// The statement's options.
        options: TruncateOptions,
    },
    /// `M`: a logical message.
    Message {
        /// Whether it belongs to the transaction that is open.
        transactional: bool,
        /// Just past its WAL record (`buf->endptr` in `logicalmsg_decode`).
        lsn: Lsn,
        /// Its prefix.
        prefix: String,
        /// Its bytes, in whatever encoding its sender chose.
        content: Bytes,
    },
}

/// A table as a Relation message announces it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelationMessage {
    /// `pg_class.oid`.
    pub oid: Oid,
    /// Its schema, empty for `pg_catalog`.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.relreplident`.
    pub replica_identity: ReplicaIdentity,
    /// Its published columns.
    pub columns: Vec<RelationColumn>,
}

/// A column in a [`RelationMessage`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub in_identity: bool,
    /// Its name.
    pub name: String,
    /// `pg_type.oid`.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
}

/// Bytes that are no message of protocol version 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before it is complete.
    #[error("a pgoutput message {tag} ends at byte {at}, where {needed} more are due")]
    Truncated {
        /// The message's first byte.
        tag: Tag,
        /// Where it ends.
        at: usize,
        /// How many bytes were due there.
        needed: usize,
    },
    /// The message is complete and goes on.
    #[error("a pgoutput message {tag} has {extra} bytes too many")]
    TrailingBytes {
        /// The message's first byte.
        tag: Tag,
        /// How many.
        extra: usize,
    },
    /// A first byte that protocol version 1 does not know.
    #[error("{tag} begins no pgoutput message of protocol version 1; this server speaks another version")]
    UnknownMessage {
        /// The byte.
        tag: Tag,
    },
    /// A field holds what the protocol does not allow there.
    #[error("a pgoutput message {tag} holds {value} as its {field}")]
    InvalidField {
        /// The message's first byte.
        tag: Tag,
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
    /// A name that is not UTF-8: the database's encoding is SQL_ASCII, and nothing converts its names.
    #[error(
        "the {field} {shown:?} of {subject} is not UTF-8; in a database with encoding SQL_ASCII, rename it to ASCII"
    )]
    InvalidName {
        /// Which name.
        field: &'static str,
        /// The bytes, what is not UTF-8 replaced.
        shown: String,
        /// Whose name: a relation by oid, or a message.
        subject: String,
    },
}

/// The first byte of a message, which says what kind it is. Prints as a character where it is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(pub u8);

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}

/// Decodes one message: the payload of one XLogData message.
///
/// Values of the result share `payload`'s memory.
///
/// # Errors
/// [`DecodeError`] says which message and which byte.
pub fn decode(payload: Bytes) -> Result<PgOutput, DecodeError> {
    let mut cursor = Cursor::new(payload)?;
    let message = match cursor.tag().0 {
        b'B' => begin(&mut cursor)?,
        b'C' => commit(&mut cursor)?,
        b'O' => origin(&mut cursor)?,
        b'R' => PgOutput::Relation(relation(&mut cursor)?),
        b'Y' => type_name(&mut cursor)?,
        b'I' => insert(&mut cursor)?,
        b'U' => update(&mut cursor)?,
        b'D' => delete(&mut cursor)?,
        b'T' => truncate(&mut cursor)?,
        b'M' => message(&mut cursor)?,
        _ => return Err(DecodeError::UnknownMessage { tag: cursor.tag() }),
    };
    cursor.finish()?;
    Ok(message)
}

/// Int64 final LSN, Int64 commit time, Int32 xid.
fn begin(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    Ok(PgOutput::Begin {
        final_lsn: Lsn(cursor.u64()?),
        commit_time: Timestamp::from_postgres(cursor.i64()?),
        xid: Xid(cursor.u32()?),
    })
}

/// Int8 flags (unused, 0), Int64 commit LSN, Int64 end LSN, Int64 commit time.
fn commit(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let flags = cursor.u8()?;
    if flags != 0 {
        return Err(cursor.invalid("flags", flags.into()));
    }
    Ok(PgOutput::Commit {
        commit_lsn: Lsn(cursor.u64()?),
        end_lsn: Lsn(cursor.u64()?),
        commit_time: Timestamp::from_postgres(cursor.i64()?),
    })
}

/// Int64 commit LSN on the origin, String name.
fn origin(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let commit_lsn = Lsn(cursor.u64()?);
    let name = cursor.string("name", || "a replication origin".to_owned())?;
    Ok(PgOutput::Origin { commit_lsn, name })
}

/// Int32 oid, String namespace, String name, Int8 replica identity, Int16 number of columns; then for each
/// Int8 flags (1: part of the key), String name, Int32 type oid, Int32 type modifier.
fn relation(cursor: &mut Cursor) -> Result<RelationMessage, DecodeError> {
    let oid = Oid(cursor.u32()?);
    let subject = || format!("the relation with oid {oid}");
    let schema = cursor.string("schema", subject)?;
    let name = cursor.string("name", subject)?;
    let replica_identity = match cursor.u8()? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        other => return Err(cursor.invalid("replica identity", other.into())),
    };
    let count = cursor.count16("number of columns")?;
    let mut columns = Vec::with_capacity(cursor.at_most(count, 10));
    for _ in 0..count {
        columns.push(RelationColumn {
            in_identity: cursor.u8()? & 1 == 1,
            name: cursor.string("column name", || format!("the relation {schema}.{name} with oid {oid}"))?,
            type_oid: Oid(cursor.u32()?),
            type_modifier: cursor.i32()?,
        });
    }
    Ok(RelationMessage { oid, schema, name, replica_identity, columns })
}

/// Int32 oid, String namespace, String name.
fn type_name(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let oid = Oid(cursor.u32()?);
    let subject = || format!("the type with oid {oid}");
    let schema = cursor.string("schema", subject)?;
    let name = cursor.string("name", subject)?;
    Ok(PgOutput::Type { oid, schema, name })
}

/// Int32 relation, Byte1 `N`, TupleData.
fn insert(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let relation = Oid(cursor.u32()?);
    cursor.expect_byte(b'N', "tuple kind")?;
    Ok(PgOutput::Insert { relation, new: tuple(cursor)? })
}

/// Int32 relation, optionally Byte1 `K` or `O` and TupleData of the old row, Byte1 `N`, TupleData.
fn update(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let relation = Oid(cursor.u32()?);
    let old = old_tuple_of_update(cursor)?;
    Ok(PgOutput::Update { relation, old, new: tuple(cursor)? })
}

/// Int32 relation, Byte1 `K` or `O`, TupleData.
fn delete(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let relation = Oid(cursor.u32()?);
    Ok(PgOutput::Delete { relation, old: old_tuple_of_delete(cursor)? })
}

/// Int32 number of relations, Int8 option bits (1 CASCADE, 2 RESTART IDENTITY), Int32 oid for each.
fn truncate(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let count = cursor.count32("number of relations")?;
    let bits = cursor.u8()?;
    if bits & !3 != 0 {
        return Err(cursor.invalid("option bits", bits.into()));
    }
    let mut relations = Vec::with_capacity(cursor.at_most(count, 4));
    for _ in 0..count {
        relations.push(Oid(cursor.u32()?));
    }
    let options = TruncateOptions { cascade: bits & 1 != 0, restart_identity: bits & 2 != 0 };
    Ok(PgOutput::Truncate { relations, options })
}

/// Int8 flags (1: transactional), Int64 LSN, String prefix, Int32 length, bytes.
fn message(cursor: &mut Cursor) -> Result<PgOutput, DecodeError> {
    let flags = cursor.u8()?;
    if flags > 1 {
        return Err(cursor.invalid("flags", flags.into()));
    }
    let lsn = Lsn(cursor.u64()?);
    let prefix = cursor.string("prefix", || format!("the logical message at {lsn}"))?;
    let length = cursor.count32("content length")?;
    Ok(PgOutput::Message { transactional: flags == 1, lsn, prefix, content: cursor.bytes(length)? })
}

#[cfg(test)]
mod tests;
