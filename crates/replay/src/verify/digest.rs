//! Sums of hashes, by groups of rows, and which of them differ. Pure.

use std::collections::HashMap;

/// Groups of a table whose rows are fetched; the others differ too, but five rows are soon found.
const FETCHED: usize = 64;

/// What is known of some rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sum {
    pub(super) rows: u64,
    /// The sums of two 64-bit parts of each row's hash.
    pub(super) halves: [i128; 2],
}

impl Sum {
    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        for (here, there) in self.halves.iter_mut().zip(other.halves) {
            *here = here.wrapping_add(there);
        }
    }
}

/// One side of a table, by group.
pub(super) type Groups = HashMap<i32, Sum>;

/// How the two sides of a table came out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct TableDigest {
    /// Rows of each side that was read.
    pub(super) rows: [Option<u64>; 2],
    /// The whole first side.
    pub(super) sum: Sum,
    /// Whether both sides hold the same.
    pub(super) same: bool,
    /// Groups to look into, where both sides were read.
    pub(super) differing: Vec<i32>,
}

impl TableDigest {
    /// Compares; `None` for a side that has nothing to read.
    pub(super) fn of(sides: &[Option<Groups>; 2]) -> Self {
        let total = |groups: &Option<Groups>| {
            groups.as_ref().map(|groups| {
                let mut total = Sum::default();
                groups.values().for_each(|sum| total.add(*sum));
                total
            })
        };
        let totals = [total(&sides[0]), total(&sides[1])];
        let mut differing = Vec::new();
        if let [Some(first), Some(second)] = sides {
            let all = first.keys().chain(second.keys()).copied();
            differing = all.filter(|group| first.get(group) != second.get(group)).collect();
            differing.sort_unstable();
            differing.dedup();
        }
        let same = sides[0].is_some() == sides[1].is_some() && differing.is_empty();
        differing.truncate(FETCHED);
        Self {
            rows: totals.map(|total| total.map(|sum| sum.rows)),
            sum: totals[0].unwrap_or_default(),
            same,
            differing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(some: &[(i32, u64, i128)]) -> Option<Groups> {
        Some(some.iter().map(|(group, rows, sum)| (*group, Sum { rows: *rows, halves: [*sum, 0] })).collect())
    }

    #[test]
    fn a_group_that_one_side_lacks_or_has_otherwise_differs() {
        let digest = TableDigest::of(&[
            groups(&[(1, 1, 5), (2, 2, 7), (3, 1, 1)]),
            groups(&[(1, 1, 5), (2, 3, 7), (4, 1, 1)]),
        ]);
        assert_eq!((digest.rows, digest.same), ([Some(4), Some(5)], false));
        assert_eq!(digest.differing, [2, 3, 4]);
        assert!(TableDigest::of(&[groups(&[]), groups(&[])]).same);
        assert!(!TableDigest::of(&[groups(&[]), None]).same);
        assert!(TableDigest::of(&[None, None]).same, "two materialised views without contents");
    }
}
