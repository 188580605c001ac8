//! Schema changes: the statement runs again, under what it ran under, and what could come out different is
//! taken from the log instead of being computed again.

mod found;

use std::collections::BTreeMap;

use ptr_model::{MissingValue, SchemaChange, Statement};
use ptr_postgres::{QualifiedName, ServerError, quote_identifier, quote_literal};
use tokio_postgres::error::SqlState;

use super::{
    Applier, Notice, bracket, captured_table, confined, detach, environment, reindex, roles, tablespaces,
    temporary, text, unvalidated::Unvalidated,
};
use crate::{
    database::{self, DatabaseError, Doing},
    error::ReplayError,
    stop::Stop,
};

/// Reasons of a rewrite (`AT_REWRITE_*` in PostgreSQL's `event_trigger.h`) that compute values: a default, a
/// new type. The others copy rows as they are.
const COMPUTES_VALUES: i32 = 0x02 | 0x04;

impl Applier {
    pub(super) async fn schema_change(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let is_end = change.event == "ddl_command_end";
        if change.event == "ddl_command_start" {
            self.bracket.open(&change.tag);
        }
        if is_end {
            self.bracket.close(&change.tag);
        }
        // What is no entry accompanies a statement, is done by one (an extension's script), or is ours.
        if !change.is_entry || !is_end {
            return Ok(());
        }
        if bracket::is_table_as(&change.tag) && self.bracket.was_made_ahead() {
            return Ok(());
        }
        self.run_change(change).await
    }

    /// Makes the table of a CREATE TABLE AS before its rows, which come before the statement's end.
    pub(super) async fn make_ahead(&mut self, table: &QualifiedName) -> Result<(), ReplayError> {
        match self.bracket.take_ahead(table) {
            Some(end) => Box::pin(self.run_change(&end)).await,
            None => Ok(()),
        }
    }

    async fn run_change(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        self.flush().await?;
        self.open_transaction().await?;
        self.guard.release(&self.client).await?;
        self.uncommitted += 1;
        self.prepare_roles(change).await?;
        self.prepare_tablespaces(change).await?;
        self.discard_temporary(change).await?;
        self.run_statement(change).await?;
        self.forget_schema();
        change.dropped.iter().for_each(|object| self.bracket.dropped(&object.identity));
        Ok(())
    }

    async fn run_statement(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let sql = match self.decide(change)? {
            Decision::Run(sql) => sql,
            Decision::Skip(reason) => {
                let statement = change.statement.shown();
                self.applied.notices.push(Notice::Skipped { statement, reason });
                return Ok(());
            }
        };
        if temporary::is_only_temporary(change) {
            return self.run_temporary(change, &sql).await;
        }
        let sql = match change.tag.as_str() {
            "DROP INDEX" => match self.without_missing_indexes(change, sql).await? {
                Some(sql) => sql,
                None => return Ok(()),
            },
            "REINDEX" => {
                self.make_missing_indexes(change).await?;
                sql
            }
            "DROP OWNED" => {
                self.take_owners(change).await?;
                sql
            }
            _ => sql,
        };
        let columns_before = self.column_counts(&change.missing_values).await?;
        if makes_enum_value(&change.tag, &sql) {
            self.make_enum_value(change, &sql).await?;
        } else {
            self.execute(change, &sql).await?;
        }
        if change.tag == "CREATE INDEX" {
            self.same_index_made(change).await?;
        }
        self.name_indexes(change).await?;
        self.fix_missing_values(&change.missing_values, &columns_before).await?;
        self.fix_partition_bounds(change).await?;
        if is_view_filled(&change.tag) {
            let views = captured_table::captured(change).into_iter().filter(|view| view.populated);
            views.for_each(|view| self.bracket.await_rows(view.relation));
        }
        for (relation, reasons) in &change.rewrites {
            if reasons & COMPUTES_VALUES != 0 && self.is_permanent(relation).await? {
                self.bracket.await_rows(relation.clone());
            }
        }
        Ok(())
    }

