//! What is no longer needed goes, and nothing else, on real servers. The oracle is the servers' own catalogs, the files,
//! and what can still be read.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{path::Path, time::Duration};

use axum::http::{Method, StatusCode};
use ptr_server::{Configuration, Role};
use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions, wait_until};
use serde_json::{Value, json};
use support::{Api, configuration};
use tempfile::TempDir;

const VERSION: ServerVersion = ServerVersion::Debian15;

struct Stage {
    primary: TestServer,
    replica: TestServer,
    folder: TempDir,
    configuration: Configuration,
}

impl Stage {
    async fn new(more: &[(&str, &str)]) -> Self {
        let primary = TestServer::start(VERSION, TestServerOptions::default()).await;
        let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
        let replica = TestServer::start(VERSION, options).await;
        primary.database("shop").await;
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
        let folder = tempfile::tempdir().unwrap();
        let input = primary.dsn("shop").to_uri_with_password();
        let output = replica.dsn("replica").to_uri_with_password();
        let mut variables = vec![("INPUT_DSN", &*input), ("OUTPUT_DSN", &*output), ("KEYFRAME_BUDGET", "0")];
        variables.extend(more);
        let configuration = configuration(folder.path(), &variables);
        Self { primary, replica, folder, configuration }
    }

    async fn up(&self) -> Api {
        let api = Api::open(self.configuration.clone(), Role::Up).await;
        wait_until("it captures", Duration::from_secs(60), async || {
            api.get("/api/status").await["databases"][0]["listener"]["state"] == "streaming"
        })
        .await;
        api
    }

    /// A history of one row, and then another one: the first is set aside. Gives its name.
    async fn set_aside(&self, row: u32, checkpoint: Option<&str>) -> String {
        let api = self.up().await;
        self.primary.psql("shop", &format!("INSERT INTO t VALUES ({row})")).await;
        let name = checkpoint.unwrap_or("passing");
        let made = api.post("/api/checkpoints", &json!({"name": name}).to_string()).await;
        api.post("/api/navigate", &json!({"position": name}).to_string()).await;
        if checkpoint.is_none() {
            let id = made["id"].as_str().unwrap();
            assert!(api.send(Method::DELETE, &format!("/api/checkpoints/{id}"), "").await.0.is_success());
        }
        let before: Vec<Value> = earlier(&api).await;
        api.service.close().await.unwrap();
        drop(api);
        let offline = Api::open(self.configuration.clone(), Role::Offline).await;
        offline.post("/api/teardown", "{}").await;
        drop(offline);
        let api = self.up().await;
        let after = earlier(&api).await;
        let name = after.iter().find(|name| !before.contains(name)).unwrap().as_str().unwrap().to_owned();
        api.service.close().await.unwrap();
        name
    }

    async fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database WHERE datname !~ '^(postgres|template)' ORDER BY 1";
        self.replica.psql("postgres", sql).await.lines().map(str::to_owned).collect()
    }
}

async fn earlier(api: &Api) -> Vec<Value> {
    api.get("/api/status").await["earlier"].as_array().cloned().unwrap_or_default()
}

/// Names of one kind that were removed, or stay.
fn names(answer: &Value, list: &str, kind: &str) -> Vec<String> {
    let things = answer[list].as_array().unwrap().iter().filter(|thing| thing["kind"] == kind);
    things.map(|thing| thing["name"].as_str().unwrap().to_owned()).collect()
}

