//! `man`: the manual page.

use clap::{Args, CommandFactory};

use crate::{arguments::Arguments, context::Context, failure::Failure};

/// Print the manual page
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay man | man -l -")]
pub struct Man {}

impl Man {
    /// Runs it.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
        Ok(context.output.raw(&page)?)
    }
}
