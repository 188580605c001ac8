//! Proving that a session's history equals the primary, busy or not, or what was kept of it at a checkpoint.
//!
//! A snapshot of the primary that is tied to a position ([`super::snapshots`]) -> a database at that position
//! ([`place`]) -> the comparison -> what was found ([`report`]). A comparison that the primary's DDL got in the
//! way of is made again in another snapshot. [`job`] tells how far it is.

mod hashes;
mod job;
mod place;
mod report;

use std::{sync::Arc, time::Instant};

use ptr_capture::sequences::sample_sequences;
use ptr_log::{Session, TransactionQuery};
use ptr_model::{Operation, Position, SequenceState};
use ptr_postgres::{Dsn, Installation, SessionSettings, connect};
use ptr_replay::{
    snapshot::Exported,
    verify::{
        VerifyError, VerifyOptions, VerifyReport,
        sequences::{SequenceDifference, sequence_differences},
        verify,
    },
};

use super::{APPLICATION_NAME, Captured, Service, ServiceError, TiedSnapshot, blocking};
use crate::{
    backups::server_version,
    resource::verification::{Difference, Verified, Verify},
};

pub use job::Verification;
pub(super) use job::{Job, Verifications};
use place::Place;

/// How often a comparison is made again that the primary's DDL got in the way of.
const ATTEMPTS: usize = 3;

/// Connections to each side.
const JOBS: usize = 2;

/// What one comparison came to.
struct Compared {
    report: VerifyReport,
    sequences: Vec<SequenceDifference>,
    sequences_compared: usize,
}

