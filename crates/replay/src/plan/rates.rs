//! What the parts of a move cost on one output server: assumed at first, then learnt from the moves that were made.
//! Pure.

use std::{collections::BTreeMap, time::Duration};

use ptr_log::MeasuredRate;
use serde::Serialize;

/// A part of a move.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// What any move costs: looking, noting.
    Move,
    /// What it costs to connect to the session's database, where no connection was kept from the move before.
    Connect,
    /// What the first way over a connection costs more: it looks at its tables, and prepares its statements.
    Acquaint,
    /// What any way forwards costs.
    Redo,
    /// An entry of a short way forwards.
    RedoEntry,
    /// An entry of a long one: it goes in by COPY, and much of it is folded away.
    RedoBulkEntry,
    /// A byte of the log, read and sent forwards.
    RedoByte,
    /// A transaction with schema changes, which is one of the replica's for itself.
    SchemaChange,
    /// What any way back costs.
    Undo,
    /// An entry of a short way back.
    UndoEntry,
    /// An entry of a long one.
    UndoBulkEntry,
    /// A byte of the log, read and taken back.
    UndoByte,
    /// What copying a database costs, however small it is.
    Copy,
    /// A byte of a database that is copied.
    CopyByte,
    /// What it costs to take a spare.
    Spare,
    /// What it costs to put a database in the place of another.
    Swap,
}

/// Entries from which on a way is a long one.
const BULK: u64 = 5_000;

/// How far from what is assumed a rate may get.
const FARTHEST: f64 = 200.0;

/// The least weight of a new measurement.
const LEAST_WEIGHT: f64 = 0.3;

/// How far one measurement may change an estimate; something else may have been in the way.
const MOST_AT_ONCE: f64 = 16.0;

impl Component {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Move,
        Self::Connect,
        Self::Acquaint,
        Self::Redo,
        Self::RedoEntry,
        Self::RedoBulkEntry,
        Self::RedoByte,
        Self::SchemaChange,
        Self::Undo,
        Self::UndoEntry,
        Self::UndoBulkEntry,
        Self::UndoByte,
        Self::Copy,
        Self::CopyByte,
        Self::Spare,
        Self::Swap,
    ];

    /// As it is kept.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Connect => "connect",
            Self::Acquaint => "acquaint",
            Self::Redo => "redo",
            Self::RedoEntry => "redo_entry",
            Self::RedoBulkEntry => "redo_bulk_entry",
            Self::RedoByte => "redo_byte",
            Self::SchemaChange => "schema_change",
            Self::Undo => "undo",
            Self::UndoEntry => "undo_entry",
            Self::UndoBulkEntry => "undo_bulk_entry",
            Self::UndoByte => "undo_byte",
            Self::Copy => "copy",
            Self::CopyByte => "copy_byte",
            Self::Spare => "spare",
            Self::Swap => "swap",
        }
    }

    /// Nanoseconds a unit, before anything is measured: two cores, PostgreSQL 15, an optimised build.
    fn assumed(self) -> f64 {
        match self {
            Self::Move => 4e6,
            Self::Connect => 8e6,
            Self::Acquaint => 6e6,
            Self::Redo | Self::Undo => 2e6,
            Self::RedoEntry => 20e3,
            Self::UndoEntry => 25e3,
            Self::RedoBulkEntry | Self::UndoBulkEntry => 4e3,
            Self::RedoByte | Self::UndoByte => 5.0,
            Self::SchemaChange => 5e6,
            Self::Copy => 80e6,
            Self::CopyByte => 3.0,
            Self::Spare => 10e6,
            Self::Swap => 20e6,
        }
    }
}

/// How much of a component a move has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Part {
    /// Which.
    pub component: Component,
    /// How many units.
    pub units: u64,
}

impl Part {
    /// One part.
    #[must_use]
    pub fn new(component: Component, units: u64) -> Self {
        Self { component, units }
    }

    /// A way forwards or back over so much of the log.
    #[must_use]
    pub fn way(forwards: bool, entries: u64, bytes: u64, schema_changes: u64) -> Vec<Self> {
        use Component::{
            Redo, RedoBulkEntry, RedoByte, RedoEntry, SchemaChange, Undo, UndoBulkEntry, UndoByte, UndoEntry,
        };
        let (fixed, entry, byte) = match (forwards, entries < BULK) {
            (true, true) => (Redo, RedoEntry, RedoByte),
            (true, false) => (Redo, RedoBulkEntry, RedoByte),
            (false, true) => (Undo, UndoEntry, UndoByte),
            (false, false) => (Undo, UndoBulkEntry, UndoByte),
        };
        let parts = [(fixed, 1), (entry, entries), (byte, bytes), (SchemaChange, schema_changes)];
        parts.into_iter().map(|(component, units)| Self::new(component, units)).collect()
    }

    /// What belongs to no step of a move.
    #[must_use]
    pub fn around(is_connected: bool) -> Vec<Self> {
        vec![Self::new(Component::Move, 1), Self::new(Component::Connect, u64::from(!is_connected))]
    }

    /// A copy of a database.
    #[must_use]
    pub fn copy(bytes: u64) -> Vec<Self> {
        vec![Self::new(Component::Copy, 1), Self::new(Component::CopyByte, bytes)]
    }
}

