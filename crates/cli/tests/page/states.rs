//! What the page says where something is missing or lost, and that it says when it is back; and that it keeps up.

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};

use crate::{
    PLACE,
    browser::{Browser, chromium},
    look_at, no_errors,
    shop::Shop,
    support::{Product, both, pair::Pair, wait_until},
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
fn a_service_that_is_killed_is_told_and_one_that_comes_back_is_found_with_all_that_was_looked_at() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/?table=orders&axis=time") else { return };
    page.wait_for_text(PLACE, "6 transactions before head");
    // The filter leaves out the schema change that made the table.
    page.wait_for("document.querySelectorAll('.tx').length === 5");
    look_at(&mut page, 4);
    page.wait_for_text("#inspector .change", "shipped");
    page.wait_for("location.search.includes('at=0/')");
    let looked_at = "JSON.stringify([location.search, document.querySelector('#inspector-title').innerText, \
        document.querySelectorAll('#inspector .change').length, document.querySelector('#table').value, document.querySelector('#axis').value])";
    let before = page.eval(looked_at);
    page.eval("window.same = 'page'");
    let address = shop.address.trim_start_matches("http://").to_owned();
    for round in 0..2 {
        if round == 0 {
            shop.kill()
        } else {
            drop(shop.product.run(&["down"]))
        };
        page.wait_for_text("#connection", "The service does not answer; trying again.");
        // What is asked for meanwhile says what to do.
        page.key("c");
        page.wait_for("document.querySelector('#dialog input') === document.activeElement");
        page.write("meanwhile");
        page.key("Enter");
        page.wait_for_text(".notice.bad", "Start it with: postgres-test-replay up");
        page.click_button(".notice.bad", "Dismiss");
        shop.product.run(&["up", "--detach", "--addr", &address]);
        page.wait_for("document.querySelector('#connection').hidden");
        page.wait_for_text("#input", "capturing");
        shop.sql(&format!("insert into orders values ({}, 'new', null)", 10 + round));
        page.wait_for_text(PLACE, &format!("{} transactions before head", 7 + round));
        assert_eq!(page.eval(looked_at), before);
        assert_eq!(page.eval("window.same"), "page", "it was not loaded again");
    }
    page.click("#go");
    page.wait_for_text(PLACE, "3 transactions before head");
    assert_eq!(shop.replica(), "1shipped 2shipped 3shipped");
    no_errors(&mut page);
}

/// The transactions that are listed are so many, each of one table.
#[track_caller]
fn listed(page: &mut Browser, count: usize, table: &str) {
    let rows = "[...document.querySelectorAll('.tx')]";
    let all_of = format!("{rows}.every((row) => row.innerText.includes('{table}'))");
    page.wait_for(&format!("{rows}.length === {count} && {all_of}"));
    page.wait_for_text(PLACE, &format!("{count} transactions before head"));
}

/// A command that moves a session, or removes something, does it to the database that `--database` names, or refuses.
fn the_command_line_means_that_database_too(pair: &Pair) {
    let place =
        |session: &str| pair.product.json(&["session", "show", session])["position"]["transaction"].clone();
    let shop = place("default");
    pair.product.run(&["--database", "billing", "navigate", "all"]);
    assert_eq!((place("bills"), place("default")), (2.into(), shop));
    pair.product.run(&["--database", "billing", "undo"]);
    assert_eq!(place("bills"), 0);
    for (refused, said) in [
        (&["--database", "billing", "navigate", "head", "--session", "default"][..], "--session: bills"),
        (&["--database", "nowhere", "navigate", "head"], "session create NAME --database nowhere"),
        (&["--database", "billing", "gc", "--yes"], "gc --dry-run"),
    ] {
        let output = pair.product.output(refused);
        let told = both(&output);
        assert!(!output.status.success() && told.contains(said), "{refused:?}: {told}");
    }
}

