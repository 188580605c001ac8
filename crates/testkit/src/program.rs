//! Running PostgreSQL's client programs, with the DSN in their environment.

use ptr_postgres::Dsn;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs a program against the database, feeds it `input`, and gives its standard output.
///
/// # Panics
/// When it fails, with what it wrote to standard error.
pub(crate) async fn run(program: &Path, dsn: &Dsn, arguments: &[&str], input: &str) -> String {
    let mut command = std::process::Command::new(program);
    dsn.apply_to(&mut command);
    command.args(arguments).env("LC_ALL", "C.UTF-8").env("PGAPPNAME", "postgres-test-replay-testkit");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    let input = input.to_owned();
    // Beside reading the output: a program that answers while it reads would fill its pipe and stop.
    let feeder = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    let output = child.wait_with_output().await.expect("a child that was started can be waited for");
    // A program that failed may not have read everything; its own error says more.
    let _ = feeder.await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?} failed: {stderr}", program.display());
    String::from_utf8(output.stdout).unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}
