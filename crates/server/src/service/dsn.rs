//! Where databases are.

use ptr_postgres::{Connection, Dsn, SessionSettings, connect, programs::Installations};

use super::{APPLICATION_NAME, Service, ServiceError, embedded};
use crate::resource::status::DsnQuery;

/// Which database is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A captured one.
    Input,
    /// The default session's.
    Output,
    /// A session's.
    Session,
}

impl Service {
    /// `GET /api/dsn/{end}`.
    ///
    /// # Errors
    /// An embedded server that was never made, a session that does not exist.
    pub async fn dsn(&self, end: End, query: DsnQuery) -> Result<Dsn, ServiceError> {
        match end {
            End::Input => Ok(match &query.database {
                Some(database) => self.input()?.with_database(database),
                None => self.input()?.with_database(self.configuration.default_database()),
            }),
            End::Output => Ok(self.output()?.clone()),
            End::Session => {
                let session = self.session_named(query.session_id.as_deref()).await?;
                Ok(self.output()?.with_database(&session.target_database))
            }
        }
    }

    /// The captured server.
    pub(crate) fn input(&self) -> Result<&Dsn, ServiceError> {
        self.input.as_ref().ok_or_else(|| never_made("primary", "INPUT_DSN"))
    }

    /// The server that replays.
    pub(crate) fn output(&self) -> Result<&Dsn, ServiceError> {
        self.output.as_ref().ok_or_else(|| never_made("replica", "OUTPUT_DSN"))
    }

    /// A session on the output server outside every session's database, because nobody may be connected to a
    /// database that is cloned, renamed or dropped.
    pub(crate) async fn output_maintenance(&self) -> Result<Connection, ServiceError> {
        let dsn = self.output()?.with_database("postgres");
        Ok(connect(&dsn, &SessionSettings::canonical(APPLICATION_NAME)).await?)
    }

    /// PostgreSQL's programs.
    pub(crate) fn programs(&self) -> Result<Installations, ServiceError> {
        embedded::installations(&self.configuration)
    }
}

fn never_made(name: &str, variable: &str) -> ServiceError {
    ServiceError::precondition(
        format!("{variable} is not set, and the embedded {name} was not made yet"),
        format!("run postgres-test-replay up, which makes it, or set {variable}"),
    )
}
