//! The page in a real browser over real servers: what is clicked and typed on it, what it shows, and what the
//! databases then hold.
#![allow(missing_docs, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod backups;
mod browser;
mod checkpoints;
mod copies;
mod demo;
mod described;
mod filters;
mod keys;
mod million;
mod moves;
mod safety;
mod shop;
mod states;

use browser::Browser;
use shop::Shop;

const ROW: &str = ".tx .cell";
const PLACE: &str = "#place";

#[track_caller]
fn no_errors(browser: &mut Browser) {
    assert_eq!(browser.errors(), Vec::<String>::new());
    described::assert_described(browser);
}

/// Clicks the row of a transaction.
#[track_caller]
fn look_at(browser: &mut Browser, ordinal: u64) {
    let row = format!(
        "[...document.querySelectorAll('.tx')].find((row) => row.firstChild?.innerText === '{ordinal}')"
    );
    browser.wait_for(&row);
    browser.eval(&format!("{row}.setAttribute('data-test', 'wanted')"));
    browser.click(".tx[data-test=wanted]");
    browser.eval("document.querySelector('[data-test]')?.removeAttribute('data-test')");
    browser.wait_for_text("#inspector-title", &format!("TRANSACTION {ordinal}"));
}

#[test]
fn the_story_by_mouse() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for(&format!("document.querySelectorAll('{ROW}').length >= 6 * 6"));
    page.wait_for_text("#input", "capturing");
    page.wait_for_text(PLACE, "6 transactions before head");
    // Parts scroll, the page as a whole does not.
    assert_eq!(page.eval("document.documentElement.scrollHeight - innerHeight"), 0);
    let sideways = "[...document.querySelectorAll('main, aside, section')].filter((one) => one.scrollWidth > one.clientWidth).length";
    assert_eq!(page.eval(sideways), 0);

    // Looking shows old and new values, and moves nothing.
    look_at(&mut page, 4);
    page.wait_for_text("#inspector .change", "shipped");
    let change = page.text("#inspector .change");
    assert!(change.contains("UPDATE") && change.contains("new") && !change.contains("note"), "{change}");
    page.wait_for_text(".plan", "5 transactions forward");
    assert_eq!(page.eval("location.search.includes('at=0/')"), true);

    page.click("#go");
    page.wait_for_text(PLACE, "1 transaction before head");
    page.wait_for_text("#notices", "Arrived by redo");
    assert_eq!(shop.replica(), "1shipped 2shipped 3shipped");
    page.wait_for("document.querySelectorAll('.tx.ahead').length === 1");

    page.click_button("#notices", "Undo this move");
    // Back over the table's creation it is a keyframe, which is asked about.
    page.click_button("#dialog", "Go there");
    page.wait_for_text(PLACE, "6 transactions before head");

    // A checkpoint of the list, and one made here.
    page.click("[aria-label='Go here: checkpoint before migration']");
    page.wait_for_text(PLACE, "(before migration)");
    assert_eq!(shop.replica(), "1new 2new 3new");
    page.click("#name");
    page.write("from the page");
    page.click_button("#create", "Create now");
    page.wait_for_text("#checkpoint-list", "from the page");
    page.wait_for("document.querySelector('[aria-label=\"Checkpoint from the page\"]')");
    page.click("[aria-label='Compare checkpoint from the page with another position']");
    page.click_button("#dialog", "Compare");
    page.wait_for_text("#dialog[open]", "public.orders");
    let difference = page.text("#dialog");
    // From the checkpoint, which is at head, back to the replica.
    assert!(difference.contains("shipped") && difference.contains("INSERT"), "{difference}");
    page.click_button("#dialog", "Close");
    no_errors(&mut page);
}

#[test]
fn the_story_by_keyboard() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for(&format!("document.querySelectorAll('{ROW}').length >= 6 * 6"));
    page.key("j");
    page.wait_for_text("#inspector-title", "TRANSACTION 5");
    page.key("J");
    page.wait_for_text("#inspector-title", "TRANSACTION 3");
    page.wait_for("!document.querySelector('#go').disabled");
    page.key("Enter");
    page.wait_for_text(PLACE, "(before migration)");
    assert_eq!(shop.replica(), "1new 2new 3new");
    page.key("ArrowRight");
    page.wait_for_text("#inspector-title", "TRANSACTION 4");
    page.key("d");
    page.wait_for_text("#dialog[open]", "public.orders");
    page.key("Escape");
    page.wait_for("!document.querySelector('dialog[open]')");
    page.wait_for("!document.querySelector('#go').disabled");
    page.key("Enter");
    page.wait_for_text(PLACE, "1 transaction before head");
    assert_eq!(shop.replica(), "1shipped 2shipped 3shipped");
    page.key("u");
    page.wait_for_text(PLACE, "(before migration)");
    page.key("r");
    page.wait_for_text(PLACE, "1 transaction before head");
    page.key("c");
    page.wait_for("document.querySelector('#dialog input') === document.activeElement");
    page.write("by keyboard");
    page.key("Enter");
    page.wait_for_text("#checkpoint-list", "by keyboard");
    page.key("?");
    page.wait_for_text("#dialog[open]", "take the replica to the selected transaction");
    page.key("Escape");
    page.key("/");
    page.wait_for("document.activeElement.id === 'text'");
    no_errors(&mut page);
}

