//! Before a move: where the session is, and which way it takes.
//!
//! Most moves are short, and what is asked before them would cost more than they do. So the session's own database is
//! asked first, over the connection of the move before where one was kept, and where no keyframe can be cheaper
//! nothing else is asked.

use ptr_postgres::Dsn;

use super::{NavigateError, NavigateRequest, facts, whereabouts};
use crate::{
    apply::Applier,
    cursor::CursorState,
    error::ReplayError,
    plan::{Contents, Here, Plan, PlanFacts, Strategy, near, plan},
};

/// Where a move begins, and its way.
#[derive(Debug)]
pub struct Departure {
    pub(super) from: Option<Here>,
    pub(super) plan: Plan,
    /// What was asked of keyframes, where that was needed.
    pub(super) facts: Option<PlanFacts>,
    /// A connection to the session's database, if the move stays in it.
    pub(super) applier: Option<Applier>,
}

impl Departure {
    /// Where the session is; `None` where it has no database.
    #[must_use]
    pub fn from(&self) -> Option<ptr_model::Position> {
        self.from.map(|here| here.position)
    }

    /// The way.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// A connection to a session's database that outlives a move, and what is known there. It serves the next move if
/// nobody else moved the database meanwhile and no schema changed; else that move opens its own.
///
/// Nobody should keep one for long: while it is open nobody can rename the database or clone it, though whoever waits
/// for that, as PostgreSQL does for five seconds, gets it once this one is dropped.
#[derive(Debug)]
pub struct Kept(pub(super) Applier);

/// Looks where the session is and plans the way. Finishes or removes what an interrupted move left.
///
/// # Errors
/// [`NavigateError`], as [`super::navigate`].
pub async fn depart(request: &NavigateRequest, kept: Option<Kept>) -> Result<Departure, NavigateError> {
    let Some(applier) = ready(request, kept).await else {
        request.session.remove_leftovers().await?;
        let from = whereabouts(request).await?;
        let facts = facts::gather(request, from.map(|here| here.position)).await?;
        let plan = plan(from, request.to, &facts)?;
        return Ok(Departure { from, plan, facts: Some(facts), applier: None });
    };
    let here = Here { position: applier.position(), contents: Contents::FromLog };
    let between = facts::between(request, here.position).await?;
    if let Some(plan) = near(here, request.to, &between) {
        return Ok(Departure { from: Some(here), plan, facts: None, applier: Some(applier) });
    }
    let facts = facts::gather(request, Some(here.position)).await?;
    let plan = plan(Some(here), request.to, &facts)?;
    let applier = (plan.strategy != Strategy::Keyframe).then_some(applier);
    Ok(Departure { from: Some(here), plan, facts: Some(facts), applier })
}

/// A connection to the session's database, where that is the log's and settled and nothing is left of an interrupted
/// move. Whatever is wrong is found again, and said, by whoever looks closer.
pub(super) async fn ready(request: &NavigateRequest, kept: Option<Kept>) -> Option<Applier> {
    if request.locally_written || request.outdated {
        return None;
    }
    let mut applier = match resumed(request, kept).await {
        Some(applier) => applier,
        None => {
            opened(request).await.inspect_err(|error| tracing::debug!(%error, "looking closer")).ok()??
        }
    };
    applier.assign(request.session.session_id);
    (applier.state() == CursorState::Settled).then_some(applier)
}

async fn resumed(request: &NavigateRequest, kept: Option<Kept>) -> Option<Applier> {
    let Kept(mut applier) = kept?;
    let fits = applier.client().dsn().database() == request.session.name
        && applier.resume(request.limits).await.is_ok_and(|fits| fits);
    fits.then_some(applier)
}

async fn opened(request: &NavigateRequest) -> Result<Option<Applier>, ReplayError> {
    let session = &request.session;
    let dsn: Dsn = session.dsn();
    let applier = Applier::open(&dsn, session.log_id, request.limits).await?;
    let clean = !session.has_leftovers(applier.client()).await?;
    Ok(clean.then_some(applier))
}
