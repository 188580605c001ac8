//! What the inspector copies: statements that other databases take, and JSON; and how it shows what is odd in a row.

use serde_json::{Value, json};

use crate::{PLACE, browser::Browser, look_at, no_errors, shop::Shop, support::Product};

/// The rows, each as PostgreSQL writes it.
const GOODS: &str = "select coalesce(string_agg(goods::text, E'\\n' order by id), 'none') from goods";

/// The cells of a column's row in the only change that is shown, empty where the column is not shown.
#[track_caller]
fn cells(page: &mut Browser, column: &str) -> Value {
    page.eval(&format!(
        "[...([...document.querySelectorAll('#inspector .change tbody tr')].find((row) => \
         row.querySelector('th').innerText === '{column}')?.querySelectorAll('td') ?? [])].map((cell) => cell.innerText)"
    ))
}

#[test]
fn copies_as_sql_and_as_its_inverse_take_another_database_there_and_back() {
    let shop = Shop::empty();
    shop.sql("create table goods (id int primary key, name text, note text, picture text)");
    // Too long for its row, so it is stored apart.
    let picture = "(select string_agg(md5(i::text), '') from generate_series(1, 400) i)";
    let changes = [
        format!(
            "insert into goods values (1, 'it''s a \"cup\" \\ of tea', null, {picture}), (2, '', 'x', null)"
        ),
        "update goods set name = 'O''Neill', note = '' where id = 1".to_owned(),
        "update goods set id = 10 where id = 2".to_owned(),
        "with gone as (delete from goods where id = 1) insert into goods values (3, 'saucer', E'two\\nlines', null)"
            .to_owned(),
    ];
    let mut states = vec![shop.sql(GOODS)];
    for change in &changes {
        shop.sql(change);
        states.push(shop.sql(GOODS));
    }
    shop.product.run(&["checkpoint", "create", "all"]);
    shop.sql_in("postgres", "create database scratch");
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "5 transactions before head");

    look_at(&mut page, 0);
    let made = page.copied_by("#inspector", "Copy SQL");
    shop.sql_in("scratch", &made);
    for ordinal in 1..=4_u64 {
        look_at(&mut page, ordinal);
        let sql = page.copied_by("#inspector", "Copy SQL");
        println!("{ordinal}: {}", sql.chars().take(200).collect::<String>());
        shop.sql_in("scratch", &sql);
        let after = usize::try_from(ordinal).expect("small");
        assert_eq!(shop.sql_in("scratch", GOODS), states[after], "after {ordinal}: {sql}");
    }
    for ordinal in (1..=4_u64).rev() {
        look_at(&mut page, ordinal);
        let sql = page.copied_by("#inspector", "Copy inverse SQL");
        println!("{ordinal}: {}", sql.chars().take(200).collect::<String>());
        shop.sql_in("scratch", &sql);
        let before = usize::try_from(ordinal - 1).expect("small");
        assert_eq!(shop.sql_in("scratch", GOODS), states[before], "before {ordinal}: {sql}");
    }
    // A schema change is not taken back by a statement, and what is copied says so.
    look_at(&mut page, 0);
    let sql = page.copied_by("#inspector", "Copy inverse SQL");
    assert!(sql.starts_with("-- DDL cannot be taken back by a statement: create table goods"), "{sql}");
    no_errors(&mut page);
}

#[test]
fn copies_as_json_hold_the_entries_whole_and_unchanged_values_and_keys_are_shown_so() {
    let shop = Shop::empty();
    shop.sql("create table goods (id int primary key, name text, note text, big bigint, picture text)");
    let picture = "(select string_agg(md5(i::text), '') from generate_series(1, 400) i)";
    shop.sql(&format!("insert into goods values (1, 'cup', null, 9007199254740993, {picture})"));
    shop.sql("update goods set note = '' where id = 1");
    shop.sql("update goods set id = 10 where id = 1");
    shop.product.run(&["checkpoint", "create", "all"]);
    let Some(mut page) = shop.browser("/") else { return };
    page.wait_for_text(PLACE, "4 transactions before head");
    let json = |page: &mut Browser| -> Value {
        serde_json::from_str(&page.copied_by("#inspector", "Copy JSON")).expect("JSON")
    };

    look_at(&mut page, 1);
    let inserted = json(&mut page);
    assert_eq!(inserted.as_array().expect("entries").len(), 1);
    assert_eq!((&inserted[0]["operation"], &inserted[0]["table"]), (&json!("INSERT"), &json!("goods")));
    let picture = shop.sql("select picture from goods");
    let row = json!({"id": 1, "name": "cup", "note": null, "big": "9007199254740993", "picture": picture});
    assert_eq!(inserted[0]["data"], row);

    // NULL and the empty string are told apart; what did not change is shown on request, and said to be so.
    look_at(&mut page, 2);
    page.wait_for_text("#inspector .change", "(empty)");
    assert_eq!(cells(&mut page, "note"), json!(["NULL", "'' (empty)"]));
    assert_eq!(cells(&mut page, "picture"), json!([]));
    page.wait_for("!['', '…'].includes(document.querySelector('.plan').innerText)");
    page.click("#inspector label input[type=checkbox]");
    page.wait_for_text("#inspector .change", "unchanged");
    assert_eq!(cells(&mut page, "picture"), json!([picture, "unchanged"]));
    assert_eq!(cells(&mut page, "name"), json!(["cup", "cup"]));
    let updated = json(&mut page);
    assert_eq!(updated[0]["data"]["picture"], json!({"unchanged": true}));
    assert_eq!(updated[0]["old_data"], row);
    page.click("#inspector label input[type=checkbox]");
    page.wait_for("!document.querySelector('#inspector .change').innerText.includes('unchanged')");

    // A key that changes is one update, with the key before and after.
    look_at(&mut page, 3);
    page.wait_for_text("#inspector .change", "UPDATE");
    assert_eq!(page.eval("document.querySelectorAll('#inspector .change').length"), 1);
    assert_eq!(cells(&mut page, "id"), json!(["1", "10"]));
    assert_eq!(page.eval("document.querySelectorAll('#inspector .change tbody tr').length"), 1);
    let moved = json(&mut page);
    assert_eq!(
        (moved.as_array().map(Vec::len), &moved[0]["old_data"]["id"], &moved[0]["data"]["id"]),
        (Some(1), &json!(1), &json!(10))
    );
    no_errors(&mut page);
}

#[test]
fn an_inverse_says_which_values_it_cannot_give_back() {
    // Of a table that is left as it is only a key that changes is sent as it was.
    let shop = Shop::of(Product::new(None, None).with("REPLICA_IDENTITY", "leave"));
    shop.sql("create table goods (id int primary key, name text)");
    shop.sql("insert into goods values (1, 'cup')");
    shop.sql("update goods set id = 10, name = 'mug'");
    shop.product.run(&["checkpoint", "create", "all"]);
    let Some(mut page) = shop.browser("/?at=head") else { return };
    page.wait_for_text("#inspector .change", "UPDATE");
    let sql = page.copied_by("#inspector", "Copy inverse SQL");
    shop.sql(&sql);
    assert_eq!(shop.sql("select * from goods"), "1|mug", "{sql}");
    assert!(sql.ends_with("-- not taken back, as their values before were not sent: \"name\""), "{sql}");
    no_errors(&mut page);
}
