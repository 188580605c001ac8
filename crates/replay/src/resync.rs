//! What a table of the primary held at a position, in files: for a session that takes it from there.
//!
//! A folder a table: `contents.json` (what the table is, and the rows' count and hash), `rows.copy` (COPY's text
//! format under canonical settings), `schema.sql` (`pg_dump --schema-only`, made by whoever runs programs). All are
//! 0600 and on disk when [`take`] and [`keep`] return; a decision names the folder only then.

use std::{
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt;
use ptr_log::TableName;
use ptr_model::Oid;
use ptr_postgres::{QualifiedName, quote_identifier};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::{
    catalog::{self, TableFacts, TableKind},
    database::{DatabaseError, Doing},
    snapshot::Exported,
};

const MANIFEST: &str = "contents.json";
/// The rows.
pub(crate) const ROWS: &str = "rows.copy";
/// The statements that make the table.
pub const SCHEMA: &str = "schema.sql";

/// What a table of the primary was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Contents {
    /// Its name.
    pub table: TableName,
    /// Its `pg_class.oid` on the primary.
    pub oid: Oid,
    /// Whether it is a materialised view.
    pub is_view: bool,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Roles that it belongs to, or that may do something with it.
    pub roles: Vec<String>,
    /// How many rows it had.
    pub rows: u64,
    /// Of the file of rows, as hexadecimal digits.
    pub sha256: String,
}

/// A column of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// Its type, with modifier.
    pub type_name: String,
    /// Whether it is computed from others; then it is not among the rows.
    pub generated: bool,
}

/// Why a table's contents could not be taken, kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The primary has no such table.
    #[error("the primary has no table {0}")]
    NoTable(TableName),
    /// It has no rows of its own.
    #[error("{table} is partitioned: its rows are those of its partitions, which are tables of their own")]
    Partitioned {
        /// The table.
        table: TableName,
        /// Those that hold rows.
        partitions: Vec<TableName>,
    },
    /// It is a view, a foreign table, a sequence.
    #[error("{0} is no table that holds rows")]
    NoRows(TableName),
    /// The server refused.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A file could not be written or read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> ContentsError + '_ {
    move |source| ContentsError::File { path: path.to_owned(), source }
}

/// What a table is, for whom it does not matter what it holds.
pub(crate) fn columns_of(facts: &TableFacts) -> Vec<Column> {
    let column = |column: &catalog::ColumnFacts| Column {
        name: column.name.clone(),
        type_name: column.type_name.clone(),
        generated: column.generated,
    };
    facts.columns.iter().map(column).collect()
}

const ROLES: &str = "
    SELECT r.rolname::text FROM pg_catalog.pg_class c
    CROSS JOIN LATERAL (SELECT c.relowner AS oid
                        UNION SELECT a.grantee FROM pg_catalog.aclexplode(c.relacl) a) AS used
    JOIN pg_catalog.pg_roles r ON r.oid = used.oid WHERE c.oid = $1 ORDER BY 1";

const PARTITIONS: &str = "
    SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_partition_tree($1::oid::regclass) p
    JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE p.isleaf AND c.relkind <> 'p' ORDER BY 1, 2";

/// The partitions of a table that hold its rows; `None` where it is not partitioned, or not there.
///
/// # Errors
/// [`DatabaseError`] where the server cannot say.
pub async fn partitions_of(
    client: &tokio_postgres::Client,
    table: &TableName,
) -> Result<Option<Vec<TableName>>, DatabaseError> {
    let name = QualifiedName::new(&table.schema, &table.name);
    let facts = catalog::Catalog::default().table(client, &name).await?;
    let Some(facts) = facts.filter(|facts| facts.kind == TableKind::Partitioned) else { return Ok(None) };
    let rows = client.query(PARTITIONS, &[&facts.oid]).await.doing("look for partitions")?;
    let partition = |row: &tokio_postgres::Row| TableName::new(row.get::<_, &str>(0), row.get::<_, &str>(1));
    Ok(Some(rows.iter().map(partition).collect()))
}

/// Copies what a table holds in a snapshot of the primary into a new folder.
///
/// # Errors
/// [`ContentsError`]; what is in the folder then is worth nothing.
pub async fn take(snapshot: &Exported, table: &TableName, folder: &Path) -> Result<Contents, ContentsError> {
    let client = snapshot.connection();
    if let Some(partitions) = partitions_of(client, table).await? {
        return Err(ContentsError::Partitioned { table: table.clone(), partitions });
    }
    let name = QualifiedName::new(&table.schema, &table.name);
    let facts = catalog::Catalog::default().table(client, &name).await?;
    let facts = facts.ok_or_else(|| ContentsError::NoTable(table.clone()))?;
    let is_view = match facts.kind {
        TableKind::Ordinary => false,
        TableKind::MaterializedView => true,
        TableKind::Partitioned | TableKind::Other => return Err(ContentsError::NoRows(table.clone())),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file(folder))?;
    let columns = columns_of(&facts);
    let roles = client.query(ROLES, &[&facts.oid]).await.doing("look who may use the table")?;
    let (rows, sha256) = copy_out(snapshot, &name, is_view, &columns, &folder.join(ROWS)).await?;
    let contents = Contents {
        table: table.clone(),
        oid: Oid(facts.oid),
        is_view,
        columns,
        roles: roles.iter().map(|row| row.get(0)).collect(),
        rows,
        sha256,
    };
    let path = folder.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&contents).expect("names and numbers are JSON");
    create_private(&path)?;
    std::fs::write(&path, text).map_err(file(&path))?;
    Ok(contents)
}

