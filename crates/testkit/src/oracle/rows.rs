//! Rows and sequences, read by SQL under canonical settings.

use super::{OUR_SCHEMA, SequenceState, TableState};
use futures_util::{TryStreamExt, pin_mut};
use ptr_postgres::{Connection, QualifiedName};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Up to here rows are kept, to show which of them differ.
const SHOWN_ROWS: usize = 2_000;

/// Every table and populated materialised view; a partitioned table's rows are in its partitions.
pub(super) async fn tables(client: &Connection) -> BTreeMap<String, TableState> {
    let condition = "relkind IN ('r', 'm') AND relpersistence = 'p' AND relispopulated";
    let mut tables = BTreeMap::new();
    for name in relations(client, condition).await {
        tables.insert(name.to_string(), table(client, &name).await);
    }
    tables
}

/// Every sequence. Unlike rows they are not read as of the snapshot: sequences do not roll back.
pub(super) async fn sequences(client: &Connection) -> BTreeMap<String, SequenceState> {
    let mut sequences = BTreeMap::new();
    for name in relations(client, "relkind = 'S'").await {
        let sql = format!("SELECT last_value, is_called FROM {name}");
        let row = client.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let state = SequenceState { last_value: row.get(0), is_called: row.get(1) };
        sequences.insert(name.to_string(), state);
    }
    sequences
}

async fn relations(client: &Connection, condition: &str) -> Vec<QualifiedName> {
    let sql = format!(
        "SELECT nspname::text, relname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE {condition} AND nspname NOT IN ('pg_catalog', 'information_schema', '{OUR_SCHEMA}') \
         AND nspname !~ '^pg_(toast|temp)' ORDER BY 1, 2"
    );
    let rows = client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect()
}

/// Sorted here and not by ORDER BY: some types have no order, and the text is what is compared. Columns by name:
/// where a table inherits some, `pg_dump` itself does not keep their order. The schema's entries hold it elsewhere.
async fn table(client: &Connection, name: &QualifiedName) -> TableState {
    let sql = "SELECT coalesce(string_agg(quote_ident(attname), ', ' ORDER BY attname), '') FROM pg_attribute \
               WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
    let row =
        client.query_one(sql, &[&name.to_string()]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let columns: String = row.get(0);
    let sql = format!("COPY (SELECT {columns} FROM ONLY {name}) TO STDOUT");
    let stream = client.copy_out(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    pin_mut!(stream);
    let mut rows: Vec<String> = Vec::new();
    // The server sends each row as a message of its own.
    while let Some(row) = stream.try_next().await.unwrap_or_else(|error| panic!("{sql}: {error:?}")) {
        rows.push(String::from_utf8_lossy(&row).trim_end_matches('\n').to_owned());
    }
    rows.sort_unstable();
    let mut digest = Sha256::new();
    for row in &rows {
        digest.update(row.as_bytes());
        digest.update(b"\n");
    }
    let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    TableState { count: rows.len(), digest, rows: (rows.len() <= SHOWN_ROWS).then_some(rows) }
}
