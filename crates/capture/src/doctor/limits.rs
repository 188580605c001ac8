//! What of this primary cannot be captured, as far as it is there.

use ptr_postgres::Connection;

use super::Finding;
use crate::{
    limits::{Fingerprint, present},
    source::{Doing, SourceError},
};

pub(super) async fn check(connection: &Connection) -> Result<Vec<Finding>, SourceError> {
    let fingerprint =
        Fingerprint::take(connection).await.doing(|| "looking for what cannot be captured".to_owned())?;
    let findings = present(&fingerprint)
        .into_iter()
        .map(|met| Finding::warning(met.limit.code, met.found).means(met.limit.what).fix(met.limit.fix));
    Ok(findings.collect())
}