impl Service {
    async fn compare_with_primary(
        &self,
        session: &Session,
        request: &Verify,
        job: &Job,
    ) -> Result<Verified, ServiceError> {
        let started = Instant::now();
        let captured = self.captured(Some(&session.database))?;
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            job.step("taking a snapshot of the primary");
            let lock = self.hold_session(session).await?;
            let tied = self.tied_snapshot(&captured).await?;
            let position = tied.position;
            let place = self.place_at(session, &captured, position, lock, job).await?;
            let compared = tokio::select! {
                compared = self.compare(&captured, session, &tied, &place, request, job) => compared,
                () = job.cancel.cancelled() => Err(stopped()),
            };
            if job.cancel.is_cancelled() {
                job.end_sessions(&[tied.exported.dsn(), &place.dsn]).await;
            }
            let (scratch, database) = (place.is_scratch(), place.dsn.database().to_owned());
            place.leave().await?;
            tied.exported.close().await;
            match compared {
                Ok(Ok(compared)) => {
                    let mut verified =
                        answer(session, position, &compared, "primary".into(), "the primary", started);
                    (verified.scratch, verified.compared_database) = (scratch, database);
                    verified.notes.extend(self.decided_at(session, position).await?);
                    return Ok(verified);
                }
                Ok(Err(disturbed)) => why = disturbed,
                Err(error) => return Err(error),
            }
        }
        Err(ServiceError::precondition(
            format!("the primary's schema changed during each of {ATTEMPTS} comparisons: {why}"),
            "verify again when the migration is over",
        ))
    }

    /// The inner `Err` says what the primary did that makes the comparison void.
    async fn compare(
        &self,
        captured: &Arc<Captured>,
        session: &Session,
        tied: &TiedSnapshot,
        place: &Place,
        request: &Verify,
        job: &Job,
    ) -> Result<Result<Compared, String>, ServiceError> {
        let servers = [tied.exported.dsn(), &place.dsn];
        let options =
            self.verify_options(&captured.database, &servers, request, &job.application_name).await?;
        let replica = Exported::open(&place.dsn).await?;
        let outcome = job.told(verify(&tied.exported, &replica, &options, &job.compared)).await;
        let report = match outcome {
            Ok(report) => report,
            Err(VerifyError::Disturbed { table, source }) => return Ok(Err(format!("{table}: {source}"))),
            // pg_dump fails on what is dropped while it reads.
            Err(error @ VerifyError::Dump { .. }) => {
                let (after, _) = self.marker_and_sequences(captured).await?;
                return match self.has_ddl(captured, tied.position, after).await? {
                    true => Ok(Err(error.to_string())),
                    false => Err(error.into()),
                };
            }
            Err(error) => return Err(error.into()),
        };
        let (after, primary) = self.marker_and_sequences(captured).await?;
        if !report.disturbed.is_empty() {
            return Ok(Err(format!("{} was truncated, rewritten or dropped", report.disturbed.join(", "))));
        }
        if !report.schema.is_empty() && self.has_ddl(captured, tied.position, after).await? {
            return Ok(Err(format!("DDL was captured between {} and {after}", tied.position)));
        }
        let (sequences, sequences_compared) =
            self.compare_sequences(session, &replica, tied.position, Some(&primary)).await?;
        replica.close().await;
        Ok(Ok(Compared { report, sequences, sequences_compared }))
    }

    async fn has_ddl(
        &self,
        captured: &Arc<Captured>,
        from: Position,
        to: Position,
    ) -> Result<bool, ServiceError> {
        let query = TransactionQuery {
            since: Some(from.ordinal),
            until: Some(to.ordinal),
            operations: vec![Operation::Ddl],
            limit: 1,
            ..TransactionQuery::default()
        };
        Ok(!captured.read(move |log| log.transactions(&query)).await?.is_empty())
    }

    async fn compare_sequences(
        &self,
        session: &Session,
        replica: &Exported,
        position: Position,
        primary: Option<&[SequenceState]>,
    ) -> Result<(Vec<SequenceDifference>, usize), ServiceError> {
        let (catalog, database) = (self.catalog.clone(), session.database.clone());
        let sample = blocking(move || catalog.sequences_at(&database, position)).await??;
        let found = sample_sequences(replica.connection()).await?;
        let differences = sequence_differences(replica, &found, sample.as_ref(), position, primary).await?;
        Ok((differences, found.len()))
    }

    async fn verify_options(
        &self,
        database: &str,
        servers: &[&Dsn],
        request: &Verify,
        application_name: &str,
    ) -> Result<VerifyOptions, ServiceError> {
        Ok(VerifyOptions {
            installation: self.installation_for("pg_dump", servers).await?,
            publication: self.on_primary(database)?.publication,
            jobs: request.jobs.unwrap_or(JOBS),
            application_name: application_name.to_owned(),
        })
    }

    /// The programs that all of these servers accept.
    pub(super) async fn installation_for(
        &self,
        program: &'static str,
        servers: &[&Dsn],
    ) -> Result<Installation, ServiceError> {
        let mut major = 0;
        for dsn in servers {
            let connection = connect(dsn, &SessionSettings::named(APPLICATION_NAME)).await?;
            major = major.max(server_version(&connection).await?.major);
            connection.close().await;
        }
        let path = self.programs()?.client_program(program, major)?;
        let folder = path.parent().map(std::path::Path::to_owned).unwrap_or_default();
        Ok(Installation::at(&folder)?)
    }
}

fn left_out(report: &VerifyReport) -> Vec<String> {
    if report.left_out.is_empty() {
        return Vec::new();
    }
    vec![format!("the rows of {} are not captured, so not compared", report.left_out.join(", "))]
}

fn stopped() -> ServiceError {
    ServiceError::precondition(
        "the verification was stopped",
        "nothing was changed; verify again when there is time",
    )
}

/// `first` is what the side that is compared with is called in sentences.
fn answer(
    session: &Session,
    position: Position,
    compared: &Compared,
    against: String,
    first: &str,
    started: Instant,
) -> Verified {
    let Compared { report, sequences, sequences_compared } = compared;
    let details = report::details(report, sequences);
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Verified {
        equal: details.is_empty(),
        session_id: session.id.to_string(),
        position: position.into(),
        against,
        compared_database: String::new(),
        scratch: false,
        tables: count(report.tables.len()),
        rows: report.tables.iter().filter_map(|table| table.primary_rows).sum(),
        sequences: count(*sequences_compared),
        differences: details.iter().map(|one: &Difference| report::line(one, first)).collect(),
        details,
        notes: left_out(report),
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
