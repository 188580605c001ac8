//! The format of the messages between our event triggers and us.
//!
//! A logical message, transactional, prefix [`ptr_model::OUR_SCHEMA`], with the content
//!
//! ```text
//! <64 hexadecimal digits>:<json>
//! ```
//!
//! The digits are the signature ([`super::signature`]). The JSON is UTF-8 whatever the database's encoding is
//! (`convert_to(.., 'UTF8')`; `pg_logical_emit_message` takes `bytea`). `"v"` is the version, 1. A field that
//! is missing or `null` reads as empty; unknown fields are kept in the log as details.
//!
//! After each comes an empty one with the same prefix, which carries nothing: pgoutput orders a message by the end of
//! its WAL record and a row by the beginning of its own, so that a row in another subtransaction just behind the
//! message would tie with it. The empty record keeps the message's LSN below that of the row.
//!
//! A schema event:
//!
//! | key | what it is |
//! |---|---|
//! | `event` | `ddl_command_start`, `ddl_command_end`, `sql_drop` or `table_rewrite` |
//! | `tag` | `tg_tag` |
//! | `n` | number of the event in its transaction |
//! | `query` | `current_query()`: the client's whole string, in its first message of the transaction |
//! | `query_of` | in its further ones, instead: the `n` of the message that carries the string |
//! | `continues` | beside `query`: whether an earlier transaction of the same string said something |
//! | `context` | `PG_CONTEXT` under `lc_messages = C`, our own frames included |
//! | `session_user`, `current_user`, `search_path`, `settings`, `pid` | under what it ran |
//! | `superuser` | at the end: `true` where `current_user` is one; a detail |
//! | `statement_time` | `statement_timestamp()`, as seconds since 1970 |
//! | `objects` | `{type, schema, identity, oid, in_extension}` of `pg_event_trigger_ddl_commands()` |
//! | `dropped` | `{type, identity, is_temporary}` of `pg_event_trigger_dropped_objects()`, roots only |
//! | `rewrites` | `[table, reason]` |
//! | `missing` | `{relation, column, value}`: `attmissingval` |
//! | `table_as` | the tables of CREATE TABLE AS and its like: columns, types, collations, persistence, ...; of a materialised view also whether it is `populated` |
//! | `bounds` | `{relation, bound}` of partitions that the statement made or altered, a detail |
//! | `indexes` | `{index, name, definition, tablespace}` of the valid ones that REINDEX rebuilt, or that one CREATE or ALTER TABLE made several of; a detail |
//! | `checks` | `{relation, name, definition}` of the CHECKs of tables that a statement with DETACH locked; a detail |
//! | `owners` | `[type, identity, owner]` of everything that DROP OWNED left in the database, a detail |
//! | `tablespaces` | names, beside the two that every cluster has; a detail, in a transaction's first message |
//! | `functions` | `{name, source}` of the SQL functions that `context` names |
//! | `roles` | the cluster's roles, only when they changed |
//!
//! Rows of a rewritten table or a filled materialised view:
//! `{"v":1,"event":"rows","relation","columns","first","rows":[[..]]}`.
//! Something lost: `{"v":1,"event":"gap","reason","statement","sqlstate","relation"}`; with `relation` only the rows
//! of that table are.

use std::{collections::BTreeMap, sync::Arc};

use ptr_model::{DroppedObject, Gap, MissingValue, RoleDefinition};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The version of the format that is written and read here.
pub const FORMAT_VERSION: u64 = 1;

/// One message, its signature verified.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The schema changed, or is about to.
    Schema(Box<SchemaEvent>),
    /// Rows of a rewritten table.
    Rows(RowsEvent),
    /// Something was lost.
    Gap(Gap),
}

/// Which event trigger event was fired.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Before a command.
    DdlCommandStart,
    /// After a command.
    DdlCommandEnd,
    /// After objects were dropped, just before the end of the command that dropped them.
    SqlDrop,
    /// Before a table is rewritten.
    TableRewrite,
}

impl EventKind {
    /// Its name in PostgreSQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DdlCommandStart => "ddl_command_start",
            Self::DdlCommandEnd => "ddl_command_end",
            Self::SqlDrop => "sql_drop",
            Self::TableRewrite => "table_rewrite",
        }
    }
}

