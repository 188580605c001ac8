//! Before streaming: is this the server, database, slot and publication that the log was begun with?

use std::time::Duration;

use ptr_model::{Lsn, MarkerToken};
use ptr_postgres::{Dsn, SessionSettings, connect, quote_literal};

use super::{
    Covered, ListenError, ListenerOptions,
    error::{MarkerError, SetupError, at_start},
    writer::Opened,
};
use crate::{
    source::emit_marker,
    transport::{ReplicationConnection, ReplicationStream},
};

/// The oldest server: `messages` came with it.
const OLDEST_VERSION: u32 = 140_000;
/// A status goes out this often at least.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// And never more often without a reason.
const SHORTEST_STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// A server that is busy for a moment is not dead. As long as PostgreSQL's own subscriptions wait (`wal_receiver_timeout`).
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
const SHORTEST_SILENCE: Duration = Duration::from_secs(5);

/// A stream that runs.
pub(super) struct Stream {
    pub(super) stream: ReplicationStream,
    /// Where it begins.
    pub(super) from: Lsn,
    pub(super) primary: Primary,
}

/// What was learnt from a primary that is the right one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Primary {
    /// How often the server must hear from us.
    pub(super) status_interval: Duration,
    /// How long it may say nothing.
    pub(super) silence: Duration,
    /// How far the server was when it was asked.
    pub(super) flushed: Lsn,
    /// What its slot is beyond, if it is beyond everything that was received.
    pub(super) slot_ahead: Option<Ahead>,
}

/// A slot that is beyond everything that was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ahead {
    /// Everything that committed before was received.
    pub(super) received: Lsn,
    /// Where the slot is.
    pub(super) slot: Lsn,
    /// Whether the log is certain of what it received.
    pub(super) is_certain: bool,
}

/// Checks that it is the primary with everything that set-up made.
pub(super) async fn check(
    connection: &mut ReplicationConnection,
    options: &ListenerOptions,
    log: &Opened,
    received: Lsn,
) -> Result<Primary, ListenError> {
    if connection.is_in_recovery() {
        return Err(SetupError::InRecovery.into());
    }
    let system = connection.identify_system().await?;
    if system.system_identifier != log.identity.system_identifier {
        let (expected, found) = (log.identity.system_identifier, system.system_identifier);
        return Err(SetupError::OtherCluster { expected, found }.into());
    }
    if system.timeline != log.identity.timeline {
        let (expected, found) = (log.identity.timeline, system.timeline);
        return Err(SetupError::OtherTimeline { expected, found }.into());
    }
    let (status_interval, silence) = check_database(connection, options, log).await?;
    let confirmed = check_slot(connection, options).await?;
    let slot_ahead = confirmed.and_then(|slot| ahead(log.covered, received, slot));
    if let Some(Ahead { received, slot: confirmed, .. }) = slot_ahead {
        tracing::warn!(
            %confirmed, log = %received,
            "slot {} is beyond the log: what committed in between is not in it, if anything did; somebody else read from \
             the slot, or the data directory is an old copy",
            options.slot
        );
    }
    Ok(Primary { status_interval, silence, flushed: system.flush_lsn, slot_ahead })
}

/// Starts the stream at the end of what was received.
pub(super) async fn start(
    connection: ReplicationConnection,
    options: &ListenerOptions,
    primary: Primary,
    from: Lsn,
) -> Result<Stream, ListenError> {
    let stream = connection
        .start(&options.slot, &options.publication, from)
        .await
        .map_err(|error| at_start(error, &options.slot, options.dsn.user()))?;
    Ok(Stream { stream, from, primary })
}

/// One row of text, which is there because of how the query is made.
async fn row(
    connection: &mut ReplicationConnection,
    sql: &str,
) -> Result<Option<Vec<Option<String>>>, ListenError> {
    Ok(connection.query(sql).await?.into_iter().next())
}

/// Version, database and publication; answers with how often the server must hear from us, and we from it.
async fn check_database(
    connection: &mut ReplicationConnection,
    options: &ListenerOptions,
    log: &Opened,
) -> Result<(Duration, Duration), ListenError> {
    let sql = format!(
        "SELECT pg_catalog.current_setting('server_version_num'), \
         (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()), \
         (SELECT count(*) FROM pg_catalog.pg_publication WHERE pubname = {}), \
         (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout')",
        quote_literal(&options.publication)
    );
    let row = row(connection, &sql).await?.unwrap_or_default();
    let field = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    if field(0).parse().map_or(true, |version: u32| version < OLDEST_VERSION) {
        return Err(SetupError::Version { found: field(0) }.into());
    }
    if field(1) != log.identity.database_oid.to_string() {
        return Err(SetupError::OtherDatabase { database: options.dsn.database().to_owned() }.into());
    }
    if field(2) == "0" {
        return Err(SetupError::PublicationMissing { publication: options.publication.clone() }.into());
    }
    let timeout_ms = field(3).parse().unwrap_or(0);
    Ok((status_interval(timeout_ms), silence(timeout_ms)))
}

