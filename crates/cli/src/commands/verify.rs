//! `verify`: proves that the replica equals the primary.

use clap::Args;
use ptr_server::resource::status::{Verified, Verify as Request};

use crate::{
    client::Call,
    context::Context,
    entry_line::place,
    failure::{Failure, Kind},
};

/// Prove that the replica, taken to now, equals the primary
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay verify && echo the same")]
pub struct Verify {
    /// The session to compare, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

impl Verify {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = Request { session_id: self.session };
        let report: Verified = context.ask(&Call::post("/api/verify", &request)).await?;
        context.result(&report, || {
            let verdict = if report.equal { "equal" } else { "DIFFERENT" };
            let mut text = format!(
                "{verdict} at {}: {} tables, {} rows",
                place(&report.position),
                report.tables,
                report.rows
            );
            report.differences.iter().for_each(|difference| text.push_str(&format!("\n  {difference}")));
            text
        })?;
        if report.equal {
            return Ok(());
        }
        Err(Failure::new(Kind::Integrity, "the replica differs from the primary").hint(
            "if somebody wrote to the replica, `session open` and a move rebuild it; else please report this",
        ))
    }
}
