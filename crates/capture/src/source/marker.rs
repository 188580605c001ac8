//! Markers: how we learn where "now" is in the stream.

use ptr_model::{MarkerToken, OUR_SCHEMA};
use tokio_postgres::Client;

/// Puts a marker into the stream: the position before it is the position of this moment.
///
/// Transactional, and its commit waits for the local disk only: so it comes round in about 0.1 ms, where it takes
/// 100 ms without a transaction or with `synchronous_commit = off`, and does not depend on standbys.
///
/// # Errors
/// What the server answers.
pub async fn emit_marker(client: &Client, token: MarkerToken) -> Result<(), tokio_postgres::Error> {
    // The token is a UUID and the prefix a constant: nothing to quote.
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL synchronous_commit = local;
             SELECT pg_catalog.pg_logical_emit_message(true, '{OUR_SCHEMA}', '{}'); COMMIT",
            token.to_content()
        ))
        .await
}

/// Puts a message into the stream that the log keeps, so that what follows has another position: sequences moved
/// without a transaction.
///
/// # Errors
/// What the server answers.
pub async fn emit_sequences_moved(client: &Client) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL synchronous_commit = local;
             SELECT pg_catalog.pg_logical_emit_message(true, '{OUR_SCHEMA}.sequences', 'moved'); COMMIT"
        ))
        .await
}
