//! What position expressions mean.

use std::sync::Arc;

use ptr_log::{Catalog, Log, ResolveError};
use ptr_model::{Anchor, Position, PositionExpression, Timestamp};

use super::{Captured, Service, ServiceError, blocking};
use crate::resource::position::{PositionAnswer, PositionQuery};

/// This moment, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Service {
    /// `GET /api/position`.
    ///
    /// # Errors
    /// An expression that means nothing, or nothing in this log.
    pub async fn position(&self, query: PositionQuery) -> Result<PositionAnswer, ServiceError> {
        let relative = query.at.trim().starts_with('@');
        let session = match relative || query.session_id.is_some() {
            true => Some(self.session_named(query.session_id.as_deref()).await?),
            false => None,
        };
        let database = session.as_ref().map(|session| &session.database).or(query.database.as_ref());
        let captured = self.captured_or_active(database.map(String::as_str)).await?;
        let ordinal = match &session {
            Some(session) if relative => self.ordinal_of(session).await?,
            _ => None,
        };
        Ok(self.resolve(&captured, &query.at, ordinal).await?.into())
    }

    /// What an expression means in the log of a captured database, `@` being at `session_ordinal`.
    pub(super) async fn resolve(
        &self,
        captured: &Arc<Captured>,
        expression: &str,
        session_ordinal: Option<u64>,
    ) -> Result<Position, ServiceError> {
        let expression: PositionExpression = expression.parse()?;
        self.resolve_expression(captured, expression, session_ordinal).await
    }

    pub(super) async fn resolve_expression(
        &self,
        captured: &Arc<Captured>,
        expression: PositionExpression,
        session_ordinal: Option<u64>,
    ) -> Result<Position, ServiceError> {
        let anchor = Anchor { session_ordinal, now: now() };
        let (log, catalog) = (captured.log.clone(), self.catalog.clone());
        let database = captured.database.clone();
        blocking(move || resolve(&log, &catalog, &database, &expression, anchor)).await?
    }
}

fn resolve(
    log: &Log,
    catalog: &Catalog,
    database: &str,
    expression: &PositionExpression,
    anchor: Anchor,
) -> Result<Position, ServiceError> {
    // The log asks by name and takes no error, so one of the catalog is kept aside.
    let failure = std::cell::RefCell::new(None);
    let checkpoints = |name: &str| match super::checkpoints::find(log, catalog, database, name) {
        Ok(found) => found.map(|checkpoint| checkpoint.position),
        Err(error) => {
            *failure.borrow_mut() = Some(error);
            None
        }
    };
    let resolved: Result<Position, ResolveError> = log.resolve(expression, anchor, &checkpoints);
    match failure.into_inner() {
        Some(error) => Err(error),
        None => Ok(resolved?),
    }
}
