//! Hashes of the primary at a checkpoint: taken, and compared with later.

use std::{sync::Arc, time::Instant};

use ptr_log::{SequenceSample, Session};
use ptr_model::Position;
use ptr_replay::{
    snapshot::Exported,
    verify::{KeptHashes, VerifyError, VerifyProgress, hash},
};
use tokio::sync::watch;

use super::{ATTEMPTS, Compared, Job, Place, answer, stopped};
use crate::{
    resource::verification::{Verified, Verify},
    service::{APPLICATION_NAME, Captured, Service, ServiceError},
};

impl Service {
    /// Hashes the primary as it is now, and says at which position that is.
    pub(in crate::service) async fn hash_primary(
        &self,
        captured: &Arc<Captured>,
    ) -> Result<(Position, KeptHashes), ServiceError> {
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            // Where sequences moved alone since one was sampled, what follows has a position of its own.
            self.marker_position(captured).await?;
            let tied = self.tied_snapshot(captured).await?;
            // After the position, so that it is never behind.
            let (_, states) = self.marker_and_sequences(captured).await?;
            let servers = [tied.exported.dsn(), self.output()?];
            let options = self
                .verify_options(&captured.database, &servers, &Verify::default(), APPLICATION_NAME)
                .await?;
            let (progress, _) = watch::channel(VerifyProgress::default());
            let outcome = hash(&tied.exported, &options, &progress).await;
            let (after, _) = self.marker_and_sequences(captured).await?;
            tied.exported.close().await;
            match outcome {
                Ok((_, disturbed)) if !disturbed.is_empty() => {
                    why = format!("{} was truncated, rewritten or dropped", disturbed.join(", "));
                }
                Ok(_) if self.has_ddl(captured, tied.position, after).await? => {
                    why = format!("DDL was captured between {} and {after}", tied.position);
                }
                Ok((hashes, _)) => {
                    let sample = SequenceSample { position: tied.position, states };
                    self.keep_sequences(&captured.database, sample).await?;
                    return Ok((tied.position, hashes));
                }
                Err(error @ VerifyError::Dump { .. })
                    if self.has_ddl(captured, tied.position, after).await? =>
                {
                    why = error.to_string();
                }
                Err(VerifyError::Disturbed { table, source }) => why = format!("{table}: {source}"),
                Err(error) => return Err(error.into()),
            }
        }
        Err(ServiceError::precondition(
            format!("the primary's schema changed each of {ATTEMPTS} times while it was hashed: {why}"),
            "make the checkpoint again when the migration is over, or without hashes",
        ))
    }

    /// Compares a session's history at a checkpoint with what was kept there. Asks nothing of the primary.
    pub(super) async fn compare_with_kept(
        &self,
        session: &Session,
        checkpoint: &str,
        request: &Verify,
        job: &Job,
    ) -> Result<Verified, ServiceError> {
        let started = Instant::now();
        let captured = self.captured(Some(&session.database))?;
        let checkpoint = self.find_in(&captured, checkpoint).await?.ok_or_else(|| {
            ServiceError::not_found("checkpoint", checkpoint, "checkpoint list shows those that there are")
        })?;
        let (name, position) = (checkpoint.name, checkpoint.position);
        let Some(text) = checkpoint.hash.as_deref() else {
            return Err(ServiceError::precondition(
                format!("no hashes were kept at checkpoint {name:?}"),
                "checkpoint create NAME --hash keeps them; verify without --at compares with the primary",
            ));
        };
        let Some(kept) = KeptHashes::parse(text) else {
            return Err(ServiceError::precondition(
                format!(
                    "the hashes that were kept at checkpoint {name:?} are of a form that this version does not know"
                ),
                "use the version that kept them; verify without --at compares with the primary",
            ));
        };
        let lock = self.hold_session(session).await?;
        let place = self.place_at(session, &captured, position, lock, job).await?;
        let compared = tokio::select! {
            compared = self.compare_kept(session, &kept, position, &place, request, job) => compared,
            () = job.cancel.cancelled() => Err(stopped()),
        };
        if job.cancel.is_cancelled() {
            job.end_sessions(&[&place.dsn]).await;
        }
        let (scratch, database) = (place.is_scratch(), place.dsn.database().to_owned());
        place.leave().await?;
        let (compared, notes) = compared?;
        let first = format!("checkpoint {name}");
        let mut verified = answer(session, position, &compared, first.clone(), &first, started);
        (verified.scratch, verified.compared_database) = (scratch, database);
        verified.notes.extend(notes);
        verified.notes.extend(self.decided_at(session, position).await?);
        if compared.report.tables.iter().any(|table| !table.is_equal()) {
            let note = "rows cannot be named: only hashes of whole tables are kept at a checkpoint";
            verified.notes.push(note.into());
        }
        Ok(verified)
    }

    async fn compare_kept(
        &self,
        session: &Session,
        kept: &KeptHashes,
        position: Position,
        place: &Place,
        request: &Verify,
        job: &Job,
    ) -> Result<(Compared, Vec<String>), ServiceError> {
        let options =
            self.verify_options(&session.database, &[&place.dsn], request, &job.application_name).await?;
        let options = match self.programs()?.client_program("pg_dump", kept.pg_dump) {
            Ok(program) if options.installation.version.major < kept.pg_dump => {
                let folder = program.parent().map(std::path::Path::to_owned).unwrap_or_default();
                let installation = ptr_postgres::Installation::at(&folder)?;
                ptr_replay::verify::VerifyOptions { installation, ..options }
            }
            _ => options,
        };
        let replica = Exported::open(&place.dsn).await?;
        let (found, _) = job.told(hash(&replica, &options, &job.compared)).await?;
        let report = kept.compare(&found);
        let (sequences, sequences_compared) =
            self.compare_sequences(session, &replica, position, None).await?;
        replica.close().await;
        let notes = kept.why_no_schema(&found).map(|why| format!("the schema was not compared: {why}"));
        Ok((Compared { report, sequences, sequences_compared }, notes.into_iter().collect()))
    }
}
