//! Checks that were added NOT VALID: rows that were there before may violate them, and such rows have to go in
//! again where a table is given all its rows.
//!
//! Invariant: they are put back, with their comments, in the transaction that took them away.

use ptr_postgres::{quote_identifier, quote_literal};
use tokio_postgres::Client;

use crate::{
    catalog::TableFacts,
    database::{DatabaseError, Doing},
};

/// A parent's check, which a child has too, goes and comes back with the parent's.
const UNVALIDATED: &str = "
    SELECT c.conname::text, pg_catalog.pg_get_constraintdef(c.oid),
           pg_catalog.obj_description(c.oid, 'pg_constraint')
      FROM pg_catalog.pg_constraint c
     WHERE c.conrelid = $1 AND c.contype = 'c' AND NOT c.convalidated AND c.coninhcount = 0
     ORDER BY c.conname";

/// Checks of a table that are away.
#[must_use]
#[derive(Debug)]
pub(super) struct Unvalidated {
    put_back: String,
}

impl Unvalidated {
    /// Takes them away.
    pub(super) async fn take(client: &Client, table: &TableFacts) -> Result<Self, DatabaseError> {
        let doing = || format!("take away the checks of {} that are not valid", table.name);
        let (mut take, mut put_back) = (String::new(), String::new());
        for row in client.query(UNVALIDATED, &[&table.oid]).await.doing_with(doing)? {
            let (name, definition) = (quote_identifier(row.get(0)), row.get::<_, &str>(1));
            take.push_str(&format!("ALTER TABLE {} DROP CONSTRAINT {name};", table.name));
            put_back.push_str(&format!("ALTER TABLE {} ADD CONSTRAINT {name} {definition};", table.name));
            if let Some(comment) = row.get::<_, Option<&str>>(2) {
                let comment = quote_literal(comment);
                put_back.push_str(&format!("COMMENT ON CONSTRAINT {name} ON {} IS {comment};", table.name));
            }
        }
        client.batch_execute(&take).await.doing_with(doing)?;
        Ok(Self { put_back })
    }

    /// Puts them back as they were.
    pub(super) async fn put_back(self, client: &Client, table: &TableFacts) -> Result<(), DatabaseError> {
        let doing = || format!("put back the checks of {} that are not valid", table.name);
        client.batch_execute(&self.put_back).await.doing_with(doing)
    }
}
