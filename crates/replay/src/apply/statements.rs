//! Statements that are prepared once on a connection, for moves that use them again.
//!
//! Plans are made for each execution all the same (`plan_cache_mode`): the same text serves one row and ten thousand.

use std::collections::HashMap;

use tokio_postgres::{Client, Error, Statement};

/// How many are kept; beyond, all are forgotten, for texts differ with tables and sets of columns only.
const KEPT: usize = 256;

/// What was prepared on one connection, by its text.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    prepared: HashMap<String, Statement>,
}

impl Statements {
    /// The statement of that text.
    pub(crate) async fn get(&mut self, client: &Client, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = client.prepare(sql).await?;
        if self.prepared.len() == KEPT {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Forgets all, because the schema changed.
    pub(super) fn forget(&mut self) {
        self.prepared.clear();
    }
}
