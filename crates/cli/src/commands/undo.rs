//! `undo` and `redo`: back and forward on a session's move history.

use clap::Args;

use ptr_server::resource::navigation::Step;

use super::navigate::{go, new_id, tell_planned};
use crate::{client::Call, context::Context, failure::Failure};

/// Take back the session's last move
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay undo")]
pub struct Undo {
    /// The session, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only tell the way and what it would do
    #[arg(long)]
    dry_run: bool,
}

/// Make again the move that was taken back
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay redo")]
pub struct Redo {
    /// The session, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only tell the way and what it would do
    #[arg(long)]
    dry_run: bool,
}

impl Undo {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        step(context, "/api/undo", self.session, self.dry_run).await
    }
}

impl Redo {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        step(context, "/api/redo", self.session, self.dry_run).await
    }
}

async fn step(
    context: &Context,
    path: &str,
    session_id: Option<String>,
    dry_run: bool,
) -> Result<(), Failure> {
    let session_id = context.session(session_id).await?;
    let id = new_id();
    let step = Step { id: Some(id.clone()), session_id, dry_run };
    if !step.dry_run {
        tell_planned(context, &Call::post(path, &Step { id: None, dry_run: true, ..step.clone() })).await?;
    }
    go(context, &Call::post(path, &step), &id).await
}
