//! Sampling the primary's sequences.
//!
//! The stream carries no sequence values, so they are read beside it, at checkpoints. A sample is taken *after*
//! the checkpoint's marker has committed: `nextval` is not transactional, so a sample taken before could lie
//! behind rows that are captured before the marker.

use ptr_model::SequenceState;
use ptr_postgres::quote_literal;
use tokio_postgres::Client;

/// Sequences read by one statement: each is a relation of its own, and a statement locks what it reads.
const SEQUENCES_A_STATEMENT: usize = 500;

/// One row a permanent sequence of the user's. CASE, because the planner may ask for the privilege first, and
/// the server refuses the question (42809) where the relation is no sequence.
const LIST: &str = "SELECT n.nspname, c.relname, format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname <> 'postgres_test_replay' AND n.nspname !~ '^pg_'
      AND CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') END
    ORDER BY c.oid";

/// What every sequence that the role may read holds now.
///
/// # Errors
/// Whatever the server answers, a sequence dropped in between (42P01) among it.
pub async fn sample_sequences(client: &Client) -> Result<Vec<SequenceState>, tokio_postgres::Error> {
    let names = client.query(LIST, &[]).await?;
    let mut states = Vec::with_capacity(names.len());
    for some in names.chunks(SEQUENCES_A_STATEMENT) {
        let statement: Vec<String> = some
            .iter()
            .map(|row| {
                let (schema, name, qualified): (String, String, String) =
                    (row.get(0), row.get(1), row.get(2));
                let (schema, name) = (quote_literal(&schema), quote_literal(&name));
                format!("SELECT {schema}::text, {name}::text, last_value, is_called FROM {qualified}")
            })
            .collect();
        for row in client.query(&statement.join(" UNION ALL "), &[]).await? {
            states.push(SequenceState {
                schema: row.get(0),
                name: row.get(1),
                last_value: row.get(2),
                is_called: row.get(3),
            });
        }
    }
    Ok(states)
}
