//! Where replay cannot go on: exactly where it says, with nothing of that transaction, and what is left out then.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_log::{Decision, DecisionId, DecisionKind, TableName};
use ptr_model::{Position, Timestamp};
use ptr_replay::{
    Choice, Decisions, NavigateError, NavigateProgress, NavigateRequest, Notice, ReplayError, Stop, Strategy,
    navigate,
};
use ptr_testkit::{ServerVersion, assert_equal_states};
use support::World;

impl World {
    fn decide(&mut self, kinds: Vec<(Position, DecisionKind)>) {
        let decision = |(number, (from, kind)): (i64, (Position, DecisionKind))| Decision {
            id: DecisionId(number),
            session_id: self.session.session_id,
            from,
            kind,
            what: String::new(),
            decided_at: Timestamp(0),
        };
        self.decisions = Decisions::new((1..).zip(kinds).map(decision).collect());
    }
}

fn skip(stop: &Stop) -> (Position, DecisionKind) {
    (stop.position, DecisionKind::Skip { change: stop.change.unwrap(), entry: stop.entry })
}

async fn versions(test: impl AsyncFn(ServerVersion)) {
    for version in [ServerVersion::Debian15, ServerVersion::Pypi18] {
        test(version).await;
    }
}

#[tokio::test]
async fn rows_that_do_not_fit_stop_at_the_very_change_and_the_session_stands_before_its_transaction() {
    versions(async |version| {
        let schema = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'a' FROM
                      generate_series(1, 9) i";
        let mut world = World::new(version, schema).await;
        world.go(world.log.creation()).await;
        for row in 10..40 {
            world.sql(&format!("INSERT INTO t VALUES ({row}, 'b')")).await;
        }
        world.capture().await;
        let before = world.primary_state().await;
        world.sql("BEGIN; INSERT INTO t VALUES (40, 'c'); UPDATE t SET v = 'd' WHERE id = 7; COMMIT").await;
        world.sql("INSERT INTO t VALUES (41, 'e')").await;
        let head = world.capture().await;

        world.tamper("DELETE FROM t WHERE id = 7").await;
        let stop = world.stops(head).await;
        assert!(stop.mismatch, "{stop}");
        assert_eq!((stop.position.ordinal, stop.change, stop.entry), (30, Some(1), Some(31)));
        assert_eq!(stop.operation.as_deref(), Some("UPDATE"));
        assert_eq!(stop.table, Some(TableName::new("public", "t")));
        let choices = [Choice::Rebuild, Choice::Skip, Choice::Resync, Choice::LeaveOut, Choice::Stay];
        assert_eq!(stop.choices(), choices);
        world.tamper("INSERT INTO t VALUES (7, 'a')").await;
        assert_equal_states(&before, &world.session_state().await);

        world.tamper("DELETE FROM t WHERE id = 7").await;
        world.decide(vec![skip(&stop)]);
        let outcome = world.go(head).await;
        let what = "UPDATE of public.t (entry 31)".to_owned();
        assert_eq!(outcome.notices, [Notice::LeftOut { decision: 1, what }]);
        let rows = world.server.psql("session", "SELECT count(*), max(id) FROM t").await;
        assert_eq!(rows.trim(), "40|41");
    })
    .await;
}

#[tokio::test]
async fn a_statement_that_is_refused_is_left_out_each_time_the_session_passes() {
    versions(async |version| {
        let mut world = World::new(version, "CREATE TABLE t (id int PRIMARY KEY)").await;
        world.go(world.log.creation()).await;
        world.sql("INSERT INTO t VALUES (1)").await;
        world.capture().await;
        let before = world.primary_state().await;
        world.ddl("CREATE SCHEMA wanted; CREATE TABLE wanted.u (id int PRIMARY KEY)").await;
        world.sql("INSERT INTO t VALUES (2)").await;
        world.sql("INSERT INTO wanted.u VALUES (1)").await;
        world.sql("INSERT INTO t VALUES (3)").await;
        let head = world.capture().await;

        world.tamper("CREATE SCHEMA wanted").await;
        let stop = world.stops(head).await;
        assert_eq!((stop.position.ordinal, stop.sqlstate.as_deref()), (1, Some("42P06")));
        assert_eq!(stop.choices(), [Choice::Skip, Choice::Stay]);
        world.tamper("DROP SCHEMA wanted").await;
        assert_equal_states(&before, &world.session_state().await);

        // The statement's consequences stop it next, and its table is left out.
        world.decide(vec![skip(&stop)]);
        let next = world.stops(head).await;
        assert_eq!((next.position.ordinal, next.operation.as_deref()), (3, Some("INSERT")), "{next}");
        assert!(
            next.reason.contains("\"wanted\".\"u\"") && next.choices().contains(&Choice::LeaveOut),
            "{next}"
        );
        let table = TableName::new("wanted", "u");
        let leave_out = DecisionKind::LeaveOut { table, oid: None };
        world.decide(vec![skip(&stop), (next.position, leave_out)]);
        world.go(head).await;
        let rows = async || world.server.psql("session", "SELECT array_agg(id ORDER BY id) FROM t").await;
        assert_eq!(rows().await.trim(), "{1,2,3}");

        // Back to the beginning by keyframe, and over it again; back within the database too.
        let back = world.go(world.log.creation()).await;
        assert_eq!(back.strategy, Strategy::Keyframe);
        let outcome = world.go(head).await;
        assert_eq!(outcome.notices.len(), 2, "{:?}", outcome.notices);
        assert_eq!(rows().await.trim(), "{1,2,3}");
        let undone = world.go(world.log.position_at(2).unwrap()).await;
        assert_eq!(undone.strategy, Strategy::Undo);
        assert_eq!(rows().await.trim(), "{1}");
    })
    .await;
}

