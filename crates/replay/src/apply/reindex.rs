//! REINDEX, an event from PostgreSQL 17 on: which indexes it was about, and how they are built again. Pure.

use ptr_model::{AffectedObject, SchemaChange};
use ptr_postgres::quote_literal;
use serde::Deserialize;

use super::text;

/// A valid index as a statement left it on the primary (`describe_indexes` in capture's `sql/describe.sql`).
#[derive(Deserialize)]
pub(super) struct Described {
    /// Qualified and quoted.
    pub(super) index: String,
    /// Quoted.
    #[serde(default)]
    pub(super) name: String,
    /// The CREATE INDEX that makes it, every name in it qualified.
    pub(super) definition: String,
    /// Where it is not in the database's own.
    tablespace: Option<String>,
}

/// The indexes that the log describes.
pub(super) fn described(change: &SchemaChange) -> Vec<Described> {
    let all = change.details.get("indexes").cloned();
    all.and_then(|all| serde_json::from_value(all).ok()).unwrap_or_default()
}

/// The indexes of a REINDEX but those of TOAST tables, whose names hold an OID of the primary.
pub(super) fn user_indexes(change: &SchemaChange) -> impl Iterator<Item = &AffectedObject> {
    let is_user_index = |object: &&AffectedObject| {
        // Those of temporary tables are in a schema of the primary's session.
        object.object_type == "index" && !object.identity.starts_with("pg_toast")
    };
    change.objects.iter().filter(is_user_index)
}

/// Index by index, because most forms of REINDEX cannot be in a transaction.
pub(super) fn one_by_one(change: &SchemaChange, statement: &str) -> String {
    let options = text::tablespace_option(statement)
        .map_or_else(String::new, |tablespace| format!("(TABLESPACE {tablespace}) "));
    user_indexes(change).map(|index| format!("REINDEX {options}INDEX {};", index.identity)).collect()
}

/// What makes an index that the replica lacks; `None` where the log does not describe it.
pub(super) fn making(change: &SchemaChange, index: &str) -> Option<String> {
    let found = described(change).into_iter().find(|described| described.index == index)?;
    let tablespace = quote_literal(found.tablespace.as_deref().unwrap_or_default());
    Some(format!("SET LOCAL default_tablespace = {tablespace}; {}", found.definition))
}
