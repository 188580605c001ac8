//! Situations in, actions out; and what becomes of a log that grows while they are carried out.

use super::*;

const IMAGE: u64 = 10;

fn standing(entry: u64, reason: Reason) -> Standing {
    Standing { database: format!("k{entry}"), entry, bytes: IMAGE, reason }
}

fn log(head: u64, room: u64) -> Situation {
    Situation {
        budget: room * IMAGE,
        image_bytes: IMAGE,
        worth: 100,
        head,
        keyframes: vec![standing(0, Reason::Creation)],
        ..Situation::default()
    }
}

/// Where each entry is a transaction.
fn decided(situation: &Situation) -> Vec<Action> {
    next(situation, &|entry| entry)
}

/// Does what is to be done until nothing is.
fn settle(situation: &mut Situation) {
    for steps in 0.. {
        assert!(steps < 1_000, "it never comes to rest: {situation:?}");
        let Some(action) = decided(situation).into_iter().next() else { return };
        match action {
            Action::Make { entry, reason } => {
                situation.keyframes.push(standing(entry, reason));
                situation.keyframes.sort_by_key(|keyframe| keyframe.entry);
            }
            Action::Spare { entry } => {
                situation
                    .spares
                    .push(Standing { database: format!("s{entry}"), ..standing(entry, Reason::Creation) });
            }
            Action::Remove { database } => {
                situation.keyframes.retain(|keyframe| keyframe.database != database);
                situation.spares.retain(|spare| spare.database != database);
            }
        }
    }
}

fn entries(situation: &Situation) -> Vec<u64> {
    situation.keyframes.iter().map(|keyframe| keyframe.entry).collect()
}

#[test]
fn without_a_budget_there_is_only_creation_and_no_spare() {
    let situation = Situation {
        schema_changes: vec![500],
        keyframes: vec![standing(0, Reason::Creation), standing(500, Reason::SchemaChange)],
        spares: vec![Standing { database: "s0".into(), ..standing(0, Reason::Creation) }],
        spares_wanted: vec![0],
        ..log(100_000, 0)
    };
    assert_eq!(
        decided(&situation),
        [Action::Remove { database: "s0".into() }, Action::Remove { database: "k500".into() }]
    );
}

#[test]
fn a_short_log_needs_none() {
    assert_eq!(decided(&log(120, 50)), []);
}

#[test]
fn a_keyframe_stands_before_each_run_of_schema_changes_that_is_not_near_creation() {
    let mut situation = Situation { schema_changes: vec![10, 300, 310, 345, 900], ..log(1_000, 50) };
    settle(&mut situation);
    let before_changes = situation.keyframes.iter().filter(|one| one.reason == Reason::SchemaChange);
    assert_eq!(before_changes.map(|one| one.entry).collect::<Vec<_>>(), [300, 900]);
}

#[test]
fn with_plenty_of_budget_no_gap_is_longer_than_what_a_copy_costs() {
    let mut situation = log(5_000, 64);
    settle(&mut situation);
    let entries = entries(&situation);
    assert!(entries.windows(2).all(|pair| pair[1] - pair[0] <= 100), "{entries:?}");
    assert!(5_000 - entries.last().unwrap() <= 150, "{entries:?}");
}

#[test]
fn with_little_budget_gaps_grow_with_the_distance_from_head() {
    let mut situation = log(100_000, 10);
    settle(&mut situation);
    let entries = entries(&situation);
    assert!(entries.len() <= 11 && entries.len() > 5, "{entries:?}");
    for pair in entries.windows(2) {
        assert!(pair[1] - pair[0] <= (100_000 - pair[0]) / 2 + 101, "{entries:?}");
    }
    assert!(100_000 - entries.last().unwrap() < 2_000, "{entries:?}");
}

#[test]
fn what_is_made_fits_the_budget_whatever_is_wanted() {
    for room in 0..12 {
        let mut situation = Situation {
            schema_changes: (1..50).map(|n| n * 1_000).collect(),
            spares_wanted: vec![0, 1_000],
            ..log(60_000, room)
        };
        settle(&mut situation);
        let made = situation.keyframes.len() - 1 + situation.spares.len();
        assert!(made as u64 <= room, "{made} with room for {room}");
    }
}

#[test]
fn as_a_log_grows_keyframes_are_made_near_head_only_and_older_ones_are_thinned_out() {
    let mut situation = log(0, 12);
    let mut made_until = 0;
    for head in (0..200_000).step_by(500) {
        situation.head = head;
        let before = entries(&situation);
        settle(&mut situation);
        let after = entries(&situation);
        for new in after.iter().filter(|entry| !before.contains(entry)) {
            assert!(*new > made_until, "{new} was passed long ago: {after:?}");
        }
        made_until = made_until.max(*after.last().unwrap());
        assert!(after.len() <= 13);
    }
    assert!(200_000 - made_until < 1_000, "{:?}", entries(&situation));
}

#[test]
fn what_a_user_made_stays_and_counts() {
    let mut situation = log(100_000, 1);
    situation.keyframes.push(standing(777, Reason::Manual));
    settle(&mut situation);
    assert_eq!(entries(&situation), [0, 777]);
}

#[test]
fn a_spare_is_made_of_the_keyframe_that_is_most_wanted_and_comes_first() {
    let situation = Situation { spares_wanted: vec![0], ..log(100_000, 4) };
    assert_eq!(decided(&situation)[0], Action::Spare { entry: 0 });
    let moved = Situation {
        keyframes: vec![standing(0, Reason::Creation), standing(5_000, Reason::Manual)],
        spares: vec![Standing { database: "s0".into(), ..standing(0, Reason::Creation) }],
        spares_wanted: vec![5_000],
        ..situation
    };
    assert_eq!(
        decided(&moved)[..2],
        [Action::Remove { database: "s0".into() }, Action::Spare { entry: 5_000 }]
    );
}

#[test]
fn a_transaction_of_any_size_has_keyframes_at_its_ends_and_never_within() {
    let mut situation = log(10_000, 64);
    // One from 1,000 to 9,000.
    let boundary = |entry| if (1_001..9_000).contains(&entry) { 9_000 } else { entry };
    for _ in 0..200 {
        let Some(Action::Make { entry, reason }) = next(&situation, &boundary).into_iter().next() else {
            break;
        };
        assert!(!situation.keyframes.iter().any(|keyframe| keyframe.entry == entry), "{entry} again");
        situation.keyframes.push(standing(entry, reason));
        situation.keyframes.sort_by_key(|keyframe| keyframe.entry);
    }
    assert_eq!(next(&situation, &boundary), []);
    let entries = entries(&situation);
    assert!(
        entries.contains(&9_000) && !entries.iter().any(|entry| (1_001..9_000).contains(entry)),
        "{entries:?}"
    );
}

#[test]
fn a_scale_counts_schema_changes_and_is_read_both_ways() {
    let scale = Scale { schema_changes: vec![10, 20], each: 100 };
    assert_eq!([10, 11, 20, 21, 30].map(|entry| scale.of(entry)), [10, 111, 120, 221, 230]);
    for entry in 0..40 {
        assert_eq!(scale.entry(scale.of(entry)), entry);
    }
    assert_eq!(scale.entry(50), 10);
}
