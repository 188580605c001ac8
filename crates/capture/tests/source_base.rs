//! The base image is what the slot's changes build on, whatever happens while it is begun.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use ptr_capture::assemble;
use ptr_capture::source::{PreparedSource, Progress, SetupEvent, SourceError, prepare};
use ptr_model::Change;
use source_support::Primary;

/// Does something on the primary when set-up says something, before set-up goes on.
struct Interfering<F> {
    act: F,
    heard: Mutex<Vec<SetupEvent>>,
}

impl<F: Fn(&SetupEvent) + Send + Sync> Progress for Interfering<F> {
    fn report(&self, event: SetupEvent) {
        (self.act)(&event);
        self.heard.lock().unwrap().push(event);
    }
}

impl<F: Fn(&SetupEvent) + Send + Sync> Interfering<F> {
    fn new(act: F) -> Self {
        Self { act, heard: Mutex::new(Vec::new()) }
    }

    fn warnings(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let warnings = heard.iter().filter_map(|event| match event {
            SetupEvent::Warning { text } => Some(text.clone()),
            _ => None,
        });
        warnings.filter(|text| text.contains("beginning again")).collect()
    }
}

fn answer(mut psql: Command, sql: &str) -> String {
    let output = psql.args(["-c", sql]).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A `psql` that has run this and waits for more.
fn leave_open(mut psql: Command, sql: &str) -> Child {
    let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{sql};\n\\echo done").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "done");
    child
}

/// The rows of `t` in the base image, and whether the stream truncates them.
async fn begun_with(primary: &Primary, prepared: &PreparedSource) -> (String, bool) {
    primary.restore(&prepared.manifest, "restored").await;
    let rows = primary.server.psql("restored", ROWS).await.trim().to_owned();
    let stream = primary.stream(prepared.secret.as_ref().unwrap()).await;
    let truncates = |step: &assemble::Step| matches!(step, assemble::Step::Change(Change::Truncate { .. }));
    (rows, stream.iter().any(truncates))
}

const ROWS: &str = "SELECT count(*) || ' ' || sum(id) FROM t";
const REPLACE: &str = "BEGIN; TRUNCATE t; INSERT INTO t VALUES (7), (8); COMMIT";

on_every_version! {
    async fn tables_replaced_just_after_the_slot_was_made_are_not_empty(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t AS SELECT generate_series(1, 100) AS id; CREATE TABLE other (v int); INSERT INTO other VALUES (1);
                     CREATE TABLE renamed (v int); CREATE MATERIALIZED VIEW sum AS SELECT sum(id) FROM t").await;
        let once = Mutex::new(true);
        let progress = Interfering::new(|event: &SetupEvent| {
            if matches!(event, SetupEvent::SlotCreated { .. }) && std::mem::take(&mut *once.lock().unwrap()) {
                answer(primary.psql(), REPLACE);
                answer(primary.psql(), "ALTER TABLE other ALTER v TYPE text; REFRESH MATERIALIZED VIEW sum; ALTER TABLE renamed RENAME TO \"New\"");
            }
        });
        let prepared = prepare(&primary.options, &progress).await.unwrap();
        let warnings = progress.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for name in ["\"public\".\"t\"", "\"public\".\"other\"", "\"public\".\"renamed\"", "\"public\".\"sum\""] {
            assert!(warnings[0].contains(name), "{name} in {warnings:?}");
        }
        // Nothing was done since, so the base image alone is the primary.
        assert_eq!(begun_with(&primary, &prepared).await, (primary.value(ROWS).await, false));
        assert_eq!(primary.server.psql("restored", "SELECT v FROM other").await.trim(), "1");
        let view = primary.options.base_directory.join(&prepared.manifest.materialized_views[0].file);
        assert_eq!(std::fs::read_to_string(view).unwrap().trim(), "15");
        assert!(prepare(&primary.options, &()).await.unwrap().was_prepared);
    }

    async fn a_truncate_that_is_open_when_the_slot_was_made_is_waited_for(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t AS SELECT generate_series(1, 100) AS id").await;
        let (once, open) = (Mutex::new(true), Mutex::new(None::<Child>));
        let progress = Interfering::new(|event: &SetupEvent| match event {
            SetupEvent::SlotCreated { .. } if std::mem::take(&mut *once.lock().unwrap()) => {
                *open.lock().unwrap() = Some(leave_open(primary.psql(), "BEGIN; TRUNCATE t; INSERT INTO t VALUES (7), (8)"));
            }
            SetupEvent::WaitingForTable { holders, .. } => {
                assert!(holders[0].to_string().contains("INSERT INTO t"), "{holders:?}");
                let mut psql = open.lock().unwrap().take().unwrap();
                writeln!(psql.stdin.take().unwrap(), "COMMIT;").unwrap();
                assert!(psql.wait().unwrap().success());
            }
            _ => {}
        });
        let prepared = prepare(&primary.options, &progress).await.unwrap();
        assert_eq!(progress.warnings().len(), 1);
        assert_eq!(begun_with(&primary, &prepared).await, (primary.value(ROWS).await, false));
    }

    async fn a_truncate_that_waits_for_the_dump_does_not_break_it(version) {
        let primary = Primary::start(version).await;
        // Big ones go first, one for each process of pg_dump, so that `t` is still to be locked when the first begins.
        primary.run("CREATE TABLE t AS SELECT generate_series(1, 100) AS id;
                     CREATE TABLE big AS SELECT n, repeat('x', 100) FROM generate_series(1, 300000) n; CREATE TABLE big_too AS TABLE big; ANALYZE").await;
        let waiting = Mutex::new(None::<Child>);
        let progress = Interfering::new(|event: &SetupEvent| {
            let mut waiting = waiting.lock().unwrap();
            if matches!(event, SetupEvent::Dumping { .. }) && waiting.is_none() {
                *waiting = Some(primary.psql().args(["-c", REPLACE]).spawn().unwrap());
                while answer(primary.psql(), "SELECT count(*) FROM pg_locks WHERE NOT granted") == "0" {}
            }
        });
        let prepared = prepare(&primary.options, &progress).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(waiting.lock().unwrap().take().unwrap().wait().unwrap().success());
        // Either way the image and the stream fit each other.
        let expected = if progress.warnings().is_empty() { ("100 5050".to_owned(), true) } else { ("2 15".to_owned(), false) };
        assert_eq!(begun_with(&primary, &prepared).await, expected);
    }

    async fn a_truncate_between_our_lock_and_that_of_the_dump_holds_nobody_up_for_ever(version) {
        let mut primary = Primary::start(version).await;
        primary.options.lock_patience = Duration::from_secs(2);
        // The view is read after the locks were taken and before pg_dump begins.
        primary.run("CREATE TABLE t AS SELECT generate_series(1, 100) AS id;
                     CREATE MATERIALIZED VIEW big AS SELECT n, repeat('x', 100) FROM generate_series(1, 300000) n").await;
        let waiting = Mutex::new(None::<Child>);
        let progress = Interfering::new(|event: &SetupEvent| {
            let mut waiting = waiting.lock().unwrap();
            if matches!(event, SetupEvent::SlotCreated { .. }) && waiting.is_none() {
                let when_locked = "DO $$ BEGIN
                    WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessShareLock') LOOP END LOOP;
                    END $$";
                *waiting = Some(primary.psql().args(["-c", when_locked, "-c", REPLACE]).spawn().unwrap());
            }
        });
        let prepared = prepare(&primary.options, &progress).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(waiting.lock().unwrap().take().unwrap().wait().unwrap().success());
        let expected = if progress.warnings().is_empty() { ("100 5050".to_owned(), true) } else { ("2 15".to_owned(), false) };
        assert_eq!(begun_with(&primary, &prepared).await, expected);
    }

    async fn a_table_that_is_replaced_again_and_again_is_named_and_set_up_can_be_tried_again(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t AS SELECT generate_series(1, 100) AS id").await;
        let progress = Interfering::new(|event: &SetupEvent| {
            if matches!(event, SetupEvent::SlotCreated { .. }) {
                answer(primary.psql(), REPLACE);
            }
        });
        let error = prepare(&primary.options, &progress).await.unwrap_err();
        assert!(matches!(&error, SourceError::Overtaken { tables, .. } if tables.contains("\"t\"")), "{error}");
        assert_eq!(primary.value("SELECT count(*) FROM pg_replication_slots").await, "0");
        assert!(!primary.options.base_directory.exists());
        let prepared = primary.prepare().await;
        assert_eq!(begun_with(&primary, &prepared).await, ("2 15".to_owned(), false));
    }
}
