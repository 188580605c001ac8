//! `gc`: removes what is no longer needed.

use clap::Args;
use indicatif::HumanBytes;
use ptr_server::resource::retention::{Collect, Collected, Thing};

use crate::{
    client::Call,
    context::Context,
    failure::{Failure, Kind},
};

/// Remove what is no longer needed: the oldest part of histories by age and size, databases and files that nobody has
#[derive(Args, Debug)]
#[command(
    after_help = "The present history begins later, by whole segments of its log: never behind a checkpoint that you made, a\n\
                  session, or a keyframe that you asked for. An earlier history (see status) goes whole, unless a session\n\
                  replays it or a checkpoint that you made is in it.\n\nExamples:\n  postgres-test-replay gc --older-than 30d --dry-run\n  \
                  postgres-test-replay gc --keep-bytes 10GB --yes"
)]
pub struct Gc {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Transactions of the present history that are older, and earlier histories whose last one is: 30d, 12h, 45m
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    /// The oldest part of the present history, and earlier ones, until what is left of each kind is no larger: 10GB
    #[arg(long, value_name = "SIZE")]
    keep_bytes: Option<String>,
    /// Databases on the output server too whose history this data directory does not have, or whose session is gone
    #[arg(long)]
    foreign: bool,
}

impl Gc {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if context.databases().is_some() {
            return Err(Failure::new(
                Kind::Usage,
                "gc is about all captured databases and takes no --database",
            )
            .hint("gc --dry-run shows what it would remove of each"));
        }
        if !self.dry_run {
            context.confirm("Remove what is no longer needed (gc --dry-run shows it)?").await?;
        }
        let Self { dry_run, older_than, keep_bytes, foreign } = self;
        let request = Collect { dry_run, older_than, keep_bytes, foreign };
        let done: Collected = context.ask(&Call::post("/api/gc", &request)).await?;
        if context.output.is_json() {
            return Ok(context.output.json(&done)?);
        }
        let verb = if done.dry_run { "would remove" } else { "removed" };
        let line = |verb: &str, thing: &Thing| {
            let Thing { kind, name, bytes, reason } = thing;
            context.output.line(format_args!("{verb} {kind} {name}, {}: {reason}", HumanBytes(*bytes)))
        };
        done.removed.iter().try_for_each(|thing| line(verb, thing))?;
        done.kept.iter().try_for_each(|thing| line("kept", thing))?;
        context.output.prose(format_args!("{verb} {}", HumanBytes(done.bytes)));
        Ok(())
    }
}
