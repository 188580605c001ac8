//! `up --detach`: the same program again as a process of its own, watched until changes are captured.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use ptr_server::{Configuration, Problem, Role};

use crate::{
    client::Client,
    context::Context,
    failure::{Failure, Kind},
    foreground::{Summary, running, runs_already, until_ready},
    port,
};

/// How often the new process is looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// Lines of its log that are shown when it dies.
const LAST_LINES: usize = 20;

/// Starts it, or finds that it is there already; says in both cases what is up.
pub async fn start(context: &Context, configuration: &Configuration) -> Result<(), Failure> {
    if let Some((service, client)) = running(&context.output, configuration).await? {
        if service.role != Role::Up.name() {
            return Err(runs_already(&service));
        }
        context.output.prose(format_args!("already up, pid {}", service.pid));
        return summary(context, Client::Service(client), service.pid).await;
    }
    port::check(&configuration.address)?;
    let log = configuration.data.run().join("up.log");
    let failed = |error: io::Error| Failure::new(Kind::Failed, format!("{}: {error}", log.display()));
    let mut child = spawn(&log).map_err(failed)?;
    let mut follower = Follower::open(&log).map_err(failed)?;
    loop {
        follower.tell(context);
        if let Some(status) = child.try_wait().map_err(failed)? {
            follower.tell(context);
            return Err(died(context, status, &log));
        }
        if let Some((service, client)) = running(&context.output, configuration).await?
            && service.pid == child.id()
        {
            let client = Client::Service(client);
            tokio::select! {
                ready = until_ready(context, &client, Role::Up) => ready?,
                status = died_meanwhile(&mut child) => return Err(died(context, status, &log)),
            }
            return summary(context, client, service.pid).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn summary(context: &Context, client: Client, pid: u32) -> Result<(), Failure> {
    Summary::ask(&client, pid).await?.show(context)
}

/// The same program with the same arguments, its output in the log.
fn spawn(log: &Path) -> io::Result<Child> {
    if let Some(folder) = log.parent() {
        ptr_server::create_private_folder(folder)?;
    }
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(log)?;
    Command::new(std::env::current_exe()?)
        .args(arguments(std::env::args_os().skip(1)))
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
}

/// What was typed, for the process that stays.
fn arguments(typed: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    typed.map(|argument| if argument == "--detach" { OsString::from("--detached") } else { argument })
}

async fn died_meanwhile(child: &mut Child) -> ExitStatus {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return status;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// It ended by itself: with its own kind of failure, and its own last words where they were not passed on.
fn died(context: &Context, status: ExitStatus, log: &Path) -> Failure {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    if let Some(problem) = lines.last().and_then(|line| serde_json::from_str::<Problem>(line).ok()) {
        return problem.into();
    }
    let kind = status.code().map_or(Kind::Failed, Kind::of_exit_code);
    if passes_on(context) {
        return Failure::new(kind, format!("it did not come up ({status})"))
            .hint(format!("what it said is above, and in {}", log.display()));
    }
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n");
    Failure::new(kind, format!("it did not come up ({status}); the end of {}:\n{last}", log.display()))
}

/// Whether what the new process says is told as it says it.
fn passes_on(context: &Context) -> bool {
    !context.output.is_json() && !context.output.is_quiet()
}

/// Passes on what the new process says, as it says it.
struct Follower {
    file: File,
    path: PathBuf,
}

impl Follower {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.to_owned() })
    }

    fn tell(&mut self, context: &Context) {
        let mut text = String::new();
        if let Err(error) = self.file.read_to_string(&mut text) {
            tracing::debug!(%error, path = %self.path.display(), "the log cannot be followed");
        }
        if !text.is_empty() && passes_on(context) {
            context.output.prose(text.trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_stays_gets_what_was_typed() {
        let typed = ["--data-dir", "x", "up", "--detach", "--addr", ":9"].map(OsString::from);
        let passed: Vec<_> = arguments(typed.into_iter()).collect();
        assert_eq!(passed, ["--data-dir", "x", "up", "--detached", "--addr", ":9"]);
    }
}
