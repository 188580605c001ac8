//! Checkpoints by their buttons; and one that is made while the replica moves.

use ptr_testkit::ServerVersion;

use crate::{
    PLACE,
    browser::{Browser, chromium},
    look_at, no_errors,
    shop::Shop,
    support::{pair::Pair, wait_until},
};

/// The names that the command lists.
fn names(shop: &Shop) -> Vec<String> {
    let all = shop.product.json(&["checkpoint", "list"]);
    let all = all.as_array().expect("checkpoints");
    all.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_checkpoint_is_renamed_and_deleted_by_its_buttons() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text("#checkpoint-list", "before migration");
    // The two that are there always have no such buttons.
    for fixed in ["CREATION", "MIGRATION"] {
        page.wait_for(&format!("document.querySelector(\"[aria-label='Go here: checkpoint {fixed}']\")"));
        let buttons = format!(
            "document.querySelectorAll(\"[aria-label='Rename checkpoint {fixed}'], [aria-label='Delete checkpoint {fixed}']\").length"
        );
        assert_eq!(page.eval(&buttons), 0, "{fixed}");
    }

    let rename = |page: &mut Browser, from: &str, to: &str| {
        page.click(&format!("[aria-label='Rename checkpoint {from}']"));
        page.wait_for("document.querySelector('#dialog[open] input') === document.activeElement");
        assert_eq!(page.eval("document.activeElement.value"), from);
        page.eval("document.activeElement.select()");
        page.write(to);
    };
    rename(&mut page, "before migration", "before it all");
    page.click_button("#dialog", "Rename");
    page.wait_for("document.querySelector(\"#track [aria-label='Checkpoint before it all']\")");
    page.wait_for_text("#checkpoint-list", "before it all");
    assert_eq!(names(&shop), ["CREATION", "MIGRATION", "before it all", "after migration"]);
    // A name that is taken is refused, and nothing is lost.
    rename(&mut page, "before it all", "after migration");
    page.click_button("#dialog", "Rename");
    page.wait_for_text(".notice.bad", "after migration");
    assert_eq!(names(&shop), ["CREATION", "MIGRATION", "before it all", "after migration"]);
    page.click_button(".notice.bad", "Dismiss");
    // By the keyboard, too.
    rename(&mut page, "before it all", "before");
    page.key("Enter");
    page.wait_for("document.querySelector(\"[aria-label='Rename checkpoint before']\")");
    assert_eq!(names(&shop), ["CREATION", "MIGRATION", "before", "after migration"]);
    page.click("[aria-label='Go here: checkpoint before']");
    page.wait_for_text(PLACE, "(before)");
    assert_eq!(shop.replica(), "1new 2new 3new");

    page.click("[aria-label='Delete checkpoint before']");
    page.wait_for_text("#dialog[open]", "Only the name goes");
    page.click_button("#dialog", "Keep");
    page.wait_for("!document.querySelector('dialog[open]')");
    assert_eq!(names(&shop), ["CREATION", "MIGRATION", "before", "after migration"]);
    page.click("[aria-label='Delete checkpoint before']");
    page.click_button("#dialog", "Delete");
    page.wait_for("!document.querySelector(\"[aria-label='Delete checkpoint before']\")");
    page.wait_for("!document.querySelector(\"#track [aria-label='Checkpoint before']\")");
    assert_eq!(names(&shop), ["CREATION", "MIGRATION", "after migration"]);
    // The replica stays where it is.
    assert_eq!(shop.replica(), "1new 2new 3new");
    no_errors(&mut page);
}

#[test]
fn a_checkpoint_waits_for_no_move_and_its_sequences_come_to_the_replica_afterwards() {
    let Some(chromium) = chromium() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let pair = runtime.block_on(Pair::capturing(ServerVersion::Debian15, async |primary| {
        primary.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); CREATE SEQUENCE numbers").await;
    }));
    let on_primary = |sql: &str| runtime.block_on(pair.primary.psql("shop", sql));
    let on_replica = |sql: &str| runtime.block_on(pair.replica.psql("shop", sql)).trim().to_owned();
    on_primary("INSERT INTO t VALUES (1)");
    let status = pair.product.json(&["status"]);
    let mut page = Browser::open(&chromium, 1280, 800);
    page.go(&format!("http://{}", status["address"].as_str().expect("an address")));
    page.wait_for_text(PLACE, "1 transaction before head");
    look_at(&mut page, 0);

    // The move waits for a lock, and is under way all the while.
    let holder = runtime.block_on(pair.replica.client("shop"));
    let hold = holder.batch_execute("BEGIN READ WRITE; LOCK TABLE t IN SHARE MODE");
    runtime.block_on(hold).expect("the lock");
    page.click("#go");
    page.wait_for_text("#notices", "The replica goes to 0/");
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
    wait_until("the move to wait for the lock", || on_replica(waiting) == "1");
    // A sequence that moves makes no transaction, so the checkpoint is where the move ends.
    on_primary("SELECT setval('numbers', 42)");
    page.click("#name");
    page.write("by the page");
    page.click_button("#create", "Create now");
    page.wait_for_text("#checkpoint-list", "by the page");
    let made = pair.product.json(&["checkpoint", "create", "by the command"]);
    assert_eq!(made["transaction"], 1, "{made:#}");
    let moves = page.eval("fetch('/api/moves').then((answer) => answer.json())");
    assert_eq!(moves[0]["state"], "running", "{moves:#}");
    assert_eq!(on_replica(waiting), "1");

    runtime.block_on(holder.batch_execute("ROLLBACK")).expect("the lock is given back");
    page.wait_for_text("#notices", "Arrived by redo");
    assert_eq!(on_replica("SELECT count(*) FROM t"), "1");
    wait_until("the sequence to be as at the checkpoint", || {
        on_replica("SELECT last_value FROM numbers") == "42"
    });
    no_errors(&mut page);
}