#[test]
fn what_is_typed_while_the_replica_moves_is_done_in_its_turn() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "6 transactions before head");
    page.key("j");
    page.key("J");
    page.wait_for_text("#inspector-title", "TRANSACTION 3");
    page.hold("POST", "/api/navigate");
    for key in ["Enter", "u", "r", "u"] {
        page.key(key);
    }
    page.wait_for("window.held === 1");
    page.release();
    // Back over the table's creation it is a keyframe, which is asked about; twice.
    for _ in 0..2 {
        page.wait_for_text("#dialog[open]", "GO THERE BY KEYFRAME?");
        page.key("Enter");
        page.wait_for("!document.querySelector('dialog[open]')");
    }
    page.wait_for("fetch('/api/moves').then((answer) => answer.json()).then((all) => { window.moved = all.length === 4 && all.every((one) => one.state === 'done'); }) && window.moved");
    page.wait_for_text(PLACE, "6 transactions before head");
    let moves = page.eval(
        "fetch('/api/moves').then((answer) => answer.json()).then((all) => all.map((one) => one.to.transaction).reverse())",
    );
    assert_eq!(moves, serde_json::json!([4, 0, 4, 0]));
    page.wait_for("[...document.querySelectorAll('.session button')].map((one) => one.innerText.split(' ')[0]).join() === 'Undo,Redo,Go,?'");

    // A dialog that was closed has the focus until the next frame is drawn; what is typed then is not lost either.
    page.key("d");
    page.wait_for_text("#dialog[open]", "public.orders");
    let focus = page.eval(
        "document.querySelector('#dialog').close(); const focus = document.activeElement; \
         focus.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true })); focus.innerText",
    );
    assert_eq!(focus, "Close");
    page.wait_for_text(PLACE, "(before migration)");
    no_errors(&mut page);
}

#[test]
fn an_answer_that_comes_late_does_not_hide_what_is_newer() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "6 transactions before head");
    // The answer is from before the move, and comes after its event.
    page.hold("GET", "/api/sessions");
    shop.sql("insert into orders values (9, 'new', null)");
    page.wait_for("window.held === 1");
    shop.product.run(&["navigate", "before migration"]);
    page.wait_for_text(PLACE, "(before migration)");
    page.eval("window.places = []; new MutationObserver(() => window.places.push(document.querySelector('#place').innerText)).observe(document.querySelector('#place'), { childList: true })");
    page.release();
    page.wait_for("window.places.length >= 1");
    let places = page.eval("window.places.filter((text) => !text.includes('(before migration)'))");
    assert_eq!(places, serde_json::json!([]));
    no_errors(&mut page);
}

#[test]
fn what_the_page_plays_and_draws_the_commands_do_too() {
    let shop = Shop::open();
    let chart = shop.product.run(&["log", "--histogram"]);
    assert_eq!(chart.lines().count(), 6, "{chart}");
    assert!(chart.contains("~3") && chart.contains("#"), "{chart}");
    let buckets = shop.product.json(&["log", "--histogram", "time", "-n", "3"]);
    assert_eq!(buckets["by"], "time");
    let played = shop.product.run(&["replay", "--to", "head", "--speed", "max"]);
    assert_eq!(played.lines().count(), 6, "{played}");
    assert_eq!(shop.replica(), "1shipped 2shipped");
    let back = shop.product.output(&["replay", "--to", "CREATION", "--speed", "max"]);
    assert_eq!(back.status.code(), Some(2), "{}", support::both(&back));
    assert!(support::both(&back).contains("navigate goes back"), "{}", support::both(&back));
}

#[test]
fn sessions_are_made_shown_and_deleted() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "6 transactions before head");
    page.click("#session-name");
    page.write("rehearsal");
    page.click_button("#create-session", "Create");
    page.wait_for_text("#session-list", "rehearsal");
    // Shown, it is what moves; the commands' session stays the active one.
    page.click("[aria-label='Show session rehearsal']");
    page.wait_for("location.search.includes('session=rehearsal')");
    page.click("#head");
    page.wait_for_text(PLACE, "at head");
    let status = shop.product.json(&["session", "list"]);
    let at = |name: &str| {
        let sessions = status.as_array().expect("sessions");
        let found = sessions.iter().find(|one| one["name"] == name).expect("the session");
        found["position"]["transaction"].as_u64()
    };
    assert_eq!((at("default"), at("rehearsal")), (Some(0), Some(6)));
    page.click("[aria-label='Follow head with session rehearsal']");
    page.wait_for_text(PLACE, "follows it");
    shop.sql("insert into orders values (7, 'new', null)");
    page.wait_for_text("#fresh", "1 new transaction");
    page.wait_for_text(PLACE, "at head");
    page.click("[aria-label='Delete session rehearsal']");
    page.click_button("#dialog", "Delete");
    page.wait_for("!document.querySelector('#session-list').innerText.includes('rehearsal')");
    page.wait_for_text(PLACE, "7 transactions before head");
    // What a server refuses is told, with what to do.
    page.click("#name");
    page.write("head");
    page.click_button("#create", "Create now");
    page.wait_for("document.querySelector('.notice.bad')");
    no_errors(&mut page);
}

