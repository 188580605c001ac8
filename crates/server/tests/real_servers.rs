//! The whole service on real servers: capture, checkpoints, moves. The oracle is SQL and `pg_dump`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::{Method, StatusCode};
use ptr_server::{Announcement, Role, configuration::TlsFiles};
use ptr_testkit::{Certificates, ServerVersion, wait_until};
use serde_json::{Value, json};
use support::{Api, DATABASE, REPLICA, World, configuration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

impl World {
    /// The rows of `t` on the replica.
    async fn rows(&self) -> String {
        self.replica
            .psql(REPLICA, "SELECT string_agg(id || v, ',' ORDER BY id) FROM t")
            .await
            .trim()
            .to_owned()
    }
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_to_checkpoints_and_back() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    assert_eq!(world.rows().await, "1a");
    world.primary.psql(DATABASE, "INSERT INTO t VALUES (2, 'b')").await;
    let before = world.checkpoint("before-update").await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'z'; CREATE TABLE u (x int)").await;
    let moved = world.go("before-update").await;
    assert_eq!((&moved["status"], &moved["strategy"]), (&json!("success"), &json!("redo")));
    assert_eq!((&moved["to"]["lsn"], &moved["entries_applied"]), (&before["lsn"], &json!(1)));
    assert_eq!(world.rows().await, "1a,2b");
    world.checkpoint("after").await;
    world.go("head").await;
    assert_eq!(world.rows().await, "1z,2z");
    let body = json!({"checkpoint_id": before["id"]}).to_string();
    assert_eq!(world.api.post("/api/replay", &body).await["status"], "success");
    assert_eq!(world.rows().await, "1a,2b");
    world.api.post("/api/undo", "").await;
    assert_eq!(world.rows().await, "1z,2z");
    world.api.post("/api/redo", "").await;
    assert_eq!(world.rows().await, "1a,2b");
    let look = json!({"start_id": "CREATION", "end_id": before["id"]}).to_string();
    assert_eq!(world.api.post("/api/navigate", &look).await["count"], 1);
    let planned = world.api.post("/api/navigate", r#"{"position": "head", "dry_run": true}"#).await;
    assert_eq!((&planned["status"], world.rows().await.as_str()), (&json!("planned"), "1a,2b"));
    world.go("head").await;
    let verified = world.api.post("/api/verify", "").await;
    assert_eq!(verified["equal"], true, "{verified:#}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_moves_names_the_way_that_was_taken_in_the_end() {
    // The check refuses the row that was there before it, so that undo is planned and cannot be done.
    let schema = format!("{TABLE}; ALTER TABLE t ADD CONSTRAINT later CHECK (v <> 'a') NOT VALID");
    let world = World::start(ServerVersion::Debian15, &schema).await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'b'").await;
    world.checkpoint("b").await;
    world.go("b").await;
    let planned = world.api.post("/api/navigate", r#"{"position": "CREATION", "dry_run": true}"#).await;
    let moved = world.go("CREATION").await;
    assert_eq!(world.rows().await, "1a");
    assert_eq!((&planned["strategy"], &moved["strategy"]), (&json!("undo"), &json!("keyframe")));
    assert_eq!(world.api.get("/api/moves").await[0]["strategy"], "keyframe");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn now_is_exact_while_others_write() {
    let world = World::start(ServerVersion::Debian15, "CREATE TABLE t (id serial PRIMARY KEY, v text)").await;
    let primary = Arc::new(world.primary.client(DATABASE).await);
    let writers: Vec<_> = (0..2).map(|_| world.primary.dsn(DATABASE)).collect();
    let stop = tokio_util::sync::CancellationToken::new();
    let writing: Vec<_> = writers
        .into_iter()
        .map(|dsn| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let session = ptr_postgres::SessionSettings::named("writer");
                let client = ptr_postgres::connect(&dsn, &session).await.unwrap();
                while !stop.is_cancelled() {
                    client.batch_execute("INSERT INTO t (v) VALUES ('x')").await.unwrap();
                }
            })
        })
        .collect();
    let count = || async { primary.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0) };
    let mut bounds = Vec::new();
    for number in 0..5 {
        let at_least = count().await;
        let made = world.checkpoint(&format!("c{number}")).await;
        let at_most = count().await;
        bounds.push((made["id"].as_str().unwrap().to_owned(), at_least, at_most));
    }
    stop.cancel();
    for writer in writing {
        writer.await.unwrap();
    }
    for (id, at_least, at_most) in [&bounds[3], &bounds[0], &bounds[4], &bounds[1], &bounds[2]] {
        world.go(id).await;
        let rows: i64 = world.replica.psql(REPLICA, "SELECT count(*) FROM t").await.trim().parse().unwrap();
        assert!((*at_least..=*at_most).contains(&rows), "{rows} is not in {at_least}..={at_most}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_have_databases_and_positions_of_their_own() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'b'").await;
    world.checkpoint("second").await;
    let body = json!({"name": "My Test Session", "description": "d", "database": DATABASE, "at": "second"})
        .to_string();
    let session = world.api.post("/api/sessions", &body).await;
    let target = session["target_database"].as_str().unwrap();
    assert_eq!((&session["active"], target), (&json!(false), "shop_my_test_session"));
    let there = world.replica.psql(target, "SELECT v FROM t").await;
    assert_eq!((there.trim(), world.rows().await.as_str()), ("b", "1a"));
    world.api.post("/api/sessions/switch", &json!({"session_id": session["id"]}).to_string()).await;
    world.go("CREATION").await;
    assert_eq!(world.replica.psql(target, "SELECT v FROM t").await.trim(), "a");
    let path = format!("/api/sessions/{}", session["id"].as_str().unwrap());
    let (status, problem) = world.api.send(Method::DELETE, &path, "").await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")));
    world.api.post("/api/sessions/switch", r#"{"session_id": "default"}"#).await;
    let (status, _) = world.api.send(Method::DELETE, &path, "").await;
    assert_eq!(status, StatusCode::OK);
    let left = world
        .replica
        .psql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{target}'"))
        .await;
    assert_eq!(left.trim(), "0");
    world.close().await;
}

/// Whoever waits for a move finds the session as the move and others left it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_became_the_active_one_meanwhile_is_not_deleted() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    let other = world.api.post("/api/sessions", r#"{"name": "other"}"#).await;
    let target = other["target_database"].as_str().unwrap();
    world.primary.psql(DATABASE, "INSERT INTO t VALUES (2)").await;
    world.checkpoint("two").await;
    let holder = world.replica.client(target).await;
    holder.batch_execute("SET default_transaction_read_only = off; BEGIN; LOCK TABLE t").await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let go = async {
        world.api.send(Method::POST, "/api/navigate", r#"{"position": "two", "session_id": "other"}"#).await
    };
    let delete = async {
        wait_until("the move waits", Duration::from_secs(30), async || {
            world.replica.psql("postgres", waiting).await.trim() != "0"
        })
        .await;
        world.api.send(Method::DELETE, "/api/sessions/other", "").await
    };
    let switch = async {
        wait_until("the move waits", Duration::from_secs(30), async || {
            world.replica.psql("postgres", waiting).await.trim() != "0"
        })
        .await;
        world.api.post("/api/sessions/switch", r#"{"session_id": "other"}"#).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let ((moved, _), (deleted, problem), ()) = tokio::join!(go, delete, switch);
    assert!(moved.is_success());
    assert_eq!(deleted, StatusCode::CONFLICT, "{problem:#}");
    assert_eq!(world.replica.psql(target, "SELECT max(id) FROM t").await.trim(), "2");
    holder.close().await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_the_server_or_a_move_needs_are_no_databases_of_ours() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.api.post("/api/backups", r#"{"name": "dump"}"#).await;
    let kept = "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database WHERE datname !~ '^ptr_'";
    let before = world.replica.psql("postgres", kept).await;
    let long = "n".repeat(64);
    let refused = async |path: &str, body: Value| {
        let (status, problem) = world.api.send(Method::POST, path, &body.to_string()).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("usage")),
            "{body}: {problem}"
        );
    };
    for name in ["", "postgres", "template1", "shop__next", "shop__verify", &long] {
        refused("/api/sessions", json!({"name": "s", "target_database": name, "replace": true})).await;
    }
    for name in ["", "shop__next", "shop__verify"] {
        refused("/api/backups/dump/restore", json!({"database": name, "replace": true})).await;
    }
    assert_eq!(world.replica.psql("postgres", kept).await, before);
    // A name that comes to such a one by itself is given another.
    let session = world.api.post("/api/sessions", r#"{"name": "of--next"}"#).await;
    let target = session["target_database"].as_str().unwrap();
    assert!(!target.ends_with("__next"), "{target}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_kept_at_head_until_its_next_move() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.api.post("/api/navigate", r#"{"follow": true}"#).await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'f'").await;
    wait_until("the follower has the change", Duration::from_secs(20), async || world.rows().await == "1f")
        .await;
    world.go("CREATION").await;
    assert_eq!(world.api.get("/api/sessions/default").await["follow"], false);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_without_capture_works_beside_a_listener_of_another_service() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    let mut configuration = world.api.service.configuration().clone();
    let ends = SystemTime::now() + Duration::from_secs(60 * 60);
    let Certificates { certificate, key, .. } =
        Certificates::make_until(world.folder.path(), &["localhost"], ends);
    configuration.tls = Some(TlsFiles { certificate, key });
    let (beside, announced) = Api::open_aloud(configuration, Role::Ipc).await;
    let is_told =
        |text: &str| text.contains("server.pem expires on ") && text.contains("Put a renewed pair at");
    assert!(announced.iter().any(|one| matches!(one, Announcement::Warning(text) if is_told(text))));
    let status = beside.get("/api/status").await;
    assert!(status["warnings"].as_array().unwrap().iter().any(|one| is_told(one.as_str().unwrap())));
    let listener = beside.get("/api/status").await["databases"][0]["listener"].clone();
    assert_eq!((&listener["state"], &listener["pid"]), (&json!("streaming"), &json!(std::process::id())));
    world.primary.psql(DATABASE, "UPDATE t SET v = 'c'").await;
    let made = beside.post("/api/checkpoints", r#"{"name": "beside"}"#).await;
    assert_eq!(made["entry_index"], 1);
    beside.post("/api/navigate", r#"{"checkpoint_id": "beside"}"#).await;
    assert_eq!(world.rows().await, "1c");
    beside.service.close().await.unwrap();
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dsn_the_servers_are_embedded_and_end_with_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[("SERVER_ADDR", "127.0.0.1:0")]);
    let api = Api::open(configuration.clone(), Role::Up).await;
    let serving = tokio::spawn(ptr_server::serve(Arc::clone(&api.service)));
    let found = || ptr_server::Running::find(&configuration.data).unwrap();
    wait_until("the service is published", Duration::from_secs(10), async || found().is_some()).await;
    let running = found().unwrap();
    assert_eq!((running.role.as_str(), running.pid), ("up", std::process::id()));
    let mut socket = tokio::net::TcpStream::connect(&running.address).await.unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", running.address);
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"status\":\"ok\""), "{answer}");
    let status = api.get("/api/status").await;
    for end in ["input", "output"] {
        assert_eq!((&status[end]["embedded"], &status[end]["connected"]), (&json!(true), &json!(true)));
    }
    assert_eq!(status["session"]["database"], "testdb");
    // Its own user asks over its own socket.
    let mut own = tokio::net::UnixStream::connect(running.socket.unwrap()).await.unwrap();
    own.write_all(b"GET /api/dsn/input HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    own.read_to_string(&mut answer).await.unwrap();
    assert!(answer.to_ascii_lowercase().contains("content-length: "), "{answer}");
    let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let uri = answer["uri"].as_str().unwrap().to_owned();
    let anybody = api.get("/api/dsn/input").await;
    assert!(anybody["uri"].is_null(), "{anybody:#}");
    api.service.shutdown_token().cancel();
    serving.await.unwrap().unwrap();
    api.service.close().await.unwrap();
    assert!(found().is_none());
    let dsn = ptr_postgres::Dsn::from_environment(&uri).unwrap();
    let session = ptr_postgres::SessionSettings::named("test");
    assert!(ptr_postgres::connect(&dsn, &session).await.is_err(), "the embedded primary still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn teardown_leaves_nothing_of_ours_on_the_primary() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    let (status, problem) = world.api.send(Method::POST, "/api/teardown", "").await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::CONFLICT, &json!("precondition")),
        "while it captures"
    );
    let World { primary, replica: _replica, api, folder: _folder } = world;
    let configuration = api.service.configuration().clone();
    api.service.close().await.unwrap();
    let offline = Api::open(configuration, Role::Offline).await;
    offline.post("/api/teardown", "").await;
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)
                + (SELECT count(*) FROM pg_event_trigger)
                + (SELECT count(*) FROM pg_namespace WHERE nspname = 'postgres_test_replay')
                + (SELECT count(*) FROM pg_class WHERE relname = 't' AND relreplident <> 'd')";
    assert_eq!(primary.psql(DATABASE, left).await.trim(), "0");
}

/// A copy that somebody made of a session's database has the session's marks, and is somebody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_sessions_database_is_replaced_only_with_consent() {
    let world = World::start(ServerVersion::Debian15, "CREATE TABLE t (id int PRIMARY KEY)").await;
    world.replica.database_from("mine", REPLICA).await;
    world.replica.psql("mine", "SET default_transaction_read_only = off; INSERT INTO t VALUES (7)").await;
    let create = r#"{"name": "other", "target_database": "mine"}"#;
    let (status, problem) = world.api.send(Method::POST, "/api/sessions", create).await;
    assert_eq!(status, 409, "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("a copy of session \"default\""), "{problem:#}");
    assert_eq!(world.replica.psql("mine", "SELECT id FROM t").await.trim(), "7");
    world.api.post("/api/sessions", r#"{"name": "other", "target_database": "mine", "replace": true}"#).await;
    assert_eq!(world.replica.psql("mine", "SELECT count(*) FROM t").await.trim(), "0");
    world.close().await;
}
