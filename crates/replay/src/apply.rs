//! Changes into the replica, over one connection; over several where nobody can be in the database.
//!
//! Transactions of the log go in one after the other ([`Applier::begin`], [`Applier::change`],
//! [`Applier::end`]). Row changes are folded; a full fold, a TRUNCATE or a schema change flushes it. Several
//! transactions of the log share one of the replica, whose commit also writes the cursor.
//!
//! Invariants: what is committed is exactly the state at the cursor's position, whatever fails; in a database that
//! nobody can be in, while its cursor says `settled` ([`Applier::may_be_unsettled`]). A transaction that changes the
//! schema has one of the replica for itself, so that a statement that fails takes back nothing but it.

mod bracket;
mod captured_table;
mod confined;
mod crew;
mod detach;
mod environment;
mod guard;
mod index_names;
mod locks;
mod owners;
mod partitions;
mod reindex;
mod resync;
mod roles;
mod rows;
mod schema;
mod send;
mod statements;
pub(crate) mod tablespaces;
mod temporary;
mod text;
mod truncate;
mod unvalidated;

use std::{collections::HashMap, sync::Arc};

use ptr_log::{Item, Outline, SequenceSample};
use ptr_model::{Change, Gap, Oid, Position, Relation, SchemaChange, SessionId};
use ptr_postgres::{Connection, Dsn};
use uuid::Uuid;

use crate::{
    catalog::{Catalog, TableFacts},
    cursor::{self, Cursor, CursorState, Stamp},
    database::{self, Doing},
    error::{Mismatch, ReplayError},
    fold::{Fold, Membership, Pushed, TableEffect, table_name},
    sequences::{self, SequenceWatch},
    sql,
    stop::Stop,
};
pub use bracket::Boundary;
use bracket::Bracket;
use crew::Crew;
use guard::Guard;
use locks::{Locks, Parts};
pub(crate) use roles::create_missing as create_missing_roles;
use send::UnderWay;
pub(crate) use statements::Statements;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// How much is kept in memory and in one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of net effect that are held before they are sent.
    pub window_bytes: usize,
    /// Rows of net effect that are held before they are sent.
    pub window_rows: usize,
    /// Changes after which the replica's transaction commits, at the next end of one of the log's.
    pub commit_changes: u64,
}

impl Limits {
    /// Whether each change is sent by itself, to tell which one fails.
    fn is_looking_for_an_error(self) -> bool {
        self.window_rows == 1
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { window_bytes: 24 << 20, window_rows: 1_000_000, commit_changes: 16_000_000 }
    }
}

/// Something done on the way that the user should know.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// A role of the primary was missing on the output server and was created, without login.
    RoleCreated {
        /// Its name.
        role: String,
    },
    /// A tablespace of the primary was missing on the output server and was created in its data directory.
    TablespaceCreated {
        /// Its name.
        tablespace: String,
    },
    /// A statement needed more rights than its role has on the output server.
    RanWithMoreRights {
        /// The role.
        role: String,
        /// The statement.
        statement: String,
    },
    /// What the session leaves out by a decision of its user's.
    LeftOut {
        /// Names the decision.
        decision: i64,
        /// What.
        what: String,
    },
    /// A table got what the primary held, by a decision of its user's.
    Resynchronised {
        /// Names the decision.
        decision: i64,
        /// The table.
        table: String,
        /// How many rows.
        rows: u64,
    },
    /// A statement that must not run on a replica: it would connect to other servers.
    Skipped {
        /// The statement.
        statement: String,
        /// Why.
        reason: String,
    },
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RoleCreated { role } => {
                write!(
                    f,
                    "role {role:?} was missing on the output server and was created there, without login"
                )
            }
            Self::TablespaceCreated { tablespace } => write!(
                f,
                "tablespace {tablespace:?} was missing on the output server and was created there, in its data \
                 directory"
            ),
            Self::RanWithMoreRights { role, statement } => {
                let beginning = beginning(statement);
                write!(f, "ran with more rights than role {role:?} has on the output server: {beginning}")
            }
            Self::LeftOut { decision, what } => write!(f, "left out by decision {decision}: {what}"),
            Self::Resynchronised { decision, table, rows } => {
                write!(f, "resynchronised by decision {decision}: {table} has the primary's {rows} rows")
            }
            Self::Skipped { statement, reason } => {
                write!(f, "not run on the replica, because {reason}: {}", beginning(statement))
            }
        }
    }
}

