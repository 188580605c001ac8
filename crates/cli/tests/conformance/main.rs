//! PostgreSQL's own regression suite as the standard: each of its files is run on a captured primary, the
//! replica is taken there, and the two databases are compared by `pg_dump` and SQL.
//!
//! `script/conformance` runs all files; the core of them is an ordinary test. What a file's outcome means:
//! *equal*: replay came through and the databases do not differ; *differs*: it came through and they do;
//! *stopped*: replay stopped. After anything but *equal*, capture is set up again from a new base image, so
//! that each file is judged by itself.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod outcome;
mod stage;
mod suite;

use std::{collections::BTreeMap, path::PathBuf};

use outcome::{Outcome, Report};
use ptr_testkit::ServerVersion;
use stage::Stage;
use suite::Suite;

/// Files that between them use every kind of schema change that the suite knows, and run in short time.
/// `test_setup` makes the tables that the others use.
const CORE: [&str; 22] = [
    "test_setup",
    "tablespace",
    "create_function_c",
    "create_table",
    "create_type",
    "create_view",
    "create_aggregate",
    "create_cast",
    "constraints",
    "triggers",
    "inherit",
    "typed_table",
    "vacuum",
    "privileges",
    "identity",
    "generated",
    "foreign_key",
    "domain",
    "truncate",
    "temp",
    "event_trigger",
    "fast_default",
];

/// Versions, files and where reports go come from the environment, which `script/conformance` sets.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour; run it by script/conformance"]
async fn every_file_of_the_regression_suite_comes_out_equal() {
    let version = match variable("CONFORMANCE_VERSION").as_deref() {
        None | Some("15") => ServerVersion::Debian15,
        Some("18") => ServerVersion::Pypi18,
        Some(other) => panic!("CONFORMANCE_VERSION is 15 or 18, not {other}"),
    };
    let suite = Suite::installed(version);
    let wanted = variable("CONFORMANCE_FILES").unwrap_or_default();
    let files = suite.files(&wanted.split_whitespace().collect::<Vec<_>>());
    let folder =
        variable("CONFORMANCE_REPORT").map_or_else(|| PathBuf::from("target/conformance"), PathBuf::from);
    let from = variable("CONFORMANCE_FROM").unwrap_or_default();
    let before = files.iter().position(|file| *file == from).unwrap_or_default();
    let (before, files) = files.split_at(before);
    let report = run(version, suite, before, files, Report::in_folder(&folder)).await;
    report.print_total();
    if variable("CONFORMANCE_STRICT").is_some() {
        report.assert_all_equal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_core_of_the_regression_suite_comes_out_equal() {
    let version = ServerVersion::Debian15;
    let suite = Suite::installed(version);
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<String> = CORE.iter().map(|name| (*name).to_owned()).collect();
    run(version, suite, &[], &files, Report::in_folder(folder.path())).await.assert_all_equal();
}

/// Runs `before` on both primaries, and then `files` with capture on one of them.
async fn run(
    version: ServerVersion,
    suite: Suite,
    before: &[String],
    files: &[String],
    mut report: Report,
) -> Report {
    let mut plain = stage::Plain::start(version, suite.clone()).await;
    for file in before {
        plain.run_file(file).await;
    }
    let mut stage = Stage::capturing(version, suite, before).await;
    if let Some(last) = before.last() {
        report.note_base_image(last, &stage.base_differs);
    }
    let mut kept = BTreeMap::new();
    for file in files {
        let without = plain.run_file(file).await;
        let with = stage.run_file(file).await;
        let checkpoint = stage.checkpoint(file);
        let state = stage.state_of_primary().await;
        let outcome = match stage.navigate(&checkpoint) {
            Err(message) => Outcome::Stopped(message),
            Ok(()) => stage.outcome(&state).await,
        };
        let again = !matches!(outcome, Outcome::Equal);
        report.add(file, outcome, &without, &with);
        if again {
            kept.clear();
            stage = stage.set_up_again().await;
            report.note_base_image(file, &stage.base_differs);
        } else {
            kept.insert(checkpoint, state);
        }
    }
    report.add_returns(returns(&stage, &kept).await);
    report
}

/// Back to some of the files, in random order.
async fn returns(
    stage: &Stage,
    kept: &BTreeMap<String, ptr_testkit::DatabaseState>,
) -> Vec<(String, Outcome)> {
    let mut chance = support::Chance::seeded();
    let mut names: Vec<&String> = kept.keys().collect();
    chance.shuffle(&mut names);
    let mut found = Vec::new();
    for name in names.into_iter().take(8) {
        let outcome = match stage.navigate(name) {
            Err(message) => Outcome::Stopped(message),
            Ok(()) => stage.outcome(&kept[name]).await,
        };
        found.push((name.clone(), outcome));
    }
    found
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
