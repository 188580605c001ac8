//! Which keyframes to have. Pure: what there is and what it costs in, what to make and what to remove out.
//!
//! Everything is measured in entries of the log, by which the way from a keyframe is long or short; whoever asks may
//! count a schema change as many ([`Scale`]). Two kinds are
//! wanted: one before each run of schema changes, because nothing else leads back over them; and one wherever the next
//! one before is far, where *far* grows with the distance from head: near head, where people work, a gap may be
//! [`Situation::worth`] entries, farther back a part of the distance. How large a part follows from the budget: with
//! plenty of it the gaps are small everywhere, with little they double from one to the next.

use super::Reason;

/// A keyframe or spare, as far as this is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its database.
    pub database: String,
    /// Entries before it.
    pub entry: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Why it is there.
    pub reason: Reason,
}

/// What is decided upon.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Situation {
    /// Bytes that all but CREATION's image may have together.
    pub budget: u64,
    /// Bytes that one more has, roughly.
    pub image_bytes: u64,
    /// Entries that are redone in the time in which a keyframe is copied and put in place: a nearer one saves nothing
    /// that one would notice.
    pub worth: u64,
    /// Entries of the log that replay can reach.
    pub head: u64,
    /// First entries of transactions that change the schema, in order.
    pub schema_changes: Vec<u64>,
    /// The keyframes there are, in log order, CREATION's first.
    pub keyframes: Vec<Standing>,
    /// The spares there are.
    pub spares: Vec<Standing>,
    /// Entries before the keyframes of which a spare is wanted, the most wanted first.
    pub spares_wanted: Vec<u64>,
}

/// What is to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Drop this one.
    Remove {
        /// Its database.
        database: String,
    },
    /// Make a spare of the keyframe with so many entries before it.
    Spare {
        /// Entries.
        entry: u64,
    },
    /// Make a keyframe before the transaction with this entry.
    Make {
        /// The entry.
        entry: u64,
        /// Why.
        reason: Reason,
    },
}

/// The most keyframes of one log, however small they are: each is some hundred files.
const MOST: u64 = 64;

/// What is to be done next, most urgent first. Each may make another better, so that only the first is to be done
/// before this is asked again.
///
/// `boundary` gives the end of the transaction that an entry is part of, or the entry itself where one begins with it:
/// keyframes stand between transactions.
#[must_use]
pub fn next(situation: &Situation, boundary: &dyn Fn(u64) -> u64) -> Vec<Action> {
    let room = Room::of(situation);
    let wanted = wanted(situation, room.keyframes, boundary);
    let mut actions: Vec<Action> = superfluous(situation, &wanted, &room);
    let missing_spares = situation.spares_wanted.iter().take(room.spares).filter(|entry| {
        situation.keyframes.iter().any(|keyframe| keyframe.entry == **entry)
            && !situation.spares.iter().any(|spare| spare.entry == **entry)
    });
    actions.extend(missing_spares.map(|entry| Action::Spare { entry: *entry }));
    let mut missing: Vec<Wanted> = wanted.into_iter().filter(|one| !one.is_met_by(situation)).collect();
    // Those that others can be made from come first.
    missing.sort_by_key(|one| one.entry);
    actions.extend(missing.into_iter().map(|one| Action::Make { entry: one.entry, reason: one.reason }));
    actions
}

/// How many of each the budget has room for.
struct Room {
    spares: usize,
    keyframes: usize,
}

impl Room {
    fn of(situation: &Situation) -> Self {
        let manual: u64 = of_users(situation).map(|keyframe| keyframe.bytes).fold(0, u64::saturating_add);
        let images = situation.budget.saturating_sub(manual) / situation.image_bytes.max(1);
        let images = usize::try_from(images.min(MOST)).unwrap_or(usize::MAX);
        // A spare is what a move gains most by; two of them only where there is plenty.
        let spares = if images >= 6 { 2 } else { images.min(1) };
        let spares = spares.min(situation.spares_wanted.len());
        Self { spares, keyframes: images - spares }
    }
}

fn of_users(situation: &Situation) -> impl Iterator<Item = &Standing> {
    situation.keyframes.iter().filter(|keyframe| keyframe.reason == Reason::Manual)
}

/// A place at which a keyframe is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wanted {
    entry: u64,
    reason: Reason,
}

impl Wanted {
    fn is_met_by(self, situation: &Situation) -> bool {
        situation.keyframes.iter().any(|keyframe| keyframe.entry == self.entry)
    }
}

/// At most `room` places: before schema changes, the newest first, with two thirds of it at most, and then to fill the
/// gaps.
fn wanted(situation: &Situation, room: usize, boundary: &dyn Fn(u64) -> u64) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let before_changes = room - room / 3;
    for run in runs(&situation.schema_changes, situation.worth / 2).into_iter().rev() {
        // As near as this to a fixed one, another saves nothing.
        let fixed = |keyframe: &&Standing| matches!(keyframe.reason, Reason::Creation | Reason::Manual);
        let near = |entry: u64| entry <= run && run - entry <= situation.worth / 4;
        if wanted.len() < before_changes
            && !situation.keyframes.iter().filter(fixed).any(|one| near(one.entry))
        {
            wanted.push(Wanted { entry: run, reason: Reason::SchemaChange });
        }
    }
    let fixed: Vec<u64> = wanted.iter().map(|one| one.entry).collect();
    let left = room - wanted.len();
    // The smallest gaps that there is room for.
    let shares = [64, 32, 16, 8, 4, 2].map(|share| (share, 1));
    // Where even doubling gaps are too many, the smallest of them grows too.
    let coarser = (1..40).map(|doubled| (2, 1_u64 << doubled));
    let steps = shares.into_iter().chain(coarser);
    let fits = |places: &Vec<Wanted>| {
        // Places that were passed are filled only where there is room to spare, or what is thinned out today would be
        // made again tomorrow.
        let room = if passed_over(situation, places) { left - left / 4 } else { left };
        places.len() <= room
    };
    let filled = steps.map(|(share, coarse)| fill(situation, &fixed, share, coarse, boundary)).find(fits);
    let mut filled = filled.unwrap_or_default();
    wanted.append(&mut filled);
    wanted.sort_by_key(|one| one.entry);
    wanted
}