/// A part of a move that was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Measurement {
    /// What it was made of.
    pub parts: Vec<Part>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What the parts of a move cost.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rates {
    learnt: BTreeMap<Component, Learnt>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Learnt {
    nanoseconds: f64,
    measured: u64,
}

impl Rates {
    /// What was kept. Components of other versions are ignored.
    #[must_use]
    pub fn of(kept: &[MeasuredRate]) -> Self {
        let known = |rate: &MeasuredRate| {
            let component =
                Component::ALL.into_iter().find(|component| component.name() == rate.component)?;
            let nanoseconds = within_reason(component, rate.nanoseconds);
            Some((component, Learnt { nanoseconds, measured: rate.measured }))
        };
        Self { learnt: kept.iter().filter_map(known).collect() }
    }

    /// What is to be kept.
    #[must_use]
    pub fn to_keep(&self) -> Vec<MeasuredRate> {
        let kept = |(component, learnt): (&Component, &Learnt)| MeasuredRate {
            component: component.name().to_owned(),
            nanoseconds: learnt.nanoseconds,
            measured: learnt.measured,
        };
        self.learnt.iter().map(kept).collect()
    }

    /// Nanoseconds a unit.
    #[must_use]
    pub fn nanoseconds(&self, component: Component) -> f64 {
        self.learnt.get(&component).map_or(component.assumed(), |learnt| learnt.nanoseconds)
    }

    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    fn cost(&self, part: Part) -> f64 {
        self.nanoseconds(part.component) * part.units as f64
    }

    /// How long so much takes.
    #[must_use]
    pub fn estimate(&self, parts: &[Part]) -> Duration {
        let nanoseconds: f64 = parts.iter().map(|part| self.cost(*part)).sum();
        Duration::from_secs_f64((nanoseconds / 1e9).clamp(0.0, 1e9))
    }

    /// Learns from a part of a move that was made: what was estimated wrongly is put to its components by their share
    /// in the estimate, less the more was measured before.
    pub fn learn(&mut self, measurement: &Measurement) {
        let costs: Vec<(Component, f64)> =
            measurement.parts.iter().map(|part| (part.component, self.cost(*part))).collect();
        let total: f64 = costs.iter().map(|(_, cost)| cost).sum();
        let took = measurement.elapsed.as_secs_f64() * 1e9;
        if total <= 0.0 || took <= 0.0 {
            return;
        }
        let wrong_by = (took / total).clamp(1.0 / MOST_AT_ONCE, MOST_AT_ONCE);
        let squares: f64 = costs.iter().map(|(_, cost)| (cost / total).powi(2)).sum();
        for (component, cost) in costs {
            let share = cost / total;
            let before = self.learnt.get(&component).map_or(0, |learnt| learnt.measured);
            #[allow(clippy::cast_precision_loss, reason = "a weight")]
            let weight = (1.0 / (before as f64 + 1.0)).max(LEAST_WEIGHT);
            let nanoseconds =
                self.nanoseconds(component) * wrong_by.powf(weight * (share / squares).min(1.0));
            let nanoseconds = within_reason(component, nanoseconds);
            let measured = before + u64::from(share > 0.2);
            self.learnt.insert(component, Learnt { nanoseconds, measured });
        }
    }
}

fn within_reason(component: Component, nanoseconds: f64) -> f64 {
    let assumed = component.assumed();
    let plausible = Some(nanoseconds).filter(|nanoseconds| nanoseconds.is_finite());
    plausible.unwrap_or(assumed).clamp(assumed / FARTHEST, assumed * FARTHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(parts: Vec<Part>, milliseconds: u64) -> Measurement {
        Measurement { parts, elapsed: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn estimates_come_near_to_what_moves_take() {
        let mut rates = Rates::default();
        // A server on which everything takes thirty times as long, a fixed part and entries alike.
        let actual = |entries: u64| 300 + entries * 3 / 5;
        for entries in [10, 3_000, 200, 1, 4_000, 1_000, 50, 2_000].into_iter().cycle().take(40) {
            rates.learn(&took(Part::way(true, entries, 0, 0), actual(entries)));
        }
        for entries in [1, 100, 1_000, 4_000] {
            let estimate = rates.estimate(&Part::way(true, entries, 0, 0)).as_secs_f64() * 1e3;
            #[allow(clippy::cast_precision_loss)]
            let ratio = estimate / actual(entries) as f64;
            assert!((0.5..2.0).contains(&ratio), "{entries} entries: {ratio}");
        }
    }

    #[test]
    fn one_odd_measurement_changes_little_once_much_is_known() {
        let mut rates = Rates::default();
        (0..20).for_each(|_| rates.learn(&took(vec![Part::new(Component::Swap, 1)], 20)));
        rates.learn(&took(vec![Part::new(Component::Swap, 1)], 20_000));
        assert!(rates.estimate(&[Part::new(Component::Swap, 1)]) < Duration::from_millis(60));
    }

    #[test]
    fn rates_stay_within_reason_and_are_kept_whole() {
        let mut rates = Rates::default();
        for _ in 0..50 {
            rates.learn(&took(Part::copy(1_000), 10_000_000));
        }
        let farthest = Duration::from_secs_f64(Component::Copy.assumed() * FARTHEST * 1.01 / 1e9);
        assert!(rates.estimate(&[Part::new(Component::Copy, 1)]) <= farthest);
        assert_eq!(Rates::of(&rates.to_keep()), rates);
        let odd = MeasuredRate { component: "swap".into(), nanoseconds: f64::NAN, measured: 1 };
        let known = Rates::of(&[odd]);
        assert_eq!(
            known.estimate(&[Part::new(Component::Swap, 1)]),
            Rates::default().estimate(&[Part::new(Component::Swap, 1)])
        );
    }
}
