//! Keyframes and spares on a real server: what is made from them equals what the primary held, and what a crash
//! leaves of one in the making is recognised and removed.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::time::Duration;

use ptr_model::Position;
use ptr_replay::{
    Keyframe, KeyframeError, Keyframes, Strategy,
    keyframe::{Kind, Mark, Reason},
    plan::PlanStep,
};
use ptr_testkit::{DatabaseState, ServerVersion, assert_equal_states};
use support::{World, ddl_in};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SHOP: &str =
    "CREATE TABLE item (id serial PRIMARY KEY, name text, n int); CREATE TABLE log (line text);
    INSERT INTO item (name, n) SELECT 'item ' || i, i FROM generate_series(1, 200) i";

impl World {
    fn keyframes(&self) -> Keyframes {
        self.session.keyframes()
    }

    async fn make(&self, at: Position) -> Keyframe {
        self.make_for(at, Reason::Manual).await
    }

    async fn make_for(&self, at: Position, reason: Reason) -> Keyframe {
        let (_moves, mut quiet) = watch::channel(0);
        let cancel = CancellationToken::new();
        let made = self.keyframes().make(&self.log, at, reason, &mut quiet, &cancel).await;
        made.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn make_spare(&self, keyframe: &Keyframe) -> Keyframe {
        let (_moves, mut quiet) = watch::channel(0);
        let cancel = CancellationToken::new();
        let made = self.keyframes().make_spare(keyframe, &mut quiet, &cancel).await;
        made.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Names of all databases but those that every server has.
    async fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1', 'shop')
                   ORDER BY 1";
        self.server.psql("postgres", sql).await.lines().map(str::to_owned).collect()
    }

    /// A history with rows, schema changes and a TRUNCATE, and what the primary held at each position.
    async fn history(&mut self) -> Vec<(Position, DatabaseState)> {
        let steps = [
            "UPDATE item SET n = n + 1 WHERE id % 3 = 0; INSERT INTO log VALUES ('first')".to_owned(),
            "DELETE FROM item WHERE id > 150".to_owned(),
            ddl_in("ALTER TABLE item ADD price numeric DEFAULT 7"),
            "UPDATE item SET price = n WHERE id < 50".to_owned(),
            ddl_in("CREATE TABLE later (id int PRIMARY KEY)") + "; ALTER TABLE later REPLICA IDENTITY FULL",
            "INSERT INTO later SELECT generate_series(1, 100); INSERT INTO item (name) VALUES ('new')"
                .to_owned(),
            "TRUNCATE log".to_owned(),
            "INSERT INTO log SELECT 'line ' || i FROM generate_series(1, 50) i".to_owned(),
            "UPDATE item SET name = upper(name)".to_owned(),
        ];
        let mut kept = vec![(self.log.creation(), self.primary_state().await)];
        for step in steps {
            self.sql(&format!("BEGIN; {step}; COMMIT")).await;
            kept.push((self.capture().await, self.primary_state().await));
        }
        kept
    }
}

async fn every_position_is_exact_from_every_keyframe(version: ServerVersion) {
    let mut world = World::new(version, SHOP).await;
    let kept = world.history().await;
    for (at, _) in [&kept[2], &kept[4], &kept[8]] {
        world.make(*at).await;
    }
    let images = world.keyframes().list().await.unwrap();
    let places: Vec<u64> = images.keyframes.iter().map(|keyframe| keyframe.position.ordinal).collect();
    assert_eq!(places, [0, 2, 4, 8]);
    let mut used = Vec::new();
    for round in 0..2 {
        for index in [9, 0, 4, 2, 9, 3, 7, 1, 6, 8, 5] {
            if round == 1 {
                let nearest = world.keyframes().list().await.unwrap();
                world.make_spare(nearest.before(kept[index].0).unwrap()).await;
            }
            let (position, expected) = &kept[index];
            let outcome = world.go(*position).await;
            assert_equal_states(expected, &world.session_state().await);
            used.extend(outcome.plan.steps);
            world.keyframes().sweep().await.unwrap();
        }
    }
    let of = |is: fn(&PlanStep) -> bool| used.iter().any(is);
    assert!(of(|step| matches!(step, PlanStep::Clone { at, .. } if at.ordinal > 0)));
    assert!(of(|step| matches!(step, PlanStep::Spare { .. })));
    // What is left is the session, the keyframes, and spares of them.
    let images = world.keyframes().list().await.unwrap();
    let known = images.keyframes.iter().chain(&images.spares).map(|image| image.database.clone());
    let mut known: Vec<String> = known.chain(["session".to_owned()]).collect();
    known.sort();
    assert_eq!(world.databases().await, known);
}

#[tokio::test]
async fn every_position_is_exact_from_every_keyframe_on_15() {
    every_position_is_exact_from_every_keyframe(ServerVersion::Debian15).await;
}

#[tokio::test]
async fn every_position_is_exact_from_every_keyframe_on_18() {
    every_position_is_exact_from_every_keyframe(ServerVersion::Pypi18).await;
}

#[tokio::test]
async fn a_keyframe_behind_a_decision_is_not_used_for_the_session_that_decided() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE a (id int PRIMARY KEY)").await;
    world.sql("INSERT INTO a VALUES (1)").await;
    let first = world.capture().await;
    world.sql("INSERT INTO a VALUES (2)").await;
    let second = world.capture().await;
    world.make(second).await;
    world.decisions = ptr_replay::Decisions::new(vec![ptr_log::Decision {
        id: ptr_log::DecisionId(1),
        session_id: world.session.session_id,
        from: first,
        kind: ptr_log::DecisionKind::Skip { change: 0, entry: Some(1) },
        what: "a row".into(),
        decided_at: ptr_model::Timestamp(0),
    }]);
    let outcome = world.go(second).await;
    assert!(matches!(outcome.plan.steps[0], PlanStep::Clone { at, .. } if at.ordinal == 0), "{outcome:?}");
    assert_eq!(world.server.psql("session", "SELECT array_agg(id) FROM a").await.trim(), "{1}");
}

