//! Checkpoints: names for positions, two of which are there always.
//!
//! CREATION is where the log begins: where capture did, until `gc` removes the beginning. MIGRATION is worked out from the log each time it is asked for, until it is
//! pinned; what the catalog stores of the two is their ids, and the pin.

use std::sync::Arc;

use ptr_log::{Catalog, Checkpoint, CheckpointKind, Log, NewCheckpoint, crash_point};
use ptr_model::{LsnParseError, Position, PositionExpression, check_checkpoint_name};
use ptr_replay::verify::KeptHashes;
use uuid::Uuid;

use super::{Captured, Service, ServiceError, blocking};
use crate::resource::{
    checkpoint::{
        CheckpointAnswer, CheckpointHash, CheckpointKind as Kind, CheckpointQuery, CreateCheckpoint,
        PinMigration,
    },
    event::Event,
    session::Deleted,
};

/// The name of the one that can be pinned.
const MIGRATION: &str = "MIGRATION";

impl Service {
    /// `POST /api/checkpoints`.
    ///
    /// # Errors
    /// A name that is taken or reads like a position, a position outside the log, no listener for "now".
    pub async fn create_checkpoint(
        self: &Arc<Self>,
        request: CreateCheckpoint,
    ) -> Result<CheckpointAnswer, ServiceError> {
        check_checkpoint_name(&request.name)?;
        let session = match &request.session_id {
            Some(session) => Some(self.session_named(Some(session)).await?),
            None => None,
        };
        let database = request.database.clone().or(session.as_ref().map(|session| session.database.clone()));
        let _still = self.beginning.read().await;
        let captured = self.captured_or_active(database.as_deref()).await?;
        self.refuse_taken_name(&captured, &request.name).await?;
        let is_now = is_of_now(&request);
        let (position, hash) = match request.hash {
            true => {
                refuse_hashes_of_the_past(&request)?;
                let (position, hashes) = self.hash_primary(&captured).await?;
                (position, Some(hashes.to_text()))
            }
            false => (self.position_for(&captured, &request).await?, None),
        };
        let new = NewCheckpoint {
            name: request.name,
            database: captured.database.clone(),
            description: request.description.unwrap_or_default(),
            position,
            session_id: session.map(|session| session.id),
            hash,
        };
        let catalog = self.catalog.clone();
        crash_point("checkpoint");
        let checkpoint = blocking(move || catalog.create_checkpoint(&new)).await??;
        crash_point("checkpointed");
        if is_now {
            self.renew_sequences(&captured, checkpoint.position).await;
        }
        if captured.is_listened_here() {
            self.look_for_limits(&captured).await;
        }
        Ok(self.told_checkpoint(&checkpoint))
    }

    /// Before a marker is sent; the catalog refuses a name that is taken meanwhile.
    async fn refuse_taken_name(&self, captured: &Arc<Captured>, name: &str) -> Result<(), ServiceError> {
        let found = self.find_in(captured, name).await?;
        if found.is_none_or(|found| found.name != name) {
            return Ok(());
        }
        Err(ServiceError::precondition(
            format!("there is a checkpoint called {name:?} already"),
            "choose another name, or delete that one first",
        ))
    }

    async fn position_for(
        &self,
        captured: &Arc<Captured>,
        request: &CreateCheckpoint,
    ) -> Result<Position, ServiceError> {
        let CreateCheckpoint { at, lsn, entry_index, .. } = request;
        if let Some(at) = at {
            if lsn.is_some() || entry_index.is_some() {
                return Err(ServiceError::usage(
                    "at stands beside lsn or entry_index",
                    "give one or the other",
                ));
            }
            let session = match at.trim().starts_with('@') {
                true => self.ordinal_of(&self.session_named(request.session_id.as_deref()).await?).await?,
                false => None,
            };
            return self.resolve(captured, at, session).await;
        }
        let by_lsn = match lsn.as_deref().filter(|lsn| !lsn.is_empty()) {
            Some(lsn) => {
                let malformed =
                    |error: LsnParseError| ServiceError::usage(error.to_string(), "leave it out for now");
                let lsn = lsn.parse().map_err(malformed)?;
                Some(self.resolve_expression(captured, PositionExpression::Lsn(lsn), None).await?)
            }
            None => None,
        };
        let by_entry = match entry_index {
            Some(entry) => {
                Some(self.resolve_expression(captured, PositionExpression::Entry(*entry), None).await?)
            }
            None => None,
        };
        match (by_lsn, by_entry) {
            (Some(lsn), Some(entry)) if lsn != entry => Err(ServiceError::usage(
                format!("lsn names the position {lsn}, entry_index the position {entry}"),
                "give one of the two, or both of the same position",
            )),
            (Some(position), _) | (None, Some(position)) => Ok(position),
            (None, None) => self.marker_position(captured).await,
        }
    }

    /// All checkpoints of a database's log, the fixed two first, then by position.
    async fn all_checkpoints(&self, captured: &Arc<Captured>) -> Result<Vec<Checkpoint>, ServiceError> {
        let (log, catalog, database) =
            (captured.log.clone(), self.catalog.clone(), captured.database.clone());
        blocking(move || all(&log, &catalog, &database)).await?
    }