    /// What to run for a change; an error where this version cannot do it exactly.
    fn decide(&self, change: &SchemaChange) -> Result<Decision, ReplayError> {
        let stop = |reason: String| {
            Err(Stop::new(self.position(), reason).at_statement(&change.statement.shown()).into())
        };
        let tables = captured_table::captured(change);
        let not_described = || {
            format!(
                "the log does not hold what {} made; running its query again could give other rows",
                change.tag
            )
        };
        match change.tag.as_str() {
            tag if bracket::is_table_as(tag) && tables.is_empty() => return stop(not_described()),
            tag if bracket::is_table_as(tag) => {
                return Ok(Decision::Run(captured_table::create(&tables, change)));
            }
            tag if is_view_filled(tag) && tables.is_empty() => return stop(not_described()),
            "REFRESH MATERIALIZED VIEW" => return Ok(Decision::Run(captured_table::empty_views(&tables))),
            // It asks another server, which may not be there, or answer otherwise.
            "IMPORT FOREIGN SCHEMA" if tables.is_empty() => return stop(not_described()),
            "IMPORT FOREIGN SCHEMA" => {
                return Ok(Decision::Run(captured_table::create(&tables, change)));
            }
            _ => {}
        }
        let statement = match &change.statement {
            Statement::Text(text) => text,
            Statement::Underivable { reason, .. } => {
                let reason = ptr_model::redacted(reason);
                return stop(format!("the exact statement of a {} is not known: {reason}", change.tag));
            }
        };
        if let Some(kind) = not_on_a_replica(change) {
            return Ok(Decision::Skip(format!("a replica has no {kind}")));
        }
        if let Some(setting) = environment::unknown_current(change, statement) {
            return stop(format!(
                "the value that SET {setting} FROM CURRENT took from the primary's session is not in the log: skip it, and \
                 run it again on the primary with the value itself, SET {setting} = ..."
            ));
        }
        let statement = &environment::with_session_user(change, statement);
        if let Some(sql) = found::only_what_was_there(change, statement) {
            return Ok(Decision::Run(sql));
        }
        match change.tag.as_str() {
            "CREATE MATERIALIZED VIEW" => {
                let is_filled = tables.iter().any(|view| view.populated);
                Ok(Decision::Run(if is_filled { text::with_no_data(statement) } else { statement.clone() }))
            }
            "CREATE SUBSCRIPTION" | "ALTER SUBSCRIPTION" | "DROP SUBSCRIPTION" => {
                Ok(Decision::Skip("a replica subscribes to nothing".to_owned()))
            }
            "ALTER TABLE" => match detach::at_once(change, statement) {
                Ok(sql) => Ok(Decision::Run(sql.unwrap_or_else(|| statement.clone()))),
                Err(reason) => stop(reason),
            },
            "CREATE INDEX" | "DROP INDEX" => Ok(Decision::Run(text::without_concurrently(statement))),
            "REINDEX" => Ok(Decision::Run(reindex::one_by_one(change, statement))),
            _ => Ok(Decision::Run(statement.clone())),
        }
    }

    /// A DROP INDEX of what the replica has. A CREATE INDEX CONCURRENTLY that failed leaves an invalid index on the
    /// primary, which neither a base image nor the log brings here.
    async fn without_missing_indexes(
        &mut self,
        change: &SchemaChange,
        sql: String,
    ) -> Result<Option<String>, ReplayError> {
        let dropped: Vec<&str> = change.dropped.iter().map(|object| object.identity.as_str()).collect();
        let found = self.existing(&dropped).await?;
        if found.len() == dropped.len() {
            return Ok(Some(sql));
        }
        let statement = change.statement.text().to_owned();
        let reason = "the replica has no such index: on the primary it was invalid".to_owned();
        self.applied.notices.push(Notice::Skipped { statement, reason });
        Ok((!found.is_empty()).then(|| format!("DROP INDEX {}", found.join(", "))))
    }