/// All but what is being written in another's place, as the listener does all the time.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.path().extension().is_none_or(|end| end != "new") {
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_histories_go_whole_and_what_somebody_named_stays() {
    let stage = Stage::new(&[]).await;
    let named = stage.set_aside(2, Some("mine")).await;
    let nameless = stage.set_aside(3, None).await;
    let api = stage.up().await;
    let (databases, all) = (stage.databases().await, files(stage.folder.path()));
    assert_eq!(databases.len(), 4, "three images of CREATION and the session's: {databases:?}");

    // Without a policy, and to look, nothing goes.
    let nothing = api.post("/api/gc", "{}").await;
    assert_eq!(
        (names(&nothing, "removed", "history"), names(&nothing, "kept", "history").len()),
        (vec![], 2)
    );
    let request = json!({"older_than": "0m", "dry_run": true}).to_string();
    let would = api.post("/api/gc", &request).await;
    assert_eq!(names(&would, "removed", "history"), [&*nameless]);
    assert_eq!((stage.databases().await, files(stage.folder.path())), (databases.clone(), all));
    // Young ones stay, and small ones.
    for spared in [json!({"older_than": "1h"}), json!({"keep_bytes": "1TB"})] {
        let answer = api.post("/api/gc", &spared.to_string()).await;
        assert_eq!(names(&answer, "removed", "history"), [""; 0], "{answer:#}");
    }
    for wrong in [json!({"older_than": "yesterday"}), json!({"keep_bytes": "much"})] {
        let (status, problem) = api.send(Method::POST, "/api/gc", &wrong.to_string()).await;
        assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("usage")));
    }

    let done = api.post("/api/gc", &json!({"keep_bytes": "0"}).to_string()).await;
    assert_eq!(names(&done, "removed", "history"), [&*nameless]);
    assert_eq!(names(&done, "removed", "database"), names(&would, "removed", "database"));
    assert_eq!(names(&done, "removed", "database").len(), 1);
    let kept = done["kept"].as_array().unwrap().iter().find(|thing| thing["kind"] == "history").unwrap();
    assert!(kept["reason"].as_str().unwrap().contains("checkpoint \"mine\""), "{kept}");
    assert_eq!(earlier(&api).await, [json!(named)]);
    let left = stage.databases().await;
    assert_eq!(left.len(), 3, "{left:?}");
    let of_it = files(stage.folder.path()).into_iter().filter(|path| path.contains(&nameless));
    assert_eq!(of_it.collect::<Vec<_>>(), [""; 0]);

    // The named one can be read, and gone to in its own session; so can the present one.
    let log = api.get(&format!("/api/wal-logs?database={named}")).await;
    assert_eq!(log["returned"], 1, "{log:#}");
    let session = api.post("/api/sessions", &json!({"name": "back", "database": named}).to_string()).await;
    let id = session["id"].as_str().unwrap();
    api.post("/api/navigate", &json!({"position": "mine", "session_id": id}).to_string()).await;
    let target = session["target_database"].as_str().unwrap();
    assert_eq!(
        stage.replica.psql(target, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t").await.trim(),
        "1 2"
    );
    api.post("/api/navigate", r#"{"position": "head"}"#).await;
    assert_eq!(stage.replica.psql("replica", "SELECT count(*) FROM t").await.trim(), "3");
    // A session holds it too, after the checkpoint is deleted; then nobody does.
    let checkpoints = api.get(&format!("/api/checkpoints?database={named}")).await;
    let mine =
        checkpoints.as_array().unwrap().iter().find(|one| one["name"] == "mine").unwrap()["id"].clone();
    let mine = format!("/api/checkpoints/{}", mine.as_str().unwrap());
    assert!(api.send(Method::DELETE, &mine, "").await.0.is_success());
    let everything = json!({"keep_bytes": "0"}).to_string();
    let kept = api.post("/api/gc", &everything).await["kept"].to_string();
    assert!(kept.contains("session \\\"back\\\" replays it"), "{kept}");
    // What somebody copied from it stays when its history goes.
    stage.replica.psql("postgres", &format!("CREATE DATABASE mine TEMPLATE \"{target}\"")).await;
    assert!(api.send(Method::DELETE, &format!("/api/sessions/{id}"), "").await.0.is_success());
    let done = api.post("/api/gc", &everything).await;
    assert_eq!(names(&done, "removed", "history"), [named]);
    assert_eq!(names(&done, "kept", "database"), ["mine"]);
    assert_eq!(stage.replica.psql("mine", "SELECT count(*) FROM t").await.trim(), "2");
    let foreign = api.post("/api/gc", r#"{"foreign": true}"#).await;
    assert_eq!(names(&foreign, "removed", "database"), ["mine"]);
    assert_eq!(stage.databases().await.len(), 2);
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_and_files_that_nobody_has_go_and_those_of_others_stay() {
    let stage = Stage::new(&[]).await;
    let api = stage.up().await;
    api.post("/api/navigate", r#"{"position": "head"}"#).await;
    let session = api.post("/api/sessions", r#"{"name": "lost"}"#).await;
    let target = session["target_database"].as_str().unwrap().to_owned();
    // Another data directory on the same output server, and a database of somebody's.
    let other = Stage::new(&[("OUTPUT_DSN", &stage.replica.dsn("theirs").to_uri_with_password())]).await;
    let others = other.up().await;
    others.service.close().await.unwrap();
    stage.replica.psql("postgres", "CREATE DATABASE precious").await;
    let before = stage.databases().await;

    // Everything is somebody's, or says whose it is.
    let nothing = api.post("/api/gc", "{}").await;
    assert_eq!(nothing["removed"], json!([]), "{nothing:#}");
    let kept = names(&nothing, "kept", "database");
    assert!(kept.contains(&"theirs".to_owned()) && !kept.contains(&"precious".to_owned()), "{nothing:#}");

    // A session's database that is kept is its user's.
    let kept = api.post("/api/sessions", r#"{"name": "kept"}"#).await;
    let (id, kept) = (kept["id"].as_str().unwrap(), kept["target_database"].as_str().unwrap());
    let path = format!("/api/sessions/{id}?keep_database=true");
    assert!(api.send(Method::DELETE, &path, "").await.0.is_success());
    stage.replica.psql(kept, "INSERT INTO t VALUES (77)").await;
    let would = api.post("/api/gc", r#"{"foreign": true, "dry_run": true}"#).await;
    assert!(!names(&would, "removed", "database").contains(&kept.to_owned()), "{would:#}");
    api.post("/api/gc", "{}").await;
    assert_eq!(stage.replica.psql(kept, "SELECT count(*) FROM t WHERE id = 77").await.trim(), "1");
    stage.replica.psql("postgres", &format!("DROP DATABASE {kept}")).await;

    // One that a session left, and what a killed process leaves.
    let id = session["id"].as_str().unwrap();
    stage.replica.psql("postgres", &format!("CREATE DATABASE left_over TEMPLATE {target}")).await;
    assert!(api.send(Method::DELETE, &format!("/api/sessions/{id}"), "").await.0.is_success());
    let before: Vec<String> = before.into_iter().filter(|name| *name != target).collect();
    // It may be a copy that somebody made, which no policy and no `gc` without a word takes.
    let copied = api.post("/api/gc", "{}").await;
    assert_eq!(names(&copied, "removed", "database"), [""; 0], "{copied:#}");
    let kept = copied["kept"].as_array().unwrap().iter().find(|thing| thing["name"] == "left_over").unwrap();
    assert!(kept["reason"].as_str().unwrap().ends_with("--foreign drops it"), "{kept}");
    let next = format!("{target}__next");
    stage.replica.psql("postgres", &format!("CREATE DATABASE {next} TEMPLATE left_over")).await;
    let target = &*next;
    // The first connection makes files, and the size is told.
    stage.replica.psql(target, "SELECT").await;
    let data = &stage.configuration.data;
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let left =
        [data.run().join(format!("service.{}.new", dead.id())), data.root().join("base/shop@1.removed")];
    left.iter().for_each(|path| std::fs::write(path, "x").unwrap());
    let would = api.post("/api/gc", r#"{"dry_run": true}"#).await;
    assert!(left.iter().all(|path| path.exists()));
    let done = api.post("/api/gc", "{}").await;
    assert_eq!(done["removed"], would["removed"]);
    assert_eq!(names(&done, "removed", "database"), [target]);
    let gone = names(&done, "removed", "file");
    assert!(left.iter().all(|path| gone.contains(&path.display().to_string()) && !path.exists()), "{gone:?}");
    let now: Vec<String> = stage.databases().await.into_iter().filter(|name| name != "left_over").collect();
    assert_eq!(now, before);
    assert_eq!(stage.replica.psql("left_over", "SELECT count(*) FROM t").await.trim(), "1");
    assert_eq!(stage.replica.psql("replica", "SELECT count(*) FROM t").await.trim(), "1");

    // By request those of nobody that is known here go, and still nothing that is not ours.
    api.post("/api/gc", r#"{"foreign": true}"#).await;
    let now = stage.databases().await;
    assert!(now.contains(&"precious".to_owned()) && now.contains(&"replica".to_owned()), "{now:?}");
    assert!(!now.contains(&"theirs".to_owned()) && now.len() == 3, "{now:?}");
    api.post("/api/navigate", r#"{"position": "CREATION"}"#).await;
    api.service.close().await.unwrap();
}

/// What processes leave that are killed while they build: half of a move, of a comparison, of a keyframe.
#[tokio::test(flavor = "multi_thread")]
async fn what_killed_processes_were_building_goes_once_nobody_builds_it() {
    let stage = Stage::new(&[]).await;
    let api = stage.up().await;
    let session = api.get("/api/sessions").await[0].clone();
    let before = stage.databases().await;
    api.service.close().await.unwrap();
    drop(api);
    let image = before.iter().find(|name| name.ends_with("_creation")).unwrap().clone();
    let mark = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = ";
    let mark = stage.replica.psql("postgres", &format!("{mark}'{image}'")).await;
    let mark = mark.trim().replace(r#""kind":"keyframe""#, r#""kind":"unfinished""#);
    let half = image.replace("_creation", "_7");
    for (name, template) in
        [("replica__next", "replica"), ("replica__verify", &*image), ("a_copy", "replica"), (&*half, &*image)]
    {
        stage.replica.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    }
    stage.replica.psql("postgres", &format!("COMMENT ON DATABASE {half} IS '{mark}'")).await;

    // Somebody is at each of them: nothing goes.
    let run = stage.configuration.data.run();
    let id: uuid::Uuid = session["id"].as_str().unwrap().parse().unwrap();
    let comparison = uuid::Uuid::from_u128(id.as_u128() ^ 1);
    let held = [id, comparison].map(|id| {
        let path = run.join(format!("session-{id}.lock"));
        let file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.lock().unwrap();
        file
    });
    let log = &mark[mark.find(r#""log_id":""#).unwrap() + 10..][..36];
    let making = stage.replica.client("postgres").await;
    let lock =
        format!("SELECT pg_advisory_lock(hashtextextended('postgres-test-replay keyframes of {log}', 0))");
    making.batch_execute(&lock).await.unwrap();
    let offline = Api::open(stage.configuration.clone(), Role::Offline).await;
    let busy = offline.post("/api/gc", "{}").await;
    assert_eq!(names(&busy, "removed", "database"), [""; 0], "{busy:#}");
    let mut kept = names(&busy, "kept", "database");
    kept.sort();
    assert_eq!(kept, ["a_copy", &half, "replica__next", "replica__verify"]);
    assert!(run.join(format!("session-{comparison}.lock")).exists(), "its lock goes with the session only");

    drop(held);
    making.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    let would = offline.post("/api/gc", r#"{"dry_run": true}"#).await;
    let done = offline.post("/api/gc", "{}").await;
    assert_eq!(would["removed"], done["removed"]);
    let mut gone = names(&done, "removed", "database");
    gone.sort();
    assert_eq!(gone, [&half, "replica__next", "replica__verify"]);
    // What only looks like one of ours, in name or in contents, stays.
    let mut left = before;
    left.insert(0, "a_copy".to_owned());
    assert_eq!(stage.databases().await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_told_of_and_let_go_before_it_fills_the_primarys_disk() {
    let stage = Stage::new(&[("SLOT_LIMIT", "96MB")]).await;
    let api = stage.up().await;
    stage.primary.psql("shop", "INSERT INTO t VALUES (2)").await;
    api.post("/api/checkpoints", r#"{"name": "before"}"#).await;
    // What writes and does not end keeps the slot where it is, however fast the listener is.
    let holds = stage.primary.client("shop").await;
    holds.batch_execute("BEGIN; CREATE TABLE held (x int)").await.unwrap();
    let fill = "SELECT pg_logical_emit_message(false, 'x', 'y'); SELECT pg_switch_wal(); CHECKPOINT";
    for _ in 0..4 {
        stage.primary.psql("shop", fill).await;
    }
    let warnings = async || api.get("/api/status").await["warnings"].to_string();
    wait_until("it is told", Duration::from_secs(30), async || warnings().await.contains("SLOT_LIMIT")).await;
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(stage.primary.psql("shop", slots).await.trim(), "1");
    for _ in 0..4 {
        stage.primary.psql("shop", fill).await;
    }
    wait_until("it is let go", Duration::from_secs(60), async || {
        stage.primary.psql("shop", slots).await.trim() == "0"
    })
    .await;
    wait_until("it is said", Duration::from_secs(30), async || warnings().await.contains("was dropped"))
        .await;
    // The primary goes on, and what was captured is there.
    holds.batch_execute("COMMIT").await.unwrap();
    api.post("/api/navigate", r#"{"position": "before"}"#).await;
    assert_eq!(stage.replica.psql("replica", "SELECT count(*) FROM t").await.trim(), "2");
    // The listener finds out when it comes back for its slot.
    wait_until("capture ends", Duration::from_secs(60), async || {
        api.get("/api/status").await["databases"][0]["listener"]["state"] == "failed"
    })
    .await;
    // As it says: another history begins.
    api.post("/api/teardown", "{}").await;
    api.service.close().await.unwrap();
    drop(api);
    let api = stage.up().await;
    assert_eq!(earlier(&api).await.len(), 1);
    api.service.close().await.unwrap();
}
