//! Several connections into a database that nobody can be in yet.
//!
//! A table's rows go over one connection, so their order is the log's. Whatever is no window of rows waits until the
//! others have committed (`Applier::gather`), and they get no more work until the applier's own connection has committed
//! too, because it may hold what they would wait for. From the first window that is shared to the commit after it the
//! database is at no position, and its cursor says `moving`: whoever began it throws it away if anything fails.

use std::{collections::HashMap, sync::Arc};

use ptr_model::Oid;
use ptr_postgres::{Connection, Dsn};

use super::{
    Applier, Statements, environment,
    send::{self, UnderWay, Window},
};
use crate::{
    cursor::{self, Cursor, CursorState},
    database::{self, Doing},
    error::ReplayError,
    fold::RowsEffect,
};

/// Connections, the applier's own included. Reading the log and folding it take a core of their own.
const CONNECTIONS: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Crew {
    members: Vec<Member>,
    /// Which connection a table's rows go over: 0 is the applier's own, 1 the first member's.
    tables: HashMap<Oid, usize>,
    /// Rows that each connection was given.
    loads: Vec<usize>,
    /// The applier's own connection did something since its last commit that the others may not see yet.
    is_apart: bool,
}

#[derive(Debug)]
struct Member {
    client: Arc<Connection>,
    /// With a window that is under way, while one is.
    statements: Statements,
    under_way: Option<UnderWay>,
    /// Whether it has a transaction open.
    open: bool,
}

impl Member {
    async fn join(dsn: &Dsn) -> Result<Self, ReplayError> {
        let client = database::open(dsn).await?;
        environment::prepare_session(&client).await?;
        Ok(Self { client: Arc::new(client), statements: Statements::default(), under_way: None, open: false })
    }

    async fn begin(&mut self) -> Result<(), ReplayError> {
        if !self.open {
            self.client.batch_execute(super::BEGIN).await.doing("begin")?;
            self.open = true;
        }
        Ok(())
    }

    async fn arrive(&mut self) -> Result<(), ReplayError> {
        send::arrive(&mut self.under_way, &mut self.statements).await
    }
}

impl Crew {
    /// Which part of a window goes over which connection; the first is the applier's own.
    fn divide(&mut self, window: Window) -> Vec<Window> {
        let connections = self.members.len() + 1;
        self.loads.resize(connections, 0);
        let mut parts: Vec<Window> = (0..connections).map(|_| Window::new()).collect();
        let mut window: Vec<_> = window.into_iter().map(|one| (rows(&one.0.rows), one)).collect();
        window.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
        for (rows, (effect, table)) in window {
            let loads = &self.loads;
            let least = || (0..connections).min_by_key(|one| loads[*one]).unwrap_or_default();
            // What the guard did about a table is in the applier's own transaction.
            let connection = match table.firing.is_empty() && !table.needs_cast() {
                true => *self.tables.entry(effect.relation.oid).or_insert_with(least),
                false => 0,
            };
            self.loads[connection] += rows;
            parts[connection].push((effect, table));
        }
        parts
    }

    async fn commit(&mut self) -> Result<(), ReplayError> {
        for member in &mut self.members {
            if std::mem::take(&mut member.open) {
                member.client.batch_execute("COMMIT").await.doing("commit")?;
            }
        }
        Ok(())
    }
}

fn rows(effect: &RowsEffect) -> usize {
    match effect {
        RowsEffect::Keyed { rows, .. } => rows.len(),
        RowsEffect::Counted { removed, added } => removed.len() + added.len(),
    }
}

impl Applier {
    /// Lets more connections take part from the first large window on. Only where nobody else can be in the database,
    /// and where it is thrown away if anything fails after they did ([`Applier::is_unsettled`]).
    pub(crate) fn share_work(&mut self) {
        self.crew = Some(Crew::default());
    }

    /// Whether other connections took part.
    pub(super) fn has_shared(&self) -> bool {
        self.crew.as_ref().is_some_and(|crew| !crew.members.is_empty())
    }

    /// Ends the others' connections, and waits until they are closed.
    pub(crate) async fn dismiss(&mut self) {
        for member in self.crew.take().unwrap_or_default().members {
            if let Some(client) = Arc::into_inner(member.client) {
                client.close().await;
            }
        }
    }

    /// Whether others may get work now.
    pub(super) fn may_share(&self) -> bool {
        self.crew.as_ref().is_some_and(|crew| !crew.is_apart)
    }

    /// Opens the others' connections, unless that is done. A server that lets no more in is no reason to stop.
    pub(super) async fn hire(&mut self) -> Result<(), ReplayError> {
        if self.has_shared() {
            return Ok(());
        }
        let mut members = Vec::new();
        for _ in 1..CONNECTIONS {
            match Member::join(self.client.dsn()).await {
                Ok(member) => members.push(member),
                Err(error) => tracing::debug!(%error, "fewer connections than wanted"),
            }
        }
        if members.is_empty() {
            self.crew = None;
            return Ok(());
        }
        self.arrive().await?;
        self.open_transaction().await?;
        cursor::commit(&self.client, &Cursor { state: CursorState::Moving, ..self.committed }).await?;
        self.open = false;
        self.crew = Some(Crew { members, ..Crew::default() });
        Ok(())
    }

    /// Gives the others their parts of a window, and returns the applier's own.
    pub(super) async fn share(&mut self, window: Window) -> Result<Window, ReplayError> {
        let position = self.position();
        let Some(crew) = self.crew.as_mut().filter(|crew| !crew.is_apart) else { return Ok(window) };
        let mut parts = crew.divide(window).into_iter();
        let own = parts.next().unwrap_or_default();
        for (member, part) in crew.members.iter_mut().zip(parts).filter(|(_, part)| !part.is_empty()) {
            member.begin().await?;
            let (client, statements) = (Arc::clone(&member.client), std::mem::take(&mut member.statements));
            member.under_way = Some(send::ahead(client, statements, position, part));
        }
        Ok(own)
    }

    /// Waits for what the others were given.
    pub(super) async fn await_crew(&mut self) -> Result<(), ReplayError> {
        let mut outcome = Ok(());
        for member in self.crew.iter_mut().flat_map(|crew| &mut crew.members) {
            outcome = outcome.and(member.arrive().await);
        }
        outcome
    }

    /// Waits for what is under way and lets the others commit; from here to its own commit the applier works alone.
    pub(super) async fn gather(&mut self) -> Result<(), ReplayError> {
        self.arrive().await?;
        if let Some(crew) = &mut self.crew {
            crew.commit().await?;
            crew.is_apart = true;
        }
        Ok(())
    }

    /// The applier's own connection has committed; what it did others see.
    pub(super) fn rejoin(&mut self) {
        if let Some(crew) = &mut self.crew {
            crew.is_apart = false;
        }
    }

    /// Whether the applier works alone until it commits, while others could take part.
    pub(super) fn is_apart(&self) -> bool {
        self.has_shared() && !self.may_share()
    }

    pub(super) fn forget_crews_statements(&mut self) {
        for member in self.crew.iter_mut().flat_map(|crew| &mut crew.members) {
            member.statements.forget();
        }
    }
}
