//! What the page says where something is missing or lost, and that it says when it is back; and that it keeps up.

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};

use crate::{
    PLACE,
    browser::{Browser, chromium},
    no_errors,
    support::{Product, both, pair::Pair},
};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

/// Waits until a card is gone.
#[track_caller]
fn wait_until_gone(page: &mut Browser, text: &str) {
    page.wait_for(&format!("!document.querySelector('#states').innerText.includes({text:?})"));
}

#[test]
fn a_lost_server_a_missing_right_and_a_stopped_listener_say_what_to_do() {
    let Some(chromium) = chromium() else { return };
    let runtime = runtime();
    let run = |sql: &str, server: &TestServer| runtime.block_on(server.psql("postgres", sql));
    let mut primary =
        runtime.block_on(TestServer::start(ServerVersion::Debian15, TestServerOptions::default()));
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let mut replica = runtime.block_on(TestServer::start(ServerVersion::Debian15, options));
    runtime.block_on(primary.database("shop"));
    run("create role capturer superuser login password 'secret-of-the-capturer'", &primary);
    let input = primary.dsn("shop").to_uri_with_password();
    let (_, place) = input.split_once('@').expect("a user");
    let input = format!("postgresql://capturer:secret-of-the-capturer@{place}");
    let product = Product::new(Some(&input), Some(&replica.dsn("shop").to_uri_with_password()));
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    let status = product.json(&["status"]);
    let listens = status["address"].as_str().expect("an address").to_owned();
    let mut page = Browser::open(&chromium, 1280, 800);
    page.go(&format!("http://{listens}"));
    page.wait_for_text("#input", "capturing");
    page.wait_for_text("#list", "Nothing was captured yet. Change something on the input database");

    runtime.block_on(primary.stop());
    page.wait_for_text("#states", "The input server does not answer");
    page.wait_for_text("#states", "a running listener goes on by itself when it is back");
    page.wait_for_text("#input", "does not answer");
    runtime.block_on(primary.start_again());
    page.wait_for_text("#input", "capturing");
    wait_until_gone(&mut page, "The input server");

    runtime.block_on(replica.stop());
    page.wait_for_text("#states", "The output server does not answer");
    page.wait_for_text("#states", "moves work again when it is back");
    runtime.block_on(replica.start_again());
    wait_until_gone(&mut page, "The output server");
    page.wait_for_text(PLACE, "at head");

    run("alter role capturer nosuperuser noreplication", &primary);
    run("select pg_terminate_backend(pid) from pg_stat_replication", &primary);
    page.wait_for_text("#states", "Capture is");
    page.wait_for_text("#states", "postgres-test-replay doctor");
    page.wait_for("/permission|superuser|replication/i.test(document.querySelector('#states').innerText)");
    println!("{}", page.text("#states"));
    run("alter role capturer superuser replication", &primary);
    product.output(&["down"]);
    drop(up);

    let mut ipc = product.spawn("ipc", &["ipc", "--addr", &listens]);
    ipc.wait_for_text("http://");
    page.wait_for("document.querySelector('#connection').hidden");
    page.wait_for_text("#states", "is captured when the listener runs again: postgres-test-replay listener");
    let mut listener = product.spawn("listener", &["listener"]);
    listener.wait_for_text("capturing");
    wait_until_gone(&mut page, "Capture is");
    page.wait_for_text("#input", "capturing");
    let whole = page.eval("document.documentElement.outerHTML");
    assert!(!whole.as_str().expect("a text").contains("secret-of-the-capturer"));
    no_errors(&mut page);
    let said = product.output(&["down"]);
    assert!(said.status.success(), "{}", both(&said));
}

#[test]
fn two_tabs_keep_up_with_pgbench_and_with_each_other() {
    let Some(chromium) = chromium() else { return };
    let runtime = runtime();
    let pair = runtime.block_on(Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.pgbench("shop", &["-i", "-q", "-s", "1"]).await;
    }));
    let status = pair.product.json(&["status"]);
    let address = format!("http://{}", status["address"].as_str().expect("an address"));
    runtime.block_on(pair.primary.pgbench("shop", &["-n", "-t", "60"]));
    let mut page = Browser::open(&chromium, 1280, 800);
    page.go(&address);
    page.wait_for_text(PLACE, "60 transactions before head");
    page.wait_for("document.querySelector('.tx')?.innerText.includes('pgbench')");
    let first = page.tab();
    page.go(&format!("{address}/?table=pgbench_accounts"));
    page.wait_for("document.querySelectorAll('.tx').length > 3");
    let second = page.switch(&first);

    let newest = "document.querySelector('.tx[data-row=\"0\"]').innerText";
    let before = page.eval(newest);
    std::thread::scope(|scope| {
        let bench = scope.spawn(|| {
            runtime.block_on(pair.primary.pgbench("shop", &["-n", "-c", "2", "-t", "300", "-R", "150"]))
        });
        // What is new is said, more and more of it, and what is being read stays where it is.
        page.wait_for_text("#fresh", "new transactions");
        let count = "Number(document.querySelector('#fresh').innerText.replace(/\\D/g, ''))";
        let seen = page.eval(count);
        page.wait_for(&format!("{count} > {seen}"));
        assert_eq!(page.eval(newest), before);
        // A move in one tab is seen in the other.
        page.switch(&second);
        page.key("j");
        page.wait_for("document.querySelector('#go') && !document.querySelector('#go').disabled");
        page.key("Enter");
        page.wait_for_text("#notices", "Arrived by");
        let there = page.eval("document.querySelector('#place code').innerText");
        page.switch(&first);
        page.wait_for(&format!("document.querySelector('#place code').innerText === {there}"));
        bench.join().expect("pgbench ends");
    });
    page.wait_for_text("#fresh", "600 new transactions");
    page.click("#fresh");
    page.wait_for("document.querySelector('.tx[data-row=\"0\"]').innerText.startsWith('659')");
    page.switch(&second);
    page.wait_for_text("#fresh", "600 new transactions");
    no_errors(&mut page);
}
