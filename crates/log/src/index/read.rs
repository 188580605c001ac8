//! Reading the index, from any process, while its writer writes.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ptr_model::{
    Lsn, MarkerToken, Operation, OperationCounts, Origin, Position, Timestamp, TransactionHeader,
    TransactionSummary, Xid,
};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row,
    config::DbConfig,
    types::{FromSql, Type},
};

use super::{
    BARRIER, BEGINNING, CHUNK, FLAG_GAP, VERSION, add_counts,
    names::{TableId, TableNames, decode_table_ids},
};
use crate::{Beginning, LogError, beginning::start, identity::LogIdentity};

/// Connections that are kept for the next question.
const KEPT_CONNECTIONS: usize = 4;

/// Where a transaction's records are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The first ordinal of its segment.
    pub(crate) segment: u64,
    /// Where its BEGIN is in the segment's concatenated record sections.
    pub(crate) logical: u64,
    /// Bytes of its records.
    pub(crate) bytes: u64,
}

/// A transaction as the index keeps it.
#[derive(Clone, Debug)]
pub(crate) struct IndexedTransaction {
    pub(crate) header: TransactionHeader,
    pub(crate) ordinal: u64,
    pub(crate) first_entry: u64,
    pub(crate) counts: OperationCounts,
    pub(crate) place: Place,
    pub(crate) tables: Vec<TableId>,
    pub(crate) has_gap: bool,
}

impl IndexedTransaction {
    /// The position after it.
    pub(crate) fn after(&self) -> Position {
        Position { ordinal: self.ordinal + 1, lsn: self.header.end_lsn, entry_index: self.end_entry() }
    }

    /// The index of the first entry after it.
    pub(crate) fn end_entry(&self) -> u64 {
        self.first_entry + self.counts.total()
    }
}

const COLUMNS: &str = "ordinal, xid, commit_lsn, end_lsn, commit_time, first_entry, inserts, updates, deletes, \
                       truncates, ddl, messages, segment, logical, bytes, tables, flags, origin_name, origin_lsn";

/// Sums of entries by operation, in the order of [`counts_of`], and of bytes.
const SUMS: &str =
    "sum(inserts), sum(updates), sum(deletes), sum(truncates), sum(ddl), sum(messages), sum(bytes)";

/// How long a reader waits for a lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Connections to one index, and the table names that they have seen.
#[derive(Debug)]
pub(crate) struct IndexReaders {
    path: PathBuf,
    identity: LogIdentity,
    idle: Mutex<Vec<(FileIdentity, Connection)>>,
    names: Mutex<Option<(Vec<u8>, Arc<TableNames>)>>,
    totals: Mutex<Totals>,
}

/// What the whole chunks of an index add up to, so far. They do not change until the oldest are removed, and there may be millions of them by
/// table: each is added once.
#[derive(Clone, Debug, Default)]
struct Totals {
    generation: Vec<u8>,
    /// The log's first transaction: the oldest part may be removed.
    start: u64,
    /// The first chunk that is not in.
    until: u64,
    counts: OperationCounts,
    bytes: u64,
    tables: HashMap<TableId, OperationCounts>,
}

/// What an index adds up to.
pub(crate) struct NamedTotals {
    /// Entries by operation.
    pub(crate) counts: OperationCounts,
    /// Bytes of all records.
    pub(crate) bytes: u64,
    /// Entries of each table, by name.
    pub(crate) tables: Vec<(String, OperationCounts)>,
}

impl Totals {
    fn add(&mut self, index: &IndexReader<'_>, chunks: std::ops::Range<u64>) -> rusqlite::Result<()> {
        let (counts, bytes) = index.chunk_sums(chunks.clone())?;
        add_counts(&mut self.counts, &counts);
        self.bytes += bytes;
        // By table first: the index's key begins with it.
        let sql = "SELECT t.id, sum(inserts), sum(updates), sum(deletes), sum(truncates), sum(ddl), sum(messages)
                   FROM table_name t CROSS JOIN chunk_table c ON c.table_id = t.id AND chunk >= ? AND chunk < ?
                   GROUP BY t.id";
        let mut statement = index.connection.prepare_cached(sql)?;
        let limits = [chunks.start.cast_signed(), chunks.end.cast_signed()];
        let mut rows = statement.query(limits)?;
        while let Some(row) = rows.next()? {
            add_counts(self.tables.entry(TableId(row.get(0)?)).or_default(), &counts_of(row, 1)?);
        }
        self.until = chunks.end;
        Ok(())
    }
}

