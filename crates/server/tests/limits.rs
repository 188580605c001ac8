//! What cannot be captured is found and said, by the status and by doctor.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use ptr_server::Role;
use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions, wait_until};
use serde_json::Value;
use support::{Api, configuration};
use tempfile::TempDir;

/// What holds passwords, and fires events.
const SECRETS: &str = "
    CREATE SUBSCRIPTION hushed CONNECTION 'host=nowhere user=u password=HUSH' PUBLICATION p WITH (connect = false);
    ALTER SUBSCRIPTION hushed CONNECTION 'postgresql://u:HUSH@nowhere/d';
    CREATE FOREIGN DATA WRAPPER w;
    CREATE SERVER far FOREIGN DATA WRAPPER w OPTIONS (host 'nowhere', secret_key 'HUSH');
    CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user 'u', password 'HUSH');";

const SCHEMA: &str = "
    CREATE ROLE old_owner; CREATE ROLE new_owner;
    CREATE TABLE reassigned (id int PRIMARY KEY); ALTER TABLE reassigned OWNER TO old_owner;
    CREATE TABLE altered (id int PRIMARY KEY); ALTER TABLE altered OWNER TO old_owner;
    CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION theirs() OWNER TO old_owner;
    CREATE TABLE ordered (id int PRIMARY KEY);
    CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE TABLE becomes_unlogged (id int PRIMARY KEY);";

/// Of what there is a line for each, by the words that it must have.
const NOTICED: [&str; 8] = [
    "2 objects (public.reassigned, public.theirs()) got another owner",
    "1 mark of CLUSTER (public.ordered) changed",
    "1 role (late) changed",
    "1 event trigger (watching) changed",
    "1 setting of the database (every role) changed",
    "1 set of large objects (large objects) changed",
    "1 unlogged table (public.becomes_unlogged)",
    "2 tables and materialised views (public.hidden_empty, public.hidden_view) appeared",
];

fn lines(list: &Value, key: Option<&str>) -> Vec<String> {
    let text = |one: &Value| key.map_or(one, |key| &one[key]).as_str().unwrap_or_default().to_owned();
    list.as_array().unwrap().iter().map(text).collect()
}

