//! Transactions of the log, as they are shown.

use ptr_log::{Direction, Log, TransactionQuery as LogQuery};
use ptr_model::{Position, Xid};

use super::{
    Service, ServiceError,
    entries::{Wanted, cursor, direction, operations, page_length},
};
use crate::resource::transaction::{TransactionDetail, TransactionPage, TransactionQuery};

impl Service {
    /// `GET /api/transactions`.
    ///
    /// # Errors
    /// A filter or position that means nothing.
    pub async fn transactions(&self, query: TransactionQuery) -> Result<TransactionPage, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let (since, until) = self.range(&captured, query.since.as_deref(), query.until.as_deref()).await?;
        let direction = direction(query.order.as_deref())?;
        let descending = matches!(direction, Direction::Descending);
        let wanted = LogQuery {
            table: query.table,
            operations: operations(query.operation.as_deref())?,
            since,
            until,
            after: cursor(query.cursor.as_deref())?,
            limit: page_length(query.limit)?,
            direction,
        };
        let page = captured.read(move |log| log.transactions(&wanted)).await?;
        let mut transactions: Vec<_> = page.transactions.into_iter().map(Into::into).collect();
        if descending {
            transactions.reverse();
        }
        let head = captured.read(Log::head).await?;
        Ok(TransactionPage {
            returned: transactions.len(),
            transactions,
            total_count: head.ordinal,
            next_cursor: page.next.map(|next| next.to_string()),
        })
    }

    /// `GET /api/transactions/{xid}`.
    ///
    /// # Errors
    /// There is none of that id.
    pub async fn transaction(&self, xid: u32, query: TransactionQuery) -> Result<TransactionDetail, ServiceError> {
        let captured = self.captured_or_active(query.database.as_deref()).await?;
        let found = captured.read(move |log| log.transaction_of_xid(Xid(xid))).await?;
        let summary = found.ok_or_else(|| {
            ServiceError::not_found("transaction", xid.to_string(), "log shows the transactions that there are")
        })?;
        let since = Position { ordinal: summary.ordinal, lsn: summary.header.commit_lsn, entry_index: summary.first_entry };
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
