//! Transactions of the log.

use axum::{Json, extract::Path, extract::State};

use super::{Answer, Shared, query::Query};
use crate::{
    problem::{Code, Problem},
    resource::transaction::{TransactionDetail, TransactionPage, TransactionQuery},
};

/// Transactions of the log, a page at a time, newest last.
#[utoipa::path(get, path = "/api/transactions", params(TransactionQuery),
    responses((status = 200, body = TransactionPage), (status = 422, body = Problem)))]
pub(super) async fn list(
    State(service): Shared,
    Query(query): Query<TransactionQuery>,
) -> Answer<TransactionPage> {
    Ok(Json(service.transactions(query).await?))
}

/// The newest transaction of that id, with its entries.
#[utoipa::path(get, path = "/api/transactions/{xid}", params(("xid" = u32, Path), TransactionQuery),
    responses((status = 200, body = TransactionDetail), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(service): Shared,
    Path(xid): Path<String>,
    Query(query): Query<TransactionQuery>,
) -> Answer<TransactionDetail> {
    let xid = xid.parse().map_err(|_| {
        Problem::new(Code::Usage, format!("{xid:?} is no transaction id"))
            .with_hint("a transaction id is a number below 2^32; GET /api/transactions lists them")
    })?;
    Ok(Json(service.transaction(xid, query).await?))
}