/// Tells whether a path still names the file that was opened: a rebuilt index may be another.
type FileIdentity = (u64, u64);

impl std::fmt::Debug for TableNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TableNames")
    }
}

pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    // The last one to close a database empties and removes its WAL by name; a reader must never do that, for
    // the name may by then be that of a rebuilt index.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A writer that makes the index does so in one transaction, before which the file is empty or of another version.
/// Waits for it as long as for any lock; where no writer makes it, the question that follows says what is missing.
fn await_tables(connection: &Connection) -> rusqlite::Result<()> {
    let patience = Instant::now() + LOCK_PATIENCE;
    while connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? != VERSION {
        if Instant::now() >= patience {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

impl IndexReaders {
    pub(crate) fn new(path: PathBuf, identity: LogIdentity) -> Self {
        Self { path, identity, idle: Mutex::default(), names: Mutex::default(), totals: Mutex::default() }
    }

    /// Lends a connection to `ask`.
    pub(crate) fn with<T>(
        &self,
        ask: impl FnOnce(&IndexReader<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        let metadata = std::fs::metadata(&self.path).map_err(LogError::file("open", &self.path))?;
        let file = (metadata.dev(), metadata.ino());
        let kept = self.lock_idle().pop().filter(|(opened, _)| *opened == file);
        let connection = match kept {
            Some((_, connection)) => connection,
            None => {
                let connection = connect(&self.path).map_err(LogError::index(&self.path))?;
                await_tables(&connection).map_err(LogError::index(&self.path))?;
                connection
            }
        };
        let reader = IndexReader { connection: &connection, readers: self };
        let answer = ask(&reader).map_err(LogError::index(&self.path))?;
        let mut idle = self.lock_idle();
        if idle.len() < KEPT_CONNECTIONS {
            idle.push((file, connection));
        }
        Ok(answer)
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<(FileIdentity, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Questions to the index.
pub(crate) struct IndexReader<'r> {
    pub(super) connection: &'r Connection,
    readers: &'r IndexReaders,
}

impl IndexReader<'_> {
    pub(crate) fn head(&self) -> rusqlite::Result<Position> {
        head(self.connection, &self.readers.identity)
    }

    pub(crate) fn covered(&self) -> rusqlite::Result<Lsn> {
        let covered: Option<i64> = meta(self.connection, "covered_lsn")?;
        Ok(covered.map_or(self.readers.identity.creation, |lsn| Lsn(lsn.cast_unsigned())))
    }

    /// Where the log begins since its oldest part was removed, if it was.
    pub(crate) fn beginning(&self) -> rusqlite::Result<Option<Beginning>> {
        beginning(self.connection)
    }

    /// The position before the first transaction.
    pub(crate) fn start(&self) -> rusqlite::Result<Position> {
        Ok(start(&self.readers.identity, self.beginning()?.as_ref()))
    }

    /// The position before the transaction of that ordinal; `None` beyond the head, and before the beginning.
    pub(crate) fn position_at(&self, ordinal: u64) -> rusqlite::Result<Option<Position>> {
        let last = ordinal.checked_sub(1).map(|last| self.transaction(last)).transpose()?.flatten();
        if let Some(last) = last {
            return Ok(Some(last.after()));
        }
        Ok(Some(self.start()?).filter(|start| start.ordinal == ordinal))
    }

    pub(crate) fn transaction(&self, ordinal: u64) -> rusqlite::Result<Option<IndexedTransaction>> {
        let sql = format!("SELECT {COLUMNS} FROM txn WHERE ordinal = ?");
        self.connection.prepare_cached(&sql)?.query_row([ordinal.cast_signed()], transaction_of).optional()
    }

    /// The latest transaction with that id.
    pub(crate) fn transaction_of_xid(&self, xid: Xid) -> rusqlite::Result<Option<IndexedTransaction>> {
        let sql = format!("SELECT {COLUMNS} FROM txn WHERE xid = ? ORDER BY ordinal DESC LIMIT 1");
        self.connection.prepare_cached(&sql)?.query_row([xid.0], transaction_of).optional()
    }

    /// Transactions of an ordinal range, ascending.
    pub(crate) fn range(&self, from: u64, to: u64) -> rusqlite::Result<Vec<IndexedTransaction>> {
        let sql = format!("SELECT {COLUMNS} FROM txn WHERE ordinal >= ? AND ordinal < ? ORDER BY ordinal");
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_map([from.cast_signed(), to.cast_signed()], transaction_of)?.collect()
    }

    /// The ordinal of the first transaction that does not satisfy a condition which holds for a first part of the log
    /// and for nothing after it.
    pub(crate) fn partition(
        &self,
        head: u64,
        holds: impl Fn(&IndexedTransaction) -> bool,
    ) -> rusqlite::Result<u64> {
        let (mut low, mut high) = (self.start()?.ordinal, head);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.transaction(middle)? {
                Some(transaction) if holds(&transaction) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The last transaction, in log order, that committed at or before a time.
    pub(crate) fn last_by_time(&self, time: Timestamp) -> rusqlite::Result<Option<u64>> {
        let chunk: Option<i64> = self
            .connection
            .prepare_cached("SELECT id FROM chunk WHERE min_time <= ? ORDER BY id DESC LIMIT 1")?
            .query_row([time.0], |row| row.get(0))
            .optional()?;
        let Some(chunk) = chunk else { return Ok(None) };
        self.last_by_time_in(chunk.cast_unsigned(), time)
    }

    /// The same, looked for in one chunk.
    pub(crate) fn last_by_time_in(&self, chunk: u64, time: Timestamp) -> rusqlite::Result<Option<u64>> {
        let first = chunk * CHUNK;
        self.connection
            .prepare_cached(
                "SELECT ordinal FROM txn WHERE ordinal >= ? AND ordinal < ? AND commit_time <= ?
                 ORDER BY ordinal DESC LIMIT 1",
            )?
            .query_row([first.cast_signed(), (first + CHUNK).cast_signed(), time.0], |row| {
                row.get::<_, i64>(0)
            })
            .optional()
            .map(|ordinal| ordinal.map(i64::cast_unsigned))
    }

    /// The last transaction, in log order, that committed at or before one time or after another.
    pub(crate) fn last_outside(&self, after: Timestamp, upto: Timestamp) -> rusqlite::Result<Option<u64>> {
        let chunk: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM chunk WHERE min_time <= ? OR max_time > ? ORDER BY id DESC LIMIT 1",
            )?
            .query_row([after.0, upto.0], |row| row.get(0))
            .optional()?;
        let Some(chunk) = chunk else { return Ok(None) };
        self.connection
            .prepare_cached(
                "SELECT ordinal FROM txn WHERE ordinal >= ? AND ordinal < ? AND (commit_time <= ? OR commit_time > ?)
                 ORDER BY ordinal DESC LIMIT 1",
            )?
            .query_row(
                [chunk * CHUNK.cast_signed(), (chunk + 1) * CHUNK.cast_signed(), after.0, upto.0],
                |row| row.get::<_, i64>(0),
            )
            .optional()
            .map(|ordinal| ordinal.map(i64::cast_unsigned))
    }

    /// The first transaction, in log order, that committed at or after a time.
    pub(crate) fn first_since(&self, time: Timestamp) -> rusqlite::Result<Option<u64>> {
        let chunk: Option<i64> = self
            .connection
            .prepare_cached("SELECT min(id) FROM chunk WHERE max_time >= ?")?
            .query_row([time.0], |row| row.get(0))?;
        let Some(chunk) = chunk.map(i64::cast_unsigned) else { return Ok(None) };
        let (first, end) = (chunk * CHUNK, (chunk + 1) * CHUNK);
        let found: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT min(ordinal) FROM txn WHERE ordinal >= ? AND ordinal < ? AND commit_time >= ?",
            )?
            .query_row([first.cast_signed(), end.cast_signed(), time.0], |row| row.get(0))?;
        Ok(found.map(i64::cast_unsigned))
    }

    /// The latest commit time, by the primary's clock; `None` in an empty log.
    pub(crate) fn latest_time(&self) -> rusqlite::Result<Option<Timestamp>> {
        let sql = "SELECT max(max_time) FROM chunk";
        let latest: Option<i64> = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(latest.map(Timestamp))
    }

    /// The ordinal of the transaction after which a marker came round.
    pub(crate) fn marker(&self, token: MarkerToken) -> rusqlite::Result<Option<u64>> {
        let mut statement = self.connection.prepare_cached("SELECT ordinal FROM marker WHERE token = ?")?;
        let ordinal =
            statement.query_row([&token.0.as_bytes()[..]], |row| row.get::<_, i64>(0)).optional()?;
        Ok(ordinal.map(i64::cast_unsigned))
    }

    /// Ordinals and commit times of all transactions with DDL, in order, until `visit` has seen enough.
    pub(crate) fn schema_changes(
        &self,
        mut visit: impl FnMut(u64, Timestamp) -> std::ops::ControlFlow<()>,
    ) -> rusqlite::Result<()> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT ordinal, commit_time FROM txn WHERE ddl > 0 ORDER BY ordinal")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if visit(row.get::<_, i64>(0)?.cast_unsigned(), Timestamp(row.get(1)?)).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The next chunk of a range of chunks that may hold what is looked for, in either direction. Without
    /// `tables`, of all tables; without `operations`, of all kinds.
    pub(crate) fn next_chunk(
        &self,
        chunks: std::ops::Range<u64>,
        descending: bool,
        tables: Option<&[TableId]>,
        operations: &[Operation],
    ) -> rusqlite::Result<Option<u64>> {
        let order = if descending { "DESC" } else { "ASC" };
        let limits = [chunks.start.cast_signed(), chunks.end.cast_signed()];
        let kinds = any_of(operations);
        let Some(tables) = tables else {
            let sql =
                format!("SELECT id FROM chunk WHERE id >= ? AND id < ?{kinds} ORDER BY id {order} LIMIT 1");
            return self.ask_chunk(&sql, &limits);
        };
        let sql = format!(
            "SELECT chunk FROM chunk_table WHERE chunk >= ? AND chunk < ? AND table_id = ?{kinds} \
             ORDER BY chunk {order} LIMIT 1"
        );
        let mut nearest: Option<u64> = None;
        for table in tables {
            let found = self.ask_chunk(&sql, &[limits[0], limits[1], table.0.into()])?;
            nearest = match (nearest, found) {
                (Some(a), Some(b)) => Some(if descending { a.max(b) } else { a.min(b) }),
                (a, b) => a.or(b),
            };
        }
        Ok(nearest)
    }

    fn ask_chunk(&self, sql: &str, values: &[i64]) -> rusqlite::Result<Option<u64>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let id =
            statement.query_row(rusqlite::params_from_iter(values), |row| row.get::<_, i64>(0)).optional()?;
        Ok(id.map(i64::cast_unsigned))
    }

    /// Entries by operation of a range of whole chunks, of one table or of all.
    pub(crate) fn chunk_counts(
        &self,
        chunks: std::ops::Range<u64>,
        table: Option<TableId>,
    ) -> rusqlite::Result<OperationCounts> {
        let sums = "SELECT sum(inserts), sum(updates), sum(deletes), sum(truncates), sum(ddl), sum(messages)";
        let limits = [chunks.start.cast_signed(), chunks.end.cast_signed()];
        match table {
            None => {
                let sql = format!("{sums} FROM chunk WHERE id >= ? AND id < ?");
                self.connection.prepare_cached(&sql)?.query_row(limits, |row| counts_of(row, 0))
            }
            Some(table) => {
                let sql = format!("{sums} FROM chunk_table WHERE chunk >= ? AND chunk < ? AND table_id = ?");
                let values = [limits[0], limits[1], table.0.into()];
                self.connection.prepare_cached(&sql)?.query_row(values, |row| counts_of(row, 0))
            }
        }
    }

    /// The earliest commit time of each chunk, and its entries by operation.
    pub(crate) fn chunks(&self) -> rusqlite::Result<Vec<(Timestamp, OperationCounts)>> {
        let sql =
            "SELECT min_time, inserts, updates, deletes, truncates, ddl, messages FROM chunk ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.query_map([], |row| Ok((Timestamp(row.get(0)?), counts_of(row, 1)?)))?.collect()
    }

    /// Entries by operation of the transactions of an ordinal range, read one by one.
    pub(crate) fn transaction_counts(
        &self,
        ordinals: std::ops::Range<u64>,
    ) -> rusqlite::Result<OperationCounts> {
        let sql = "SELECT sum(inserts), sum(updates), sum(deletes), sum(truncates), sum(ddl), sum(messages)
                   FROM txn WHERE ordinal >= ? AND ordinal < ?";
        let limits = [ordinals.start.cast_signed(), ordinals.end.cast_signed()];
        self.connection.prepare_cached(sql)?.query_row(limits, |row| counts_of(row, 0))
    }

    /// Entries by operation and bytes of a range of whole chunks.
    pub(crate) fn chunk_sums(
        &self,
        chunks: std::ops::Range<u64>,
    ) -> rusqlite::Result<(OperationCounts, u64)> {
        let sql = format!("SELECT {SUMS} FROM chunk WHERE id >= ? AND id < ?");
        self.sums(&sql, &chunks)
    }

    /// The same of transactions, read one by one.
    pub(crate) fn transaction_sums(
        &self,
        ordinals: std::ops::Range<u64>,
    ) -> rusqlite::Result<(OperationCounts, u64)> {
        let sql = format!("SELECT {SUMS} FROM txn WHERE ordinal >= ? AND ordinal < ?");
        self.sums(&sql, &ordinals)
    }

    fn sums(&self, sql: &str, range: &std::ops::Range<u64>) -> rusqlite::Result<(OperationCounts, u64)> {
        let limits = [range.start.cast_signed(), range.end.cast_signed()];
        self.connection.prepare_cached(sql)?.query_row(limits, |row| {
            Ok((counts_of(row, 0)?, row.get::<_, Option<i64>>(6)?.unwrap_or(0).cast_unsigned()))
        })
    }

    /// How many transactions of a range change the schema.
    pub(crate) fn schema_changes_in(&self, ordinals: &std::ops::Range<u64>) -> rusqlite::Result<u64> {
        let limits = [ordinals.start.cast_signed(), ordinals.end.cast_signed()];
        self.connection
            .prepare_cached("SELECT count(*) FROM txn WHERE ddl > 0 AND ordinal >= ? AND ordinal < ?")?
            .query_row(limits, |row| unsigned(row, 0))
    }

    /// Ordinals and first entries of all transactions that change the schema.
    pub(crate) fn schema_changing(&self) -> rusqlite::Result<Vec<(u64, u64)>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT ordinal, first_entry FROM txn WHERE ddl > 0 ORDER BY ordinal")?;
        statement.query_map([], |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)))?.collect()
    }

    /// The first transaction of a range that is more than rows of ordinary size.
    pub(crate) fn next_barrier(
        &self,
        ordinals: &std::ops::Range<u64>,
    ) -> rusqlite::Result<Option<IndexedTransaction>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM txn WHERE {BARRIER} AND ordinal >= ? AND ordinal < ? ORDER BY ordinal LIMIT 1"
        );
        let limits = [ordinals.start.cast_signed(), ordinals.end.cast_signed()];
        self.connection.prepare_cached(&sql)?.query_row(limits, transaction_of).optional()
    }

    /// Entries and bytes of the whole log.
    pub(crate) fn totals(&self) -> rusqlite::Result<NamedTotals> {
        let generation: Vec<u8> = meta(self.connection, "generation")?.unwrap_or_default();
        // The chunk that the head is in still grows.
        let whole = self.head()?.ordinal / CHUNK;
        let start = self.start()?.ordinal;
        let mut all = {
            let mut kept = self.readers.totals.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.generation != generation || kept.start != start || kept.until > whole {
                *kept = Totals { generation, start, ..Totals::default() };
            }
            let from = kept.until;
            kept.add(self, from..whole)?;
            kept.clone()
        };
        all.add(self, whole..u64::MAX >> 1)?;
        let names = self.names(all.tables.keys().copied())?;
        let mut tables: Vec<_> =
            all.tables.into_iter().map(|(table, counts)| (names.qualified(table), counts)).collect();
        tables.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(NamedTotals { counts: all.counts, bytes: all.bytes, tables })
    }

    /// SQLite's own check of the file; empty when it is sound.
    pub(crate) fn integrity(&self) -> rusqlite::Result<Vec<String>> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check(10)")?;
        let lines: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// Table names, at least those of the given numbers.
    pub(crate) fn names(
        &self,
        needed: impl IntoIterator<Item = TableId>,
    ) -> rusqlite::Result<Arc<TableNames>> {
        let generation: Vec<u8> = meta(self.connection, "generation")?.unwrap_or_default();
        let mut kept = self.readers.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, names)) = &*kept
            && *of == generation
            && needed.into_iter().all(|id| names.knows(id))
        {
            return Ok(Arc::clone(names));
        }
        let names = Arc::new(TableNames::load(self.connection)?);
        *kept = Some((generation, Arc::clone(&names)));
        Ok(names)
    }

    /// All names, as they are now.
    pub(crate) fn current_names(&self) -> rusqlite::Result<TableNames> {
        TableNames::load(self.connection)
    }

    /// What the world is told of a transaction.
    pub(crate) fn summary(&self, transaction: &IndexedTransaction) -> rusqlite::Result<TransactionSummary> {
        let names = self.names(transaction.tables.iter().copied())?;
        Ok(summarize(transaction, &names))
    }

    /// The same for several.
    pub(crate) fn summaries(
        &self,
        transactions: &[IndexedTransaction],
    ) -> rusqlite::Result<Vec<TransactionSummary>> {
        let names =
            self.names(transactions.iter().flat_map(|transaction| transaction.tables.iter().copied()))?;
        Ok(transactions.iter().map(|transaction| summarize(transaction, &names)).collect())
    }
}

