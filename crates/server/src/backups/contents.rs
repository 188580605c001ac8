//! What a database holds, as numbers that two databases can be compared by: for each table its rows and a digest
//! that does not depend on their order.

use std::collections::BTreeMap;

use ptr_model::OUR_SCHEMA;
use ptr_postgres::QualifiedName;
use serde::{Deserialize, Serialize};
use tokio_postgres::GenericClient;

/// Each table's contents, by `schema.table`.
pub(super) type Contents = BTreeMap<String, TableContents>;

/// One table's contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableContents {
    pub(super) rows: i64,
    /// The sum of 64 bits of the MD5 of each row as text.
    pub(super) digest: String,
}

/// Ordinary tables of the user's, those of extensions left out: `pg_dump` does not carry their rows.
const TABLES: &str = "
    SELECT n.nspname::text, c.relname::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
      AND n.nspname !~ '^pg_' AND n.nspname <> $1
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1, 2";

/// Reads every table of the database, in the snapshot of the transaction that is open.
pub(super) async fn read(client: &impl GenericClient) -> Result<Contents, tokio_postgres::Error> {
    let mut contents = Contents::new();
    for row in client.query(TABLES, &[&OUR_SCHEMA]).await? {
        let name = QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let sql = format!(
            "SELECT count(*), coalesce(sum(('x' || substr(md5((t.*)::text), 1, 16))::bit(64)::bigint), 0)::text
             FROM ONLY {name} AS t"
        );
        let row = client.query_one(&sql, &[]).await?;
        contents.insert(name.to_string(), TableContents { rows: row.get(0), digest: row.get(1) });
    }
    Ok(contents)
}

/// How the second differs from the first, for people.
pub(super) fn differences(expected: &Contents, found: &Contents) -> Vec<String> {
    let mut differences = Vec::new();
    for (table, then) in expected {
        match found.get(table) {
            None => differences.push(format!("table {table} is missing")),
            Some(now) if now.rows != then.rows => {
                differences
                    .push(format!("table {table} has {} rows where {} were dumped", now.rows, then.rows));
            }
            Some(now) if now.digest != then.digest => {
                differences
                    .push(format!("table {table} has as many rows as were dumped, but other contents"));
            }
            Some(_) => {}
        }
    }
    differences.extend(
        found.keys().filter(|t| !expected.contains_key(*t)).map(|t| format!("table {t} was not dumped")),
    );
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_surplus_and_altered_tables_are_named() {
        let table = |rows, digest: &str| TableContents { rows, digest: digest.to_owned() };
        let expected = Contents::from([
            ("a".into(), table(1, "x")),
            ("b".into(), table(1, "x")),
            ("c".into(), table(1, "x")),
        ]);
        let found = Contents::from([
            ("b".into(), table(2, "x")),
            ("c".into(), table(1, "y")),
            ("d".into(), table(0, "0")),
        ]);
        let differences = differences(&expected, &found).join("; ");
        for part in ["a is missing", "b has 2 rows where 1", "c has as many rows", "d was not dumped"] {
            assert!(differences.contains(part), "{differences}");
        }
        assert!(super::differences(&expected, &expected).is_empty());
    }
}
