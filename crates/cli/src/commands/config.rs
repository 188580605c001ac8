//! `config show`: every setting with its origin.

use clap::Subcommand;
use ptr_server::configuration::SettingReport;

use crate::{context::Context, failure::Failure};

/// The settings
#[derive(Subcommand, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay config show")]
pub enum Config {
    /// Every setting, its value and where it comes from; passwords are never shown
    #[command(after_help = "Example:\n  postgres-test-replay config show --json")]
    Show,
}

impl Config {
    /// Runs it. The settings of this call, not of a running service: flags and environment may differ.
    pub fn run(self, context: &Context) -> Result<(), Failure> {
        let report = context.configuration(&[])?.report();
        if context.output.is_json() {
            return Ok(context.output.json(&report)?);
        }
        let row = |one: SettingReport| {
            let origin = one.file.map_or_else(|| one.origin.clone(), |file| format!("{} {file}", one.origin));
            vec![one.name, one.value.unwrap_or_else(|| "-".to_owned()), origin]
        };
        Ok(context.output.table(&["setting", "value", "origin"], report.settings.into_iter().map(row))?)
    }
}
