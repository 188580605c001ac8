//! Before a move: where the session is, and which way it takes.
//!
//! Most moves are short, and what is asked before them would cost more than they do. So the session's own database is
//! asked first, over the connection of the move before where one was kept, and where no keyframe can be cheaper
//! nothing else is asked.

use std::time::{Duration, Instant};

use ptr_postgres::Dsn;

use super::{
    NavigateError, NavigateRequest,
    facts::{self, Gathered, Look},
    whereabouts,
};
use crate::{
    apply::Applier,
    cursor::CursorState,
    error::ReplayError,
    keyframe::Images,
    plan::{Contents, Here, Plan, Strategy, plan},
};

/// Where a move begins, and its way.
#[derive(Debug)]
pub struct Departure {
    pub(super) from: Option<Here>,
    pub(super) plan: Plan,
    /// The keyframes and spares that the plan was made from; none where nobody had to look for them.
    pub(super) images: Images,
    /// A connection to the session's database, if the move stays in it.
    pub(super) applier: Option<Applier>,
    /// Whether the connection was open already.
    pub(super) is_connected: bool,
    /// How long all that took.
    pub(super) took: Duration,
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
    let started = Instant::now();
    let (applier, is_connected) = ready(request, kept).await;
    let from = match &applier {
        Some(applier) => Some(Here { position: applier.position(), contents: Contents::FromLog }),
        None => {
            request.session.remove_leftovers().await?;
            whereabouts(request).await?
        }
    };
    let Gathered { facts, images } = facts::gather(request, from, Look::ToChoose, is_connected).await?;
    let plan = plan(from, request.to, &facts)?;
    let applier = applier.filter(|_| plan.strategy != Strategy::Keyframe);
    Ok(Departure { from, plan, images, applier, is_connected, took: started.elapsed() })
}

/// A connection to the session's database, where that is the log's and settled and nothing is left of an interrupted
/// move, and whether it was kept. Whatever is wrong is found again, and said, by whoever looks closer.
pub(super) async fn ready(request: &NavigateRequest, kept: Option<Kept>) -> (Option<Applier>, bool) {
    if request.locally_written || request.outdated {
        return (None, false);
    }
    let resumed = resumed(request, kept).await;
    let is_connected = resumed.is_some();
    let applier = match resumed {
        Some(applier) => Some(applier),
        None => opened(request).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "looking closer");
            None
        }),
    };
    let settled = applier.filter(|applier| applier.state() == CursorState::Settled).map(|mut applier| {
        applier.assign(request.session.session_id);
        applier
    });
    (settled, is_connected)
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
