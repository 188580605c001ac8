//! The fold against a model that applies each change to a list of rows.

use bytes::Bytes;
use proptest::prelude::*;
use ptr_model::{Column, ReplicaIdentity};

use super::*;

fn relation(columns: usize) -> Arc<Relation> {
    let column = |index: usize| Column {
        name: format!("c{index}"),
        in_identity: index == 0,
        type_oid: Oid(25),
        type_modifier: -1,
        type_name: "text".into(),
    };
    Arc::new(Relation {
        oid: Oid(7),
        schema: "public".into(),
        name: "t".into(),
        replica_identity: ReplicaIdentity::Full,
        columns: (0..columns).map(column).collect(),
    })
}

fn text(value: &str) -> Datum {
    Datum::Text(Bytes::copy_from_slice(value.as_bytes()))
}

fn row(values: &[&str]) -> Tuple {
    Tuple(values.iter().map(|value| text(value)).collect())
}

fn keyed(others_unique: bool) -> RowIdentity {
    RowIdentity::Key { columns: vec![0], others_unique }
}

fn fold_of(identity: RowIdentity, changes: Vec<Change>) -> (Fold, Vec<Result<Pushed, FoldError>>) {
    let mut fold = Fold::default();
    fold.add_table(relation(2), identity);
    let pushed = changes.into_iter().map(|change| fold.push(change)).collect();
    (fold, pushed)
}

fn net(identity: RowIdentity, changes: Vec<Change>) -> Vec<TableEffect> {
    let (mut fold, pushed) = fold_of(identity, changes);
    for one in pushed {
        assert_eq!(one, Ok(Pushed::Folded));
    }
    fold.take()
}

fn insert(values: &[&str]) -> Change {
    Change::Insert { relation: relation(2), new: row(values) }
}

fn update(old: &[&str], new: &[&str]) -> Change {
    Change::Update { relation: relation(2), old: OldTuple::Full(row(old)), new: row(new) }
}

fn delete(values: &[&str]) -> Change {
    Change::Delete { relation: relation(2), old: OldTuple::Full(row(values)) }
}

#[test]
fn a_key_that_does_not_hold_any_more_is_noticed_where_it_is_met_again() {
    let changes = || vec![insert(&["1", "a"]), delete(&["1", "b"])];
    let pushed = |mut fold: Fold| {
        fold.add_table(relation(2), keyed(false));
        changes().into_iter().map(|change| fold.push(change)).collect::<Vec<_>>()
    };
    assert!(pushed(Fold::default()).iter().all(Result::is_ok));
    let mut comparing = Fold::default();
    comparing.compare_images();
    assert!(matches!(pushed(comparing.anew())[..], [Ok(_), Err(FoldError::Other { .. })]));
}

#[test]
fn a_row_that_comes_and_goes_leaves_nothing() {
    assert_eq!(net(keyed(false), vec![insert(&["1", "a"]), delete(&["1", "a"])]), vec![]);
    assert_eq!(net(RowIdentity::WholeRow, vec![insert(&["1", "a"]), delete(&["1", "a"])]), vec![]);
    assert_eq!(
        net(keyed(false), vec![update(&["1", "a"], &["1", "b"]), update(&["1", "b"], &["1", "a"])]),
        vec![]
    );
}

#[test]
fn an_unchanged_toasted_value_comes_from_the_old_row() {
    let change = Change::Update {
        relation: relation(2),
        old: OldTuple::Full(row(&["1", "long"])),
        new: Tuple(vec![text("2"), Datum::UnchangedToast]),
    };
    let RowsEffect::Keyed { rows, .. } = net(keyed(true), vec![change]).remove(0).rows else { panic!() };
    assert_eq!(rows[1], NetRow::Insert(row(&["2", "long"])));
}

#[test]
fn a_partial_row_stays_partial_and_is_filled_by_what_came_before_it() {
    let partial = || Change::Update {
        relation: relation(2),
        old: OldTuple::Unchanged,
        new: Tuple(vec![text("1"), Datum::UnchangedToast]),
    };
    let RowsEffect::Keyed { rows, .. } = net(keyed(false), vec![partial()]).remove(0).rows else { panic!() };
    assert!(matches!(&rows[0], NetRow::Update { old: OldRow::Key(_), new } if has_holes(new)));
    let RowsEffect::Keyed { rows, .. } =
        net(keyed(false), vec![insert(&["1", "a"]), partial()]).remove(0).rows
    else {
        panic!()
    };
    assert_eq!(rows, vec![NetRow::Insert(row(&["1", "a"]))]);
}

#[test]
fn a_partial_row_whose_key_changes_goes_alone() {
    let change = Change::Update {
        relation: relation(2),
        old: OldTuple::Key(Tuple(vec![text("1"), Datum::Null])),
        new: Tuple(vec![text("2"), Datum::UnchangedToast]),
    };
    let (_, pushed) = fold_of(keyed(false), vec![change]);
    assert!(matches!(&pushed[0], Ok(Pushed::Alone(lone)) if lone.old.0[0] == text("1")));
}

#[test]
fn contradictions_are_errors() {
    let last = |changes| fold_of(keyed(false), changes).1.pop().expect("one change at least");
    assert!(matches!(last(vec![insert(&["1", "a"]), insert(&["1", "b"])]), Err(FoldError::Exists { .. })));
    assert!(matches!(last(vec![delete(&["1", "a"]), delete(&["1", "a"])]), Err(FoldError::Missing { .. })));
    assert!(matches!(
        last(vec![delete(&["1", "a"]), update(&["1", "a"], &["1", "b"])]),
        Err(FoldError::Missing { .. })
    ));
    assert!(matches!(last(vec![insert(&["1"])]), Err(FoldError::Shape { .. })));
}

