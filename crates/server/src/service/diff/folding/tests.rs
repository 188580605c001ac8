use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use ptr_model::{Datum, OldTuple, TruncateOptions, Tuple};
use ptr_testkit::{HandwrittenLog, HandwrittenTable};

use super::*;

/// What a table holds, by key.
type Rows = BTreeMap<u64, u64>;

const KEYS: u64 = 3_000;
/// Changes of one row, ten in each transaction.
const CHANGES: u64 = MANY_ENTRIES + 10_000;
const TOGETHER: u64 = 10;

/// The table with another oid and name, and perhaps other columns.
fn relation(oid: u32, name: &str, columns: &[(&str, bool, u32, &str)]) -> Arc<Relation> {
    let mut relation = Relation::clone(&HandwrittenTable::new(name, columns).relation());
    relation.oid = Oid(oid);
    Arc::new(relation)
}

fn truncate(relation: &Arc<Relation>) -> Change {
    let options = TruncateOptions { cascade: false, restart_identity: false };
    Change::Truncate { relations: vec![Arc::clone(relation)], options }
}

fn row(values: &[&str]) -> Tuple {
    Tuple(values.iter().map(|value| Datum::Text((*value).to_owned().into_bytes().into())).collect())
}

fn insert(relation: &Arc<Relation>, new: &[&str]) -> Change {
    Change::Insert { relation: Arc::clone(relation), new: row(new) }
}

fn update(relation: &Arc<Relation>, old: &[&str], new: &[&str]) -> Change {
    Change::Update { relation: Arc::clone(relation), old: OldTuple::Full(row(old)), new: row(new) }
}

/// What the whole log comes to, forward or backward, where `id` is the key of each table.
fn difference(changes: Vec<Change>, backward: bool, as_statements: bool) -> Result<DiffAnswer, ServiceError> {
    let folder = tempfile::tempdir().unwrap();
    let tables = changes.iter().filter_map(|change| match change {
        Change::Insert { relation, .. } | Change::Update { relation, .. } => Some(name(relation)),
        _ => None,
    });
    let keys: Keys = tables.map(|table| (table, vec!["id".to_owned()])).collect();
    let mut written = HandwrittenLog::begin(folder.path(), Duration::ZERO);
    for change in changes {
        written.transaction([change]);
    }
    written.close();
    let log = Log::open(folder.path()).unwrap();
    let (mut from, mut to) = (log.creation(), log.head().unwrap());
    if backward {
        (from, to) = (to, from);
    }
    net_difference(&log, from, to, &Wanted { table: None, limit: 50, as_statements }, &keys)
}

fn of_table<'a>(answer: &'a DiffAnswer, table: &str) -> &'a crate::resource::diff::TableDiff {
    answer.tables.iter().find(|known| known.table == table).unwrap()
}

/// Writes a log of random changes, keys among them. The table is emptied by each change of `truncates`, another one by
/// each of `beside`. Returns what the table held at first and after each of them, before and after; and at the end.
fn write(directory: &Path, truncates: &[u64], beside: &[u64]) -> Vec<(Rows, Rows)> {
    let cache = relation(2, "cache", &[("id", true, 20, "bigint")]);
    let mut log = HandwrittenLog::begin(directory, Duration::ZERO);
    let table = HandwrittenTable::new("t", &[("id", true, 20, "bigint"), ("v", false, 20, "bigint")]);
    let mut together = Vec::new();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut rows: Rows = Rows::new();
    let (mut before, mut stretches) = (Rows::new(), Vec::new());
    for number in 0..CHANGES {
        let (id, other, v) = (random(KEYS), random(KEYS), random(4));
        let [id_text, v_text] = [id, v].map(|number| number.to_string());
        together.push(match rows.get(&id).copied() {
            _ if truncates.contains(&number) => {
                stretches.push((std::mem::take(&mut before), std::mem::take(&mut rows)));
                truncate(&table.relation())
            }
            None => {
                rows.insert(id, v);
                table.insert(&[&id_text, &v_text])
            }
            Some(was) if random(4) == 0 => {
                rows.remove(&id);
                table.delete(&[&id_text, &was.to_string()])
            }
            Some(was) => {
                let to = if rows.contains_key(&other) { id } else { other };
                rows.remove(&id);
                rows.insert(to, v);
                table.update(&[&id_text, &was.to_string()], &[&to.to_string(), &v_text])
            }
        });
        if beside.contains(&number) {
            together.push(truncate(&cache));
        }
        if number % TOGETHER == TOGETHER - 1 {
            log.transaction(together.drain(..));
        }
    }
    log.close();
    stretches.push((before, rows));
    stretches
}

