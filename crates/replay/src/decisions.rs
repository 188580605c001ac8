//! What a session leaves out, as far as replay is concerned. Pure: decisions and a place in the log in, whether a
//! change is applied out.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use ptr_log::{Decision, DecisionKind, TableName};
use ptr_model::{Change, Oid, Position, Relation};

/// A session's decisions.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    all: Vec<Decision>,
    /// The folder of what was taken from the primary.
    contents: PathBuf,
}

/// What becomes of a change.
#[derive(Debug)]
pub(crate) enum Ruling<'a> {
    /// It is applied; of a TRUNCATE, what is left of it.
    Apply(Change),
    /// It is left out, by that decision.
    LeaveOut(Change, &'a Decision),
}

/// A table that gets the primary's rows, before the transaction ends that leads to the position they are of.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) decision: &'a Decision,
    pub(crate) table: &'a TableName,
    pub(crate) folder: PathBuf,
}

/// Which tables the schema changes of a transaction were about: rows of what one rewrote follow it and name the
/// table only, as it is called by then.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<TableName, Oid>);

impl Names {
    /// Sees a change of the transaction.
    pub(crate) fn learn(&mut self, change: &Change) {
        let Change::Schema(change) = change else { return };
        let named = |object: &ptr_model::AffectedObject| {
            Some((object.identity.parse().ok()?, Oid(object.oid))).filter(|(_, oid)| oid.0 != 0)
        };
        self.0.extend(change.objects.iter().filter_map(named));
    }
}

/// What one decision did to a database that stands at a position.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Trace {
    Skipped { ordinal: u64, change: u64 },
    LeftOut { since: u64, table: String },
    Loaded { since: u64, table: String, contents: String },
}

impl Decisions {
    /// Of one session.
    #[must_use]
    pub fn new(decisions: Vec<Decision>) -> Self {
        Self { all: decisions, contents: PathBuf::new() }
    }

