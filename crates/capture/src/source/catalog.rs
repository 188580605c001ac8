//! The user's permanent tables, and what publishing them means for each.

use ptr_postgres::{Connection, QualifiedName, ServerVersion};

use super::{
    Doing, SourceError, SourceOptions,
    identity::{IdentityException, exceptions_sql},
};

/// A permanent table of the user's, partitioned ones and their leaves among them.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    pub(crate) name: QualifiedName,
    /// `pg_class.relreplident`.
    pub(crate) identity: char,
    /// The index of identity `i`.
    pub(crate) index: Option<String>,
    /// Whether the role may alter it.
    pub(crate) is_owned: bool,
    /// Whether it is partitioned, and so holds no rows itself.
    pub(crate) is_partitioned: bool,
    /// Whether it is a leaf or branch of a partitioned table.
    pub(crate) is_partition: bool,
    /// Whether UPDATE and DELETE have a key to be published with, FULL left aside.
    pub(crate) has_key: bool,
    /// Whether a generated column is part of that key, which is not sent before PostgreSQL 18.
    pub(crate) has_generated_key: bool,
    /// Why FULL would make the user's statements fail, if it would.
    pub(crate) exception: Option<IdentityException>,
    /// Bytes on disk, TOAST included.
    pub(crate) bytes: u64,
    /// Rows, as the planner believes.
    pub(crate) rows: u64,
    /// Rows updated and deleted since statistics were reset.
    pub(crate) rewritten_rows: u64,
}

impl Table {
    /// What one row takes on average, TOAST included.
    pub(crate) fn mean_row_bytes(&self) -> u64 {
        self.bytes.checked_div(self.rows).unwrap_or_default()
    }

    /// Whether set-up gives it FULL, or it has that already.
    pub(crate) fn gets_full(&self, options: &SourceOptions) -> bool {
        self.identity == 'f'
            || options.replica_identity
                && self.exception.is_none()
                && self.is_owned
                && !options.exclude_tables.contains(&self.name)
    }

    /// Whether UPDATE and DELETE fail as soon as it is published: no key, and no FULL either, or a FULL of the
    /// user's that no publication can do with.
    pub(crate) fn would_break(&self, options: &SourceOptions) -> bool {
        let is_virtual = matches!(self.exception, Some(IdentityException::VirtualGeneratedColumn { .. }));
        !self.is_partitioned
            && (self.identity == 'f' && is_virtual || !self.has_key && !self.gets_full(options))
    }
}

/// The user's permanent tables, by oid.
pub(crate) async fn tables(
    connection: &Connection,
    version: ServerVersion,
) -> Result<Vec<Table>, SourceError> {
    let query = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident,
                (SELECT x.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                  WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'),
                pg_catalog.pg_has_role(c.relowner, 'USAGE'),
                c.relkind = 'p', c.relispartition,
                EXISTS (SELECT FROM pg_catalog.pg_index i
                         WHERE i.indrelid = c.oid AND i.indimmediate AND i.indisvalid
                           AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)),
                e.reason, e.subject,
                CASE WHEN c.relkind = 'p' THEN 0 ELSE pg_catalog.pg_table_size(c.oid) END,
                coalesce(pg_catalog.pg_stat_get_tuples_updated(c.oid)
                       + pg_catalog.pg_stat_get_tuples_deleted(c.oid), 0),
                greatest(c.reltuples, 0)::int8,
                EXISTS (SELECT FROM pg_catalog.pg_index i
                          JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                         WHERE i.indrelid = c.oid AND a.attgenerated <> ''
                           AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident))
           FROM pg_catalog.pg_class c
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           LEFT JOIN LATERAL (SELECT x.reason, x.subject FROM ({}) x WHERE x.relation = c.oid LIMIT 1) e ON true
          WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND c.oid >= 16384
            AND n.nspname <> '{}' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
          ORDER BY c.oid",
        exceptions_sql(version),
        ptr_model::OUR_SCHEMA,
    );
    let rows =
        connection.query(&query, &[]).await.doing(|| "listing the tables of the primary".to_owned())?;
    Ok(rows
        .iter()
        .map(|row| Table {
            oid: row.get(0),
            name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
            identity: letter(row.get(3)),
            index: row.get(4),
            is_owned: row.get(5),
            is_partitioned: row.get(6),
            is_partition: row.get(7),
            has_key: row.get(8),
            has_generated_key: row.get(14),
            exception: IdentityException::read(row.get(9), row.get(10)),
            bytes: u64::try_from(row.get::<_, i64>(11)).unwrap_or_default(),
            rows: u64::try_from(row.get::<_, i64>(13)).unwrap_or_default(),
            rewritten_rows: u64::try_from(row.get::<_, i64>(12)).unwrap_or_default(),
        })
        .collect())
}

/// PostgreSQL's `"char"`, which the client shows as a number.
pub(super) fn letter(value: i8) -> char {
    char::from(value.cast_unsigned())
}
