//! The first differences between two states, for people.

use super::{DatabaseState, TableState};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// How many differences a message shows.
const SHOWN: usize = 20;

/// Asserts that two databases are equal.
///
/// # Panics
/// When they are not, with the first differences (`-` only expected, `+` only there).
#[track_caller]
pub fn assert_equal_states(expected: &DatabaseState, actual: &DatabaseState) {
    let differences = expected.differences(actual);
    assert!(
        differences.is_empty(),
        "{} differs from {} in {} places:\n{}",
        actual.name,
        expected.name,
        differences.len(),
        differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n")
    );
}

impl DatabaseState {
    /// All differences, one text each; empty when the databases are equal.
    pub fn differences(&self, actual: &Self) -> Vec<String> {
        let mut found = lines("schema", &self.schema, &actual.schema);
        found.extend(values("sequence", &self.sequences, &actual.sequences));
        for (name, rows) in &self.tables {
            match actual.tables.get(name) {
                Some(there) if there != rows => found.extend(table(name, rows, there)),
                Some(_) => {}
                None => found.push(format!("- table {name} ({} rows)", rows.count)),
            }
        }
        let more = actual.tables.iter().filter(|(name, _)| !self.tables.contains_key(*name));
        found.extend(more.map(|(name, rows)| format!("+ table {name} ({} rows)", rows.count)));
        found
    }
}

fn table(name: &str, expected: &TableState, actual: &TableState) -> Vec<String> {
    match (&expected.rows, &actual.rows) {
        (Some(expected), Some(actual)) => lines(name, expected, actual),
        _ => vec![format!(
            "table {name}: {} rows expected, {} rows there, contents differ",
            expected.count, actual.count
        )],
    }
}

/// Differences of two sorted multisets.
fn lines(what: &str, expected: &[String], actual: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let (mut left, mut right) = (expected.iter().peekable(), actual.iter().peekable());
    loop {
        let (from, line) = match (left.peek(), right.peek()) {
            (None, None) => return found,
            (Some(l), Some(r)) if l == r => {
                left.next();
                right.next();
                continue;
            }
            (Some(l), Some(r)) if l > r => ("+", right.next()),
            (None, Some(_)) => ("+", right.next()),
            (Some(_), _) => ("-", left.next()),
        };
        found.extend(line.map(|line| format!("{from} {what}: {line}")));
    }
}

fn values<T: PartialEq + Debug>(
    what: &str,
    expected: &BTreeMap<String, T>,
    actual: &BTreeMap<String, T>,
) -> Vec<String> {
    let differing = expected.iter().filter(|(name, value)| actual.get(*name) != Some(*value));
    let more = actual.iter().filter(|(name, _)| !expected.contains_key(*name));
    differing
        .map(|(name, value)| format!("{what} {name}: {value:?} expected, {:?} there", actual.get(name)))
        .chain(more.map(|(name, value)| format!("+ {what} {name}: {value:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_as_multisets() {
        let owned = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
        let found = lines("t", &owned(&["1", "2", "2", "4"]), &owned(&["1", "2", "3"]));
        assert_eq!(found, ["- t: 2", "+ t: 3", "- t: 4"]);
        assert!(lines("t", &owned(&["1"]), &owned(&["1"])).is_empty());
    }
}