/// Enough to recognise a statement by. What follows may hold a password, as in CREATE SUBSCRIPTION.
fn beginning(statement: &str) -> String {
    statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// What was applied so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Transactions of the log, committed on the replica.
    pub transactions: u64,
    /// Entries of the log, committed on the replica.
    pub entries: u64,
    /// What the user should know.
    pub notices: Vec<Notice>,
}

/// The event of a change, if a statement begins or ends there whose rows come in between, for
/// [`Applier::foresee`].
pub fn boundary(change: Change) -> Option<SchemaChange> {
    bracket::boundary(change)
}

/// A replica that takes changes.
#[derive(Debug)]
pub struct Applier {
    client: Arc<Connection>,
    limits: Limits,
    catalog: Catalog,
    /// With a window that is under way, while one is.
    statements: Statements,
    under_way: Option<UnderWay>,
    crew: Option<Crew>,
    fold: Fold,
    guard: Guard,
    bracket: Bracket,
    sequences: SequenceWatch,
    applied: Applied,
    /// Notices about what is committed.
    noted: usize,
    /// What the last commit wrote.
    committed: Cursor,
    /// The end of the last transaction that went in whole.
    reached: Position,
    /// The end of the transaction that is going in, if one is.
    current: Option<Position>,
    /// The last one that began has the replica's transaction for itself.
    alone: bool,
    /// Whether the replica has a transaction open.
    open: bool,
    /// Changes in the replica's open transaction.
    uncommitted: u64,
    /// The tables that the open transaction holds locks on.
    locks: Locks,
    /// Whether part of a transaction of the log may be committed, and whether it is.
    parts: Parts,
    /// The server process of the primary whose temporary objects this session has.
    temporary_of: Option<i32>,
    /// What tells whether somebody else wrote the cursor since.
    stamp: Stamp,
    /// Whether the connection, and what is known of the tables, may serve another move: nothing but rows went in.
    lasting: bool,
}

impl Applier {
    /// Connects to a session's database and reads where it is.
    ///
    /// # Errors
    /// [`ReplayError::Mismatch`] where it is no database of this log.
    pub async fn open(dsn: &Dsn, log_id: Uuid, limits: Limits) -> Result<Self, ReplayError> {
        let client = database::open(dsn).await?;
        environment::prepare_session(&client).await?;
        let problem = |problem: String| Mismatch::Cursor { database: dsn.database().to_owned(), problem };
        let mut statements = Statements::default();
        let stamp = cursor::stamp_sql();
        let committed = cursor::read(&client)
            .await?
            .ok_or_else(|| problem("is not a session's database: it has no position of ours".to_owned()))?;
        if committed.log_id != log_id {
            return Err(problem(format!(
                "holds the history of another log ({}); create a session of this one",
                committed.log_id
            ))
            .into());
        }
        let stamp =
            cursor::stamp(&client, &statements.get(&client, &stamp).await.doing("prepare a question")?)
                .await?;
        Ok(Self {
            client: Arc::new(client),
            limits,
            catalog: Catalog::default(),
            statements,
            under_way: None,
            crew: None,
            fold: Fold::default(),
            guard: Guard::default(),
            bracket: Bracket::default(),
            sequences: SequenceWatch::default(),
            applied: Applied::default(),
            noted: 0,
            reached: committed.position,
            committed,
            current: None,
            alone: false,
            open: false,
            uncommitted: 0,
            locks: Locks::default(),
            parts: Parts::default(),
            temporary_of: None,
            stamp,
            lasting: true,
        })
    }

