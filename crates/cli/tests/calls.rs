//! The page and the commands are clients of one API: docs/api.md says which command makes which call, and is held
//! here against the API's own description, the commands that there are, and the page's modules.
#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use ptr_server::{Announcer, Configuration, Role, Service, configuration::Sources, router};
use serde_json::Value;
use support::Product;
use tower::ServiceExt;

const TABLE: &str = include_str!("../../../docs/api.md");

/// What `code spans` a cell has.
fn spans(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

struct Row {
    command: Vec<&'static str>,
    on_the_page: bool,
}

/// The table by call, such as `GET /api/status`.
fn table() -> BTreeMap<&'static str, Row> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [call, command, page] = cells[..] else { panic!("not three cells: {line}") };
        let row = Row { command: spans(command), on_the_page: !page.trim().is_empty() };
        (*spans(call).first().expect("a call"), row)
    })
    .collect()
}

/// The calls that the API describes; nothing runs but the router, in this process.
async fn described() -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let sources = Sources { current_folder: folder.path().to_owned(), ..Sources::default() };
    let configuration = Configuration::resolve(&sources).expect("a configuration");
    let service = Service::open(configuration, Role::Offline, &Announcer::silent()).await.expect("it opens");
    let request = Request::get("/api/openapi.json").body(Body::empty()).expect("a request");
    let answer = router(service).oneshot(request).await.expect("an answer");
    let answer = to_bytes(answer.into_body(), usize::MAX).await.expect("all of it");
    let description: Value = serde_json::from_slice(&answer).expect("JSON");
    let paths = description["paths"].as_object().expect("paths");
    let calls = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    calls.collect()
}

#[tokio::test]
async fn each_call_of_the_api_has_a_command_and_the_table_leaves_none_out() {
    let described = described().await;
    let table = table();
    let listed: BTreeSet<String> = table.keys().map(ToString::to_string).collect();
    assert!(described.len() > 40, "{described:?}");
    let missing: Vec<_> = described.difference(&listed).collect();
    let invented: Vec<_> = listed.difference(&described).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing {missing:?}, not described {invented:?}");

    let product = Product::new(None, None);
    for (call, row) in &table {
        let commands = row.command.iter().filter(|span| !span.ends_with("_id")).collect::<Vec<_>>();
        assert!(!commands.is_empty(), "{call} has no command");
        for command in commands {
            let (words, flags): (Vec<&str>, Vec<&str>) =
                command.split_whitespace().partition(|word| !word.starts_with("--"));
            let help = product.run(&[words.as_slice(), &["--help"]].concat());
            // The name of the command, or of its group with the rest, stands in the usage.
            let usage = help.lines().find(|line| line.starts_with("Usage:")).expect("a usage");
            let name = if *command == "dsn input" { "dsn" } else { &words.join(" ") };
            assert!(usage.contains(&format!("postgres-test-replay {name}")), "{call}: {command}: {usage}");
            for flag in flags {
                assert!(help.contains(flag), "{call}: {command} knows no {flag}");
            }
        }
    }
}

/// Paths that a module names: in quotes, or in a template with `${...}` for what is filled in.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("/api/") {
        let quote = text[..at].chars().last().expect("a quote before it");
        assert!("\"`".contains(quote), "a path that is put together: {}", &text[at..at + 40]);
        let literal = text[at..].split(quote).next().expect("a literal");
        let mut path = String::new();
        let mut rest = literal;
        while let Some((before, after)) = rest.split_once("${") {
            path.push_str(before);
            path.push_str("{}");
            // What is filled in may call a function, but holds no braces of its own.
            rest = after.split_once('}').expect("it ends").1;
        }
        found.push(path + rest);
    }
    found
}

#[test]
fn each_path_of_the_page_is_in_the_table_as_one_of_the_page() {
    let table = table();
    let fits = |path: &str, call: &str| {
        let (_, described) = call.split_once(' ').expect("a method");
        let (given, described): (Vec<_>, Vec<_>) =
            (path.split('/').collect(), described.split('/').collect());
        given.len() == described.len()
            && given.iter().zip(&described).all(|(given, described)| *given == "{}" || given == described)
    };
    let mut seen = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/ui");
    for file in std::fs::read_dir(folder).expect("the page's folder") {
        let file = file.expect("a file").path();
        if file.extension().is_none_or(|extension| extension != "js") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a module");
        for path in paths(&text).into_iter().filter(|path| path != "/api/openapi.json") {
            let calls: Vec<_> = table.iter().filter(|(call, _)| fits(&path, call)).collect();
            assert!(
                calls.iter().any(|(_, row)| row.on_the_page),
                "{path} of {} is not in docs/api.md",
                file.display()
            );
            seen.extend(calls.into_iter().map(|(call, _)| *call));
        }
    }
    let not_called: Vec<_> =
        table.iter().filter(|(call, row)| row.on_the_page && !seen.contains(*call)).collect();
    let not_called: Vec<_> = not_called.into_iter().map(|(call, _)| call).collect();
    assert!(not_called.is_empty(), "the page does not call {not_called:?}");
}