/// A schema event; the module's table says what each field holds.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[allow(missing_docs, reason = "the table at the top of the module is the documentation")]
pub struct SchemaEvent {
    pub event: EventKind,
    pub tag: String,
    #[serde(default, deserialize_with = "or_default")]
    pub n: u64,
    #[serde(default = "empty", deserialize_with = "shared")]
    pub query: Arc<str>,
    #[serde(default)]
    pub query_of: Option<u64>,
    #[serde(default, deserialize_with = "or_default")]
    pub continues: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub context: String,
    #[serde(default, deserialize_with = "or_default")]
    pub session_user: String,
    #[serde(default, deserialize_with = "or_default")]
    pub current_user: String,
    #[serde(default, deserialize_with = "or_default")]
    pub search_path: String,
    #[serde(default, deserialize_with = "or_default")]
    pub statement_time: String,
    #[serde(default, deserialize_with = "or_default")]
    pub pid: i32,
    #[serde(default, deserialize_with = "settings")]
    pub settings: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub objects: Vec<Object>,
    #[serde(default, deserialize_with = "dropped")]
    pub dropped: Vec<DroppedObject>,
    #[serde(default, deserialize_with = "or_default")]
    pub rewrites: Vec<(String, i32)>,
    #[serde(default, deserialize_with = "or_default")]
    pub missing: Vec<MissingValue>,
    #[serde(default)]
    pub table_as: Value,
    #[serde(default, deserialize_with = "or_default")]
    pub functions: Vec<FunctionSource>,
    #[serde(default)]
    pub roles: Option<Vec<RoleDefinition>>,
    #[serde(flatten)]
    pub details: BTreeMap<String, Value>,
}

/// An element of `objects`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Object {
    /// `object_type`.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub object_type: String,
    /// `schema_name`.
    #[serde(default)]
    pub schema: Option<String>,
    /// `object_identity`; empty for GRANT, where PostgreSQL gives none.
    #[serde(default, deserialize_with = "or_default")]
    pub identity: String,
    /// `objid`.
    #[serde(default, deserialize_with = "or_default")]
    pub oid: u32,
    /// `in_extension`.
    #[serde(default, deserialize_with = "or_default")]
    pub in_extension: bool,
}

/// The source of an SQL function.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct FunctionSource {
    /// `proname`.
    pub name: String,
    /// `prosrc`.
    #[serde(default, deserialize_with = "or_default")]
    pub source: String,
}

/// Rows of a rewritten table, or a part of them.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct RowsEvent {
    /// The table, qualified and quoted.
    pub relation: String,
    /// Its columns, unquoted.
    #[serde(default, deserialize_with = "or_default")]
    pub columns: Vec<String>,
    /// Whether this is the first part.
    pub first: bool,
    /// The rows.
    #[serde(default, deserialize_with = "or_default")]
    pub rows: Vec<Vec<Option<String>>>,
}

/// A signed message that is not in the format.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It is no JSON object of the expected shape.
    #[error("not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version of us made it.
    #[error("format version {found}, where {FORMAT_VERSION} is known")]
    Version {
        /// Its `"v"`, as JSON.
        found: String,
    },
}

/// Reads the JSON of a message.
///
/// # Errors
/// [`EventError`] where it has another version or shape.
pub fn parse(json: &[u8]) -> Result<Event, EventError> {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(default)]
        v: Value,
        #[serde(default)]
        event: String,
    }
    let outline: Outline = serde_json::from_slice(json)?;
    if outline.v.as_u64() != Some(FORMAT_VERSION) {
        return Err(EventError::Version { found: outline.v.to_string() });
    }
    match outline.event.as_str() {
        "rows" => Ok(Event::Rows(serde_json::from_slice(json)?)),
        "gap" => Ok(Event::Gap(serde_json::from_slice(json)?)),
        _ => {
            let mut event: SchemaEvent = serde_json::from_slice(json)?;
            event.details.remove("v");
            event.details.retain(|_, value| !value.is_null());
            Ok(Event::Schema(Box::new(event)))
        }
    }
}

/// What can be shown of a message that [`parse`] refused.
#[must_use]
pub fn statement_of_unreadable(json: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(json).ok()?;
    value.get("query").and_then(Value::as_str).map(str::to_owned)
}

/// `null` reads as the default: SQL aggregates of nothing are NULL.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(source: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(source)?.unwrap_or_default())
}

/// A setting that the server does not know is `null`.
fn settings<'de, D: Deserializer<'de>>(source: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all: BTreeMap<String, Option<String>> = or_default(source)?;
    Ok(all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Each event of a script has the whole script.
fn shared<'de, D: Deserializer<'de>>(source: D) -> Result<Arc<str>, D::Error> {
    Ok(Option::<String>::deserialize(source)?.map_or_else(empty, Arc::from))
}

fn empty() -> Arc<str> {
    Arc::from("")
}

/// The model's spelling of the first field is `object_type`, the message's is `type`.
fn dropped<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<DroppedObject>, D::Error> {
    #[derive(Deserialize)]
    struct Dropped {
        #[serde(rename = "type", default, deserialize_with = "or_default")]
        object_type: String,
        #[serde(default, deserialize_with = "or_default")]
        identity: String,
        #[serde(default, deserialize_with = "or_default")]
        is_temporary: bool,
    }
    let dropped: Vec<Dropped> = or_default(source)?;
    let renamed = dropped.into_iter().map(|object| DroppedObject {
        object_type: object.object_type,
        identity: object.identity,
        is_temporary: object.is_temporary,
    });
    Ok(renamed.collect())
}