    /// `GET /api/checkpoints`.
    ///
    /// # Errors
    /// There is no such session or database.
    pub async fn checkpoints(&self, query: CheckpointQuery) -> Result<Vec<CheckpointAnswer>, ServiceError> {
        let session = match &query.session_id {
            Some(session) => Some(self.session_named(Some(session)).await?),
            None => None,
        };
        let database =
            query.database.as_deref().or(session.as_ref().map(|session| session.database.as_str()));
        let captured = match database {
            Some(database) => vec![self.captured(Some(database))?],
            None => self.all_captured(),
        };
        let mut answers = Vec::new();
        for captured in captured {
            let found = self.all_checkpoints(&captured).await?;
            let id = session.as_ref().map(|session| session.id);
            let listed =
                |c: &&Checkpoint| id.is_none() || c.kind != CheckpointKind::Manual || c.session_id == id;
            answers.extend(found.iter().filter(listed).map(answer));
        }
        Ok(answers)
    }

    /// `GET /api/checkpoints/{id}`.
    ///
    /// # Errors
    /// There is none of that id or name.
    pub async fn checkpoint(
        &self,
        name: &str,
        query: CheckpointQuery,
    ) -> Result<CheckpointAnswer, ServiceError> {
        Ok(answer(&self.checkpoint_named(name, &query).await?))
    }

    /// By id in any log, by name in the one that is meant.
    async fn checkpoint_named(
        &self,
        name: &str,
        query: &CheckpointQuery,
    ) -> Result<Checkpoint, ServiceError> {
        let missing =
            || ServiceError::not_found("checkpoint", name, "checkpoint list shows those that there are");
        if name.parse::<Uuid>().is_ok() && query.database.is_none() {
            let earlier = self.earlier().into_iter().map(|(name, _)| self.captured(Some(&name)));
            let earlier: Vec<_> = earlier.collect::<Result<_, _>>()?;
            for captured in self.all_captured().into_iter().chain(earlier) {
                if let Some(found) = self.find_in(&captured, name).await? {
                    return Ok(found);
                }
            }
            return Err(missing());
        }
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        self.find_in(&captured, name).await?.ok_or_else(missing)
    }

    pub(super) async fn find_in(
        &self,
        captured: &Arc<Captured>,
        name: &str,
    ) -> Result<Option<Checkpoint>, ServiceError> {
        let (log, catalog, database) =
            (captured.log.clone(), self.catalog.clone(), captured.database.clone());
        let name = name.to_owned();
        blocking(move || find(&log, &catalog, &database, &name)).await?
    }

    /// `PATCH /api/checkpoints/{id}`.
    ///
    /// # Errors
    /// A fixed one, a name that is taken or reads like a position.
    pub async fn rename_checkpoint(
        &self,
        name: &str,
        query: CheckpointQuery,
        to: &str,
    ) -> Result<CheckpointAnswer, ServiceError> {
        check_checkpoint_name(to)?;
        let checkpoint = self.manual(name, &query).await?;
        let (catalog, id, name) = (self.catalog.clone(), checkpoint.id, to.to_owned());
        blocking(move || catalog.rename_checkpoint(id, &name)).await??;
        Ok(self.told_checkpoint(&Checkpoint { name: to.to_owned(), ..checkpoint }))
    }

    /// `DELETE /api/checkpoints/{id}`.
    ///
    /// # Errors
    /// A fixed one, or none of that id or name.
    pub async fn delete_checkpoint(
        &self,
        name: &str,
        query: CheckpointQuery,
    ) -> Result<Deleted, ServiceError> {
        let checkpoint = self.manual(name, &query).await?;
        let (catalog, id) = (self.catalog.clone(), checkpoint.id);
        blocking(move || catalog.delete_checkpoint(id)).await??;
        let id = checkpoint.id.to_string();
        self.tell(Event::Deleted { resource: "checkpoint".into(), id: id.clone() });
        Ok(Deleted { status: "deleted".into(), id, name: checkpoint.name })
    }

    async fn manual(&self, name: &str, query: &CheckpointQuery) -> Result<Checkpoint, ServiceError> {
        let checkpoint = self.checkpoint_named(name, query).await?;
        if checkpoint.kind == CheckpointKind::Manual {
            return Ok(checkpoint);
        }
        Err(ServiceError::precondition(
            format!("{} is there always; it cannot be renamed or deleted", checkpoint.name),
            "checkpoint pin migration sets MIGRATION by hand",
        ))
    }