    /// Where the contents are that were taken from the primary for them.
    #[must_use]
    pub fn with_contents_in(self, folder: &Path) -> Self {
        Self { contents: folder.to_owned(), ..self }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Transactions before the first one that a decision is about: images up to there are those of any session.
    #[must_use]
    pub fn first_ordinal(&self) -> Option<u64> {
        self.all.iter().map(Self::first_of).min()
    }

    /// Transactions before the first one that a decision is about. Rows from the primary go in with the transaction that
    /// leads to the position they are of, also where none of the table's changes is left out before.
    #[must_use]
    pub fn first_of(decision: &Decision) -> u64 {
        match &decision.kind {
            DecisionKind::Resync { until, .. } => decision.from.ordinal.min(until.ordinal.saturating_sub(1)),
            DecisionKind::Skip { .. } | DecisionKind::LeaveOut { .. } => decision.from.ordinal,
        }
    }

    /// Whether a change was skipped up to and with that transaction. A row may then be another than its next change says
    /// that it was; that change sets all of it.
    pub(crate) fn skipped_by(&self, ordinal: u64) -> bool {
        let is_skip = |kind: &DecisionKind| matches!(kind, DecisionKind::Skip { .. });
        self.all.iter().any(|decision| decision.from.ordinal <= ordinal && is_skip(&decision.kind))
    }

    /// Whether that change is skipped by itself.
    pub(crate) fn skips(&self, ordinal: u64, number: u64) -> bool {
        self.skip_of(ordinal, number).is_some()
    }

    fn skip_of(&self, ordinal: u64, number: u64) -> Option<&Decision> {
        let is_meant =
            |kind: &DecisionKind| matches!(kind, DecisionKind::Skip { change, .. } if *change == number);
        self.all.iter().find(|decision| decision.from.ordinal == ordinal && is_meant(&decision.kind))
    }

    /// What becomes of the change number `number` of the transaction number `ordinal`.
    pub(crate) fn rule(&self, ordinal: u64, number: u64, change: Change, names: &Names) -> Ruling<'_> {
        if let Some(decision) = self.skip_of(ordinal, number) {
            return Ruling::LeaveOut(change, decision);
        }
        match &change {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. } => match self.leaving_out(ordinal, relation) {
                Some(decision) => Ruling::LeaveOut(change, decision),
                None => Ruling::Apply(change),
            },
            Change::Truncate { relations, options } => {
                let stays = |relation: &&Arc<Relation>| self.leaving_out(ordinal, relation).is_none();
                let left: Vec<_> = relations.iter().filter(stays).cloned().collect();
                match relations.first().and_then(|relation| self.leaving_out(ordinal, relation)) {
                    Some(decision) if left.is_empty() => Ruling::LeaveOut(change, decision),
                    _ => Ruling::Apply(Change::Truncate { relations: left, options: *options }),
                }
            }
            Change::Rows(rows) => match self.leaving_out_named(ordinal, &rows.relation, names) {
                Some(decision) => Ruling::LeaveOut(change, decision),
                None => Ruling::Apply(change),
            },
            Change::Schema(_) | Change::Gap(_) | Change::Message(_) => Ruling::Apply(change),
        }
    }

    /// The decision by which rows of a table, by its quoted name, are left out of a transaction.
    pub(crate) fn leaving_out_named(&self, ordinal: u64, written: &str, names: &Names) -> Option<&Decision> {
        let name: TableName = written.parse().ok()?;
        let oid = names.0.get(&name).copied();
        self.leaving_out_table(ordinal, &name, oid)
    }

    fn leaving_out(&self, ordinal: u64, relation: &Relation) -> Option<&Decision> {
        let name = TableName::new(&relation.schema, &relation.name);
        self.leaving_out_table(ordinal, &name, Some(relation.oid))
    }

    /// Told by the oid where both sides have one, else by the name.
    fn leaving_out_table(&self, ordinal: u64, name: &TableName, oid: Option<Oid>) -> Option<&Decision> {
        let meant = |table: &TableName, decided: Option<Oid>| match (decided, oid) {
            (Some(decided), Some(oid)) => decided == oid,
            _ => table == name,
        };
        self.of_tables(ordinal).find(|(_, table, oid)| meant(table, *oid)).map(|(decision, ..)| decision)
    }

    fn of_tables(&self, ordinal: u64) -> impl Iterator<Item = (&Decision, &TableName, Option<Oid>)> {
        self.all.iter().filter(move |decision| decision.from.ordinal <= ordinal).filter_map(move |decision| {
            match &decision.kind {
                DecisionKind::LeaveOut { table, oid } => Some((decision, table, *oid)),
                DecisionKind::Resync { table, oid, until, .. } if ordinal < until.ordinal => {
                    Some((decision, table, *oid))
                }
                DecisionKind::Resync { .. } | DecisionKind::Skip { .. } => None,
            }
        })
    }

    /// Tables that get the primary's rows where the database arrives at `ordinal`.
    pub(crate) fn loads_at(&self, ordinal: u64) -> impl Iterator<Item = Load<'_>> {
        self.all.iter().filter_map(move |decision| match &decision.kind {
            DecisionKind::Resync { table, until, contents, .. } if until.ordinal == ordinal => {
                Some(Load { decision, table, folder: self.contents.join(contents) })
            }
            _ => None,
        })
    }

    /// Whether a database that stands at `ordinal` is the same under these decisions as under those. Rather not
    /// than wrongly so.
    #[must_use]
    pub fn same_at(&self, ordinal: u64, other: &Self) -> bool {
        self.traces(ordinal) == other.traces(ordinal)
    }

    fn traces(&self, at: u64) -> BTreeSet<Trace> {
        let trace = |decision: &Decision| {
            let since = decision.from.ordinal;
            let left_out =
                |table: &TableName| (since < at).then(|| Trace::LeftOut { since, table: table.to_string() });
            match &decision.kind {
                DecisionKind::Skip { change, .. } => {
                    (since < at).then_some(Trace::Skipped { ordinal: since, change: *change })
                }
                DecisionKind::LeaveOut { table, .. } => left_out(table),
                DecisionKind::Resync { until, table, .. } if at < until.ordinal => left_out(table),
                DecisionKind::Resync { table, contents, .. } => {
                    let (table, contents) = (table.to_string(), contents.clone());
                    Some(Trace::Loaded { since, table, contents })
                }
            }
        };
        self.all.iter().filter_map(trace).collect()
    }

    /// Whether a table got the primary's rows between two positions: what it held before is not known there.
    pub(crate) fn resync_between(&self, earlier: Position, later: Position) -> bool {
        let range = earlier.ordinal + 1..=later.ordinal;
        self.all.iter().any(|decision| {
            matches!(&decision.kind, DecisionKind::Resync { until, .. } if range.contains(&until.ordinal))
        })
    }
}

#[cfg(test)]
mod tests {
    use ptr_log::{
        DecisionId,
        DecisionKind::{LeaveOut, Resync, Skip},
    };
    use ptr_model::{Lsn, Message, ReplicaIdentity, SessionId, Timestamp, TruncateOptions, Tuple};
    use uuid::Uuid;

    use super::*;

    fn at(ordinal: u64) -> Position {
        Position { ordinal, lsn: Lsn(ordinal), entry_index: ordinal }
    }

    fn decisions(all: Vec<(u64, DecisionKind)>) -> Decisions {
        let decision = |(number, (ordinal, kind)): (usize, (u64, DecisionKind))| Decision {
            id: DecisionId(i64::try_from(number).unwrap()),
            session_id: SessionId(Uuid::nil()),
            from: at(ordinal),
            kind,
            what: String::new(),
            decided_at: Timestamp(0),
        };
        Decisions::new(all.into_iter().enumerate().map(decision).collect())
    }

    fn relation(oid: u32, name: &str) -> Arc<Relation> {
        Arc::new(Relation {
            oid: Oid(oid),
            schema: "s".into(),
            name: name.into(),
            replica_identity: ReplicaIdentity::Full,
            columns: vec![],
        })
    }

