//! `replay`: takes a session to a checkpoint, as the API's `/api/replay`.

mod speed;

use clap::Args;
use ptr_server::resource::navigation::{Navigate, Navigated, Replay as Request};

use self::speed::Speed;
use super::navigate::{new_id, tell_connections};
use crate::{client::Call, context::Context, entry_line::place, failure::Failure};

/// Take a session to a position and tell what was applied
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  postgres-test-replay replay --session rehearsal --to MIGRATION
  postgres-test-replay replay --to head --speed 10x")]
pub struct Replay {
    /// The session, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Where to
    #[arg(long, value_name = "POS")]
    to: String,
    /// Transaction by transaction, with the pauses that were between them: 1x, 10x, or max for none
    #[arg(long, value_name = "SPEED")]
    speed: Option<Speed>,
}

impl Replay {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let session = context.session(self.session).await?;
        if let Some(speed) = self.speed {
            return speed::play(context, session, self.to, speed).await;
        }
        let planned =
            Navigate { session_id: session.clone(), position: Some(self.to.clone()), ..Navigate::default() };
        tell_connections(context, planned).await?;
        let id = new_id();
        let request = Request {
            id: Some(id.clone()),
            session_id: session,
            position: Some(self.to),
            checkpoint_id: None,
        };
        let done: Navigated = context.ask_for_move(&Call::post("/api/replay", &request), &id).await?;
        context.result(&done, || {
            format!("{}: {} entries applied, now at {}", done.status, done.entries_applied, place(&done.to))
        })
    }
}
