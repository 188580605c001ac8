//! `session skip`, `session resync`, `session decisions`, `session undecide`: what a session leaves out, or takes from
//! the primary, where replay could not go on.

use clap::Args;
use ptr_server::resource::decision::{Decide, DecisionAnswer, DecisionQuery};

use crate::{client::Call, context::Context, entry_line::place, failure::Failure};

/// Leave out what replay stopped at, each time the session passes there
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  postgres-test-replay session skip
  postgres-test-replay session skip 42
  postgres-test-replay session skip --table public.audit")]
pub struct Skip {
    /// The entry to leave out, as `log` numbers it [default: what the session stopped at]
    #[arg(value_parser = entry, conflicts_with = "table")]
    entry: Option<u64>,
    /// Leave all changes of this table out, from the stop on, or from where the session is
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Option<String>,
    /// The session, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

/// Take a table's rows from the primary as they are now, where replay could not follow it
#[derive(Args, Debug)]
#[command(
    long_about = "Take a table's rows from the primary as they are now, where replay could not follow it.

The rows are copied into the data directory, with the position of the log at which the primary held them. The \
session then leaves the table's changes out from where it stopped (from where it is, if it did not stop at this \
table) and gives the table those rows when it comes to that position; from there on its changes are replayed again. \
What the table holds in between is not known, and `session show` says so. A table that the session's database does \
not have, or has with other columns, is made as the primary has it. The schema changes in between still run.

The session does not move: navigate goes on. It holds each time the session passes there, until `session undecide`.",
    after_help = "Examples:
  postgres-test-replay session resync public.orders
  postgres-test-replay session resync public.orders --session rehearsal && postgres-test-replay navigate head --session rehearsal"
)]
pub struct Resync {
    /// The table
    #[arg(value_name = "SCHEMA.TABLE")]
    table: String,
    /// The session, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

/// What a session leaves out
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay session decisions")]
pub struct Decisions {
    /// The session, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

/// Take a decision back: what it left out is replayed again
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay session undecide 3")]
pub struct Undecide {
    /// The decision, as `session decisions` numbers it
    decision: i64,
}

fn entry(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("entry:").or_else(|| text.strip_prefix('#')).unwrap_or(text);
    digits.parse().map_err(|_| "an entry is a number, as `log` shows it, such as 42".to_owned())
}

impl Skip {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = Decide {
            session_id: context.session(self.session).await?,
            entry: self.entry,
            table: self.table,
            resync: None,
        };
        decide(context, &request).await
    }
}

impl Resync {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        context.output.prose(format_args!("copying table {} from the primary", self.table));
        let request = Decide {
            session_id: context.session(self.session).await?,
            resync: Some(self.table),
            entry: None,
            table: None,
        };
        decide(context, &request).await
    }
}

async fn decide(context: &Context, request: &Decide) -> Result<(), Failure> {
    let made: DecisionAnswer = context.ask(&Call::post("/api/decisions", request)).await?;
    context.result(&made, || match &made.until {
        Some(until) => format!(
            "decision {}: leaves out {} from {} until {}, where the table gets the primary's rows",
            made.id,
            made.what,
            place(&made.from),
            place(until)
        ),
        None => format!("decision {}: {} from {} on", made.id, verb(&made), place(&made.from)),
    })?;
    tell_rebuild(context, &made);
    let of = request.session_id.as_ref().map_or_else(String::new, |name| format!(" --session {name}"));
    let prose = format_args!("navigate head{of} goes on; session undecide {} takes it back", made.id);
    context.output.prose(prose);
    Ok(())
}

impl Decisions {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let query = DecisionQuery { session_id: context.session(self.session).await? };
        let all: Vec<DecisionAnswer> = context.ask(&Call::get("/api/decisions").query(&query)).await?;
        context.list(&["decision", "from", "leaves out", "decided"], &all, |one| {
            vec![one.id.to_string(), place(&one.from), what(one), one.decided_at.clone()]
        })
    }
}

impl Undecide {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let path = format!("/api/decisions/{}", self.decision);
        let gone: DecisionAnswer = context.ask(&Call::delete(path)).await?;
        context.result(&gone, || format!("taken back: {}", what(&gone)))?;
        tell_rebuild(context, &gone);
        Ok(())
    }
}

fn tell_rebuild(context: &Context, decision: &DecisionAnswer) {
    if decision.rebuilds {
        context.output.prose(
            "the session is beyond that: its next move builds its database anew, and it no longer follows head",
        );
    }
}

fn verb(decision: &DecisionAnswer) -> String {
    match decision.kind.as_str() {
        "skip" => format!("skips {}", decision.what),
        _ => format!("leaves out {}", decision.what),
    }
}

/// What a decision leaves out, for people.
pub fn what(decision: &DecisionAnswer) -> String {
    match &decision.until {
        Some(until) => format!("{} until {}", decision.what, place(until)),
        None => decision.what.clone(),
    }
}
