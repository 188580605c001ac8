//! `listener`: capture only.

use clap::Args;
use ptr_server::{Role, Setting};

use crate::{context::Context, failure::Failure, foreground};

/// Capture only, in the foreground (the first version's -mode listener)
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay listener --database shop --database billing")]
pub struct Listener {}

impl Listener {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let configuration = context.configuration(&[(Setting::InputDatabases, context.databases())])?;
        foreground::run(context, configuration, Role::Listener).await
    }
}
