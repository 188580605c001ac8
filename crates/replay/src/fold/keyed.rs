//! The fold of a table whose rows are told apart by a key.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use foldhash::fast::RandomState;
use ptr_model::{Datum, OldTuple, Relation, Tuple};

use super::{
    FoldError, LoneUpdate, NetRow, OldRow, Pushed, RowChange, RowsEffect, Share, fill, has_holes, table_name,
    weight,
};

#[derive(Debug)]
pub(super) struct Keyed {
    key: Vec<usize>,
    others_unique: bool,
    slots: Vec<Slot>,
    by_key: HashMap<Bytes, usize, RandomState>,
    bytes: usize,
    share: Share,
    /// Whether an old row has to be the one that is known.
    compares: bool,
}

/// What is known of the row of one key.
#[derive(Debug)]
struct Slot {
    /// Before the range; `None` where there was no row.
    before: Option<OldRow>,
    /// After the changes so far; `None` where there is no row.
    after: Option<Tuple>,
}

impl Keyed {
    pub(super) fn new(key: Vec<usize>, others_unique: bool, share: Share, compares: bool) -> Self {
        Self { key, others_unique, slots: Vec::new(), by_key: HashMap::default(), bytes: 0, share, compares }
    }

    /// Adds a change; `by_key` says that its old row counts as known by its key only.
    pub(super) fn push(
        &mut self,
        relation: &Relation,
        change: RowChange,
        by_key: bool,
    ) -> Result<Pushed, FoldError> {
        match change {
            RowChange::Insert(new) => self.insert(relation, new)?,
            RowChange::Delete(old) => {
                let key = old_image(relation, &old, None)?;
                self.delete(relation, old_row(old, key, by_key))?;
            }
            RowChange::Update(old, new) => return self.update(relation, old, new, by_key),
        }
        Ok(Pushed::Folded)
    }

