//! How everything stands. What does not answer is part of the answer.

use std::time::Duration;

use ptr_capture::source::{SchemaCapture, SourceRecord};
use ptr_log::Log;
use ptr_model::{Position, Timestamp};
use ptr_postgres::{Connection, Dsn, SessionSettings, connect};

use super::{
    APPLICATION_NAME, Captured, Service, ServiceError, capturing::listener_elsewhere, lock, positions::now,
};
use crate::resource::status::{
    DatabaseStatus, LogStatus, Readiness, RecentStatus, ServerStatus, SlotStatus, Status, TableStatus,
};

/// How long a server may take before the status says that it does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What counts as lately, for rates.
const RECENT_SECONDS: u32 = 60;

/// Tables that the status lists, those with the most entries.
const TABLES: usize = 100;

impl Service {
    /// `GET /api/status`.
    pub async fn status(&self) -> Status {
        let look = async { Ok::<_, std::convert::Infallible>(self.look_around().await) };
        match self.latest_status.get(look).await {
            Ok(status) => status,
            Err(never) => match never {},
        }
    }

    async fn look_around(&self) -> Status {
        let input_dsn = self.input().ok().map(|dsn| dsn.with_database(self.configuration.default_database()));
        let (input, primary) = look(input_dsn, self.configuration.input.is_none()).await;
        let output_dsn = self.output().ok().cloned();
        // The default session's database may not be there yet; the server may be all the same.
        let (mut output, _) = look(
            output_dsn.as_ref().map(|dsn| dsn.with_database("postgres")),
            self.configuration.output.is_none(),
        )
        .await;
        output.dsn = output_dsn.map_or_else(|| output.dsn.clone(), |dsn| dsn.to_string());
        let mut databases = Vec::new();
        for database in &self.configuration.databases {
            databases.push(self.database_status(database, primary.as_ref(), output.connected).await);
        }
        let slots = databases.iter().filter_map(|one| one.slot.as_ref());
        let kept = slots.filter_map(|slot| self.slot_warning(&slot.name, slot.retained_bytes));
        let told = kept.chain(databases.iter().filter_map(forged_told));
        let mut told: Vec<String> = told.chain(self.certificate_told()).collect();
        for one in &databases {
            told.extend(self.ahead_told(one).await);
        }
        let told = [self.followers_told().await, told].concat();
        let session = match self.session_named(None).await {
            Ok(session) => Some(self.session_answer(&session).await),
            Err(_) => None,
        };
        let (url, address) = (self.url(), lock(&self.address).clone());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: self.role.name().to_owned(),
            address,
            url,
            data_directory: self.configuration.data.root().display().to_string(),
            input,
            output,
            databases,
            earlier: self.earlier().into_iter().map(|(name, _)| name).collect(),
            session,
            retention: self.retention_status(),
            warnings: [lock(&self.warnings).clone(), self.limits_told(), told].concat(),
        }
    }

    /// `GET /ready`.
    pub async fn readiness(&self) -> Readiness {
        let status = self.status().await;
        let mut problems = Vec::new();
        for (end, server) in [("input", &status.input), ("output", &status.output)] {
            // An API alone serves its log without the primary.
            if !server.connected && (end == "output" || self.role.captures()) {
                problems.push(format!("the {end} server does not answer"));
            }
        }
        for one in &status.databases {
            let state = one.listener.state.as_str();
            if self.role.captures() && !matches!(state, "streaming" | "catching_up") {
                problems.push(format!("{} is not captured: the listener is {state}", one.database));
            }
            if one.log_error.is_some() {
                problems.push(format!("the log of {} cannot be read", one.database));
            }
        }
        Readiness { ready: problems.is_empty(), problems }
    }

    /// Said with every status, as long as set-up could make no event triggers.
    fn without_schema_changes(&self, database: &str) -> Option<String> {
        let record = SourceRecord::load(&self.configuration.data.source_record(database)).ok()??;
        match record.schema_capture {
            SchemaCapture::On => None,
            SchemaCapture::Off { reason } => Some(format!(
                "schema changes are inferred only: new names of tables and wider varchar; any other stops replay ({reason})"
            )),
        }
    }

    async fn database_status(
        &self,
        database: &str,
        primary: Option<&Connection>,
        output_answers: bool,
    ) -> DatabaseStatus {
        let slot = match primary {
            Some(primary) => match self.on_primary(database) {
                Ok(names) => slot_status(primary, &names.slot).await,
                Err(error) => Some(untold(database, error)),
            },
            None => None,
        };
        let mut status = DatabaseStatus {
            database: database.to_owned(),
            captured: false,
            creation: None,
            head: None,
            schema_changes: self.without_schema_changes(database),
            listener: listener_elsewhere(&self.configuration.data.listener_file(database)),
            slot,
            log: None,
            keyframes: None,
            log_error: None,
        };
        if let Ok(captured) = self.captured(Some(database)) {
            status.captured = true;
            status.creation = Some(captured.log.creation().into());
            status.listener = captured.listener();
            if output_answers {
                status.keyframes = self.keyframe_list(&captured).await.ok();
            }
            match log_status(&captured).await {
                Ok((head, log)) => {
                    status.head = Some(head.into());
                    status.log = Some(log);
                }
                Err(error) => status.log_error = Some(error.to_string()),
            }
        }
        status
    }
}

