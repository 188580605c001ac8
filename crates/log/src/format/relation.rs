//! The relation section of a block: definitions of all tables that its records name, so that each block
//! decodes alone.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use ptr_model::{Column, Oid, Relation, ReplicaIdentity};

use super::{
    FormatError, Input,
    input::{put_bytes, put_varint},
};

/// Names a relation's definition inside one segment; never reused there for another definition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct RelationId(pub(crate) u32);

/// Appends one definition: id, length of the rest, the rest.
pub(crate) fn put_relation(buffer: &mut Vec<u8>, id: RelationId, relation: &Relation) {
    let mut body = Vec::new();
    put_varint(&mut body, relation.oid.0.into());
    put_bytes(&mut body, relation.schema.as_bytes());
    put_bytes(&mut body, relation.name.as_bytes());
    body.push(match relation.replica_identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Index => b'i',
    });
    put_varint(&mut body, relation.columns.len() as u64);
    for column in &relation.columns {
        put_bytes(&mut body, column.name.as_bytes());
        body.push(column.in_identity.into());
        put_varint(&mut body, column.type_oid.0.into());
        body.extend_from_slice(&column.type_modifier.to_le_bytes());
        put_bytes(&mut body, column.type_name.as_bytes());
    }
    put_varint(buffer, id.0.into());
    put_bytes(buffer, &body);
}

fn decode_relation(body: &[u8]) -> Result<Relation, FormatError> {
    let what = "a relation";
    let mut input = Input::new(body);
    let oid = Oid(input.varint_u32("object id")?);
    let (schema, name) = (input.string(what)?, input.string(what)?);
    let replica_identity = match input.byte(what)? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        value => return Err(FormatError::Unknown { what: "replica identity", value: value.into() }),
    };
    let count = input.length(what)?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(Column {
            name: input.string(what)?,
            in_identity: input.byte(what)? != 0,
            type_oid: Oid(input.varint_u32("object id")?),
            type_modifier: i32::from_le_bytes(input.array(what)?),
            type_name: input.string(what)?,
        });
    }
    if !input.is_empty() {
        return Err(FormatError::Contradiction("a relation's definition is longer than its fields"));
    }
    Ok(Relation { oid, schema, name, replica_identity, columns })
}

/// The definitions met so far in one segment. The same definition always is the same `Arc`.
#[derive(Default)]
pub(crate) struct RelationMap(HashMap<RelationId, Arc<Relation>>);

impl RelationMap {
    /// Adds the definitions of a block's relation section.
    pub(crate) fn learn(&mut self, section: &[u8]) -> Result<(), FormatError> {
        let mut input = Input::new(section);
        while !input.is_empty() {
            let id = RelationId(input.varint_u32("relation")?);
            let length = input.length("a relation")?;
            let body = input.take(length, "a relation")?;
            if let Entry::Vacant(vacant) = self.0.entry(id) {
                vacant.insert(Arc::new(decode_relation(body)?));
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, id: RelationId) -> Result<&Arc<Relation>, FormatError> {
        self.0.get(&id).ok_or(FormatError::Unknown { what: "relation", value: id.0.into() })
    }

    /// The definitions of a section, each as it stands there, by id.
    pub(crate) fn definitions(section: &[u8]) -> Result<Vec<(RelationId, &[u8])>, FormatError> {
        let mut input = Input::new(section);
        let mut definitions = Vec::new();
        while !input.is_empty() {
            let start = input.at();
            let id = RelationId(input.varint_u32("relation")?);
            let length = input.length("a relation")?;
            input.take(length, "a relation")?;
            definitions.push((id, &section[start..input.at()]));
        }
        Ok(definitions)
    }

    /// The lowest id that is not in use.
    pub(crate) fn next_id(&self) -> RelationId {
        RelationId(self.0.keys().map(|id| id.0 + 1).max().unwrap_or(0))
    }
}
