//! Which way to take from here to there. Pure: positions and facts in, a [`Plan`] out, which is data.
//!
//! The ways are: in the session's database, forwards or backwards; and in a copy of a keyframe, or in a spare of one,
//! from before the destination forwards or from behind it backwards. Each is estimated from what the index says and
//! from what moves took on this server ([`Rates`]); the cheapest is taken.

mod rates;

use std::time::Duration;

use ptr_model::Position;
use serde::Serialize;

pub use rates::{Component, Measurement, Part, Rates};

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
    /// Takes a copy of a keyframe that was made beforehand.
    Spare {
        /// Its database.
        spare: String,
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

/// What a way is expected to cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Estimate {
    /// Entries of the log that are read.
    pub entries: u64,
    /// Bytes of the log that are read, before compression.
    pub bytes: u64,
    /// How long it takes.
    pub microseconds: u64,
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
    /// The other ways, the cheapest first, then those that cannot be gone.
    pub alternatives: Vec<Alternative>,
}

/// A way that was not chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Alternative {
    /// What would be done, as users see it.
    pub strategy: Strategy,
    /// The way, for people.
    pub way: String,
    /// What it is expected to cost, where it can be gone.
    pub estimate: Option<Estimate>,
    /// Why it cannot be gone, where it cannot.
    pub barred: Option<String>,
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
    /// Transactions in it that change the schema.
    pub schema_changes: u64,
    /// What stands in the way of taking it back, if anything is known to.
    pub irreversible: Option<Obstacle>,
}

/// What cannot be taken back, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Obstacle {
    /// What.
    pub what: Irreversible,
    /// The first entry of its transaction.
    pub entry: u64,
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
}

impl Obstacle {
    fn reason(self) -> String {
        let what = match self.what {
            Irreversible::SchemaChange => "schema changes on the way cannot be taken back",
            Irreversible::Truncate => "a TRUNCATE on the way cannot be taken back",
            Irreversible::Gap => "a gap on the way cannot be taken back",
            Irreversible::Resync => "a table that was resynchronised on the way cannot be taken back",
        };
        format!("{what} (entry {})", self.entry)
    }
}

/// A keyframe, or a spare of one, and the log between it and the destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageFacts {
    /// Its database.
    pub database: String,
    /// Where it is.
    pub position: Position,
    /// Bytes of its database.
    pub bytes: u64,
    /// Whether it only has to be renamed.
    pub is_spare: bool,
    /// The log between it and the destination, whichever is earlier.
    pub range: RangeFacts,
}

/// All that a plan depends on beside the two positions.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PlanFacts {
    /// The log between here and there, whichever is earlier.
    pub between: RangeFacts,
    /// The keyframes and spares there are.
    pub images: Vec<ImageFacts>,
    /// What the parts of a move cost.
    pub rates: Rates,
    /// Whether a connection to the session's database is open already.
    pub is_connected: bool,
}

/// No way leads there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no keyframe from which {to} can be reached is on the output server")]
pub struct NoWay {
    /// The destination.
    pub to: Position,
}

/// What a keyframe must save against the way in the session's own database, which keeps its connections.
pub const WORTH_THE_CONNECTIONS: Duration = Duration::from_millis(50);

/// A way that can be gone.
struct Way {
    strategy: Strategy,
    steps: Vec<PlanStep>,
    reason: String,
    /// For people, where it is not chosen.
    told: String,
    estimate: Estimate,
}

/// The cheapest way from here (`None`: there is no database yet) to `to`.
///
/// A way within the session's database is preferred where another saves little, because it keeps connections.
///
/// # Errors
/// [`NoWay`] where a keyframe is needed and none leads to `to`.
pub fn plan(from: Option<Here>, to: Position, facts: &PlanFacts) -> Result<Plan, NoWay> {
    let within = match from {
        None => Err("there is no database yet".to_owned()),
        Some(here) => within(here, to, facts),
    };
    let mut others: Vec<Way> = facts.images.iter().filter_map(|image| by_image(image, to, facts)).collect();
    others.sort_by_key(|way| way.estimate.microseconds);
    let mut barred = Vec::new();
    let chosen = match (within, others.is_empty()) {
        (Err(_), true) => return Err(NoWay { to }),
        (Err(reason), false) => {
            if let Some(here) = from {
                let strategy = if here.position < to { Strategy::Redo } else { Strategy::Undo };
                let (way, barred_by) = ("in the session's database".to_owned(), Some(reason.clone()));
                barred.push(Alternative { strategy, way, estimate: None, barred: barred_by });
            }
            Way { reason, ..others.remove(0) }
        }
        (Ok(way), true) => way,
        (Ok(way), false) => {
            let saved = way.estimate.microseconds.saturating_sub(others[0].estimate.microseconds);
            if u128::from(saved) > WORTH_THE_CONNECTIONS.as_micros() {
                let other = others.remove(0);
                others.push(way);
                others.sort_by_key(|way| way.estimate.microseconds);
                other
            } else {
                way
            }
        }
    };
    let others = others.into_iter().map(|way| Alternative {
        strategy: way.strategy,
        way: way.told,
        estimate: Some(way.estimate),
        barred: None,
    });
    let alternatives = others.chain(barred).collect();
    let Way { strategy, steps, reason, estimate, .. } = chosen;
    Ok(Plan { strategy, steps, reason, estimate, alternatives })
}

