//! Records in memory, and which relations they mention.

/// Memory that is kept from one block to the next.
const KEPT_BYTES: usize = 2 << 20;

/// Records that will become one block.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) records: Vec<u8>,
    pub(super) mentions: Mentions,
    /// The ordinal of the first record's transaction.
    pub(super) first_ordinal: u64,
    /// Entries of the log before the first record.
    pub(super) first_entry: u64,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.records.shrink_to(KEPT_BYTES);
        self.mentions.clear();
    }

    /// Takes everything out of `other`.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.records.extend_from_slice(&other.records);
        for place in &other.mentions.places {
            self.mentions.add(*place);
        }
        other.clear();
    }
}

/// A set of places in the relation table, in order of first mention.
#[derive(Default)]
pub(super) struct Mentions {
    places: Vec<usize>,
    /// For each place the round in which it was mentioned last.
    rounds: Vec<u64>,
    round: u64,
}

impl Mentions {
    pub(super) fn add(&mut self, place: usize) {
        if place >= self.rounds.len() {
            self.rounds.resize(place + 1, 0);
        }
        // Rounds are counted from 1, so that 0 is never.
        if self.rounds[place] != self.round + 1 {
            self.rounds[place] = self.round + 1;
            self.places.push(place);
        }
    }

    pub(super) fn places(&self) -> &[usize] {
        &self.places
    }

    fn clear(&mut self) {
        self.places.clear();
        self.round += 1;
    }
}
