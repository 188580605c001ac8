//! A table whose rows a session takes from the primary, because replay could not follow it.
//!
//! A snapshot of the primary tied to a position -> the table's rows and definition into files -> the decision, which
//! names them. Replay leaves the table's changes out up to that position and loads the files there, each time the
//! session passes. Files that no decision names are of an attempt that failed, and go with the next.

use std::{path::PathBuf, sync::Arc};

use ptr_log::{Decision, DecisionKind, Session, TableName};
use ptr_model::Position;
use ptr_postgres::{SessionSettings, connect};
use ptr_replay::{
    Stop,
    resync::{self, Contents, ContentsError},
};
use uuid::Uuid;

use super::{
    APPLICATION_NAME, Captured, Service, ServiceError, TiedSnapshot, blocking, decisions::table_name,
};
use crate::backups::{run_program, server_version};

impl Service {
    /// Takes a table from the primary. What is answered is yet to be decided.
    pub(super) async fn resync_table(
        &self,
        session: &Session,
        written: &str,
        stop: Option<&Stop>,
    ) -> Result<(Position, DecisionKind, String), ServiceError> {
        let table = table_name(written)?;
        let from = self.where_from(session, &table, stop).await?;
        let captured = self.captured(Some(&session.database))?;
        self.remove_unnamed_contents(session).await?;
        let tied = self.tied_snapshot(&captured).await?;
        let name = Uuid::new_v4().to_string();
        let taken = tokio::select! {
            taken = self.take_contents(session, &captured, &tied, &table, &name) => taken,
            () = self.shutdown_token().cancelled() => {
                Err(ServiceError::precondition("the service was stopped", "resynchronise the table again"))
            }
        };
        let until = tied.position;
        tied.exported.close().await;
        let contents = taken?;
        refuse_beginning(until, captured.log.creation())?;
        let what =
            format!("changes of {} {table}", if contents.is_view { "materialised view" } else { "table" });
        let oid = Some(contents.oid);
        Ok((from.min(until), DecisionKind::Resync { table, oid, until, contents: name }, what))
    }

    async fn take_contents(
        &self,
        session: &Session,
        captured: &Arc<Captured>,
        tied: &TiedSnapshot,
        table: &TableName,
        name: &str,
    ) -> Result<Contents, ServiceError> {
        let client = tied.exported.connection();
        let version = server_version(client).await?;
        let pg_dump = self.programs()?.client_program("pg_dump", version.major)?;
        let folder = self.contents_of(session).join(name);
        let contents =
            resync::take(&tied.exported, table, &folder).await.map_err(|error| refused(error, session))?;
        self.refuse_unpublished(captured, tied, &contents).await?;
        let schema = folder.join(resync::SCHEMA);
        resync::create_private(&schema)?;
        let arguments = [
            "--schema-only".to_owned(),
            format!("--table={}", ptr_postgres::QualifiedName::new(&table.schema, &table.name)),
            format!("--snapshot={}", tied.exported.id()),
            format!("--file={}", schema.display()),
            "--encoding=UTF8".into(),
            "--no-password".into(),
            "--no-publications".into(),
            "--no-subscriptions".into(),
        ];
        run_program("pg_dump", &pg_dump, tied.exported.dsn(), &arguments).await?;
        let root = self.configuration.data.root().to_owned();
        blocking(move || resync::keep(&folder, &root)).await??;
        Ok(contents)
    }

