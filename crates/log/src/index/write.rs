//! Writing the index: one SQLite transaction for each flush.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use ptr_model::{Lsn, MarkerToken, OperationCounts, Position, TransactionHeader};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    BEGINNING, BOOT, CHUNK, COVERAGE, FLAG_GAP, FLAG_SCHEMA_EVENT, SCHEMA, TABLES, VERSION,
    names::{TableId, TableNames},
    read::{self, Place},
};
use crate::{Beginning, Coverage, LogError, format::put_varint, identity::LogIdentity};

/// Markers that are kept; older ones have been asked for long ago.
const KEPT_MARKERS: i64 = 10_000;

/// A committed transaction on its way into the index.
#[derive(Debug)]
pub(crate) struct IndexRow {
    pub(crate) header: TransactionHeader,
    pub(crate) ordinal: u64,
    pub(crate) first_entry: u64,
    pub(crate) counts: OperationCounts,
    pub(crate) place: Place,
    /// Entries by table, each table once, in order of first appearance.
    pub(crate) tables: Vec<(TableId, OperationCounts)>,
    pub(crate) has_gap: bool,
    pub(crate) has_schema_event: bool,
}

/// The index, opened by whoever holds the log's lock. It is opened inside a transaction, so that readers see
/// nothing of a recovery until [`Index::commit`].
pub(crate) struct Index {
    connection: Connection,
    path: PathBuf,
    names: TableNames,
    /// The position after the last transaction in it.
    head: Position,
    covered: Lsn,
    beginning: Option<Beginning>,
    /// Whether it was made anew since it was opened, so that it knows of coverage only what the segments show.
    is_anew: bool,
}

impl Index {
    /// Opens the index, making it anew where it is missing, damaged, of another version or of another log.
    pub(crate) fn open(path: &Path, identity: &LogIdentity) -> Result<Self, LogError> {
        match Self::try_open(path, identity) {
            Ok(index) => Ok(index),
            Err(error) if is_damage(&error) => {
                tracing::warn!(path = %path.display(), error = %error, "the index is damaged and is rebuilt");
                remove(path)?;
                Self::try_open(path, identity).map_err(LogError::index(path))
            }
            Err(error) => Err(LogError::index(path)(error)),
        }
    }

    /// Opens the index of a log that another may be writing: one that is there, sound, and of this log.
    pub(crate) fn attach(path: &Path, identity: &LogIdentity) -> Result<Self, LogError> {
        Self::try_open(path, identity).map_err(LogError::index(path))
    }

    fn try_open(path: &Path, identity: &LogIdentity) -> rusqlite::Result<Self> {
        // SQLite would make the file for everybody that the umask allows; an empty file is an empty database.
        let made = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        made.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut index = Self {
            connection,
            path: path.to_owned(),
            names: TableNames::default(),
            head: identity.creation_position(),
            covered: identity.creation,
            beginning: None,
            is_anew: false,
        };
        if index.belongs_to(identity)? {
            index.load(identity)?;
        } else {
            index.make(identity)?;
        }
        Ok(index)
    }

    fn belongs_to(&self, identity: &LogIdentity) -> rusqlite::Result<bool> {
        if self.connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? != VERSION {
            return Ok(false);
        }
        let id: Option<Uuid> =
            read::meta(&self.connection, "log_id")?.and_then(|bytes: Vec<u8>| Uuid::from_slice(&bytes).ok());
        Ok(id == Some(identity.log_id))
    }

    fn load(&mut self, identity: &LogIdentity) -> rusqlite::Result<()> {
        self.names = TableNames::load(&self.connection)?;
        self.beginning = read::beginning(&self.connection)?;
        self.head = read::head(&self.connection, identity)?;
        let covered: Option<i64> = read::meta(&self.connection, "covered_lsn")?;
        self.covered = covered.map_or(identity.creation, |lsn| Lsn(lsn.cast_unsigned())).max(self.head.lsn);
        Ok(())
    }