#[test]
fn what_is_captured_appears_by_itself_and_a_link_shows_the_same_again() {
    let shop = Shop::empty();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text("#list", "Nothing was captured yet");
    shop.sql("create table orders (id int primary key, state text)");
    page.wait_for_text("#list", "0");
    page.wait_for("document.querySelectorAll('.tx').length === 1");
    shop.sql("insert into orders values (1, 'new')");
    shop.sql("update orders set state = 'paid'");
    // What comes later is said, and does not move what is being read.
    page.wait_for_text("#fresh", "2 new transactions");
    assert_eq!(page.eval("document.querySelectorAll('.tx').length"), 1);
    page.click("#fresh");
    page.wait_for("document.querySelectorAll('.tx').length === 3");
    page.wait_for("!document.querySelector('#fresh')?.checkVisibility()");

    for ordinal in [1, 2] {
        page.eval("window.before = location.search");
        look_at(&mut page, ordinal);
        page.wait_for("location.search !== window.before");
    }
    page.eval("history.back()");
    page.wait_for_text("#inspector-title", "TRANSACTION 1");
    page.eval("history.forward()");
    page.wait_for_text("#inspector-title", "TRANSACTION 2");
    let address = page.eval("location.href");
    page.go(address.as_str().expect("an address"));
    page.wait_for_text("#inspector-title", "TRANSACTION 2");
    page.wait_for_text("#inspector .change", "paid");

    // Filters are the server's, and in the address.
    page.eval("document.querySelector('#operation').focus()");
    page.eval("document.querySelector('#operation').value = 'insert'");
    page.eval("document.querySelector('#operation').dispatchEvent(new Event('change'))");
    page.wait_for("document.querySelectorAll('.tx').length === 1");
    page.wait_for("location.search.includes('operation=insert')");
    page.eval("location.reload()");
    page.wait_for("document.readyState === 'complete' && document.querySelectorAll('.tx').length === 1");
    page.wait_for_text(".tx", "+1");
    page.click("#clear");
    page.wait_for("document.querySelectorAll('.tx').length === 3");
    no_errors(&mut page);
}

/// Where script/install-test-applications puts axe-core.
fn audit() -> Option<String> {
    let folder = std::env::var_os("PTR_TEST_APPLICATIONS").map(std::path::PathBuf::from);
    let folder = folder.unwrap_or_else(|| {
        let user = rustix::process::getuid().as_raw();
        format!("/var/tmp/postgres-test-replay-applications-{user}").into()
    });
    let found = std::fs::read_to_string(folder.join("page/node_modules/axe-core/axe.min.js")).ok();
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "axe-core is missing; run script/install-test-applications"
        );
        eprintln!("SKIPPED: axe-core is missing; run script/install-test-applications");
    }
    found
}

#[track_caller]
fn assert_accessible(page: &mut Browser, what: &str) {
    let violations = page.eval(
        "axe.run().then((found) => found.violations.map((one) => \
         `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).slice(0, 3).join(' ')}`))",
    );
    assert_eq!(violations, serde_json::json!([]), "{what}");
}

#[test]
fn the_page_is_accessible_in_both_colour_schemes() {
    let shop = Shop::open();
    let Some(axe) = audit() else { return };
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for(&format!("document.querySelectorAll('{ROW}').length >= 6 * 6"));
    page.eval(&format!("{axe}; 1"));
    for scheme in ["light", "dark"] {
        page.scheme(scheme);
        page.key("Escape");
        page.wait_for_text("#inspector", "Select a transaction");
        assert_accessible(&mut page, &format!("{scheme}, nothing selected"));
        look_at(&mut page, 4);
        page.wait_for_text("#inspector .change", "shipped");
        page.wait_for_text(".plan", "forward");
        assert_accessible(&mut page, &format!("{scheme}, a transaction selected"));
        page.key("d");
        page.wait_for_text("#dialog[open]", "public.orders");
        assert_accessible(&mut page, &format!("{scheme}, a dialog"));
        page.key("Escape");
        page.wait_for("!document.querySelector('dialog[open]')");
        // The slider says where it is in words.
        let said = page.eval("document.querySelector('[role=slider]').getAttribute('aria-valuetext')");
        assert!(said.as_str().expect("a text").starts_with("transaction 4 of 6, "), "{said}");
    }
    page.go(&format!("{}/ui/reference.html", shop.address));
    page.wait_for_text("#reference", "/api/histogram");
    page.eval(&format!("{axe}; 1"));
    assert_accessible(&mut page, "the API's description");
    no_errors(&mut page);
}
