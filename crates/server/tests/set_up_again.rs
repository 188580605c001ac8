//! A primary that is set up again begins another history, and the earlier one stays. The oracle is SQL on both
//! servers.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use ptr_server::{Announcement, Code, Configuration, Role};
use ptr_testkit::{ClusterRole, Proxy, ServerVersion, TestServer, TestServerOptions, wait_until};
use serde_json::{Value, json};
use support::{Api, configuration};
use tempfile::TempDir;

const DATABASE: &str = "shop";
const REPLICA: &str = "replica";

struct World {
    primary: TestServer,
    replica: TestServer,
    configuration: Configuration,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::of(ServerVersion::Debian15).await
    }

    async fn of(version: ServerVersion) -> Self {
        let primary = TestServer::start(version, TestServerOptions::default()).await;
        let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
        let replica = TestServer::start(version, options).await;
        primary.database(DATABASE).await;
        primary
            .psql(DATABASE, "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a')")
            .await;
        let folder = tempfile::tempdir().unwrap();
        let input = primary.dsn(DATABASE).to_uri_with_password();
        let output = replica.dsn(REPLICA).to_uri_with_password();
        let configuration = configuration(folder.path(), &[("INPUT_DSN", &input), ("OUTPUT_DSN", &output)]);
        Self { primary, replica, configuration, _folder: folder }
    }

    async fn up(&self) -> (Api, Vec<String>) {
        let (api, announced) = Api::open_aloud(self.configuration.clone(), Role::Up).await;
        wait_until("the listener streams", Duration::from_secs(30), async || {
            api.get("/api/status").await["databases"][0]["listener"]["state"] == "streaming"
        })
        .await;
        let told = announced.into_iter().filter_map(|announcement| match announcement {
            Announcement::Step(text) | Announcement::Warning(text) => Some(text),
            Announcement::Progress(_) => None,
        });
        (api, told.collect())
    }

    async fn teardown(&self) -> Value {
        let offline = Api::open(self.configuration.clone(), Role::Offline).await;
        offline.post("/api/teardown", "").await
    }

    async fn rows(&self, database: &str) -> String {
        let sql = "SELECT string_agg(id || v, ',' ORDER BY id) FROM t";
        self.replica.psql(database, sql).await.trim().to_owned()
    }
}

