//! Net effects and replaced contents, sent.

use std::sync::Arc;

use ptr_model::{Relation, RelationRows, ReplicaIdentity};
use ptr_postgres::QualifiedName;
use tokio_postgres::error::SqlState;

use super::{Applier, send::Window, unvalidated::Unvalidated};
use crate::{
    base::views,
    catalog::{TableFacts, TableKind},
    database::{DatabaseError, Doing},
    error::{Mismatch, ReplayError},
    fold::{LoneUpdate, TableEffect},
    sql::{self, SqlError, Step},
};

/// What PostgreSQL refuses an UPDATE or DELETE with for want of a replica identity: none (55000), or one without a
/// column of a publication's row filter (42P10).
const WANTS_IDENTITY: [SqlState; 2] =
    [SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, SqlState::INVALID_COLUMN_REFERENCE];

impl Applier {
    /// Sends effects after what was sent ahead, and waits for them.
    pub(super) async fn apply_effects(&mut self, effects: Vec<TableEffect>) -> Result<(), ReplayError> {
        for (effect, table) in self.ready(effects).await? {
            self.sender().effect(&effect, &table).await?;
        }
        Ok(())
    }

    /// Sends effects after what was sent ahead, and goes on while they are under way.
    pub(super) async fn apply_effects_ahead(&mut self, effects: Vec<TableEffect>) -> Result<(), ReplayError> {
        if self.may_share() && !effects.is_empty() {
            self.hire().await?;
        }
        let window = self.ready(effects).await?;
        let window = self.share(window).await?;
        if !window.is_empty() {
            self.send_ahead(window);
        }
        Ok(())
    }

    /// Makes the tables ready for rows. Those whose rows need settings of their own have theirs when this returns.
    async fn ready(&mut self, effects: Vec<TableEffect>) -> Result<Window, ReplayError> {
        self.arrive().await?;
        let mut window = Window::with_capacity(effects.len());
        for effect in effects {
            let table = self.table(&effect.relation).await?;
            let table = self.give_identity(&effect.relation, table).await?;
            self.locks.take(table.oid);
            if table.evaluates {
                let steps = sql::steps(&effect, &table).map_err(|error| self.no_fit(error))?;
                self.gather().await?;
                self.run_all(&table, steps).await?;
            } else {
                self.open_transaction().await?;
                self.guard.silence(&self.client, &table).await?;
                window.push((effect, table));
            }
        }
        Ok(window)
    }

    pub(super) async fn lone_update(&mut self, update: &LoneUpdate) -> Result<(), ReplayError> {
        let table = self.table(&update.relation).await?;
        let table = self.give_identity(&update.relation, table).await?;
        let step = sql::lone_update(update, &table).map_err(|error| self.no_fit(error))?;
        self.locks.take(table.oid);
        self.run_all(&table, vec![step]).await
    }

    /// Gives a table the rows that a rewrite left, as the primary had them.
    pub(super) async fn replace_rows(&mut self, rows: &RelationRows) -> Result<(), ReplayError> {
        let table = self.named(&rows.relation).await?;
        self.open_transaction().await?;
        self.guard.silence(&self.client, &table).await?;
        let is_view = table.kind == TableKind::MaterializedView;
        if rows.first && !is_view {
            self.empty(&table).await?;
        }
        self.bracket.rows_arrived(&rows.relation);
        let step =
            sql::copy_text_rows(&table, &rows.columns, &rows.rows).map_err(|error| self.no_fit(error))?;
        if is_view {
            return self.fill_view(&table, step).await;
        }
        if rows.rows.is_empty() {
            return Ok(());
        }
        let constraints = Unvalidated::take(&self.client, &table).await?;
        self.run_all(&table, vec![step]).await?;
        Ok(constraints.put_back(&self.client, &table).await?)
    }

    /// Gives a materialised view rows; it is empty since the statement that filled it on the primary ran here
    /// without data.
    async fn fill_view(&mut self, view: &Arc<TableFacts>, step: Step) -> Result<(), ReplayError> {
        let doing = || format!("fill materialised view {}", view.name);
        self.client.batch_execute(&views::as_table(&view.name)).await.doing_with(doing)?;
        if step.rows > 0 {
            self.run_all(view, vec![step]).await?;
        }
        self.client.batch_execute(&views::as_view(&view.name)).await.doing_with(doing)?;
        Ok(())
    }

    /// The table of a name that is written as SQL writes it.
    pub(super) async fn named(&mut self, written: &str) -> Result<Arc<TableFacts>, ReplayError> {
        let sql = "SELECT n.nspname::text, c.relname::text FROM pg_class c
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";
        let row =
            self.client.query_opt(sql, &[&written]).await.doing_with(|| format!("look for {written}"))?;
        let name = row.map_or_else(
            || QualifiedName::new("", written),
            |row| QualifiedName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        );
        let found = self.catalog.table(&self.client, &name).await?;
        found.ok_or_else(|| Mismatch::NoTable { table: name, position: self.position() }.into())
    }

