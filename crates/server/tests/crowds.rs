//! Many at once: sessions that are moved, clients that ask, tables that change. Whatever is asked, the servers keep
//! connections and locks for others.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use futures_util::future::join_all;
use ptr_testkit::{ServerVersion, wait_until};
use serde_json::json;
use support::{DATABASE, REPLICA, World};

const TABLE: &str = "CREATE TABLE ticks (id int PRIMARY KEY)";

impl World {
    /// Makes the checkpoint `c<k>` after each of so many rows, and as many sessions `s<k>` as are wanted.
    async fn crowd(&self, rows: usize, sessions: usize) {
        for k in 1..=rows {
            self.primary.psql(DATABASE, &format!("INSERT INTO ticks VALUES ({k})")).await;
            self.checkpoint(&format!("c{k}")).await;
        }
        for k in 0..sessions {
            self.api.post("/api/sessions", &json!({"name": format!("s{k}")}).to_string()).await;
        }
    }

    async fn send_to(&self, session: usize, place: usize) -> (StatusCode, serde_json::Value) {
        let body = json!({"session_id": format!("s{session}"), "checkpoint_id": format!("c{place}")});
        self.api.send(Method::POST, "/api/navigate", &body.to_string()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_are_moved_at_once_than_the_server_has_connections_for() {
    let (rows, sessions) = (5, 30);
    let world = World::tuned(ServerVersion::Debian15, &[("max_connections", "40")], TABLE).await;
    world.crowd(rows, sessions).await;
    for round in 0..3 {
        let places: Vec<usize> = (0..sessions).map(|session| 1 + (session + 2 * round) % rows).collect();
        let moves = places.iter().enumerate().map(|(session, place)| world.send_to(session, *place));
        for (status, answer) in join_all(moves).await {
            assert_eq!(status, StatusCode::OK, "{answer:#}");
        }
        for (session, place) in places.iter().enumerate() {
            let database = format!("{DATABASE}_s{session}");
            let found = world.replica.psql(&database, "SELECT count(*) FROM ticks").await;
            assert_eq!(found.trim(), place.to_string(), "{database}");
        }
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_ask_at_once_are_answered_from_few_connections() {
    // As few as PostgreSQL has for one who looks around, and the keeper of keyframes.
    let world = World::tuned(ServerVersion::Debian15, &[("max_connections", "25")], TABLE).await;
    world.crowd(1, 3).await;
    let paths = ["/api/status", "/api/sessions", "/api/keyframes", "/api/sessions/s1", "/metrics"];
    let asked = (0..100).map(|n| {
        let path = paths[n % paths.len()];
        let world = &world;
        async move { (path, world.api.send(Method::GET, path, "").await) }
    });
    for (path, (status, answer)) in join_all(asked).await {
        assert_eq!(status, StatusCode::OK, "{path}: {answer:#}");
        match path {
            "/api/status" => assert_eq!(answer["output"]["connected"], true, "{answer:#}"),
            "/api/sessions" => {
                let states: Vec<_> = answer.as_array().unwrap().iter().map(|one| &one["state"]).collect();
                assert_eq!(states, ["settled"; 4], "{answer:#}");
            }
            "/api/sessions/s1" => assert_eq!(answer["state"], "settled", "{answer:#}"),
            _ => {}
        }
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_connects_to_no_session_that_is_known_to_stand_elsewhere() {
    let world = World::tuned(ServerVersion::Debian15, &[("log_connections", "on")], TABLE).await;
    world.crowd(2, 3).await;
    for session in 0..3 {
        let (status, answer) = world.send_to(session, 1).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
    }
    let connections = || {
        let log = std::fs::read_to_string(world.replica.cluster().log_file()).unwrap();
        let to_session = |line: &&str| line.contains(&format!("database={DATABASE}_s"));
        log.lines().filter(|line| line.contains("connection authorized")).filter(to_session).count()
    };
    assert!(connections() >= 3, "the log of the server tells of connections");
    // What the moves left to be done behind them may come once more; what every checkpoint did would always come.
    let mut next = 3..;
    let mut rounds = Vec::new();
    let before = loop {
        let before = connections();
        for k in next.by_ref().take(3) {
            world.primary.psql(DATABASE, &format!("INSERT INTO ticks VALUES ({k})")).await;
            world.checkpoint(&format!("c{k}")).await;
        }
        rounds.push(connections() - before);
        match rounds.as_slice() {
            [.., 0] => break before,
            [_, _, _] => panic!("three checkpoints each time, and nobody moved, but connections: {rounds:?}"),
            _ => {}
        }
    };
    // Where they are is told by their databases all the same.
    let sessions = world.api.get("/api/sessions").await;
    assert_eq!(sessions.as_array().unwrap().len(), 4);
    assert_eq!(connections(), before + 3);
    world.close().await;
}

/// Tables that the output server does not have locks for in one transaction.
const TABLES: usize = 600;

fn each(sql: &str, end: &str) -> String {
    format!("DO $$ BEGIN FOR i IN 1..{TABLES} LOOP EXECUTE format('{sql}', i); {end} END LOOP; END $$")
}

/// Rows and sum of each table. A statement for each: one for all would need the locks that the server does not have.
fn sums() -> String {
    (1..=TABLES).map(|i| format!("SELECT count(*), coalesce(sum(v), 0) FROM t{i};")).collect()
}

impl World {
    /// Tables `t1` and so on, empty at the checkpoint `empty`; more is run after them.
    async fn of_many_tables(more: &str) -> Self {
        let settings = [("max_locks_per_transaction", "10"), ("max_connections", "20")];
        let schema = each("CREATE TABLE t%s (id int PRIMARY KEY, v int, n serial)", "COMMIT;");
        let world = Self::tuned(ServerVersion::Debian15, &settings, &format!("{schema}; {more}")).await;
        world.checkpoint("empty").await;
        world
    }

    /// Changes all tables of the primary, makes a checkpoint, and says what they hold.
    async fn change_each(&self, sql: &str, end: &str, checkpoint: &str) -> String {
        self.primary.psql(DATABASE, &each(sql, end)).await;
        self.checkpoint(checkpoint).await;
        self.primary.psql(DATABASE, &sums()).await
    }

    async fn is_after(&self, transactions: u64) -> bool {
        self.api.get("/api/sessions/default").await["position"]["transaction"] == transactions
    }

    async fn replica_holds(&self, sums_then: &str) {
        assert_eq!(self.replica.psql(REPLICA, &sums()).await, sums_then);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tables_are_gone_over_than_one_transaction_can_lock() {
    let world = World::of_many_tables("").await;
    let filled = world.change_each("INSERT INTO t%1$s VALUES (%1$s, 1), (0, 2)", "COMMIT;", "filled").await;
    let changed = world.change_each("UPDATE t%s SET v = %1$s WHERE id = 0", "COMMIT;", "changed").await;
    let arrived = world.go("changed").await;
    assert_eq!(arrived["strategy"], "redo");
    world.replica_holds(&changed).await;
    // An undo would be one transaction.
    let back = world.go("filled").await;
    assert_eq!(back["strategy"], "keyframe", "{back:#}");
    assert!(back["reason"].as_str().unwrap().contains("max_locks_per_transaction"), "{back:#}");
    world.replica_holds(&filled).await;
    world.go("empty").await;
    world.replica_holds(&"0|0\n".repeat(TABLES)).await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_of_more_tables_than_can_be_locked_is_replayed_in_a_new_database() {
    let world = World::of_many_tables("").await;
    let filled = world.change_each("INSERT INTO t%1$s VALUES (%1$s, 1), (0, 2)", "COMMIT;", "filled").await;
    let at_once = world.change_each("DELETE FROM t%s WHERE id = 0", "", "at once").await;
    world.go("filled").await;
    let arrived = world.go("at once").await;
    assert_eq!(arrived["strategy"], "keyframe", "{arrived:#}");
    assert!(arrived["reason"].as_str().unwrap().contains("max_locks_per_transaction"), "{arrived:#}");
    world.replica_holds(&at_once).await;
    world.go("filled").await;
    world.replica_holds(&filled).await;
    let (status, made) = world.api.send(Method::POST, "/api/keyframes", r#"{"at": "at once"}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{made:#}");
    world.go("at once").await;
    world.replica_holds(&at_once).await;
    // Sequences are locked like tables, whether rows or a checkpoint tell of them; so is what is emptied.
    let last = "SELECT last_value FROM pg_sequences WHERE sequencename = 't600_n_seq'";
    assert_eq!(world.replica.psql(REPLICA, last).await, world.primary.psql(DATABASE, last).await);
    let empty = "0|0\n".repeat(TABLES);
    assert_eq!(world.change_each("TRUNCATE t%s", "", "emptied").await, empty);
    world.go("emptied").await;
    world.replica_holds(&empty).await;
    // Where nobody has a keyframe any more the base image is restored.
    world.go("filled").await;
    let keyframes = world.api.get("/api/keyframes").await;
    for keyframe in
        keyframes["keyframes"].as_array().unwrap().iter().chain(keyframes["spares"].as_array().unwrap())
    {
        let name = keyframe["name"].as_str().unwrap();
        world.replica.psql("postgres", &format!("DROP DATABASE \"{name}\"")).await;
    }
    let again = world.go("at once").await;
    assert_eq!(again["strategy"], "keyframe", "{again:#}");
    world.replica_holds(&at_once).await;
    // Whoever follows gets past such a one too, and goes on following.
    world.go("filled").await;
    world.api.post("/api/navigate", r#"{"follow": true}"#).await;
    let updated = world.change_each("INSERT INTO t%1$s VALUES (1, %1$s)", "", "updated").await;
    let transactions = TABLES as u64 + 3;
    let at_head = async || world.is_after(transactions).await;
    wait_until("the follower is at head", Duration::from_secs(120), at_head).await;
    world.replica_holds(&updated).await;
    assert_eq!(world.api.get("/api/sessions/default").await["follow"], true);
    world.primary.psql(DATABASE, "INSERT INTO t1 VALUES (-1, -1)").await;
    let goes_on = async || world.is_after(transactions + 1).await;
    wait_until("it goes on", Duration::from_secs(60), goes_on).await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_ends_between_parts_of_a_transaction_leaves_the_session_where_it_was() {
    // The check of the last table takes for ever in a database that is being built, when that is asked for.
    let slow = format!(
        "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS $$ SELECT CASE WHEN current_database() ~ '__next$'
         AND current_setting('app.slow', true) = 'on' THEN length(pg_sleep(3600)::text) = 0 ELSE true END $$;
         ALTER TABLE t{TABLES} ADD CHECK (public.slow(v))"
    );
    let world = World::of_many_tables(&slow).await;
    let filled = world.change_each("INSERT INTO t%1$s VALUES (%1$s, 1)", "COMMIT;", "filled").await;
    let at_once = world.change_each("UPDATE t%s SET v = 5", "", "at once").await;
    world.go("filled").await;
    world.replica.psql("postgres", "ALTER ROLE ALL SET app.slow = 'on'").await;
    let next = format!("{REPLICA}__next");
    let sleeps = format!(
        "SELECT pid FROM pg_stat_activity WHERE datname = '{next}' AND wait_event = 'PgSleep' AND application_name ~ '^postgres-test-replay'"
    );
    let moved = world.try_go("at once");
    let faults = async {
        wait_until("the last table is reached", Duration::from_secs(120), async || {
            !world.replica.psql("postgres", &sleeps).await.is_empty()
        })
        .await;
        let state = "SELECT state FROM postgres_test_replay.cursor";
        assert_eq!(world.replica.psql(&next, state).await.trim(), "moving");
        world.replica_holds(&filled).await;
        world.replica.psql("postgres", "ALTER ROLE ALL RESET app.slow").await;
        world.replica.psql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM ({sleeps}) s")).await;
    };
    let ((status, answer), ()) = tokio::join!(moved, faults);
    // Once more, transaction by transaction; for that the server has no locks, and what failed first is told.
    assert!(!status.is_success(), "{answer:#}");
    assert!(answer["detail"].as_str().unwrap().contains("administrator command"), "{answer:#}");
    world.replica_holds(&filled).await;
    assert!(world.is_after(TABLES as u64).await);
    world.go("at once").await;
    world.replica_holds(&at_once).await;
    world.close().await;
}
