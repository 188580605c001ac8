//! Which way to take from here to there. Pure: positions and facts in, a [`Plan`] out, which is data.

use ptr_model::Position;
use serde::Serialize;

/// What is done, as users see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The session is there already.
    Nothing,
    /// Forwards, in the session's database.
    Redo,
    /// Backwards, in the session's database.
    Undo,
    /// From a keyframe, in a new database that takes the place of the session's.
    Keyframe,
}

/// One step of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum PlanStep {
    /// Makes a new database from a keyframe.
    Clone {
        /// The keyframe's database.
        keyframe: String,
        /// Where it is.
        at: Position,
    },
    /// Applies the log forwards.
    Redo {
        /// From here.
        from: Position,
        /// To here.
        to: Position,
    },
    /// Takes the log back.
    Undo {
        /// From here.
        from: Position,
        /// To here, the earlier one.
        to: Position,
    },
    /// Ends the connections to the session's database and puts the new one in its place.
    Swap,
}

/// What a plan is expected to cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Estimate {
    /// Entries of the log that are read.
    pub entries: u64,
    /// Bytes of the log that are read.
    pub bytes: u64,
    /// Milliseconds, roughly.
    pub milliseconds: u64,
}

/// A way from one position to another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan {
    /// What is done, as users see it.
    pub strategy: Strategy,
    /// The steps, in order.
    pub steps: Vec<PlanStep>,
    /// Why this way.
    pub reason: String,
    /// What it is expected to cost.
    pub estimate: Estimate,
}

/// Where a session's database is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Here {
    /// Its position.
    pub position: Position,
    /// Whether its data is what the log says.
    pub contents: Contents,
}

/// Whether a database holds what the log says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contents {
    /// It does.
    FromLog,
    /// It was opened for local writes and may hold anything.
    LocallyWritten,
    /// It was made under other decisions about what is left out.
    Outdated,
    /// A move of it was interrupted.
    Unsettled,
}

/// What is known about a range of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RangeFacts {
    /// Entries in it.
    pub entries: u64,
    /// Bytes in it, before compression.
    pub bytes: u64,
    /// What stands in the way of taking it back, if anything is known to.
    pub irreversible: Option<Irreversible>,
}

/// Why a range cannot be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irreversible {
    /// It changes the schema.
    SchemaChange,
    /// It empties tables.
    Truncate,
    /// Something in it was not captured.
    Gap,
    /// A table got the primary's rows in it, and the rows that it had before are not known.
    Resync,
    /// One of its transactions is larger than what is folded in memory.
    TooLarge,
}

impl Irreversible {
    fn reason(self) -> &'static str {
        match self {
            Self::SchemaChange => "schema changes on the way cannot be taken back",
            Self::Truncate => "a TRUNCATE on the way cannot be taken back",
            Self::Gap => "a gap on the way cannot be taken back",
            Self::Resync => "a table that was resynchronised on the way cannot be taken back",
            Self::TooLarge => "a transaction on the way is too large to be taken back in memory",
        }
    }
}

/// A keyframe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyframeFacts {
    /// Its database.
    pub database: String,
    /// Where it is.
    pub position: Position,
    /// Bytes of its database.
    pub bytes: u64,
    /// The log from it to the destination; `None` where the destination is before it.
    pub range: Option<RangeFacts>,
}

/// All that a plan depends on beside the two positions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PlanFacts {
    /// The log between here and there, whichever is earlier.
    pub between: RangeFacts,
    /// The keyframes there are.
    pub keyframes: Vec<KeyframeFacts>,
}

/// No way leads there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no keyframe is at or before {to}: install the base image first")]
pub struct NoWay {
    /// The destination.
    pub to: Position,
}

/// Entries applied in a millisecond, measured on two cores; only ratios between strategies matter.
const ENTRIES_PER_MILLISECOND: u64 = 150;
/// What any move costs.
const MOVE_MILLISECONDS: u64 = 1;
/// What a clone and the drop of the old database cost at least: two forced PostgreSQL checkpoints.
const CLONE_MILLISECONDS: u64 = 156;
/// Bytes cloned in a millisecond.
const CLONE_BYTES_PER_MILLISECOND: u64 = 300_000;

