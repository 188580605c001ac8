//! Triggers and rules that fire even under `session_replication_role = replica`: off while rows go in. And a cast
//! that some columns need, there while rows go in.
//!
//! `ENABLE ALWAYS` and `ENABLE REPLICA` ones did their work on the primary, and what they did is in the log.
//! Invariant: they are put back in the transaction that turned them off, before it commits or changes the
//! schema.

use std::{collections::BTreeMap, sync::Arc};

use ptr_postgres::{QualifiedName, quote_identifier};
use tokio_postgres::Client;

use crate::{
    catalog::{Firing, TableFacts},
    database::{DatabaseError, Doing},
};

#[derive(Debug, Default)]
pub(super) struct Guard {
    silenced: BTreeMap<QualifiedName, Arc<TableFacts>>,
    /// Whether the open transaction has our cast from text to `pg_node_tree`.
    has_cast: bool,
}

const MAKE_CAST: &str = "CREATE CAST (pg_catalog.text AS pg_catalog.pg_node_tree) WITHOUT FUNCTION";
const DROP_CAST: &str = "DROP CAST (pg_catalog.text AS pg_catalog.pg_node_tree)";

impl Guard {
    /// Turns off what would fire for rows of `table`.
    pub(super) async fn silence(
        &mut self,
        client: &Client,
        table: &Arc<TableFacts>,
    ) -> Result<(), DatabaseError> {
        if table.needs_cast() && !self.has_cast {
            client.batch_execute(MAKE_CAST).await.doing("make a cast to pg_node_tree")?;
            self.has_cast = true;
        }
        if table.firing.is_empty() || self.silenced.contains_key(&table.name) {
            return Ok(());
        }
        let doing = || format!("turn off the triggers of {} that always fire", table.name);
        client.batch_execute(&statements(table, |_| "DISABLE")).await.doing_with(doing)?;
        self.silenced.insert(table.name.clone(), Arc::clone(table));
        Ok(())
    }

    /// Puts everything back.
    pub(super) async fn release(&mut self, client: &Client) -> Result<(), DatabaseError> {
        if std::mem::take(&mut self.has_cast) {
            client.batch_execute(DROP_CAST).await.doing("drop the cast to pg_node_tree")?;
        }
        for (name, table) in std::mem::take(&mut self.silenced) {
            let enable = |firing| match firing {
                Firing::Always => "ENABLE ALWAYS",
                Firing::Replica => "ENABLE REPLICA",
            };
            let doing = || format!("put back the triggers of {name} that always fire");
            client.batch_execute(&statements(&table, enable)).await.doing_with(doing)?;
        }
        Ok(())
    }
}

fn statements(table: &TableFacts, verb: impl Fn(Firing) -> &'static str) -> String {
    let one = |object: &crate::catalog::FiringObject| {
        let (verb, kind, name) = (verb(object.firing), object.kind, quote_identifier(&object.name));
        format!("ALTER TABLE ONLY {} {verb} {kind} {name};", table.name)
    };
    table.firing.iter().map(one).collect()
}
