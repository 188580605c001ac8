//! What is read of each table, and in which parts. Pure.

use super::{
    shown,
    tables::{Listed, TableFacts},
};

/// Rows to a group, about: groups are compared, and of a differing one the rows are fetched.
const ROWS_IN_A_GROUP: u64 = 500;
/// Groups of a table at most: what bounds the memory.
const GROUPS: u64 = 16_384;
/// Pages to a range at least (16 MB).
const PAGES: u64 = 2_048;
/// Ranges of a table at most.
const RANGES: u64 = 256;

/// How a table is compared.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TablePlan {
    pub(super) name: (String, String),
    /// What each side says of it; the second is `None` throughout where only one database is read.
    pub(super) facts: [Option<TableFacts>; 2],
    /// The columns that are compared, with their types: those that both sides have.
    pub(super) columns: Vec<(String, String)>,
    /// How rows are put into groups and paired.
    pub(super) key: Key,
    pub(super) groups: u64,
}

/// By what the rows of the two sides are paired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Key {
    /// A primary key of one integer.
    Integer(String),
    /// Any other primary key.
    Columns(Vec<String>),
    /// Nothing: the rows are a multiset.
    None,
}

impl TablePlan {
    fn new(name: (String, String), facts: [Option<TableFacts>; 2]) -> Self {
        let [first, second] = &facts;
        let columns = match (first, second) {
            (Some(first), Some(second)) => {
                let is_there = |name: &str| second.columns.iter().any(|(there, _)| there == name);
                first.columns.iter().filter(|(name, _)| is_there(name)).cloned().collect()
            }
            (Some(one), None) | (None, Some(one)) => one.columns.clone(),
            (None, None) => Vec::new(),
        };
        let key = match (first, second) {
            (Some(first), Some(second)) if first.key == second.key => key_of(first, &columns),
            (Some(one), None) | (None, Some(one)) => key_of(one, &columns),
            _ => Key::None,
        };
        let estimate = facts.iter().flatten().map(|facts| facts.estimate.max(facts.pages * 20)).max();
        let groups = (estimate.unwrap_or(0) / ROWS_IN_A_GROUP).clamp(1, GROUPS);
        Self { name, facts, columns, key, groups }
    }

    /// Whether the log has its rows; else they are not promised to be the same.
    fn is_captured(&self) -> bool {
        self.facts[0].as_ref().is_none_or(|facts| facts.captured)
    }

    /// Its name as reports show it.
    pub(super) fn shown(&self) -> String {
        shown(&self.name.0, &self.name.1)
    }

    /// Whether a side has contents to be read.
    pub(super) fn has(&self, side: usize) -> bool {
        self.facts[side].as_ref().is_some_and(|facts| facts.populated)
    }

    /// The ranges of pages in which a side is read; the last one has no end.
    pub(super) fn ranges(&self, side: usize) -> Vec<(u64, Option<u64>)> {
        let pages = self.facts[side].as_ref().map_or(0, |facts| facts.pages);
        let step = PAGES.max(pages.div_ceil(RANGES));
        let starts: Vec<u64> =
            (0..pages.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect();
        let ends = starts.iter().skip(1).copied().map(Some).chain([None]);
        starts.iter().copied().zip(ends).collect()
    }
}

fn key_of(facts: &TableFacts, columns: &[(String, String)]) -> Key {
    let type_of =
        |name: &String| columns.iter().find(|(column, _)| column == name).map(|(_, of)| of.as_str());
    match facts.key.as_slice() {
        [] => Key::None,
        [one] if matches!(type_of(one), Some("int2" | "int4" | "int8")) => Key::Integer(one.clone()),
        key if key.iter().all(|name| type_of(name).is_some()) => Key::Columns(key.to_vec()),
        _ => Key::None,
    }
}

/// What is compared, and the names of what is not, because its rows are not captured.
pub(super) struct Planned {
    pub(super) plans: Vec<TablePlan>,
    pub(super) left_out: Vec<String>,
}

impl Planned {
    fn of(all: impl Iterator<Item = TablePlan>) -> Self {
        let (plans, left_out): (Vec<_>, Vec<_>) = all.partition(TablePlan::is_captured);
        Self { plans, left_out: left_out.iter().map(TablePlan::shown).collect() }
    }
}

/// How the tables of two databases are compared, in the order of their names. A materialised view without
/// contents on both sides is the schema's matter.
pub(super) fn of_two([mut first, mut second]: [Listed; 2]) -> Planned {
    let mut names: Vec<(String, String)> = first.keys().chain(second.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let plan = |name: (String, String)| {
        let facts = [first.remove(&name), second.remove(&name)];
        TablePlan::new(name, facts)
    };
    let all = names.into_iter().map(plan).filter(|plan| plan.has(0) || plan.has(1));
    Planned::of(all)
}

/// How the tables of one database are read, each as one group.
pub(super) fn of_one(listed: Listed) -> Planned {
    let plan = |(name, facts)| TablePlan { groups: 1, ..TablePlan::new(name, [Some(facts), None]) };
    Planned::of(listed.into_iter().map(plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pages: u64, key: &[&str], columns: &[(&str, &str)]) -> TableFacts {
        TableFacts {
            oid: 1,
            filenode: 1,
            pages,
            estimate: 0,
            populated: true,
            captured: true,
            columns: columns.iter().map(|(name, of)| ((*name).into(), (*of).into())).collect(),
            key: key.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn ranges_cover_every_page_once_and_the_last_has_no_end() {
        let plan = |pages| TablePlan::new(("s".into(), "t".into()), [Some(facts(pages, &[], &[])), None]);
        assert_eq!(plan(0).ranges(0), [(0, None)]);
        assert_eq!(plan(PAGES + 1).ranges(0), [(0, Some(PAGES)), (PAGES, None)]);
        let many = plan(PAGES * RANGES * 3).ranges(0);
        assert_eq!((many.len(), many[1].0), (256, PAGES * 3));
        assert_eq!((plan(0).groups, plan(u64::from(u32::MAX)).groups), (1, GROUPS));
    }

    #[test]
    fn what_both_sides_have_is_compared() {
        let columns = [("a", "int4"), ("b", "text")];
        let both = |one, two| TablePlan::new(("s".into(), "t".into()), [Some(one), Some(two)]);
        let plan = both(facts(1, &["a"], &columns), facts(1, &["a"], &columns[..1]));
        assert_eq!((plan.columns.len(), plan.key), (1, Key::Integer("a".into())));
        let plan = both(facts(1, &["a", "b"], &columns), facts(1, &["a", "b"], &columns));
        assert_eq!(plan.key, Key::Columns(vec!["a".into(), "b".into()]));
        assert_eq!(both(facts(1, &["a"], &columns), facts(1, &[], &columns)).key, Key::None);
    }

    #[test]
    fn what_is_not_captured_is_left_out_by_name() {
        let name = |name: &str| ("s".to_owned(), name.to_owned());
        let out = TableFacts { captured: false, ..facts(1, &[], &[]) };
        let primary = Listed::from([(name("a"), facts(1, &[], &[])), (name("b"), out)]);
        let replica = Listed::from([(name("a"), facts(1, &[], &[])), (name("b"), facts(1, &[], &[]))]);
        let planned = of_two([primary, replica]);
        assert_eq!((planned.plans.len(), planned.left_out), (1, vec!["\"s\".\"b\"".to_owned()]));
    }
}