#[test]
fn each_session_shows_its_own_database_however_one_comes_to_it() {
    let Some(chromium) = chromium() else { return };
    let runtime = runtime();
    let settings = [("INPUT_DATABASES", "shop,billing")];
    let pair = runtime.block_on(Pair::capturing_where(ServerVersion::Debian15, &settings, async |primary| {
        primary.database("billing").await;
        primary.psql("shop", "CREATE TABLE orders (id int PRIMARY KEY)").await;
        primary.psql("billing", "CREATE TABLE invoices (id int PRIMARY KEY)").await;
    }));
    for (database, table, count) in [("shop", "orders", 5), ("billing", "invoices", 2)] {
        for id in 1..=count {
            let sql = format!("INSERT INTO {table} VALUES ({id})");
            runtime.block_on(pair.primary.psql(database, &sql));
        }
        pair.product.run(&["--database", database, "checkpoint", "create", "all"]);
    }
    let make = || pair.product.run(&["--database", "billing", "session", "create", "bills"]);
    make();
    the_command_line_means_that_database_too(&pair);
    let status = pair.product.json(&["status"]);
    let address = format!("http://{}", status["address"].as_str().expect("an address"));
    let mut page = Browser::open(&chromium, 1280, 800);
    page.go(&address);
    listed(&mut page, 5, "orders");
    page.click("[aria-label='Show session bills']");
    listed(&mut page, 2, "invoices");
    page.wait_for("location.search.includes('session=bills')");

    // Back, where what is asked for is of the session's own database.
    page.eval("history.back()");
    listed(&mut page, 5, "orders");
    look_at(&mut page, 1);
    page.wait_for_text(".plan", "2 transactions forward");
    page.click("#go");
    page.wait_for_text("#notices", "Arrived by redo");
    assert_eq!(runtime.block_on(pair.replica.psql("shop", "SELECT max(id) FROM orders")).trim(), "2");
    pair.product.run(&["navigate", "CREATION"]);
    page.key("Escape");

    // By a link, and back from there as somebody else takes the session away.
    page.go(&format!("{address}/?session=bills"));
    listed(&mut page, 2, "invoices");
    pair.product.run(&["--yes", "session", "delete", "bills"]);
    listed(&mut page, 5, "orders");
    no_errors(&mut page);
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
        // How far capture is behind, in bytes and in time, and how the slot stands.
        page.wait_for("/capturing · lag \\d.* k?M?B, \\d.* m?s · slot reserved/.test(document.querySelector('#input').innerText)");
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
    wait_until("nothing to be behind", || {
        let slot = &pair.product.json(&["status"])["databases"][0]["slot"];
        slot["lag_bytes"] == 0 && slot["lag_ms"] == 0
    });
    page.wait_for_text("#input", "lag 0 B, 0 s");
    page.wait_for_text("#fresh", "600 new transactions");
    page.click("#fresh");
    page.wait_for("document.querySelector('.tx[data-row=\"0\"]').innerText.startsWith('659')");
    page.switch(&second);
    page.wait_for_text("#fresh", "600 new transactions");
    no_errors(&mut page);
}

/// Makes pictures of what the page says in each state, in the folder that `PTR_SCREENSHOTS` names, to be looked at.
#[test]
#[ignore = "makes pictures: PTR_SCREENSHOTS=/tmp/pictures"]
fn pictures_of_states() {
    let Some(folder) = std::env::var_os("PTR_SCREENSHOTS").map(std::path::PathBuf::from) else { return };
    let Some(chromium) = chromium() else { return };
    std::fs::create_dir_all(&folder).expect("a folder");
    let keep = |page: &mut Browser, name: &str| {
        page.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
        page.wait_for("document.getAnimations().every((one) => one.playState === 'finished')");
        std::fs::write(folder.join(name), page.picture()).expect("the picture is written");
    };
    let runtime = runtime();
    let mut pair = runtime.block_on(Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE u (a int)").await;
    }));
    let status = pair.product.json(&["status"]);
    let mut page = Browser::open(&chromium, 1280, 800);
    page.go(&format!("http://{}", status["address"].as_str().expect("an address")));
    page.wait_for_text("#list", "Nothing was captured yet");
    keep(&mut page, "empty.png");
    let many =
        "DO $$ BEGIN FOR i IN 1..6000 LOOP INSERT INTO t VALUES (i, 'note ' || i); COMMIT; END LOOP; END $$";
    runtime.block_on(pair.primary.psql("shop", many));
    runtime.block_on(pair.primary.psql("shop", "UPDATE t SET note = 'changed' WHERE id < 9"));
    runtime.block_on(pair.primary.psql("shop", "TRUNCATE u"));
    pair.product.run(&["checkpoint", "create", "end"]);
    page.wait_for_text(PLACE, "6,002 transactions before head");
    page.wait_for("document.querySelector('#fresh')?.checkVisibility()");
    page.click("#fresh");
    page.key("j");
    page.key("j");
    page.wait_for_text("#inspector .change", "changed");
    page.key("d");
    page.wait_for_text("#dialog[open]", "public.t");
    keep(&mut page, "diff.png");
    page.key("Escape");
    let holder = runtime.block_on(pair.replica.client("shop"));
    runtime.block_on(holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t IN SHARE MODE")).expect("the lock");
    page.click("[aria-label='Go here: checkpoint end']");
    page.wait_for_text("#notices", " of 6,002 transactions");
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("dark", 400), ("light", 400)] {
        page.scheme(scheme);
        page.resize(width, 800);
        keep(&mut page, &format!("moving-{scheme}-{width}.png"));
    }
    runtime.block_on(holder.batch_execute("ROLLBACK")).expect("the lock is given back");
    page.wait_for_text(PLACE, "at head");
    page.resize(400, 2600);
    keep(&mut page, "narrow-whole.png");
    page.resize(1280, 800);
    page.click("#backup-name");
    page.write("nightly");
    page.click_button("#create-backup", "Dump");
    page.wait_for_text("#notices", "is whole");
    page.wait_for_text("#backup-list", "at 0/");
    page.eval("document.querySelector('#backup-name').focus()");
    keep(&mut page, "backup.png");
    runtime.block_on(pair.replica.stop());
    page.wait_for_text("#states", "The output server does not answer");
    runtime.block_on(pair.primary.stop());
    page.wait_for_text("#states", "The input server does not answer");
    keep(&mut page, "lost.png");
    pair.kill();
    page.wait_for_text("#connection", "The service does not answer");
    keep(&mut page, "killed.png");
}