    fn make(&mut self, identity: &LogIdentity) -> rusqlite::Result<()> {
        for table in TABLES {
            self.connection.execute_batch(&format!("DROP TABLE IF EXISTS {table}"))?;
        }
        self.connection.execute_batch(SCHEMA)?;
        self.connection.pragma_update(None, "user_version", VERSION)?;
        self.set_meta("log_id", &identity.log_id.as_bytes()[..])?;
        // Readers keep names by number; another generation tells them that the numbers may have changed.
        self.set_meta("generation", &Uuid::new_v4().as_bytes()[..])?;
        self.names = TableNames::default();
        self.is_anew = true;
        (self.head, self.covered, self.beginning) = (identity.creation_position(), identity.creation, None);
        Ok(())
    }

    /// Forgets everything but where the log begins, to learn it again from the segments.
    pub(crate) fn clear(&mut self, identity: &LogIdentity) -> Result<(), LogError> {
        let beginning = self.beginning;
        self.make(identity).map_err(LogError::index(&self.path))?;
        beginning.map_or(Ok(()), |beginning| self.begin_at(&beginning, identity, &[]))
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self, identity: &LogIdentity) -> Result<(), LogError> {
        self.make(identity).map_err(LogError::index(&self.path))
    }

    /// Where the log begins, as the index knows it.
    pub(crate) fn beginning(&self) -> Option<Beginning> {
        self.beginning
    }

    /// Forgets what lies before a position. `rows` are the transactions from there to the end of its chunk, of which the
    /// chunk's sums are made again. An index that ends before the position forgets everything; one that begins later stays
    /// as it is, for what it forgot does not come back by itself.
    pub(crate) fn begin_at(
        &mut self,
        beginning: &Beginning,
        identity: &LogIdentity,
        rows: &[IndexRow],
    ) -> Result<(), LogError> {
        if self.beginning.is_some_and(|known| known.position.ordinal > beginning.position.ordinal) {
            return Ok(());
        }
        if self.head.ordinal < beginning.position.ordinal {
            self.make(identity).map_err(LogError::index(&self.path))?;
            self.head = beginning.position;
            self.covered = self.covered.max(beginning.position.lsn);
        }
        self.try_begin_at(beginning, rows).map_err(LogError::index(&self.path))?;
        self.beginning = Some(*beginning);
        Ok(())
    }

    fn try_begin_at(&mut self, beginning: &Beginning, rows: &[IndexRow]) -> rusqlite::Result<()> {
        let first = beginning.position.ordinal;
        // The chunk that it is in the midst of goes too, and comes back with what is left of it.
        let whole = first.div_ceil(CHUNK);
        let cuts = [
            ("DELETE FROM txn WHERE ordinal < ?", first),
            ("DELETE FROM marker WHERE ordinal < ?", first),
            ("DELETE FROM chunk WHERE id < ?", whole),
            // By table, as the key begins: of millions of rows only those that go are looked at.
            ("DELETE FROM chunk_table WHERE table_id IN (SELECT id FROM table_name) AND chunk < ?", whole),
        ];
        for (sql, before) in cuts {
            self.connection.execute(sql, [before.cast_signed()])?;
        }
        self.names.store(&self.connection)?;
        let mut totals = ChunkTotals::default();
        rows.iter().filter(|row| row.ordinal / CHUNK < whole).for_each(|row| totals.add(row));
        totals.store(&self.connection, first / CHUNK)?;
        let text = serde_json::to_string(beginning).expect("a beginning has string keys only");
        self.set_meta(BEGINNING, text)
    }

    /// Makes everything that was changed visible, and says nothing of the segments, which another may be writing.
    pub(crate) fn commit_as_is(self) -> Result<(), LogError> {
        self.connection.execute_batch("COMMIT").map_err(LogError::index(&self.path))
    }

    /// The position after the last transaction that it knows.
    pub(crate) fn head(&self) -> Position {
        self.head
    }

