//! A table gets what the primary held at the position that the session is about to reach, by a decision.
//!
//! Invariant: in the transaction of the replica that also moves the cursor there. Whatever fails, the session is
//! before it.

use std::{path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use ptr_postgres::QualifiedName;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::{Applier, Notice, roles, unvalidated::Unvalidated};
use crate::{
    base::views,
    catalog::{Direction, TableFacts, TableKind},
    database::Doing,
    decisions::Load,
    error::ReplayError,
    resync::{self, Contents, ContentsError},
    stop::{self, Stop},
};

impl Applier {
    /// Gives a table what was taken from the primary.
    pub(crate) async fn load(&mut self, load: &Load<'_>) -> Result<(), ReplayError> {
        let contents = resync::read(&load.folder).map_err(|error| self.unreadable(load, &error))?;
        self.lasting = false;
        let loaded = self.load_contents(&contents, load).await;
        loaded.map_err(|error| self.not_loaded(load, error))?;
        let notice = Notice::Resynchronised {
            decision: load.decision.id.0,
            table: contents.table.to_string(),
            rows: contents.rows,
        };
        self.applied.notices.push(notice);
        Ok(())
    }

    async fn load_contents(&mut self, contents: &Contents, load: &Load<'_>) -> Result<(), ReplayError> {
        self.flush().await?;
        self.open_transaction().await?;
        self.uncommitted += 1;
        let table = self.table_like(contents, load).await?;
        self.guard.silence(&self.client, &table).await?;
        let doing = || format!("empty {}", table.name);
        if contents.is_view {
            let sql = format!("REFRESH MATERIALIZED VIEW {} WITH NO DATA", table.name);
            self.client.batch_execute(&sql).await.doing_with(doing)?;
            self.client.batch_execute(&views::as_table(&table.name)).await.doing_with(doing)?;
        } else {
            self.empty(&table).await?;
        }
        let checks = Unvalidated::take(&self.client, &table).await?;
        if table.evaluates {
            self.take_users_path(&table).await?;
        }
        self.copy_in(contents, &table, load).await?;
        if table.evaluates {
            self.leave_users_path().await?;
        }
        checks.put_back(&self.client, &table).await?;
        if contents.is_view {
            self.client.batch_execute(&views::as_view(&table.name)).await.doing_with(doing)?;
        }
        self.pass_sequences(&table).await
    }

    /// The replica's table; one with other columns, or none, is made as it was on the primary.
    async fn table_like(
        &mut self,
        contents: &Contents,
        load: &Load<'_>,
    ) -> Result<Arc<TableFacts>, ReplayError> {
        let name = QualifiedName::new(&contents.table.schema, &contents.table.name);
        let kind = if contents.is_view { TableKind::MaterializedView } else { TableKind::Ordinary };
        let found = self.catalog.table(&self.client, &name).await?;
        if let Some(table) = &found
            && table.kind == kind
            && resync::columns_of(table) == contents.columns
        {
            return Ok(Arc::clone(table));
        }
        self.guard.release(&self.client).await?;
        let old = match found.as_ref().map(|table| table.kind) {
            None => String::new(),
            Some(TableKind::MaterializedView) => format!("DROP MATERIALIZED VIEW {name}; "),
            Some(_) => format!("DROP TABLE {name}; "),
        };
        let doing = || format!("make {name} as it is on the primary");
        let needed: Vec<_> = contents.roles.iter().map(|role| roles::named(role)).collect();
        for role in roles::create_missing(&self.client, &needed).await? {
            self.applied.notices.push(Notice::RoleCreated { role });
        }
        let path = load.folder.join(resync::SCHEMA);
        let dump = tokio::fs::read_to_string(&path).await;
        let dump = dump.map_err(|source| self.unreadable(load, &ContentsError::File { path, source }))?;
        let sql = format!(
            "{old}{}; RESET default_tablespace; RESET default_table_access_method",
            resync::statements(&dump)
        );
        self.client.batch_execute(&sql).await.doing_with(doing)?;
        self.forget_schema();
        let made = self.catalog.table(&self.client, &name).await?;
        made.ok_or_else(|| self.stop(format!("{} does not make {name}", resync::SCHEMA)))
    }

    async fn copy_in(
        &self,
        contents: &Contents,
        table: &TableFacts,
        load: &Load<'_>,
    ) -> Result<(), ReplayError> {
        let doing = || format!("load the rows of {}", table.name);
        let Some(columns) = resync::stored(&contents.columns) else {
            let sql = format!(
                "INSERT INTO {} SELECT FROM pg_catalog.generate_series(1, {})",
                table.name, contents.rows
            );
            self.client.batch_execute(&sql).await.doing_with(doing)?;
            return Ok(());
        };
        let sql = format!("COPY {} ({columns}) FROM STDIN", table.name);
        let mut sink = std::pin::pin!(self.client.copy_in::<_, Bytes>(&sql).await.doing_with(doing)?);
        let path = load.folder.join(resync::ROWS);
        let mut hash = Sha256::new();
        let mut file = open(&path).await.map_err(|error| self.unreadable(load, &error))?;
        loop {
            let mut part = BytesMut::with_capacity(resync::PART);
            let read = file.read_buf(&mut part).await;
            let file_error = |source| ContentsError::File { path: path.clone(), source };
            if read.map_err(|source| self.unreadable(load, &file_error(source)))? == 0 {
                break;
            }
            hash.update(&part);
            sink.send(part.freeze()).await.doing_with(doing)?;
        }
        let found = sink.finish().await.doing_with(doing)?;
        if found == contents.rows && resync::hexadecimal(&hash.finalize()) == contents.sha256 {
            return Ok(());
        }
        let source = std::io::Error::other(format!("holds {found} rows and is not what was written"));
        Err(self.unreadable(load, &ContentsError::File { path, source }))
    }

    /// Takes the sequences that fill the table's columns as far as its rows.
    async fn pass_sequences(&mut self, table: &TableFacts) -> Result<(), ReplayError> {
        for filling in &table.sequences {
            let integer = |column: &crate::catalog::ColumnFacts| {
                column.name == filling.column
                    && ["smallint", "integer", "bigint"].contains(&column.type_name.as_str())
            };
            if !table.columns.iter().any(integer) {
                continue;
            }
            let furthest = match filling.direction {
                Direction::Ascending => "max",
                Direction::Descending => "min",
            };
            let column = ptr_postgres::quote_identifier(&filling.column);
            let sql = format!("SELECT {furthest}({column})::bigint FROM ONLY {}", table.name);
            let doing = || format!("look how far the sequence of {}.{column} is", table.name);
            let row = self.client.query_one(&sql, &[]).await.doing_with(doing)?;
            if let Some(value) = row.get(0) {
                self.sequences.reach(filling.sequence, filling.direction, value);
            }
        }
        Ok(())
    }

    fn unreadable(&self, load: &Load<'_>, error: &ContentsError) -> ReplayError {
        let reason = format!(
            "what table {} held on the primary cannot be read any more ({error}); resynchronise it again",
            load.table
        );
        Stop::new(self.position(), reason).about(load.table).into()
    }

    /// A stop at the table, unless what went wrong goes by itself.
    fn not_loaded(&self, load: &Load<'_>, error: ReplayError) -> ReplayError {
        match stop::located(error, None, self.position()) {
            ReplayError::Stopped(stop) if stop.table.is_none() => {
                let reason =
                    format!("table {} cannot be given the primary's rows: {}", load.table, stop.reason);
                Stop { reason, ..*stop }.about(load.table).into()
            }
            other => other,
        }
    }
}

async fn open(path: &Path) -> Result<tokio::fs::File, ContentsError> {
    let opened = tokio::fs::File::open(path).await;
    opened.map_err(|source| ContentsError::File { path: path.to_owned(), source })
}