    /// Indexes that a failed CREATE INDEX CONCURRENTLY left on the primary, and that this REINDEX made valid there: made
    /// here as the primary describes them.
    async fn make_missing_indexes(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let indexes: Vec<&str> = reindex::user_indexes(change).map(|index| index.identity.as_str()).collect();
        let found = self.existing(&indexes).await?;
        for missing in indexes.into_iter().filter(|index| !found.iter().any(|name| name == index)) {
            let Some(sql) = reindex::making(change, missing) else {
                let reason =
                    format!("the replica has no index {missing}: until now it was invalid on the primary");
                return Err(Stop::new(self.position(), reason).at_statement(change.statement.text()).into());
            };
            self.execute(change, &sql).await?;
        }
        Ok(())
    }

    /// An index without a name gets one that is free, and an invalid index takes a name on the primary only.
    async fn same_index_made(&self, change: &SchemaChange) -> Result<(), ReplayError> {
        let indexes: Vec<&str> = change.objects.iter().map(|object| object.identity.as_str()).collect();
        if self.existing(&indexes).await?.len() == indexes.len() {
            return Ok(());
        }
        let reason = format!(
            "index {} got another name on the replica, because an invalid index of the primary has that name",
            indexes.join(", ")
        );
        Err(Stop::new(self.position(), reason).at_statement(change.statement.text()).into())
    }

    /// Those of these relations that the replica has; identities as event triggers print them.
    async fn existing(&self, identities: &[&str]) -> Result<Vec<String>, ReplayError> {
        let sql = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL";
        let found = self.client.query(sql, &[&identities]).await.doing("look for indexes")?;
        Ok(found.iter().map(|row| row.get(0)).collect())
    }

    /// Runs a statement as who ran it on the primary. Where that role may not on this server, its rights are
    /// lent to it within the transaction, so that nobody else ever sees them, and this is reported.
    pub(super) async fn execute(&mut self, change: &SchemaChange, sql: &str) -> Result<(), ReplayError> {
        self.client.batch_execute("SAVEPOINT statement").await.doing("set a savepoint")?;
        let role = &change.environment.current_user;
        let mut is_lent = self.needs_rights_first(change, role).await?;
        if is_lent {
            self.lend_rights(role).await?;
        }
        let mut outcome = self.attempt(change, sql, role).await;
        let denied = matches!(&outcome, Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
                                             && confined::refused_itself(error));
        if denied && !is_lent && !role.is_empty() && !self.is_superuser(role).await? {
            self.back_to_savepoint().await?;
            self.lend_rights(role).await?;
            is_lent = true;
            outcome = self.attempt(change, sql, role).await;
        }
        if is_lent && outcome.is_ok() {
            let take = format!("ALTER ROLE {} NOSUPERUSER", quote_identifier(role));
            self.client.batch_execute(&take).await.doing_with(|| format!("take rights from {role}"))?;
            let statement = change.statement.shown();
            self.applied.notices.push(Notice::RanWithMoreRights { role: role.clone(), statement });
        }
        let hindered =
            matches!(&outcome, Err(error) if error.code() == Some(&SqlState::INVALID_TABLE_DEFINITION));
        if hindered && change.tag == "ALTER TABLE" {
            self.back_to_savepoint().await?;
            self.take_primarys_identity(change).await?;
            outcome = self.attempt(change, sql, role).await;
        }
        if let Err(error) = outcome {
            return Err(self.failed(change, error));
        }
        self.client.batch_execute("RELEASE statement").await.doing("release a savepoint")?;
        Ok(())
    }

