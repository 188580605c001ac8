//! `navigate`: takes a session to a position.

use clap::Args;
use ptr_server::resource::navigation::{AlternativeAnswer, Navigate as Request, Navigated};

use crate::{
    client::Call,
    context::Context,
    entry_line::{counted, place},
    failure::Failure,
};

/// Take a session to a position, in whichever way is cheapest
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  postgres-test-replay navigate before-update
  postgres-test-replay goto @-1
  postgres-test-replay goto '5m ago' --dry-run
  postgres-test-replay goto head --follow")]
pub struct Navigate {
    /// head, @-3, a checkpoint, an LSN, entry:42, xid:812, a time, 5m ago
    #[arg(value_name = "POS")]
    position: String,
    /// The session to move, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only tell the way and what it would do
    #[arg(long)]
    dry_run: bool,
    /// Build the session's database anew from a keyframe, whatever it holds
    #[arg(long)]
    rebuild: bool,
    /// Keep the session at head from then on, until its next move
    #[arg(long)]
    follow: bool,
}

impl Navigate {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let id = new_id();
        let request = Request {
            id: Some(id.clone()),
            position: Some(self.position),
            session_id: context.session(self.session).await?,
            dry_run: self.dry_run,
            follow: self.follow,
            rebuild: self.rebuild,
            ..Request::default()
        };
        if !request.dry_run {
            tell_connections(context, request.clone()).await?;
        }
        go(context, &Call::post("/api/navigate", &request), &id).await
    }
}

/// Says whose connections a move to a position would end, before it does, and asks where somebody can answer.
pub async fn tell_connections(context: &Context, request: Request) -> Result<(), Failure> {
    let request = Request { dry_run: true, limit: Some(1), ..request };
    tell_planned(context, &Call::post("/api/navigate", &request)).await
}

/// The same of a planned move of any kind.
pub async fn tell_planned(context: &Context, planned: &Call) -> Result<(), Failure> {
    let plan: Navigated = context.ask(planned).await?;
    let ended = &plan.connections_to_end;
    if ended.is_empty() {
        return Ok(());
    }
    let count = counted(ended.len() as u64, "connection");
    let what = format!("This move ends {count} to the session's database: {}.", ended.join(", "));
    context.consent(&what, "Go on?").await
}

/// A way that would not be gone, and why.
fn alternative(other: &AlternativeAnswer) -> String {
    let AlternativeAnswer { strategy, way, estimate_ms, barred } = other;
    let why = match (estimate_ms, barred) {
        (_, Some(barred)) => format!("not possible: {barred}"),
        (Some(estimate), None) => format!("about {}", span(*estimate)),
        (None, None) => "not estimated".to_owned(),
    };
    format!("or by {strategy}, {way}: {why}")
}

/// A length of time as people say it.
fn span(milliseconds: f64) -> String {
    match milliseconds {
        short if short < 10.0 => format!("{short:.1} ms"),
        ordinary if ordinary < 1_000.0 => format!("{ordinary:.0} ms"),
        long => format!("{:.1} s", long / 1_000.0),
    }
}

/// By what a move is ended that is about to be asked for.
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Makes a move, or only plans it, and tells what it did.
pub async fn go(context: &Context, call: &Call, id: &str) -> Result<(), Failure> {
    let done: Navigated = context.ask_for_move(call, id).await?;
    let from = done.from.as_ref().map_or("no position".to_owned(), place);
    let to = place(&done.to);
    let (strategy, between) = (&done.strategy, counted(done.transactions, "transaction"));
    if done.status == "planned" {
        return context.result(&done, || {
            let mut text =
                format!("would go from {from} to {to} by {strategy}: {}\n  {between} between", done.reason);
            text.push_str(&format!(", about {}", span(done.estimate_ms)));
            done.alternatives.iter().for_each(|other| text.push_str(&format!("\n  {}", alternative(other))));
            for connection in &done.connections_to_end {
                text.push_str(&format!("\n  would end the connection of {connection}"));
            }
            text
        });
    }
    context.result(&done, || {
        let applied = done.entries_applied;
        format!("at {to} by {strategy}: {between}, {applied} entries applied in {} ms", done.elapsed_ms)
    })?;
    context.output.prose(format_args!("was at {from}"));
    if done.connections_ended > 0 {
        context
            .output
            .prose(format_args!("ended {} connections to the session's database", done.connections_ended));
    }
    done.notices.iter().for_each(|notice| context.output.prose(format_args!("note: {notice}")));
    Ok(())
}
