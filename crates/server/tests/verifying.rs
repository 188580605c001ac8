//! `verify` on real servers: while others write, against checkpoints, and with a replica that was tampered with.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use ptr_testkit::{ServerVersion, wait_until};
use serde_json::{Value, json};
use support::{DATABASE, REPLICA, World};

impl World {
    async fn verify(&self, request: Value) -> Value {
        self.api.post("/api/verify", &request.to_string()).await
    }
}

fn differences(report: &Value) -> Vec<&str> {
    report["differences"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect()
}

async fn equal_while_four_clients_write(version: ServerVersion) {
    let world = World::over(version, version, async |primary| {
        primary.pgbench(DATABASE, &["-i", "-s", "1", "-q"]).await;
    })
    .await;
    world
        .primary
        .psql(DATABASE, "CREATE TABLE s (id serial PRIMARY KEY, x int); INSERT INTO s (x) VALUES (1)")
        .await;
    world.go("head").await;
    let at = world.api.get("/api/sessions/default").await["position"].clone();
    let (server, api) = (&world.primary, &world.api);
    let load = async {
        // Few enough transactions that the last scratch database is still made quickly.
        server.pgbench(DATABASE, &["-n", "-c", "4", "-R", "200", "-T", "15"]).await;
    };
    let verifying = async {
        wait_until("the load has begun", Duration::from_secs(60), async || {
            api.get("/api/status").await["databases"][0]["head"] != at
        })
        .await;
        let mut positions = Vec::new();
        for _ in 0..3 {
            let report = world.verify(json!({})).await;
            assert_eq!(report["equal"], true, "{report:#}");
            assert_eq!((&report["scratch"], &report["against"]), (&json!(true), &json!("primary")));
            positions.push(report["position"]["lsn"].as_str().unwrap().to_owned());
        }
        let hashed = api.post("/api/checkpoints", &json!({"name": "busy", "hash": true}).to_string()).await;
        assert!(hashed["hash"]["rows"].as_u64().unwrap() > 100_000, "{hashed:#}");
        positions
    };
    let ((), positions) = tokio::join!(load, verifying);
    assert!(positions[0] != positions[2], "the primary was busy: {positions:?}");
    assert_eq!(world.api.get("/api/sessions/default").await["position"], at, "the session was left alone");
    let kept = world.verify(json!({"at": "busy"})).await;
    assert_eq!((&kept["equal"], &kept["against"]), (&json!(true), &json!("checkpoint busy")), "{kept:#}");
    world.go("head").await;
    let quiet = world.verify(json!({"jobs": 4})).await;
    assert_eq!((&quiet["equal"], &quiet["scratch"]), (&json!(true), &json!(false)), "{quiet:#}");
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE '%verify%'";
    assert_eq!(world.replica.psql("postgres", left).await.trim(), "0");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_while_four_clients_write_on_15() {
    equal_while_four_clients_write(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_while_four_clients_write_on_18() {
    equal_while_four_clients_write(ServerVersion::Pypi18).await;
}

const SHOP: &str =
    "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('a'), ('b'), ('c');
    CREATE TABLE bag (x int); INSERT INTO bag VALUES (1), (1); CREATE INDEX by_v ON t (v);
    CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE free";

async fn what_was_tampered_with_is_named(version: ServerVersion) {
    let world = World::start(version, SHOP).await;
    world
        .primary
        .psql(DATABASE, "UPDATE t SET v = 'B' WHERE id = 2; SELECT nextval('free'), nextval('free')")
        .await;
    world.api.post("/api/checkpoints", &json!({"name": "here", "hash": true}).to_string()).await;
    world.go("here").await;
    let equal = world.verify(json!({})).await;
    assert_eq!((&equal["equal"], &equal["scratch"]), (&json!(true), &json!(false)), "{equal:#}");
    assert_eq!((&equal["sequences"], &equal["rows"]), (&json!(2), &json!(5)));
    world
        .tamper(
            "UPDATE t SET v = 'tampered' WHERE id = 2; DELETE FROM t WHERE id = 3; INSERT INTO bag VALUES (1);
             SELECT setval('free', 7); DROP INDEX by_v;
             CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        )
        .await;
    let report = world.verify(json!({})).await;
    assert_eq!(report["equal"], false);
    let owner = world.primary.dsn(DATABASE).user().to_owned();
    let expected = [
        format!("only the primary has by_v; Type: INDEX; Schema: public; Owner: {owner}"),
        format!("f(); Type: FUNCTION; Schema: public; Owner: {owner} is defined differently"),
        "table \"public\".\"bag\" has 2 rows on the primary, 3 on the replica".into(),
        "\"public\".\"bag\": only the replica has (x='1')".into(),
        "table \"public\".\"t\" has 3 rows on the primary, 2 on the replica".into(),
        "\"public\".\"t\": id=2: v is 'B' on the primary, 'tampered' on the replica".into(),
        "\"public\".\"t\": only the primary has id=3 (id='3', v='c')".into(),
        "sequence \"public\".\"free\" is at 7 on the replica, expected 2".into(),
    ];
    assert_eq!(differences(&report), expected);
    assert_eq!(
        report["details"][5]["columns"][0],
        json!({"column": "v", "primary": "B", "replica": "tampered"})
    );
    let kept = world.verify(json!({"at": "here"})).await;
    let text = differences(&kept).join("; ");
    for part in ["by_v", "f()", "\"t\" has 3 rows on checkpoint here, 2", "bag", "free"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(kept["notes"][0].as_str().unwrap().contains("rows cannot be named"), "{kept:#}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tampered_with_is_named_on_15() {
    what_was_tampered_with_is_named(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tampered_with_is_named_on_18() {
    what_was_tampered_with_is_named(ServerVersion::Pypi18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_of_a_checkpoint_prove_it_later() {
    let world = World::start(ServerVersion::Debian15, SHOP).await;
    let made =
        world.api.post("/api/checkpoints", &json!({"name": "released", "hash": true}).to_string()).await;
    assert_eq!((&made["hash"]["tables"], &made["hash"]["rows"]), (&json!(2), &json!(5)), "{made:#}");
    assert_eq!(world.api.get("/api/checkpoints/released").await["hash"], made["hash"]);
    world
        .primary
        .psql(
            DATABASE,
            "INSERT INTO t (v) VALUES ('d'); DROP INDEX by_v; DELETE FROM bag; SELECT nextval('free')",
        )
        .await;
    world.api.post("/api/checkpoints", &json!({"name": "after"}).to_string()).await;
    world.go("after").await;
    // The session is elsewhere: a scratch database, and the session stays.
    let elsewhere = world.verify(json!({"at": "released"})).await;
    assert_eq!((&elsewhere["equal"], &elsewhere["scratch"]), (&json!(true), &json!(true)), "{elsewhere:#}");
    world.go("released").await;
    let there = world.verify(json!({"at": "released"})).await;
    assert_eq!((&there["equal"], &there["scratch"]), (&json!(true), &json!(false)), "{there:#}");
    world.tamper("UPDATE t SET v = 'x' WHERE id = 1").await;
    let report = world.verify(json!({"at": "released"})).await;
    let told = ["table \"public\".\"t\" has 3 rows on both sides, with other contents"];
    assert_eq!(differences(&report), told);
    for (body, path, code) in [
        (json!({"at": "after"}), "/api/verify", "precondition"),
        (json!({"at": "nowhere"}), "/api/verify", "not_found"),
        (json!({"jobs": 0}), "/api/verify", "usage"),
        (json!({"name": "past", "hash": true, "at": "CREATION"}), "/api/checkpoints", "precondition"),
    ] {
        let (status, problem) = world.api.send(Method::POST, path, &body.to_string()).await;
        assert_eq!((status.is_success(), &problem["code"]), (false, &json!(code)), "{body}: {problem:#}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_can_be_watched_and_is_remembered() {
    let world = World::start(ServerVersion::Debian15, SHOP).await;
    world.go("head").await;
    let (status, begun) = world.api.send(Method::POST, "/api/verify", r#"{"background": true}"#).await;
    assert_eq!((status, &begun["state"]), (StatusCode::ACCEPTED, &json!("running")));
    let path = format!("/api/verifications/{}", begun["id"].as_str().unwrap());
    wait_until("the verification is done", Duration::from_secs(60), async || {
        world.api.get(&path).await["state"] == "done"
    })
    .await;
    let all = world.api.get("/api/verifications").await;
    assert_eq!((&all[0]["id"], &all[0]["result"]["equal"]), (&begun["id"], &json!(true)));
    world.close().await;
}

const SEQUENCE: &str = "SELECT concat(last_value, ' ', is_called) FROM s";

async fn each_checkpoint_has_its_sequences(version: ServerVersion) {
    let world = World::start(version, "CREATE SEQUENCE s; CREATE TABLE t (id int PRIMARY KEY)").await;
    let checkpoint = async |name: &str| {
        let answer = world.api.post("/api/checkpoints", &json!({"name": name}).to_string()).await;
        answer["transaction"].as_u64().unwrap()
    };
    let held = async || world.replica.psql(REPLICA, SEQUENCE).await.trim().to_owned();
    world.primary.psql(DATABASE, "INSERT INTO t VALUES (1)").await;
    let first = checkpoint("first").await;
    assert_eq!(checkpoint("same").await, first, "nothing happened in between");
    // No transaction of the log moves it.
    world.primary.psql(DATABASE, "BEGIN; SELECT nextval('s'); SELECT nextval('s'); ROLLBACK").await;
    assert!(checkpoint("second").await > first);
    for (name, expected) in [("second", "2 t"), ("first", "1 f"), ("second", "2 t"), ("same", "1 f")] {
        world.go(name).await;
        assert_eq!(held().await, expected, "at {name}");
    }

    // A session that is there before the checkpoint is.
    world.primary.psql(DATABASE, "SELECT nextval('s')").await;
    world.primary.psql(DATABASE, "INSERT INTO t VALUES (2)").await;
    wait_until("it is captured", Duration::from_secs(60), async || {
        world.go("head").await;
        world.replica.psql(REPLICA, "SELECT count(*) FROM t").await.trim() == "2"
    })
    .await;
    assert_eq!(held().await, "2 t", "no sample says more");
    checkpoint("third").await;
    assert_eq!(held().await, "3 t");
    assert_eq!(differences(&world.verify(json!({})).await), [""; 0]);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_checkpoint_has_its_sequences_on_15() {
    each_checkpoint_has_its_sequences(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_checkpoint_has_its_sequences_on_18() {
    each_checkpoint_has_its_sequences(ServerVersion::Pypi18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_with_hashes_has_its_own_sequences_too() {
    let world =
        World::start(ServerVersion::Debian15, "CREATE SEQUENCE s; CREATE TABLE t (id int PRIMARY KEY)").await;
    let checkpoint = async |name: &str, hash: bool| {
        let answer =
            world.api.post("/api/checkpoints", &json!({"name": name, "hash": hash}).to_string()).await;
        answer["transaction"].as_u64().unwrap()
    };
    world.primary.psql(DATABASE, "INSERT INTO t VALUES (1)").await;
    let plain = checkpoint("plain", false).await;
    assert_eq!(checkpoint("same", true).await, plain, "nothing happened in between");
    // No transaction of the log moves it.
    world.primary.psql(DATABASE, "SELECT setval('s', 500)").await;
    assert!(checkpoint("hashed", true).await > plain);
    for (name, expected) in [("hashed", "500 t"), ("plain", "1 f"), ("hashed", "500 t")] {
        world.go(name).await;
        assert_eq!(world.replica.psql(REPLICA, SEQUENCE).await.trim(), expected, "at {name}");
    }
    let kept = world.verify(json!({"at": "hashed"})).await;
    assert_eq!(kept["equal"], true, "{kept:#}");
    world.close().await;
}

/// Sequences that fill columns, upwards, downwards and round; one that fills none.
const FILLING: &str = "
    CREATE TABLE up (id serial PRIMARY KEY, v int);
    CREATE TABLE down (id int GENERATED BY DEFAULT AS IDENTITY (INCREMENT BY -3 MINVALUE -100000 START -1) PRIMARY KEY);
    CREATE SEQUENCE round MINVALUE 1 MAXVALUE 5 CYCLE;
    CREATE TABLE around (n int DEFAULT nextval('round'), at serial);
    ALTER SEQUENCE round OWNED BY around.n;
    CREATE SEQUENCE loose";

/// `t` for each that is not behind its rows, upwards and downwards.
const NOT_BEHIND: &str = "SELECT coalesce((SELECT last_value FROM up_id_seq) >= (SELECT max(id) FROM up), true),
                                 coalesce((SELECT last_value FROM down_id_seq) <= (SELECT min(id) FROM down), true)";

const ALL_SEQUENCES: &str =
    "SELECT array_agg(concat(s.name, ' ', s.last_value, ' ', s.is_called) ORDER BY s.name) FROM (
    SELECT 'up' AS name, * FROM up_id_seq UNION ALL SELECT 'down', * FROM down_id_seq
    UNION ALL SELECT 'round', * FROM round UNION ALL SELECT 'loose', * FROM loose) s";

/// What design promises: equal at checkpoints that were made while nobody wrote, inferred from rows in between, in the
/// direction of the increment and not where a sequence goes round; and never behind the rows.
async fn sequences_keep_their_promises(version: ServerVersion) {
    let world = World::start(version, FILLING).await;
    let primary = async |sql: &str| world.primary.psql(DATABASE, sql).await.trim().to_owned();
    let replica = async |sql: &str| world.replica.psql(REPLICA, sql).await.trim().to_owned();
    let mut quiet = vec![("CREATION".to_owned(), primary(ALL_SEQUENCES).await)];
    for number in 1..=4 {
        for sql in [
            "INSERT INTO up (v) VALUES (1), (2); INSERT INTO down DEFAULT VALUES; INSERT INTO around DEFAULT VALUES",
            "BEGIN; INSERT INTO up (v) VALUES (3); INSERT INTO down DEFAULT VALUES; ROLLBACK",
            "INSERT INTO up (v) VALUES (4); UPDATE up SET v = 0; DELETE FROM up WHERE id % 3 = 0; SELECT nextval('loose')",
            "INSERT INTO around DEFAULT VALUES; INSERT INTO around DEFAULT VALUES; INSERT INTO down DEFAULT VALUES",
        ] {
            primary(sql).await;
        }
        let name = format!("quiet {number}");
        world.checkpoint(&name).await;
        quiet.push((name, primary(ALL_SEQUENCES).await));
    }
    for (name, held) in quiet.iter().rev().chain(&quiet) {
        world.go(name).await;
        assert_eq!(replica(ALL_SEQUENCES).await, *held, "at {name}");
    }
    // Between checkpoints.
    let mut inferred = 0;
    world.go("quiet 2").await;
    let round = replica("SELECT last_value FROM round").await;
    let before = replica("SELECT last_value FROM up_id_seq").await;
    for _ in 0..3 {
        world.go("@+1").await;
        assert_eq!(replica(NOT_BEHIND).await, "t|t");
        assert_eq!(replica("SELECT last_value FROM round").await, round, "one that goes round is left alone");
        inferred += usize::from(replica("SELECT last_value FROM up_id_seq").await != before);
    }
    assert!(inferred > 0, "the rows took it forward");

    // Checkpoints made while four clients write: a sample that was taken before its rows would be behind them.
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), "INSERT INTO up (v) VALUES (7); INSERT INTO down DEFAULT VALUES;").unwrap();
    let file = format!("--file={}", script.path().display());
    let arguments = ["-n", "-c", "4", "-R", "200", "-T", "8", file.as_str()];
    let busy = async {
        let mut made = 0;
        for number in 1..=12 {
            world.checkpoint(&format!("busy {number}")).await;
            made = number;
        }
        made
    };
    let (_, made) = tokio::join!(world.primary.pgbench(DATABASE, &arguments), busy);
    for number in (1..=made).rev() {
        world.go(&format!("busy {number}")).await;
        assert_eq!(replica(NOT_BEHIND).await, "t|t", "at busy {number}");
    }

    // The replica can be used: fresh keys, wherever it is.
    for position in ["quiet 3", "busy 5", "head"] {
        world.go(position).await;
        let rows = "SELECT (SELECT count(*) FROM up) + (SELECT count(*) FROM down)";
        let count: i64 = replica(rows).await.parse().unwrap();
        world.tamper("BEGIN; INSERT INTO up (v) VALUES (9); INSERT INTO down DEFAULT VALUES; ROLLBACK").await;
        assert_eq!(replica(rows).await.parse::<i64>().unwrap(), count);
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_keep_their_promises_on_15() {
    sequences_keep_their_promises(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_keep_their_promises_on_18() {
    sequences_keep_their_promises(ServerVersion::Pypi18).await;
}

/// Where a table is kept and by which access method is part of its definition.
#[tokio::test(flavor = "multi_thread")]
async fn another_tablespace_or_access_method_is_a_difference() {
    let made = "CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
                CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int); CREATE TABLE v (id int) PARTITION BY LIST (id)";
    let space = ["SET allow_in_place_tablespaces = on", "CREATE TABLESPACE apart LOCATION ''"];
    let world = World::over(ServerVersion::Debian15, ServerVersion::Debian15, async |primary| {
        let client = primary.client(DATABASE).await;
        for sql in space.iter().chain([&made]) {
            client.batch_execute(sql).await.unwrap();
        }
        client.batch_execute("ALTER TABLE t SET TABLESPACE apart").await.unwrap();
    })
    .await;
    world
        .primary
        .psql(DATABASE, "CREATE TABLE w (id int) TABLESPACE apart; CREATE INDEX ON w (id) TABLESPACE apart")
        .await;
    world.checkpoint("here").await;
    world.go("here").await;
    assert_eq!(differences(&world.verify(json!({})).await), [""; 0]);
    world.tamper("ALTER TABLE w SET TABLESPACE pg_default").await;
    world.tamper("ALTER TABLE u SET ACCESS METHOD other_heap").await;
    let report = world.verify(json!({})).await;
    let found = differences(&report).join("; ");
    assert!(found.contains("Tablespace: apart") && found.contains("u; Type: TABLE"), "{found}");
    assert!(!found.contains("t; Type: TABLE") && !found.contains("v; Type"), "{found}");
    world.close().await;
}
