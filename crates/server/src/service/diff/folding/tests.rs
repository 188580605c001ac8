use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use ptr_model::TruncateOptions;
use ptr_testkit::{HandwrittenLog, HandwrittenTable};

use super::*;

/// What a table holds, by key.
type Rows = BTreeMap<u64, u64>;

const KEYS: u64 = 3_000;
/// Changes of one row, ten in each transaction.
const CHANGES: u64 = MANY_ENTRIES + 10_000;
const TOGETHER: u64 = 10;

/// Writes a log of random changes, keys among them. The table is emptied by each change of `truncates`. Returns what
/// the table held at first and after each of them, before and after; and at the end.
fn write(directory: &Path, truncates: &[u64]) -> Vec<(Rows, Rows)> {
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
                let options = TruncateOptions { cascade: false, restart_identity: false };
                Change::Truncate { relations: vec![table.relation()], options }
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
    for truncates in [vec![], vec![quarter, 3 * quarter], vec![2 * quarter + 1, 3 * quarter, CHANGES - 1]] {
        let folder = tempfile::tempdir().unwrap();
        let stretches = write(folder.path(), &truncates);
        let log = Log::open(folder.path()).unwrap();
        let range = log.creation()..log.head().unwrap();
        for (keys, is_keyed) in everything {
            for shares in [1, 3] {
                let wanted = Wanted { table: None, limit: 50 };
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
                let case = format!("{truncates:?}, keyed: {is_keyed}, shares: {shares}");
                assert_eq!(counted(&difference), expected(&stretches, is_keyed), "{case}");
                let table = &difference.tables["public.t"];
                assert_eq!((table.truncated, table.rows.len()), (!truncates.is_empty(), 50), "{case}");
                assert!(difference.truncated, "{case}");
            }
        }
    }
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