    /// A table whose changes are not captured would be the primary's for a moment, and then differ unsaid.
    async fn refuse_unpublished(
        &self,
        captured: &Arc<Captured>,
        tied: &TiedSnapshot,
        contents: &Contents,
    ) -> Result<(), ServiceError> {
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication_tables
                                  WHERE pubname = $1 AND schemaname = $2 AND tablename = $3)";
        let Contents { table, is_view, .. } = contents;
        let publication = &self.on_primary(&captured.database)?.publication;
        let row =
            tied.exported.connection().query_one(sql, &[publication, &table.schema, &table.name]).await?;
        if *is_view || row.get(0) {
            return Ok(());
        }
        Err(ServiceError::precondition(
            format!("changes of table {table} of {:?} are not captured", captured.database),
            "doctor says why; its rows would differ from the primary's with the next change",
        ))
    }

    /// A partitioned table holds nothing: a decision about it would reach no row.
    pub(super) async fn refuse_partitioned(
        &self,
        session: &Session,
        table: &TableName,
    ) -> Result<(), ServiceError> {
        let dsn = self.output()?.with_database(&session.target_database);
        let client = connect(&dsn, &SessionSettings::canonical(APPLICATION_NAME)).await?;
        let partitions = resync::partitions_of(&client, table).await;
        client.close().await;
        match partitions.map_err(ContentsError::from)? {
            None => Ok(()),
            Some(partitions) => {
                let error = ContentsError::Partitioned { table: table.clone(), partitions };
                Err(partitioned(&error, "skip --table", session))
            }
        }
    }

    pub(super) fn contents_of(&self, session: &Session) -> PathBuf {
        self.configuration.data.contents_of(&session.id.to_string())
    }

    /// Removes what was taken for a session and no decision names, or needs any more.
    pub(super) async fn remove_unnamed_contents(&self, session: &Session) -> Result<(), ServiceError> {
        let decisions = self.decisions_of(session.id).await?;
        let folder = self.contents_of(session);
        blocking(move || {
            let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
            for entry in entries {
                let path = entry.map_err(ServiceError::file("read", &folder))?.path();
                let is_named = |decision: &Decision| match &decision.kind {
                    DecisionKind::Resync { contents, .. } => path.ends_with(contents),
                    DecisionKind::Skip { .. } | DecisionKind::LeaveOut { .. } => false,
                };
                if !decisions.iter().any(is_named) {
                    std::fs::remove_dir_all(&path).map_err(ServiceError::file("remove", &path))?;
                }
            }
            Ok(())
        })
        .await?
    }
}

/// Those decisions of a session that one about a table takes the place of, and from where on that then leaves it out.
pub(super) fn replaced(
    decisions: &[Decision],
    from: Position,
    kind: &DecisionKind,
) -> (Position, Vec<ptr_log::DecisionId>) {
    let (DecisionKind::LeaveOut { table, oid } | DecisionKind::Resync { table, oid, .. }) = kind else {
        return (from, Vec::new());
    };
    let same = |decision: &&Decision| match &decision.kind {
        DecisionKind::LeaveOut { table: other, oid: its } => is_same((table, *oid), (other, *its)),
        DecisionKind::Resync { table: other, oid: its, until, .. } => {
            is_same((table, *oid), (other, *its)) && until.ordinal > from.ordinal
        }
        DecisionKind::Skip { .. } => false,
    };
    let gone: Vec<&Decision> = decisions.iter().filter(same).collect();
    let from = gone.iter().map(|decision| decision.from).fold(from, Position::min);
    (from, gone.iter().map(|decision| decision.id).collect())
}

fn is_same(
    (table, oid): (&TableName, Option<ptr_model::Oid>),
    (other, its): (&TableName, Option<ptr_model::Oid>),
) -> bool {
    match (oid, its) {
        (Some(oid), Some(its)) => oid == its,
        _ => table == other,
    }
}

/// Rows go in with the transaction that leads to their position; at the beginning of a history, where `gc` may have put
/// it, there is none.
fn refuse_beginning(until: Position, creation: Position) -> Result<(), ServiceError> {
    if until > creation {
        return Ok(());
    }
    Err(ServiceError::precondition(
        "nothing was captured since CREATION, so there is nothing to leave out",
        "navigate CREATION --rebuild gives the session what the primary held then",
    ))
}

fn refused(error: ContentsError, session: &Session) -> ServiceError {
    match &error {
        ContentsError::NoTable(table) => {
            ServiceError::not_found("table on the primary", table.to_string(), "write it as schema.table")
        }
        ContentsError::Partitioned { .. } => partitioned(&error, "resync", session),
        ContentsError::NoRows(_) => {
            ServiceError::precondition(error.to_string(), "name a table or a materialised view")
        }
        ContentsError::Database(_) | ContentsError::File { .. } => error.into(),
    }
}

/// With the commands that reach the rows.
fn partitioned(error: &ContentsError, command: &str, session: &Session) -> ServiceError {
    use super::decisions::{of_session, shell_word};
    let ContentsError::Partitioned { partitions, .. } = error else { unreachable!("it is partitioned") };
    let line = |table: &TableName| {
        let (table, of) = (shell_word(&table.to_string()), of_session(session));
        format!("postgres-test-replay session {command} {table}{of}")
    };
    let lines: Vec<String> = partitions.iter().map(line).collect();
    let hint = if lines.is_empty() { "it has no partitions".to_owned() } else { lines.join("\n       ") };
    ServiceError::precondition(error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    #[test]
    fn no_table_is_taken_where_the_history_begins_though_it_had_begun_earlier() {
        let at = |ordinal| Position { ordinal, lsn: Lsn(ordinal), entry_index: ordinal };
        assert!(refuse_beginning(at(0), at(0)).is_err() && refuse_beginning(at(7), at(7)).is_err());
        assert!(refuse_beginning(at(8), at(7)).is_ok());
    }
}
