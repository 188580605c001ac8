//! Constraints that were added NOT VALID: rows that were there before may violate them, and such rows have to go in
//! again where a table is given all its rows.
//!
//! A check that a child has from its parent cannot be dropped there, and dropping the parent's takes away what made
//! it: so none is dropped. The catalog says for a moment that the table has fewer (`CheckConstraintFetch` in
//! `relcache.c` reads as many rows of type `c` as `pg_class.relchecks` says; the executor's not-null tests look at
//! `pg_attribute.attnotnull` alone). Names, comments, OIDs and inheritance stay as they are.
//!
//! Invariant: the catalog says what it said in the transaction that changed it.

use ptr_postgres::quote_literal;
use tokio_postgres::Client;

use crate::{
    catalog::TableFacts,
    database::{DatabaseError, Doing},
};

/// Checks that are not valid, and columns of not-null constraints that are not (18).
const UNVALIDATED: &str = "
    SELECT c.contype = 'c', c.oid, coalesce(c.conkey[1], 0::smallint)
      FROM pg_catalog.pg_constraint c
     WHERE c.conrelid = $1 AND c.contype IN ('c', 'n') AND NOT c.convalidated";

/// Constraints of a table that are not looked at.
#[must_use]
#[derive(Debug)]
pub(super) struct Unvalidated {
    put_back: String,
}

impl Unvalidated {
    /// Has the server look away.
    pub(super) async fn take(client: &Client, table: &TableFacts) -> Result<Self, DatabaseError> {
        let doing = || format!("take away the constraints of {} that are not valid", table.name);
        let (mut checks, mut columns) = (Vec::new(), Vec::new());
        for row in client.query(UNVALIDATED, &[&table.oid]).await.doing_with(doing)? {
            match row.get(0) {
                true => checks.push(row.get::<_, u32>(1).to_string()),
                false => columns.push(row.get::<_, i16>(2).to_string()),
            }
        }
        client.batch_execute(&switch(table, &checks, &columns, Switch::Off)).await.doing_with(doing)?;
        Ok(Self { put_back: switch(table, &checks, &columns, Switch::On) })
    }

    /// Has it look again.
    pub(super) async fn put_back(self, client: &Client, table: &TableFacts) -> Result<(), DatabaseError> {
        let doing = || format!("put back the constraints of {} that are not valid", table.name);
        client.batch_execute(&self.put_back).await.doing_with(doing)
    }
}

#[derive(Clone, Copy)]
enum Switch {
    Off,
    On,
}

fn switch(table: &TableFacts, checks: &[String], columns: &[String], to: Switch) -> String {
    let (kind, sign, not_null) = match to {
        // No type of constraint that the server knows.
        Switch::Off => ("-", '-', false),
        Switch::On => ("c", '+', true),
    };
    let mut sql = String::new();
    if !checks.is_empty() {
        let (oid, kind, count, checks) = (table.oid, quote_literal(kind), checks.len(), checks.join(", "));
        sql.push_str(&format!(
            "UPDATE pg_catalog.pg_constraint SET contype = {kind} WHERE oid IN ({checks});
             UPDATE pg_catalog.pg_class SET relchecks = relchecks {sign} {count} WHERE oid = {oid};"
        ));
    }
    if !columns.is_empty() {
        let (oid, columns) = (table.oid, columns.join(", "));
        sql.push_str(&format!(
            "UPDATE pg_catalog.pg_attribute SET attnotnull = {not_null} WHERE attrelid = {oid} AND attnum IN ({columns});"
        ));
    }
    sql
}
