//! What is looked at before a service starts work: doctor's checks, as far as they concern its role.
//!
//! Invariants: nothing is changed yet; an error refuses the start, with every finding and its fix; a server that
//! cannot be reached is told as that, not as a finding.

use ptr_log::DEFAULT_SESSION;
use ptr_postgres::{ConnectError, Dsn, SessionSettings, connect, sqlstate::SqlState};
use ptr_replay::session::{TargetState, inspect, reopen};

use super::{APPLICATION_NAME, Announcer, Role, Service, ServiceError, blocking, doctor::told};
use crate::resource::status::FindingAnswer;

/// The finding that consent answers.
const NOT_EMPTY: &str = "output_not_empty";

/// The finding that stands against every role.
const ONE_DATABASE: &str = "same_database";

impl Service {
    /// Refuses to start where something stands in the way, and tells what is not as it could be: those warnings
    /// are returned.
    pub(super) async fn check_before_start(
        &self,
        announcer: &Announcer,
    ) -> Result<Vec<String>, ServiceError> {
        let mut findings = Vec::new();
        if self.role.captures() {
            for database in &self.configuration.databases {
                reach(&self.input()?.with_database(database)).await?;
            }
            findings.extend(self.look_at_input().await);
        }
        if let Ok(output) = self.output() {
            if self.role.serves() {
                self.reopen_sessions(output).await?;
            }
            findings.extend(self.output_before_start(output, announcer).await?);
        }
        findings.extend(self.check_disk());
        findings.extend(self.role.serves().then(|| self.check_certificate()).flatten());
        findings.dedup();
        let (errors, others): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == "error");
        let warnings = others.iter().filter(|finding| finding.severity == "warning");
        let told: Vec<String> = warnings.map(told).collect();
        told.iter().for_each(|text| announcer.warn(text));
        if errors.is_empty() { Ok(told) } else { Err(ServiceError::NotReady(errors)) }
    }

    /// A crash in the midst of an exchange leaves the old database of a session, to which nobody can connect: not even
    /// who looks whether everything is as it should be.
    async fn reopen_sessions(&self, output: &Dsn) -> Result<(), ServiceError> {
        let catalog = self.catalog.clone();
        for session in blocking(move || catalog.sessions()).await?? {
            // Whoever moves it at the moment, in another process, opens it.
            if let Ok(Some(_lock)) = self.moves.take_if_free(session.id, &self.configuration.data.run()) {
                // Without an answer from the server, who looks next says why.
                drop(reopen(output, &session.target_database).await);
            }
        }
        Ok(())
    }

    async fn output_before_start(
        &self,
        output: &Dsn,
        announcer: &Announcer,
    ) -> Result<Vec<FindingAnswer>, ServiceError> {
        match reach(output).await {
            // Capture goes on without a replica.
            Err(error) if self.role == Role::Listener => {
                announcer.warn(format!("the output server is not looked at: {error}"));
                return Ok(Vec::new());
            }
            reached => reached?,
        }
        let mut findings = self.look_at_output().await;
        match self.role {
            Role::Listener => findings.retain(|finding| finding.code == ONE_DATABASE),
            Role::Up | Role::Ipc | Role::Offline => {
                let is_full = findings.iter().any(|finding| finding.code == NOT_EMPTY);
                if is_full && self.may_be_replaced(output).await? {
                    findings.retain(|finding| finding.code != NOT_EMPTY);
                }
            }
        }
        Ok(findings)
    }

    /// Whether what the output database holds is no reason to refuse: the user gave it up, or opened it, or it
    /// holds nothing but parts of extensions.
    async fn may_be_replaced(&self, output: &Dsn) -> Result<bool, ServiceError> {
        if self.configuration.consent {
            return Ok(true);
        }
        let catalog = self.catalog.clone();
        let sessions = blocking(move || catalog.sessions()).await??;
        let is_opened = sessions.iter().any(|session| {
            session.name == DEFAULT_SESSION && session.open && session.target_database == output.database()
        });
        let is_foreign = || async {
            Ok::<_, ServiceError>(matches!(
                inspect(output, output.database()).await?,
                TargetState::Foreign { .. }
            ))
        };
        Ok(is_opened || !is_foreign().await?)
    }
}

/// Whether a server lets us in. A database that is not there yet is made when it is needed.
async fn reach(dsn: &Dsn) -> Result<(), ServiceError> {
    match connect(dsn, &SessionSettings::named(APPLICATION_NAME)).await {
        Ok(connection) => {
            connection.close().await;
            Ok(())
        }
        Err(ConnectError::LoginRefused { error, .. }) if error.sqlstate == SqlState::UNDEFINED_DATABASE => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
