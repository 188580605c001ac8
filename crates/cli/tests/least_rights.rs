//! The rights that docs/operations.md grants are enough, and no more are used: its SQL is read from there and run.
#![allow(missing_docs)]

mod support;

use ptr_testkit::{
    ClusterRole, DatabaseState, ServerVersion, TestServer, TestServerOptions, assert_equal_states,
};
use support::Product;

const DOCUMENT: &str = include_str!("../../../docs/operations.md");

const PASSWORD: &str = "for-the-test";

/// The SQL of the section on rights: for the primary, and for the output server.
fn rights() -> (String, String) {
    let (_, section) = DOCUMENT.split_once("## Rights, as SQL").expect("the section");
    let (_, sql) = section.split_once("```sql\n").expect("its SQL");
    let (sql, _) = sql.split_once("```").expect("the end of it");
    let (primary, output) = sql.split_once("-- on the output server").expect("two parts");
    let filled = |sql: &str| sql.replace("'...'", &format!("'{PASSWORD}'"));
    (filled(primary), filled(output))
}

async fn works(version: ServerVersion) {
    let primary = TestServer::start(version, TestServerOptions::default()).await;
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let replica = TestServer::start(version, options).await;
    primary.database("shop").await;
    let (on_primary, on_output) = rights();
    let tables =
        "CREATE ROLE shop_owner; GRANT CREATE, USAGE ON SCHEMA public TO shop_owner; SET ROLE shop_owner;
                  CREATE TABLE orders (id serial PRIMARY KEY, item text, amount numeric(10,2));
                  CREATE TABLE keyless (x int);
                  INSERT INTO orders (item, amount) VALUES ('tea', 3.5), ('pot', 20);
                  INSERT INTO keyless VALUES (1), (1)";
    primary.psql("shop", tables).await;
    primary.psql("shop", &on_primary).await;
    let is_older = version == ServerVersion::Debian15;
    let lines = on_output.lines().filter(|line| !(is_older && line.contains("-- 17 and newer")));
    replica.psql("postgres", &lines.collect::<Vec<_>>().join("\n")).await;
    for (server, database) in [(&primary, "shop"), (&replica, "postgres")] {
        let rights =
            "SELECT rolsuper OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = 'shop_owner'";
        assert_eq!(server.psql(database, rights).await.trim(), "f");
    }
    let uri = |server: &TestServer, database: &str| {
        let port = server.dsn(database).hosts()[0].port;
        format!("postgres://shop_owner:{PASSWORD}@127.0.0.1:{port}/{database}")
    };
    let product = Product::new(Some(&uri(&primary, "shop")), Some(&uri(&replica, "replica")))
        .with("PG_BIN", support::path(&version.installation().bin_dir));
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");

    primary
        .psql("shop", "UPDATE orders SET amount = amount * 2; DELETE FROM keyless WHERE ctid = '(0,1)'")
        .await;
    product.run(&["checkpoint", "create", "doubled"]);
    let doubled = DatabaseState::capture(&primary.dsn("shop")).await;
    primary.psql("shop", "INSERT INTO orders (item, amount) SELECT 'cup', n FROM generate_series(1, 100) n; TRUNCATE keyless").await;
    product.run(&["checkpoint", "create", "end"]);
    let ended = DatabaseState::capture(&primary.dsn("shop")).await;
    for (position, state) in [("end", &ended), ("doubled", &doubled), ("end", &ended)] {
        product.run(&["navigate", position]);
        assert_equal_states(state, &DatabaseState::capture(&replica.dsn("replica")).await);
    }
    product.run(&["session", "create", "other", "--at", "doubled"]);
    product.run(&["verify"]);
    // Databases of others that let nobody in are passed over.
    replica.psql("postgres", "CREATE DATABASE precious").await;
    replica.psql("postgres", "REVOKE CONNECT ON DATABASE precious FROM PUBLIC").await;
    let collected = support::both(&product.output(&["gc"]));
    assert!(!collected.contains("not looked at"), "{collected}");
    product.run(&["down"]);
    product.run(&["--yes", "teardown"]);
    let ours = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)
                     + (SELECT count(*) FROM pg_namespace WHERE nspname = 'postgres_test_replay')";
    assert_eq!(primary.psql("shop", ours).await.trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_documented_are_enough_on_15() {
    works(ServerVersion::Debian15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_are_documented_are_enough_on_18() {
    works(ServerVersion::Pypi18).await;
}
