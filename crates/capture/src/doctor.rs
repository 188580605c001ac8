//! What stands in the way of capture and replay, found before anything is changed.
//!
//! Each [`Finding`] says what is wrong, what it means, and the exact fix. [`check_primary`] and [`check_output`]
//! change nothing; [`fix()`] does what a finding marked as fixable says. Set-up runs the same checks and refuses
//! on errors.

mod finding;
mod fix;
mod limits;
mod output;
mod replication;
mod rights;
mod server;
mod slots;
mod standbys;
mod tables;

pub(crate) use finding::list;
pub use finding::{Finding, Severity};
pub use fix::{FixError, fix};
pub use output::{OutputOptions, check_output};

use ptr_postgres::{ConnectError, Connection, SessionSettings, connect};

use crate::source::{ServerFacts, SourceError, SourceOptions};

/// Everything there is to say about the primary.
///
/// Never fails: what cannot be asked is a finding too.
pub async fn check_primary(options: &SourceOptions) -> Vec<Finding> {
    let connection =
        match connect(&options.dsn, &SessionSettings::canonical("postgres-test-replay doctor")).await {
            Ok(connection) => connection,
            Err(error) => return vec![replication::unreachable("primary_connection", "INPUT_DSN", &error)],
        };
    let checked = async {
        let facts = ServerFacts::ask(&connection).await?;
        check_server(&connection, &facts, options).await
    };
    checked.await.unwrap_or_else(|error| vec![unanswered(&error)])
}

/// [`check_primary`] on a connection that is there.
pub(crate) async fn check_server(
    connection: &Connection,
    facts: &ServerFacts,
    options: &SourceOptions,
) -> Result<Vec<Finding>, SourceError> {
    let mut findings = server::check(connection, facts, options).await?;
    let is_logical = !findings.iter().any(|finding| finding.code == "wal_level");
    findings.extend(replication::check(options).await);
    findings.extend(slots::check(connection, options, is_logical).await?);
    findings.extend(tables::check(connection, facts, options).await?);
    findings.extend(rights::check(connection, facts).await?);
    findings.extend(limits::check(connection).await?);
    Ok(findings)
}

fn unanswered(error: &SourceError) -> Finding {
    Finding::error("question_refused", "the server did not answer a question")
        .means(error.to_string())
        .fix("give the role the right to read the system catalogs, or use another role")
}

/// What to do about a connection that did not come about, for `INPUT_DSN` and `OUTPUT_DSN` alike.
fn connection_hint(error: &ConnectError) -> String {
    error.hint().to_owned()
}
