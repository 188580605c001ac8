//! `pg_dump` in the slot's snapshot, by several processes.

use std::{collections::VecDeque, path::Path, process::Stdio, time::Duration};

use ptr_model::OUR_SCHEMA;
use ptr_postgres::programs::{found_no_room, name_sessions, session_name, until_lost};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::super::{Progress, ServerFacts, SetupEvent, SourceError, SourceOptions, Table};

/// The folder of the dump in the base image.
pub(super) const FOLDER: &str = "dump";

/// What `pg_dump --verbose` says when it begins a table, in the C locale.
const BEGINS_TABLE: &str = "dumping contents of table \"";

/// How long `pg_dump` may wait for its locks at most. Somebody who wants a table that we hold can stand between us and
/// it: it waits for them, they for us, and we for it.
const LOCK_WAIT: Duration = Duration::from_secs(30);

pub(super) async fn run(
    options: &SourceOptions,
    facts: &ServerFacts,
    tables: &[Table],
    snapshot: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), SourceError> {
    let program = options.programs.client_program("pg_dump", facts.version.major)?;
    let mut command = ptr_postgres::programs::private_command(&program);
    // The password goes by the environment, which other users cannot read as they can the arguments.
    options.dsn.apply_to(&mut command);
    let session = session_name("postgres-test-replay base image");
    name_sessions(&mut command, &session);
    command
        .args(["--format=directory", "--verbose", "--no-password", "--no-subscriptions"])
        .arg(format!("--jobs={}", options.jobs.max(1)))
        .arg(format!("--snapshot={snapshot}"))
        .arg(format!("--lock-wait-timeout={}", options.lock_patience.min(LOCK_WAIT).as_millis().max(1)))
        .arg(format!("--exclude-schema={OUR_SCHEMA}"))
        .arg("--file")
        .arg(folder.join(FOLDER))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Command::from(command).kill_on_drop(true).spawn().map_err(SourceError::file(&program))?;
    let stderr = child.stderr.take().expect("stderr is piped");
    let mut watch = Watch::new(tables);
    let mut lines = BufReader::new(stderr).split(b'\n');
    let process = child.id();
    let running = async {
        while let Some(line) = lines.next_segment().await? {
            watch.line(&String::from_utf8_lossy(&line), progress);
        }
        child.wait().await
    };
    let status = tokio::select! {
        ended = running => ended.map_err(SourceError::file(&program))?,
        lost = until_lost(process, &options.dsn, &session) => {
            return Err(SourceError::Program { program: "pg_dump", status: "given up".to_owned(), output: lost });
        }
    };
    if status.success() {
        return Ok(());
    }
    let output = watch.errors();
    if found_no_room(&output) {
        return Err(SourceError::NoRoom { path: folder.to_owned(), said: output });
    }
    Err(SourceError::Program { program: "pg_dump", status: status.to_string(), output })
}

/// How far `pg_dump` has come, and what it said last.
struct Watch<'a> {
    tables: &'a [Table],
    total: usize,
    bytes: u64,
    done: usize,
    bytes_begun: u64,
    last_lines: VecDeque<String>,
}

/// Lines kept for an error message.
const KEPT_LINES: usize = 200;

impl<'a> Watch<'a> {
    fn new(tables: &'a [Table]) -> Self {
        Self {
            tables,
            total: tables.iter().filter(|table| !table.is_partitioned).count(),
            bytes: tables.iter().map(|table| table.bytes).sum(),
            done: 0,
            bytes_begun: 0,
            last_lines: VecDeque::new(),
        }
    }

    fn line(&mut self, line: &str, progress: &dyn Progress) {
        if let Some((_, rest)) = line.split_once(BEGINS_TABLE) {
            progress.report(SetupEvent::Dumping {
                tables_done: self.done.min(self.total),
                tables: self.total,
                bytes_done: self.bytes_begun.min(self.bytes),
                bytes: self.bytes,
            });
            self.done += 1;
            self.bytes_begun += self.bytes_of(rest.trim_end_matches('"'));
        }
        if self.last_lines.len() == KEPT_LINES {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.to_owned());
    }

    /// Names that `pg_dump` prints in quotes are not found; the bar then moves with the next table.
    fn bytes_of(&self, name: &str) -> u64 {
        let is_it = |table: &&Table| {
            name.strip_prefix(table.name.schema.as_str())
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| rest == table.name.name)
        };
        self.tables.iter().find(is_it).map_or(0, |table| table.bytes)
    }

    /// The lines of the error, without the tables before it.
    fn errors(&self) -> String {
        let is_error =
            |line: &&String| line.contains("error:") || line.contains("detail:") || line.contains("hint:");
        let errors: Vec<&str> = self.last_lines.iter().filter(is_error).map(String::as_str).collect();
        if errors.is_empty() {
            self.last_lines.back().cloned().unwrap_or_default()
        } else {
            errors.join("\n")
        }
    }
}
