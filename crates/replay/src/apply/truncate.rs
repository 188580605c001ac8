//! TRUNCATE, at its place between changes.

use std::sync::Arc;

use ptr_model::{Relation, TruncateOptions};
use ptr_postgres::ServerError;
use tokio_postgres::error::SqlState;

use super::Applier;
use crate::{
    catalog::{TableFacts, TableKind},
    database::{DatabaseError, Doing},
    error::ReplayError,
};

impl Applier {
    /// Empties the tables that the primary emptied; the list holds those that CASCADE reached there.
    pub(super) async fn truncate(
        &mut self,
        relations: &[Arc<Relation>],
        options: TruncateOptions,
    ) -> Result<(), ReplayError> {
        let mut tables = Vec::new();
        for relation in relations {
            let table = self.table(relation).await?;
            // A partitioned table's rows are its partitions', which are in the list themselves.
            if table.kind == TableKind::Ordinary {
                tables.push(table);
            }
        }
        self.uncommitted += 1;
        if tables.is_empty() {
            return Ok(());
        }
        self.make_room(tables.len()).await?;
        self.open_transaction().await?;
        for table in &tables {
            self.locks.take(table.oid);
            self.guard.silence(&self.client, table).await?;
        }
        self.client.batch_execute("SAVEPOINT emptied").await.doing("set a savepoint")?;
        let refused = self.client.batch_execute(&statement(&tables, options)).await.err();
        match refused {
            None => self.client.batch_execute("RELEASE emptied").await.doing("release a savepoint")?,
            // Partitions under a foreign key that references their parent cannot be truncated by themselves.
            Some(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => {
                self.client.batch_execute("ROLLBACK TO emptied").await.doing("go back to a savepoint")?;
                self.delete_all(&tables, options, &error).await?;
            }
            Some(error) => return Err(DatabaseError::new("truncate", error).into()),
        }
        Ok(())
    }

    async fn delete_all(
        &mut self,
        tables: &[Arc<TableFacts>],
        options: TruncateOptions,
        refused: &tokio_postgres::Error,
    ) -> Result<(), ReplayError> {
        if options.restart_identity {
            let why = ServerError::of(refused).map_or_else(String::new, |error| error.to_string());
            return Err(
                self.stop(format!("a TRUNCATE ... RESTART IDENTITY of partitions was refused: {why}"))
            );
        }
        for table in tables {
            self.empty(table).await?;
        }
        Ok(())
    }
}

fn statement(tables: &[Arc<TableFacts>], options: TruncateOptions) -> String {
    let names: Vec<String> = tables.iter().map(|table| format!("ONLY {}", table.name)).collect();
    let identity = if options.restart_identity { "RESTART" } else { "CONTINUE" };
    format!("TRUNCATE {} {identity} IDENTITY", names.join(", "))
}