    /// Bytes and rows.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bytes, self.slots.len())
    }

    /// A row that is first met now.
    fn add(&mut self, key: Bytes, before: Option<OldRow>, after: Option<Tuple>) {
        self.bytes += before.as_ref().map_or(0, |old| weight(old.tuple()));
        self.bytes += after.as_ref().map_or(0, weight);
        self.by_key.insert(key, self.slots.len());
        self.slots.push(Slot { before, after });
    }

    /// A row that is known becomes this; returns what it was.
    fn replace(&mut self, index: usize, after: Option<Tuple>) -> Option<Tuple> {
        self.bytes += after.as_ref().map_or(0, weight);
        let was = std::mem::replace(&mut self.slots[index].after, after);
        self.bytes -= was.as_ref().map_or(0, weight);
        was
    }

    fn insert(&mut self, relation: &Relation, new: Tuple) -> Result<(), FoldError> {
        let key = self.key_of(relation, &new)?;
        if !self.share.has(&key) {
            return Ok(());
        }
        match self.by_key.get(&key) {
            Some(&index) if self.slots[index].after.is_some() => {
                Err(FoldError::Exists { table: table_name(relation), key: self.show(&new) })
            }
            Some(&index) => {
                self.replace(index, Some(new));
                Ok(())
            }
            None => {
                self.add(key, None, Some(new));
                Ok(())
            }
        }
    }

    fn delete(&mut self, relation: &Relation, old: OldRow) -> Result<(), FoldError> {
        let key = self.key_of(relation, old.tuple())?;
        if !self.share.has(&key) {
            return Ok(());
        }
        match self.by_key.get(&key) {
            Some(&index) => {
                if let OldRow::Full(image) = &old {
                    self.check_image(relation, index, image)?;
                }
                let gone = self.replace(index, None);
                gone.map(|_| ()).ok_or_else(|| self.missing(relation, old.tuple()))
            }
            None => {
                self.add(key, Some(old), None);
                Ok(())
            }
        }
    }

    fn update(
        &mut self,
        relation: &Relation,
        old: OldTuple,
        mut new: Tuple,
        by_key: bool,
    ) -> Result<Pushed, FoldError> {
        if has_holes(&new) {
            fill(&mut new, |index| match &old {
                OldTuple::Full(tuple) => Some(tuple.0[index].clone()),
                OldTuple::Key(tuple) if relation.columns[index].in_identity => Some(tuple.0[index].clone()),
                OldTuple::Key(_) | OldTuple::Unchanged => None,
            });
        }
        let new_key = self.key_of(relation, &new)?;
        let old_key = match &old {
            OldTuple::Full(image) | OldTuple::Key(image) => self.key_of(relation, image)?,
            // The identity did not change, so the new row holds it.
            OldTuple::Unchanged => new_key.clone(),
        };
        if !self.share.has(&old_key) && !self.share.has(&new_key) {
            return Ok(Pushed::Folded);
        }
        let slot = self.by_key.get(&old_key).copied();
        if has_holes(&new) {
            if let Some(before) = slot.and_then(|index| self.slots[index].after.as_ref()) {
                fill(&mut new, |index| Some(before.0[index].clone()));
            }
            if has_holes(&new) && (old_key != new_key || self.others_unique) {
                // The old row may be in this fold with holes of its own; the caller applies the fold first.
                return Ok(Pushed::Alone(LoneUpdate {
                    relation: relation.clone().into(),
                    key: self.key.clone(),
                    old: old_image(relation, &old, Some(&new))?,
                    new,
                }));
            }
        }
        if old_key != new_key {
            let image = old_image(relation, &old, Some(&new))?;
            self.delete(relation, old_row(old, image, by_key))?;
            return self.insert(relation, new).map(|()| Pushed::Folded);
        }
        match slot {
            Some(index) if self.slots[index].after.is_none() => {
                Err(self.missing(relation, &old_image(relation, &old, Some(&new))?))
            }
            Some(index) => {
                if let OldTuple::Full(image) = &old {
                    self.check_image(relation, index, image)?;
                }
                self.replace(index, Some(new));
                Ok(Pushed::Folded)
            }
            None => {
                let image = old_image(relation, &old, Some(&new))?;
                self.add(old_key, Some(old_row(old, image, by_key)), Some(new));
                Ok(Pushed::Folded)
            }
        }
    }

    /// That a whole old row is the one that is known of its key. A key that the primary did not check any more may have
    /// been another row's meanwhile.
    fn check_image(&self, relation: &Relation, index: usize, image: &Tuple) -> Result<(), FoldError> {
        match &self.slots[index].after {
            Some(known) if self.compares && known != image && !has_holes(known) && !has_holes(image) => {
                Err(FoldError::Other { table: table_name(relation), key: self.show(image) })
            }
            _ => Ok(()),
        }
    }

    /// The key as bytes. One column's text stands for itself and shares its buffer; several are told apart by
    /// their lengths.
    fn key_of(&self, relation: &Relation, tuple: &Tuple) -> Result<Bytes, FoldError> {
        let incomplete = |what| FoldError::Incomplete { table: table_name(relation), what };
        let value = |index: &usize| match &tuple.0[*index] {
            Datum::Text(bytes) => Ok(bytes),
            Datum::Null => Err(incomplete("a value in a key column")),
            Datum::UnchangedToast => Err(incomplete("the value of a TOASTed key column")),
            Datum::Binary(_) => Err(incomplete("text values")),
        };
        if let [only] = self.key.as_slice() {
            return value(only).cloned();
        }
        let mut key = BytesMut::new();
        for index in &self.key {
            let bytes = value(index)?;
            key.put_u64(bytes.len() as u64);
            key.put_slice(bytes);
        }
        Ok(key.freeze())
    }

    fn missing(&self, relation: &Relation, tuple: &Tuple) -> FoldError {
        FoldError::Missing { table: table_name(relation), key: self.show(tuple) }
    }

    fn show(&self, tuple: &Tuple) -> String {
        let values = self.key.iter().map(|index| match &tuple.0[*index] {
            Datum::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        });
        format!("({})", values.collect::<Vec<_>>().join(", "))
    }

    pub(super) fn into_effect(self) -> RowsEffect {
        let rows = self.slots.into_iter().filter_map(|slot| match (slot.before, slot.after) {
            (None, None) => None,
            (None, Some(new)) => Some(NetRow::Insert(new)),
            (Some(old), None) => Some(NetRow::Delete(old)),
            (Some(OldRow::Full(old)), Some(new)) if old == new => None,
            (Some(old), Some(new)) => Some(NetRow::Update { old, new }),
        });
        RowsEffect::Keyed { rows: rows.collect(), key: self.key }
    }
}

/// The image that holds the key before a change.
fn old_image(relation: &Relation, old: &OldTuple, new: Option<&Tuple>) -> Result<Tuple, FoldError> {
    match (old, new) {
        (OldTuple::Full(tuple) | OldTuple::Key(tuple), _) => Ok(tuple.clone()),
        // The identity did not change, so the new row holds it.
        (OldTuple::Unchanged, Some(new)) => Ok(new.clone()),
        (OldTuple::Unchanged, None) => {
            Err(FoldError::Incomplete { table: table_name(relation), what: "the old row of a DELETE" })
        }
    }
}

fn old_row(old: OldTuple, image: Tuple, by_key: bool) -> OldRow {
    match old {
        OldTuple::Full(tuple) if !by_key => OldRow::Full(tuple),
        OldTuple::Full(_) | OldTuple::Key(_) | OldTuple::Unchanged => OldRow::Key(image),
    }
}
