//! `status`: how everything stands.

use std::time::Duration;

use clap::Args;
use indicatif::HumanBytes;
use ptr_server::resource::{
    retention::RetentionStatus,
    status::{DatabaseStatus, ServerStatus, Status as Answer},
};

use super::session::{position, remarks, states};
use crate::{
    client::Call,
    context::Context,
    entry_line::{counted, place},
    failure::Failure,
    output::{Output, Paint},
};

/// How everything stands: servers, capture, log, session
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  postgres-test-replay status --watch\n  postgres-test-replay status --json | jq '.databases[].listener.state'"
)]
pub struct Status {
    /// Go on telling it, each SECONDS anew, until Ctrl-C; with --json a document a line
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
}

impl Status {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let Some(seconds) = self.watch else {
            let status: Answer = context.ask(&Call::get("/api/status")).await?;
            if context.output.is_json() {
                return Ok(context.output.json(&status)?);
            }
            return show(&context.output, &status);
        };
        loop {
            let status: Answer = context.ask(&Call::get("/api/status")).await?;
            if context.output.is_json() {
                context.output.json_line(&status)?;
            } else {
                context.output.begin_anew()?;
                show(&context.output, &status)?;
            }
            context.output.flush()?;
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
        }
    }
}

fn show(output: &Output, status: &Answer) -> Result<(), Failure> {
    match &status.address {
        Some(address) => output.line(format_args!("service   {} at {address}", status.role))?,
        None => output.line("service   not running")?,
    }
    output.line(format_args!("data      {}", status.data_directory))?;
    server(output, "primary", &status.input)?;
    server(output, "replica", &status.output)?;
    status.databases.iter().try_for_each(|one| database(output, one))?;
    if let Some(session) = &status.session {
        let states = states(session);
        let states = if states.is_empty() { String::new() } else { format!(" ({states})") };
        let database = &session.target_database;
        output.line(format_args!(
            "session   {} at {}, database {database}{states}",
            session.name,
            position(session)
        ))?;
        remarks(session).iter().try_for_each(|remark| output.line(format_args!("          {remark}")))?;
    }
    for earlier in &status.earlier {
        output.line(format_args!("earlier   {earlier} (log --database '{earlier}')"))?;
    }
    if let Some(retention) = &status.retention {
        retained(output, retention)?;
    }
    for warning in &status.warnings {
        output.line(format_args!("{} {warning}", output.paint(Paint::Yellow, "warning  ")))?;
    }
    Ok(())
}

fn retained(output: &Output, retention: &RetentionStatus) -> Result<(), Failure> {
    let RetentionStatus { age, bytes, last } = retention;
    let age = age.iter().map(|age| format!("older than {age}"));
    let limits: Vec<String> = age.chain(bytes.map(|bytes| format!("beyond {}", HumanBytes(bytes)))).collect();
    output.line(format_args!("retention lets go what is {}", limits.join(", or ")))?;
    let Some(last) = last else { return Ok(()) };
    let (count, bytes) = (counted(last.removed.len() as u64, "thing"), HumanBytes(last.bytes));
    output.line(format_args!("          at {} it let {count} go, {bytes}", last.at))?;
    for thing in &last.kept {
        output.line(format_args!("          {} stays longer: {}", thing.name, thing.reason))?;
    }
    let problem =
        |problem: &String| output.line(format_args!("          {}", output.paint(Paint::Red, problem)));
    Ok(last.problem.iter().try_for_each(problem)?)
}

fn server(output: &Output, name: &str, server: &ServerStatus) -> Result<(), Failure> {
    let embedded = if server.embedded { ", embedded" } else { "" };
    let state = match (server.connected, &server.version, &server.error) {
        (true, Some(version), _) => format!("PostgreSQL {version}{embedded}"),
        (true, None, _) => format!("answers{embedded}"),
        (false, _, Some(error)) => output.paint(Paint::Red, error),
        (false, _, None) => format!("does not answer{embedded}"),
    };
    Ok(output.line(format_args!("{name}   {}: {state}", server.dsn))?)
}

fn database(output: &Output, one: &DatabaseStatus) -> Result<(), Failure> {
    let listener = &one.listener;
    let colour = match listener.state.as_str() {
        "streaming" | "catching_up" => Paint::Green,
        "failed" | "reconnecting" => Paint::Red,
        _ => Paint::Dim,
    };
    let pid = listener.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    output.line(format_args!(
        "capture   {}: {}{pid}{}",
        one.database,
        output.paint(colour, &listener.state),
        one.schema_changes.as_ref().map_or_else(String::new, |told| format!("; {told}"))
    ))?;
    if let Some(error) = listener.details.get("error").and_then(|error| error.as_str()) {
        output.line(format_args!("          {}", output.paint(Paint::Red, error)))?;
    }
    if let Some(error) = one.slot.as_ref().and_then(|slot| slot.error.as_ref()) {
        output.line(format_args!("slot      {}", output.paint(Paint::Red, error)))?;
    } else if let Some(slot) = &one.slot {
        let bytes =
            |count: Option<u64>| count.map_or("?".to_owned(), |n| indicatif::HumanBytes(n).to_string());
        let (lag, kept) = (bytes(slot.lag_bytes), bytes(slot.retained_bytes));
        // To a tenth, rounded by whole numbers.
        let tenths = |ms: u64| format!(" and {}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100);
        let time = slot.lag_ms.map_or_else(String::new, tenths);
        let state = slot.wal_status.as_deref().unwrap_or("unknown");
        output.line(format_args!(
            "slot      {}: {state}, {lag}{time} behind, keeps {kept} of WAL",
            slot.name
        ))?;
    }
    if let Some(error) = &one.log_error {
        output.line(format_args!("log       {}", output.paint(Paint::Red, error)))?;
    }
    if let Some(log) = &one.log {
        let size = indicatif::HumanBytes(log.bytes);
        let head = one.head.as_ref().map_or_else(String::new, |head| format!(", head {}", place(head)));
        let (transactions, entries) = (log.transactions, log.entries);
        output
            .line(format_args!("log       {transactions} transactions, {entries} entries, {size}{head}"))?;
        if log.recent.transactions > 0 {
            let recent = &log.recent;
            let (transactions, entries, seconds) = (recent.transactions, recent.entries, recent.seconds);
            output.line(format_args!(
                "          {transactions} transactions, {entries} entries in the last {seconds} s"
            ))?;
        }
    }
    if let Some(all) = &one.keyframes {
        let (used, budget) = (HumanBytes(all.used_bytes), HumanBytes(all.budget_bytes));
        let (keyframes, spares) =
            (counted(all.keyframes.len() as u64, "keyframe"), counted(all.spares.len() as u64, "spare"));
        output.line(format_args!("keyframes {keyframes}, {spares}, {used} of {budget}"))?;
        all.doing.iter().try_for_each(|doing| output.line(format_args!("          {doing}")))?;
        let problem =
            |problem: &String| output.line(format_args!("          {}", output.paint(Paint::Red, problem)));
        all.problem.iter().try_for_each(problem)?;
    }
    Ok(())
}
