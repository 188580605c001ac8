//! `demo`: everything that `up` starts, and a small shop on the embedded primary that is worth looking at: a schema,
//! customers who order, two migrations, of which the second loses money, and a replica that is taken back before it.
//!
//! The shop ([`shop`]) is an application like any other: it knows the primary's address and nothing of us. Its story
//! ([`story`]) is told on stderr and done by the same calls of the API as the other commands.

mod shop;
mod story;

use clap::Args;
use ptr_server::{Role, Setting};

use crate::{
    context::Context,
    failure::{Failure, Kind},
    foreground,
};

/// Start everything with a small shop that changes data, migrates, breaks it and goes back
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  postgres-test-replay demo
  postgres-test-replay demo --addr :9090 --data-dir /tmp/shop

It uses embedded servers only, runs until Ctrl-C or `down`, and goes on where it was when it is started again.")]
pub struct Demo {
    /// Where the API and the page listen; :PORT means loopback
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
}

impl Demo {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let flags = [(Setting::ServerAddress, self.addr), (Setting::InputDatabases, context.databases())];
        let configuration = context.configuration(&flags)?;
        // The shop writes; nobody's own database is to be written into by a demonstration.
        for (dsn, name) in [(&configuration.input, "INPUT_DSN"), (&configuration.output, "OUTPUT_DSN")] {
            if dsn.is_some() {
                let what = format!("the demo writes into its own servers only, and {name} is set");
                return Err(Failure::new(Kind::Precondition, what)
                    .hint("run it in an empty folder, without INPUT_DSN and OUTPUT_DSN in the environment"));
            }
        }
        foreground::run_with(context, configuration, Role::Up, async |client| {
            story::tell(context, client).await
        })
        .await
    }
}
