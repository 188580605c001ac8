//! A schema change comes before the rows that it is about, also where both lie in different subtransactions.
//!
//! pgoutput orders a message by the end of its WAL record and a row by the beginning of its own, so neighbours can
//! tie, and then they come in any order. Many repetitions of several sizes, because only some would come out wrong.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use ptr_capture::{assemble::Step, ddl::Secret};
use ptr_model::Change;
use source_support::Primary;

const REPETITIONS: usize = 300;

/// One word a change, by transaction, in the order in which the log would get them.
async fn transactions(primary: &Primary, secret: Secret) -> Vec<Vec<&'static str>> {
    let mut transactions = Vec::new();
    for step in primary.stream(&secret).await {
        match step {
            Step::Begin(_) => transactions.push(Vec::new()),
            Step::Change(change) => transactions.last_mut().unwrap().push(word(&change)),
            _ => {}
        }
    }
    transactions
}

fn word(change: &Change) -> &'static str {
    match change {
        Change::Schema(change) if change.is_entry => "schema change",
        Change::Schema(_) => "schema event",
        Change::Rows(_) => "rows",
        Change::Insert { .. } => "insert",
        Change::Update { .. } => "update",
        other => panic!("{other:?}"),
    }
}

/// Something that makes messages of different sizes.
fn padding(repetition: usize) -> String {
    format!("/* {} */", "x".repeat(repetition * 13 % 1000))
}

on_every_version! {
    async fn rows_of_a_rewrite_come_before_what_follows_it(version) {
        let primary = Primary::start(version).await;
        let tables = format!("DO $$ BEGIN FOR i IN 1..{REPETITIONS} LOOP
            EXECUTE format('CREATE TABLE t%s (v text)', i);
            EXECUTE format('INSERT INTO t%s SELECT repeat(''v'', %s) FROM generate_series(1, %s)', i, i * 7 % 500, i % 5);
            EXECUTE format('INSERT INTO t%s VALUES (''x'')', i); END LOOP; END $$");
        primary.run(&tables).await;
        let secret = primary.prepare().await.secret.unwrap();
        let session = primary.session().await;
        for i in 1..=REPETITIONS {
            let padding = padding(i);
            let script = format!("BEGIN; ALTER TABLE t{i} ADD c float DEFAULT random() {padding}; UPDATE t{i} SET c = 0 WHERE v = 'x'; COMMIT");
            session.batch_execute(&script).await.unwrap();
        }
        let transactions = transactions(&primary, secret).await;
        assert_eq!(transactions.len(), REPETITIONS);
        for changes in transactions {
            assert_eq!(changes, ["schema event", "schema change", "rows", "update"]);
        }
    }

    async fn a_table_made_in_a_savepoint_comes_before_its_rows(version) {
        let mut primary = Primary::start(version).await;
        // Else the change of the identity would stand between the message and the row.
        primary.options.replica_identity = false;
        let statements = "SAVEPOINT s; CREATE TABLE t# (v text PRIMARY KEY $); RELEASE s; INSERT INTO t# VALUES ('$')";
        in_neighbouring_subtransactions(&primary, statements, &["schema change", "insert"]).await;
    }

    async fn a_column_added_in_a_savepoint_comes_before_rows_with_it(version) {
        let primary = Primary::start(version).await;
        primary.run(&make_tables("")).await;
        let statements = "SAVEPOINT s; ALTER TABLE t# ADD v text $; RELEASE s; INSERT INTO t# VALUES ('$')";
        in_neighbouring_subtransactions(&primary, statements, &["schema change", "insert"]).await;
    }

    // The server breaks a tie in favour of the transaction whose change came last, so that what a message follows in
    // its own transaction matters. Here that is nothing.
    async fn a_message_that_is_all_of_a_savepoint_comes_before_the_next_row(version) {
        let primary = Primary::start(version).await;
        primary.run(&make_tables("v text")).await;
        let statements = "INSERT INTO t# VALUES ('$'); SAVEPOINT s; ALTER TABLE t# ALTER v DROP NOT NULL $; RELEASE s; INSERT INTO t# VALUES ('$')";
        in_neighbouring_subtransactions(&primary, statements, &["insert", "schema change", "insert"]).await;
    }
}

fn make_tables(columns: &str) -> String {
    format!(
        "DO $$ BEGIN FOR i IN 1..{REPETITIONS} LOOP EXECUTE format('CREATE TABLE t%s ({columns})', i); END LOOP; END $$"
    )
}

/// Runs statements with the repetition for `#` and something of its size for `$`, as one transaction each time, which
/// must come as `expected`.
async fn in_neighbouring_subtransactions(primary: &Primary, statements: &str, expected: &[&str]) {
    let secret = primary.prepare().await.secret.unwrap();
    let session = primary.session().await;
    for i in 1..=REPETITIONS {
        let statements = statements.replace('#', &i.to_string()).replace('$', &padding(i));
        session.batch_execute(&format!("BEGIN; {statements}; COMMIT")).await.unwrap();
    }
    let transactions = transactions(primary, secret).await;
    assert_eq!(transactions.len(), REPETITIONS);
    for changes in transactions {
        assert_eq!(changes, expected);
    }
}