/// How long the way in the session's own database takes, where there is one: if it is short, nobody needs to look for
/// keyframes.
#[must_use]
pub fn within_takes(here: Here, to: Position, facts: &PlanFacts) -> Option<Duration> {
    let way = within(here, to, facts).ok()?;
    Some(Duration::from_micros(way.estimate.microseconds))
}

/// What any way by a keyframe takes at least.
#[must_use]
pub fn any_keyframe_takes(rates: &Rates) -> Duration {
    let parts = [Component::Move, Component::Spare, Component::Swap].map(|part| Part::new(part, 1));
    rates.estimate(&parts) + WORTH_THE_CONNECTIONS
}

/// The way in the session's own database, or why there is none.
fn within(here: Here, to: Position, facts: &PlanFacts) -> Result<Way, String> {
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
    let (from, between) = (here.position, &facts.between);
    let (strategy, steps, reason, way) = if from == to {
        (Strategy::Nothing, vec![], "the session is there already", vec![])
    } else if from < to {
        let steps = vec![PlanStep::Redo { from, to }];
        (Strategy::Redo, steps, "forwards by the net effect", way(true, between, facts.is_connected))
    } else if let Some(obstacle) = between.irreversible {
        return Err(obstacle.reason());
    } else {
        let steps = vec![PlanStep::Undo { from, to }];
        (Strategy::Undo, steps, "backwards by the net effect", way(false, between, facts.is_connected))
    };
    let estimate = estimate(facts, between, way);
    let told = format!("in the session's database, over {} entries", between.entries);
    Ok(Way { strategy, steps, reason: reason.to_owned(), told, estimate })
}

fn way(forwards: bool, range: &RangeFacts, is_acquainted: bool) -> Vec<Part> {
    let mut parts = Part::way(forwards, range.entries, range.bytes, range.schema_changes);
    parts.push(Part::new(Component::Acquaint, u64::from(!is_acquainted)));
    parts
}

fn estimate(facts: &PlanFacts, range: &RangeFacts, mut parts: Vec<Part>) -> Estimate {
    parts.extend(Part::around(facts.is_connected));
    let microseconds = u64::try_from(facts.rates.estimate(&parts).as_micros()).unwrap_or(u64::MAX);
    Estimate { entries: range.entries, bytes: range.bytes, microseconds }
}

/// The way from a keyframe or spare; `None` where it would lead back over what cannot be taken back.
fn by_image(image: &ImageFacts, to: Position, facts: &PlanFacts) -> Option<Way> {
    let (at, range) = (image.position, &image.range);
    if at > to && range.irreversible.is_some() {
        return None;
    }
    let (first, mut parts, what) = if image.is_spare {
        let step = PlanStep::Spare { spare: image.database.clone(), at };
        (step, vec![Part::new(Component::Spare, 1)], "the spare of the keyframe")
    } else {
        let step = PlanStep::Clone { keyframe: image.database.clone(), at };
        (step, Part::copy(image.bytes), "the keyframe")
    };
    let mut steps = vec![first];
    let mut told = format!("{what} at {at}");
    if at != to {
        let forwards = at < to;
        parts.extend(way(forwards, range, false));
        let (step, direction) = match forwards {
            true => (PlanStep::Redo { from: at, to }, "forwards"),
            false => (PlanStep::Undo { from: at, to }, "back"),
        };
        steps.push(step);
        told.push_str(&format!(", then {direction} over {} entries", range.entries));
    }
    steps.push(PlanStep::Swap);
    parts.push(Part::new(Component::Swap, 1));
    let reason = format!("from {what} at {at} it is nearer");
    let estimate = estimate(facts, range, parts);
    Some(Way { strategy: Strategy::Keyframe, steps, reason, told, estimate })
}

#[cfg(test)]
mod tests;