impl Service {
    /// What is between is in no log, and nothing else tells of it. A listener knows of it before it is noted.
    async fn ahead_told(&self, one: &DatabaseStatus) -> Option<String> {
        let at = match one.listener.details["progress"]["slot_ahead"].as_str() {
            Some(at) => at.to_owned(),
            None => {
                let captured = self.captured(Some(&one.database)).ok()?;
                captured.read(Log::holes).await.ok()?.last()?.until.to_string()
            }
        };
        Some(format!(
            "{}: the slot was at {at} when capture began, beyond all that this log was given: somebody else read from it or \
             advanced it, or the data directory is an old copy; what committed in between, if anything, is missing. verify \
             compares; teardown, then up, begin anew",
            one.database
        ))
    }
}

/// Somebody tries to be taken for us, or another set-up of ours writes there.
fn forged_told(one: &DatabaseStatus) -> Option<String> {
    let count = one.listener.details["progress"]["ignored_messages"].as_u64().filter(|count| *count > 0)?;
    Some(format!(
        "{}: {count} messages with our prefix were not ours and were ignored; any role can send them \
         (pg_logical_emit_message), and docs/security.md says why they do nothing",
        one.database
    ))
}

async fn log_status(captured: &Captured) -> Result<(Position, LogStatus), ServiceError> {
    let (now, lately) = (now().0, i64::from(RECENT_SECONDS) * 1_000_000);
    // The primary's clock may be before ours, a little. What is further on was committed before a clock was set back.
    let (since, until) = (Timestamp(now.saturating_sub(lately)), Timestamp(now.saturating_add(lately)));
    let (head, statistics, newest, recent) = captured
        .read(move |log| {
            let head = log.head()?;
            let last = head.ordinal.checked_sub(1);
            let newest = last.map(|ordinal| log.transaction(ordinal)).transpose()?.flatten();
            Ok((head, log.statistics()?, newest, log.only_within(since, until)?))
        })
        .await?;
    let mut tables = statistics.tables;
    tables.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.total()));
    tables.truncate(TABLES);
    let status = LogStatus {
        transactions: statistics.transactions,
        entries: statistics.counts.total(),
        counts: statistics.counts.into(),
        tables: tables
            .into_iter()
            .map(|(table, counts)| TableStatus { table, counts: counts.into() })
            .collect(),
        segments: statistics.segments,
        bytes: statistics.segment_bytes,
        newest: newest.map(|transaction| transaction.header.commit_time.to_string()),
        recent: RecentStatus {
            seconds: RECENT_SECONDS.into(),
            transactions: head.ordinal.saturating_sub(recent.ordinal),
            entries: head.entry_index.saturating_sub(recent.entry_index),
        },
    };
    Ok((head, status))
}

/// Whether a server answers; the connection is kept for further questions.
async fn look(dsn: Option<Dsn>, embedded: bool) -> (ServerStatus, Option<Connection>) {
    let mut status = ServerStatus {
        dsn: "embedded, not made yet".into(),
        embedded,
        connected: false,
        version: None,
        error: None,
    };
    let Some(dsn) = dsn else { return (status, None) };
    status.dsn = dsn.to_string();
    let settings = SessionSettings::named(APPLICATION_NAME);
    let connection = match tokio::time::timeout(PATIENCE, connect(&dsn, &settings)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            status.error = Some(error.to_string());
            return (status, None);
        }
        Err(_) => {
            status.error = Some(format!("it does not answer within {} s", PATIENCE.as_secs()));
            return (status, None);
        }
    };
    status.connected = true;
    if let Ok(row) = connection.query_one("SHOW server_version", &[]).await {
        status.version = Some(row.get(0));
    }
    (status, Some(connection))
}

/// A question that is refused, for want of a right, is told in the slot's place.
pub(super) async fn slot_status(primary: &Connection, name: &str) -> Option<SlotStatus> {
    ask_slot(primary, name).await.unwrap_or_else(|error| Some(untold(name, ServiceError::from(error))))
}

fn untold(name: &str, error: ServiceError) -> SlotStatus {
    SlotStatus { name: name.to_owned(), error: Some(error.to_string()), ..SlotStatus::default() }
}

async fn ask_slot(primary: &Connection, name: &str) -> Result<Option<SlotStatus>, tokio_postgres::Error> {
    // A standby writes no WAL, and refuses to say where it would. `inactive_since` is there from 17 on.
    let sql = "SELECT slot.active, slot.wal_status,
                      pg_catalog.pg_wal_lsn_diff(now.lsn, slot.confirmed_flush_lsn)::bigint,
                      pg_catalog.pg_wal_lsn_diff(now.lsn, slot.restart_lsn)::bigint,
                      (1000 * EXTRACT(epoch FROM coalesce(reader.flush_lag, pg_catalog.clock_timestamp()
                         - (pg_catalog.to_jsonb(slot) ->> 'inactive_since')::timestamptz)))::bigint
               FROM pg_catalog.pg_replication_slots slot
               LEFT JOIN pg_catalog.pg_stat_replication reader ON reader.pid = slot.active_pid, LATERAL (SELECT
                      CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                           ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) now
               WHERE slot.slot_name = $1";
    let Some(row) = primary.query_opt(sql, &[&name]).await? else { return Ok(None) };
    let number = |index: usize| {
        row.get::<_, Option<i64>>(index).map(|number| u64::try_from(number).unwrap_or_default())
    };
    let lag_bytes = number(2);
    Ok(Some(SlotStatus {
        name: name.to_owned(),
        active: row.get(0),
        wal_status: row.get(1),
        lag_bytes,
        // The last measurement stays for a while; where nothing waits, nothing has waited.
        lag_ms: if lag_bytes == Some(0) { Some(0) } else { number(4) },
        retained_bytes: number(3),
        error: None,
    }))
}