    /// Everything before this LSN is in the log.
    pub(crate) fn covered(&self) -> Lsn {
        self.covered
    }

    /// The number of a table's name.
    pub(crate) fn intern(&mut self, schema: &str, name: &str) -> TableId {
        self.names.intern(schema, name)
    }

    /// Starts a transaction. One is started by [`Index::open`] already.
    pub(crate) fn begin(&mut self) -> Result<(), LogError> {
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(LogError::index(&self.path))
    }

    /// Makes everything that was inserted visible, with the length of the open segment, by which a later
    /// opening of the log sees that nothing was appended since.
    pub(crate) fn commit(&mut self, segment: u64, file_end: u64) -> Result<(), LogError> {
        self.try_commit(segment, file_end).map_err(LogError::index(&self.path))
    }

    fn try_commit(&mut self, segment: u64, file_end: u64) -> rusqlite::Result<()> {
        self.set_meta("segment", segment.cast_signed())?;
        self.set_meta("file_end", file_end.cast_signed())?;
        self.connection.prepare_cached("COMMIT")?.execute([]).map(|_| ())
    }

    /// Raises the covered LSN.
    pub(crate) fn cover(&mut self, lsn: Lsn) -> Result<(), LogError> {
        if lsn > self.covered {
            self.set_meta("covered_lsn", lsn.0.cast_signed()).map_err(LogError::index(&self.path))?;
            self.covered = lsn;
        }
        Ok(())
    }

    /// How far coverage can be relied on, which is kept until [`Index::trust_coverage`]. `cut` is whether bytes of the last
    /// segment were cut, `indexed` whether transactions were missing, `writes` whether a writer begins.
    pub(crate) fn judge_coverage(
        &self,
        cut: bool,
        indexed: bool,
        writes: bool,
    ) -> Result<Coverage, LogError> {
        self.try_judge_coverage(cut, indexed, writes).map_err(LogError::index(&self.path))
    }

    fn try_judge_coverage(&self, cut: bool, indexed: bool, writes: bool) -> rusqlite::Result<Coverage> {
        let known: Option<String> = read::meta(&self.connection, COVERAGE)?;
        let known = known.map_or(Coverage::Known, |word| Coverage::of_word(&word));
        // The system keeps what a process wrote, and not what the machine lost; a copy of the log may be on another one.
        let begun_on: Option<String> = read::meta(&self.connection, BOOT)?;
        let is_ours = |boot: &String| !boot.is_empty() && *boot == this_boot();
        let found = match (self.is_anew, cut) {
            (true, true) => Coverage::Cut,
            (true, false) => Coverage::Forgotten,
            (false, _) if indexed => Coverage::Forgotten,
            (false, _) if !begun_on.as_ref().is_none_or(is_ours) => Coverage::Doubtful,
            (false, _) => Coverage::Known,
        };
        let coverage = known.max(found);
        if coverage != Coverage::Known {
            self.set_meta(COVERAGE, coverage.word())?;
        }
        if writes {
            self.set_meta(BOOT, this_boot())?;
        }
        Ok(coverage)
    }

    /// What is covered from now on follows from what was received.
    pub(crate) fn trust_coverage(&self) -> Result<(), LogError> {
        self.forget_meta(COVERAGE)
    }

    /// Notes that the writer ends in order: whatever happens to the machine later, nothing after this is missed.
    pub(crate) fn end(&self) -> Result<(), LogError> {
        self.forget_meta(BOOT)
    }

    fn forget_meta(&self, key: &str) -> Result<(), LogError> {
        let forgotten = self.connection.execute("DELETE FROM meta WHERE key = ?", [key]);
        forgotten.map(drop).map_err(LogError::index(&self.path))
    }

