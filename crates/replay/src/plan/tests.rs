//! Facts in, a plan out.

use ptr_model::Lsn;

use super::*;

fn at(ordinal: u64) -> Position {
    Position { ordinal, lsn: Lsn(ordinal * 100), entry_index: ordinal * 10 }
}

fn here(ordinal: u64) -> Option<Here> {
    Some(Here { position: at(ordinal), contents: Contents::FromLog })
}

fn range(entries: u64) -> RangeFacts {
    RangeFacts { entries, bytes: entries * 10, ..RangeFacts::default() }
}

fn barred_by(what: Irreversible) -> RangeFacts {
    RangeFacts { irreversible: Some(Obstacle { what, entry: 30 }), ..range(30) }
}

fn keyframe(ordinal: u64, range: RangeFacts) -> ImageFacts {
    ImageFacts {
        database: format!("ptr_shop_{ordinal}"),
        position: at(ordinal),
        bytes: 8_000_000,
        is_spare: false,
        range,
    }
}

fn spare(ordinal: u64, range: RangeFacts) -> ImageFacts {
    let of = keyframe(ordinal, range);
    ImageFacts { database: format!("{}_spare", of.database), is_spare: true, ..of }
}

fn facts(between: RangeFacts) -> PlanFacts {
    PlanFacts { between, images: vec![keyframe(0, range(10))], ..PlanFacts::default() }
}

fn strategy(from: Option<Here>, to: u64, facts: &PlanFacts) -> Strategy {
    plan(from, at(to), facts).expect("there is a way").strategy
}

#[test]
fn the_near_way_is_taken_in_place() {
    assert_eq!(strategy(here(5), 5, &facts(range(0))), Strategy::Nothing);
    assert_eq!(strategy(here(5), 8, &facts(range(30))), Strategy::Redo);
    assert_eq!(strategy(here(5), 2, &facts(range(30))), Strategy::Undo);
}

#[test]
fn what_cannot_be_taken_back_goes_by_keyframe_and_says_why_and_where() {
    let plan = plan(here(5), at(2), &facts(barred_by(Irreversible::SchemaChange))).expect("there is a way");
    assert_eq!(plan.strategy, Strategy::Keyframe);
    assert_eq!(plan.reason, "schema changes on the way cannot be taken back (entry 30)");
    assert_eq!(
        plan.steps,
        vec![
            PlanStep::Clone { keyframe: "ptr_shop_0".into(), at: at(0) },
            PlanStep::Redo { from: at(0), to: at(2) },
            PlanStep::Swap,
        ]
    );
    let [undo] = plan.alternatives.as_slice() else { panic!("{:?}", plan.alternatives) };
    assert_eq!((undo.strategy, undo.estimate), (Strategy::Undo, None));
    assert_eq!(undo.barred.as_ref(), Some(&plan.reason));
}

#[test]
fn local_writes_are_left_behind_even_where_the_session_is() {
    let opened = Some(Here { position: at(5), contents: Contents::LocallyWritten });
    assert_eq!(strategy(opened, 5, &facts(range(0))), Strategy::Keyframe);
}

#[test]
fn a_keyframe_wins_where_the_difference_is_large_and_the_other_way_is_told() {
    let plan = plan(here(90_000), at(1), &facts(range(900_000))).expect("there is a way");
    assert_eq!(plan.strategy, Strategy::Keyframe);
    let [other] = plan.alternatives.as_slice() else { panic!("{:?}", plan.alternatives) };
    assert_eq!(other.strategy, Strategy::Undo);
    assert!(other.estimate.expect("it can be gone").microseconds > plan.estimate.microseconds);
}

#[test]
fn without_a_keyframe_there_is_no_way_back() {
    let nothing = PlanFacts { images: vec![], ..facts(barred_by(Irreversible::Truncate)) };
    assert_eq!(plan(here(5), at(2), &nothing), Err(NoWay { to: at(2) }));
    assert_eq!(plan(None, at(2), &nothing), Err(NoWay { to: at(2) }));
}

#[test]
fn of_several_keyframes_the_one_that_is_cheapest_to_go_on_from_is_copied() {
    let images = vec![keyframe(0, range(90_000)), keyframe(80, range(100)), keyframe(90, range(0))];
    let facts = PlanFacts { images, ..facts(barred_by(Irreversible::SchemaChange)) };
    let plan = plan(here(100), at(90), &facts).expect("there is a way");
    assert_eq!(plan.steps, [PlanStep::Clone { keyframe: "ptr_shop_90".into(), at: at(90) }, PlanStep::Swap]);
    assert_eq!(plan.alternatives.len(), 3);
}

#[test]
fn a_spare_is_taken_unless_the_way_from_it_is_long() {
    let images = |way| vec![keyframe(80, range(100)), spare(0, range(way))];
    let taken = |way| {
        let facts = PlanFacts { images: images(way), ..facts(barred_by(Irreversible::SchemaChange)) };
        plan(here(100), at(90), &facts).expect("there is a way").steps.remove(0)
    };
    assert_eq!(taken(1_000), PlanStep::Spare { spare: "ptr_shop_0_spare".into(), at: at(0) });
    assert_eq!(taken(900_000), PlanStep::Clone { keyframe: "ptr_shop_80".into(), at: at(80) });
}

#[test]
fn a_keyframe_behind_the_destination_is_taken_back_to_it_where_nothing_bars_that() {
    let images = |back| vec![keyframe(0, range(900_000)), keyframe(95, back)];
    let steps = |back| {
        let facts = PlanFacts { images: images(back), ..facts(barred_by(Irreversible::Truncate)) };
        plan(here(100), at(90), &facts).expect("there is a way").steps
    };
    assert_eq!(
        steps(range(50)),
        [
            PlanStep::Clone { keyframe: "ptr_shop_95".into(), at: at(95) },
            PlanStep::Undo { from: at(95), to: at(90) },
            PlanStep::Swap,
        ]
    );
    assert_eq!(
        steps(barred_by(Irreversible::Truncate))[0],
        PlanStep::Clone { keyframe: "ptr_shop_0".into(), at: at(0) }
    );
}

#[test]
fn what_saves_little_is_not_worth_the_connections() {
    let images = vec![spare(1, range(0))];
    let facts = PlanFacts { images, ..facts(range(2_000)) };
    let there = plan(here(201), at(1), &facts).expect("there is a way");
    assert_eq!(there.strategy, Strategy::Undo);
    let by_spare = there.alternatives.first().and_then(|other| other.estimate).expect("it can be gone");
    assert!(there.estimate.microseconds < by_spare.microseconds + 50_000);
}
