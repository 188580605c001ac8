//! `ipc`, also `serve`: the API and the page, without capture.

use clap::Args;
use ptr_server::{Role, Setting};

use crate::{context::Context, failure::Failure, foreground};

/// API only, in the foreground (the first version's -mode ipc)
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay ipc --addr :8080")]
pub struct Ipc {
    /// Where to listen; :PORT means loopback
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
}

impl Ipc {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let flags = [(Setting::ServerAddress, self.addr), (Setting::InputDatabases, context.databases())];
        foreground::run(context, context.configuration(&flags)?, Role::Ipc).await
    }
}