/// A third of `wal_sender_timeout` (milliseconds, 0 for none), so that one late status does no harm.
fn status_interval(timeout_ms: u64) -> Duration {
    match timeout_ms {
        0 => STATUS_INTERVAL,
        timeout => Duration::from_millis(timeout / 3).clamp(SHORTEST_STATUS_INTERVAL, STATUS_INTERVAL),
    }
}

/// How long a server may say nothing, though it is asked: as long as it grants us itself.
fn silence(timeout_ms: u64) -> Duration {
    match timeout_ms {
        0 => LONGEST_SILENCE,
        timeout => Duration::from_millis(timeout).clamp(SHORTEST_SILENCE, LONGEST_SILENCE),
    }
}

/// That it is there and free; answers with how far it is confirmed.
async fn check_slot(
    connection: &mut ReplicationConnection,
    options: &ListenerOptions,
) -> Result<Option<Lsn>, ListenError> {
    let sql = format!(
        "SELECT wal_status, active_pid, confirmed_flush_lsn FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = {} AND database = pg_catalog.current_database() AND plugin = 'pgoutput'",
        quote_literal(&options.slot)
    );
    let slot = options.slot.clone();
    let Some(row) = row(connection, &sql).await? else {
        return Err(SetupError::SlotMissing { slot }.into());
    };
    let field = |at: usize| row.get(at).cloned().flatten();
    if field(0).as_deref() == Some("lost") {
        return Err(SetupError::SlotLost { slot, reason: "wal_status is lost".to_owned() }.into());
    }
    if let Some(pid) = field(1) {
        return Err(ListenError::SlotInUse { slot, pid: pid.parse().ok() });
    }
    Ok(field(2).and_then(|lsn| lsn.parse().ok()))
}

/// Nothing is confirmed that the log does not cover. Somebody read from the slot or advanced it, or an old copy of the log
/// was put back in its place; the server says nothing of it, and begins where the slot is. `received` is of this run.
fn ahead(covered: Covered, received: Lsn, slot: Lsn) -> Option<Ahead> {
    let (covered, is_certain) = match covered {
        Covered::Until(lsn) => (lsn, true),
        Covered::About(lsn) => (lsn, received > lsn),
        Covered::Unknown => return None,
    };
    let received = covered.max(received);
    (slot > received).then_some(Ahead { received, slot, is_certain })
}

/// Puts a marker into the stream over a connection of its own. Answers with a position of the WAL after it:
/// when the server has decoded that far, the marker must have come.
pub(super) async fn send_marker(dsn: Dsn, token: MarkerToken) -> Result<Lsn, MarkerError> {
    let connection = connect(&dsn, &SessionSettings::canonical(ptr_model::OUR_SCHEMA).that_writes()).await?;
    emit_marker(&connection, token).await?;
    let row = connection.query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[]).await?;
    let lsn: String = row.try_get(0)?;
    connection.close().await;
    // Not knowing it only means not noticing that the marker is lost.
    Ok(lsn.parse().unwrap_or(Lsn(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_hears_from_us_three_times_within_its_patience() {
        assert_eq!(status_interval(60_000), STATUS_INTERVAL);
        assert_eq!(status_interval(2_000), Duration::from_millis(666));
        assert_eq!(status_interval(1), SHORTEST_STATUS_INTERVAL);
        assert_eq!(status_interval(0), STATUS_INTERVAL);
    }

    #[test]
    fn a_slot_is_ahead_only_of_a_log_that_knows_what_it_received() {
        let (before, log, slot) = (Lsn(5), Lsn(7), Lsn(9));
        let found = |is_certain| Some(Ahead { received: log, slot, is_certain });
        assert_eq!(ahead(Covered::Until(log), before, slot), found(true));
        assert_eq!(ahead(Covered::About(log), before, slot), found(false));
        assert_eq!(ahead(Covered::About(before), log, slot), found(true), "received in this run");
        assert_eq!(ahead(Covered::Unknown, log, slot), None);
        assert_eq!(ahead(Covered::Until(log), slot, slot), None);
    }
}
