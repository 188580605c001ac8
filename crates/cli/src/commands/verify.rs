//! `verify`: proves that the replica equals the primary.

use clap::Args;
use ptr_server::resource::verification::{Verified, Verify as Request};

use crate::{
    client::Call,
    context::Context,
    entry_line::place,
    failure::{Failure, Kind},
};

/// Prove that the replica equals the primary as it is now, schema, rows and sequences
#[derive(Args, Debug)]
#[command(
    long_about = "Prove that the replica equals the primary as it is now, schema, rows and sequences.\n\nOthers may \
        write meanwhile: the primary is read in a snapshot that matches a position of the log. A session that is at \
        that position is compared itself; else a scratch database is made there from the log, and dropped again. \
        With --at, nothing is asked of the primary.",
    after_help = "Examples:\n  postgres-test-replay verify && echo the same\n  postgres-test-replay verify --at released"
)]
pub struct Verify {
    /// The session to compare, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Compare with what `checkpoint create --hash` kept, instead of the primary
    #[arg(long, value_name = "CHECKPOINT")]
    at: Option<String>,
    /// Connections to each side [default: 2]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

impl Verify {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let id = uuid::Uuid::now_v7().to_string();
        let request = Request {
            id: Some(id.clone()),
            session_id: context.session(self.session).await?,
            at: self.at,
            jobs: self.jobs,
            background: false,
        };
        let report: Verified =
            context.ask_for_verification(&Call::post("/api/verify", &request), &id).await?;
        context.result(&report, || text(&report))?;
        if report.equal {
            return Ok(());
        }
        let hint = match report.scratch {
            true => "the history does not lead to what the other side holds: please report this",
            false => {
                "if somebody wrote to the replica, `session open` and a move rebuild it; else please report this"
            }
        };
        Err(Failure::new(Kind::Integrity, format!("the replica differs from the {}", report.against))
            .hint(hint))
    }
}

fn text(report: &Verified) -> String {
    let verdict = if report.equal { "equal" } else { "DIFFERENT" };
    let database = &report.compared_database;
    let compared = match report.scratch {
        true => {
            format!("a scratch database made there ({database}); the session is elsewhere and was left alone")
        }
        false => format!("the session's database {database}"),
    };
    let mut text = format!(
        "{verdict} at {}: {} tables, {} rows, {} sequences\n  {} with {compared}",
        place(&report.position),
        report.tables,
        report.rows,
        report.sequences,
        report.against,
    );
    let notes = report.notes.iter().map(|note| format!("note: {note}"));
    report.differences.iter().cloned().chain(notes).for_each(|line| text.push_str(&format!("\n  {line}")));
    text
}