    /// Whether a statement's role was a superuser on the primary and is none here, and the statement would not be refused
    /// for that, but do something else. Where we are no superuser either, it does.
    async fn needs_rights_first(&self, change: &SchemaChange, role: &str) -> Result<bool, ReplayError> {
        if !roles::was_superuser(change) || !roles::differs_for_superusers(&change.tag) {
            return Ok(false);
        }
        let lacks = roles::can_be_lent(&self.client, role).await;
        Ok(lacks.doing_with(|| format!("look at role {role}"))?)
    }

    /// Roles are the whole server's: who replays into another database may lend to the same one, and PostgreSQL refuses
    /// the second of two at once. The lock lets them take turns, and hinders nobody else.
    async fn lend_rights(&self, role: &str) -> Result<(), DatabaseError> {
        let lock = "LOCK TABLE pg_catalog.pg_authid IN SHARE UPDATE EXCLUSIVE MODE";
        let lend = format!("{lock}; ALTER ROLE {} SUPERUSER", quote_identifier(role));
        self.client.batch_execute(&lend).await.doing_with(|| format!("lend rights to {role}"))
    }

    /// A replica identity that the user asked for is FULL on the primary, as capture needs it, and here what was asked
    /// for. An index that is the identity hinders what went through there (DROP NOT NULL).
    async fn take_primarys_identity(&self, change: &SchemaChange) -> Result<(), ReplayError> {
        for table in change.objects.iter().filter(|object| object.object_type == "table") {
            let sql = format!("ALTER TABLE ONLY {} REPLICA IDENTITY FULL", table.identity);
            let doing = || format!("give {} the replica identity that it has on the primary", table.identity);
            self.client.batch_execute(&sql).await.doing_with(doing)?;
        }
        Ok(())
    }

    /// Values added to an enum can be used in the transaction that made the enum (from PostgreSQL 17 on), but not if a
    /// subtransaction did either (`AddEnumLabel` in `pg_enum.c`). So, once it is known to succeed, the statement runs
    /// again outside of the savepoint.
    async fn make_enum_value(&mut self, change: &SchemaChange, sql: &str) -> Result<(), ReplayError> {
        let role = &change.environment.current_user;
        self.client.batch_execute("SAVEPOINT statement").await.doing("set a savepoint")?;
        let outcome = self.attempt(change, sql, role).await;
        self.back_to_savepoint().await?;
        self.client.batch_execute("RELEASE statement").await.doing("release a savepoint")?;
        match outcome {
            Ok(()) => self.attempt(change, sql, role).await.map_err(|error| self.failed(change, error)),
            Err(_) => self.execute(change, sql).await,
        }
    }

    fn failed(&self, change: &SchemaChange, error: tokio_postgres::Error) -> ReplayError {
        match ServerError::of(&error) {
            None => DatabaseError::new("run a statement of the log", error).into(),
            Some(server) => {
                let mut stop = Stop::new(self.position(), server.message.clone());
                stop.sqlstate = Some(server.sqlstate.code().to_owned());
                // The primary had it: somebody dropped it here, or it is temporary and from before. Made anew from the
                // log, the database has it.
                stop.mismatch = server.sqlstate == SqlState::UNDEFINED_TABLE;
                stop.at_statement(&change.statement.shown()).into()
            }
        }
    }

    async fn attempt(
        &self,
        change: &SchemaChange,
        sql: &str,
        role: &str,
    ) -> Result<(), tokio_postgres::Error> {
        let may_do_all = role.is_empty() || confined::is_superuser(&self.client, role).await?;
        let before = environment::enter(&self.client, &change.environment).await?;
        if !may_do_all && confined::fits(&change.tag) {
            confined::run(&self.client, role, sql).await?;
            return environment::leave(&self.client, &before).await;
        }
        if !role.is_empty() {
            let sql = format!("SET LOCAL SESSION AUTHORIZATION {}", quote_identifier(role));
            self.client.batch_execute(&sql).await?;
        }
        if may_do_all {
            self.client.batch_execute(sql).await?;
        } else {
            // Prepared, so that it is one statement, whatever it was cut out of.
            self.client.execute(sql, &[]).await?;
        }
        if !role.is_empty() {
            self.client.batch_execute("SET LOCAL SESSION AUTHORIZATION DEFAULT").await?;
        }
        environment::leave(&self.client, &before).await
    }