#[tokio::test]
async fn what_was_left_out_on_the_way_to_a_keyframe_is_told_by_moves_that_begin_there() {
    let mut world = World::new(ServerVersion::Debian15, "CREATE TABLE a (id int PRIMARY KEY)").await;
    let subscription = "CREATE SUBSCRIPTION elsewhere CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE)";
    let log_it = format!("SELECT pg_logical_emit_message(true, 'test-ddl', $q${subscription}$q$)");
    world.sql(&format!("BEGIN; {log_it}; INSERT INTO a VALUES (1); COMMIT")).await;
    let end = world.capture().await;
    let expected = world.go(end).await.notices;
    assert_eq!(expected.len(), 1, "{expected:?}");
    world.make(end).await;
    world.session.delete().await.unwrap();
    let outcome = world.go(end).await;
    assert!(matches!(outcome.plan.steps[0], PlanStep::Clone { at, .. } if at == end), "{outcome:?}");
    assert_eq!(outcome.notices, expected);
}

#[tokio::test]
async fn what_was_made_by_itself_stays_once_somebody_asks_for_it() {
    let mut world = World::new(ServerVersion::Debian15, SHOP).await;
    let kept = world.history().await;
    let at = kept[3].0;
    for (asked, is) in [
        (Reason::SchemaChange, Reason::SchemaChange),
        (Reason::Manual, Reason::Manual),
        (Reason::Distance, Reason::Manual),
    ] {
        assert_eq!(world.make_for(at, asked).await.reason, is);
        let all = world.keyframes().list().await.unwrap().keyframes;
        let listed: Vec<Reason> = all.iter().filter(|one| one.position == at).map(|one| one.reason).collect();
        assert_eq!(listed, [is]);
    }
}

#[tokio::test]
async fn creation_stays_and_others_go_with_their_spares() {
    let mut world = World::new(ServerVersion::Debian15, SHOP).await;
    let kept = world.history().await;
    let made = world.make(kept[4].0).await;
    world.make_spare(&made).await;
    let creation = world.keyframes().list().await.unwrap().keyframes[0].clone();
    let refused = world.keyframes().remove(&creation.database).await.expect_err("it is the base of all");
    assert!(matches!(refused, KeyframeError::Creation), "{refused}");
    world.keyframes().remove(&made.database).await.unwrap();
    let unknown = world.keyframes().remove(&made.database).await.expect_err("it is gone");
    assert!(matches!(unknown, KeyframeError::NotFound { .. }), "{unknown}");
    assert_eq!(world.databases().await, [creation.database]);
}