#[tokio::test]
async fn a_keyframe_move_that_stops_leaves_the_session_where_the_stop_says() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.go(world.log.creation()).await;
    world.sql("INSERT INTO t VALUES (1)").await;
    world.capture().await;
    let before = world.primary_state().await;
    // The replica refuses a statement that the primary's log has.
    let message = "SELECT pg_logical_emit_message(true, 'test-ddl', 'CREATE EXTENSION \"not there\"')";
    world.sql(&format!("BEGIN; INSERT INTO t VALUES (2); {message}; COMMIT")).await;
    world.sql("INSERT INTO t VALUES (3)").await;
    let head = world.capture().await;
    let stop = world.stops(head).await;
    assert_eq!((stop.change, stop.entry), (Some(1), Some(2)), "{stop}");
    world.decide(vec![skip(&stop)]);
    world.go(head).await;
    assert_equal_states(&world.primary_state().await, &world.session_state().await);

    world.decide(vec![]);
    let request = NavigateRequest { outdated: true, ..world.request(head) };
    let (progress, watched) = tokio::sync::watch::channel(NavigateProgress::default());
    let cancel = tokio_util::sync::CancellationToken::new();
    let error = navigate(&request, &progress, &cancel).await.expect_err("it stops again");
    assert!(matches!(error, NavigateError::Replay(ReplayError::Stopped(_))), "{error}");
    assert_eq!(watched.borrow().plan.as_ref().map(|plan| plan.strategy), Some(Strategy::Keyframe));
    assert_eq!(world.cursor().await, stop.position);
    assert_equal_states(&before, &world.session_state().await);
}

impl World {
    /// What the session holds at each of these positions, in a database made anew: the same as by single transactions
    /// and over many at once, forwards and backwards.
    async fn is_the_same_by_every_way(&self, positions: &[Position], sql: &str) -> Vec<String> {
        let mut known = Vec::new();
        for position in positions {
            self.rebuild(*position).await.unwrap_or_else(|error| panic!("to {position}: {error}"));
            known.push(self.server.psql("session", sql).await.trim().to_owned());
        }
        let (first, last) = (0, positions.len() - 1);
        let stepwise = (first..=last).chain((first..last).rev());
        let jumps = (first..=last).flat_map(|far| [far, last]);
        for index in stepwise.chain(jumps) {
            let way = self.go(positions[index]).await;
            let found = self.server.psql("session", sql).await;
            assert_eq!(found.trim(), known[index], "at {index}: {:?}, {}", way.strategy, way.reason);
        }
        known
    }
}

#[tokio::test]
async fn what_a_session_holds_behind_a_skipped_change_does_not_depend_on_the_way() {
    // So many rows that single ones are updated, not replaced.
    let schema = "CREATE TABLE t (id int PRIMARY KEY, a int, b int);
                  INSERT INTO t SELECT i, 0, 0 FROM generate_series(1, 1000) i";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    let mut positions = vec![world.log.creation()];
    for step in [
        "UPDATE t SET b = 1 WHERE id = 1",
        "UPDATE t SET a = 5 WHERE id = 1",
        "UPDATE t SET b = b + 1 WHERE id IN (1, 2)",
        "UPDATE t SET a = 6 WHERE id = 1; INSERT INTO t VALUES (1001, 7, 7)",
        "UPDATE t SET a = 5 WHERE id = 1; DELETE FROM t WHERE id = 2",
        "UPDATE t SET id = -1 WHERE id = 1",
    ] {
        world.sql(step).await;
        positions.push(world.capture().await);
    }
    world.go(positions[0]).await;
    let before = positions[1];
    world.decide(vec![(before, DecisionKind::Skip { change: 0, entry: Some(before.entry_index) })]);
    let rows =
        "SELECT string_agg(concat_ws(' ', id, a, b), ',' ORDER BY id) FROM t WHERE id NOT BETWEEN 3 AND 1000";
    let held = world.is_the_same_by_every_way(&positions, rows).await;
    // The row's next change brings all of it.
    let expected = [
        "1 0 0,2 0 0",
        "1 0 1,2 0 0",
        "1 0 1,2 0 0",
        "1 5 2,2 0 1",
        "1 6 2,2 0 1,1001 7 7",
        "1 5 2,1001 7 7",
        "-1 5 2,1001 7 7",
    ];
    assert_eq!(held, expected);
    // What lies before the skipped change is taken back as ever.
    world.go(positions[2]).await;
    assert_eq!(world.go(positions[0]).await.strategy, Strategy::Undo);
}

#[tokio::test]
async fn a_column_that_is_there_because_its_drop_was_skipped_keeps_its_values_by_every_way() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, a int, kept int);
                  INSERT INTO t SELECT i, 0, i FROM generate_series(1, 10) i";
    let mut world = World::new(ServerVersion::Debian15, schema).await;
    let mut positions = vec![world.log.creation()];
    world.ddl("ALTER TABLE t DROP COLUMN kept").await;
    positions.push(world.capture().await);
    for row in 1..=4 {
        world.sql(&format!("UPDATE t SET a = 1 WHERE id = {row}")).await;
        positions.push(world.capture().await);
    }
    world.go(positions[0]).await;
    world.decide(vec![(positions[0], DecisionKind::Skip { change: 0, entry: Some(0) })]);
    let held = world.is_the_same_by_every_way(&positions, "SELECT sum(a), sum(kept) FROM t").await;
    assert_eq!(held, ["0|55", "0|55", "1|55", "2|55", "3|55", "4|55"]);
}
