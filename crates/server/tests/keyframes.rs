//! Keyframes and spares of a running service, and moves that take their time, on real servers.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use ptr_testkit::{ServerVersion, wait_until};
use serde_json::{Value, json};
use support::{DATABASE, REPLICA, World};

const PATIENCE: Duration = Duration::from_secs(120);

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

impl World {
    async fn rows(&self) -> String {
        let sql = "SELECT count(*), sum(id), string_agg(DISTINCT v, ',' ORDER BY v) FROM t";
        self.replica.psql(REPLICA, sql).await.trim().to_owned()
    }

    async fn keyframes(&self) -> Value {
        self.api.get("/api/keyframes").await
    }

    /// Databases of the output server that are not the server's own.
    async fn databases(&self) -> Vec<String> {
        let sql =
            "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')
                   ORDER BY 1";
        self.replica.psql("postgres", sql).await.lines().map(str::to_owned).collect()
    }
}

fn names(images: &Value) -> Vec<String> {
    images.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyframe_and_a_spare_are_ready_before_somebody_goes_back_over_a_schema_change() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.primary.psql(DATABASE, "INSERT INTO t SELECT i, 'b' FROM generate_series(2, 150000) i").await;
    let filled = world.checkpoint("filled").await;
    world
        .primary
        .psql(DATABASE, "ALTER TABLE t ADD w int DEFAULT 7; UPDATE t SET v = 'c' WHERE id < 10")
        .await;
    world.checkpoint("changed").await;
    world.go("changed").await;
    let after = world.rows().await;
    wait_until("a keyframe before the schema change, and a spare of it", PATIENCE, async || {
        let all = world.keyframes().await;
        let is_there = |images: &Value| {
            images.as_array().unwrap().iter().any(|one| {
                one["reason"] == "schema_change" && one["position"]["entry_index"] == filled["entry_index"]
            })
        };
        is_there(&all["keyframes"]) && is_there(&all["spares"])
    })
    .await;
    let status = world.api.get("/api/status").await;
    assert_eq!(status["databases"][0]["keyframes"]["keyframes"].as_array().unwrap().len(), 2, "{status:#}");
    let planned = world.api.post("/api/navigate", r#"{"position": "filled", "dry_run": true}"#).await;
    assert_eq!(planned["strategy"], "keyframe");
    let reason = planned["reason"].as_str().unwrap();
    assert!(reason.starts_with("schema changes on the way cannot be taken back (entry"), "{reason}");
    let others = planned["alternatives"].as_array().unwrap();
    assert!(
        others.iter().any(|other| other["strategy"] == "undo" && other["barred"] == reason),
        "{planned:#}"
    );
    assert!(others.iter().any(|other| other["estimate_ms"].is_number()), "{planned:#}");
    world.go("filled").await;
    assert_eq!(world.rows().await, "150000|11250075000|a,b");
    world.go("changed").await;
    assert_eq!(world.rows().await, after);
    // Once it is quiet, nothing is there but the session, the keyframes, and the spares.
    wait_until("what was replaced to be dropped", PATIENCE, async || {
        let all = world.keyframes().await;
        let mut known = [names(&all["keyframes"]), names(&all["spares"])].concat();
        known.push(REPLICA.to_owned());
        known.sort();
        all["doing"].is_null() && world.databases().await == known
    })
    .await;
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyframe_that_is_where_a_move_goes_has_the_sequences_that_were_sampled_there() {
    let schema = "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a')";
    let world = World::start(ServerVersion::Debian15, schema).await;
    // What the rows tell of the sequence is more than what it was set to.
    let sql = "INSERT INTO t (v) SELECT 'b' FROM generate_series(1, 9); SELECT setval('t_id_seq', 3)";
    world.primary.psql(DATABASE, sql).await;
    world.checkpoint("set back").await;
    world.api.post("/api/keyframes", r#"{"at": "set back"}"#).await;
    world.primary.psql(DATABASE, "TRUNCATE t").await;
    world.checkpoint("empty").await;
    world.go("empty").await;
    assert_eq!(world.go("set back").await["strategy"], "keyframe");
    assert_eq!(world.replica.psql(REPLICA, "SELECT last_value FROM t_id_seq").await.trim(), "3");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keyframes_are_made_and_deleted_by_request() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'b'").await;
    world.checkpoint("b").await;
    world.primary.psql(DATABASE, "TRUNCATE t").await;
    world.checkpoint("empty").await;
    let (status, made) = world.api.send(Method::POST, "/api/keyframes", r#"{"at": "b"}"#).await;
    assert_eq!((status, &made["reason"]), (StatusCode::CREATED, &json!("manual")));
    world.go("empty").await;
    let planned = world.api.post("/api/navigate", r#"{"position": "b", "dry_run": true}"#).await;
    let reason = planned["reason"].as_str().unwrap();
    assert!(reason.starts_with("a TRUNCATE on the way cannot be taken back"), "{reason}");
    world.go("b").await;
    assert_eq!(world.rows().await, "1|1|b");
    let all = world.keyframes().await;
    let creation = &names(&all["keyframes"])[0];
    let path = |name: &str| format!("/api/keyframes/{name}");
    let (status, refused) = world.api.send(Method::DELETE, &path(creation), "").await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("precondition")), "{refused:#}");
    let name = made["name"].as_str().unwrap();
    let (status, gone) = world.api.send(Method::DELETE, &path(name), "").await;
    assert_eq!((status, &gone["status"]), (StatusCode::OK, &json!("deleted")));
    let (status, _) = world.api.send(Method::DELETE, &path(name), "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = world.api.send(Method::POST, "/api/keyframes", r#"{"at": "entry:4000"}"#).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    world.close().await;
}

/// So many transactions of one row each.
fn transactions(count: u64) -> String {
    format!(
        "DO $$ BEGIN FOR i IN 2..{} LOOP INSERT INTO t VALUES (i, 'x'); COMMIT; END LOOP; END $$",
        count + 1
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_ended_stops_at_a_position_and_can_be_taken_back() {
    let world = World::start(ServerVersion::Debian15, &format!("{TABLE}; CREATE TABLE u (a int)")).await;
    world.primary.psql(DATABASE, &transactions(1_000)).await;
    // Before a TRUNCATE what came before goes in, which a lock holds up; much is to do after it.
    world.primary.psql(DATABASE, "TRUNCATE u").await;
    let more =
        "DO $$ BEGIN FOR i IN 1002..30000 LOOP INSERT INTO t VALUES (i, 'x'); COMMIT; END LOOP; END $$";
    world.primary.psql(DATABASE, more).await;
    world.checkpoint("end").await;
    let holder = world.replica.client(REPLICA).await;
    holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t IN SHARE MODE").await.unwrap();
    let body = r#"{"position": "end", "background": true}"#;
    let (status, moving) = world.api.send(Method::POST, "/api/navigate", body).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let path = format!("/api/moves/{}", moving["id"].as_str().unwrap());
    let held_up = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)";
    wait_until("the move to be under way", PATIENCE, async || {
        world.replica.psql(REPLICA, held_up).await.trim() == "t"
    })
    .await;
    let ((status, ended), released) =
        tokio::join!(world.api.send(Method::DELETE, &path, ""), holder.batch_execute("ROLLBACK"));
    released.unwrap();
    assert_eq!((status, &ended["state"]), (StatusCode::OK, &json!("cancelled")), "{ended:#}");
    let session = &world.api.get("/api/sessions").await[0];
    assert_eq!((&session["state"], &session["position"]), (&json!("settled"), &ended["to"]));
    let at = ended["to"]["transaction"].as_u64().unwrap();
    assert!((1..30_000).contains(&at), "{ended:#}");
    // Row 1, and a row a transaction, but for the TRUNCATE.
    let rows = (at + 1 - u64::from(at > 1_000)).to_string();
    assert_eq!(world.rows().await.split('|').next().unwrap(), rows);
    world.api.post("/api/undo", "").await;
    assert_eq!(world.rows().await, "1|1|a");
    world.api.post("/api/redo", "").await;
    assert_eq!(world.rows().await.split('|').next().unwrap(), rows);
    let (status, over) = world.api.send(Method::DELETE, &path, "").await;
    assert_eq!((status, &over["code"]), (StatusCode::CONFLICT, &json!("precondition")));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_on_and_is_told_when_whoever_asked_goes_away() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.primary.psql(DATABASE, &transactions(10_000)).await;
    world.checkpoint("end").await;
    let mut events = world.api.service.subscribe();
    let asked = world.try_go("end");
    tokio::select! {
        answer = asked => panic!("it was there at once: {answer:?}"),
        () = async {
            while world.api.get("/api/moves").await[0]["state"] != "running" {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    wait_until("the move to arrive", PATIENCE, async || {
        world.api.get("/api/moves").await[0]["state"] == "done"
    })
    .await;
    assert_eq!(world.rows().await.split('|').next().unwrap(), "10001");
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let ptr_server::resource::event::Event::Move { r#move } = event {
            told.push(r#move);
        }
    }
    let progress = told.iter().filter_map(|moved| moved.progress.as_ref());
    assert!(progress.clone().any(|progress| progress.total == Some(10_000)), "{told:?}");
    assert_eq!(told.last().unwrap().state, ptr_server::resource::navigation::MoveState::Done);
    world.close().await;
}

/// Moves of many kinds, twice: what was expected of the second time against what it took. Printed, and how many were
/// within a factor of 3; nothing is asserted of time.
#[tokio::test(flavor = "multi_thread")]
async fn estimates_are_compared_with_what_moves_take() {
    let schema =
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE wide (id int PRIMARY KEY, v text)";
    let world = World::start(ServerVersion::Debian15, schema).await;
    let steps = [
        ("few", "INSERT INTO t SELECT i, 'b' FROM generate_series(1, 10) i"),
        ("hundred", "INSERT INTO t SELECT i, 'b' FROM generate_series(11, 110) i"),
        ("thousands", "INSERT INTO t SELECT i, 'b' FROM generate_series(111, 5000) i"),
        ("many", "INSERT INTO t SELECT i, 'b' FROM generate_series(5001, 60000) i"),
        ("updated", "UPDATE t SET v = 'c' WHERE id % 10 = 0"),
        ("wide", "INSERT INTO wide SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 2000) i"),
        ("altered", "ALTER TABLE t ADD w int; UPDATE t SET w = 1 WHERE id < 100"),
        ("emptied", "TRUNCATE wide"),
        (
            "single",
            "DO $$ BEGIN FOR i IN 1..500 LOOP UPDATE t SET v = 'd' WHERE id = i; COMMIT; END LOOP; END $$",
        ),
        (
            "ddl",
            "DO $$ BEGIN FOR i IN 1..10 LOOP EXECUTE 'CREATE TABLE t' || i || ' (a int)'; COMMIT; END LOOP; END $$",
        ),
    ];
    for (name, sql) in steps {
        world.primary.psql(DATABASE, sql).await;
        world.checkpoint(name).await;
    }
    let (mut within, mut all) = (0, 0);
    for round in 0..3 {
        for to in [
            "few",
            "hundred",
            "few",
            "thousands",
            "hundred",
            "many",
            "thousands",
            "updated",
            "many",
            "wide",
            "updated",
            "altered",
            "emptied",
            "wide",
            "single",
            "emptied",
            "ddl",
            "single",
            "few",
            "ddl",
            "updated",
            "CREATION",
        ] {
            let moved = world.go(to).await;
            let (estimate, actual) =
                (moved["estimate_ms"].as_f64().unwrap(), moved["elapsed_ms"].as_f64().unwrap().max(0.5));
            if round == 0 {
                continue;
            }
            let ratio = estimate / actual;
            let is_within = (1.0 / 3.0..=3.0).contains(&ratio);
            println!(
                "{to:10} {:9} estimate {estimate:8.1} ms  actual {actual:8.1} ms  ratio {ratio:5.2}{}",
                moved["strategy"].as_str().unwrap(),
                if is_within { "" } else { "  OUT" }
            );
            all += 1;
            within += usize::from(is_within);
        }
    }
    println!("{within} of {all} estimates were within a factor of 3");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_keyframe_was_dropped_by_hand_the_base_image_is_restored() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world
        .primary
        .psql(DATABASE, "INSERT INTO t VALUES (2, 'b'); TRUNCATE t; INSERT INTO t VALUES (3, 'c')")
        .await;
    world.checkpoint("third").await;
    world.go("third").await;
    // The keeper may be making another one meanwhile.
    let drop_all = async || {
        let server = world.replica.client("postgres").await;
        for name in world.databases().await.iter().filter(|name| name.starts_with("ptr_")) {
            for sql in [
                format!("ALTER DATABASE \"{name}\" IS_TEMPLATE false"),
                format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
            ] {
                let _ = server.batch_execute(&sql).await;
            }
        }
        world.databases().await == [REPLICA]
    };
    wait_until("there are none", PATIENCE, &drop_all).await;
    let rebuild =
        |dry_run: bool| json!({"position": "third", "rebuild": true, "dry_run": dry_run}).to_string();
    let planned = world.api.post("/api/navigate", &rebuild(true)).await;
    assert_eq!((&planned["strategy"], &planned["from"]["transaction"]), (&json!("keyframe"), &json!(3)));
    assert!(planned["reason"].as_str().unwrap().contains("the base image is restored"), "{planned:#}");
    world.tamper("DELETE FROM t").await;
    let moved = world.api.post("/api/navigate", &rebuild(false)).await;
    assert_eq!((&moved["strategy"], world.rows().await.as_str()), (&json!("keyframe"), "1|3|c"));

    // So for a way back that needs one, and for a comparison elsewhere.
    wait_until("there are none", PATIENCE, &drop_all).await;
    world.go("CREATION").await;
    assert_eq!(world.rows().await, "1|1|a");
    wait_until("there are none", PATIENCE, &drop_all).await;
    let verified = world.api.post("/api/verify", "").await;
    assert_eq!(verified["equal"], true, "{verified:#}");
    world.close().await;
}
