//! Tables and materialised views as capture described them: made here without running their query again. Pure.

use ptr_model::SchemaChange;
use ptr_postgres::{QualifiedName, quote_identifier, quote_literal};
use serde::Deserialize;

use super::text;

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
    /// Those of its TOAST table, without their prefix.
    #[serde(default)]
    toast_options: Option<Vec<String>>,
    #[serde(default)]
    access_method: Option<String>,
    #[serde(default)]
    tablespace: Option<String>,
    #[serde(default)]
    columns: Option<Vec<ColumnAs>>,
    #[serde(default)]
    foreign: Option<Foreign>,
}

/// Where the rows of a foreign table are.
#[derive(Deserialize)]
struct Foreign {
    server: String,
    #[serde(default)]
    options: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ColumnAs {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    #[serde(default)]
    collation: Option<String>,
    /// Of foreign tables only, as are the next two; `name=value`.
    #[serde(default)]
    options: Option<Vec<String>>,
    #[serde(default)]
    default: Option<String>,
    #[serde(default)]
    not_null: Option<bool>,
}

/// What a statement made or filled from a query; nothing where the log does not say.
pub(super) fn captured(change: &SchemaChange) -> Vec<CapturedTable> {
    let described = change.details.get("table_as").cloned();
    described.and_then(|tables| serde_json::from_value(tables).ok()).unwrap_or_default()
}

/// Makes the tables of a statement, empty; their rows are in the log.
pub(super) fn create(tables: &[CapturedTable], change: &SchemaChange) -> String {
    let drops_on_commit = text::drops_on_commit(change.statement.text());
    // A table that was announced before an event told of it. Capture may describe it twice, when its connection breaks
    // before the table has the replica identity by which it is known.
    let is_announced = change.details.get("announced").is_some_and(|value| value == true);
    let condition = if is_announced { "IF NOT EXISTS " } else { "" };
    tables.iter().map(|table| create_table(table, condition, drops_on_commit)).collect()
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

fn create_table(table: &CapturedTable, condition: &str, drops_on_commit: bool) -> String {
    let columns: Vec<String> = table.columns.iter().flatten().map(column).collect();
    let (kind, name) = match table.persistence.as_str() {
        _ if table.foreign.is_some() => ("FOREIGN ", table.qualified().to_string()),
        "t" => ("TEMPORARY ", quote_identifier(&table.name)),
        "u" => ("UNLOGGED ", table.qualified().to_string()),
        _ => ("", table.qualified().to_string()),
    };
    let mut sql = format!("CREATE {kind}TABLE {condition}{name} ({})", columns.join(", "));
    if let Some(foreign) = &table.foreign {
        sql.push_str(&format!(" SERVER {}{}", quote_identifier(&foreign.server), options(&foreign.options)));
    }
    if let Some(method) = &table.access_method {
        sql.push_str(&format!(" USING {}", quote_identifier(method)));
    }
    let of_toast = table.toast_options.iter().flatten().map(|option| format!("toast.{option}"));
    let options: Vec<String> = table.options.iter().flatten().cloned().chain(of_toast).collect();
    if !options.is_empty() {
        sql.push_str(&format!(" WITH ({})", options.join(", ")));
    }
    if table.persistence == "t" && drops_on_commit {
        sql.push_str(" ON COMMIT DROP");
    }
    if let Some(tablespace) = &table.tablespace {
        sql.push_str(&format!(" TABLESPACE {}", quote_identifier(tablespace)));
    }
    sql.push(';');
    sql
}

fn column(column: &ColumnAs) -> String {
    let collation = column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let default = column.default.as_ref().map(|value| format!(" DEFAULT {value}")).unwrap_or_default();
    let not_null = if column.not_null == Some(true) { " NOT NULL" } else { "" };
    let (name, options) = (quote_identifier(&column.name), options(&column.options));
    format!("{name} {}{options}{collation}{default}{not_null}", column.type_name)
}

/// `OPTIONS (..)` of what the catalog holds as `name=value`.
fn options(pairs: &Option<Vec<String>>) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .flatten()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| format!("{} {}", quote_identifier(name), quote_literal(value)))
        .collect();
    if pairs.is_empty() { String::new() } else { format!(" OPTIONS ({})", pairs.join(", ")) }
}
