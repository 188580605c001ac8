use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use ptr_log::{LogIdentity, Writer, WriterOptions};
use ptr_model::{
    Column, Datum, Lsn, Oid, OldTuple, ReplicaIdentity, Timestamp, TransactionHeader, TruncateOptions, Tuple,
    Xid,
};

use super::*;

/// What a table holds, by key.
type Rows = BTreeMap<u64, u64>;

const KEYS: u64 = 3_000;
/// Changes of one row, ten in each transaction.
const CHANGES: u64 = MANY_ENTRIES + 10_000;
const TOGETHER: u64 = 10;

fn table() -> Relation {
    let column = |name: &str, in_identity| Column {
        name: name.into(),
        in_identity,
        type_oid: Oid(20),
        type_modifier: -1,
        type_name: "bigint".into(),
    };
    Relation {
        oid: Oid(1),
        schema: "public".into(),
        name: "t".into(),
        replica_identity: ReplicaIdentity::Full,
        columns: vec![column("id", true), column("v", false)],
    }
}

/// Writes a log of random changes, keys among them. The table is emptied by each change of `truncates`. Returns what
/// the table held at first and after each of them, before and after; and at the end.
fn write(directory: &Path, truncates: &[u64]) -> Vec<(Rows, Rows)> {
    let identity = LogIdentity {
        system_identifier: 7,
        timeline: 1,
        database: "testdb".into(),
        database_oid: Oid(5),
        creation: Lsn(0x100),
        created_at: Timestamp::from_postgres(0),
        log_id: uuid::Uuid::from_u128(7),
    };
    ptr_log::create(directory, &identity).unwrap();
    let mut writer = Writer::open(directory, WriterOptions::default()).unwrap();
    let relation = Arc::new(table());
    let tuple = |(id, v): (u64, u64)| {
        let text = |number: u64| Datum::Text(Bytes::from(number.to_string()));
        Tuple(vec![text(id), text(v)])
    };
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
        let header = TransactionHeader {
            xid: Xid(u32::try_from(number).unwrap()),
            commit_lsn: Lsn(0x200 + number * 0x100),
            end_lsn: Lsn(0),
            commit_time: Timestamp::from_postgres(0),
            origin: None,
        };
        if number % TOGETHER == 0 {
            writer.begin(&header).unwrap();
        }
        let (id, other, v) = (random(KEYS), random(KEYS), random(4));
        let relation = Arc::clone(&relation);
        let change = match rows.get(&id).copied() {
            _ if truncates.contains(&number) => {
                stretches.push((std::mem::take(&mut before), std::mem::take(&mut rows)));
                let options = TruncateOptions { cascade: false, restart_identity: false };
                Change::Truncate { relations: vec![relation], options }
            }
            None => {
                rows.insert(id, v);
                Change::Insert { relation, new: tuple((id, v)) }
            }
            Some(was) if random(4) == 0 => {
                rows.remove(&id);
                Change::Delete { relation, old: OldTuple::Full(tuple((id, was))) }
            }
            Some(was) => {
                let to = if rows.contains_key(&other) { id } else { other };
                rows.remove(&id);
                rows.insert(to, v);
                Change::Update { relation, old: OldTuple::Full(tuple((id, was))), new: tuple((to, v)) }
            }
        };
        writer.append(&change).unwrap();
        if number % TOGETHER == TOGETHER - 1 {
            writer.commit(Lsn(header.commit_lsn.0 + 0x10)).unwrap();
        }
    }
    writer.close().unwrap();
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
