//! `completions`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{arguments::Arguments, context::Context, failure::Failure};

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  postgres-test-replay completions bash > ~/.local/share/bash-completion/completions/postgres-test-replay"
)]
pub struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "postgres-test-replay", &mut script);
        Ok(context.output.raw(&script)?)
    }
}