/// The way back from what cannot be captured: another history begins, the earlier one stays whole, and the session goes
/// where the new one leads. `c` is on the primary and was never captured.
async fn assert_way_back(world: &World, old: &Value) {
    world.teardown().await;
    let (api, announced) = world.up().await;
    assert!(announced.iter().any(|text| text.contains("aside")), "{announced:#?}");
    let earlier = api.get("/api/status").await["earlier"][0].as_str().unwrap().to_owned();
    assert_eq!(world.rows(REPLICA).await, "1a,2b,3c");
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('d')").await;
    api.post("/api/checkpoints", r#"{"name": "new"}"#).await;
    go(&api, "head", "default").await;
    assert_eq!(world.rows(REPLICA).await, "1a,2b,3c,4d");
    let entries = api.get(&format!("/api/wal-logs?database={earlier}")).await;
    assert_eq!(entries["total_count"], 1, "{entries:#}");
    let kept = api.get(&format!("/api/checkpoints/{}", old["id"].as_str().unwrap())).await;
    assert_eq!(kept["lsn"], old["lsn"]);
    let body = json!({"name": "back then", "database": earlier, "at": "old"}).to_string();
    let then = api.post("/api/sessions", &body).await;
    assert_eq!(world.rows(then["target_database"].as_str().unwrap()).await, "1a,2b");
    api.service.close().await.unwrap();
}

/// A history with a checkpoint; then nobody captures.
async fn history_that_ends(world: &World) -> Value {
    let (api, _) = world.up().await;
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('b')").await;
    let old = api.post("/api/checkpoints", r#"{"name": "old"}"#).await;
    api.service.close().await.unwrap();
    old
}

async fn go(api: &Api, position: &str, session: &str) -> Value {
    let body = json!({"position": position, "session_id": session}).to_string();
    api.post("/api/navigate", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earlier_history_stays_whole_beside_the_new_one() {
    let world = World::new().await;
    let (api, _) = world.up().await;
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('b')").await;
    let old = api.post("/api/checkpoints", r#"{"name": "old"}"#).await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'c'").await;
    api.post("/api/checkpoints", r#"{"name": "both"}"#).await;
    let extra = api.post("/api/sessions", r#"{"name": "extra", "at": "old"}"#).await;
    let extra = extra["target_database"].as_str().unwrap().to_owned();
    go(&api, "head", "default").await;
    api.service.close().await.unwrap();

    let torn_down = world.teardown().await;
    let kept = torn_down["kept"].to_string();
    assert!(kept.contains("log/shop") && kept.contains("base/shop"), "{torn_down:#}");
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('unseen')").await;

    let (api, announced) = world.up().await;
    let status = api.get("/api/status").await;
    let earlier = status["earlier"][0].as_str().unwrap().to_owned();
    assert!(earlier.starts_with("shop@"), "{earlier}");
    for what in ["earlier history of shop aside", "session default anew", "session extra anew"] {
        assert!(announced.iter().any(|text| text.contains(what)), "{what} is not in {announced:#?}");
    }
    assert_eq!(status["databases"][0]["log"]["transactions"], 0);
    assert_eq!(status["session"]["position"]["transaction"], 0);
    for database in [REPLICA, &extra] {
        assert_eq!(world.rows(database).await, "1c,2c,3unseen", "{database}");
    }

    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('d')").await;
    api.post("/api/checkpoints", r#"{"name": "both"}"#).await;
    world.primary.psql(DATABASE, "DELETE FROM t WHERE id = 1").await;
    api.post("/api/checkpoints", r#"{"name": "new"}"#).await;
    go(&api, "both", "default").await;
    assert_eq!(world.rows(REPLICA).await, "1c,2c,3unseen,4d");
    go(&api, "head", "default").await;
    assert_eq!(world.rows(REPLICA).await, "2c,3unseen,4d");
    go(&api, "new", "extra").await;
    assert_eq!(world.rows(&extra).await, "2c,3unseen,4d");
    assert_eq!(api.post("/api/verify", "").await["equal"], true);

    let names = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(api.get("/api/checkpoints").await), ["CREATION", "MIGRATION", "both", "new"]);
    let listed = api.get(&format!("/api/checkpoints?database={earlier}")).await;
    assert_eq!(names(listed), ["CREATION", "MIGRATION", "old", "both"]);
    let id = old["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/api/checkpoints/{id}")).await["lsn"], old["lsn"]);
    let entries = api.get(&format!("/api/wal-logs?database={earlier}")).await;
    assert_eq!(entries["total_count"], 3, "{entries:#}");
    assert_eq!(entries["entries"][0]["data"]["v"], "b");

    let body = json!({"name": "back then", "database": earlier, "at": "old"}).to_string();
    let then = api.post("/api/sessions", &body).await;
    assert_eq!(world.rows(then["target_database"].as_str().unwrap()).await, "1a,2b");
    api.service.close().await.unwrap();

    let (api, announced) = world.up().await;
    assert!(!announced.iter().any(|text| text.contains("anew") || text.contains("aside")), "{announced:#?}");
    assert_eq!(api.get("/api/status").await["earlier"], json!([earlier]));
    assert_eq!(world.rows(REPLICA).await, "2c,3unseen,4d");
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_of_the_earlier_history_are_not_taken_back_in_the_new_one() {
    let world = World::new().await;
    let (api, _) = world.up().await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'b'").await;
    api.post("/api/checkpoints", r#"{"name": "b"}"#).await;
    go(&api, "head", "default").await;
    go(&api, "CREATION", "default").await;
    api.service.close().await.unwrap();
    world.teardown().await;
    let (api, _) = world.up().await;
    let (status, problem) = api.send(Method::POST, "/api/undo", "").await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")), "{problem:#}");
    assert_eq!(world.rows(REPLICA).await, "1b");
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_opened_is_made_anew_with_consent_only() {
    let world = World::new().await;
    let (api, _) = world.up().await;
    api.post("/api/sessions/default/open", "").await;
    world.replica.psql(REPLICA, "UPDATE t SET v = 'mine'").await;
    api.service.close().await.unwrap();
    world.teardown().await;
    let (api, announced) = world.up().await;
    assert!(announced.iter().any(|text| text.contains("--yes")), "{announced:#?}");
    assert_eq!(world.rows(REPLICA).await, "1mine");
    let (status, problem) = api.send(Method::POST, "/api/navigate", r#"{"position": "head"}"#).await;
    assert!(!status.is_success(), "{problem:#}");
    assert_eq!(world.rows(REPLICA).await, "1mine");
    api.service.close().await.unwrap();
    let consenting =
        World { configuration: Configuration { consent: true, ..world.configuration.clone() }, ..world };
    let (api, _) = consenting.up().await;
    assert_eq!(consenting.rows(REPLICA).await, "1a");
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_shows_the_earlier_history_keeps_it_in_its_place() {
    let world = World::new().await;
    let (api, _) = world.up().await;
    api.service.close().await.unwrap();
    world.teardown().await;
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let data = &world.configuration.data;
    std::fs::create_dir_all(data.run()).unwrap();
    let running = json!({"address": "127.0.0.1:1", "pid": other.id(), "role": "ipc", "version": "0"});
    std::fs::write(data.service_file(), running.to_string()).unwrap();
    let problem = Api::refused(world.configuration.clone(), Role::Listener).await;
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(problem.code, Code::Precondition, "{problem:?}");
    assert!(problem.detail.contains("ipc"), "{}", problem.detail);
    let slots = world.primary.psql(DATABASE, "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(slots.trim(), "0");
    assert!(data.log_of(DATABASE).join("log.json").exists());
}

/// Slots are named by set-up, after the settings of then.
#[tokio::test(flavor = "multi_thread")]
async fn what_set_up_made_is_gone_on_with_whatever_the_settings_say_by_now() {
    let mut world = World::new().await;
    world.primary.database("billing").await;
    world.primary.psql("billing", "CREATE TABLE b (id int PRIMARY KEY)").await;
    let dsns = [
        ("INPUT_DSN", world.primary.dsn(DATABASE).to_uri_with_password()),
        ("OUTPUT_DSN", world.replica.dsn(REPLICA).to_uri_with_password()),
    ];
    let set = |names: &str, more: &[(&str, &str)]| {
        let mut settings: Vec<(&str, &str)> = dsns.iter().map(|(name, value)| (*name, &**value)).collect();
        settings.push(("INPUT_DATABASES", names));
        settings.extend(more);
        configuration(world._folder.path(), &settings)
    };
    let first = set("shop,billing", &[]);
    let others = [("REPLICATION_SLOT", "another"), ("PUBLICATION_NAME", "another")];
    let later = [set("billing,shop", &[]), set("shop,billing", &others)];
    world.configuration = first;
    let (api, _) = world.up().await;
    api.service.close().await.unwrap();
    let slots = "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots";
    let made = world.primary.psql(DATABASE, slots).await;
    for (number, configuration) in later.into_iter().enumerate() {
        world.configuration = configuration;
        let (api, _) = world.up().await;
        world.primary.psql(DATABASE, &format!("INSERT INTO t (v) VALUES ('{number}')")).await;
        world.primary.psql("billing", &format!("INSERT INTO b VALUES ({number})")).await;
        for database in [DATABASE, "billing"] {
            let body = json!({"name": format!("c{number}"), "database": database}).to_string();
            api.post("/api/checkpoints", &body).await;
            let entries = api.get(&format!("/api/wal-logs?database={database}")).await;
            assert_eq!(entries["total_count"], number + 1, "{database}: {entries:#}");
        }
        api.service.close().await.unwrap();
    }
    assert_eq!(world.primary.psql(DATABASE, slots).await, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_aside_goes_on_where_a_crash_broke_it_off() {
    let world = World::new().await;
    let (api, _) = world.up().await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'b'").await;
    api.post("/api/checkpoints", r#"{"name": "b"}"#).await;
    api.service.close().await.unwrap();
    world.teardown().await;
    let data = &world.configuration.data;
    let identity: Value =
        serde_json::from_slice(&std::fs::read(data.log_of(DATABASE).join("log.json")).unwrap()).unwrap();
    let began = identity["created_at"].as_str().unwrap().split('.').next().unwrap().replace(['-', ':'], "");
    let name = format!("{DATABASE}@{began}Z");
    std::fs::rename(data.base_of(DATABASE), data.base_of(&name)).unwrap();
    let (api, _) = world.up().await;
    assert_eq!(api.get("/api/status").await["earlier"], json!([name]));
    let body = json!({"name": "back then", "database": name, "at": "b"}).to_string();
    let then = api.post("/api/sessions", &body).await;
    assert_eq!(world.rows(then["target_database"].as_str().unwrap()).await, "1b");
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_primary_that_is_down_is_torn_down_and_set_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = configuration(folder.path(), &[]);
    Api::open(configuration.clone(), Role::Up).await.service.close().await.unwrap();
    let offline = Api::open(configuration.clone(), Role::Offline).await;
    let removed = offline.post("/api/teardown", "").await["removed"].to_string();
    assert!(removed.contains("slot postgres_test_replay"), "{removed}");
    assert_eq!(offline.get("/api/status").await["input"]["connected"], false, "it was left running");
    drop(offline);
    let api = Api::open(configuration, Role::Up).await;
    assert_eq!(api.get("/api/status").await["earlier"].as_array().unwrap().len(), 1);
    api.service.close().await.unwrap();
}

/// A standby that was promoted, or a server that was restored: the same cluster, another timeline.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_on_another_timeline_is_refused_and_another_history_begins_on_it() {
    let mut world = World::new().await;
    let old = history_that_ends(&world).await;
    // What is needed to recover from an archive: one that has nothing.
    world.primary.psql("postgres", "ALTER SYSTEM SET restore_command = 'false'").await;
    world.primary.stop().await;
    std::fs::write(world.primary.cluster().data_directory().join("recovery.signal"), "").unwrap();
    world.primary.start_again().await;
    let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
    wait_until("it is promoted", Duration::from_secs(60), async || {
        world.primary.psql("postgres", "CHECKPOINT").await;
        world.primary.psql("postgres", timeline).await.trim() == "2"
    })
    .await;
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('c')").await;
    assert_refused_with(&world, "timeline").await;
    assert_way_back(&world, &old).await;
}

/// As after a failover: what answers at the primary's address is its standby, promoted.
async fn promoted_standby_is_refused(version: ServerVersion, has_slot: bool) {
    let mut world = World::of(version).await;
    let way = Proxy::to(world.primary.cluster().port()).await;
    let input = way.lead(&world.primary.dsn(DATABASE)).to_uri_with_password();
    let output = world.replica.dsn(REPLICA).to_uri_with_password();
    let programs = version.installation().bin_dir.display().to_string();
    let variables = [("INPUT_DSN", &*input), ("OUTPUT_DSN", &*output), ("PG_BIN", &*programs)];
    world.configuration = configuration(world._folder.path(), &variables);
    let (api, _) = world.up().await;
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('b')").await;
    let old = api.post("/api/checkpoints", r#"{"name": "old"}"#).await;

    // While it runs.
    let standby = world.primary.promoted_standby().await;
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    assert_eq!(standby.psql("postgres", identifier).await, world.primary.psql("postgres", identifier).await);
    if has_slot {
        let sql = "SELECT pg_create_logical_replication_slot('postgres_test_replay', 'pgoutput')";
        standby.psql(DATABASE, sql).await;
    }
    // What it numbers next depends on when it was copied.
    standby.psql(DATABASE, "INSERT INTO t (id, v) VALUES (3, 'c'); SELECT setval('t_id_seq', 3)").await;
    way.lead_to(standby.cluster().port());
    way.cut();
    wait_until("the stream has ended", Duration::from_secs(60), async || {
        api.get("/api/status").await["databases"][0]["listener"]["state"] != "streaming"
    })
    .await;
    way.heal();
    let mut said = Value::Null;
    wait_until("capture ends", Duration::from_secs(60), async || {
        said = api.get("/api/status").await;
        said["databases"][0]["listener"]["state"] == "failed"
    })
    .await;
    for part in ["timeline", "teardown, then up"] {
        assert!(said["databases"][0]["listener"].to_string().contains(part), "{part}: {said:#}");
    }
    // Nothing is taken for now that is not in the log.
    for (path, body) in [("/api/checkpoints", r#"{"name": "now"}"#), ("/api/verify", "{}")] {
        let (status, answer) = api.send(Method::POST, path, body).await;
        assert!(!status.is_success(), "{path}: {answer:#}");
        println!("{path}: {answer:#}");
    }
    assert_eq!(
        api.get("/api/wal-logs").await["total_count"],
        1,
        "nothing of the other timeline is in the log"
    );
    go(&api, "head", "default").await;
    assert_eq!(world.rows(REPLICA).await, "1a,2b");
    api.service.close().await.unwrap();

    // And when it is started: the slot is what is looked for first.
    assert_refused_with(&world, if has_slot { "timeline" } else { "is gone" }).await;
    world.primary = standby;
    assert_way_back(&world, &old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_promoted_beside_the_primary_is_not_taken_for_it_on_15() {
    promoted_standby_is_refused(ServerVersion::Debian15, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_promoted_beside_the_primary_is_not_taken_for_it_though_it_has_the_slot_on_18() {
    promoted_standby_is_refused(ServerVersion::Pypi18, true).await;
}

/// The service does not start, or its listener ends; either says why, and the way back; the history can be read.
async fn assert_refused_with(world: &World, reason: &str) {
    let reader = Api::open(world.configuration.clone(), Role::Offline).await;
    assert_eq!(reader.get("/api/wal-logs").await["total_count"], 1);
    drop(reader);
    let (announcer, role) = (ptr_server::Announcer::silent(), Role::Up);
    let said = match ptr_server::Service::open(world.configuration.clone(), role, &announcer).await {
        Err(error) => serde_json::to_string(&error.problem()).unwrap(),
        Ok(service) => {
            service.close().await.unwrap();
            let api = Api::open(world.configuration.clone(), Role::Up).await;
            let mut said = Value::Null;
            wait_until("the listener ends", Duration::from_secs(60), async || {
                said = api.get("/api/status").await["databases"][0]["listener"].clone();
                said["state"] == "failed"
            })
            .await;
            assert_eq!(api.get("/api/wal-logs").await["total_count"], 1, "the history can be read");
            api.service.close().await.unwrap();
            said.to_string()
        }
    };
    assert!(said.contains(reason), "{reason} is not in {said}");
    assert!(said.contains("teardown, then up"), "the way back is not in {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_lost_our_slot_is_refused_and_another_history_begins_on_it() {
    let mut world = World::new().await;
    let old = history_that_ends(&world).await;
    world.primary.psql(DATABASE, "SELECT pg_drop_replication_slot('postgres_test_replay')").await;
    world.primary.restart().await;
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('c')").await;
    assert_refused_with(&world, "is gone").await;
    assert_way_back(&world, &old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_wal_was_removed_ends_a_history_and_another_begins() {
    let world = World::new().await;
    let old = history_that_ends(&world).await;
    world.primary.psql("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await;
    world.primary.psql("postgres", "SELECT pg_reload_conf()").await;
    world.primary.psql(DATABASE, "INSERT INTO t (v) VALUES ('c')").await;
    wait_until("the slot is lost", Duration::from_secs(60), async || {
        let more = "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 10000)); SELECT pg_switch_wal(); CHECKPOINT";
        world.primary.psql(DATABASE, more).await;
        let status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'postgres_test_replay'";
        world.primary.psql(DATABASE, status).await.trim() == "lost"
    })
    .await;
    assert_refused_with(&world, "gave up the WAL").await;
    assert_way_back(&world, &old).await;
}