fn summarize(transaction: &IndexedTransaction, names: &TableNames) -> TransactionSummary {
    TransactionSummary {
        header: transaction.header.clone(),
        ordinal: transaction.ordinal,
        first_entry: transaction.first_entry,
        counts: transaction.counts,
        tables: transaction.tables.iter().map(|id| names.qualified(*id)).collect(),
        bytes: transaction.place.bytes,
        has_gap: transaction.has_gap,
    }
}

/// A condition that one of the counts is not zero.
fn any_of(operations: &[Operation]) -> String {
    if operations.is_empty() {
        return String::new();
    }
    let columns: Vec<String> =
        operations.iter().map(|operation| format!("{} > 0", column(*operation))).collect();
    format!(" AND ({})", columns.join(" OR "))
}

fn column(operation: Operation) -> &'static str {
    match operation {
        Operation::Insert => "inserts",
        Operation::Update => "updates",
        Operation::Delete => "deletes",
        Operation::Truncate => "truncates",
        Operation::Ddl => "ddl",
        Operation::Message => "messages",
    }
}

/// The position after the last transaction of the index.
pub(super) fn head(connection: &Connection, identity: &LogIdentity) -> rusqlite::Result<Position> {
    let sql = format!("SELECT {COLUMNS} FROM txn ORDER BY ordinal DESC LIMIT 1");
    let last = connection.prepare_cached(&sql)?.query_row([], transaction_of).optional()?;
    match last {
        Some(last) => Ok(last.after()),
        None => Ok(start(identity, beginning(connection)?.as_ref())),
    }
}

