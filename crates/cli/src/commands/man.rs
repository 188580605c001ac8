//! `man`: the manual page.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::{
    arguments::Arguments,
    context::Context,
    failure::{Failure, Kind},
};

/// Print the manual page, or write one for each command
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  postgres-test-replay man | man -l -\n  postgres-test-replay man --out ~/.local/share/man/man1"
)]
pub struct Man {
    /// Write a page for each command into this folder instead
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        if let Some(folder) = self.out {
            let failed = |error| Failure::new(Kind::Failed, format!("{}: {error}", folder.display()));
            std::fs::create_dir_all(&folder).map_err(failed)?;
            return clap_mangen::generate_to(Arguments::command(), &folder).map_err(failed);
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
        Ok(context.output.raw(&page)?)
    }
}
