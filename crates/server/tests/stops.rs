//! A replay that cannot go on, for real: an extension of the primary that the output server does not have.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use ptr_testkit::{DatabaseState, ServerVersion, assert_equal_states, wait_until};
use serde_json::{Value, json};
use support::{DATABASE, REPLICA, World};

impl World {
    async fn sql(&self, sql: &str) {
        self.primary.psql(DATABASE, sql).await;
    }

    async fn session(&self) -> Value {
        self.api.get("/api/sessions/default").await
    }

    async fn state(&self) -> DatabaseState {
        DatabaseState::capture(&self.replica.dsn(REPLICA)).await
    }

    /// The warnings of the status that hold this.
    async fn told(&self, part: &str) -> Vec<String> {
        let status = self.api.get("/api/status").await;
        let warnings = status["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        warnings.filter(|text| text.contains(part)).map(str::to_owned).collect()
    }

    /// Whether the status says that the default session is behind and tried again; it follows all the same.
    async fn is_held_up(&self) -> bool {
        assert_eq!(self.session().await["follow"], true);
        !self.told("\"default\" is not kept at head for now").await.is_empty()
    }

    async fn rows(&self) -> String {
        let sql = "SELECT string_agg(id::text, ',' ORDER BY id) FROM t";
        self.replica.psql(REPLICA, sql).await.trim().to_owned()
    }
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_extension_stops_replay_and_can_be_left_out_for_good() {
    let mut world = World::between(ServerVersion::Debian15, ServerVersion::Pypi18, TABLE).await;
    world.sql("INSERT INTO t VALUES (2)").await;
    let one = world.checkpoint("one").await;
    world.go("one").await;
    let before = world.state().await;
    world
        .sql("BEGIN; INSERT INTO t VALUES (3); CREATE EXTENSION hstore; INSERT INTO t VALUES (4); COMMIT")
        .await;
    world.sql("CREATE TABLE h (id int PRIMARY KEY, bag hstore)").await;
    world.sql("INSERT INTO h VALUES (1, 'a=>1'); INSERT INTO t VALUES (5)").await;
    world.checkpoint("two").await;

    let (status, problem) = world.try_go("two").await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")), "{problem:#}");
    assert_eq!(problem["position"]["lsn"], one["lsn"]);
    assert_eq!(
        (&problem["sqlstate"], &problem["statement"]),
        (&json!("0A000"), &json!("CREATE EXTENSION hstore"))
    );
    assert!(problem["reason"].as_str().unwrap().contains("hstore"), "{problem:#}");
    assert_eq!(problem["choices"][0]["command"], "postgres-test-replay session skip");
    assert!(problem["hint"].as_str().unwrap().contains("postgres-test-replay session skip"));
    assert_equal_states(&before, &world.state().await);
    let session = world.session().await;
    assert_eq!(session["stop"]["statement"], "CREATE EXTENSION hstore", "{session:#}");
    assert_eq!(world.api.get("/api/status").await["session"]["stop"], session["stop"]);

    // Left out; the statement that needs it stops next, then the rows of what that did not make.
    let first = world.api.post("/api/decisions", "{}").await;
    assert_eq!((&first["kind"], &first["entry"]), (&json!("skip"), &problem["entry"]));
    assert_eq!(world.session().await["stop"], Value::Null);
    let (_, problem) = world.try_go("two").await;
    assert!(problem["statement"].as_str().unwrap().starts_with("CREATE TABLE h"), "{problem:#}");
    world.api.post("/api/decisions", &json!({"entry": problem["entry"]}).to_string()).await;
    let (_, problem) = world.try_go("two").await;
    assert_eq!((&problem["table"], &problem["operation"]), (&json!("public.h"), &json!("INSERT")));
    world.api.post("/api/decisions", r#"{"table": "public.h"}"#).await;
    let there = world.go("two").await;
    assert!(there["notices"][0].as_str().unwrap().contains("left out by decision"), "{there:#}");
    assert_eq!(world.rows().await, "1,2,3,4,5");
    let session = world.session().await;
    assert_eq!(session["differs"].as_array().unwrap().len(), 3, "{session:#}");
    assert!(!session["notices"].as_array().unwrap().is_empty());

    // Each time it passes.
    world.go("one").await;
    assert_equal_states(&before, &world.state().await);
    assert_eq!(world.session().await["differs"], Value::Null);
    world.go("two").await;
    assert_eq!(world.rows().await, "1,2,3,4,5");

    // Not taken back while nobody can say where the database is, and whether it has to be built anew.
    let path = format!("/api/decisions/{}", first["id"]);
    world.replica.stop().await;
    let (status, problem) = world.api.send(Method::DELETE, &path, "").await;
    assert!(!status.is_success(), "{problem:#}");
    world.replica.start_again().await;
    assert_eq!(world.api.get("/api/decisions").await.as_array().unwrap().len(), 3);

    // Taken back, it stops again, though the session was beyond it.
    let (_, gone) = world.api.send(Method::DELETE, &path, "").await;
    assert_eq!(gone["rebuilds"], true, "{gone:#}");
    let (_, problem) = world.try_go("two").await;
    assert_eq!(problem["statement"], "CREATE EXTENSION hstore", "{problem:#}");
    assert_equal_states(&before, &world.state().await);
    world.api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_stops_keeps_its_stop_visible() {
    let world = World::between(ServerVersion::Debian15, ServerVersion::Pypi18, TABLE).await;
    world.api.post("/api/navigate", r#"{"follow": true}"#).await;
    world.sql("INSERT INTO t VALUES (2)").await;
    world.sql("CREATE EXTENSION hstore").await;
    wait_until("the follower stops", Duration::from_secs(30), async || {
        let session = world.session().await;
        session["stop"]["sqlstate"] == "0A000" && session["follow"] == false
    })
    .await;
    assert_eq!(world.rows().await, "1,2");
    assert_eq!(world.told("\"default\" no longer follows head").await.len(), 1);
    // It is where following took it, and not where it was when that began.
    assert_eq!(world.api.get("/api/position?at=@").await["transaction"], 1);
    // What cannot go there is not kept there either.
    let (status, _) = world.api.send(Method::POST, "/api/navigate", r#"{"follow": true}"#).await;
    assert_eq!((status, &world.session().await["follow"]), (StatusCode::CONFLICT, &json!(false)));
    world.api.post("/api/decisions", "{}").await;
    world.sql("INSERT INTO t VALUES (3)").await;
    world.checkpoint("three").await;
    world.go("three").await;
    assert_eq!(world.rows().await, "1,2,3");
    assert_eq!(world.session().await["stop"], Value::Null);
    assert!(world.told("follows head").await.is_empty());
    world.api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_tried_again_after_what_goes_by_itself_and_says_so_meanwhile() {
    let mut world = World::start(ServerVersion::Debian15, TABLE).await;
    let soon = Duration::from_secs(60);
    world.api.post("/api/navigate", r#"{"follow": true}"#).await;

    // The server is not there, then it starts.
    world.replica.stop().await;
    world.sql("INSERT INTO t VALUES (2)").await;
    wait_until("it says that the follower is held up", soon, async || world.is_held_up().await).await;
    world.replica.start_again().await;
    wait_until("the follower goes on", soon, async || world.rows().await == "1,2").await;
    wait_until("nothing is the matter", soon, async || !world.is_held_up().await).await;

    // Somebody holds a table, and somebody else cancels the statement that waits for it.
    let holder = world.replica.client(REPLICA).await;
    let lock = "SET default_transaction_read_only = off; BEGIN; LOCK TABLE t";
    holder.batch_execute(lock).await.unwrap();
    world.sql("INSERT INTO t VALUES (3)").await;
    wait_until("it says that the follower is held up", soon, async || {
        let cancel = "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted";
        world.replica.psql("postgres", cancel).await;
        world.is_held_up().await
    })
    .await;
    holder.batch_execute("COMMIT").await.unwrap();
    wait_until("the follower goes on", soon, async || world.rows().await == "1,2,3").await;
    wait_until("nothing is the matter", soon, async || !world.is_held_up().await).await;
    assert_eq!(world.session().await["stop"], Value::Null);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_whose_connections_it_would_end_and_a_rebuild_drops_what_others_wrote() {
    let world = World::between(ServerVersion::Debian15, ServerVersion::Pypi18, TABLE).await;
    world.sql("UPDATE t SET id = 2").await;
    let client = world.replica.client(REPLICA).await;
    client
        .batch_execute("SET application_name = 'my app'; SET default_transaction_read_only = off")
        .await
        .unwrap();
    client.batch_execute("DELETE FROM t").await.unwrap();
    world.checkpoint("two").await;
    let (_, problem) = world.try_go("two").await;
    assert_eq!(
        (&problem["code"], &problem["operation"]),
        (&json!("integrity"), &json!("UPDATE")),
        "{problem:#}"
    );
    assert_eq!(problem["choices"][0]["command"], "postgres-test-replay navigate head --rebuild");

    let rebuild = json!({"position": "head", "rebuild": true, "dry_run": true});
    let plan = world.api.post("/api/navigate", &rebuild.to_string()).await;
    let ended = plan["connections_to_end"].as_array().unwrap();
    assert_eq!(ended.len(), 1, "{plan:#}");
    assert!(ended[0].as_str().unwrap().starts_with("my app as "), "{plan:#}");
    assert!(client.query_one("SELECT 1", &[]).await.is_ok(), "a plan ends nothing");

    let moved = world.api.post("/api/navigate", r#"{"position": "head", "rebuild": true}"#).await;
    assert_eq!((&moved["strategy"], &moved["connections_ended"]), (&json!("keyframe"), &json!(1)));
    assert_eq!(world.rows().await, "2");
    assert_eq!(world.session().await["stop"], Value::Null);
    world.api.service.close().await.unwrap();
}