pub(super) fn beginning(connection: &Connection) -> rusqlite::Result<Option<Beginning>> {
    let text: Option<String> = meta(connection, BEGINNING)?;
    let read = text.map(|text| serde_json::from_str(&text)).transpose();
    read.map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

pub(super) fn meta<T: FromSql>(connection: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn counts_of(row: &Row<'_>, first: usize) -> rusqlite::Result<OperationCounts> {
    let count =
        |column| row.get::<_, Option<i64>>(first + column).map(|count| count.unwrap_or(0).cast_unsigned());
    Ok(OperationCounts {
        inserts: count(0)?,
        updates: count(1)?,
        deletes: count(2)?,
        truncates: count(3)?,
        ddl: count(4)?,
        messages: count(5)?,
    })
}

fn transaction_of(row: &Row<'_>) -> rusqlite::Result<IndexedTransaction> {
    let origin_name: Option<String> = row.get(17)?;
    let origin = origin_name
        .map(|name| Ok::<_, rusqlite::Error>(Origin { name, commit_lsn: Lsn(unsigned(row, 18)?) }))
        .transpose()?;
    let header = TransactionHeader {
        xid: Xid(row.get(1)?),
        commit_lsn: Lsn(unsigned(row, 2)?),
        end_lsn: Lsn(unsigned(row, 3)?),
        commit_time: Timestamp(row.get(4)?),
        origin,
    };
    let tables = row.get_ref(15)?.as_blob_or_null()?.map(decode_table_ids).unwrap_or_default();
    Ok(IndexedTransaction {
        header,
        ordinal: unsigned(row, 0)?,
        first_entry: unsigned(row, 5)?,
        counts: counts_of(row, 6)?,
        place: Place { segment: unsigned(row, 12)?, logical: unsigned(row, 13)?, bytes: unsigned(row, 14)? },
        tables,
        has_gap: row.get::<_, i64>(16)? & FLAG_GAP != 0,
    })
}
