//! The little of a transaction that reading it needs, asked of the index for many at once: a whole row of the index, with
//! names of tables, takes longer than decoding a small transaction, and each column counts.

use ptr_model::Lsn;
use rusqlite::Row;

use super::{FLAG_GAP, IndexReader};

/// Where a transaction is, and what must be known before its changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexedOutline {
    pub(crate) ordinal: u64,
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

/// The entries of a transaction end where those of the next begin, which spares adding them up.
const COLUMNS: &str = "ordinal, commit_lsn, end_lsn, first_entry, ddl, flags, segment, logical";

const ENTRIES: &str =
    "SELECT inserts + updates + deletes + truncates + ddl + messages FROM txn WHERE ordinal = ?";

impl IndexReader<'_> {
    /// Those of an ordinal range, ascending.
    pub(crate) fn outlines(&self, from: u64, to: u64) -> rusqlite::Result<Vec<IndexedOutline>> {
        let sql = format!("SELECT {COLUMNS} FROM txn WHERE ordinal >= ? AND ordinal < ? ORDER BY ordinal");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map([from.cast_signed(), to.cast_signed()], outline_of)?;
        let mut outlines: Vec<IndexedOutline> = found.collect::<Result<_, _>>()?;
        for next in 1..outlines.len() {
            // Nonsense in a damaged index meets what the segment says.
            outlines[next - 1].entries =
                outlines[next].first_entry.wrapping_sub(outlines[next - 1].first_entry);
        }
        if let Some(last) = outlines.last_mut() {
            let mut statement = self.connection.prepare_cached(ENTRIES)?;
            let entries: i64 = statement.query_row([last.ordinal.cast_signed()], |row| row.get(0))?;
            last.entries = entries.cast_unsigned();
        }
        Ok(outlines)
    }
}

/// What one row says; how many entries it has is not known from it.
fn outline_of(row: &Row<'_>) -> rusqlite::Result<IndexedOutline> {
    let unsigned = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(IndexedOutline {
        ordinal: unsigned(0)?,
        commit_lsn: Lsn(unsigned(1)?),
        end_lsn: Lsn(unsigned(2)?),
        first_entry: unsigned(3)?,
        entries: 0,
        changes_schema: unsigned(4)? > 0,
        has_gap: row.get::<_, i64>(5)? & FLAG_GAP != 0,
        segment: unsigned(6)?,
        logical: unsigned(7)?,
    })
}