fn redo_milliseconds(range: &RangeFacts) -> u64 {
    MOVE_MILLISECONDS + range.entries / ENTRIES_PER_MILLISECOND
}

fn keyframe_milliseconds(keyframe: &KeyframeFacts, range: &RangeFacts) -> u64 {
    CLONE_MILLISECONDS + keyframe.bytes / CLONE_BYTES_PER_MILLISECOND + redo_milliseconds(range)
}

/// The cheapest way from here (`None`: there is no database yet) to `to`.
///
/// A way within the session's database is preferred where it costs no more, because it keeps connections.
///
/// # Errors
/// [`NoWay`] where a keyframe is needed and none is at or before `to`.
pub fn plan(from: Option<Here>, to: Position, facts: &PlanFacts) -> Result<Plan, NoWay> {
    let within = match from {
        None => Err("there is no database yet".to_owned()),
        Some(here) => within(here, to, &facts.between),
    };
    let keyframe = by_keyframe(to, facts);
    match (within, keyframe) {
        (Ok(plan), Some(other)) if other.estimate.milliseconds < plan.estimate.milliseconds => Ok(other),
        (Ok(plan), _) => Ok(plan),
        (Err(reason), Some(plan)) => Ok(Plan { reason, ..plan }),
        (Err(_), None) => Err(NoWay { to }),
    }
}

/// The way within the session's own database, where none by keyframe can be cheaper: the clone alone would cost more.
/// It needs to know nothing of keyframes.
#[must_use]
pub fn near(here: Here, to: Position, between: &RangeFacts) -> Option<Plan> {
    within(here, to, between).ok().filter(|plan| plan.estimate.milliseconds <= CLONE_MILLISECONDS)
}

/// The way in the session's own database, or why there is none.
fn within(here: Here, to: Position, between: &RangeFacts) -> Result<Plan, String> {
    match here.contents {
        Contents::FromLog => {}
        Contents::LocallyWritten => {
            return Err("the session was opened for local writes, which are left behind".to_owned());
        }
        Contents::Outdated => {
            return Err("the session's database is to be made anew from the log".to_owned());
        }
        Contents::Unsettled => return Err("an earlier move was interrupted".to_owned()),
    }
    let from = here.position;
    let estimate =
        Estimate { entries: between.entries, bytes: between.bytes, milliseconds: redo_milliseconds(between) };
    if from == to {
        let reason = "the session is there already".to_owned();
        return Ok(Plan {
            strategy: Strategy::Nothing,
            steps: vec![],
            reason,
            estimate: Estimate::default(),
        });
    }
    if from < to {
        let (steps, reason) = (vec![PlanStep::Redo { from, to }], "forwards by the net effect".to_owned());
        return Ok(Plan { strategy: Strategy::Redo, steps, reason, estimate });
    }
    match between.irreversible {
        Some(obstacle) => Err(obstacle.reason().to_owned()),
        None => {
            let (steps, reason) =
                (vec![PlanStep::Undo { from, to }], "backwards by the net effect".to_owned());
            Ok(Plan { strategy: Strategy::Undo, steps, reason, estimate })
        }
    }
}