    async fn run_all(&mut self, table: &Arc<TableFacts>, steps: Vec<Step>) -> Result<(), ReplayError> {
        if steps.is_empty() {
            return Ok(());
        }
        self.open_transaction().await?;
        self.guard.silence(&self.client, table).await?;
        if table.evaluates {
            self.take_users_path(table).await?;
        }
        for step in steps {
            self.sender().step(table, step).await?;
        }
        if table.evaluates {
            self.leave_users_path().await?;
        }
        Ok(())
    }

    /// What the primary's table had when it sent these rows, REPLICA IDENTITY FULL, where the replica's table needs it:
    /// with publications in the database PostgreSQL refuses UPDATE and DELETE without one.
    async fn give_identity(
        &mut self,
        relation: &Relation,
        table: Arc<TableFacts>,
    ) -> Result<Arc<TableFacts>, ReplayError> {
        if !table.lacks_identity || relation.replica_identity != ReplicaIdentity::Full {
            return Ok(table);
        }
        self.gather().await?;
        self.open_transaction().await?;
        self.make_identity_full(&table.name).await?;
        self.table(relation).await
    }

    /// Takes all rows of a table away. Not by TRUNCATE, which foreign keys of other tables forbid.
    pub(super) async fn empty(&mut self, table: &TableFacts) -> Result<(), ReplayError> {
        let sql = format!("DELETE FROM ONLY {}", table.name);
        self.change_all(table, &sql, || format!("empty {}", table.name)).await
    }

    /// Runs an UPDATE or DELETE of all rows of a table, in the open transaction. No change of a row in the log says
    /// which replica identity the table has on the primary; where PostgreSQL refuses the statement for want of one,
    /// the table gets FULL.
    pub(super) async fn change_all(
        &mut self,
        table: &TableFacts,
        sql: &str,
        doing: impl Fn() -> String,
    ) -> Result<(), ReplayError> {
        if !table.lacks_identity {
            return Ok(self.client.batch_execute(sql).await.doing_with(doing)?);
        }
        self.client.batch_execute("SAVEPOINT all_rows").await.doing("set a savepoint")?;
        if let Err(error) = self.client.batch_execute(sql).await {
            if !error.code().is_some_and(|code| WANTS_IDENTITY.contains(code)) {
                return Err(DatabaseError::new(doing(), error).into());
            }
            self.client.batch_execute("ROLLBACK TO all_rows").await.doing("go back to a savepoint")?;
            self.make_identity_full(&table.name).await?;
            self.client.batch_execute(sql).await.doing_with(doing)?;
        }
        Ok(self.client.batch_execute("RELEASE all_rows").await.doing("release a savepoint")?)
    }

    async fn make_identity_full(&mut self, table: &QualifiedName) -> Result<(), ReplayError> {
        let sql = format!("ALTER TABLE ONLY {table} REPLICA IDENTITY FULL");
        let doing = || format!("give {table} the replica identity that it has on the primary");
        self.client.batch_execute(&sql).await.doing_with(doing)?;
        self.catalog.has_identity(table);
        Ok(())
    }

    /// Our statements name everything in full and run under `pg_catalog` alone. What users wrote into a table (an
    /// index expression, a check) found its functions by the user's path: the database's, and the table's schema.
    pub(super) async fn take_users_path(&self, table: &TableFacts) -> Result<(), DatabaseError> {
        let sql = "SELECT pg_catalog.set_config('search_path', coalesce((
                           SELECT pg_catalog.substr(setting, 13) FROM pg_catalog.pg_db_role_setting s
                           JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
                           pg_catalog.unnest(s.setconfig) AS setting
                           WHERE d.datname = pg_catalog.current_database() AND s.setrole = 0
                             AND setting LIKE 'search_path=%'), '\"$user\", public')
                       || ', ' || pg_catalog.quote_ident($1), true)";
        let doing = || format!("set the search path for {}", table.name);
        self.client.query(sql, &[&table.name.schema]).await.doing_with(doing)?;
        Ok(())
    }

    pub(super) async fn leave_users_path(&self) -> Result<(), DatabaseError> {
        let sql = "SET LOCAL search_path = pg_catalog";
        self.client.batch_execute(sql).await.doing("set the search path back")
    }

    fn no_fit(&self, error: SqlError) -> ReplayError {
        Mismatch::Table { error, position: self.position() }.into()
    }
}
