//! What the program says to people and scripts, without any server.
#![allow(missing_docs)]

mod support;

use std::{
    io::Read,
    process::{Output, Stdio},
};

use support::{Product, both};

fn product() -> Product {
    Product::new(None, None)
}

#[track_caller]
fn ends_with(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", both(output));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The commands below a command, as its help lists them.
fn commands(help: &str) -> Vec<String> {
    let list = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_an_example() {
    let product = product();
    let mut waiting = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = waiting.pop() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = product.run(&arguments);
        let example = help.split_once("Example").map(|(_, rest)| rest);
        let typed = format!("postgres-test-replay {}", command.join(" "));
        assert!(
            example.is_some_and(|rest| rest.contains(typed.trim())),
            "{command:?} shows no example of itself:\n{help}"
        );
        waiting.extend(commands(&help).into_iter().map(|name| [command.clone(), vec![name]].concat()));
        seen += 1;
    }
    assert!(seen >= 50, "the walk ended after {seen} commands");
}

#[test]
fn status_goes_on_until_it_is_ended() {
    use std::io::BufRead;
    let mut child = product()
        .command(&["--json", "status", "--watch", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines = std::io::BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for line in lines.take(2) {
        let status: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        assert_eq!(status["role"], "offline");
    }
    child.kill().expect("it was still there");
    child.wait().expect("it ends");
}

#[test]
fn what_cannot_be_understood_ends_with_2_and_names_it() {
    let product = product();
    let cases: &[(&[&str], &str)] = &[
        (&["frobnicate"], "frobnicate"),
        (&["navigate"], "<POS>"),
        (&["show", "banana"], "a transaction id is a number"),
        (&["checkpoint", "pin", "creation"], "migration"),
        (&["backup", "restore", "x"], "--to-database"),
        (&["-mode", "banana"], "banana"),
        (&["up", "--addr", "no such:port"], "SERVER_ADDR"),
        (&["up", "--addr", "0.0.0.0:0"], "API_TOKEN"),
        (&["dsn", "input", "name"], "dsn session"),
        (&["diff", "@", "head", "--stat", "--sql"], "--sql"),
        (&["--env-file", "/nowhere/.env", "config", "show"], "/nowhere/.env"),
    ];
    for (arguments, part) in cases {
        let output = product.output(arguments);
        ends_with(&output, 2);
        assert!(stderr(&output).contains(part), "{arguments:?} does not say {part}:\n{}", both(&output));
        assert!(output.stdout.is_empty(), "{arguments:?} wrote a result");
    }
}

#[test]
fn without_consent_nothing_is_removed() {
    for arguments in [&["teardown"][..], &["session", "delete", "x"], &["backup", "delete", "x"]] {
        let output = product().output(arguments);
        ends_with(&output, 4);
        assert!(stderr(&output).contains("--yes"), "{}", both(&output));
    }
}

#[test]
fn an_error_is_one_json_line_for_programs() {
    let output = product().output(&["--json", "teardown"]);
    ends_with(&output, 4);
    let problem: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(problem["code"], "precondition");
    assert!(problem["detail"].is_string() && problem["hint"].is_string(), "{problem}");
}

#[test]
fn settings_come_from_flag_environment_env_file_json_and_default_in_this_order() {
    let product = product().with("BACKUP_PATH", "/from/environment");
    let write =
        |name: &str, text: &str| std::fs::write(product.folder.path().join(name), text).expect("written");
    write(".env", "BACKUP_PATH=/from/env-file\nREPLICATION_SLOT=from_env_file\n");
    write(
        "config.json",
        r#"{"storage": {"backup_path": "/from/json", "wal_log_path": "/from/json"},
            "replication": {"slot_name": "from_json", "publication_name": "from_json"}}"#,
    );
    let report = product.json(&["config", "show"]);
    let setting = |name: &str| {
        let settings = report["settings"].as_array().expect("a list").iter();
        let one = settings.into_iter().find(|one| one["name"] == name).expect("the setting");
        (
            one["value"].as_str().unwrap_or_default().to_owned(),
            one["origin"].as_str().expect("a text").to_owned(),
        )
    };
    let expect = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(setting("BACKUP_PATH"), expect("/from/environment", "environment"));
    assert_eq!(setting("REPLICATION_SLOT"), expect("from_env_file", "env_file"));
    assert_eq!(setting("PUBLICATION_NAME"), expect("from_json", "json_file"));
    assert_eq!(setting("SERVER_PORT"), expect("8080", "default"));
    assert_eq!(setting("POSTGRES_TEST_REPLAY_DATA_DIR").1, "flag");
}

#[test]
fn settings_of_another_user_are_not_used_unless_they_are_named() {
    let product = product();
    let file = product.folder.path().join(".env");
    std::fs::write(&file, "PG_BIN=/tmp/evil\n").expect("written");
    // Only root can give a file away.
    if std::os::unix::fs::chown(&file, Some(4_000_001), None).is_err() {
        return;
    }
    let refused = product.output(&["config", "show"]);
    ends_with(&refused, 2);
    let said = stderr(&refused);
    assert!(said.contains(".env was found and belongs to user id 4000001, not to you"), "{said}");
    // As it says; and whoever came by `sudo` has their own.
    assert!(product.run(&["config", "show", "--env-file", support::path(&file)]).contains("/tmp/evil"));
    let by_sudo = product.with("SUDO_UID", "4000001");
    assert!(by_sudo.run(&["config", "show"]).contains("/tmp/evil"));
}

#[test]
fn a_password_is_never_shown() {
    let product =
        Product::new(Some("postgres://me:geheim@db.example/shop"), None).with("API_TOKEN", "geheim2");
    for arguments in [&["config", "show"][..], &["--json", "config", "show"]] {
        let shown = both(&product.output(arguments));
        assert!(shown.contains("db.example"), "{shown}");
        assert!(!shown.contains("geheim"), "{shown}");
    }
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    let product = product();
    for shell in ["bash", "zsh", "fish"] {
        assert!(product.run(&["completions", shell]).contains("checkpoint"));
    }
    assert!(product.run(&["man"]).contains(".TH postgres-test-replay"));
    let pages = product.folder.path().join("pages/man1");
    product.run(&["man", "--out", support::path(&pages)]);
    let page =
        std::fs::read_to_string(pages.join("postgres-test-replay-session-create.1")).expect("its page");
    assert!(page.contains("postgres\\-test\\-replay session create"), "{page}");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let mut child = product()
        .command(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // As `head -c 1` does: one byte, then the pipe is closed. The script is longer than a pipe holds.
    let mut first = [0];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("a byte");
    let output = child.wait_with_output().expect("it ends");
    ends_with(&output, 0);
    assert_eq!(stderr(&output), "");
}

#[test]
fn without_a_service_there_is_nothing_to_stop() {
    let output = product().output(&["down"]);
    ends_with(&output, 0);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing was running\n");
}
