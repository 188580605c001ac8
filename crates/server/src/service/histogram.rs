//! The log in buckets, as it is shown.

use ptr_log::{Axis, Bucket};

use super::{Service, ServiceError};
use crate::resource::{
    LONGEST_PAGE, USUAL_PAGE,
    histogram::{BucketAnswer, HistogramAnswer, HistogramQuery},
};

impl Service {
    /// `GET /api/histogram`.
    ///
    /// # Errors
    /// A position, axis or number of buckets that means nothing.
    pub async fn histogram(&self, query: HistogramQuery) -> Result<HistogramAnswer, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let (since, until) = self.range(&captured, query.since.as_deref(), query.until.as_deref()).await?;
        let (axis, by) = axis(query.by.as_deref())?;
        let wanted = buckets(query.buckets)?;
        let (found, last) = captured
            .read(move |log| {
                let found = log.histogram(since.ordinal..until.ordinal, axis, wanted)?;
                let last = until.ordinal.checked_sub(1).filter(|last| *last >= since.ordinal);
                Ok((found, last.map(|last| log.transaction(last)).transpose()?.flatten()))
            })
            .await?;
        Ok(HistogramAnswer {
            by: by.to_owned(),
            since: since.into(),
            until: until.into(),
            until_time: last.map(|last| last.header.commit_time.to_string()),
            buckets: found.into_iter().map(answer).collect(),
        })
    }
}

fn answer(bucket: Bucket) -> BucketAnswer {
    BucketAnswer {
        since: bucket.since.into(),
        time: bucket.time.to_string(),
        transactions: bucket.transactions,
        counts: bucket.counts.into(),
    }
}

fn axis(asked: Option<&str>) -> Result<(Axis, &'static str), ServiceError> {
    match asked {
        None | Some("transaction") => Ok((Axis::Transactions, "transaction")),
        Some("time") => Ok((Axis::Time, "time")),
        Some(other) => Err(ServiceError::usage(format!("{other:?} is no axis"), "by is transaction or time")),
    }
}

fn buckets(asked: Option<usize>) -> Result<usize, ServiceError> {
    match asked {
        None => Ok(USUAL_PAGE),
        Some(buckets) if (1..=LONGEST_PAGE).contains(&buckets) => Ok(buckets),
        Some(other) => Err(ServiceError::usage(
            format!("a histogram of {other} buckets cannot be had"),
            format!("buckets is 1 to {LONGEST_PAGE}"),
        )),
    }
}
