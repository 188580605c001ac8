//! Transactions of the log, as they are shown.

use ptr_log::{Direction, Log, TransactionQuery as LogQuery};
use ptr_model::Xid;

use super::{
    Captured, Service, ServiceError,
    entries::{Wanted, cursor, direction, operations, page_length},
    search::{Each, Search},
};
use crate::resource::transaction::{TransactionAnswer, TransactionDetail, TransactionPage, TransactionQuery};

/// A page of the transactions with an entry that is looked for. The cursor is that of entries.
async fn look(captured: &Captured, search: Search, wanted: Wanted) -> Result<TransactionPage, ServiceError> {
    let (query, limit) = (wanted.query(), wanted.limit);
    let found = captured.read(move |log| search.look(log, &query, limit, Each::Transaction)).await?;
    let mut transactions: Vec<TransactionAnswer> =
        found.entries.iter().map(|entry| entry.transaction.as_ref().clone().into()).collect();
    if wanted.direction == Direction::Backward {
        transactions.reverse();
    }
    let head = captured.read(Log::head).await?;
    Ok(TransactionPage {
        returned: transactions.len(),
        transactions,
        total_count: head.ordinal,
        next_cursor: found.next.map(|next| next.to_string()),
        searched: Some(found.looked_at),
    })
}

impl Service {
    /// `GET /api/transactions`.
    ///
    /// # Errors
    /// A filter or position that means nothing.
    pub async fn transactions(&self, query: TransactionQuery) -> Result<TransactionPage, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let (since, until) = self.range(&captured, query.since.as_deref(), query.until.as_deref()).await?;
        let limit = page_length(query.limit)?;
        if let Some(search) = self.search(&captured, query.text.clone(), query.key.clone()).await {
            let since = match query.first {
                Some(first) if first > since.ordinal => {
                    let first = first.min(until.ordinal);
                    captured.read(move |log| log.position_at(first)).await?
                }
                _ => since,
            };
            let wanted = Wanted {
                table: query.table,
                operations: operations(query.operation.as_deref())?,
                since,
                until,
                cursor: cursor(query.cursor.as_deref())?,
                limit,
                direction: direction(query.order.as_deref())?,
            };
            return look(&captured, search, wanted).await;
        }
        let mut wanted = LogQuery {
            since: Some(since.ordinal.max(query.first.unwrap_or_default())),
            until: Some(until.ordinal),
            table: query.table,
            operations: operations(query.operation.as_deref())?,
            direction: direction(query.order.as_deref())?,
            limit,
        };
        // The cursor is the ordinal at which the page before stopped.
        let backward = wanted.direction == Direction::Backward;
        match cursor(query.cursor.as_deref())? {
            Some(stopped) if backward => wanted.until = Some(stopped.min(until.ordinal)),
            Some(stopped) => wanted.since = wanted.since.max(Some(stopped.saturating_add(1))),
            None => {}
        }
        let found = captured.read(move |log| log.transactions(&wanted)).await?;
        let next = found.last().filter(|_| found.len() == limit).map(|last| last.ordinal.to_string());
        let mut transactions: Vec<TransactionAnswer> = found.into_iter().map(Into::into).collect();
        if backward {
            transactions.reverse();
        }
        let head = captured.read(Log::head).await?;
        Ok(TransactionPage {
            returned: transactions.len(),
            transactions,
            total_count: head.ordinal,
            next_cursor: next,
            searched: None,
        })
    }

    /// `GET /api/transactions/{xid}`.
    ///
    /// # Errors
    /// There is none of that id.
    pub async fn transaction(
        &self,
        xid: u32,
        query: TransactionQuery,
    ) -> Result<TransactionDetail, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let found = captured.read(move |log| log.transaction_of_xid(Xid(xid))).await?;
        let summary = found.ok_or_else(|| {
            ServiceError::not_found(
                "transaction",
                xid.to_string(),
                "log shows the transactions that there are",
            )
        })?;
        let ordinal = summary.ordinal;
        let since = captured.read(move |log| log.position_at(ordinal)).await?;
        let limit = page_length(query.limit)?;
        let wanted = Wanted::between(since, summary.after(), limit, cursor(query.cursor.as_deref())?);
        let (entries, next) = captured.entries(wanted).await?;
        Ok(TransactionDetail {
            transaction: summary.into(),
            entries,
            next_cursor: next.map(|next| next.to_string()),
        })
    }
}
