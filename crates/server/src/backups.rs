//! Backups by `pg_dump`, each with a file beside it that says what it is and what it held.
//!
//! [`create`]: snapshot -> which position of the log it shows (`ptr_replay::snapshot`) -> digest of every table
//! ([`contents`]) -> `pg_dump` of the same snapshot -> metadata ([`store`]). [`restore`]: into a new database that
//! takes the old one's place only when it is whole ([`place`]). [`verify`]: into a scratch database whose contents are
//! compared with the digests. Both are made under a lock of their own ([`scratch`]), as tasks that go on when whoever
//! asked goes away, and that give up what they build when the service ends.
//!
//! Invariants: a backup that is listed as complete is whole on disk; a restore that fails leaves the old database
//! as it was, and its session too.

mod contents;
mod create;
mod place;
mod program;
mod restore;
mod scratch;
mod store;
mod verify;

pub(crate) use create::server_version;
pub(crate) use program::run as run_program;
pub(crate) use scratch::{is_scratch, take_over as take_over_scratch};
pub(crate) use store::Backups;

use std::future::Future;

use crate::service::{Service, ServiceError};

impl Service {
    /// Gives up what is being done when the service ends. `again` is what to do then.
    async fn unless_it_ends<T>(
        &self,
        doing: impl Future<Output = Result<T, ServiceError>>,
        again: &str,
    ) -> Result<T, ServiceError> {
        let done = self.shutdown_token().run_until_cancelled(doing).await;
        done.unwrap_or_else(|| Err(ServiceError::precondition("the service was stopped", again)))
    }
}
