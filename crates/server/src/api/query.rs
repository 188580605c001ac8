//! Query strings, with problems in place of plain text.

use axum::{
    extract::{FromRequestParts, Query as AxumQuery, rejection::QueryRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};

/// A query string, read.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = AxumQuery::<T>::from_request_parts(parts, state).await;
        read.map(|AxumQuery(query)| Self(query)).map_err(|rejection| malformed(&rejection))
    }
}

fn malformed(rejection: &QueryRejection) -> Problem {
    let reason =
        std::error::Error::source(rejection).map_or_else(|| rejection.to_string(), ToString::to_string);
    Problem::new(Code::Usage, format!("the query string does not fit: {reason}"))
        .with_hint("GET /api/openapi.json lists the parameters of each path")
}
