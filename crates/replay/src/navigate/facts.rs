//! What the plan has to know, read from the log's index and the output server.

use ptr_log::{Extent, Log, LogError};
use ptr_model::{Position, TransactionSummary};

use super::{NavigateError, NavigateRequest};
use crate::{
    error::ReplayError,
    keyframe::{self, Images, Keyframe},
    plan::{
        Here, ImageFacts, Irreversible, Obstacle, PlanFacts, RangeFacts, any_keyframe_takes, within_takes,
    },
    session::SessionError,
};

/// How much is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// What is needed to choose: where the way in the session's database is shorter than any by a keyframe, nobody
    /// looks for keyframes.
    ToChoose,
    /// All ways.
    ForAll,
}

/// What was looked at: the facts, and the images that they are of.
pub(super) struct Gathered {
    pub(super) facts: PlanFacts,
    pub(super) images: Images,
}

pub(super) async fn gather(
    request: &NavigateRequest,
    from: Option<Here>,
    look: Look,
    is_connected: bool,
) -> Result<Gathered, NavigateError> {
    let mut facts = PlanFacts { rates: request.rates.clone(), is_connected, ..PlanFacts::default() };
    if let Some(here) = from {
        facts.between = between(request, here.position, request.to).await?;
        let resync = request.decisions.resync_between(request.to, here.position);
        if here.position > request.to && resync {
            let obstacle = Obstacle { what: Irreversible::Resync, entry: request.to.entry_index };
            facts.between.irreversible = Some(obstacle);
        }
        let short = within_takes(here, request.to, &facts);
        if look == Look::ToChoose && short.is_some_and(|short| short < any_keyframe_takes(&facts.rates)) {
            return Ok(Gathered { facts, images: Images::default() });
        }
    }
    let server = request.session.server().await.map_err(SessionError::from)?;
    let images = keyframe::list(&server, request.session.log_id).await.map_err(ReplayError::from)?;
    server.close().await;
    for (image, is_spare) in candidates(&images, request) {
        let range = between(request, image.position, request.to).await?;
        let Keyframe { database, position, bytes, .. } = image.clone();
        facts.images.push(ImageFacts { database, position, bytes, is_spare, range });
    }
    Ok(Gathered { facts, images })
}

/// What a plan from the keyframe at CREATION has to know, and nothing of other ways.
pub(super) async fn from_creation(
    request: &NavigateRequest,
    images: &Images,
) -> Result<PlanFacts, NavigateError> {
    let mut facts = PlanFacts::default();
    let creation = request.log.creation();
    if let Some(image) = images.keyframes.iter().find(|image| image.position == creation) {
        let range = between(request, creation, request.to).await?;
        let Keyframe { database, position, bytes, .. } = image.clone();
        facts.images.push(ImageFacts { database, position, bytes, is_spare: false, range });
    }
    Ok(facts)
}

/// The nearest ones on both sides of the destination, of those that hold what this session would hold there.
fn candidates<'a>(images: &'a Images, request: &NavigateRequest) -> Vec<(&'a Keyframe, bool)> {
    let (to, first_decision) = (request.to, request.decisions.first_ordinal());
    // `gc` drops those from before the log's beginning; where it was killed, they stay until it comes by again.
    let creation = request.log.creation();
    let usable = |image: &&Keyframe| {
        image.position >= creation && first_decision.is_none_or(|first| image.position.ordinal <= first)
    };
    let mut found = Vec::new();
    for (all, is_spare) in [(&images.keyframes, false), (&images.spares, true)] {
        let usable: Vec<&Keyframe> = all.iter().filter(usable).collect();
        let behind = usable.partition_point(|image| image.position <= to);
        let before = behind.checked_sub(1).map(|last| usable[last]);
        found.extend(before.into_iter().chain(usable.get(behind).copied()).map(|image| (image, is_spare)));
    }
    found
}

/// The log between two positions; with what stands in the way of going back where the first is the later one.
async fn between(
    request: &NavigateRequest,
    from: Position,
    to: Position,
) -> Result<RangeFacts, NavigateError> {
    let log = request.log.clone();
    let read = tokio::task::spawn_blocking(move || {
        let (earlier, later) = (from.min(to).ordinal, from.max(to).ordinal);
        let Extent { counts, bytes, schema_changes, .. } = log.extent(earlier..later)?;
        let irreversible = if from > to { first_obstacle(&log, earlier, later)? } else { None };
        Ok::<_, LogError>(RangeFacts { entries: counts.total(), bytes, schema_changes, irreversible })
    });
    let facts = read.await.expect("reading the index does not panic");
    Ok(facts.map_err(ReplayError::from)?)
}

fn first_obstacle(log: &Log, mut from: u64, to: u64) -> Result<Option<Obstacle>, LogError> {
    while let Some(transaction) = log.next_barrier(from..to)? {
        if let Some(what) = obstacle(&transaction) {
            return Ok(Some(Obstacle { what, entry: transaction.first_entry }));
        }
        from = transaction.ordinal + 1;
    }
    Ok(None)
}

fn obstacle(transaction: &TransactionSummary) -> Option<Irreversible> {
    if transaction.has_gap {
        Some(Irreversible::Gap)
    } else if transaction.counts.ddl > 0 {
        Some(Irreversible::SchemaChange)
    } else {
        (transaction.counts.truncates > 0).then_some(Irreversible::Truncate)
    }
}
