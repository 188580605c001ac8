//! Schema changes, as our event triggers on the primary saw them.
//!
//! All of these travel and are stored as JSON. A field that an older version did not send reads as its
//! default; unknown fields are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One event of our event triggers, at its exact place in its transaction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SchemaChange {
    /// The command tag, such as `CREATE TABLE`.
    pub tag: String,
    /// Whether this counts as an entry: true for statements, false for events that only accompany one
    /// (the start of a bracket, DDL of ours).
    pub is_entry: bool,
    /// Which event trigger event this is: `ddl_command_start`, `ddl_command_end`, `sql_drop`, `table_rewrite`.
    pub event: String,
    /// The statement itself.
    pub statement: Statement,
    /// Under what it ran.
    pub environment: Environment,
    /// What it made or altered (`pg_event_trigger_ddl_commands`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<AffectedObject>,
    /// What it dropped (`pg_event_trigger_dropped_objects`), roots only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<DroppedObject>,
    /// Tables that it rewrote, qualified and quoted, with PostgreSQL's reason bits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrites: Vec<(String, i32)>,
    /// Values of columns added with a default that was evaluated once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_values: Vec<MissingValue>,
    /// Roles of the primary's cluster, sent when they changed since the last event that sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<RoleDefinition>>,
    /// Whatever else the trigger sent, kept for readers that know it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
}

/// The text of a schema change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// The exact statement, alone, as the client or a function sent it.
    Text(String),
    /// The statement could not be singled out; replay stops here and shows both.
    Underivable {
        /// Why.
        reason: String,
        /// The nearest text known, such as the whole string of the client.
        text: String,
    },
}

impl Statement {
    /// The text to show, exact or not: without the passwords in it.
    #[must_use]
    pub fn shown(&self) -> String {
        crate::redacted(self.text())
    }

    /// The text as it was sent, exact or not. It may hold passwords, so it is not for showing.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Underivable { text, .. } => text,
        }
    }
}

/// Under what a statement ran, so that it means the same when it runs again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
    /// `session_user`.
    pub session_user: String,
    /// `current_user`, outside our own function.
    pub current_user: String,
    /// `search_path` as set.
    pub search_path: String,
    /// Settings that change what DDL means, by name.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The server process that ran it: temporary objects live as long as this does.
    #[serde(default)]
    pub backend_pid: i32,
}

/// An object that a statement made or altered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AffectedObject {
    /// `object_type`, such as `table`.
    pub object_type: String,
    /// `schema_name`, where it has one.
    pub schema: Option<String>,
    /// `object_identity`, quoted.
    pub identity: String,
    /// `objid` on the primary.
    #[serde(default)]
    pub oid: u32,
    /// `in_extension`.
    #[serde(default)]
    pub in_extension: bool,
}

/// An object that a statement dropped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DroppedObject {
    /// `object_type`.
    pub object_type: String,
    /// `object_identity`, quoted.
    pub identity: String,
    /// `is_temporary`.
    #[serde(default)]
    pub is_temporary: bool,
}

/// `pg_attribute.attmissingval` of a column: what rows that predate it read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MissingValue {
    /// The table, qualified and quoted.
    pub relation: String,
    /// The column, unquoted.
    pub column: String,
    /// The value as text, canonical settings; `None` is NULL.
    pub value: Option<String>,
}

/// Rows of a table after a rewrite, or a part of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelationRows {
    /// The table, qualified and quoted.
    pub relation: String,
    /// Its columns, unquoted, generated ones left out.
    pub columns: Vec<String>,
    /// Whether this is the first part: what the table held before goes away.
    pub first: bool,
    /// The rows, each value as text under canonical settings.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A role of the primary's cluster; never its password.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoleDefinition {
    /// Its name, unquoted.
    pub name: String,
    /// SUPERUSER.
    #[serde(default)]
    pub superuser: bool,
    /// INHERIT.
    #[serde(default)]
    pub inherit: bool,
    /// CREATEROLE.
    #[serde(default)]
    pub create_role: bool,
    /// CREATEDB.
    #[serde(default)]
    pub create_db: bool,
    /// BYPASSRLS.
    #[serde(default)]
    pub bypass_rls: bool,
    /// Roles that it is a member of.
    #[serde(default)]
    pub member_of: Vec<String>,
}

/// Something that could not be captured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// What happened and why it is missing, for the user.
    pub reason: String,
    /// The statement, as far as it is known.
    #[serde(default)]
    pub statement: Option<String>,
    /// SQLSTATE of the failure, where there was one.
    #[serde(default)]
    pub sqlstate: Option<String>,
    /// The table, qualified and quoted, whose rows are missing from here on and nothing else: the rows of the whole
    /// table, where they follow in the same transaction, mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
}