fn by_keyframe(to: Position, facts: &PlanFacts) -> Option<Plan> {
    let usable = facts.keyframes.iter().filter_map(|keyframe| Some((keyframe, keyframe.range.as_ref()?)));
    let cheapest = usable.min_by_key(|(keyframe, range)| keyframe_milliseconds(keyframe, range));
    cheapest.map(|(keyframe, range)| {
        let mut steps = vec![PlanStep::Clone { keyframe: keyframe.database.clone(), at: keyframe.position }];
        if keyframe.position < to {
            steps.push(PlanStep::Redo { from: keyframe.position, to });
        }
        steps.push(PlanStep::Swap);
        let milliseconds = keyframe_milliseconds(keyframe, range);
        Plan {
            strategy: Strategy::Keyframe,
            steps,
            reason: format!("from the keyframe at {} it is nearer", keyframe.position),
            estimate: Estimate { entries: range.entries, bytes: range.bytes, milliseconds },
        }
    })
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    fn at(ordinal: u64) -> Position {
        Position { ordinal, lsn: Lsn(ordinal * 100), entry_index: ordinal * 10 }
    }

    fn here(ordinal: u64) -> Option<Here> {
        Some(Here { position: at(ordinal), contents: Contents::FromLog })
    }

    fn facts(entries: u64, irreversible: Option<Irreversible>) -> PlanFacts {
        let range = RangeFacts { entries: 10, bytes: 100, irreversible: None };
        PlanFacts {
            between: RangeFacts { entries, bytes: entries * 10, irreversible },
            keyframes: vec![KeyframeFacts {
                database: "ptr_shop_creation".into(),
                position: at(0),
                bytes: 8_000_000,
                range: Some(range),
            }],
        }
    }

    fn strategy(from: Option<Here>, to: u64, facts: &PlanFacts) -> Strategy {
        plan(from, at(to), facts).expect("there is a way").strategy
    }

    #[test]
    fn the_near_way_is_taken_in_place() {
        assert_eq!(strategy(here(5), 5, &facts(0, None)), Strategy::Nothing);
        assert_eq!(strategy(here(5), 8, &facts(30, None)), Strategy::Redo);
        assert_eq!(strategy(here(5), 2, &facts(30, None)), Strategy::Undo);
    }

    #[test]
    fn what_cannot_be_taken_back_goes_by_keyframe_and_says_why() {
        let plan =
            plan(here(5), at(2), &facts(30, Some(Irreversible::SchemaChange))).expect("there is a way");
        assert_eq!(plan.strategy, Strategy::Keyframe);
        assert_eq!(plan.reason, "schema changes on the way cannot be taken back");
        assert_eq!(
            plan.steps,
            vec![
                PlanStep::Clone { keyframe: "ptr_shop_creation".into(), at: at(0) },
                PlanStep::Redo { from: at(0), to: at(2) },
                PlanStep::Swap,
            ]
        );
    }

    #[test]
    fn local_writes_are_left_behind_even_where_the_session_is() {
        let opened = Some(Here { position: at(5), contents: Contents::LocallyWritten });
        assert_eq!(strategy(opened, 5, &facts(0, None)), Strategy::Keyframe);
    }

    #[test]
    fn a_keyframe_wins_where_the_difference_is_large() {
        assert_eq!(strategy(here(90_000), 1, &facts(900_000, None)), Strategy::Keyframe);
    }

    #[test]
    fn a_near_way_is_what_the_whole_plan_would_be() {
        for (from, to, entries, irreversible) in
            [(5, 5, 0, None), (5, 8, 30, None), (5, 2, 30, None), (5, 2, 30, Some(Irreversible::Gap))]
        {
            let facts = facts(entries, irreversible);
            let here = here(from).expect("a place");
            let whole = plan(Some(here), at(to), &facts).expect("there is a way");
            let near = near(here, at(to), &facts.between);
            assert_eq!(near, (whole.strategy != Strategy::Keyframe).then_some(whole), "{from} to {to}");
        }
        let far = facts(900_000, None);
        assert_eq!(near(here(5).expect("a place"), at(90_000), &far.between), None);
    }

    #[test]
    fn without_a_keyframe_there_is_no_way_back() {
        let nothing = PlanFacts { keyframes: vec![], ..facts(30, Some(Irreversible::Truncate)) };
        assert_eq!(plan(here(5), at(2), &nothing), Err(NoWay { to: at(2) }));
        assert_eq!(plan(None, at(2), &nothing), Err(NoWay { to: at(2) }));
    }
}
