//! Databases that are on the output server for a while: what a dump is restored into, before it takes the place of another
//! database or is compared.
//!
//! Invariant: whoever makes one holds the server's lock of its name, from before it is there until it is gone or has its
//! place. The lock ends with the connection that took it, so one that nobody holds was left by a process that was killed.

use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, quote_identifier};
use uuid::Uuid;

/// What a database is made for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Restore,
    Verify,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Restore, Self::Verify];

    fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Verify => "verify",
        }
    }
}

/// Digits of a name that no two have alike.
const DIGITS: usize = 12;

/// What is added to the name for the database whose place was taken, until it is dropped.
const REPLACED: &str = "_old";

/// Such a database, and the session on the server that has its lock.
pub(super) struct Scratch {
    maintenance: Connection,
    name: String,
}

impl Scratch {
    /// Finds a name and locks it. `maintenance` is connected to the database `postgres`: advisory locks are a database's.
    pub(super) async fn begin(
        maintenance: Connection,
        purpose: Purpose,
    ) -> Result<Self, tokio_postgres::Error> {
        let unique = Uuid::new_v4().simple().to_string();
        let name = format!("{}{}", beginning(purpose), &unique[..DIGITS]);
        let sql = "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended($1, 0))";
        maintenance.execute(sql, &[&lock(&name)]).await?;
        Ok(Self { maintenance, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What the database whose place it takes is called from then on.
    pub(super) fn replaced(&self) -> String {
        format!("{}{REPLACED}", self.name)
    }

    /// Connected to another database of the server.
    pub(super) fn maintenance(&self) -> &Connection {
        &self.maintenance
    }

    /// Drops what is still there of it, and what it replaced; then anybody may. Where that fails it waits for `gc`, and what
    /// was done is no less done.
    pub(super) async fn end(self) {
        for name in [&self.name, &self.replaced()] {
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(name));
            if let Err(error) = self.maintenance.batch_execute(&sql).await {
                tracing::warn!(%error, "the database {name} is left on the output server; gc drops it");
            }
        }
        self.maintenance.close().await;
    }
}

/// Whether it is a name that only such databases have.
pub(crate) fn is_scratch(name: &str) -> bool {
    let name = name.strip_suffix(REPLACED).unwrap_or(name);
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    Purpose::ALL.into_iter().any(|purpose| {
        let digits = name.strip_prefix(&beginning(purpose));
        digits.is_some_and(|digits| digits.len() == DIGITS && digits.chars().all(is_digit))
    })
}

/// Takes the lock of such a database over from a process that ended; `false` where one has it.
pub(crate) async fn take_over(maintenance: &Connection, name: &str) -> Result<bool, tokio_postgres::Error> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))";
    Ok(maintenance.query_one(sql, &[&lock(name)]).await?.get(0))
}

fn beginning(purpose: Purpose) -> String {
    format!("{OUR_SCHEMA}_{}_", purpose.name())
}

/// One lock for the database and the one whose place it took.
fn lock(name: &str) -> String {
    format!("postgres-test-replay scratch {}", name.strip_suffix(REPLACED).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_given_here_are_taken_for_such() {
        for name in
            ["postgres_test_replay_restore_0123456789ab", "postgres_test_replay_verify_0123456789ab_old"]
        {
            assert!(is_scratch(name), "{name}");
        }
        for name in [
            "postgres_test_replay",
            "postgres_test_replay_restore_of_mine",
            "postgres_test_replay_restore_0123456789ab_older",
            "postgres_test_replay_verify_0123456789AB",
            "my_postgres_test_replay_restore_0123456789ab",
        ] {
            assert!(!is_scratch(name), "{name}");
        }
        let name = "postgres_test_replay_restore_0123456789ab";
        assert_eq!(lock(name), lock(&format!("{name}{REPLACED}")));
    }
}
