//! Data directories that earlier versions wrote are opened, read and navigated by this one. Each is kept as it was
//! written, `golden/data-N.tar.gz`, beside what the primary held at its checkpoints, `golden/data-N.txt`.
//!
//! Where the format of anything in the data directory changes, `script/golden-data` makes the next one; those before it
//! stay.
#![allow(missing_docs)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use ptr_testkit::{ClusterRole, ServerVersion, TestServer, TestServerOptions};
use serde_json::Value;
use support::{Product, pair::DATABASE, pair::Pair};

/// The one that `script/golden-data` writes.
const NEWEST: u32 = 1;

/// All that a database holds, as text: its columns, and its rows in order.
const CONTENTS: &str = "
    SELECT format('%s.%s %s', table_name, column_name, data_type) FROM information_schema.columns
     WHERE table_schema = 'public' ORDER BY table_name, ordinal_position;
    SELECT c.relname || ' ' || query_to_xml(format('SELECT t::text AS row FROM public.%I t ORDER BY 1', c.relname), false, false, '')::text
      FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY c.relname;";

fn file(number: u32, end: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/data-{number}.{end}"))
}

fn tar(arguments: &[&str], folder: &Path) {
    let done = Command::new("tar").args(arguments).current_dir(folder).status().expect("tar starts");
    assert!(done.success(), "tar {arguments:?}");
}

/// What the primary held at each checkpoint, in order: `== NAME` and the text below it.
fn expected(number: u32) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file(number, "txt")).expect("the file");
    let parts = text.split("== ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(name, contents)| (name.to_owned(), contents.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the newest of them; run it by script/golden-data"]
async fn write_the_newest() {
    let pair = Pair::capturing(ServerVersion::Debian15, async |primary| {
        let schema = "CREATE TYPE mood AS ENUM ('calm', 'loud');
            CREATE TABLE customer (id serial PRIMARY KEY, name text NOT NULL, mood mood DEFAULT 'calm');
            CREATE TABLE keyless (n numeric, at timestamptz, b bytea);
            INSERT INTO customer (name) VALUES ('Ada'), ('Grace'); INSERT INTO keyless VALUES (1.50, '2026-01-01', '\\x00ff')";
        primary.psql(DATABASE, schema).await;
    })
    .await;
    let steps = [
        (
            "rows",
            "INSERT INTO customer (name, mood) VALUES ('Größe', 'loud'); UPDATE keyless SET n = n * 2; DELETE FROM customer WHERE id = 2",
        ),
        (
            "schema",
            "ALTER TABLE customer ADD COLUMN since date DEFAULT '2026-05-01'; CREATE TABLE made AS SELECT g AS g, repeat('x', 3000) AS long FROM generate_series(1, 3) g; TRUNCATE keyless",
        ),
        (
            "savepoints",
            "BEGIN; INSERT INTO keyless VALUES (7); SAVEPOINT a; UPDATE customer SET name = upper(name); RELEASE a; SELECT pg_logical_emit_message(true, 'app', 'said'); COMMIT; DROP TABLE made",
        ),
    ];
    let mut text = String::new();
    let contents = pair.primary.psql(DATABASE, CONTENTS).await;
    text.push_str(&format!("== CREATION\n{contents}"));
    for (name, sql) in steps {
        pair.primary.psql(DATABASE, sql).await;
        pair.product.run(&["checkpoint", "create", name, "-m", "kept for later versions"]);
        text.push_str(&format!("== {name}\n{}", pair.primary.psql(DATABASE, CONTENTS).await));
    }
    pair.product.run(&["navigate", "schema"]);
    pair.product.run(&["session", "create", "second", "--at", "rows"]);
    pair.product.run(&["down"]);
    let golden = file(NEWEST, "tar.gz");
    std::fs::create_dir_all(golden.parent().expect("a folder")).expect("it is made");
    let mut arguments = vec!["--owner=0", "--group=0", "--sort=name", "-czf", support::path(&golden)];
    arguments.extend(["log", "base", "source", "catalog.sqlite"]);
    tar(&arguments, &pair.product.data_directory());
    std::fs::write(file(NEWEST, "txt"), text).expect("it is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_earlier_versions_wrote_is_read_and_navigated() {
    for number in 1..=NEWEST {
        let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
        let replica = TestServer::start(ServerVersion::Debian15, options).await;
        let programs = ServerVersion::Debian15.installation().bin_dir;
        let output = replica.dsn(DATABASE).to_uri_with_password();
        // The primary is long gone.
        let product = Product::new(Some("postgres://nobody@127.0.0.1:1/shop"), Some(&output))
            .with("PG_BIN", support::path(&programs));
        std::fs::create_dir(product.data_directory()).expect("a folder");
        tar(&["-xzf", support::path(&file(number, "tar.gz"))], &product.data_directory());

        let mut service = product.spawn("ipc", &["ipc", "--addr", "127.0.0.1:0"]);
        service.wait_for_text("http://");

        let names = |list: Value| -> Vec<String> {
            let all = list.as_array().expect("a list").iter();
            all.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
        };
        let kept = expected(number);
        let checkpoints = names(product.json(&["checkpoint", "list"]));
        for name in kept.iter().map(|(name, _)| name).chain([&"MIGRATION".to_owned()]) {
            assert!(checkpoints.contains(name), "{name} is not in {checkpoints:?}");
        }
        assert_eq!(names(product.json(&["session", "list"])), ["default", "second"]);
        let log = product.run(&["log"]);
        for part in ["Größe", "ALTER TABLE customer ADD COLUMN since", "said"] {
            assert!(log.contains(part), "{part} is not in the log of {number}:\n{log}");
        }
        // Back and forth over everything, from the base image on.
        let order: Vec<&(String, String)> = kept.iter().rev().chain(&kept).collect();
        for (name, contents) in order {
            product.run(&["navigate", name]);
            assert_eq!(replica.psql(DATABASE, CONTENTS).await, *contents, "data-{number} at {name}");
        }
        assert!(kept.len() > 3);
    }
}
