//! Names that try to be more than names, all the way: captured, replayed, asked for, shown. The oracle is the primary.
#![allow(missing_docs)]

mod support;

use std::process::Command;

use ptr_postgres::{quote_identifier, quote_literal};
use ptr_testkit::{
    ClusterRole, DatabaseState, ServerVersion, TestServer, TestServerOptions, assert_equal_states,
};
use serde_json::{Value, json};
use support::{Product, both};

/// Quotes, ends of literals, of comments and of dollar quotes, line ends, control sequences, wide characters, and the
/// longest name that there is.
fn names() -> Vec<String> {
    [
        "a\"b'c $$ $f$ /* -- */",
        "'); DROP TABLE witness; --\"",
        "back\\slash\\' <img src=x onerror=alert(1)>&amp;",
        "new\nline\r\ttab",
        "\u{1b}]0;owned\u{7}\u{1b}[2J",
        "\u{9b}2J\u{7f}\u{202e}",
        "%41%2f..%2f?#{\"a\":1}",
        "ünïcödé 表 🐘",
        "entry:1",
        " ",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([format!("{}\"'", "é".repeat(30)), "n".repeat(63)])
    .collect()
}

/// Each name as a role, a schema, a table, its columns, an index, a constraint, a type, a sequence, a function.
fn statements(number: usize, name: &str) -> Vec<String> {
    let quoted = quote_identifier(name);
    // Roles are the whole server's, and names of relations one schema's.
    let role = quote_identifier(&format!("{}{number}", name.chars().take(20).collect::<String>()));
    let table = format!("{quoted}.{quoted}");
    vec![
        format!("CREATE ROLE {role}"),
        format!("CREATE SCHEMA {quoted}"),
        format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, {quoted} text, CONSTRAINT {quoted} CHECK ({quoted} <> 'x'))"
        ),
        format!(
            "CREATE TYPE {quoted}.kind AS ENUM ({})",
            quote_literal(&name.chars().take(20).collect::<String>())
        ),
        format!("ALTER TABLE {table} ADD COLUMN kind {quoted}.kind"),
        format!("CREATE FUNCTION {quoted}.{quoted}() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        format!("CREATE INDEX ON {table} ({quoted})"),
        format!("COMMENT ON TABLE {table} IS {}", quote_literal(name)),
        format!("ALTER TABLE {table} OWNER TO {role}"),
        format!("INSERT INTO {table} VALUES (1, {0}), (2, 'b')", quote_literal(name)),
    ]
}

fn changes(name: &str) -> Vec<String> {
    let quoted = quote_identifier(name);
    let table = format!("{quoted}.{quoted}");
    vec![
        format!("UPDATE {table} SET {quoted} = {quoted} || {quoted}; DELETE FROM {table} WHERE id = 2"),
        format!("ALTER TABLE {table} RENAME COLUMN id TO \"key'\""),
        format!("INSERT INTO {table} (\"key'\", {quoted}) VALUES (3, {})", quote_literal(name)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn names_stay_names_everywhere() {
    let version = ServerVersion::Pypi18;
    let primary = TestServer::start(version, TestServerOptions::default()).await;
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let replica = TestServer::start(version, options).await;
    let database = "shop\"'; DROP TABLE witness; -- 表";
    let target = "replica\"'$$ %2f";
    primary.database(database).await;
    primary.psql(database, "CREATE TABLE witness (x int); INSERT INTO witness VALUES (1)").await;
    let names = names();
    let (before, after) = names.split_at(names.len() / 2);
    // Half of them are in the base image, half are made while it is captured.
    for (number, name) in before.iter().enumerate() {
        primary.psql(database, &statements(number, name).join(";\n")).await;
    }
    let product = Product::new(
        Some(&primary.dsn(database).to_uri_with_password()),
        Some(&replica.dsn(target).to_uri_with_password()),
    )
    .with("PG_BIN", support::path(&version.installation().bin_dir));
    let mut up = product.spawn("up", &["up", "--addr", "127.0.0.1:0"]);
    up.wait_for_text("capturing");
    for (number, name) in (before.len()..).zip(after) {
        primary.psql(database, &statements(number, name).join(";\n")).await;
    }
    let middle = "it's \"<b>\" 表 -- $$";
    product.run(&["checkpoint", "create", middle, "-m", "\u{1b}[2J'; DROP TABLE witness; --"]);
    let kept = DatabaseState::capture(&primary.dsn(database)).await;
    for name in &names {
        primary.psql(database, &changes(name).join(";\n")).await;
    }
    product.run(&["checkpoint", "create", "end"]);
    let ended = DatabaseState::capture(&primary.dsn(database)).await;

    for (position, state) in [("end", &ended), (middle, &kept), ("end", &ended)] {
        product.run(&["navigate", position]);
        assert_equal_states(state, &DatabaseState::capture(&replica.dsn(target)).await);
    }
    assert_eq!(primary.psql(database, "SELECT count(*) FROM witness").await.trim(), "1");

    // A session, its database and what is asked of it.
    let session = "se\"ss'ion $$ <i>";
    product.run(&["session", "create", session]);
    let own =
        product.json(&["session", "show", session])["target_database"].as_str().expect("a name").to_owned();
    product.run(&["navigate", "head", "--session", session]);
    assert_equal_states(&ended, &DatabaseState::capture(&replica.dsn(&own)).await);
    // Names that read like positions are refused as checkpoints, not misread.
    assert_eq!(product.output(&["checkpoint", "create", "entry:1"]).status.code(), Some(2));

    // The API gives them as they are.
    let log = product.output(&["--json", "log"]);
    let entries: Vec<Value> = String::from_utf8_lossy(&log.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    for name in &names {
        let of_table = |entry: &&Value| entry["table"] == json!(name) && entry["schema"] == json!(name);
        assert!(
            entries.iter().any(|entry| of_table(&entry)),
            "{name:?} is in no entry of {} entries",
            entries.len()
        );
    }
    let differences =
        product.json(&["diff", middle, "end", "--table", &format!("{0}.{0}", quote_identifier(&names[2]))]);
    assert!(differences.to_string().contains("onerror"), "{differences:#}");

    // And a terminal shows them.
    for arguments in [
        "log",
        "log --json",
        "log --histogram table",
        "checkpoint list",
        "session list",
        "status",
        "diff CREATION head",
        "keyframe list",
    ] {
        let program = env!("CARGO_BIN_EXE_postgres-test-replay");
        let command = format!("{program} -q --data-dir {} {arguments}", product.data_directory().display());
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &command, "/dev/null"]).current_dir(product.folder.path());
        let of = product.command(&[]);
        script.envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let said = both(&script.stdin(std::process::Stdio::null()).output().expect("script starts"));
        // Lines are drawn and erased by ourselves; what moves the cursor or sets the title is not ours.
        assert!(
            !said.contains("\u{1b}]0;") && !said.contains("\u{1b}[2J") && !said.contains('\u{7}'),
            "{arguments}: {said:?}"
        );
        assert!(!said.contains(['\u{9b}', '\u{7f}', '\u{202e}']), "{arguments}: {said:?}");
    }
    product.run(&["--yes", "session", "delete", session]);
    product.run(&["down"]);
    product.run(&["--yes", "teardown"]);
    let ours = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_event_trigger)";
    assert_eq!(primary.psql(database, ours).await.trim(), "0");
}
