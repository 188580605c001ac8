//! Tables that stand in the way of capture, and the way that the program names, taken.
#![allow(missing_docs)]

mod support;

use std::time::Duration;

use ptr_testkit::{
    ClusterRole, DatabaseState, ServerVersion, TestServer, TestServerOptions, assert_equal_states, wait_until,
};
use support::{
    Product,
    pair::{DATABASE, Pair},
};

/// The finding of `doctor` with that code.
fn finding(product: &Product, code: &str) -> Option<serde_json::Value> {
    // It ends with another code than 0 where something is wrong.
    let told = product.output(&["--json", "doctor"]).stdout;
    let doctor: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    let findings = doctor["findings"].as_array().expect("findings").clone();
    findings.into_iter().find(|finding| finding["code"] == code)
}

/// Between the two servers as a role that owns its tables and is no superuser.
async fn owner() -> (TestServer, TestServer, Product) {
    let version = ServerVersion::Pypi18;
    let primary = TestServer::start(version, TestServerOptions::default()).await;
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let replica = TestServer::start(version, options).await;
    primary.database(DATABASE).await;
    let dsn = primary.dsn(DATABASE);
    let password = dsn.password().expect("a password").reveal().to_owned();
    let role = format!(
        "CREATE ROLE app LOGIN REPLICATION PASSWORD '{password}'; ALTER DATABASE {DATABASE} OWNER TO app;
         SET ROLE app; CREATE TABLE was_there (id int PRIMARY KEY)"
    );
    primary.psql(DATABASE, &role).await;
    let input = dsn.with_user("app", dsn.password().cloned()).to_uri_with_password();
    let output = replica.dsn("replica").to_uri_with_password();
    let product = Product::new(Some(&input), Some(&output))
        .with("PG_BIN", support::path(&version.installation().bin_dir));
    (primary, replica, product)
}

/// Without event triggers nobody tells of a table that is made after set-up.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_published_are_listed_and_taken_in() {
    let (primary, replica, product) = owner().await;
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    let as_owner = async |sql: &str| primary.psql(DATABASE, &format!("SET ROLE app; {sql}")).await;
    as_owner("INSERT INTO was_there VALUES (1)").await;
    as_owner(r#"CREATE TABLE keyed (id int PRIMARY KEY, v text); CREATE TABLE "No key" (v text)"#).await;
    as_owner(r#"INSERT INTO keyed VALUES (1, 'a'); INSERT INTO "No key" VALUES ('a'), ('b')"#).await;

    let found = finding(&product, "unpublished_tables").expect("they are not captured");
    let fix = found["fix"].as_str().expect("what to do");
    let (_, rest) = fix.split_once("owner of both: ").expect("statements");
    let (statements, rest) = rest.split_once("; then ").expect("commands behind them");
    as_owner(statements).await;
    assert_eq!(finding(&product, "unpublished_tables"), None);
    let commands: Vec<&str> = rest.split('`').filter(|part| part.starts_with("session resync")).collect();
    assert_eq!(commands.len(), 2, "{fix}");
    for command in commands {
        let table = command.strip_prefix("session resync ").expect("a table").trim_matches('\'');
        product.run(&["session", "resync", table]);
    }

    // Nothing of the owner's fails, and what it does is captured.
    as_owner(r#"UPDATE keyed SET v = 'b'; UPDATE "No key" SET v = 'c' WHERE v = 'a'"#).await;
    product.run(&["checkpoint", "create", "updated"]);
    let updated = DatabaseState::capture(&primary.dsn(DATABASE)).await;
    as_owner(r#"DELETE FROM "No key" WHERE v = 'b'; INSERT INTO keyed VALUES (2, 'x')"#).await;
    product.run(&["navigate", "head"]);
    let head = DatabaseState::capture(&primary.dsn(DATABASE)).await;
    assert_equal_states(&head, &DatabaseState::capture(&replica.dsn("replica")).await);
    product.run(&["navigate", "updated"]);
    assert_equal_states(&updated, &DatabaseState::capture(&replica.dsn("replica")).await);
}

/// With REPLICA IDENTITY FULL both images of a row are sent, and must stay below 1 GB together. The text compresses well,
/// so that the row is small wherever it is not sent.
async fn a_change_too_large_to_stream(version: ServerVersion) {
    let mut pair = Pair::capturing(version, async |primary| {
        let table = "CREATE TABLE large (id int PRIMARY KEY, v text);
                     INSERT INTO large VALUES (1, repeat('x', 540 * 1024 * 1024))";
        primary.psql(DATABASE, table).await;
    })
    .await;
    pair.primary.psql(DATABASE, "INSERT INTO large VALUES (2, 'small')").await;
    pair.product.run(&["checkpoint", "create", "before"]);
    let update = "UPDATE large SET v = v || 'y' WHERE id = 1";
    // Nothing of the user's fails.
    pair.primary.psql(DATABASE, update).await;
    wait_until("capture gives up", Duration::from_secs(240), async || {
        pair.printed().contains("images of one change must stay below 1 GB together")
    })
    .await;
    let said = pair.product.run(&["status"]);
    let rows = "SELECT string_agg(concat(id, ' ', length(v), ' ', right(v, 2)), ', ' ORDER BY id) FROM large";
    pair.product.run(&["navigate", "head"]);
    let reached = pair.replica.psql(DATABASE, rows).await;
    assert_eq!(reached.trim(), "1 566231040 xx, 2 5 ll", "what was captured can be reached");

    // As it says.
    let (_, said) = said.split_once("Run `teardown`, then `up` with ").unwrap_or_else(|| panic!("{said}"));
    let (setting, _) = said.split_once(',').expect("a setting");
    let (name, value) = setting.split_once('=').expect("its name and value");
    pair.product.run(&["down"]);
    pair.product.run(&["--yes", "teardown"]);
    pair.product = std::mem::replace(&mut pair.product, Product::new(None, None))
        .with(name, &value.replace("SCHEMA.TABLE", "public.large"));
    pair.start_again();
    pair.primary.psql(DATABASE, update).await;
    // On a busy machine the server takes longer to decode it than a checkpoint waits for.
    wait_until("capture comes past the change", Duration::from_secs(240), async || {
        pair.product.output(&["checkpoint", "create", "passed"]).status.success()
    })
    .await;
    let earlier = pair.product.run(&["status"]);
    assert!(earlier.contains("shop@"), "{earlier}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_too_large_to_stream_is_told_and_passes_once_its_table_keeps_its_identity() {
    a_change_too_large_to_stream(ServerVersion::Pypi18).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes (run alone, it passes), and 18 is always tried"]
async fn a_change_too_large_to_stream_is_told_and_passes_once_its_table_keeps_its_identity_on_15() {
    a_change_too_large_to_stream(ServerVersion::Debian15).await;
}
