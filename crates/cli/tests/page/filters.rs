//! Filters: each field of the form, and several together, show what somebody who knows the history expects.

use crate::{PLACE, browser::Browser, no_errors, shop::Shop};

/// What is filled in, and the transactions that are shown then.
type Case = (&'static [(&'static str, &'static str)], &'static [u64]);

/// Fills in the form as a reader does, and waits for these transactions.
#[track_caller]
fn filtered(page: &mut Browser, fields: &[(&str, &str)], expected: &[u64]) {
    page.eval("document.querySelector('#filter').reset()");
    for (field, value) in fields {
        if *field == "operation" {
            page.eval(&format!("document.querySelector('#operation').value = '{value}'"));
        } else {
            page.click(&format!("#{field}"));
            page.write(value);
        }
    }
    page.click_button("#filter", "Filter");
    let numbers = "JSON.stringify([...document.querySelectorAll('.tx')].sort((a, b) => a.dataset.row - b.dataset.row).map((row) => Number(row.firstChild?.innerText)))";
    println!("{fields:?}: {expected:?}");
    page.wait_for(&format!("{numbers} === '{}'", serde_json::json!(expected)));
    for (field, _) in fields {
        page.wait_for(&format!("new URLSearchParams(location.search).has('{field}')"));
    }
}

#[test]
fn each_filter_and_several_together_show_what_they_name() {
    // 0: orders is made, 1 to 3: an order each, 4: all are shipped, 5: the third is deleted.
    let shop = Shop::open();
    for sql in [
        "create table items (id int primary key, note text)",
        "insert into items values (1, 'A Blue Teapot')",
        "insert into items values (12, 'a cup'), (3, null)",
        "truncate items",
        "select pg_logical_emit_message(true, 'app', 'closing time')",
    ] {
        shop.sql(sql);
    }
    shop.product.run(&["checkpoint", "create", "all"]);
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "11 transactions before head");
    page.wait_for("document.querySelectorAll('.tx').length === 11");
    let all: Vec<u64> = (0..11).rev().collect();
    let cases: &[Case] = &[
        (&[("table", "orders")], &[5, 4, 3, 2, 1]),
        (&[("table", "public.items")], &[9, 8, 7]),
        (&[("operation", "insert")], &[8, 7, 3, 2, 1]),
        (&[("operation", "update")], &[4]),
        (&[("operation", "delete")], &[5]),
        (&[("operation", "truncate")], &[9]),
        (&[("operation", "ddl")], &[6, 0]),
        (&[("operation", "message")], &[10]),
        (&[("text", "blue teapot")], &[7]),
        (&[("text", "closing")], &[10]),
        (&[("text", "CREATE TABLE items")], &[6]),
        (&[("key", "3")], &[8, 5, 4, 3]),
        (&[("key", "id=1")], &[7, 4, 1]),
        (&[("key", "note=a cup")], &[8]),
        (&[("since", "before migration")], &[10, 9, 8, 7, 6, 5, 4]),
        (&[("until", "before migration")], &[3, 2, 1, 0]),
        (&[("since", "entry:2"), ("until", "entry:4")], &[3, 2]),
        (&[("table", "orders"), ("operation", "update"), ("key", "2")], &[4]),
        (&[("table", "orders"), ("text", "shipped"), ("until", "after migration")], &[5, 4]),
    ];
    for (fields, expected) in cases {
        filtered(&mut page, fields, expected);
    }
    filtered(&mut page, &[("text", "nowhere to be found")], &[]);
    page.wait_for_text("#list", "No transaction matches the filter");
    page.wait_for_text(".looked", "14 entries looked at, all of them: 0 transactions found");
    page.click("#clear");
    page.wait_for("document.querySelectorAll('.tx').length === 11");
    assert_eq!(page.eval("location.search"), "");
    filtered(&mut page, &[], &all);
    // What means nothing is told, with what could be meant.
    page.click("#since");
    page.write("the day before");
    page.click_button("#filter", "Filter");
    page.wait_for_text(".notice.bad", "the day before");
    println!("{}", page.text(".notice.bad"));
    no_errors(&mut page);
}

#[test]
fn what_log_follows_and_looks_for_is_printed_once() {
    let shop = Shop::open();
    shop.sql("insert into orders values (100, 'new', 'a needle')");
    // More than one answer looks at.
    shop.sql("insert into orders select i, 'new', 'hay' from generate_series(1000, 202000) i");
    shop.product.run(&["checkpoint", "create", "all"]);
    let mut following = shop.product.spawn("log", &["log", "--follow", "--grep", "NEEDLE"]);
    // What was found is handed over once all that there was has been looked through.
    following.wait_for_text("a needle");
    shop.sql("insert into orders values (101, 'new', 'another needle')");
    following.wait_for_text("another needle");
    let said = following.printed();
    assert_eq!(said.matches("a needle").count(), 1, "{said}");
}