    /// Adds transactions, which go on where the last ended.
    pub(crate) fn insert(&mut self, rows: &[IndexRow]) -> Result<(), LogError> {
        let Some(last) = rows.last() else { return Ok(()) };
        self.try_insert(rows).map_err(LogError::index(&self.path))?;
        self.head = Position {
            ordinal: last.ordinal + 1,
            lsn: last.header.end_lsn,
            entry_index: last.first_entry + last.counts.total(),
        };
        self.cover(self.head.lsn)
    }

    fn try_insert(&mut self, rows: &[IndexRow]) -> rusqlite::Result<()> {
        self.names.store(&self.connection)?;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO txn VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)",
        )?;
        let mut chunks: HashMap<u64, ChunkTotals> = HashMap::new();
        let mut ids = Vec::new();
        for row in rows {
            ids.clear();
            for (id, _) in &row.tables {
                put_varint(&mut ids, id.0.into());
            }
            insert_row(&mut statement, row, &ids)?;
            chunks.entry(row.ordinal / CHUNK).or_default().add(row);
        }
        for (id, totals) in chunks {
            totals.store(&self.connection, id)?;
        }
        Ok(())
    }

    /// Adds markers that came round.
    pub(crate) fn insert_markers(&mut self, markers: &[(MarkerToken, u64, Lsn)]) -> Result<(), LogError> {
        self.try_insert_markers(markers).map_err(LogError::index(&self.path))
    }

    fn try_insert_markers(&self, markers: &[(MarkerToken, u64, Lsn)]) -> rusqlite::Result<()> {
        for (token, ordinal, lsn) in markers {
            // A marker that is sent again after a reconnection keeps its first position.
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO marker (token, ordinal, lsn) VALUES (?, ?, ?)")?
                .execute(params![token.0.as_bytes(), ordinal.cast_signed(), lsn.0.cast_signed()])?;
        }
        let newest = self.connection.last_insert_rowid();
        self.connection
            .prepare_cached("DELETE FROM marker WHERE id <= ?")?
            .execute([newest - KEPT_MARKERS])?;
        Ok(())
    }

    fn set_meta(&self, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")?;
        statement.execute(params![key, value]).map(|_| ())
    }
}

/// Names the time since this machine was started; empty where that is not told.
fn this_boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn insert_row(
    statement: &mut rusqlite::CachedStatement<'_>,
    row: &IndexRow,
    table_ids: &[u8],
) -> rusqlite::Result<()> {
    let header = &row.header;
    let [inserts, updates, deletes, truncates, ddl, messages] = counts_of(&row.counts);
    let gap = if row.has_gap { FLAG_GAP } else { 0 };
    let flags = gap | if row.has_schema_event { FLAG_SCHEMA_EVENT } else { 0 };
    let numbers = [
        row.ordinal.cast_signed(),
        header.xid.0.into(),
        header.commit_lsn.0.cast_signed(),
        header.end_lsn.0.cast_signed(),
        header.commit_time.0,
        row.first_entry.cast_signed(),
        inserts,
        updates,
        deletes,
        truncates,
        ddl,
        messages,
        row.place.segment.cast_signed(),
        row.place.logical.cast_signed(),
        row.place.bytes.cast_signed(),
    ];
    for (column, number) in numbers.iter().enumerate() {
        statement.raw_bind_parameter(column + 1, number)?;
    }
    statement.raw_bind_parameter(16, (!table_ids.is_empty()).then_some(table_ids))?;
    statement.raw_bind_parameter(17, flags)?;
    statement.raw_bind_parameter(18, header.origin.as_ref().map(|origin| origin.name.as_str()))?;
    statement
        .raw_bind_parameter(19, header.origin.as_ref().map(|origin| origin.commit_lsn.0.cast_signed()))?;
    statement.raw_execute().map(|_| ())
}

/// What is added to a chunk by one flush.
#[derive(Default)]
struct ChunkTotals {
    /// The earliest and the latest commit time.
    times: Option<(i64, i64)>,
    bytes: u64,
    counts: OperationCounts,
    tables: HashMap<TableId, OperationCounts>,
}

