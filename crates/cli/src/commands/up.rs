//! `up`: everything in one process, in front of the person or left behind in the background.

mod detached;

use clap::Args;
use ptr_server::{Role, Setting};

use crate::{
    context::Context,
    failure::{Failure, Kind},
    foreground,
};

/// Start everything: servers where no DSN is set, capture, API
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  postgres-test-replay up
  postgres-test-replay up --detach --addr :9090
  INPUT_DSN=postgres://me@db.example/shop postgres-test-replay up")]
pub struct Up {
    /// Go to the background once changes are captured and the API answers
    // `script/up` gives it, and who calls that may give it too.
    #[arg(long, overrides_with = "detach")]
    detach: bool,
    /// Where the API listens; :PORT means loopback
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
    /// Set by `--detach` for the process that stays.
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

impl Up {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let flags = [(Setting::ServerAddress, self.addr), (Setting::InputDatabases, context.databases())];
        let configuration = context.configuration(&flags)?;
        if self.detach {
            return detached::start(context, &configuration).await;
        }
        if self.detached {
            // A session of its own: closing the terminal, or Ctrl-C in it, does not reach it.
            rustix::process::setsid()
                .map_err(|error| Failure::new(Kind::Failed, format!("cannot leave the terminal: {error}")))?;
        }
        foreground::run(context, configuration, Role::Up).await
    }
}
