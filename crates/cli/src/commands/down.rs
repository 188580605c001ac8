//! `down`: ends what `up` started.

use std::time::{Duration, Instant};

use clap::Args;
use ptr_server::{Running, resource::status::Status};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::{
    client::{Call, Client, HEALTH_TIMEOUT, SocketClient},
    context::Context,
    embedded,
    failure::{Failure, Kind},
    foreground::found,
    progress::Progress,
};

/// How long a service may take to end in good order: it answers for ten seconds more, finishes or takes back what is under way
/// within a minute, and then stops its servers.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked whether it has ended.
const INTERVAL: Duration = Duration::from_millis(50);

/// Stop the service and the embedded servers; all data stays
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay down && postgres-test-replay up --detach")]
pub struct Down {}

impl Down {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let configuration = context.configuration(&[])?;
        let progress = Progress::spinner(&context.output, "stopping");
        let mut stopped = false;
        if let Some(service) = found(&configuration)? {
            stopped = end(context, &service).await?;
        }
        for pid in listeners(context).await {
            terminate(pid)?;
            gone(pid).await?;
            stopped = true;
        }
        // Servers of a service that was killed go on without it.
        stopped |= embedded::stop(&configuration).await?;
        progress.finish();
        let what = if stopped { "stopped" } else { "nothing was running" };
        context.result(&serde_json::json!({"status": what}), || what.to_owned())
    }
}

/// Ends a service by its API, or by a signal where it does not answer.
async fn end(context: &Context, service: &Running) -> Result<bool, Failure> {
    match SocketClient::of(service) {
        Some(client) if client.is_alive(HEALTH_TIMEOUT).await => {
            // It may end before it has answered; whether it ends is what counts.
            let call = Call::post("/api/shutdown", &serde_json::Map::new());
            let asked = Client::Service(client).ask::<serde_json::Value>(&call).await;
            if let Err(failure) = asked {
                tracing::debug!(?failure, "asked to end");
            }
        }
        _ if is_ours(service.pid) => {
            context
                .output
                .prose(format_args!("the service, pid {}, does not answer; it is sent SIGTERM", service.pid));
            terminate(service.pid)?;
        }
        _ => return Ok(false),
    }
    gone(service.pid).await?;
    Ok(true)
}

fn terminate(pid: u32) -> Result<(), Failure> {
    kill_process(process(pid)?, Signal::TERM)
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot end pid {pid}: {error}")))
}

/// Listeners of ours on the data directory that are processes of their own, and have no API to be asked by.
async fn listeners(context: &Context) -> Vec<u32> {
    // Where even the state cannot be read, what is known is stopped all the same.
    let status = context.ask::<Status>(&Call::get("/api/status")).await;
    let databases = status.map(|status| status.databases).unwrap_or_else(|failure| {
        tracing::warn!(?failure, "listeners cannot be looked for");
        Vec::new()
    });
    let listeners = databases.iter().filter_map(|database| database.listener.pid);
    let mut pids: Vec<u32> = listeners.filter(|pid| is_ours(*pid)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Process ids are used again: only a process of this program's name is the service.
fn is_ours(pid: u32) -> bool {
    if pid == std::process::id() {
        return false;
    }
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    program.ends_with(b"postgres-test-replay")
}

/// Ended, and not yet waited for by whoever started it (state `Z` in proc_pid_stat(5)).
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

fn process(number: u32) -> Result<Pid, Failure> {
    i32::try_from(number).ok().and_then(Pid::from_raw).ok_or_else(|| {
        Failure::new(Kind::Integrity, format!("run/service.json names {number}, which is no process id"))
    })
}

async fn gone(number: u32) -> Result<(), Failure> {
    let pid = process(number)?;
    let since = Instant::now();
    while test_kill_process(pid).is_ok() && !is_zombie(number) {
        if since.elapsed() > PATIENCE {
            let what = format!("pid {number} was asked to end and has not after {} s", PATIENCE.as_secs());
            return Err(Failure::new(Kind::Failed, what).hint(format!(
                "see run/up.log in the data directory; `kill -9 {number}` loses nothing that was captured"
            )));
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}
