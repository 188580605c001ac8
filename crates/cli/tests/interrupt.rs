//! Ctrl-C during a move: it stops at a position, in the service too, and can be taken back. During a verification: it
//! ends, and what it had running on both servers. While a move waits for its turn: only that one ends. At a question: that is
//! the answer.
#![allow(missing_docs)]

mod support;

use std::{
    io::Write,
    process::{ChildStdin, Command, Stdio},
    time::Duration,
};

use ptr_testkit::{ServerVersion, wait_until};
use support::{Product, Running, pair::Pair};

/// Sends a process what a terminal sends at Ctrl-C.
fn interrupt(pid: u32) {
    let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().expect("kill starts");
    assert!(sent.success(), "no signal could be sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_interrupted_at_the_keyboard_stops_at_a_position_and_undo_takes_it_back() {
    let pair = Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (a int)").await;
    })
    .await;
    let many = |from, to| {
        format!("DO $$ BEGIN FOR i IN {from}..{to} LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$")
    };
    pair.primary.psql("shop", &many(1, 1_000)).await;
    // Before a TRUNCATE what came before goes in, which a lock holds up; much is to do after it.
    pair.primary.psql("shop", "TRUNCATE u").await;
    pair.primary.psql("shop", &many(1_001, 40_000)).await;
    pair.product.run(&["checkpoint", "create", "end"]);
    let holder = pair.replica.client("shop").await;
    holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t IN SHARE MODE").await.expect("the lock");
    let mut moving = pair.product.spawn("navigate", &["navigate", "end"]);
    let held_up = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)";
    while pair.replica.psql("shop", held_up).await.trim() != "t" {
        assert!(moving.child.try_wait().expect("a child").is_none(), "{}", moving.printed());
    }
    interrupt(moving.child.id());
    moving.wait_for_text("stopping at the next position");
    holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    let status = moving.child.wait().expect("it ends");
    let said = moving.printed();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted at ") && said.contains("undo takes the session back"), "{said}");
    let session = pair.product.json(&["session", "show", "default"]);
    let at = session["position"]["transaction"].as_u64().expect("a position");
    assert!(session["state"] == "settled" && (1..40_001).contains(&at), "{session:#}");
    let rows = async || pair.replica.psql("shop", "SELECT count(*) FROM t").await.trim().to_owned();
    assert_eq!(rows().await, (at - u64::from(at > 1_000)).to_string());
    pair.product.run(&["undo"]);
    assert_eq!(rows().await, "0");
}

/// Sessions of a verification, `pg_dump` among them: they carry its id.
const COMPARING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE application_name ~ '^postgres-test-replay [0-9a-f-]{36}$' AND backend_type = 'client backend'";

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_that_is_interrupted_at_the_keyboard_ends_on_both_servers() {
    let pair = Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (a int)").await;
    })
    .await;
    pair.primary.psql("shop", "INSERT INTO t SELECT generate_series(1, 1000)").await;
    pair.product.run(&["navigate", "head"]);
    // The session is at head and compared itself; then it is elsewhere, and a scratch database is made.
    for (server, position) in [(&pair.primary, "head"), (&pair.replica, "head"), (&pair.primary, "CREATION")]
    {
        pair.product.run(&["navigate", position]);
        let holder = server.client("shop").await;
        holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t").await.expect("the lock");
        let mut verifying = pair.product.spawn("verify", &["verify"]);
        let waits = format!("{COMPARING} AND wait_event_type = 'Lock'");
        while server.psql("postgres", &waits).await.trim() == "0" {
            assert!(verifying.child.try_wait().expect("a child").is_none(), "{}", verifying.printed());
        }
        interrupt(verifying.child.id());
        let status = verifying.child.wait().expect("it ends");
        let said = verifying.printed();
        assert_eq!(status.code(), Some(130), "{said}");
        assert!(said.contains("the verification was stopped"), "{said}");
        // While what they waited for is still held.
        for server in [&pair.primary, &pair.replica] {
            wait_until("their sessions end", Duration::from_secs(30), async || {
                server.psql("postgres", COMPARING).await.trim() == "0"
            })
            .await;
        }
        let scratch = "SELECT count(*) FROM pg_database WHERE datname LIKE '%verify%'";
        assert_eq!(pair.replica.psql("postgres", scratch).await.trim(), "0");
        holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    }
    let verified = pair.product.json(&["verify"]);
    assert_eq!(verified["equal"], true, "{verified:#}");
}

