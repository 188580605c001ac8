//! Net effects, sent; by a task of its own where the next window is folded meanwhile.
//!
//! Only windows of rows are sent ahead. Whatever else is said to the server waits for them first
//! (`Applier::arrive`), so the order of statements is that of the log, and what a window's rows meet is found out
//! before anything after them is sent or committed.

use std::sync::Arc;

use futures_util::SinkExt;
use ptr_model::Position;
use ptr_postgres::{Connection, ServerError};
use tokio_postgres::types::ToSql;
use tokio_util::task::AbortOnDropHandle;

use super::{Applier, Statements};
use crate::{
    catalog::TableFacts,
    database::{DatabaseError, Doing},
    error::{Mismatch, ReplayError},
    fold::TableEffect,
    sql::{self, Command, Step},
};

/// Bytes of one CopyData message: the protocol's limit is 1 GB, the point is to let the server work while
/// more is sent.
const COPY_PART: usize = 256 << 10;

/// A window of effects whose tables are known and ready for rows.
pub(super) type Window = Vec<(TableEffect, Arc<TableFacts>)>;

/// A window on its way. It has the prepared statements with it, and brings them back.
pub(super) type UnderWay = AbortOnDropHandle<(Statements, Result<(), ReplayError>)>;

/// What is needed to send.
pub(super) struct Sender<'a> {
    pub(super) client: &'a Connection,
    pub(super) statements: &'a mut Statements,
    /// For errors: what is committed.
    pub(super) position: Position,
}

impl Sender<'_> {
    pub(super) async fn effect(
        &mut self,
        effect: &TableEffect,
        table: &TableFacts,
    ) -> Result<(), ReplayError> {
        let no_fit = |error| Mismatch::Table { error, position: self.position };
        let steps = sql::steps(effect, table).map_err(no_fit)?;
        for step in steps {
            self.step(table, step).await?;
        }
        Ok(())
    }

    pub(super) async fn step(&mut self, table: &TableFacts, step: Step) -> Result<(), ReplayError> {
        let (action, expected, position) = (step.action.name(), step.rows, self.position);
        let found =
            self.command(table, step).await.map_err(|error| match ServerError::of(&error.source) {
                // Class 23 is a violated constraint, 22 a value that the type refuses, 42 a name or type that does
                // not fit: rows that the primary held cannot meet these on an exact replica.
                Some(server) if ["22", "23", "42"].contains(&&server.sqlstate.code()[..2]) => {
                    ReplayError::from(Mismatch::Refused {
                        table: table.name.clone(),
                        action,
                        sqlstate: server.sqlstate.code().to_owned(),
                        message: server.to_string(),
                        constraint: constraint_of(&error),
                        position,
                    })
                }
                _ => error.into(),
            })?;
        if found == expected {
            return Ok(());
        }
        Err(Mismatch::Rows { table: table.name.clone(), action, expected, found, position }.into())
    }

    async fn command(&mut self, table: &TableFacts, step: Step) -> Result<u64, DatabaseError> {
        let doing = || format!("{} rows of {}", step.action.name(), table.name);
        match step.command {
            Command::Execute { sql, parameters } => {
                let parameters: Vec<&(dyn ToSql + Sync)> =
                    parameters.iter().map(|one| one as &(dyn ToSql + Sync)).collect();
                let statement = self.statements.get(self.client, &sql).await.doing_with(doing)?;
                self.client.execute(&statement, &parameters).await.doing_with(doing)
            }
            Command::Copy { sql, mut data } => {
                let statement = self.statements.get(self.client, &sql).await.doing_with(doing)?;
                let sink = self.client.copy_in(&statement).await.doing_with(doing)?;
                let mut sink = std::pin::pin!(sink);
                while !data.is_empty() {
                    let part = data.split_to(data.len().min(COPY_PART));
                    sink.send(part).await.doing_with(doing)?;
                }
                sink.finish().await.doing_with(doing)
            }
        }
    }
}

fn constraint_of(error: &DatabaseError) -> Option<String> {
    error.source.as_db_error().and_then(|error| error.constraint()).map(str::to_owned)
}

impl Applier {
    pub(super) fn sender(&mut self) -> Sender<'_> {
        let position = self.position();
        Sender { client: &self.client, statements: &mut self.statements, position }
    }

    /// Lets a task send a window. The one before has to have arrived.
    pub(super) fn send_ahead(&mut self, window: Window) {
        debug_assert!(self.under_way.is_none(), "one window at a time");
        let (client, position) = (Arc::clone(&self.client), self.position());
        self.under_way = Some(ahead(client, std::mem::take(&mut self.statements), position, window));
    }

    /// Waits for what was sent ahead.
    pub(super) async fn arrive(&mut self) -> Result<(), ReplayError> {
        let own = arrive(&mut self.under_way, &mut self.statements).await;
        // Whoever fails, none may be left under way.
        let others = self.await_crew().await;
        own.and(others)
    }
}

/// Lets a task send a window.
pub(super) fn ahead(
    client: Arc<Connection>,
    mut statements: Statements,
    position: Position,
    window: Window,
) -> UnderWay {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut sender = Sender { client: &client, statements: &mut statements, position };
        let sent = async {
            for (effect, table) in &window {
                sender.effect(effect, table).await?;
            }
            Ok(())
        };
        let sent = sent.await;
        (statements, sent)
    }))
}

/// Waits for a window, if one is under way, and takes the statements back.
pub(super) async fn arrive(
    under_way: &mut Option<UnderWay>,
    prepared: &mut Statements,
) -> Result<(), ReplayError> {
    let Some(under_way) = under_way.take() else { return Ok(()) };
    match under_way.await {
        Ok((statements, sent)) => {
            *prepared = statements;
            sent
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
