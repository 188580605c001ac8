//! Many at once: sessions that are moved, clients that ask, tables that change. Whatever is asked, the servers keep
//! connections and locks for others.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use axum::http::{Method, StatusCode};
use futures_util::future::join_all;
use ptr_testkit::ServerVersion;
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

#[tokio::test(flavor = "multi_thread")]
async fn more_tables_are_gone_over_than_one_transaction_can_lock() {
    let tables = 600;
    let each = |sql: &str, end: &str| {
        format!("DO $$ BEGIN FOR i IN 1..{tables} LOOP EXECUTE format('{sql}', i); {end} END LOOP; END $$")
    };
    let settings = [("max_locks_per_transaction", "10"), ("max_connections", "20")];
    let schema = each("CREATE TABLE t%s (id int PRIMARY KEY, v int)", "COMMIT;");
    let world = World::tuned(ServerVersion::Debian15, &settings, &schema).await;
    // A statement for each table: one for all would need the locks that the server does not have.
    let sums = (1..=tables).map(|i| format!("SELECT count(*), coalesce(sum(v), 0) FROM t{i};"));
    let sums: String = sums.collect();
    world.checkpoint("empty").await;
    world.primary.psql(DATABASE, &each("INSERT INTO t%1$s VALUES (%1$s, 1), (0, 2)", "COMMIT;")).await;
    world.checkpoint("filled").await;
    let filled = world.primary.psql(DATABASE, &sums).await;
    world.primary.psql(DATABASE, &each("UPDATE t%s SET v = %1$s WHERE id = 0", "COMMIT;")).await;
    world.checkpoint("changed").await;
    let changed = world.primary.psql(DATABASE, &sums).await;
    let arrived = world.go("changed").await;
    assert_eq!(arrived["strategy"], "redo");
    assert_eq!(world.replica.psql(REPLICA, &sums).await, changed);
    // An undo would be one transaction.
    let back = world.go("filled").await;
    assert_eq!(back["strategy"], "keyframe", "{back:#}");
    assert!(back["reason"].as_str().unwrap().contains("max_locks_per_transaction"), "{back:#}");
    assert_eq!(world.replica.psql(REPLICA, &sums).await, filled);
    world.go("empty").await;
    assert_eq!(world.replica.psql(REPLICA, &sums).await, "0|0\n".repeat(tables));
    world.close().await;
}