#[tokio::test]
async fn whoever_makes_a_keyframe_waits_for_moves_and_can_be_interrupted() {
    let mut world = World::new(ServerVersion::Debian15, SHOP).await;
    let kept = world.history().await;
    let (moves, mut quiet) = watch::channel(1);
    let cancel = CancellationToken::new();
    let keyframes = world.keyframes();
    let made = keyframes.make(&world.log, kept[3].0, Reason::Manual, &mut quiet, &cancel);
    tokio::pin!(made);
    // It is polled as long as the move goes on, and does not get on.
    let moving = world.go(kept[5].0);
    tokio::select! {
        _ = &mut made => panic!("it was made during a move"),
        _ = moving => {}
    }
    assert_eq!(keyframes.list().await.unwrap().keyframes.len(), 1);
    moves.send(0).unwrap();
    assert_eq!(made.await.unwrap().position, kept[3].0);

    moves.send(1).unwrap();
    let mut again = moves.subscribe();
    let interrupted = keyframes.make(&world.log, kept[8].0, Reason::Manual, &mut again, &cancel);
    let (outcome, ()) = tokio::join!(interrupted, async { cancel.cancel() });
    assert!(matches!(outcome, Err(KeyframeError::Cancelled)), "{outcome:?}");
    assert_eq!(keyframes.list().await.unwrap().keyframes.len(), 2);
}

