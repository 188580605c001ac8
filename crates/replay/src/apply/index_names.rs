//! Names of indexes that a statement makes without naming them.
//!
//! CREATE TABLE ... (LIKE ... INCLUDING INDEXES) copies indexes in the order of their OIDs and gives each the next name
//! that is free. That order is another one on the replica where the primary made an index anew (REINDEX CONCURRENTLY), so
//! that the same statement gives the same names to other indexes.

use std::collections::BTreeMap;

use ptr_model::SchemaChange;

use super::{
    Applier,
    reindex::{Described, described},
};
use crate::{database::Doing, error::ReplayError, stop::Stop};

impl Applier {
    /// Gives the indexes that the statement made the names that they have on the primary.
    pub(super) async fn name_indexes(&self, change: &SchemaChange) -> Result<(), ReplayError> {
        let wanted = described(change);
        if change.tag == "REINDEX" || wanted.len() < 2 {
            return Ok(());
        }
        let names: Vec<&str> = wanted.iter().map(|index| index.index.as_str()).collect();
        let sql = "SELECT name, pg_catalog.pg_get_indexdef(pg_catalog.to_regclass(name)::oid)
                   FROM pg_catalog.unnest($1::text[]) AS name WHERE pg_catalog.to_regclass(name) IS NOT NULL";
        let rows = self.client.query(sql, &[&names]).await.doing("look at new indexes")?;
        let found =
            rows.iter().filter_map(|row| Some((row.get(0), row.get::<_, Option<String>>(1)?))).collect();
        match renames(&wanted, &found) {
            Ok(sql) => {
                self.client
                    .batch_execute(&sql)
                    .await
                    .doing("give indexes the names that they have on the primary")?;
                Ok(())
            }
            Err(index) => {
                let reason = format!("the replica made no index as {index} is on the primary");
                Err(Stop::new(self.position(), reason).at_statement(change.statement.text()).into())
            }
        }
    }
}

/// What renames the replica's indexes, given as definitions by name; an error is a name that none of them has. Where a
/// definition is not among the replica's, which another major version may put into other words, they stay as they are.
fn renames(wanted: &[Described], found: &BTreeMap<String, String>) -> Result<String, String> {
    let mut left: Vec<(&Described, &str)> = Vec::new();
    let mut moved: Vec<&Described> = Vec::new();
    for index in wanted {
        let definition = found.get(&index.index).ok_or_else(|| index.index.clone())?;
        if *definition != index.definition {
            left.push((index, definition));
            moved.push(index);
        }
    }
    let (mut aside, mut back) = (String::new(), String::new());
    for (number, index) in moved.into_iter().enumerate() {
        let is_it = |(other, definition): &(&Described, &str)| {
            shape(definition, &other.name) == shape(&index.definition, &index.name)
        };
        let Some(at) = left.iter().position(is_it) else { return Ok(String::new()) };
        let (other, _) = left.swap_remove(at);
        let schema = index.index.strip_suffix(&index.name).unwrap_or_default();
        let free = format!("postgres_test_replay_{number}");
        aside.push_str(&format!("ALTER INDEX {} RENAME TO {free};\n", other.index));
        back.push_str(&format!("ALTER INDEX {schema}{free} RENAME TO {};\n", index.name));
    }
    Ok(aside + &back)
}

/// A definition without the index's own name.
fn shape(definition: &str, name: &str) -> String {
    definition.replacen(&format!(" INDEX {name} ON "), " INDEX ON ", 1)
}