/// Inserted, updated and deleted.
fn expected(stretches: &[(Rows, Rows)], is_keyed: bool) -> [u64; 3] {
    let mut all = [0; 3];
    for (before, after) in stretches {
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        for key in keys {
            match (before.get(key), after.get(key)) {
                (None, _) => all[0] += 1,
                (_, None) => all[2] += 1,
                (was, is) if was == is => {}
                _ if is_keyed => all[1] += 1,
                _ => [all[0], all[2]] = [all[0] + 1, all[2] + 1],
            }
        }
    }
    all
}

fn counted(difference: &Difference) -> [u64; 3] {
    let table = &difference.tables["public.t"];
    [table.inserted, table.updated, table.deleted]
}

#[test]
fn two_threads_and_shares_come_to_what_the_changes_come_to() {
    let keyed: Keys = [("public.t".to_owned(), vec!["id".to_owned()])].into();
    let everything = [(&keyed, true), (&Keys::new(), false)];
    // None; one in each half; several in the later half, where the first fold of it ends long before its end.
    let quarter = CHANGES / 4;
    // The same of a table beside.
    let (none, one_each) = (vec![], vec![quarter, 3 * quarter]);
    let several = vec![2 * quarter + 1, 3 * quarter, CHANGES - 1];
    let cases =
        [(&none, &none), (&one_each, &none), (&several, &none), (&none, &one_each), (&one_each, &several)];
    for (truncates, beside) in cases {
        let folder = tempfile::tempdir().unwrap();
        let stretches = write(folder.path(), truncates, beside);
        let log = Log::open(folder.path()).unwrap();
        let range = log.creation()..log.head().unwrap();
        for (keys, is_keyed) in everything {
            for shares in [1, 3] {
                let wanted = Wanted { table: None, limit: 50, as_statements: false };
                let pass = Pass {
                    log: &log,
                    backward: false,
                    wanted: &wanted,
                    keys,
                    share: Share::default(),
                    last: false,
                };
                assert!(pass.middle(&range).unwrap().is_some());
                let Ok(difference) = pass.in_shares(shares, &range) else {
                    panic!("{truncates:?}: no difference")
                };
                let case = format!("{truncates:?}, beside {beside:?}, keyed: {is_keyed}, shares: {shares}");
                assert_eq!(counted(&difference), expected(&stretches, is_keyed), "{case}");
                let table = &difference.tables["public.t"];
                assert_eq!((table.truncated, table.rows.len()), (!truncates.is_empty(), 50), "{case}");
                assert!(difference.truncated, "{case}");
                let several = difference.several.iter().map(String::as_str).collect::<Vec<_>>();
                assert_eq!(several, if truncates.is_empty() { vec![] } else { vec!["public.t"] }, "{case}");
            }
        }
    }
}

#[test]
fn rows_that_share_what_is_a_key_today_are_not_one_row() {
    let items = relation(
        1,
        "items",
        &[("id", true, 23, "integer"), ("line", true, 23, "integer"), ("v", false, 25, "text")],
    );
    let changes = vec![
        update(&items, &["1", "1", "a"], &["1", "1", "A"]),
        update(&items, &["1", "2", "b"], &["1", "2", "B"]),
    ];
    let answer = difference(changes, false, false).unwrap();
    let items = of_table(&answer, "public.items");
    assert_eq!((items.inserted, items.updated, items.deleted), (2, 0, 2), "{items:#?}");
    assert_eq!((items.key.len(), items.rows.len()), (0, 4), "{items:#?}");
}

