//! Random walks through a random history, with the way to the replica's server cut at any message: wherever a move
//! is broken off, the session's database is exactly what the primary was at the position that it says.
//!
//! `PTR_TEST_SEED` is a seed of yours, or `random`; `PTR_WALK_STEPS` makes the walks longer. The oracle is the primary
//! itself, kept by `pg_dump` and SQL after each of its transactions.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use axum::http::{Method, StatusCode};
use ptr_server::Role;
use ptr_testkit::{
    Chance, ClusterRole, DatabaseState, Proxy, ServerVersion, TestServer, TestServerOptions,
    assert_equal_states, wait_until,
};
use serde_json::{Value, json};
use support::{Api, DATABASE, REPLICA, configuration};
use tempfile::TempDir;

const SCHEMA: &str = "
CREATE TABLE keyed (id int PRIMARY KEY, n int UNIQUE, v text);
CREATE TABLE bag (a int, b text);
CREATE TABLE audit (what text, id int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.audit VALUES (TG_OP, coalesce(NEW.id, OLD.id)); RETURN NULL; END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON keyed FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE keyed ENABLE ALWAYS TRIGGER note;
INSERT INTO keyed SELECT i, i, 'first' FROM generate_series(1, 50) i;
INSERT INTO bag SELECT i % 5, 'first' FROM generate_series(1, 50) i;";

/// Transactions of a history.
const HISTORY: usize = 24;
/// Up to one of these a cut lies: at the beginning of a move, in the midst of it, at its end or behind it.
const MESSAGES: [usize; 3] = [10, 40, 160];

/// A primary, and a replica that is reached by a way that can be cut.
struct Walk {
    primary: TestServer,
    replica: TestServer,
    proxy: Proxy,
    api: Api,
    /// What the primary held, by transactions of the log before.
    kept: BTreeMap<u64, DatabaseState>,
    /// Checkpoints that were made; where a transaction changes nothing, two are at one position.
    named: usize,
    cuts: usize,
    _folder: TempDir,
}

impl Walk {
    async fn begin(version: ServerVersion) -> Self {
        Self::begin_by(version, "").await
    }

    /// With options of the output server's DSN.
    async fn begin_by(version: ServerVersion, options_of_output: &str) -> Self {
        let primary = TestServer::start(version, TestServerOptions::default()).await;
        let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
        let replica = TestServer::start(version, options).await;
        primary.database(DATABASE).await;
        primary.psql(DATABASE, SCHEMA).await;
        let port = replica.cluster().port();
        let proxy = Proxy::to(port).await;
        let folder = tempfile::tempdir().unwrap();
        let input = primary.dsn(DATABASE).to_uri_with_password();
        let output = replica.dsn(REPLICA).to_uri_with_password();
        let output = output.replace(&format!(":{port}/"), &format!(":{}/", proxy.port())) + options_of_output;
        let programs = primary.cluster().installation().bin_dir.display().to_string();
        let variables =
            [("INPUT_DSN", input.as_str()), ("OUTPUT_DSN", output.as_str()), ("PG_BIN", programs.as_str())];
        let api = Api::open(configuration(folder.path(), &variables), Role::Up).await;
        wait_until("the listener streams", Duration::from_secs(60), async || {
            api.get("/api/status").await["databases"][0]["listener"]["state"] == "streaming"
        })
        .await;
        Self { primary, replica, proxy, api, kept: BTreeMap::new(), named: 0, cuts: 0, _folder: folder }
    }

    /// Runs this on the primary, and keeps what it is then.
    async fn keep(&mut self, sql: &str) {
        self.primary.psql(DATABASE, sql).await;
        let name = format!("kept {}", self.named);
        self.named += 1;
        let made = self.api.post("/api/checkpoints", &json!({"name": name}).to_string()).await;
        let state = DatabaseState::capture(&self.primary.dsn(DATABASE)).await.without_sequences();
        self.kept.insert(made["transaction"].as_u64().unwrap(), state);
    }

    async fn write_history(&mut self, chance: &mut Chance) {
        self.keep("SELECT").await;
        let mut next_id = 100;
        for _ in 0..HISTORY {
            let sql = transaction(chance, &mut next_id);
            self.keep(&sql).await;
        }
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.api.send(Method::POST, path, &body.to_string()).await
    }

    /// Where the session's database says it is, and whether it is there exactly; asked directly.
    async fn cursor(&self) -> (u64, bool) {
        let sql = "SELECT ordinal, state = 'settled' FROM postgres_test_replay.cursor";
        let row = self.replica.client(REPLICA).await.query_one(sql, &[]).await.unwrap();
        (u64::try_from(row.get::<_, i64>(0)).unwrap(), row.get(1))
    }

    async fn assert_at(&self, ordinal: u64) {
        assert_eq!(self.cursor().await, (ordinal, true));
        let state = DatabaseState::capture(&self.replica.dsn(REPLICA)).await.without_sequences();
        assert_equal_states(&self.kept[&ordinal], &state);
    }

    /// Makes a move; if `cut` then broken off after so many messages. Gives where the session is.
    async fn go(&mut self, path: &str, body: Value, cut: Option<u64>) -> u64 {
        let before = self.cursor().await.0;
        if let Some(messages) = cut {
            self.proxy.cut_after(messages);
        }
        let (status, answer) = self.post(path, body.clone()).await;
        let was_cut = self.proxy.heal();
        self.cuts += usize::from(was_cut);
        if status.is_success() {
            let to = answer["to"]["transaction"].as_u64().unwrap();
            self.assert_at(to).await;
            return to;
        }
        assert!(was_cut, "{path} {body}: {answer:#}");
        let (now, is_exact) = self.reachable_cursor(&body).await;
        if is_exact {
            self.assert_at(now).await;
        }
        println!("{path} {body} from {before} cut after {cut:?}: at {now}, exactly: {is_exact}");
        now
    }

    /// A cut between closing the session's database to newcomers and exchanging it leaves it closed until the service
    /// looks again.
    async fn reachable_cursor(&self, body: &Value) -> (u64, bool) {
        let closed = "SELECT count(*) FROM pg_database WHERE NOT datallowconn AND datname = 'replica'";
        if self.replica.psql("postgres", closed).await.trim() != "0" {
            let (status, answer) = self.post("/api/navigate", json!({"position": "@"})).await;
            assert!(status.is_success(), "after {body} broken off: {answer:#}");
        }
        self.cursor().await
    }

    /// Databases of ours on the replica's server that are neither a session's nor kept to start from.
    async fn leftovers(&self) -> String {
        let sql = "SELECT string_agg(datname, ', ') FROM pg_database
                   WHERE datname ~ '__(next|old|verify)' OR NOT datallowconn AND datname = 'replica'";
        self.replica.psql("postgres", sql).await.trim().to_owned()
    }
}

/// SQL of one transaction.
fn transaction(chance: &mut Chance, next_id: &mut usize) -> String {
    if chance.one_in(3) {
        let first = statement(chance, next_id);
        let taken_back = statement(chance, next_id);
        let second = statement(chance, next_id);
        return format!("BEGIN; {first}; SAVEPOINT s; {taken_back}; ROLLBACK TO s; {second}; COMMIT");
    }
    statement(chance, next_id)
}

fn statement(chance: &mut Chance, next_id: &mut usize) -> String {
    let (modulus, rest) = (2 + chance.below(4), chance.below(2));
    let id = *next_id;
    *next_id += 20;
    match chance.below(14) {
        0 | 1 => format!(
            "INSERT INTO keyed (id, n, v) SELECT i, i, md5(i::text) FROM generate_series({id}, {}) i",
            id + chance.below(20)
        ),
        2 | 3 => format!("UPDATE keyed SET v = v || '{id}' WHERE id % {modulus} = {rest}"),
        // The key changes; numbers are used once, so none is met.
        4 => format!("UPDATE keyed SET id = -id WHERE id % {modulus} = {rest}"),
        // Every row takes another's value of a unique column, by way of nothing.
        5 => format!(
            "UPDATE keyed SET n = NULL WHERE n % {modulus} = {rest}; UPDATE keyed SET n = id * 3 + 100000 WHERE n IS NULL"
        ),
        6 => format!("DELETE FROM keyed WHERE id % {modulus} = {rest} AND id % 7 < 3"),
        7 => {
            format!("INSERT INTO bag SELECT i % 3, 'same' FROM generate_series(1, {}) i", 1 + chance.below(9))
        }
        8 => "DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag LIMIT 4)".to_owned(),
        9 => format!("UPDATE bag SET b = b || '{rest}' WHERE a = {}", chance.below(5)),
        10 => "TRUNCATE bag".to_owned(),
        11 => format!("ALTER TABLE keyed ADD COLUMN c{id} int DEFAULT 7"),
        12 => format!("CREATE TABLE t{id} AS SELECT id, v FROM keyed"),
        _ => format!("CREATE INDEX i{id} ON bag (a)"),
    }
}

async fn walk(version: ServerVersion) {
    let mut chance = Chance::seeded();
    let steps = std::env::var("PTR_WALK_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let mut walk = Walk::begin(version).await;
    walk.write_history(&mut chance).await;
    let positions: Vec<u64> = walk.kept.keys().copied().collect();
    walk.go("/api/navigate", json!({"position": "CREATION"}), None).await;
    let (mut at, mut way_back) = (positions[0], None);
    for _ in 0..steps {
        let cut = chance.one_in(2).then(|| {
            let most = *chance.pick(&MESSAGES);
            chance.below(most) as u64
        });
        let before = at;
        let mut is_undo = false;
        match (chance.below(6), way_back) {
            (0, Some(back)) => {
                at = walk.go("/api/undo", json!({}), cut).await;
                assert!(at == back || cut.is_some(), "undo leads back to {back}, and not to {at}");
                is_undo = true;
                // Cut off, it is still to be made. It may have arrived all the same, with only the answer lost.
                way_back = way_back.filter(|_| at != back);
            }
            (1, _) if at > positions[0] => {
                at = walk.go("/api/navigate", json!({"position": "@-1"}), cut).await;
            }
            (2, _) if at < positions[positions.len() - 1] => {
                at = walk.go("/api/navigate", json!({"position": "@+1"}), cut).await;
            }
            _ => {
                let kept = chance.below(walk.named);
                let goal = json!({"checkpoint_id": format!("kept {kept}")});
                at = walk.go("/api/navigate", goal, cut).await;
            }
        }
        if at != before && !is_undo {
            way_back = Some(before);
        }
    }
    // Whatever was broken off left nothing behind, once a move has ended.
    let head = positions[positions.len() - 1];
    assert_eq!(walk.go("/api/navigate", json!({"position": "head"}), None).await, head);
    assert_eq!(walk.go("/api/navigate", json!({"position": "CREATION"}), None).await, positions[0]);
    assert_eq!(walk.leftovers().await, "");
    println!("{steps} moves, {} of them cut", walk.cuts);
    assert!(walk.cuts > 0, "nothing was broken off");
    walk.api.service.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_move_is_broken_off_the_session_is_what_it_says_on_15() {
    walk(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_move_is_broken_off_the_session_is_what_it_says_on_18() {
    walk(ServerVersion::Pypi18).await;
}

/// A way of a few kB a second, over which a move takes many times as long as a silent one is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_over_a_slow_way_to_the_output_server_arrives_and_questions_are_answered_meanwhile() {
    let mut walk = Walk::begin_by(ServerVersion::Debian15, "?connect_timeout=1").await;
    walk.keep("SELECT").await;
    walk.keep("INSERT INTO keyed SELECT i, i, repeat(md5(i::text), 30) FROM generate_series(1000, 1200) i")
        .await;
    walk.keep(
        "UPDATE bag SET b = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 600) i) WHERE a = 1",
    )
    .await;
    let positions: Vec<u64> = walk.kept.keys().copied().collect();
    for goal in [positions[2], positions[0], positions[1]] {
        walk.proxy.slow_to(15_000);
        let begun = std::time::Instant::now();
        let body =
            json!({"position": format!("kept {}", positions.iter().position(|one| *one == goal).unwrap())});
        let moving = walk.post("/api/navigate", body);
        let asking = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            for path in ["/api/status", "/api/sessions", "/api/checkpoints", "/api/wal-logs?limit=5"] {
                let asked = std::time::Instant::now();
                let answered = tokio::time::timeout(Duration::from_secs(10), walk.api.get(path)).await;
                assert!(answered.is_ok(), "{path} is not answered while a move goes on");
                println!("{path} was answered in {:?}", asked.elapsed());
            }
        };
        let ((status, answer), ()) = tokio::join!(moving, asking);
        println!("to {goal} in {:?}: {status} {}", begun.elapsed(), answer["strategy"]);
        walk.proxy.heal();
        assert!(status.is_success(), "{answer:#}");
        walk.assert_at(goal).await;
    }
    walk.api.service.close().await.unwrap();
}

/// A firewall, a tunnel or a proxy has forgotten the connections: they take what is sent, and nothing ever comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_way_to_the_output_server_ends_what_is_under_way_and_it_goes_on() {
    let mut chance = Chance::seeded();
    let mut walk = Walk::begin_by(ServerVersion::Debian15, "?connect_timeout=2").await;
    walk.write_history(&mut chance).await;
    let positions: Vec<u64> = walk.kept.keys().copied().collect();
    let head = positions[positions.len() - 1];
    let mut told = 0;
    for (messages, goal, rebuild) in [(12, "head", false), (60, "CREATION", true)] {
        walk.proxy.silence_after(messages);
        let body = json!({"position": goal, "rebuild": rebuild});
        let moving = walk.post("/api/navigate", body.clone());
        let ended = tokio::time::timeout(Duration::from_secs(60), moving).await;
        let (status, answer) = ended.unwrap_or_else(|_| panic!("{body} after {messages} messages hangs"));
        println!("{body} silent after {messages}: {status} {answer:#}");
        if !status.is_success() {
            told += 1;
            let hint = answer["hint"].as_str().unwrap_or_default();
            // Where a login was under way, that is what is told.
            let says_what_next = hint.contains("try again") || hint.contains("connect_timeout");
            assert!(answer["code"] == "unreachable" && says_what_next, "{answer:#}");
        }
        walk.proxy.heal();
        let (now, is_exact) = walk.reachable_cursor(&body).await;
        assert!(is_exact, "the session is between positions at {now}");
        walk.assert_at(now).await;
    }
    assert!(told > 0 && walk.proxy.silenced() > 0, "no move was in the midst");

    // A keyframe is copied; status is asked.
    walk.proxy.silence_after(12);
    let made = walk.post("/api/keyframes", json!({"at": "kept 5"}));
    let (status, answer) =
        tokio::time::timeout(Duration::from_secs(60), made).await.expect("a keyframe hangs");
    println!("a keyframe: {status} {answer:#}");
    walk.proxy.heal();
    walk.proxy.hold_up();
    let asked = tokio::time::timeout(Duration::from_secs(60), walk.api.get("/api/status"));
    let told = asked.await.expect("status hangs while the way is held up");
    assert_eq!(told["output"]["connected"], false, "{told:#}");
    assert!(told["output"]["error"].as_str().unwrap().contains("answer"), "{told:#}");
    walk.proxy.heal();
    let (status, answer) = walk.post("/api/keyframes", json!({"at": "kept 9"})).await;
    assert!(status.is_success(), "{answer:#}");
    assert_eq!(walk.go("/api/navigate", json!({"position": "CREATION"}), None).await, positions[0]);
    assert_eq!(walk.go("/api/navigate", json!({"position": "head"}), None).await, head);
    assert_eq!(walk.leftovers().await, "");
    walk.api.service.close().await.unwrap();
}
