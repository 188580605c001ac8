//! Tables as they were announced on the wire.

use serde::{Deserialize, Serialize};

use crate::Oid;

/// Which old tuple the server sends for UPDATE and DELETE: `pg_class.relreplident`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaIdentity {
    /// The primary key, if there is one (`d`).
    Default,
    /// Nothing (`n`).
    Nothing,
    /// The whole row (`f`).
    Full,
    /// A chosen unique index (`i`).
    Index,
}

/// A table as it was at one point of history. A schema change makes another `Relation` of the same `oid`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Relation {
    /// `pg_class.oid` on the primary.
    pub oid: Oid,
    /// Its schema; never empty (the wire's empty name for `pg_catalog` is spelled out).
    pub schema: String,
    /// Its name, unquoted.
    pub name: String,
    /// Which old tuples come with its changes.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the table's order. Generated columns are not among them by default.
    pub columns: Vec<Column>,
}

/// A column of a [`Relation`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// Whether it is part of the replica identity. Under `FULL` every column is.
    pub in_identity: bool,
    /// `pg_type.oid` on the primary.
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`; -1 where the type has none.
    pub type_modifier: i32,
    /// The type's name as `format_type` would say it without modifier: built-in types bare (`integer`),
    /// others qualified and quoted where needed (`public.mood`).
    pub type_name: String,
}
