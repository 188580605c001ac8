//! The little of a transaction that reading it needs, asked of the index for many at once: a whole row of the index, with
//! names of tables, takes longer than decoding a small transaction.

use ptr_model::{Lsn, Xid};
use rusqlite::Row;

use super::{FLAG_GAP, IndexReader};

/// Where a transaction is, and what must be known before its changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexedOutline {
    pub(crate) ordinal: u64,
    pub(crate) xid: Xid,
    pub(crate) commit_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) first_entry: u64,
    pub(crate) entries: u64,
    pub(crate) changes_schema: bool,
    pub(crate) has_gap: bool,
    /// The first ordinal of its segment.
    pub(crate) segment: u64,
    /// Where its BEGIN is in the segment's concatenated record sections.
    pub(crate) logical: u64,
}

const COLUMNS: &str = "ordinal, xid, commit_lsn, end_lsn, first_entry, \
                       inserts + updates + deletes + truncates + ddl + messages, ddl, flags, segment, logical";

impl IndexReader<'_> {
    /// Those of an ordinal range, ascending.
    pub(crate) fn outlines(&self, from: u64, to: u64) -> rusqlite::Result<Vec<IndexedOutline>> {
        let sql = format!("SELECT {COLUMNS} FROM txn WHERE ordinal >= ? AND ordinal < ? ORDER BY ordinal");
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_map([from.cast_signed(), to.cast_signed()], outline_of)?.collect()
    }
}

fn outline_of(row: &Row<'_>) -> rusqlite::Result<IndexedOutline> {
    let unsigned = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(IndexedOutline {
        ordinal: unsigned(0)?,
        xid: Xid(row.get(1)?),
        commit_lsn: Lsn(unsigned(2)?),
        end_lsn: Lsn(unsigned(3)?),
        first_entry: unsigned(4)?,
        entries: unsigned(5)?,
        changes_schema: unsigned(6)? > 0,
        has_gap: row.get::<_, i64>(7)? & FLAG_GAP != 0,
        segment: unsigned(8)?,
        logical: unsigned(9)?,
    })
}
