//! The listener killed again and again under load: the log holds every committed transaction once, in commit
//! order. The oracle is `test_decoding` on a slot of its own.
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};
use support::{
    Chance, Product,
    pair::{DATABASE, Pair},
    wait_until,
};

const KILLS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_repeated_when_the_listener_is_killed_fifty_times() {
    let primary = TestServer::start(ServerVersion::Debian15, TestServerOptions::default()).await;
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let replica = TestServer::start(ServerVersion::Debian15, options).await;
    primary.database("bank").await;
    primary.pgbench("bank", &["-i", "-q", "-s", "1"]).await;
    let product = Product::new(
        Some(&primary.dsn("bank").to_uri_with_password()),
        Some(&replica.dsn("bank").to_uri_with_password()),
    );
    let mut listener = product.spawn("listener", &["listener"]);
    listener.wait_for_text("capturing");
    primary.psql("bank", "SELECT pg_create_logical_replication_slot('oracle', 'test_decoding')").await;

    let load = primary.pgbench("bank", &["-n", "-c", "4", "-j", "1", "-R", "400", "-T", "60"]);
    let kills = async {
        let mut chance = Chance::seeded();
        for _ in 0..KILLS {
            let life = Duration::from_millis(50 + u64::try_from(chance.below(1100)).expect("small"));
            // Not a wait for something: the moment of the kill is the input of this test.
            tokio::time::sleep(life).await;
            listener.kill();
            listener = product.spawn("listener", &["listener"]);
        }
        println!("{KILLS} kills");
    };
    tokio::join!(load, kills);
    primary.psql("bank", "CREATE TABLE the_end (id int); INSERT INTO the_end VALUES (1)").await;
    wait_until("the log to hold the last transaction", || {
        !product.run(&["log", "--json", "--table", "the_end"]).is_empty()
    });
    listener.kill();

    let changes = "SELECT xid, split_part(data, ' ', 2), split_part(data, ' ', 3) FROM pg_logical_slot_get_changes('oracle',
         NULL, NULL, 'skip-empty-xacts', '1') WHERE data LIKE 'table public.pgbench%' OR data LIKE 'table public.the_end%'";
    let expected: Vec<(u64, String, String)> = primary
        .psql("bank", changes)
        .await
        .lines()
        .map(|line| {
            let mut parts = line.split('|');
            let mut part = || parts.next().expect("three columns").trim_end_matches(':').to_owned();
            (part().parse().expect("an xid"), part(), part())
        })
        .collect();
    let logged: Vec<(u64, String, String)> = product
        .run(&["log", "--json"])
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .filter(|entry| entry["operation"] != "DDL")
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().expect("text").to_owned();
            let table = format!("{}.{}", text("schema"), text("table"));
            (entry["xid"].as_u64().expect("an xid"), table, text("operation"))
        })
        .collect();
    assert!(expected.len() > 10_000, "the load was too small to mean anything: {} changes", expected.len());
    let first = expected.iter().zip(&logged).position(|(a, b)| a != b);
    assert_eq!(first, None, "the log departs from what test_decoding says");
    assert_eq!(logged.len(), expected.len());
}

/// Two transactions of one string, alike but for a word, and a lock to wait for in between.
const STRING: &str = "BEGIN; CREATE TABLE kept (id int); COMMENT ON TABLE kept IS 'one'; COMMIT;
    SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1);
    BEGIN; COMMENT ON TABLE kept IS 'two'; INSERT INTO kept VALUES (1); COMMIT";

/// Sends [`STRING`], does something when its first transaction is in the log, and lets it go on.
async fn between_the_transactions_of_a_string(pair: &mut Pair, interrupt: impl AsyncFnOnce(&mut Pair)) {
    let gate = pair.primary.client(DATABASE).await;
    gate.batch_execute("SELECT pg_advisory_lock(1)").await.expect("a lock that nobody has");
    let client = pair.primary.client(DATABASE).await;
    let sent = tokio::spawn(async move { client.batch_execute(STRING).await });
    wait_until("the first transaction to be in the log", || {
        pair.product.run(&["log", "--json", "--limit", "10"]).contains("COMMENT ON TABLE")
    });
    interrupt(pair).await;
    gate.batch_execute("SELECT pg_advisory_unlock(1)").await.expect("the lock that it has");
    sent.await.expect("no panic").expect("nothing of the user's fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_string_of_several_transactions_is_followed_over_a_lost_connection() {
    let mut pair = Pair::capturing(ServerVersion::Debian15, async |_| {}).await;
    between_the_transactions_of_a_string(&mut pair, async |pair| {
        pair.primary
            .psql(DATABASE, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
            .await;
    })
    .await;
    let kept = pair.keep("after").await;
    assert_eq!(pair.differences(&kept).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_string_whose_beginning_a_listener_did_not_see_stops_replay_and_harms_nothing_after_it() {
    let mut pair = Pair::capturing(ServerVersion::Debian15, async |_| {}).await;
    between_the_transactions_of_a_string(&mut pair, async |pair| {
        pair.kill();
        pair.start_again();
    })
    .await;
    let kept = pair.keep("after").await;
    let found = pair.differences(&kept).await;
    assert!(
        found.iter().any(|line| line.contains("in the midst of") && line.contains("2 of them do COMMENT")),
        "{found:?}"
    );
    let held =
        pair.replica.psql(DATABASE, "SELECT obj_description('kept'::regclass), count(*) FROM kept").await;
    assert_eq!(held.trim(), "one|0", "the session is at the transaction before");
    // The choice that replay offers.
    pair.product.run(&["session", "skip"]);
    let found = pair.differences(&kept).await;
    assert!(!found.is_empty() && found.iter().all(|line| line.contains("COMMENT")), "{found:?}");
}