#[test]
fn a_table_that_is_emptied_divides_no_other() {
    let columns = [("id", true, 23, "integer"), ("s", false, 25, "text")];
    let (orders, cache) = (relation(1, "orders", &columns), relation(2, "cache", &columns));
    let changes = || {
        vec![
            insert(&orders, &["10", "new"]),
            insert(&cache, &["1", "x"]),
            truncate(&cache),
            update(&orders, &["10", "new"], &["10", "paid"]),
        ]
    };
    let answer = difference(changes(), false, true).unwrap();
    let found = of_table(&answer, "public.orders");
    assert_eq!((found.inserted, found.updated, found.deleted, found.truncated), (1, 0, 0, false));
    assert_eq!(found.rows[0].after.as_ref().unwrap()["s"], "paid");
    assert!(of_table(&answer, "public.cache").truncated);
    let back = difference(changes(), true, true).unwrap();
    let found = of_table(&back, "public.orders");
    assert_eq!((found.inserted, found.updated, found.deleted), (0, 0, 1));
    assert_eq!(found.rows[0].before.as_ref().unwrap()["s"], "paid");
}

#[test]
fn a_table_that_is_defined_anew_divides_no_other_and_its_rows_make_no_statements() {
    let columns = [("id", true, 23, "integer"), ("s", false, 25, "text"), ("more", false, 25, "text")];
    let (then, now) = (relation(1, "items", &columns[..2]), relation(1, "items", &columns));
    let orders = relation(2, "orders", &columns[..2]);
    let changes = || {
        vec![
            insert(&orders, &["10", "new"]),
            insert(&then, &["1", "a"]),
            update(&now, &["1", "a", "m"], &["1", "b", "m"]),
            update(&orders, &["10", "new"], &["10", "paid"]),
        ]
    };
    for backward in [false, true] {
        let answer = difference(changes(), backward, false).unwrap();
        let (items, orders) = (of_table(&answer, "public.items"), of_table(&answer, "public.orders"));
        assert_eq!((items.rows.len(), items.updated), (2, 1), "{items:#?}");
        assert_eq!((orders.rows.len(), orders.updated), (1, 0), "{orders:#?}");
        let refused = difference(changes(), backward, true).unwrap_err().to_string();
        assert!(refused.contains("public.items was defined anew"), "{refused}");
        // Alone, either part is one fold.
        for part in [changes().drain(..2).collect(), changes().drain(2..).collect()] {
            difference(part, backward, true).unwrap();
        }
    }
}

#[test]
fn rows_of_a_table_under_two_names_make_no_statements() {
    let columns = [("id", true, 23, "integer"), ("s", false, 25, "text")];
    let (then, now) = (relation(1, "items", &columns), relation(1, "things", &columns));
    let changes = || vec![insert(&then, &["1", "a"]), update(&now, &["1", "a"], &["1", "b"])];
    for backward in [false, true] {
        let refused = difference(changes(), backward, true).unwrap_err().to_string();
        assert!(refused.contains("public.things was defined anew"), "{refused}");
    }
    assert_eq!(difference(changes(), false, false).unwrap().tables.len(), 2);
}

#[test]
fn shares_follow_from_how_far_a_pass_came() {
    assert_eq!(more_shares(1, 100, 600), 6);
    assert_eq!(more_shares(1, 590, 600), 2);
    assert_eq!(more_shares(6, 300, 600), 12);
    // One transaction that is too large by itself says nothing of how much.
    assert_eq!(more_shares(1, 1, 1), 2);
    assert_eq!(more_shares(1, 0, 1_000_000), MOST_SHARES);
    assert_eq!(more_shares(40, 1, 2), MOST_SHARES);
}
