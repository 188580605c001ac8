//! Backups in the page: made of the primary and of a session, proved, restored, deleted; and judged by pg_restore and SQL.

use crate::{PLACE, no_errors, shop::Shop};

#[test]
fn backups_are_made_proved_restored_and_deleted() {
    let shop = Shop::open();
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "6 transactions before head");
    page.click("#backup-name");
    page.write("nightly");
    page.click_button("#create-backup", "Dump");
    page.wait_for_text("#notices", "Backup nightly is whole");
    page.wait_for_text("#backup-list", ", at 0/");
    let told = page.text("#backup-list");
    assert!(told.contains("nightly") && told.contains("of testdb"), "{told}");
    // The command knows the same, and the file is a dump.
    let listed = shop.product.json(&["backup", "list"]);
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"nightly".into(), &"complete".into()));
    let contents = std::process::Command::new("pg_restore")
        .args(["--list", listed[0]["path"].as_str().expect("a path")])
        .output()
        .expect("pg_restore starts");
    assert!(String::from_utf8_lossy(&contents.stdout).contains("TABLE DATA public orders"));

    page.click("[aria-label='Verify backup nightly']");
    page.wait_for_text("#notices", "Backup nightly restores whole: 1 table, 2 rows.");
    // Into a database of its own; what holds something is replaced only by who says so.
    page.click("[aria-label='Restore… backup nightly']");
    page.wait_for_text("#dialog[open]", "RESTORE NIGHTLY");
    page.click_button("#dialog", "Restore");
    page.wait_for_text("#notices", "is in the database testdb_restored");
    let restored = |shop: &Shop| {
        shop.sql_in("testdb_restored", "select string_agg(id || state, ' ' order by id) from orders")
    };
    assert_eq!(restored(&shop), "1shipped 2shipped");
    shop.sql_in("testdb_restored", "delete from orders");
    page.click("[aria-label='Restore… backup nightly']");
    page.wait_for_text("#dialog[open]", "RESTORE NIGHTLY");
    page.click_button("#dialog", "Restore");
    page.wait_for_text("#dialog[open]", "is not empty");
    page.click_button("#dialog", "Keep it");
    page.wait_for("!document.querySelector('dialog[open]')");
    assert_eq!(restored(&shop), "");
    page.click("[aria-label='Restore… backup nightly']");
    page.wait_for_text("#dialog[open]", "RESTORE NIGHTLY");
    page.click_button("#dialog", "Restore");
    page.wait_for_text("#dialog[open]", "is not empty");
    page.click_button("#dialog", "Replace it");
    page.wait_for("!document.querySelector('dialog[open]')");
    page.wait_for("[...document.querySelectorAll('#backup-list button')].every((one) => !one.disabled)");
    assert_eq!(restored(&shop), "1shipped 2shipped");

    // Into the session, which says that it is no position of the log; the next move makes it one again.
    page.click("[aria-label='Restore… backup nightly']");
    page.wait_for_text("#dialog[open]", "session default, whose database is replaced");
    page.eval("(() => { const into = document.querySelector('#dialog select'); into.selectedIndex = 1; into.dispatchEvent(new Event('change')); })()");
    page.click_button("#dialog", "Restore");
    page.wait_for_text("#session-list", "open for writes");
    assert_eq!(shop.replica(), "1shipped 2shipped");
    page.click("[aria-label='Go here: checkpoint before migration']");
    page.click_button("#dialog", "Go there");
    page.wait_for_text(PLACE, "(before migration)");
    assert_eq!(shop.replica(), "1new 2new 3new");

    page.eval("document.querySelector('#backup-of').value = 'session'");
    page.click("#backup-name");
    page.write("of the session");
    page.click_button("#create-backup", "Dump");
    page.wait_for("document.querySelector('.notice.bad')");
    page.click_button(".notice.bad", "Dismiss");
    page.eval("document.querySelector('#backup-name').value = 'of-the-session'");
    page.click_button("#create-backup", "Dump");
    page.wait_for_text("#notices", "Backup of-the-session is whole");
    page.wait_for_text("#backup-list", "of session default");
    page.click("[aria-label='Delete backup nightly']");
    page.click_button("#dialog", "Delete");
    page.wait_for("!document.querySelector('#backup-list').innerText.includes('nightly')");
    let left = shop.product.json(&["backup", "list"]);
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    no_errors(&mut page);
}
