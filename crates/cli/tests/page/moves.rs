//! Moves in the page: how far they are, stopping one, taking one back; and play.

use ptr_testkit::ServerVersion;

use crate::{
    PLACE,
    browser::{Browser, chromium},
    no_errors,
    shop::Shop,
    support::pair::Pair,
};

#[test]
fn a_long_move_shows_how_far_it_is_can_be_stopped_and_is_taken_back() {
    let Some(chromium) = chromium() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let pair = runtime.block_on(Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (a int)").await;
    }));
    let on_primary = |sql: &str| runtime.block_on(pair.primary.psql("shop", sql));
    let on_replica = |sql: &str| runtime.block_on(pair.replica.psql("shop", sql)).trim().to_owned();
    let many = |from, to| {
        format!("DO $$ BEGIN FOR i IN {from}..{to} LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$")
    };
    on_primary(&many(1, 6_000));
    // What came before a TRUNCATE goes in before it, which a lock holds up.
    on_primary("TRUNCATE u");
    on_primary(&many(6_001, 12_000));
    pair.product.run(&["checkpoint", "create", "end"]);
    let status = pair.product.json(&["status"]);
    let mut page = Browser::open(&chromium, 1280, 800);
    page.go(&format!("http://{}", status["address"].as_str().expect("an address")));
    page.wait_for_text(PLACE, "12,001 transactions before head");

    let holder = runtime.block_on(pair.replica.client("shop"));
    let hold = || {
        runtime
            .block_on(holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t IN SHARE MODE"))
            .expect("the lock")
    };
    let give_back = || runtime.block_on(holder.batch_execute("ROLLBACK")).expect("the lock is given back");
    hold();
    page.click("[aria-label='Go here: checkpoint end']");
    let bar = "#notices .notice:not([hidden]) progress";
    page.wait_for(&format!("document.querySelector('{bar}')?.max === 12001"));
    page.wait_for_text("#notices", "The replica goes to 0/");
    // Some of it was read and waits for the lock; what is shown is what the API tells.
    page.wait_for(&format!("document.querySelector('{bar}').value >= 2000"));
    page.wait_for_text("#notices", " of 12,001 transactions");
    let done = page.eval(&format!("document.querySelector('{bar}').value")).as_u64().expect("a number");
    let told = page.eval("fetch('/api/moves').then((answer) => answer.json()).then((all) => all[0])");
    assert_eq!((&told["state"], &told["progress"]["total"]), (&"running".into(), &12_001.into()), "{told:#}");
    assert!(
        (done..12_001).contains(&told["progress"]["done"].as_u64().expect("a number")),
        "{done}, {told:#}"
    );
    // It stays in sight when everything is fetched anew.
    page.eval("performance.clearResourceTimings()");
    page.wait_for("performance.getEntriesByType('resource').some((one) => one.name.includes('/api/moves/'))");
    assert_eq!(page.eval(&format!("document.querySelector('{bar}')?.checkVisibility()")), true);
    page.wait_for_text("#notices", " of 12,001 transactions");
    // What is asked for meanwhile waits, and says so.
    page.key("u");
    page.wait_for_text("#notices", "Then: undo.");

    page.click_button("#notices", "Stop at the next position");
    page.wait_for_text("#notices", "this was not done: undo");
    page.wait_for_text("#notices", "It stops at the next position.");
    give_back();
    page.wait_for_text("#notices .bad", "interrupted at 0/");
    page.wait_for_text("#notices .bad", "navigate again to go on from there");
    page.wait_for(&format!("!document.querySelector('{bar}')?.checkVisibility()"));
    let session = pair.product.json(&["session", "show", "default"]);
    let at = session["position"]["transaction"].as_u64().expect("a position");
    assert!(session["state"] == "settled" && (1..12_001).contains(&at), "{session:#}");
    assert_eq!(on_replica("SELECT count(*) FROM t"), (at - u64::from(at > 6_000)).to_string());
    page.wait_for_text(PLACE, " before head");
    page.click("#undo");
    back_at_the_beginning(&mut page);
    assert_eq!(on_replica("SELECT count(*) FROM t"), "0");

    // And without anybody in the way.
    page.click("[aria-label='Go here: checkpoint end']");
    page.wait_for_text("#notices", "12,001 transactions, 12,001 entries applied");
    page.wait_for_text(PLACE, "at head");
    assert_eq!(
        on_replica("SELECT count(*) || ' ' || sum(id) FROM t"),
        on_primary("SELECT count(*) || ' ' || sum(id) FROM t").trim()
    );
    page.click_button("#notices", "Undo this move");
    back_at_the_beginning(&mut page);
    assert_eq!(on_replica("SELECT count(*) FROM t"), "0");
    no_errors(&mut page);
}

/// Over a TRUNCATE it is a keyframe, which is asked about with the other ways.
#[track_caller]
fn back_at_the_beginning(page: &mut Browser) {
    page.wait_for_text("#dialog[open]", "GO THERE BY KEYFRAME?");
    page.wait_for_text("#dialog[open]", "Other ways");
    page.click_button("#dialog", "Go there");
    page.wait_for_text(PLACE, "12,001 transactions before head");
}

#[test]
fn play_takes_the_replica_through_every_transaction_and_back() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "6 transactions before head");
    page.eval("document.querySelector('#speed').value = '0'");
    page.key(" ");
    page.wait_for_text("#notices", "Played 6 transactions");
    page.wait_for_text(PLACE, "at head");
    page.wait_for_text("#inspector-title", "TRANSACTION 5");
    assert_eq!(shop.replica(), "1shipped 2shipped");
    page.click_button("#notices", "Back to where it began");
    // Over a schema change backwards it is a keyframe, which is asked about.
    page.click_button("#dialog", "Go there");
    page.wait_for_text(PLACE, "6 transactions before head");
    page.click_button("#player", "Step ›");
    page.wait_for_text(PLACE, "5 transactions before head");
    no_errors(&mut page);
}

#[test]
fn play_keeps_the_gaps_that_were_and_stands_still_where_it_is_paused() {
    let shop = Shop::empty();
    shop.sql("create table orders (id int primary key, state text)");
    // The second order came six seconds after the first; that gap is what is played.
    shop.sql(
        "do $$ begin insert into orders values (1, 'new'); commit; \
         perform pg_sleep(6); insert into orders values (2, 'new'); commit; end $$",
    );
    shop.product.run(&["checkpoint", "create", "end"]);
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "3 transactions before head");
    page.click("#play");
    page.wait_for_text("#player", "next in 6.");
    page.wait_for_text("#play", "Pause");
    page.wait_for_text(PLACE, "1 transaction before head");
    page.key(" ");
    page.wait_for_text("#play", "Play");
    page.wait_for_text("#notices", "Played 2 transactions");
    assert_eq!(shop.replica(), "1new");
    page.wait_for_text(PLACE, "1 transaction before head");
    // Ten times as fast, the same gap is a tenth.
    page.eval("document.querySelector('#speed').value = '10'");
    page.key(" ");
    page.wait_for("/next in [67]\\d\\d ms/.test(document.querySelector('#player').innerText)");
    page.wait_for_text(PLACE, "at head");
    page.wait_for_text("#notices", "Played 1 transaction");
    assert_eq!(shop.replica(), "1new 2new");
    page.click_button("#player", "‹ Step");
    page.wait_for_text(PLACE, "1 transaction before head");
    assert_eq!(shop.replica(), "1new");
    no_errors(&mut page);
}