/// Whether a place is before a keyframe that is there for distance, and has none itself.
fn passed_over(situation: &Situation, places: &[Wanted]) -> bool {
    let for_distance = |keyframe: &&Standing| keyframe.reason == Reason::Distance;
    let newest = situation.keyframes.iter().rfind(for_distance).map_or(0, |keyframe| keyframe.entry);
    places.iter().any(|place| place.entry < newest && !place.is_met_by(situation))
}

/// Where each run of schema changes begins: those with little between them are one.
fn runs(schema_changes: &[u64], little: u64) -> Vec<u64> {
    let mut runs = Vec::new();
    let mut last = None;
    for entry in schema_changes {
        if last.is_none_or(|last| entry - last > little) {
            runs.push(*entry);
        }
        last = Some(*entry);
    }
    runs
}

/// Places in the gaps between those that are there anyway, so that no gap is longer than `coarse` times
/// `worth`, or than a `share`th of its distance from head. What is there already is used as far as it reaches: gaps may only grow as head moves on,
/// so that older keyframes are thinned out and new ones are made near head.
fn fill(
    situation: &Situation,
    fixed: &[u64],
    share: u64,
    coarse: u64,
    boundary: &dyn Fn(u64) -> u64,
) -> Vec<Wanted> {
    let head = situation.head;
    let worth = situation.worth.saturating_mul(coarse);
    let mut anyway: Vec<u64> = fixed.to_vec();
    anyway.extend(of_users(situation).map(|one| one.entry));
    anyway.sort_unstable();
    let for_distance = |keyframe: &&Standing| keyframe.reason == Reason::Distance;
    let there: Vec<u64> =
        situation.keyframes.iter().filter(for_distance).map(|keyframe| keyframe.entry).collect();
    let mut places = Vec::new();
    let mut last = situation.keyframes.first().map_or(0, |creation| creation.entry);
    loop {
        let gap = (head.saturating_sub(last) / share).max(worth).max(1);
        let reach = boundary(last.saturating_add(gap).min(head)).max(last + 1);
        let next_anyway = anyway[anyway.partition_point(|entry| *entry <= last)..].first().copied();
        if let Some(next) = next_anyway.filter(|next| *next <= reach) {
            last = next;
            continue;
        }
        // A little beyond is near enough not to make another for it.
        let until = reach.saturating_add(gap / 4);
        let kept = there[..there.partition_point(|entry| *entry <= until)].last().copied();
        let entry = match kept.filter(|entry| *entry > last) {
            Some(entry) => entry,
            // What is left before head is not worth one yet.
            None if reach.saturating_add(worth / 2) > head => break,
            None => reach,
        };
        places.push(Wanted { entry, reason: Reason::Distance });
        last = entry;
    }
    places
}

/// Those that no longer pay, and more than there is room for: spares of what is not wanted, keyframes at places that
/// are not wanted.
fn superfluous(situation: &Situation, wanted: &[Wanted], room: &Room) -> Vec<Action> {
    let keep_spares: Vec<u64> = situation.spares_wanted.iter().take(room.spares).copied().collect();
    let spares = situation.spares.iter().filter(|spare| !keep_spares.contains(&spare.entry));
    let is_ours = |keyframe: &&Standing| matches!(keyframe.reason, Reason::SchemaChange | Reason::Distance);
    let is_wanted = |keyframe: &Standing| wanted.iter().any(|one| one.entry == keyframe.entry);
    let keyframes = situation.keyframes.iter().filter(is_ours).filter(|keyframe| !is_wanted(keyframe));
    let remove = |standing: &Standing| Action::Remove { database: standing.database.clone() };
    spares.map(remove).chain(keyframes.map(remove)).collect()
}

/// Entries, with each transaction that changes the schema counted as some more.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scale {
    /// First entries of these transactions, in order.
    pub schema_changes: Vec<u64>,
    /// What each counts beside its entries.
    pub each: u64,
}

impl Scale {
    /// An entry on this scale.
    #[must_use]
    pub fn of(&self, entry: u64) -> u64 {
        let before = self.schema_changes.partition_point(|change| *change < entry);
        entry.saturating_add(self.each.saturating_mul(before as u64))
    }

    /// The entry that is there, or the last one before.
    #[must_use]
    pub fn entry(&self, scaled: u64) -> u64 {
        let (mut low, mut high) = (0, scaled);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.of(middle) <= scaled { low = middle } else { high = middle - 1 }
        }
        low
    }
}

#[cfg(test)]
mod tests;