    fn insert(oid: u32, name: &str) -> Change {
        Change::Insert { relation: relation(oid, name), new: Tuple(vec![]) }
    }

    fn applies(decisions: &Decisions, ordinal: u64, number: u64, change: Change) -> bool {
        matches!(decisions.rule(ordinal, number, change, &Names::default()), Ruling::Apply(_))
    }

    #[test]
    fn one_change_of_one_transaction_is_skipped() {
        let decisions = decisions(vec![(3, Skip { change: 1, entry: None })]);
        assert!(!applies(&decisions, 3, 1, insert(1, "t")));
        assert!(applies(&decisions, 3, 0, insert(1, "t")));
        assert!(applies(&decisions, 4, 1, insert(1, "t")));
    }

    #[test]
    fn a_table_is_left_out_from_there_on_whatever_it_is_called_then() {
        let table = TableName::new("s", "t");
        let decisions = decisions(vec![(3, LeaveOut { table, oid: Some(Oid(1)) })]);
        assert!(applies(&decisions, 2, 0, insert(1, "t")));
        assert!(!applies(&decisions, 3, 0, insert(1, "t")));
        assert!(!applies(&decisions, 9, 0, insert(1, "renamed")));
        assert!(applies(&decisions, 9, 0, insert(2, "t")), "another table of that name");
    }

    #[test]
    fn a_table_that_is_taken_from_the_primary_is_replayed_from_there_on() {
        let table = TableName::new("s", "t");
        let decisions = decisions(vec![(3, Resync { table, oid: None, until: at(5), contents: "c".into() })]);
        assert!(!applies(&decisions, 4, 0, insert(1, "t")));
        assert!(applies(&decisions, 5, 0, insert(1, "t")));
        assert!(decisions.resync_between(at(4), at(5)) && !decisions.resync_between(at(5), at(9)));
    }

    #[test]
    fn images_of_any_session_are_from_before_the_rows_that_one_takes_from_the_primary() {
        let resync = |from, until| {
            let table = TableName::new("s", "t");
            decisions(vec![(from, Resync { table, oid: None, until: at(until), contents: "c".into() })])
        };
        assert_eq!(resync(3, 5).first_ordinal(), Some(3));
        assert_eq!(resync(5, 5).first_ordinal(), Some(4), "they go in with the transaction before");
    }

    #[test]
    fn old_rows_are_not_sure_from_the_first_skipped_change_on() {
        let table = TableName::new("s", "t");
        let both = vec![(2, LeaveOut { table, oid: None }), (4, Skip { change: 0, entry: None })];
        let decisions = decisions(both);
        assert!(!decisions.skipped_by(3) && decisions.skipped_by(4) && decisions.skipped_by(9));
    }

    #[test]
    fn rows_that_a_rewrite_left_are_known_by_what_the_schema_change_was_about() {
        let decisions = decisions(vec![(3, LeaveOut { table: TableName::new("s", "t"), oid: Some(Oid(1)) })]);
        let of = |oid| {
            let mut names = Names::default();
            let named = HashMap::from([(TableName::new("s", "renamed"), Oid(oid))]);
            names.0.extend(named);
            names
        };
        let left_out = |oid| decisions.leaving_out_named(4, r#""s"."renamed""#, &of(oid)).is_some();
        assert!(left_out(1) && !left_out(2));
        assert!(decisions.leaving_out_named(4, "s.t", &Names::default()).is_some());
    }

    #[test]
    fn a_database_is_the_same_where_no_change_of_mind_lies_behind_it() {
        let table = || TableName::new("s", "t");
        let left_out = decisions(vec![(3, LeaveOut { table: table(), oid: None })]);
        let taken = |contents: &str| {
            let (until, contents) = (at(7), contents.into());
            decisions(vec![(3, Resync { table: table(), oid: None, until, contents })])
        };
        let nothing = Decisions::default();
        assert!(nothing.same_at(3, &left_out) && !nothing.same_at(4, &left_out));
        assert!(left_out.same_at(6, &taken("a")) && !left_out.same_at(7, &taken("a")));
        assert!(taken("a").same_at(6, &taken("b")) && !taken("a").same_at(7, &taken("b")));
    }

    #[test]
    fn of_a_truncate_the_other_tables_are_emptied() {
        let decisions = decisions(vec![(0, LeaveOut { table: TableName::new("s", "t"), oid: None })]);
        let truncate = |relations| Change::Truncate { relations, options: TruncateOptions::default() };
        let both = truncate(vec![relation(1, "t"), relation(2, "u")]);
        match decisions.rule(0, 0, both, &Names::default()) {
            Ruling::Apply(Change::Truncate { relations, .. }) => assert_eq!(relations, [relation(2, "u")]),
            other => panic!("{other:?}"),
        }
        assert!(!applies(&decisions, 0, 0, truncate(vec![relation(1, "t")])));
        let message = Message { prefix: String::new(), content: bytes::Bytes::new(), transactional: true };
        assert!(applies(&decisions, 0, 0, Change::Message(message)));
    }
}
