//! Whether a replication connection comes about, by opening one: rights alone mislead on managed servers.

use ptr_postgres::{ConnectError, quote_identifier, sqlstate::SqlState};

use super::{Finding, connection_hint};
use crate::{
    source::SourceOptions,
    transport::{ReplicationConnection, TransportError},
};

pub(super) async fn check(options: &SourceOptions) -> Option<Finding> {
    let error = match ReplicationConnection::connect(&options.dsn).await {
        Ok(connection) => {
            // The server ends the session when the stream closes, whatever the goodbye did.
            let _ = connection.close().await;
            return None;
        }
        Err(error) => error,
    };
    Some(refused(options, &error))
}

fn refused(options: &SourceOptions, error: &TransportError) -> Finding {
    let role = quote_identifier(options.dsn.user());
    let title = "a replication connection is refused, though an ordinary one is not";
    match error.server_error().map(|error| error.sqlstate.clone()) {
        Some(state) if state == SqlState::INSUFFICIENT_PRIVILEGE => {
            Finding::error("replication_right", format!("role {role} may not replicate"))
                .means(format!("nothing can be captured: {error}"))
                .fix(format!("ALTER ROLE {role} REPLICATION; on RDS: GRANT rds_replication TO {role}"))
        }
        Some(state)
            if state == SqlState::TOO_MANY_CONNECTIONS || state == SqlState::CONFIGURATION_LIMIT_EXCEEDED =>
        {
            Finding::error("senders", "all walsenders are in use")
                .means(format!("nothing can be captured: {error}"))
                .fix(
                    "end one that is not needed (SELECT pid, application_name FROM pg_stat_replication), or: \
                     ALTER SYSTEM SET max_wal_senders = 20; then restart the server",
                )
        }
        Some(state) if state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Finding::error(
            "replication_login",
            title,
        )
        .means(error.to_string())
        .fix(format!(
            "pg_hba.conf needs a line for database {:?} and role {role}; a line for \"replication\" is for \
                 physical replication only",
            options.dsn.database()
        )),
        // Poolers answer so to a startup parameter that they do not know.
        Some(state) if state == SqlState::PROTOCOL_VIOLATION || state == SqlState::FEATURE_NOT_SUPPORTED => {
            pooler(error)
        }
        Some(_) => Finding::error("replication_login", title).means(error.to_string()).fix(login_fix()),
        None => pooler(error),
    }
}

fn pooler(error: &TransportError) -> Finding {
    Finding::error("pooler", "no replication connection comes about, though an ordinary one does")
        .means(format!("this looks like a pooler, which does not pass replication on: {error}"))
        .fix(login_fix())
}

fn login_fix() -> &'static str {
    "set INPUT_DSN to the server's own port (5432), not the pooler's (6432 or 6543)"
}

/// An ordinary connection that did not come about.
pub(super) fn unreachable(code: &'static str, setting: &str, error: &ConnectError) -> Finding {
    Finding::error(code, format!("no connection to the server of {setting}"))
        .means(error.to_string())
        .fix(connection_hint(error))
}