async fn what_passes_by_the_log_is_said_once(version: ServerVersion) {
    let (primary, _replica, api, _folder) = world(version).await;
    api.post("/api/checkpoints", r#"{"name": "before"}"#).await;
    assert_eq!(lines(&api.get("/api/status").await["warnings"], None), [""; 0]);

    for statement in [
        "ALTER TABLE altered OWNER TO new_owner",
        "REASSIGN OWNED BY old_owner TO new_owner",
        "CLUSTER ordered USING ordered_pkey",
        "CREATE ROLE late",
        "CREATE EVENT TRIGGER watching ON sql_drop EXECUTE FUNCTION noted()",
        "ALTER DATABASE shop SET work_mem = '5MB'",
        "SELECT lo_from_bytea(0, 'large')",
        "ALTER TABLE becomes_unlogged SET UNLOGGED",
        "INSERT INTO becomes_unlogged VALUES (1)",
        "CREATE TABLE new_one (id int PRIMARY KEY); CREATE MATERIALIZED VIEW new_two AS SELECT 1 AS a",
        "EXPLAIN ANALYZE CREATE MATERIALIZED VIEW hidden_view AS SELECT 1 AS a",
        "EXPLAIN ANALYZE CREATE TABLE hidden_empty AS SELECT 1 AS a WHERE false",
        "EXPLAIN ANALYZE CREATE TABLE hidden AS SELECT 1 AS a",
    ] {
        primary.psql("shop", statement).await;
    }
    for name in ["after", "again"] {
        api.post("/api/checkpoints", &format!(r#"{{"name": "{name}"}}"#)).await;
        let warnings = lines(&api.get("/api/status").await["warnings"], None);
        for noticed in NOTICED {
            let found = warnings.iter().filter(|line| line.contains(noticed)).count();
            assert_eq!(found, 1, "{noticed}: {warnings:#?}");
        }
        assert!(!warnings.iter().any(|line| line.contains("public.altered") || line.contains("new_")));
        let findings = api.get("/api/doctor").await["findings"].clone();
        let titles = lines(&findings, Some("title"));
        for noticed in NOTICED {
            assert_eq!(
                titles.iter().filter(|line| line.contains(noticed)).count(),
                1,
                "{noticed}: {titles:#?}"
            );
        }
        // What showed up by its rows is in the log, and the user may change it.
        primary.psql("shop", "UPDATE hidden SET a = a + 1").await;
        assert!(lines(&findings, Some("fix")).iter().all(|fix| !fix.is_empty()), "{findings:#}");
    }
    api.service.close().await.unwrap();
}

async fn passwords_in_statements_are_not_shown(version: ServerVersion) {
    let (primary, _replica, api, _folder) = world(version).await;
    primary.psql("shop", SECRETS).await;
    api.post("/api/checkpoints", r#"{"name": "secret"}"#).await;
    let log = api.get("/api/wal-logs?limit=100").await;
    let statements = lines(&log["entries"], Some("sql"));
    assert_eq!(statements.iter().filter(|sql| sql.contains("***")).count(), 4, "{statements:#?}");
    let moved = api.post("/api/navigate", r#"{"position": "head"}"#).await;
    let entries = api.post("/api/navigate", r#"{"start_id": "CREATION", "end_id": "secret"}"#).await;
    let status = api.get("/api/status").await;
    for answer in [log, moved, entries, status] {
        assert!(!answer.to_string().contains("HUSH"), "{answer:#}");
    }
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_in_statements_are_not_shown_on_15() {
    passwords_in_statements_are_not_shown(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_in_statements_are_not_shown_on_18() {
    passwords_in_statements_are_not_shown(ServerVersion::Pypi18).await;
}

/// A primary, a replica, and a service that captures the one into the other.
async fn world(version: ServerVersion) -> (TestServer, TestServer, Api, TempDir) {
    let primary = TestServer::start(version, TestServerOptions::default()).await;
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let replica = TestServer::start(version, options).await;
    primary.database("shop").await;
    primary.psql("shop", SCHEMA).await;
    let folder = tempfile::tempdir().unwrap();
    let (input, output) =
        (primary.dsn("shop").to_uri_with_password(), replica.dsn("replica").to_uri_with_password());
    let programs = primary.cluster().installation().bin_dir.display().to_string();
    let variables = [("INPUT_DSN", input.as_str()), ("OUTPUT_DSN", &output), ("PG_BIN", &programs)];
    let configuration = configuration(folder.path(), &variables);
    let api = Api::open(configuration, Role::Up).await;
    wait_until("the listener streams", Duration::from_secs(30), async || {
        api.get("/api/status").await["databases"][0]["listener"]["state"] == "streaming"
    })
    .await;
    (primary, replica, api, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_the_log_is_said_once_on_15() {
    what_passes_by_the_log_is_said_once(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_the_log_is_said_once_on_18() {
    what_passes_by_the_log_is_said_once(ServerVersion::Pypi18).await;
}

async fn without_a_superuser_names_are_followed_and_other_changes_stop_replay(version: ServerVersion) {
    let primary = TestServer::start(version, TestServerOptions::default()).await;
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let replica = TestServer::start(version, options).await;
    primary.database("shop").await;
    let dsn = primary.dsn("shop");
    let password = dsn.password().unwrap().reveal().to_owned();
    let role = format!(
        "CREATE ROLE app LOGIN REPLICATION PASSWORD '{password}'; GRANT CREATE ON DATABASE shop TO app;
         GRANT CREATE ON SCHEMA public TO app; SET ROLE app;
         CREATE TABLE t (id int PRIMARY KEY, v varchar(10)); CREATE TABLE u (id int PRIMARY KEY)"
    );
    primary.psql("shop", &role).await;
    let folder = tempfile::tempdir().unwrap();
    let input = dsn.with_user("app", dsn.password().cloned()).to_uri_with_password();
    let output = replica.dsn("replica").to_uri_with_password();
    let programs = primary.cluster().installation().bin_dir.display().to_string();
    let variables = [("INPUT_DSN", input.as_str()), ("OUTPUT_DSN", &output), ("PG_BIN", &programs)];
    let configuration = configuration(folder.path(), &variables);
    let mut api = streaming(configuration.clone()).await;
    let told = api.get("/api/status").await["databases"][0]["schema_changes"].clone();
    assert!(told.as_str().unwrap().starts_with("schema changes are inferred only"), "{told}");

    primary.psql("shop", "INSERT INTO t VALUES (1, 'x'); INSERT INTO u VALUES (1)").await;
    api.post("/api/checkpoints", r#"{"name": "before"}"#).await;
    primary
        .psql("shop", "ALTER TABLE t RENAME TO renamed; ALTER TABLE renamed ALTER v TYPE varchar(20)")
        .await;
    primary.psql("shop", "INSERT INTO renamed VALUES (2, repeat('y', 20))").await;
    api.post("/api/checkpoints", r#"{"name": "followed"}"#).await;
    api.post("/api/navigate", r#"{"position": "followed"}"#).await;
    // A table that is made meanwhile is on no list, and nothing of the user's fails on it, however it was made. That it
    // is not captured is said.
    for (table, made) in [
        ("made", "CREATE TABLE made AS SELECT 1 AS a"),
        ("chosen", "SELECT 1 AS a INTO chosen"),
        ("hidden", "EXPLAIN ANALYZE CREATE TABLE hidden AS SELECT 1 AS a"),
    ] {
        let own = format!("SET ROLE app; {made}; UPDATE {table} SET a = 2; DELETE FROM {table} WHERE a = 2");
        primary.psql("shop", &own).await;
    }
    api.post("/api/checkpoints", r#"{"name": "made"}"#).await;
    api.post("/api/navigate", r#"{"position": "made"}"#).await;
    assert_eq!(replica.psql("replica", "SELECT to_regclass('made')").await.trim(), "");
    let warnings = lines(&api.get("/api/status").await["warnings"], None);
    for table in ["public.made", "public.chosen", "public.hidden"] {
        assert_eq!(warnings.iter().filter(|line| line.contains(table)).count(), 1, "{table}: {warnings:#?}");
    }
    let rows = "SELECT string_agg(concat(id, v), ' ' ORDER BY id) FROM renamed";
    assert_eq!(replica.psql("replica", rows).await.trim(), "1x 2yyyyyyyyyyyyyyyyyyyy");

    // While nobody listens, and so that what was known has to come from the log.
    api.service.close().await.unwrap();
    drop(api);
    primary.psql("shop", "ALTER TABLE u ADD COLUMN w int DEFAULT 7; INSERT INTO u VALUES (2, 8)").await;
    api = streaming(configuration).await;
    api.post("/api/checkpoints", r#"{"name": "after"}"#).await;
    let (status, problem) =
        api.send(axum::http::Method::POST, "/api/navigate", r#"{"position": "after"}"#).await;
    assert!(!status.is_success(), "{problem:#}");
    let detail = problem.to_string();
    assert!(detail.contains("there is no telling how") && detail.contains("set up again"), "{problem:#}");
    assert_eq!(replica.psql("replica", rows).await.trim(), "1x 2yyyyyyyyyyyyyyyyyyyy");
    api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_superuser_names_are_followed_and_other_changes_stop_replay_on_15() {
    without_a_superuser_names_are_followed_and_other_changes_stop_replay(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_superuser_names_are_followed_and_other_changes_stop_replay_on_18() {
    without_a_superuser_names_are_followed_and_other_changes_stop_replay(ServerVersion::Pypi18).await;
}

async fn streaming(configuration: ptr_server::Configuration) -> Api {
    let api = Api::open(configuration, Role::Up).await;
    wait_until("the listener streams", Duration::from_secs(30), async || {
        api.get("/api/status").await["databases"][0]["listener"]["state"] == "streaming"
    })
    .await;
    api
}