    /// Makes the applier ready for another move; `false` where it is not fit for one any more, because the schema
    /// changed or somebody else moved the database meanwhile.
    pub(crate) async fn resume(&mut self, limits: Limits) -> Result<bool, ReplayError> {
        if !self.lasting || self.open {
            return Ok(false);
        }
        let statement =
            self.statements.get(&self.client, &cursor::stamp_sql()).await.doing("prepare a question")?;
        if cursor::stamp(&self.client, &statement).await? != self.stamp {
            return Ok(false);
        }
        self.limits = limits;
        (self.applied, self.noted) = (Applied::default(), 0);
        Ok(true)
    }

    /// Whether data and position agree.
    pub(crate) fn state(&self) -> CursorState {
        self.committed.state
    }

    /// The connection, for questions.
    pub(crate) fn client(&self) -> &Connection {
        &self.client
    }

    /// Where the database is, as committed.
    #[must_use]
    pub fn position(&self) -> Position {
        self.committed.position
    }

    /// The end of the last transaction that went in whole, committed or not.
    #[must_use]
    pub fn reached(&self) -> Position {
        self.reached
    }

    /// What was applied and committed.
    #[must_use]
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Gives the database to a session; with the next commit.
    pub fn assign(&mut self, session_id: SessionId) {
        self.committed.session_id = Some(session_id);
    }

    /// Frees the space of dead rows and gathers the planner's statistics.
    pub(crate) async fn vacuum(&self) -> Result<(), ReplayError> {
        Ok(self.client.batch_execute("VACUUM (ANALYZE)").await.doing("vacuum the database")?)
    }

    /// Ends the connection, and waits until it is closed.
    pub(crate) async fn close(self) {
        // Nothing is under way any more, so nobody else holds the connection.
        if let Some(client) = Arc::into_inner(self.client) {
            client.close().await;
        }
    }

    /// From now on a key that does not hold is noticed wherever one of its rows is met again: for logs of which nothing
    /// is left out.
    pub(crate) fn compare_images(&mut self) {
        self.fold.compare_images();
    }

    /// Whether changes from now on set all values of a row, because what it was before is not sure
    /// ([`Fold::know_old_rows_by_key`]).
    pub(crate) fn know_old_rows_by_key(&mut self, by_key: bool) {
        self.fold.know_old_rows_by_key(by_key);
    }