/// All that may be left of a keyframe, a spare and a swap by a crash at each of their stages, made by hand.
#[tokio::test]
async fn what_a_crash_leaves_is_recognised_and_what_is_not_ours_stays() {
    let mut world = World::new(ServerVersion::Debian15, SHOP).await;
    let kept = world.history().await;
    world.go(kept[5].0).await;
    let before = world.databases().await;
    let template = &world.keyframes().list().await.unwrap().keyframes[0].database.clone();
    let prefix = template.strip_suffix("creation").unwrap();
    let log_id = world.session.log_id;
    let mark = |kind| {
        let (reason, position) = (Reason::Distance, kept[3].0);
        Mark { kind, log_id, position, reason, bytes: 1, notices: vec![] }.comment()
    };
    let sql = async |sql: String| world.server.psql("postgres", &sql).await;
    // Copied and not marked; marked as unfinished, open and closed; a finished mark on a database that is open.
    sql(format!("CREATE DATABASE {prefix}3 TEMPLATE {template}")).await;
    sql(format!("CREATE DATABASE {prefix}3_spare TEMPLATE {template}")).await;
    for (number, (kind, allow)) in
        [(Kind::Unfinished, true), (Kind::Unfinished, false), (Kind::Keyframe, true)].into_iter().enumerate()
    {
        let name = format!("{prefix}{}", 4 + number);
        sql(format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        sql(format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allow}")).await;
        sql(format!("COMMENT ON DATABASE {name} IS $c${}$c$", mark(kind))).await;
    }
    // Swapped and not dropped; a drop that was interrupted.
    sql(format!("CREATE DATABASE whatever TEMPLATE {template}")).await;
    sql(format!("COMMENT ON DATABASE whatever IS $c${}$c$", mark(Kind::Discarded))).await;
    sql(format!("CREATE DATABASE {prefix}9 TEMPLATE {template}")).await;
    sql(format!("COMMENT ON DATABASE {prefix}9 IS $c${}$c$", mark(Kind::Keyframe))).await;
    sql(format!("ALTER DATABASE {prefix}9 WITH ALLOW_CONNECTIONS false")).await;
    sql(format!("UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{prefix}9'")).await;
    // Of the same kind of name, and somebody else's.
    sql(format!("CREATE DATABASE {prefix}77")).await;
    let images = world.keyframes().list().await.unwrap();
    assert_eq!((images.keyframes.len(), images.spares.len()), (1, 0), "{images:?}");
    // Somebody is making them at the moment, as far as one can tell.
    let maker = world.server.client("postgres").await;
    let lock =
        format!("SELECT pg_advisory_lock(hashtextextended('postgres-test-replay keyframes of {log_id}', 0))");
    maker.batch_execute(&lock).await.unwrap();
    let gone = world.keyframes().sweep().await.unwrap();
    assert_eq!(gone.len(), 2, "{gone:?}");
    maker.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    world.keyframes().sweep().await.unwrap();
    let mut expected = before;
    expected.push(format!("{prefix}77"));
    expected.sort();
    assert_eq!(world.databases().await, expected);
    assert_eq!(world.cursor().await, kept[5].0);
}

/// Connections are killed at random while keyframes and spares are made and sessions swapped.
#[tokio::test]
async fn wherever_connections_are_lost_the_session_is_at_a_position_and_nothing_is_left_over() {
    let mut world = World::new(ServerVersion::Debian15, SHOP).await;
    let kept = world.history().await;
    world.go(kept[9].0).await;
    let seed: u64 = std::env::var("PTR_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("seed {seed}");
    let killer = world.server.client("postgres").await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'postgres-test-replay'";
    let (_moves, mut quiet) = watch::channel(0);
    let cancel = CancellationToken::new();
    let keyframes = world.keyframes();
    let mut random = seed;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..24 {
        let index = usize::try_from(next(10)).unwrap();
        let (position, expected) = &kept[index];
        let after = Duration::from_millis(next(400));
        let work = async {
            let made = keyframes.make(&world.log, *position, Reason::Distance, &mut quiet, &cancel).await?;
            keyframes.make_spare(&made, &mut quiet, &cancel).await?;
            world.try_go(*position).await?;
            Ok::<_, KeyframeError>(())
        };
        let killing = async {
            tokio::time::sleep(after).await;
            killer.query_one(kill, &[]).await.unwrap();
        };
        let (outcome, ()) = tokio::join!(work, killing);
        println!("round {round}: to {index}, killed after {after:?}: {outcome:?}");
        // Wherever it is, it is whole.
        let at = world.cursor().await;
        let (_, there) = kept.iter().find(|(position, _)| *position == at).expect("a position that is known");
        assert_equal_states(there, &world.session_state().await);
        keyframes.sweep().await.unwrap();
        // And everything goes on from there.
        world.go(*position).await;
        assert_equal_states(expected, &world.session_state().await);
        keyframes.sweep().await.unwrap();
        let images = keyframes.list().await.unwrap();
        assert!(images.unfinished.is_empty() && images.discarded.is_empty(), "{images:?}");
        let known = images.keyframes.iter().chain(&images.spares).map(|image| image.database.clone());
        let mut known: Vec<String> = known.chain(["session".to_owned()]).collect();
        known.sort();
        assert_eq!(world.databases().await, known);
        if round % 3 == 2 {
            for keyframe in images.keyframes.iter().filter(|one| one.reason != Reason::Creation) {
                keyframes.remove(&keyframe.database).await.unwrap();
            }
        }
    }
    let strategy = world.go(kept[0].0).await.strategy;
    assert!(matches!(strategy, Strategy::Keyframe | Strategy::Nothing | Strategy::Undo));
}

/// A keyframe has what was committed, and nothing of the primary's sessions.
#[tokio::test]
async fn what_needs_a_temporary_table_from_before_the_keyframe_is_reached_from_creation() {
    let mut world = World::set_up(ServerVersion::Debian15, SHOP).await;
    world.sql("CREATE TEMP TABLE draft (id int, note text)").await;
    world.sql("UPDATE item SET n = 0 WHERE id < 10").await;
    let at = world.capture().await;
    world.make(at).await;
    world.sql("CREATE TABLE made (LIKE draft); INSERT INTO made VALUES (1, 'x')").await;
    let end = world.capture().await;
    let expected = world.primary_state().await;
    let outcome = world.go(end).await;
    assert_equal_states(&expected, &world.session_state().await);
    assert!(
        outcome.reason.contains("from the keyframe that was nearer, replay stopped"),
        "{}",
        outcome.reason
    );
    let from = outcome.plan.steps.iter().find_map(|step| match step {
        PlanStep::Clone { at, .. } => Some(*at),
        _ => None,
    });
    assert_eq!(from, Some(world.log.creation()));
}

/// The template of CREATION was dropped by hand, so nothing leads past the stop.
#[tokio::test]
async fn a_stop_from_a_keyframe_leaves_nothing_of_what_was_written_locally() {
    let mut world = World::set_up(ServerVersion::Debian15, SHOP).await;
    world.go(world.log.creation()).await;
    world.sql("CREATE TEMP TABLE draft (id int, note text)").await;
    world.sql("UPDATE item SET n = 0 WHERE id < 10").await;
    let at = world.capture().await;
    let expected = world.primary_state().await;
    world.make(at).await;
    world.sql("CREATE TABLE made (LIKE draft)").await;
    let end = world.capture().await;
    world.tamper("INSERT INTO item (name, n) VALUES ('of ours', -1)").await;
    let template = &world.template;
    world
        .server
        .psql(
            "postgres",
            &format!("ALTER DATABASE \"{template}\" IS_TEMPLATE false; DROP DATABASE \"{template}\""),
        )
        .await;
    let (progress, _) = watch::channel(ptr_replay::NavigateProgress::default());
    let request = ptr_replay::NavigateRequest { locally_written: true, ..world.request(end) };
    let error = ptr_replay::navigate(&request, &progress, &CancellationToken::new()).await.unwrap_err();
    let ptr_replay::NavigateError::Replay(ptr_replay::ReplayError::Stopped(stop)) = error else {
        panic!("{error}")
    };
    assert_eq!((stop.position, world.cursor().await), (at, at));
    assert_equal_states(&expected, &world.session_state().await);
}
