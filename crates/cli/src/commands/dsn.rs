//! `dsn`: connection strings for `psql` and others.

use clap::{Args, ValueEnum};
use ptr_server::resource::status::{DsnAnswer, DsnQuery};

use crate::{
    client::Call,
    context::Context,
    failure::{Failure, Kind},
};

/// Print a connection string, with its password, for psql and other clients
#[derive(Args, Debug)]
#[command(
    name = "dsn",
    after_help = "Examples:
  psql \"$(postgres-test-replay dsn input)\"
  psql \"$(postgres-test-replay dsn session rehearsal)\""
)]
pub struct DsnCommand {
    /// Which database
    #[arg(value_enum)]
    which: Which,
    /// The session, by name or id; else the active one
    #[arg(value_name = "NAME")]
    session: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    /// The captured database
    Input,
    /// The default session's database
    Output,
    /// A session's database
    Session,
}

impl DsnCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        if self.session.is_some() && self.which != Which::Session {
            return Err(Failure::new(Kind::Usage, "only `dsn session` takes a name"));
        }
        let path = match self.which {
            Which::Input => "/api/dsn/input",
            Which::Output => "/api/dsn/output",
            Which::Session => "/api/dsn/session",
        };
        let query = DsnQuery { session_id: self.session, database: context.database()? };
        let answer: DsnAnswer = context.ask(&Call::get(path).query(&query)).await?;
        context.result(&answer, || answer.uri.clone().unwrap_or_else(|| answer.dsn.clone()))
    }
}