    async fn back_to_savepoint(&self) -> Result<(), DatabaseError> {
        self.client.batch_execute("ROLLBACK TO statement").await.doing("go back to a savepoint")
    }

    async fn is_superuser(&self, role: &str) -> Result<bool, ReplayError> {
        self.back_to_savepoint().await?;
        let answer = confined::is_superuser(&self.client, role).await;
        Ok(answer.doing_with(|| format!("look at role {role}"))?)
    }

    async fn prepare_roles(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let mut wanted = change.roles.clone().unwrap_or_default();
        for name in [&change.environment.session_user, &change.environment.current_user] {
            if !wanted.iter().any(|role| role.name == *name) {
                wanted.push(roles::named(name));
            }
        }
        let created = roles::create_missing(&self.client, &wanted).await?;
        self.applied.notices.extend(created.into_iter().map(|role| Notice::RoleCreated { role }));
        Ok(())
    }

    async fn prepare_tablespaces(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let Some(names) = change.details.get("tablespaces") else { return Ok(()) };
        let names: Vec<String> = serde_json::from_value(names.clone())
            .map_err(|error| self.stop(format!("the log's tablespaces cannot be read: {error}")))?;
        let missing = tablespaces::missing(&self.client, &names).await?;
        if !missing.is_empty() {
            let outside = database::open(self.client.dsn()).await?;
            tablespaces::create(&outside, &missing).await?;
            outside.close().await;
        }
        let notices = missing.into_iter().map(|tablespace| Notice::TablespaceCreated { tablespace });
        self.applied.notices.extend(notices);
        Ok(())
    }

    /// Temporary objects live as long as the primary's session that made them, as far as the log shows it.
    async fn discard_temporary(&mut self, change: &SchemaChange) -> Result<(), ReplayError> {
        let makes = change.objects.iter().any(|object| object.schema.as_deref() == Some("pg_temp"));
        let pid = change.environment.backend_pid;
        if self.temporary_of.is_some_and(|owner| owner != pid) {
            self.client.batch_execute("DISCARD TEMP").await.doing("discard temporary objects")?;
            self.temporary_of = None;
        }
        if makes {
            self.temporary_of = Some(pid);
        }
        Ok(())
    }

    /// The way ends here, and with it what the log's sessions had for themselves: permanent objects that depend on it go
    /// along, as on the primary. Not left to the end of the connection, which comes when nobody waits for it.
    pub(crate) async fn discard_temporary_objects(&mut self) -> Result<(), ReplayError> {
        if self.temporary_of.take().is_some() {
            self.client.batch_execute("DISCARD TEMP").await.doing("discard temporary objects")?;
            self.forget_schema();
        }
        Ok(())
    }