/// A command at a terminal, where somebody types.
struct AtKeyboard {
    running: Running,
    keyboard: ChildStdin,
}

impl AtKeyboard {
    fn start(product: &Product, name: &str, arguments: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_postgres-test-replay");
        let command = format!("{program} --data-dir {} {arguments}", product.data_directory().display());
        let log = product.folder.path().join(format!("{name}.log"));
        // `script` gives it a terminal, at which is typed what comes by the pipe.
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &command, "/dev/null"]).current_dir(product.folder.path());
        let of = product.command(&[]);
        script.envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(Stdio::piped()).stdout(std::fs::File::create(&log).expect("a file"));
        let mut child = script.spawn().expect("script starts");
        let keyboard = child.stdin.take().expect("a pipe");
        Self { running: Running { child, log }, keyboard }
    }

    /// Ctrl-C, which ends it with that code; what it had said then.
    #[track_caller]
    fn interrupted(mut self) -> String {
        self.keyboard.write_all(b"\x03").expect("typed");
        let mut status = None;
        support::wait_until("it to end", || {
            status = self.running.child.try_wait().expect("a child");
            status.is_some()
        });
        let said = self.running.printed();
        assert_eq!(status.and_then(|status| status.code()), Some(130), "{said}");
        said
    }
}

#[test]
fn a_question_is_answered_by_an_interrupt_at_the_keyboard() {
    let product = Product::new(None, None);
    let mut asking = AtKeyboard::start(&product, "asking", "teardown");
    asking.running.wait_for_text("[y/N]");
    let said = asking.interrupted();
    assert!(said.contains("error: interrupted"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_waits_is_ended_at_the_keyboard_and_what_it_waits_for_goes_on() {
    let pair = Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (a int)").await;
    })
    .await;
    pair.primary.psql("shop", "INSERT INTO t VALUES (1)").await;
    pair.product.run(&["checkpoint", "create", "one"]);
    pair.primary.psql("shop", "INSERT INTO t VALUES (2)").await;
    pair.product.run(&["checkpoint", "create", "two"]);
    let held_up = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)";
    let rows = async || pair.replica.psql("shop", "SELECT count(*) FROM t").await.trim().to_owned();

    // Somebody else's move has the session.
    let holder = pair.replica.client("shop").await;
    holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t IN SHARE MODE").await.expect("the lock");
    let mut first = pair.product.spawn("first", &["navigate", "two"]);
    while pair.replica.psql("shop", held_up).await.trim() != "t" {
        assert!(first.child.try_wait().expect("a child").is_none(), "{}", first.printed());
    }
    for arguments in ["navigate one", "replay --to one"] {
        let mut second = AtKeyboard::start(&pair.product, "second", arguments);
        second.running.wait_for_text("moving");
        let said = second.interrupted();
        assert!(said.contains("error: the move was ended before it began"), "{said}");
        assert!(!said.contains("undo takes"), "{said}");
    }
    holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    let status = first.child.wait().expect("it ends");
    assert!(status.success(), "{}", first.printed());
    assert_eq!(rows().await, "2");

    // A verification has it, so no move is under way that could be ended.
    let holder = pair.primary.client("shop").await;
    holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t").await.expect("the lock");
    let mut verifying = pair.product.spawn("verify", &["verify"]);
    while pair.primary.psql("shop", held_up).await.trim() != "t" {
        assert!(verifying.child.try_wait().expect("a child").is_none(), "{}", verifying.printed());
    }
    let mut second = AtKeyboard::start(&pair.product, "second", "--yes navigate one");
    second.running.wait_for_text("moving");
    let said = second.interrupted();
    assert!(said.contains("error: the move was ended before it began"), "{said}");
    holder.batch_execute("ROLLBACK").await.expect("the lock is given back");
    let status = verifying.child.wait().expect("it ends");
    assert!(status.success(), "{}", verifying.printed());
    assert_eq!(rows().await, "2");
    // The only move that was made is the first one.
    pair.product.run(&["undo"]);
    assert_eq!(rows().await, "0");
}
