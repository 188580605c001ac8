//! Tables and materialised views as capture described them: made here without running their query again. Pure.

use ptr_model::SchemaChange;
use ptr_postgres::{QualifiedName, quote_identifier};
use serde::Deserialize;

/// A table or materialised view that a query filled, as captured.
#[derive(Deserialize)]
pub(super) struct CapturedTable {
    /// Its qualified name as the rows that follow name it.
    #[serde(default)]
    pub(super) relation: String,
    /// Whether it holds rows: not a materialised view WITH NO DATA.
    #[serde(default)]
    pub(super) populated: bool,
    schema: String,
    name: String,
    persistence: String,
    #[serde(default)]
    options: Option<Vec<String>>,
    #[serde(default)]
    access_method: Option<String>,
    #[serde(default)]
    tablespace: Option<String>,
    #[serde(default)]
    columns: Option<Vec<ColumnAs>>,
}

#[derive(Deserialize)]
struct ColumnAs {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    #[serde(default)]
    collation: Option<String>,
}

/// What a statement made or filled from a query; nothing where the log does not say.
pub(super) fn captured(change: &SchemaChange) -> Vec<CapturedTable> {
    let described = change.details.get("table_as").cloned();
    described.and_then(|tables| serde_json::from_value(tables).ok()).unwrap_or_default()
}

/// Makes the tables of a CREATE TABLE AS, empty; their rows are in the log.
pub(super) fn create(tables: &[CapturedTable]) -> String {
    tables.iter().map(create_table).collect()
}

/// Empties materialised views that were refreshed; their rows are in the log.
pub(super) fn empty_views(views: &[CapturedTable]) -> String {
    views.iter().map(|view| format!("REFRESH MATERIALIZED VIEW {} WITH NO DATA;", view.qualified())).collect()
}

impl CapturedTable {
    pub(super) fn is(&self, table: &QualifiedName) -> bool {
        *table == self.qualified()
    }

    fn qualified(&self) -> QualifiedName {
        QualifiedName::new(&self.schema, &self.name)
    }
}

fn create_table(table: &CapturedTable) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .flatten()
        .map(|column| {
            let collation =
                column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
            format!("{} {}{collation}", quote_identifier(&column.name), column.type_name)
        })
        .collect();
    let (kind, name) = match table.persistence.as_str() {
        "t" => ("TEMPORARY ", quote_identifier(&table.name)),
        "u" => ("UNLOGGED ", table.qualified().to_string()),
        _ => ("", table.qualified().to_string()),
    };
    let mut sql = format!("CREATE {kind}TABLE {name} ({})", columns.join(", "));
    if let Some(method) = &table.access_method {
        sql.push_str(&format!(" USING {}", quote_identifier(method)));
    }
    if let Some(options) = table.options.as_ref().filter(|options| !options.is_empty()) {
        sql.push_str(&format!(" WITH ({})", options.join(", ")));
    }
    if let Some(tablespace) = &table.tablespace {
        sql.push_str(&format!(" TABLESPACE {}", quote_identifier(tablespace)));
    }
    sql.push(';');
    sql
}