    /// The highest column number of each table, before a statement that adds columns.
    async fn column_counts(&self, missing: &[MissingValue]) -> Result<BTreeMap<String, i16>, ReplayError> {
        let relations: Vec<&str> = missing.iter().map(|value| value.relation.as_str()).collect();
        if relations.is_empty() {
            return Ok(BTreeMap::new());
        }
        let sql = "SELECT r.name, max(a.attnum) FROM (SELECT DISTINCT unnest($1::text[])) AS r(name)
                   JOIN pg_attribute a ON a.attrelid = to_regclass(r.name) GROUP BY r.name";
        let rows = self.client.query(sql, &[&relations]).await.doing("count columns")?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Gives existing rows the value that a new column's default had on the primary when it was evaluated
    /// there (`ADD COLUMN ... DEFAULT now()` rewrites nothing and still differs when run again).
    async fn fix_missing_values(
        &mut self,
        missing: &[MissingValue],
        before: &BTreeMap<String, i16>,
    ) -> Result<(), ReplayError> {
        for value in missing {
            let Some(last) = before.get(&value.relation) else { continue };
            let sql = "SELECT (a.attmissingval::text::text[])[1], n.nspname::text, c.relname::text,
                              format_type(a.atttypid, a.atttypmod)
                       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                       JOIN pg_namespace n ON n.oid = c.relnamespace
                       WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND a.attnum > $3";
            let row =
                self.client.query_opt(sql, &[&value.relation, &value.column, last]).await.doing_with(
                    || format!("look at the new column {} of {}", value.column, value.relation),
                )?;
            let Some(row) = row else { continue };
            if row.get::<_, Option<String>>(0) == value.value {
                continue;
            }
            let table = QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2));
            self.forget_schema();
            let facts = self.named(&table.to_string()).await?;
            self.guard.silence(&self.client, &facts).await?;
            let literal = value.value.as_deref().map_or_else(|| "NULL".to_owned(), quote_literal);
            let column = quote_identifier(&value.column);
            let sql = format!("UPDATE ONLY {table} SET {column} = {literal}::{}", row.get::<_, String>(3));
            let constraints = Unvalidated::take(&self.client, &facts).await?;
            let doing = || format!("give the new column {column} of {table} the value that it had");
            self.change_all(&facts, &sql, doing).await?;
            constraints.put_back(&self.client, &facts).await?;
            self.guard.release(&self.client).await?;
        }
        Ok(())
    }

    /// Whether a rewritten table's rows are in the log at all: those of temporary and unlogged ones are not.
    async fn is_permanent(&self, relation: &str) -> Result<bool, ReplayError> {
        let sql = "SELECT relpersistence = 'p' FROM pg_class WHERE oid = to_regclass($1) AND relkind = 'r'";
        let row =
            self.client.query_opt(sql, &[&relation]).await.doing_with(|| format!("look at {relation}"))?;
        Ok(row.is_some_and(|row| row.get(0)))
    }
}

/// Statements whose rows follow as a message, because logical decoding leaves out those of materialised views.
fn is_view_filled(tag: &str) -> bool {
    matches!(tag, "CREATE MATERIALIZED VIEW" | "REFRESH MATERIALIZED VIEW")
}

fn makes_enum_value(tag: &str, sql: &str) -> bool {
    match tag {
        "CREATE TYPE" => text::has_word(sql, "ENUM"),
        "ALTER TYPE" => text::has_word(sql, "ADD") && text::has_word(sql, "VALUE"),
        _ => false,
    }
}

/// For GRANT, COMMENT and their like on nothing but what is not captured: what that is.
fn not_on_a_replica(change: &SchemaChange) -> Option<&'static str> {
    ["large object", "subscription"].into_iter().find(|kind| {
        let is_one = |kind_of_object: &str| kind_of_object.eq_ignore_ascii_case(kind);
        !change.objects.is_empty() && change.objects.iter().all(|object| is_one(&object.object_type))
    })
}

enum Decision {
    Run(String),
    Skip(String),
}

#[cfg(test)]
pub(super) mod tests {
    use ptr_model::{Environment, SchemaChange, Statement};

    /// A statement alone, with what the log holds beside it.
    pub(in crate::apply) fn altered(sql: &str, details: serde_json::Value) -> SchemaChange {
        SchemaChange {
            tag: sql.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_uppercase(),
            is_entry: true,
            event: "ddl_command_end".to_owned(),
            statement: Statement::Text(sql.to_owned()),
            environment: Environment {
                session_user: "who logged in".to_owned(),
                current_user: "who it is".to_owned(),
                ..Environment::default()
            },
            objects: Vec::new(),
            dropped: Vec::new(),
            rewrites: Vec::new(),
            missing_values: Vec::new(),
            roles: None,
            details: serde_json::from_value(details).expect("an object"),
        }
    }
}
