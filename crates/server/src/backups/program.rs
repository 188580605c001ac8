//! Runs `pg_dump` and `pg_restore`: the password by the environment, the last lines of what they print kept.

use std::{path::Path, process::Stdio};

use ptr_postgres::Dsn;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::service::ServiceError;

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
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(ServiceError::file("run", program))?;
    let mut printed: Vec<String> = Vec::new();
    if let Some(output) = child.stderr.take() {
        let mut lines = BufReader::new(output).lines();
        // A line that is not text ends the reading, not the program.
        while let Ok(Some(line)) = lines.next_line().await {
            if printed.len() == SHOWN {
                printed.remove(0);
            }
            printed.push(line);
        }
    }
    let status = child.wait().await.map_err(ServiceError::file("wait for", program))?;
    if status.success() {
        return Ok(());
    }
    Err(ServiceError::Program { program: name, output: format!("{status}: {}", printed.join("\n")) })
}