    /// How much is kept in memory and in one transaction.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Goes on with other limits, from where it is.
    pub(crate) fn go_on_within(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes back what is not committed and goes on from there with other limits.
    pub(crate) async fn start_again(&mut self, limits: Limits) -> Result<(), ReplayError> {
        self.limits = limits;
        if self.abandon().await.is_ok() {
            return Ok(());
        }
        // As in `give_up`: another connection can.
        let fresh = Self::open(self.client.dsn(), self.committed.log_id, limits).await?;
        let (applied, noted) = (std::mem::take(&mut self.applied), self.noted);
        let (session_id, parts) = (self.committed.session_id, self.parts);
        *self = Self { applied, noted, parts, fold: self.fold.anew(), ..fresh };
        self.committed.session_id = session_id;
        Ok(())
    }

    /// A change of the transaction that began is not applied, by a decision of the user's.
    pub(crate) fn leave_out(&mut self, change: &Change, notice: Notice) {
        match change {
            Change::Schema(change) if change.event == "ddl_command_end" => {
                self.bracket.close(&change.tag);
                if bracket::is_table_as(&change.tag) {
                    self.bracket.was_made_ahead();
                }
            }
            Change::Rows(rows) => self.bracket.rows_arrived(&rows.relation),
            _ => {}
        }
        if !self.applied.notices.contains(&notice) {
            self.applied.notices.push(notice);
        }
    }

    /// Rows of such tables are left out when they come, so nothing is missing without them.
    pub(crate) fn await_no_rows_of(&mut self, is_left_out: impl Fn(&str) -> bool) {
        self.bracket.await_none_of(is_left_out);
    }

    /// A transaction of the log begins.
    pub async fn begin(&mut self, outline: &Outline) -> Result<(), ReplayError> {
        if outline.ordinal != self.reached.ordinal {
            let problem = format!(
                "is at transaction {}, and transaction {} cannot be applied next",
                self.reached.ordinal, outline.ordinal
            );
            let database = self.client.dsn().database().to_owned();
            return Err(Mismatch::Cursor { database, problem }.into());
        }
        let alone = outline.changes_schema || outline.has_gap;
        if alone {
            self.commit().await?;
            self.gather().await?;
            self.lasting = false;
        }
        (self.current, self.alone) = (Some(outline.after()), alone);
        Ok(())
    }

    /// Gets to know the tables that these changes are of, all at once.
    pub(crate) async fn acquaint(&mut self, items: &[Item]) -> Result<(), ReplayError> {
        let mut relations: HashMap<Oid, &Arc<Relation>> = HashMap::new();
        for item in items {
            let Item::Change(
                Change::Insert { relation, .. }
                | Change::Update { relation, .. }
                | Change::Delete { relation, .. },
            ) = item
            else {
                continue;
            };
            relations.insert(relation.oid, relation);
        }
        let names = relations.values().map(|relation| table_name(relation));
        Ok(self.catalog.acquaint(&self.client, names).await?)
    }

    /// Whether [`Applier::foresee`] has to come before this change.
    #[must_use]
    pub fn needs_ends(&self, change: &Change) -> bool {
        self.bracket.needs_ends(change)
    }

    /// Says where in the transaction that began statements begin and end whose rows come in between ([`boundary`]),
    /// in order, from its first change on.
    pub fn foresee(&mut self, boundaries: Vec<Boundary>) {
        self.bracket.foresee(boundaries);
    }

    /// A change of the transaction that began.
    pub async fn change(&mut self, change: Change) -> Result<(), ReplayError> {
        if !matches!(change, Change::Gap(_) | Change::Rows(_)) {
            self.no_rows_awaited()?;
        }
        match change {
            Change::Insert { .. } | Change::Update { .. } | Change::Delete { .. } => self.row(change).await,
            Change::Truncate { mut relations, options } => {
                self.flush().await?;
                if self.bracket.skips() {
                    relations = self.not_of_scripts(relations).await?;
                }
                self.truncate(&relations, options).await
            }
            Change::Schema(change) => self.schema_change(&change).await,
            Change::Rows(rows) => {
                self.flush().await?;
                self.replace_rows(&rows).await
            }
            Change::Gap(gap) => match gap.relation.clone() {
                Some(relation) => {
                    self.bracket.miss_rows(relation, gap);
                    Ok(())
                }
                None => Err(self.stop_at(gap)),
            },
            // For whoever decodes the stream; a table holds nothing of it.
            Change::Message(_) => Ok(()),
        }
    }

    /// The transaction that began ends.
    pub async fn end(&mut self) -> Result<(), ReplayError> {
        self.no_rows_awaited()?;
        self.bracket.close_all();
        if let Some(gap) = self.bracket.take_missed() {
            return Err(self.stop_at(gap));
        }
        self.reached = self.current.take().expect("a transaction began before it ends");
        self.flush_if_full().await?;
        let many = self.locks.are_many(&self.client, self.fold.tables()).await?;
        if self.alone || self.is_apart() || self.uncommitted >= self.limits.commit_changes || many {
            self.commit().await?;
        }
        Ok(())
    }

    /// Sends what is folded and commits, with the cursor at the end of the last transaction that ended.
    pub async fn commit(&mut self) -> Result<(), ReplayError> {
        if self.reached == self.committed.position && !self.open {
            self.rejoin();
            return Ok(());
        }
        self.flush().await?;
        self.open_transaction().await?;
        self.sequences.advance(&self.client, &mut self.statements).await?;
        self.guard.release(&self.client).await?;
        let settled = Cursor { position: self.reached, state: CursorState::Settled, ..self.committed };
        self.stamp.writer = cursor::commit(&self.client, &settled).await?;
        self.applied.transactions += self.reached.ordinal.saturating_sub(self.committed.position.ordinal);
        self.applied.entries += self.reached.entry_index.saturating_sub(self.committed.position.entry_index);
        self.committed = settled;
        self.noted = self.applied.notices.len();
        self.open = false;
        self.uncommitted = 0;
        self.locks.release();
        self.parts.settle();
        self.rejoin();
        Ok(())
    }

    /// Takes back what is not committed. Afterwards the database is at [`Applier::position`].
    pub async fn abandon(&mut self) -> Result<(), ReplayError> {
        if let Err(error) = self.arrive().await {
            tracing::debug!(%error, "what was sent ahead is taken back");
        }
        self.fold = self.fold.anew();
        self.guard = Guard::default();
        self.bracket = Bracket::default();
        self.sequences.forget();
        self.forget_schema();
        self.applied.notices.truncate(self.noted);
        self.current = None;
        self.reached = self.committed.position;
        self.uncommitted = 0;
        self.locks.release();
        if std::mem::take(&mut self.open) {
            self.client.batch_execute("ROLLBACK").await.doing("roll back")?;
        }
        Ok(())
    }

    /// [`Applier::abandon`] before the applier is dropped because of an error that matters more. A session that cannot
    /// even roll back (a COPY refused before its first row leaves an answer too many in the stream) rolls back when it
    /// ends.
    pub(crate) async fn give_up(&mut self) {
        if let Err(error) = self.abandon().await {
            tracing::debug!(%error, "the session ends without a rollback of its own");
        }
    }

    /// Applies effects that take the database back to `to`, and commits.
    pub(crate) async fn undo(&mut self, effects: Vec<TableEffect>) -> Result<(), ReplayError> {
        if self.locks.are_many(&self.client, effects.len()).await? {
            // Nothing of an undo is committed before its end, and redo from a keyframe needs no locks on all at once.
            return Err(Mismatch::ManyTables.into());
        }
        self.apply_effects_ahead(effects).await
    }

    /// Commits at a position that effects given to [`Applier::undo`] lead to.
    pub(crate) async fn settle_at(&mut self, position: Position) -> Result<(), ReplayError> {
        self.arrive().await?;
        self.open_transaction().await?;
        self.guard.release(&self.client).await?;
        let settled = Cursor { position, state: CursorState::Settled, ..self.committed };
        self.stamp.writer = cursor::commit(&self.client, &settled).await?;
        self.applied.transactions += self.committed.position.ordinal.saturating_sub(position.ordinal);
        self.applied.entries += self.committed.position.entry_index.saturating_sub(position.entry_index);
        (self.committed, self.reached, self.open) = (settled, position, false);
        self.locks.release();
        Ok(())
    }

    /// Gives the sequences what a sample says; where it is of this very position, exactly that.
    pub(crate) async fn restore_sequences(&mut self, sample: &SequenceSample) -> Result<(), ReplayError> {
        let exact = sample.position.ordinal == self.committed.position.ordinal;
        Ok(sequences::restore(&self.client, &mut self.statements, sample, exact).await?)
    }

    /// How rows of a relation are told apart on this replica.
    pub(crate) async fn identity(
        &mut self,
        relation: &Arc<Relation>,
    ) -> Result<crate::fold::RowIdentity, ReplayError> {
        let table = self.table(relation).await?;
        Ok(sql::row_identity(relation, &table))
    }

    async fn row(&mut self, change: Change) -> Result<(), ReplayError> {
        let relation = change.relations().first().cloned().expect("a row change names its table");
        if self.bracket.skips() && self.find_table(&relation).await?.is_none_or(|table| table.of_extension) {
            // The script does it again. Rows of a user's table beside it are by the user's own event triggers.
            return Ok(());
        }
        match self.fold.membership(&relation) {
            Membership::Known => {}
            Membership::New => {
                self.make_room(1).await?;
                self.add_to_fold(relation).await?;
            }
            Membership::Outdated => {
                self.flush().await?;
                self.add_to_fold(relation).await?;
            }
        }
        self.sequences.see(&change);
        let pushed = self
            .fold
            .push(change)
            .map_err(|error| Mismatch::Fold { error, position: self.committed.position })?;
        self.uncommitted += 1;
        if let Pushed::Alone(update) = pushed {
            self.flush().await?;
            return self.lone_update(&update).await;
        }
        self.flush_if_full().await
    }

    async fn add_to_fold(&mut self, relation: Arc<Relation>) -> Result<(), ReplayError> {
        if self.find_table(&relation).await?.is_none() {
            let name = table_name(&relation);
            self.make_ahead(&name).await?;
            if self.find_table(&relation).await?.is_none() {
                return Err(self.stop(format!(
                    "rows of table {name} follow, which the replica does not have: the statement that made it was left \
                     out, or was one that PostgreSQL tells nobody of (EXPLAIN ANALYZE CREATE TABLE AS)"
                )));
            }
        }
        let table = self.table(&relation).await?;
        self.sequences.learn(&relation, &table);
        let identity = sql::row_identity(&relation, &table);
        self.fold.add_table(relation, identity);
        Ok(())
    }

    /// Sends what is folded, and waits for it and for what was sent ahead.
    async fn flush(&mut self) -> Result<(), ReplayError> {
        let effects = self.fold.take();
        if self.has_shared() && self.may_share() {
            self.apply_effects_ahead(effects).await?;
        } else {
            self.apply_effects(effects).await?;
        }
        self.gather().await
    }

    /// Sends what is folded if that is much, and folds on while it is under way.
    async fn flush_if_full(&mut self) -> Result<(), ReplayError> {
        if self.fold.bytes() < self.limits.window_bytes && self.fold.rows() < self.limits.window_rows {
            return Ok(());
        }
        if self.limits.is_looking_for_an_error() {
            return self.flush().await;
        }
        let effects = self.fold.take();
        self.apply_effects_ahead(effects).await
    }

    async fn open_transaction(&mut self) -> Result<(), ReplayError> {
        if !self.open {
            self.client.batch_execute(BEGIN).await.doing("begin")?;
            self.open = true;
        }
        Ok(())
    }

    async fn find_table(&mut self, relation: &Relation) -> Result<Option<Arc<TableFacts>>, ReplayError> {
        Ok(self.catalog.table(&self.client, &table_name(relation)).await?)
    }

    async fn table(&mut self, relation: &Relation) -> Result<Arc<TableFacts>, ReplayError> {
        let position = self.committed.position;
        let missing = || Mismatch::NoTable { table: table_name(relation), position }.into();
        self.find_table(relation).await?.ok_or_else(missing)
    }

    fn stop_at(&self, gap: Gap) -> ReplayError {
        let mut stop = Stop::new(self.position(), gap.reason);
        stop.statement = gap.statement.as_deref().map(ptr_model::redacted);
        stop.sqlstate = gap.sqlstate;
        match gap.relation {
            Some(relation) => stop.about_rows_of(&relation).into(),
            None => stop.into(),
        }
    }

    fn no_rows_awaited(&self) -> Result<(), ReplayError> {
        let Some(relation) = self.bracket.awaited() else { return Ok(()) };
        let reason = format!(
            "{relation} was rewritten or filled from a query, and the log does not hold the rows that it had \
             afterwards; computing them again could give others"
        );
        Err(Stop::new(self.position(), reason).about_rows_of(relation).into())
    }

    /// What is known of tables, and what was prepared for them, may not hold any more.
    fn forget_schema(&mut self) {
        self.catalog.forget();
        self.statements.forget();
        self.forget_crews_statements();
    }

    fn stop(&self, reason: impl Into<String>) -> ReplayError {
        Stop::new(self.position(), reason).into()
    }
}
