//! Which tables a database has in a snapshot, and what must be known to read them.

use std::collections::BTreeMap;

use ptr_model::OUR_SCHEMA;

use super::{VerifyError, plan::TablePlan};
use crate::{
    database::{self, Doing},
    snapshot::Exported,
};

/// Tables by schema and name.
pub(super) type Listed = BTreeMap<(String, String), TableFacts>;

/// What a database says of a table.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TableFacts {
    pub(super) oid: u32,
    /// Where its rows are: another after TRUNCATE or a rewrite.
    pub(super) filenode: u32,
    /// Its length on disk.
    pub(super) pages: u64,
    /// Rows, as the planner guesses.
    pub(super) estimate: u64,
    /// False for a table that our publication leaves out: its rows are not in the log.
    pub(super) captured: bool,
    /// False for a materialised view without contents.
    pub(super) populated: bool,
    /// Its columns with their types' names, in the order of their names.
    pub(super) columns: Vec<(String, String)>,
    /// The columns of the primary key, in its order.
    pub(super) key: Vec<String>,
}

/// Tables with rows of their own (partitions and inheritance children each for itself) and materialised views.
/// What is ours, temporary or unlogged is left out.
fn query() -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text, c.oid, c.relfilenode, c.relispopulated,
                coalesce(pg_relation_size(c.oid) / current_setting('block_size')::bigint, 0),
                greatest(c.reltuples, 0)::bigint,
                coalesce((SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") FROM pg_attribute a
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
                coalesce((SELECT array_agg(t.typname::text ORDER BY a.attname::text COLLATE \"C\") FROM pg_attribute a
                          JOIN pg_type t ON t.oid = a.atttypid
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
                coalesce((SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i
                          CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
                          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                          WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts), '{{}}'),
                c.relkind = 'm' OR NOT EXISTS (SELECT FROM pg_publication p WHERE p.pubname = $1)
                    OR EXISTS (SELECT FROM pg_publication_tables p
                               WHERE p.pubname = $1 AND p.schemaname = n.nspname AND p.tablename = c.relname)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'
           AND n.nspname NOT IN ('pg_catalog', 'information_schema', '{OUR_SCHEMA}')
           AND n.nspname !~ '^pg_(toast|temp)'"
    )
}

/// Lists the tables as the snapshot sees them.
pub(super) async fn list(database: &Exported, publication: &str) -> Result<Listed, VerifyError> {
    let rows = database.connection().query(&query(), &[&publication]).await.doing("list the tables")?;
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let facts = rows.iter().map(|row| {
        let (names, types): (Vec<String>, Vec<String>) = (row.get(7), row.get(8));
        let facts = TableFacts {
            oid: row.get(2),
            filenode: row.get(3),
            populated: row.get(4),
            pages: count(row.get(5)),
            estimate: count(row.get(6)),
            columns: names.into_iter().zip(types).collect(),
            key: row.get(9),
            captured: row.get(10),
        };
        ((row.get(0), row.get(1)), facts)
    });
    Ok(facts.collect())
}

/// Tables whose rows are no longer where the snapshot found them: TRUNCATE and rewrites show through a snapshot.
pub(super) async fn disturbed(database: &Exported, plans: &[TablePlan]) -> Result<Vec<String>, VerifyError> {
    let now = database::open(database.dsn()).await?;
    let rows =
        now.query("SELECT oid, relfilenode FROM pg_class", &[]).await.doing("list the tables again")?;
    now.close().await;
    let files: BTreeMap<u32, u32> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let moved = |plan: &&TablePlan| {
        plan.facts[0].as_ref().is_some_and(|facts| files.get(&facts.oid) != Some(&facts.filenode))
    };
    Ok(plans.iter().filter(moved).map(TablePlan::shown).collect())
}