    /// `POST /api/checkpoints/migration/pin`.
    ///
    /// # Errors
    /// A position outside the log.
    pub async fn pin_migration(&self, request: PinMigration) -> Result<CheckpointAnswer, ServiceError> {
        let _still = self.beginning.read().await;
        let captured = self.captured_or_active(request.database.as_deref()).await?;
        let at = request.at.as_deref().unwrap_or(MIGRATION);
        let position = self.resolve(&captured, at, None).await?;
        let (catalog, database) = (self.catalog.clone(), captured.database.clone());
        blocking(move || catalog.pin_migration(&database, position)).await??;
        let pinned = self.find_in(&captured, MIGRATION).await?;
        let pinned =
            pinned.ok_or_else(|| ServiceError::Broken { detail: "MIGRATION is not there".into() })?;
        Ok(self.told_checkpoint(&pinned))
    }

    fn told_checkpoint(&self, checkpoint: &Checkpoint) -> CheckpointAnswer {
        let answer = answer(checkpoint);
        self.tell(Event::Checkpoint { checkpoint: answer.clone() });
        answer
    }
}

fn is_of_now(request: &CreateCheckpoint) -> bool {
    request.at.is_none() && request.lsn.as_deref().is_none_or(str::is_empty) && request.entry_index.is_none()
}

/// Only what the primary holds now can be hashed.
fn refuse_hashes_of_the_past(request: &CreateCheckpoint) -> Result<(), ServiceError> {
    if is_of_now(request) {
        return Ok(());
    }
    Err(ServiceError::precondition(
        "hashes can be kept of now only: the primary no longer has what it held at a position before",
        "leave out the position, or make the checkpoint without hashes",
    ))
}

/// All checkpoints of a log, the fixed two first, then by position.
fn all(log: &Log, catalog: &Catalog, database: &str) -> Result<Vec<Checkpoint>, ServiceError> {
    catalog.ensure_fixed_checkpoints(database, log.creation(), log.identity().created_at)?;
    let mut all = catalog.checkpoints(Some(database))?;
    let by_hand: Vec<Position> = all
        .iter()
        .filter(|c| c.kind == CheckpointKind::Manual)
        .map(|checkpoint| checkpoint.position)
        .collect();
    for checkpoint in &mut all {
        settle(log, checkpoint, || Ok(by_hand.clone()))?;
    }
    let rank = |kind| match kind {
        CheckpointKind::Creation => 0,
        CheckpointKind::Migration => 1,
        CheckpointKind::Manual => 2,
    };
    all.sort_by_key(|checkpoint| (rank(checkpoint.kind), checkpoint.position));
    Ok(all)
}

/// The checkpoint of that name or id. The others are not read: there may be many, and hashes of many tables with them.
pub(super) fn find(
    log: &Log,
    catalog: &Catalog,
    database: &str,
    name: &str,
) -> Result<Option<Checkpoint>, ServiceError> {
    let Some(mut found) = catalog.find_checkpoint(database, name)? else {
        if !CheckpointKind::FIXED.iter().any(|kind| kind.name().eq_ignore_ascii_case(name)) {
            return Ok(None);
        }
        // Nobody looked at the checkpoints of this log yet.
        let all = all(log, catalog, database)?;
        return Ok(all.into_iter().find(|checkpoint| checkpoint.name.eq_ignore_ascii_case(name)));
    };
    settle(log, &mut found, || Ok(catalog.positions_by_hand(database)?))?;
    Ok(Some(found))
}

/// Says where one of the fixed two is; `by_hand` gives where all others are.
fn settle(
    log: &Log,
    checkpoint: &mut Checkpoint,
    by_hand: impl FnOnce() -> Result<Vec<Position>, ServiceError>,
) -> Result<(), ServiceError> {
    match checkpoint.kind {
        CheckpointKind::Creation => {
            checkpoint.position = log.creation();
            if let Some(beginning) = log.beginning()? {
                let removed_at = beginning.removed_at;
                checkpoint.description =
                    format!("where the history begins since gc removed what was before, at {removed_at}");
            }
        }
        CheckpointKind::Migration if !checkpoint.pinned => {
            checkpoint.position = log.migration_position(&by_hand()?)?;
        }
        CheckpointKind::Migration | CheckpointKind::Manual => {}
    }
    Ok(())
}

fn answer(checkpoint: &Checkpoint) -> CheckpointAnswer {
    CheckpointAnswer {
        id: checkpoint.id.to_string(),
        name: checkpoint.name.clone(),
        kind: match checkpoint.kind {
            CheckpointKind::Creation => Kind::Creation,
            CheckpointKind::Migration => Kind::Migration,
            CheckpointKind::Manual => Kind::Manual,
        },
        description: checkpoint.description.clone(),
        database: checkpoint.database.clone(),
        lsn: checkpoint.position.lsn.to_string(),
        entry_index: checkpoint.position.entry_index,
        transaction: checkpoint.position.ordinal,
        session_id: checkpoint.session_id.map(|session| session.to_string()),
        pinned: checkpoint.pinned,
        created_at: checkpoint.created_at.to_string(),
        hash: checkpoint.hash.as_deref().and_then(KeptHashes::parse).map(|kept| CheckpointHash {
            tables: u64::try_from(kept.tables.len()).unwrap_or(u64::MAX),
            rows: kept.rows(),
            catalog_fingerprint: kept.catalog_fingerprint(),
        }),
    }
}
