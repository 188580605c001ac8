//! `teardown`: removes everything we put on the primary.

use clap::Args;
use ptr_server::resource::status::{Teardown as Request, TornDown};

use crate::{
    client::Call,
    context::Context,
    failure::{Failure, Kind},
};

/// Remove everything we put on the primary: slot, publication, event triggers, schema, replica identities
#[derive(Args, Debug)]
#[command(
    after_help = "The log, its checkpoints and the replica stay; capture ends.\n\nExample:\n  postgres-test-replay teardown --yes"
)]
pub struct Teardown {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl Teardown {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if !self.dry_run {
            context.confirm("End capture and remove everything of ours from the primary?").await?;
        }
        let request = Request { database: context.database()?, dry_run: self.dry_run };
        let report: TornDown = context.ask(&Call::post("/api/teardown", &request)).await?;
        if context.output.is_json() {
            context.output.json(&report)?;
        } else {
            let done = if self.dry_run { "would remove" } else { "removed" };
            report
                .removed
                .iter()
                .try_for_each(|thing| context.output.line(format_args!("{done} {thing}")))?;
            report.left.iter().try_for_each(|thing| context.output.line(format_args!("left {thing}")))?;
            report.kept.iter().try_for_each(|thing| context.output.line(format_args!("kept {thing}")))?;
            if report.removed.is_empty() && report.left.is_empty() {
                context.output.prose("there was nothing of ours on the primary");
            }
        }
        if report.left.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Kind::Failed, format!("{} things are still on the primary", report.left.len()))
            .hint("deal with the reasons above and run teardown again"))
    }
}
