//! The keys beside those of the story: the newer transaction, the newest, the whole timeline, and one step of the replica.

use crate::{PLACE, no_errors, shop::Shop};

#[test]
fn keys_select_the_newer_and_the_newest_step_the_replica_and_show_the_whole_timeline() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "6 transactions before head");
    page.wait_for("document.querySelectorAll('.tx').length === 6");
    for (key, selected) in [("j", 5), ("j", 4), ("j", 3), ("k", 4), ("k", 5), ("k", 5), ("j", 4)] {
        page.key(key);
        page.wait_for_text("#inspector-title", &format!("TRANSACTION {selected}"));
    }
    // By checkpoints and by time, back and forward.
    for (key, selected) in [("J", 3), ("K", 5), ("ArrowLeft", 4), ("ArrowRight", 5), ("ArrowLeft", 4)] {
        page.key(key);
        page.wait_for_text("#inspector-title", &format!("TRANSACTION {selected}"));
    }
    // Only both together are a key.
    page.key("h");
    page.key("g");
    page.wait_for_text("#inspector-title", "TRANSACTION 4");
    page.key("h");
    page.wait_for_text("#inspector-title", "TRANSACTION 5");

    // Shift with an arrow moves the replica, and not what is looked at.
    page.key_with_shift("ArrowRight");
    page.wait_for_text(PLACE, "5 transactions before head");
    assert_eq!(shop.replica(), "");
    page.key_with_shift("ArrowRight");
    page.wait_for_text(PLACE, "4 transactions before head");
    assert_eq!(shop.replica(), "1new");
    page.key_with_shift("ArrowLeft");
    page.wait_for_text(PLACE, "5 transactions before head");
    assert_eq!(shop.replica(), "");
    page.wait_for_text("#inspector-title", "TRANSACTION 5");

    page.wait_for("document.querySelector('#range').innerText.startsWith('6 transactions')");
    let drawn = page.eval("(() => { const box = document.querySelector('#track svg').getBoundingClientRect(); return [box.x, box.y + box.height / 2, box.width]; })()");
    let [x, y, width] = [0, 1, 2].map(|part| drawn[part].as_f64().expect("a number"));
    page.drag([x + width * 0.3, y], [x + width * 0.8, y]);
    page.wait_for("location.search.includes('zoom=0/')");
    page.wait_for("!document.querySelector('#range').innerText.startsWith('6 transactions')");
    page.wait_for("document.querySelector('#whole').checkVisibility()");
    page.key("z");
    page.wait_for("document.querySelector('#range').innerText.startsWith('6 transactions')");
    page.wait_for("!location.search.includes('zoom') && !document.querySelector('#whole').checkVisibility()");
    no_errors(&mut page);
}
