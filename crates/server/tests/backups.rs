//! Backups on real servers: what they hold and say, what a restore replaces, and how it ends. The oracle is SQL and
//! `pg_restore`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::{future::Future, path::Path, process::Command, sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use ptr_server::{
    Role, ServiceError,
    resource::backup::{RestoreBackup, Restored},
};
use ptr_testkit::{ServerVersion, wait_until};
use serde_json::{Value, json};
use support::{Api, DATABASE, REPLICA, World, configuration};
use tokio_util::sync::CancellationToken;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

/// Restoring the index takes for ever in a database that a backup is restored into.
const ENDLESS: &str = "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT
    CASE WHEN current_database() ~ 'test_replay' THEN length(pg_sleep(3600)::text) ELSE $1 END $$;
    CREATE INDEX ON t (slow(id))";

/// Restoring the index takes until there is a role `go`.
const HELD: &str = "CREATE FUNCTION hold() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        WHILE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'go') LOOP
            PERFORM pg_catalog.pg_sleep(0.02);
        END LOOP; END $$;
    CREATE FUNCTION held(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
        IF current_database() ~ 'test_replay' THEN PERFORM public.hold(); END IF;
        RETURN $1; END $$;
    CREATE INDEX ON t (held(id))";

fn to_database(name: &str) -> RestoreBackup {
    RestoreBackup { database: Some(name.to_owned()), ..RestoreBackup::default() }
}

fn to_session(name: &str) -> RestoreBackup {
    RestoreBackup { session_id: Some(name.to_owned()), ..RestoreBackup::default() }
}

/// Restores the backup `b`.
fn restore(
    world: &World,
    request: RestoreBackup,
) -> impl Future<Output = Result<Restored, ServiceError>> + use<> {
    let service = Arc::clone(&world.api.service);
    async move { service.restore_backup("b", request).await }
}

/// Waits until a backup is restored so far that the index is next, and says into which database.
async fn restored_into(world: &World, purpose: &str) -> String {
    let sql = format!(
        "SELECT datname FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname ~ '_{purpose}_'"
    );
    wait_until("the index is being restored", Duration::from_secs(60), async || {
        !world.replica.psql("postgres", &sql).await.is_empty()
    })
    .await;
    world.replica.psql("postgres", &sql).await.trim().to_owned()
}

/// What restores and comparisons have left on the output server.
async fn left_over(world: &World) -> String {
    let sql = "SELECT datname FROM pg_database WHERE datname ~ 'test_replay' ORDER BY 1";
    world.replica.psql("postgres", sql).await.trim().to_owned()
}

/// The ids that a dump has in `t`, by `pg_restore`.
fn ids_in(dump: &str) -> Vec<String> {
    let pg_restore = ServerVersion::Debian15.installation().program("pg_restore");
    let output =
        Command::new(pg_restore).args(["--data-only", "--table=t", "--file=-", dump]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("COPY ")).skip(1);
    rows.take_while(|line| *line != "\\.").map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restores_to_what_was_dumped() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    for format in ["custom", "directory"] {
        let body = json!({"name": format, "format": format}).to_string();
        let backup = world.api.post("/api/backups", &body).await;
        assert_eq!(
            (&backup["state"], &backup["position"]["exact"]),
            (&json!("complete"), &json!(true)),
            "{backup:#}"
        );
        let verified = world.api.post(&format!("/api/backups/{format}/verify"), "").await;
        assert_eq!((&verified["sound"], &verified["rows"]), (&json!(true), &json!(1)), "{verified:#}");
    }
    world.api.post("/api/backups/custom/restore", r#"{"database": "restored"}"#).await;
    assert_eq!(world.replica.psql("restored", "SELECT v FROM t").await.trim(), "a");
    let again = r#"{"database": "restored"}"#;
    let (status, problem) = world.api.send(Method::POST, "/api/backups/custom/restore", again).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("precondition")));
    let triggers = world.replica.psql("restored", "SELECT count(*) FROM pg_event_trigger").await;
    assert_eq!(triggers.trim(), "0", "event triggers of capture fire on the replica");
    assert_eq!(world.api.get("/api/backups").await.as_array().unwrap().len(), 2);
    let (status, _) = world.api.send(Method::DELETE, "/api/backups/directory", "").await;
    assert_eq!(status, StatusCode::OK);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_backups_of_one_name_at_once_one_is_made_and_sound_and_the_other_is_refused() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    let make = async || world.api.send(Method::POST, "/api/backups", r#"{"name": "b"}"#).await;
    let (one, other) = tokio::join!(make(), make());
    let (made, refused) = if one.0 == StatusCode::CREATED { (one, other) } else { (other, one) };
    assert_eq!((made.0, &made.1["state"]), (StatusCode::CREATED, &json!("complete")), "{:#}", made.1);
    assert_eq!((refused.0, &refused.1["code"]), (StatusCode::CONFLICT, &json!("precondition")));
    let verified = world.api.post("/api/backups/b/verify", "").await;
    assert_eq!((&verified["sound"], &verified["rows"]), (&json!(true), &json!(1)), "{verified:#}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_whole_databases_are_copied_at_a_time_and_a_third_waits() {
    let world = World::start(ServerVersion::Debian15, &format!("{TABLE}; {HELD}")).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    let restoring = ["x", "y"].map(|name| tokio::spawn(restore(&world, to_database(name))));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    wait_until("both are restored", Duration::from_secs(60), async || {
        world.replica.psql("postgres", sleeping).await.trim() == "2"
    })
    .await;
    let third = world.api.send(Method::POST, "/api/verify", r#"{"background": true}"#).await;
    assert_eq!(third.0, StatusCode::ACCEPTED, "{:#}", third.1);
    let path = format!("/api/verifications/{}", third.1["id"].as_str().unwrap());
    wait_until("it says that it waits", Duration::from_secs(10), async || {
        world.api.get(&path).await["progress"]["step"] == json!("waiting until others are done")
    })
    .await;
    // Who only asks, and what makes no sense, does not wait; and a move does not either.
    let refused = restore(&world, to_database("postgres")).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Precondition { .. }), "{refused}");
    world.api.post("/api/navigate", r#"{"position": "head"}"#).await;
    assert_eq!(world.api.get(&path).await["state"], json!("running"));
    world.replica.psql("postgres", "CREATE ROLE go").await;
    for restored in restoring {
        restored.await.unwrap().unwrap();
    }
    wait_until("it has its turn", Duration::from_secs(60), async || {
        world.api.get(&path).await["state"] == json!("done")
    })
    .await;
    assert_eq!(world.api.get(&path).await["result"]["equal"], json!(true));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_left_goes_and_what_is_being_restored_stays() {
    let world = World::start(ServerVersion::Debian15, &format!("{TABLE}; {ENDLESS}")).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    // What runs there ends with it, as with a process.
    let process = tokio::runtime::Runtime::new().unwrap();
    let restoring = process.spawn(restore(&world, to_database("copy")));
    let scratch = restored_into(&world, "restore").await;
    // The one whose place it took, and one whose name somebody chose.
    for name in [&format!("{scratch}_old"), "postgres_test_replay_restore_of_mine"] {
        world.replica.psql("postgres", &format!("CREATE DATABASE {name}")).await;
    }
    let collect = async |body| world.api.post("/api/gc", body).await;
    let busy = collect("{}").await;
    assert_eq!(busy["kept"].as_array().unwrap().len(), 2, "{busy:#}");
    assert_eq!(busy["removed"], json!([]));

    // Its connections and programs too; what it asked of the server goes on there.
    process.shutdown_background();
    assert!(restoring.await.unwrap_err().is_cancelled());
    wait_until("nobody has its lock", Duration::from_secs(20), async || {
        collect(r#"{"dry_run": true}"#).await["removed"].as_array().unwrap().len() == 2
    })
    .await;
    let done = collect("{}").await;
    let gone: Vec<_> = done["removed"].as_array().unwrap().iter().map(|thing| &thing["name"]).collect();
    assert_eq!(gone, [&json!(scratch), &json!(format!("{scratch}_old"))]);
    let left = "SELECT datname FROM pg_database WHERE datname ~ 'test_replay'";
    let left = world.replica.psql("postgres", left).await;
    assert_eq!(left.trim(), "postgres_test_replay_restore_of_mine");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_holds_anything_is_replaced_only_with_consent() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    let things = [
        ("view", "CREATE VIEW v AS SELECT 1"),
        ("function", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        ("type", "CREATE TYPE mood AS ENUM ('happy')"),
        ("schema", "CREATE SCHEMA work"),
        ("large_object", "SELECT lo_from_bytea(0, 'precious')"),
    ];
    for (name, sql) in things {
        world.replica.database(name).await;
        world.replica.psql(name, sql).await;
        let outcome = restore(&world, to_database(name)).await;
        assert!(matches!(&outcome, Err(ServiceError::Precondition { .. })), "{name}: {outcome:?}");
        assert_eq!(world.replica.psql(name, "SELECT to_regclass('t')").await.trim(), "", "{name}");
        restore(&world, RestoreBackup { replace: true, ..to_database(name) }).await.unwrap();
        assert_eq!(world.replica.psql(name, "SELECT v FROM t").await.trim(), "a", "{name}");
    }
    world.replica.database("empty").await;
    restore(&world, to_database("empty")).await.unwrap();
    assert_eq!(world.replica.psql("empty", "SELECT v FROM t").await.trim(), "a");
    // Not even with consent: the server's own, and a session's, which is restored as a session.
    for name in ["template1", "postgres", REPLICA] {
        let outcome = restore(&world, RestoreBackup { replace: true, ..to_database(name) }).await;
        assert!(matches!(&outcome, Err(ServiceError::Precondition { .. })), "{name}: {outcome:?}");
    }
    // Nor is what somebody put in the place of a session's database.
    world.replica.psql("postgres", &format!("DROP DATABASE {REPLICA} WITH (FORCE)")).await;
    world.replica.database(REPLICA).await;
    world.replica.psql(REPLICA, "CREATE TABLE of_mine ()").await;
    let outcome = restore(&world, to_session("default")).await;
    assert!(matches!(&outcome, Err(ServiceError::Precondition { .. })), "{outcome:?}");
    assert_eq!(world.replica.psql(REPLICA, "SELECT to_regclass('of_mine')").await.trim(), "of_mine");
    assert_eq!(left_over(&world).await, "");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_while_a_backup_is_restored_is_not_replaced() {
    let world = World::start(ServerVersion::Debian15, &format!("{TABLE}; {HELD}")).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    let restoring = tokio::spawn(restore(&world, to_database("copy")));
    restored_into(&world, "restore").await;
    world.replica.database("copy").await;
    world.replica.psql("copy", "CREATE TABLE of_mine ()").await;
    world.replica.psql("postgres", "CREATE ROLE go").await;
    let outcome = restoring.await.unwrap();
    assert!(matches!(&outcome, Err(ServiceError::Precondition { .. })), "{outcome:?}");
    assert_eq!(world.replica.psql("copy", "SELECT to_regclass('of_mine')").await.trim(), "of_mine");
    assert_eq!(left_over(&world).await, "");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_session_holds_what_its_position_says_or_does_not_call_it_exact() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.api.post("/api/navigate", r#"{"follow": true}"#).await;
    let stop = CancellationToken::new();
    let writer = tokio::spawn({
        let (primary, stop) = (world.primary.client(DATABASE).await, stop.clone());
        async move {
            for id in 2.. {
                if stop.is_cancelled() {
                    return;
                }
                primary.execute("INSERT INTO t VALUES ($1, 'x')", &[&id]).await.unwrap();
            }
        }
    });
    let mut seen = 0;
    for number in 0..8 {
        let body = json!({"name": format!("b{number}"), "session_id": "default"}).to_string();
        let backup = world.api.post("/api/backups", &body).await;
        // Each entry is a row of its own; one was there before them.
        let rows = ids_in(backup["path"].as_str().unwrap()).len();
        let entries = backup["position"]["at"]["entry_index"].as_u64().unwrap();
        assert_eq!((entries + 1, &backup["position"]["exact"]), (rows as u64, &json!(true)), "{backup:#}");
        seen = rows;
    }
    assert!(seen > 1, "the session did not move");
    stop.cancel();
    writer.await.unwrap();

    world.api.post("/api/sessions/default/open", r#"{"open": true}"#).await;
    world.replica.psql(REPLICA, "DELETE FROM t").await;
    let backup = world.api.post("/api/backups", r#"{"name": "open", "session_id": "default"}"#).await;
    assert_eq!(ids_in(backup["path"].as_str().unwrap()), [""; 0]);
    assert_eq!(backup["position"]["exact"], false, "{backup:#}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_restored_though_its_clients_come_back_at_once() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'b'").await;
    world.checkpoint("second").await;
    world.go("second").await;
    world.replica.database("copy").await;
    world.replica.psql("copy", "CREATE TABLE of_mine ()").await;
    for request in [to_session("default"), RestoreBackup { replace: true, ..to_database("copy") }] {
        let dsn = world.replica.dsn(request.database.as_deref().unwrap_or(REPLICA));
        let (first_ended, stop) = (CancellationToken::new(), CancellationToken::new());
        let client = || tokio::spawn(come_back(dsn.clone(), first_ended.clone(), stop.clone()));
        let pool: Vec<_> = (0..8).map(|_| client()).collect();
        let one = world.replica.client(dsn.database()).await;
        let staying = tokio::spawn({
            let first_ended = first_ended.clone();
            async move {
                one.batch_execute("SELECT pg_sleep(3600)").await.unwrap_err();
                first_ended.cancel();
            }
        });
        restore(&world, request).await.unwrap();
        staying.await.unwrap();
        stop.cancel();
        for client in pool {
            client.await.unwrap();
        }
    }
    for database in [REPLICA, "copy"] {
        assert_eq!(world.replica.psql(database, "SELECT v FROM t").await.trim(), "a", "{database}");
    }
    assert_eq!(world.api.get("/api/sessions/default").await["open"], true);
    assert_eq!(left_over(&world).await, "");
    world.go("second").await;
    assert_eq!(world.replica.psql(REPLICA, "SELECT v FROM t").await.trim(), "b");
    world.close().await;
}

/// A client of a pool that comes and goes, and stays from when one of them was ended: at any moment some are just connecting,
/// and whoever looks who is connected does not see them.
async fn come_back(dsn: ptr_postgres::Dsn, first_ended: CancellationToken, stop: CancellationToken) {
    let settings = ptr_postgres::SessionSettings::named("pool");
    while !stop.is_cancelled() {
        let Ok(client) = ptr_postgres::connect(&dsn, &settings).await else { continue };
        let mut said = client.batch_execute("SELECT pg_sleep(0.01)").await;
        if first_ended.is_cancelled() && said.is_ok() {
            let staying = client.batch_execute("SELECT pg_sleep(3600)");
            said = stop.run_until_cancelled(staying).await.unwrap_or(Ok(()));
        }
        if said.is_err() {
            first_ended.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_cannot_be_put_in_its_place_leaves_the_session_as_it_was() {
    let schema = format!("{TABLE}; {HELD}");
    let world = World::tuned(ServerVersion::Debian15, &[("max_prepared_transactions", "2")], &schema).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    world.primary.psql(DATABASE, "UPDATE t SET v = 'b'").await;
    world.checkpoint("second").await;
    world.go("second").await;
    let restoring = tokio::spawn(restore(&world, to_session("default")));
    restored_into(&world, "restore").await;
    // Nobody can end it but who knows what it is for, and while it is there nobody can rename the database.
    world.tamper("BEGIN; CREATE TABLE of_mine (); PREPARE TRANSACTION 'mine'").await;
    let session = world.api.get("/api/sessions/default").await;
    assert_eq!(
        (&session["open"], &session["state"]),
        (&json!(false), &json!("settled")),
        "while it is restored"
    );
    world.replica.psql("postgres", "CREATE ROLE go").await;
    let outcome = restoring.await.unwrap();
    assert!(matches!(&outcome, Err(ServiceError::Precondition { .. })), "{outcome:?}");
    let session = world.api.get("/api/sessions/default").await;
    assert_eq!((&session["open"], &session["state"]), (&json!(false), &json!("settled")), "{session:#}");
    assert_eq!(world.replica.psql(REPLICA, "SELECT v FROM t").await.trim(), "b");
    assert_eq!(left_over(&world).await, "");

    world.tamper("ROLLBACK PREPARED 'mine'").await;
    world.go("CREATION").await;
    restore(&world, to_session("default")).await.unwrap();
    assert_eq!(world.api.get("/api/sessions/default").await["open"], true);
    assert_eq!(world.replica.psql(REPLICA, "SELECT v FROM t").await.trim(), "a");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_a_copied_data_directory_are_its_own() {
    let world = World::start(ServerVersion::Debian15, TABLE).await;
    for format in ["custom", "directory"] {
        world.api.post("/api/backups", &json!({"name": format, "format": format}).to_string()).await;
    }
    let World { primary, replica, api, folder } = world;
    let root = api.service.configuration().data.root().to_owned();
    api.service.close().await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(&root).arg(elsewhere.path()).status().unwrap();
    assert!(copied.success());
    // It could be read there, and would not be the copy's.
    let original = root.join("backups");
    std::fs::rename(&original, root.join("gone")).unwrap();

    let input = primary.dsn(DATABASE).to_uri_with_password();
    let output = replica.dsn(REPLICA).to_uri_with_password();
    let programs = ServerVersion::Debian15.installation().bin_dir.display().to_string();
    let variables =
        [("INPUT_DSN", input.as_str()), ("OUTPUT_DSN", output.as_str()), ("PG_BIN", programs.as_str())];
    let copy = Api::open(configuration(elsewhere.path(), &variables), Role::Offline).await;
    for backup in copy.get("/api/backups").await.as_array().unwrap() {
        let path = Path::new(backup["path"].as_str().unwrap());
        assert!(path.starts_with(elsewhere.path()) && path.exists(), "{backup:#}");
        let id = backup["id"].as_str().unwrap();
        let verified = copy.post(&format!("/api/backups/{id}/verify"), "").await;
        assert_eq!(verified["sound"], true, "{verified:#}");
        copy.post(&format!("/api/backups/{id}/restore"), &json!({"database": id}).to_string()).await;
        assert_eq!(replica.psql(id, "SELECT v FROM t").await.trim(), "a");
    }
    copy.service.close().await.unwrap();
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_under_way_ends_with_the_service_and_leaves_nothing() {
    let world = World::start(ServerVersion::Debian15, &format!("{TABLE}; {ENDLESS}")).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    let restoring = tokio::spawn(restore(&world, to_session("default")));
    let service = Arc::clone(&world.api.service);
    let verifying = tokio::spawn(async move { service.verify_backup("b").await });
    restored_into(&world, "restore").await;
    restored_into(&world, "verify").await;
    world.api.service.close().await.unwrap();
    // Closing has waited for both.
    assert_eq!(left_over(&world).await, "");
    let stopped = |outcome: &Result<Value, ServiceError>| matches!(outcome, Err(ServiceError::Precondition { detail, .. }) if detail.contains("stopped"));
    let restored = restoring.await.unwrap().map(|done| json!(done));
    let verified = verifying.await.unwrap().map(|done| json!(done));
    assert!(stopped(&restored) && stopped(&verified), "{restored:?} {verified:?}");
    let session = world.api.get("/api/sessions/default").await;
    assert_eq!((&session["open"], &session["state"]), (&json!(false), &json!("settled")));
}

/// Whether a dump is sound only the dump says.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_lost_while_a_backup_is_compared_does_not_make_it_unsound() {
    let mut world = World::start(ServerVersion::Debian15, &format!("{TABLE}; {ENDLESS}")).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    let service = Arc::clone(&world.api.service);
    let verifying = tokio::spawn(async move { service.verify_backup("b").await });
    restored_into(&world, "verify").await;
    world.replica.crash().await;
    let outcome = verifying.await.unwrap();
    assert!(matches!(outcome, Err(ServiceError::Program { .. })), "{:?}", outcome.map(|done| json!(done)));
    world.replica.start_again().await;
    world.close().await;
}

/// `pg_restore` quotes the command that failed, whatever it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_does_not_restore_tells_no_password() {
    let far = "CREATE FOREIGN DATA WRAPPER dummy; CREATE SERVER far FOREIGN DATA WRAPPER dummy";
    let world = World::start(ServerVersion::Debian15, &format!("{TABLE}; {far}")).await;
    let mapping =
        "CREATE ROLE app; CREATE USER MAPPING FOR app SERVER far OPTIONS (\"user\" 'u', password 'HUSH')";
    world.primary.psql(DATABASE, mapping).await;
    world.api.post("/api/backups", r#"{"name": "b"}"#).await;
    let verified = world.api.post("/api/backups/b/verify", "").await;
    assert_eq!(verified["sound"], false, "{verified:#}");
    let told = verified.to_string();
    assert!(told.contains("USER MAPPING FOR app") && !told.contains("HUSH"), "{told}");
    world.close().await;
}