impl ChunkTotals {
    fn add(&mut self, row: &IndexRow) {
        let time = row.header.commit_time.0;
        let (earliest, latest) = self.times.unwrap_or((time, time));
        self.times = Some((earliest.min(time), latest.max(time)));
        self.bytes += row.place.bytes;
        add_counts(&mut self.counts, &row.counts);
        for (id, counts) in &row.tables {
            add_counts(self.tables.entry(*id).or_default(), counts);
        }
    }

    fn store(&self, connection: &Connection, id: u64) -> rusqlite::Result<()> {
        let Some((earliest, latest)) = self.times else { return Ok(()) };
        connection
            .prepare_cached(
                "INSERT INTO chunk VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10) ON CONFLICT (id) DO UPDATE SET
                 min_time = min(min_time, excluded.min_time), max_time = max(max_time, excluded.max_time),
                 bytes = bytes + excluded.bytes, inserts = inserts + excluded.inserts,
                 updates = updates + excluded.updates, deletes = deletes + excluded.deletes,
                 truncates = truncates + excluded.truncates, ddl = ddl + excluded.ddl,
                 messages = messages + excluded.messages",
            )?
            .execute(rusqlite::params_from_iter(
                [id.cast_signed(), earliest, latest, self.bytes.cast_signed()]
                    .into_iter()
                    .chain(counts_of(&self.counts)),
            ))?;
        for (table, counts) in &self.tables {
            connection
                .prepare_cached(
                    "INSERT INTO chunk_table VALUES (?1,?2,?3,?4,?5,?6,?7,?8) ON CONFLICT (table_id, chunk) DO UPDATE SET
                     inserts = inserts + excluded.inserts, updates = updates + excluded.updates,
                     deletes = deletes + excluded.deletes, truncates = truncates + excluded.truncates,
                     ddl = ddl + excluded.ddl, messages = messages + excluded.messages",
                )?
                .execute(rusqlite::params_from_iter(
                    [i64::from(table.0), id.cast_signed()].into_iter().chain(counts_of(counts)),
                ))?;
        }
        Ok(())
    }
}

/// Counts in the order of the columns.
fn counts_of(counts: &OperationCounts) -> [i64; 6] {
    let OperationCounts { inserts, updates, deletes, truncates, ddl, messages } = *counts;
    [inserts, updates, deletes, truncates, ddl, messages].map(u64::cast_signed)
}

/// Adds counts to counts.
pub(crate) fn add_counts(to: &mut OperationCounts, more: &OperationCounts) {
    to.inserts += more.inserts;
    to.updates += more.updates;
    to.deletes += more.deletes;
    to.truncates += more.truncates;
    to.ddl += more.ddl;
    to.messages += more.messages;
}

/// Whether an error means that the file is no sound index, so that only making it anew helps.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            // A missing table or column under a version that has it: somebody altered the file.
            matches!(failure.code, DatabaseCorrupt | NotADatabase | rusqlite::ErrorCode::Unknown)
        }
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => true,
        _ => false,
    }
}

fn remove(path: &Path) -> Result<(), LogError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::file("remove", PathBuf::from(name))(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the index says of the open segment's length, `None` where it says nothing or cannot be asked: then the
/// log has to be recovered.
pub(crate) fn recorded_extent(
    path: &Path,
    identity: &LogIdentity,
    beginning: Option<&Beginning>,
) -> Option<(u64, u64)> {
    let connection = read::connect(path).ok()?;
    let ours =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).ok()? == VERSION;
    let id: Vec<u8> = read::meta(&connection, "log_id").ok()??;
    let extent = |key| read::meta::<i64>(&connection, key).ok().flatten().map(i64::cast_unsigned);
    let begins = read::beginning(&connection).ok()?.as_ref() == beginning;
    (ours && begins && id == identity.log_id.as_bytes()).then_some((extent("segment")?, extent("file_end")?))
}