/// Makes an empty file that nobody else may read.
///
/// # Errors
/// [`ContentsError::File`].
pub fn create_private(path: &Path) -> Result<(), ContentsError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(file(path))
}

/// Waits until a folder, its files and its way up to `root` are on disk.
///
/// # Errors
/// [`ContentsError::File`].
pub fn keep(folder: &Path, root: &Path) -> Result<(), ContentsError> {
    let sync = |path: &Path| std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(file(path));
    for entry in std::fs::read_dir(folder).map_err(file(folder))? {
        sync(&entry.map_err(file(folder))?.path())?;
    }
    folder.ancestors().take_while(|above| above.starts_with(root)).try_for_each(sync)
}

/// What a folder holds.
///
/// # Errors
/// [`ContentsError::File`], also where it is not what [`take`] wrote.
pub(crate) fn read(folder: &Path) -> Result<Contents, ContentsError> {
    let path = folder.join(MANIFEST);
    let text = std::fs::read(&path).map_err(file(&path))?;
    serde_json::from_slice(&text).map_err(|error| file(&path)(error.into()))
}

/// Of the file, and how many rows it has.
async fn copy_out(
    snapshot: &Exported,
    name: &QualifiedName,
    is_view: bool,
    columns: &[Column],
    path: &Path,
) -> Result<(u64, String), ContentsError> {
    let doing = || format!("read the rows of {name} on the primary");
    let client = snapshot.connection();
    // Rather an error than only those rows that a policy shows.
    client.batch_execute("SET LOCAL row_security = off").await.doing_with(doing)?;
    let only = if is_view { "" } else { "ONLY " };
    let count =
        client.query_one(&format!("SELECT count(*) FROM {only}{name}"), &[]).await.doing_with(doing)?;
    create_private(path)?;
    let mut hash = Sha256::new();
    if let Some(names) = stored(columns) {
        // COPY itself takes no materialised view.
        let sql = format!("COPY (SELECT {names} FROM {only}{name}) TO STDOUT");
        let rows = client.copy_out(&sql).await.doing_with(doing)?;
        let mut rows = std::pin::pin!(rows);
        let open = tokio::fs::OpenOptions::new().write(true).open(path).await.map_err(file(path))?;
        let mut writer = tokio::io::BufWriter::with_capacity(PART, open);
        while let Some(part) = rows.try_next().await.doing_with(doing)? {
            hash.update(&part);
            writer.write_all(&part).await.map_err(file(path))?;
        }
        writer.flush().await.map_err(file(path))?;
    }
    Ok((u64::try_from(count.get::<_, i64>(0)).unwrap_or(0), hexadecimal(&hash.finalize())))
}

/// The columns that hold values, for SQL; `None` where none does.
pub(crate) fn stored(columns: &[Column]) -> Option<String> {
    let names: Vec<String> = columns
        .iter()
        .filter(|column| !column.generated)
        .map(|column| quote_identifier(&column.name))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Bytes read and sent at once.
pub(crate) const PART: usize = 256 << 10;

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The statements of a `pg_dump --schema-only`, without what they set for a session of their own (ours has all that)
/// and what only `psql` understands.
pub(crate) fn statements(dump: &str) -> &str {
    let starts = ["--", "SET ", "SELECT pg_catalog.set_config(", "\\restrict "];
    let is_preamble = |line: &str| line.is_empty() || starts.iter().any(|start| line.starts_with(start));
    let mut rest = dump;
    while let Some((line, after)) = rest.split_once('\n').filter(|(line, _)| is_preamble(line)) {
        if line.starts_with("SET default_") {
            break;
        }
        rest = after;
    }
    match rest.rfind("\n\\unrestrict ") {
        Some(end) if !rest[end + 1..].trim_end().contains('\n') => &rest[..end],
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_dump_the_statements_are_left() {
        let dump = "--\n-- PostgreSQL database dump\n--\n\n\\restrict aB3\n\nSET transaction_timeout = 0;\n\
                    SELECT pg_catalog.set_config('search_path', '', false);\nSET default_tablespace = '';\n\n\
                    CREATE TABLE public.t (\n    a text DEFAULT 'x\n\\unrestrict ab\nSET a = 1;\n'\n);\n--\n\n\
                    \\unrestrict aB3\n\n";
        let left = statements(dump);
        assert!(left.starts_with("SET default_tablespace = '';\n\nCREATE TABLE"), "{left}");
        assert!(left.contains("\n\\unrestrict ab\nSET a = 1;") && left.ends_with(");\n--\n"), "{left}");
        assert_eq!(statements("CREATE TABLE public.t ();\n"), "CREATE TABLE public.t ();\n");
    }
}
