//! `undo` and `redo`: back and forward on a session's move history.

use clap::Args;

use ptr_server::resource::navigation::Step;

use super::navigate::go;
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
        let step = Step { session_id: self.session, dry_run: self.dry_run };
        go(context, &Call::post("/api/undo", &step)).await
    }
}

impl Redo {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let step = Step { session_id: self.session, dry_run: self.dry_run };
        go(context, &Call::post("/api/redo", &step)).await
    }
}
