//! What the server has announced on this connection: relations by oid, type names by oid.
//!
//! The server announces a relation before its first change, and again after its schema changed
//! (`maybe_send_schema` in pgoutput.c), so the newest announcement is the one that counts.

use std::{collections::HashMap, sync::Arc};

use ptr_model::{Column, Oid, Relation};

use super::{AssembleError, type_names};
use crate::decode::RelationMessage;

/// The announcements so far.
#[derive(Debug, Default)]
pub(super) struct Relations {
    relations: HashMap<Oid, Arc<Relation>>,
    /// What earlier connections knew of relations that this one has not announced.
    earlier: HashMap<Oid, Arc<Relation>>,
    types: HashMap<Oid, String>,
}

impl Relations {
    pub(super) fn get(&self, oid: Oid) -> Result<Arc<Relation>, AssembleError> {
        self.relations.get(&oid).map(Arc::clone).ok_or(AssembleError::UnknownRelation { oid })
    }

    pub(super) fn announce_type(&mut self, oid: Oid, schema: &str, name: &str) {
        self.types.insert(oid, type_names::announced(schema, name));
    }

    /// Keeps the relation; one that is announced again unchanged keeps its memory. Answers with what was known of
    /// it before, where there is something.
    pub(super) fn announce(&mut self, message: RelationMessage) -> Option<(Arc<Relation>, Arc<Relation>)> {
        let relation = self.relation(message);
        let known = self.relations.get(&relation.oid);
        if known.is_some_and(|known| **known == relation) {
            return None;
        }
        let relation = Arc::new(relation);
        let before = self.relations.insert(relation.oid, Arc::clone(&relation));
        before.or_else(|| self.earlier.remove(&relation.oid)).map(|before| (before, relation))
    }

    pub(super) fn recall(&mut self, relations: impl IntoIterator<Item = Arc<Relation>>) {
        self.earlier.extend(relations.into_iter().map(|relation| (relation.oid, relation)));
    }

    pub(super) fn known(&self) -> impl Iterator<Item = Arc<Relation>> + '_ {
        self.earlier.values().chain(self.relations.values()).map(Arc::clone)
    }

    fn relation(&self, message: RelationMessage) -> Relation {
        let columns = message.columns.into_iter().map(|column| Column {
            type_name: self.type_name(column.type_oid),
            name: column.name,
            in_identity: column.in_identity,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
        });
        Relation {
            columns: columns.collect(),
            oid: message.oid,
            schema: if message.schema.is_empty() { "pg_catalog".to_owned() } else { message.schema },
            name: message.name,
            replica_identity: message.replica_identity,
        }
    }

    fn type_name(&self, oid: Oid) -> String {
        self.types.get(&oid).cloned().unwrap_or_else(|| type_names::built_in(oid))
    }
}
