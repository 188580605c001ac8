//! The way between listener and server: cut at every message in turn, held up, half-open. Whatever it does, the log is
//! what the server sent, byte by byte.

use std::time::Duration;

use ptr_testkit::{Proxy, ServerVersion, TestServerOptions, wait_until};

use super::{PATIENCE, oracle, setting::Setting};

/// A server that gives up a silent listener soon, reached by a way that can fail.
async fn by_a_way(timeout: &str) -> Setting {
    let options = TestServerOptions::default().with("wal_sender_timeout", timeout);
    let mut setting = Setting::new(ServerVersion::Debian15, options).await;
    setting.way = Some(Proxy::to(setting.server.cluster().port()).await);
    setting
}

fn way(setting: &Setting) -> &Proxy {
    setting.way.as_ref().unwrap()
}

/// Of the short history.
const TRANSACTIONS: u64 = 3;

/// Takes a new log over a short history, with the way cut once after so many messages; whether it came to that before
/// all of it was there.
async fn is_cut_after(setting: &mut Setting, name: &str, cut: impl FnOnce(&Proxy)) -> bool {
    setting.begin_anew(name).await;
    cut(way(setting));
    let listener = setting.listen();
    let log = ptr_log::Log::open(&setting.log_directory).unwrap();
    let is_done = || log.head().unwrap().ordinal == TRANSACTIONS;
    wait_until("it is cut, or everything was captured", PATIENCE, async || {
        way(setting).is_cut() || is_done()
    })
    .await;
    let was_cut = !is_done();
    way(setting).heal();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(setting).await;
    was_cut
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_at_any_message_loses_and_repeats_nothing() {
    let mut setting = by_a_way("60s").await;
    for sql in [
        "INSERT INTO pgbench_history (tid, filler) SELECT g, 'f' FROM generate_series(1, 3) g",
        "UPDATE pgbench_branches SET bbalance = 1; DELETE FROM pgbench_history WHERE tid = 2",
        "TRUNCATE pgbench_history; SELECT pg_logical_emit_message(true, 'app', 'm')",
    ] {
        setting.client.batch_execute(sql).await.unwrap();
    }
    let mut tries = [0, 0];
    while is_cut_after(&mut setting, &format!("answers {}", tries[0]), |way| {
        way.cut_after_answers(tries[0]);
    })
    .await
    {
        tries[0] += 1;
    }
    while is_cut_after(&mut setting, &format!("messages {}", tries[1]), |way| way.cut_after(tries[1])).await {
        tries[1] += 1;
    }
    println!("cut before each of {} messages of the server and {} of the listener", tries[0], tries[1]);
    assert!(tries[0] > 30 && tries[1] > 8, "the stream was too short to mean anything: {tries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_given_up_and_capture_goes_on() {
    let setting = by_a_way("3s").await;
    let listener = setting.listen();
    listener.until_streaming().await;
    way(&setting).silence();
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
    setting.until_captured(&listener).await;
    assert!(listener.status().progress.reconnects > 0, "what was sent over a dead connection arrived");
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_half_open_from_the_start_of_the_stream_is_given_up_too() {
    let setting = by_a_way("3s").await;
    let dsn = format!("{}?connect_timeout=1", setting.options().dsn.to_uri_with_password());
    let dsn = ptr_postgres::Dsn::from_environment(&dsn).unwrap();
    let listener = setting.listen_by(dsn);
    for _ in 0..2 {
        wait_until("a connection is there", PATIENCE, async || {
            setting
                .client
                .query_one("SELECT count(*) > 0 FROM pg_stat_replication", &[])
                .await
                .unwrap()
                .get(0)
        })
        .await;
        way(&setting).silence();
    }
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_half_open_behind_any_question_before_the_stream_is_given_up_too() {
    let setting = by_a_way("3s").await;
    let dsn = format!("{}?connect_timeout=1", setting.options().dsn.to_uri_with_password());
    let dsn = ptr_postgres::Dsn::from_environment(&dsn).unwrap();
    // Login, who the server is, the database, the slot, how far behind, the stream.
    for messages in 4..12 {
        way(&setting).silence_after(messages);
        let listener = setting.listen_by(dsn.clone());
        setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
        setting.until_captured(&listener).await;
        listener.stop().await.unwrap();
        way(&setting).heal();
    }
    oracle::assert_log_is_stream(&setting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_that_answers_is_not_taken_for_dead() {
    let setting = by_a_way("0").await;
    let listener = setting.listen();
    listener.until_streaming().await;
    // Twice as long as a server with this setting is silent by itself before the listener asks.
    let asked = "SELECT count(*) FROM pg_stat_replication WHERE reply_time > backend_start + interval '11 s'";
    wait_until("the server has heard from the listener late", PATIENCE, async || {
        setting.client.query_one(asked, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    assert_eq!(listener.status().progress.reconnects, 0);
    listener.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_held_up_for_longer_than_the_server_waits_costs_a_connection_and_no_change() {
    let setting = by_a_way("2s").await;
    let listener = setting.listen();
    listener.until_streaming().await;
    way(&setting).hold_up();
    setting.client.batch_execute("INSERT INTO pgbench_history (tid) VALUES (1)").await.unwrap();
    wait_until("the server gives the listener up", Duration::from_secs(60), async || {
        let sql = "SELECT active FROM pg_replication_slots WHERE slot_name = 'app'";
        !setting.client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    way(&setting).heal();
    setting.until_captured(&listener).await;
    listener.stop().await.unwrap();
    oracle::assert_log_is_stream(&setting).await;
}
