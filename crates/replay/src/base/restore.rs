//! `pg_restore`, with progress.

use std::{path::Path, process::Stdio};

use ptr_model::redacted_output;
use ptr_postgres::{
    Dsn,
    programs::{name_sessions, session_name, until_lost},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::{BaseError, BaseOptions, BaseProgress};

/// Lines of what a program said last that an error shows.
const LAST_LINES: usize = 8;

/// Restores what `list` names of the dump into a database.
pub(super) async fn restore(
    options: &BaseOptions,
    dump: &Path,
    list: &Path,
    target: &Dsn,
    progress: &(dyn Fn(BaseProgress) + Send + Sync),
) -> Result<(), BaseError> {
    let program = options.installation.program("pg_restore");
    let bytes = std::fs::read(list).map_err(|source| BaseError::File { path: list.to_owned(), source })?;
    let total = items(&bytes);
    run(options, &program, dump, target, list, &|done| {
        progress(BaseProgress::Restoring { done: done.min(total), total });
    })
    .await
}

/// The items of a list. A line that begins with a semicolon is a comment; names are bytes of the database's
/// encoding, so lines are not read as text.
fn items(list: &[u8]) -> u64 {
    list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b';').count() as u64
}

async fn run(
    options: &BaseOptions,
    program: &Path,
    dump: &Path,
    target: &Dsn,
    list: &Path,
    done: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), BaseError> {
    let mut command = std::process::Command::new(program);
    target.apply_to(&mut command);
    let session = session_name(crate::database::APPLICATION_NAME);
    name_sessions(&mut command, &session);
    // Its messages are counted, so they must not be translated.
    command
        .env("LC_ALL", "C")
        .env(
            "PGOPTIONS",
            "-c session_replication_role=replica -c synchronous_commit=off -c statement_timeout=0",
        )
        .arg("--verbose")
        .arg("--exit-on-error")
        .arg(format!("--jobs={}", options.jobs.max(2)))
        .arg("--use-list")
        .arg(list)
        .arg("--dbname")
        .arg(target.database())
        .arg(dump)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let file_error = |source| BaseError::File { path: program.to_owned(), source };
    let mut child = Command::from(command).kill_on_drop(true).spawn().map_err(file_error)?;
    let stderr = child.stderr.take().expect("its standard error is a pipe");
    let mut lines = BufReader::new(stderr).split(b'\n');
    let (mut finished, mut last) = (0, Vec::new());
    let failed = |status, last_words| BaseError::Restore {
        program: program.display().to_string(),
        status,
        last_words,
    };
    let process = child.id();
    let running = async {
        while let Some(line) = lines.next_segment().await? {
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains(": creating ")
                || line.contains(": processing data for ")
                || line.contains(": finished item")
            {
                finished += 1;
                done(finished);
            }
            if last.len() == LAST_LINES {
                last.remove(0);
            }
            last.push(line);
        }
        child.wait().await
    };
    let status = tokio::select! {
        ended = running => ended.map_err(file_error)?,
        lost = until_lost(process, target, &session) => return Err(failed("given up".to_owned(), lost)),
    };
    if status.success() {
        return Ok(());
    }
    Err(failed(status.to_string(), redacted_output(&last.join("\n"))))
}
