//! Runs `pg_dump` and `pg_restore`: the password by the environment, the last lines of what they print kept.

use std::{path::Path, process::Stdio};

use ptr_model::redacted_output;
use ptr_postgres::{
    Dsn,
    programs::{name_sessions, session_name, until_lost},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStderr,
};

use crate::service::{APPLICATION_NAME, ServiceError};

/// Lines of output that an error shows.
const SHOWN: usize = 12;

/// Runs a program against a database and waits for it; its end is our end.
pub(crate) async fn run(
    name: &'static str,
    program: &Path,
    dsn: &Dsn,
    arguments: &[String],
) -> Result<(), ServiceError> {
    let mut command = ptr_postgres::programs::private_command(program);
    dsn.apply_to(&mut command);
    let session = session_name(APPLICATION_NAME);
    name_sessions(&mut command, &session);
    // What it says is looked at, and so must not be translated.
    command.env("LC_ALL", "C");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(ServiceError::file("run", program))?;
    let (process, output) = (child.id(), child.stderr.take());
    let (status, printed) = tokio::select! {
        ended = async {
            let printed = last_lines(output).await;
            (child.wait().await, printed)
        } => ended,
        lost = until_lost(process, dsn, &session) => {
            return Err(ServiceError::Program { program: name, output: format!("it was given up: {lost}") });
        }
    };
    let status = status.map_err(ServiceError::file("wait for", program))?;
    if status.success() {
        return Ok(());
    }
    Err(ServiceError::Program {
        program: name,
        output: format!("{status}: {}", redacted_output(&printed.join("\n"))),
    })
}

async fn last_lines(output: Option<ChildStderr>) -> Vec<String> {
    let mut printed: Vec<String> = Vec::new();
    let Some(output) = output else { return printed };
    let mut lines = BufReader::new(output).lines();
    // A line that is not text ends the reading, not the program.
    while let Ok(Some(line)) = lines.next_line().await {
        if printed.len() == SHOWN {
            printed.remove(0);
        }
        printed.push(line);
    }
    printed
}
