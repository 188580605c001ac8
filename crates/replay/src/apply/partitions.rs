//! Bounds of partitions. `FOR VALUES FROM (now()) ...` is evaluated when the statement runs, so the bounds that
//! came out on the primary travel with the statement, and a partition that got others here is attached again.

use ptr_model::SchemaChange;
use ptr_postgres::quote_literal;
use serde::Deserialize;

use super::Applier;
use crate::{database::Doing, error::ReplayError};

/// A partition after a statement that made or attached it.
#[derive(Deserialize)]
struct Bound {
    /// Qualified and quoted.
    relation: String,
    /// `pg_get_expr(relpartbound)`, such as `FOR VALUES IN (1)`.
    bound: String,
}

impl Applier {
    pub(super) async fn fix_partition_bounds(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let Some(details) = change.details.get("bounds") else { return Ok(()) };
        let bounds: Vec<Bound> = serde_json::from_value(details.clone())
            .map_err(|error| self.stop(format!("the log's partition bounds cannot be read: {error}")))?;
        for Bound { relation, bound } in bounds {
            let sql = "SELECT pg_get_expr(c.relpartbound, c.oid), i.inhparent::regclass::text
                       FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
                       WHERE c.oid = to_regclass($1) AND c.relispartition";
            let doing = || format!("look at the bounds of partition {relation}");
            let Some(row) = self.client.query_opt(sql, &[&relation]).await.doing_with(doing)? else {
                continue;
            };
            if row.get::<_, String>(0) == bound {
                continue;
            }
            let parent: String = row.get(1);
            let sql = format!(
                "ALTER TABLE {parent} DETACH PARTITION {relation}; \
                 ALTER TABLE {parent} ATTACH PARTITION {relation} {bound}"
            );
            let doing = || format!("give partition {relation} the bounds {}", quote_literal(&bound));
            self.client.batch_execute(&sql).await.doing_with(doing)?;
        }
        Ok(())
    }
}
