//! The relations that the writer has met, and how often the current transaction touched their tables.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use ptr_model::{Oid, Operation, OperationCounts, Relation};

use super::batch::Mentions;
use crate::{
    format::{RelationId, put_relation},
    index::{Index, TableId},
};

/// Every definition met since the log was opened. A definition keeps its id over segments.
pub(super) struct RelationTable {
    first_id: RelationId,
    known: Vec<KnownRelation>,
    /// The latest definition of each table.
    by_oid: HashMap<Oid, usize, BuildHasherDefault<OidHasher>>,
}

struct KnownRelation {
    relation: Arc<Relation>,
    /// As it stands in a relation section.
    definition: Vec<u8>,
    table: TableId,
}

impl RelationTable {
    /// Ids below `first_id` are in use in the open segment.
    pub(super) fn new(first_id: RelationId) -> Self {
        Self { first_id, known: Vec::new(), by_oid: HashMap::default() }
    }

    /// The place of a definition, which is added where it is new. The same `Arc` as last time is found without
    /// comparing columns.
    pub(super) fn place_of(&mut self, relation: &Arc<Relation>, index: &mut Index) -> usize {
        if let Some(place) = self.by_oid.get(&relation.oid) {
            let known = &mut self.known[*place];
            if Arc::ptr_eq(&known.relation, relation) {
                return *place;
            }
            if known.relation == *relation {
                known.relation = Arc::clone(relation);
                return *place;
            }
        }
        let place = self.known.len();
        let mut definition = Vec::new();
        put_relation(&mut definition, self.id(place), relation);
        let table = index.intern(&relation.schema, &relation.name);
        self.known.push(KnownRelation { relation: Arc::clone(relation), definition, table });
        self.by_oid.insert(relation.oid, place);
        place
    }

    pub(super) fn id(&self, place: usize) -> RelationId {
        let place = u32::try_from(place).expect("fewer than 2^32 definitions are met");
        RelationId(self.first_id.0 + place)
    }

    pub(super) fn table(&self, place: usize) -> TableId {
        self.known[place].table
    }

    /// The definitions that a block needs.
    pub(super) fn definitions<'t>(&'t self, mentions: &'t Mentions) -> impl Iterator<Item = &'t [u8]> {
        mentions.places().iter().map(|place| self.known[*place].definition.as_slice())
    }
}

/// Entries of the current transaction, by table and in all.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) counts: OperationCounts,
    tables: Vec<(TableId, OperationCounts)>,
    /// For each table the transaction that touched it last, and its place in `tables` then.
    places: Vec<(u64, usize)>,
    transaction: u64,
}

impl Tally {
    /// Begins to count the next transaction.
    pub(super) fn clear(&mut self) {
        self.counts = OperationCounts::default();
        self.tables.clear();
        self.transaction += 1;
    }

    pub(super) fn count(&mut self, table: TableId, operation: Option<Operation>) {
        let number = table.0 as usize;
        if number >= self.places.len() {
            self.places.resize(number + 1, (0, 0));
        }
        let (transaction, place) = &mut self.places[number];
        if *transaction != self.transaction {
            (*transaction, *place) = (self.transaction, self.tables.len());
            self.tables.push((table, OperationCounts::default()));
        }
        if let Some(operation) = operation {
            self.tables[*place].1.add(operation);
        }
    }

    /// The tables in order of first appearance. Counting begins anew.
    pub(super) fn take(&mut self) -> Vec<(TableId, OperationCounts)> {
        let tables = self.tables.as_slice().to_vec();
        self.clear();
        tables
    }
}

/// OIDs are small numbers given out in order: multiplying spreads them enough.
#[derive(Default)]
struct OidHasher(u64);

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