#[test]
fn a_row_known_by_its_key_cannot_be_brought_back() {
    let gone =
        Change::Delete { relation: relation(2), old: OldTuple::Key(Tuple(vec![text("1"), Datum::Null])) };
    assert!(net(keyed(false), vec![gone]).remove(0).reversed().is_err());
}

/// The net effect applied to a list of rows: removals first, as apply does it.
fn apply(rows: &mut Vec<Tuple>, effects: &[TableEffect]) {
    let mut added = Vec::new();
    let mut remove = |gone: &Tuple| {
        let index = rows.iter().position(|row| row == gone).expect("what goes away is there");
        rows.swap_remove(index);
    };
    for effect in effects {
        match &effect.rows {
            RowsEffect::Keyed { rows, .. } => {
                for row in rows {
                    match row {
                        NetRow::Insert(new) => added.push(new.clone()),
                        NetRow::Delete(old) => remove(old.tuple()),
                        NetRow::Update { old, new } => {
                            remove(old.tuple());
                            added.push(new.clone());
                        }
                    }
                }
            }
            RowsEffect::Counted { removed, added: more } => {
                for (row, copies) in removed {
                    (0..*copies).for_each(|_| remove(row));
                }
                for (row, copies) in more {
                    (0..*copies).for_each(|_| added.push(row.clone()));
                }
            }
        }
    }
    rows.append(&mut added);
}

fn sorted(rows: &[Tuple]) -> Vec<String> {
    let mut shown: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    shown.sort();
    shown
}

/// Random steps made into changes that a server could have sent, and the rows before and after them.
fn history(steps: &[(u8, u8, u8, u8)], unique: bool) -> (Vec<Tuple>, Vec<Change>, Vec<Tuple>) {
    let mut rows = vec![row(&["0", "x"]), row(&["1", "x"]), row(&["2", "y"])];
    let start = rows.clone();
    let mut changes = Vec::new();
    for (what, which, key, value) in steps {
        let (key, value) = ((key % 5).to_string(), (value % 3).to_string());
        let new = row(&[key.as_str(), value.as_str()]);
        let taken = |rows: &[Tuple], except: Option<usize>| {
            rows.iter().enumerate().any(|(index, row)| Some(index) != except && row.0[0] == new.0[0])
        };
        let chosen = (!rows.is_empty()).then(|| usize::from(*which) % rows.len().max(1));
        match (what % 3, chosen) {
            (0, _) if !(unique && taken(&rows, None)) => {
                changes.push(Change::Insert { relation: relation(2), new: new.clone() });
                rows.push(new);
            }
            (1, Some(index)) if !(unique && taken(&rows, Some(index))) => {
                let old = OldTuple::Full(rows[index].clone());
                changes.push(Change::Update { relation: relation(2), old, new: new.clone() });
                rows[index] = new;
            }
            (2, Some(index)) => {
                let old = OldTuple::Full(rows.swap_remove(index));
                changes.push(Change::Delete { relation: relation(2), old });
            }
            _ => {}
        }
    }
    (start, changes, rows)
}

proptest! {
    #[test]
    fn the_net_effect_is_the_effect_of_each_change_forwards_and_backwards(
        steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 0..60),
        unique: bool,
        cut in 0..60_usize,
    ) {
        let (start, changes, end) = history(&steps, unique);
        let identity = || if unique { keyed(false) } else { RowIdentity::WholeRow };
        let cut = cut.min(changes.len());
        let windows = [net(identity(), changes[..cut].to_vec()), net(identity(), changes[cut..].to_vec())];
        let mut rows = start.clone();
        for window in &windows {
            apply(&mut rows, window);
        }
        prop_assert_eq!(sorted(&rows), sorted(&end));
        for window in windows.into_iter().rev() {
            let back: Result<Vec<_>, _> = window.into_iter().map(TableEffect::reversed).collect();
            apply(&mut rows, &back.expect("all old rows are full"));
        }
        prop_assert_eq!(sorted(&rows), sorted(&start));
    }

    #[test]
    fn what_comes_later_is_folded_into_what_came_before(
        steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 0..60),
        unique: bool,
        cut in 0..60_usize,
    ) {
        let (_, changes, _) = history(&steps, unique);
        let identity = || if unique { keyed(false) } else { RowIdentity::WholeRow };
        let (earlier, later) = changes.split_at(cut.min(changes.len()));
        let later = net(identity(), later.to_vec()).into_iter().flat_map(TableEffect::into_changes);
        let joined = net(identity(), earlier.iter().cloned().chain(later).collect());
        // Rows that the later changes bring are met in another order.
        let shown = |effects: Vec<TableEffect>| {
            let changes = effects.into_iter().flat_map(TableEffect::into_changes);
            let mut rows: Vec<_> = changes.map(|change| format!("{change:?}")).collect();
            rows.sort();
            rows
        };
        prop_assert_eq!(shown(joined), shown(net(identity(), changes)));
    }

    #[test]
    fn every_row_is_in_one_share(
        steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 0..60),
        unique: bool,
        shares in 1..5_u64,
    ) {
        let (start, changes, end) = history(&steps, unique);
        let identity = || if unique { keyed(false) } else { RowIdentity::WholeRow };
        let mut rows = start;
        for share in Share::all(shares) {
            let mut fold = Fold::of(share);
            fold.add_table(relation(2), identity());
            for change in &changes {
                prop_assert_eq!(fold.push(change.clone()), Ok(Pushed::Folded));
            }
            apply(&mut rows, &fold.take());
        }
        prop_assert_eq!(sorted(&rows), sorted(&end));
    }
}
