//! `diff`: what differs between two positions, as net effect.

mod sql;

use clap::Args;
use ptr_server::resource::{
    LONGEST_PAGE,
    diff::{DiffAnswer, DiffQuery, RowDiff, TableDiff},
};

use crate::{
    client::Call,
    context::Context,
    entry_line::{one_line, row_change, sign},
    failure::{Failure, Kind},
    output::Paint,
};

/// What differs between two positions
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  postgres-test-replay diff before-update head
  postgres-test-replay diff @ head --stat
  postgres-test-replay diff before-update head --table orders --sql > forward.sql")]
pub struct Diff {
    /// The one position
    #[arg(value_name = "FROM")]
    from: String,
    /// The other
    #[arg(value_name = "TO")]
    to: String,
    /// Only this table, as table or schema.table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// The session that @ starts from, instead of the active one
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Only how many rows of which table
    #[arg(long, conflicts_with = "sql")]
    stat: bool,
    /// As SQL statements that lead from the one to the other
    #[arg(long)]
    sql: bool,
}

impl Diff {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let detail = match (self.stat, self.sql && !context.output.is_json()) {
            (true, _) => Some("stat"),
            // Refused where the rows of a table are not net.
            (_, true) => Some("sql"),
            _ => None,
        };
        let query = DiffQuery {
            from: self.from,
            to: self.to,
            table: self.table,
            detail: detail.map(str::to_owned),
            limit: Some(LONGEST_PAGE),
            session_id: self.session,
            database: context.database()?,
        };
        let answer: DiffAnswer = context.ask(&Call::get("/api/diff").query(&query)).await?;
        if context.output.is_json() {
            return Ok(context.output.json(&answer)?);
        }
        match (self.stat, self.sql) {
            (true, _) => stat(context, &answer),
            (_, true) => statements(context, &answer),
            _ => rows(context, &answer),
        }
    }
}

fn stat(context: &Context, answer: &DiffAnswer) -> Result<(), Failure> {
    context.list(&["table", "inserted", "updated", "deleted", ""], &answer.tables, |table| {
        let note = if table.truncated { "truncated" } else { "" };
        let (inserted, updated, deleted) = (table.inserted, table.updated, table.deleted);
        vec![
            table.table.clone(),
            format!("+{inserted}"),
            format!("~{updated}"),
            format!("-{deleted}"),
            note.to_owned(),
        ]
    })?;
    schema_changes(context, answer)
}

fn rows(context: &Context, answer: &DiffAnswer) -> Result<(), Failure> {
    schema_changes(context, answer)?;
    for table in &answer.tables {
        let TableDiff { inserted, updated, deleted, .. } = table;
        let truncated = if table.truncated { ", truncated between" } else { "" };
        context.output.line(format_args!("{}  +{inserted} ~{updated} -{deleted}{truncated}", table.table))?;
        for RowDiff { change, before, after } in &table.rows {
            let (sign, colour) = sign(change);
            let row = row_change(before.as_ref(), after.as_ref());
            context.output.line(format_args!("  {} {row}", context.output.paint(colour, sign)))?;
        }
    }
    if answer.truncated {
        context
            .output
            .prose(format_args!("only the first {LONGEST_PAGE} rows are shown; the counts are whole"));
    }
    Ok(())
}

fn schema_changes(context: &Context, answer: &DiffAnswer) -> Result<(), Failure> {
    for statement in &answer.schema_changes {
        context.output.line(context.output.paint(Paint::Blue, &format!("# {}", one_line(statement))))?;
    }
    Ok(())
}

/// A part of the statements would lead somewhere else, so it is all or nothing.
fn statements(context: &Context, answer: &DiffAnswer) -> Result<(), Failure> {
    if answer.truncated {
        let what = format!("more than {LONGEST_PAGE} rows differ, too many to write as SQL");
        return Err(Failure::new(Kind::Precondition, what).hint("take one --table, or a shorter way"));
    }
    if let Some(table) = answer.tables.iter().find(|table| table.truncated) {
        let what =
            format!("{} was truncated between, so the log does not say which rows went away", table.table);
        return Err(Failure::new(Kind::Precondition, what).hint("take positions on one side of the TRUNCATE"));
    }
    let is_backward = answer.to.transaction < answer.from.transaction;
    if let (Some(statement), true) = (answer.schema_changes.first(), is_backward) {
        let what =
            format!("schema changes lie between, which no statement takes back: {}", one_line(statement));
        return Err(Failure::new(Kind::Precondition, what)
            .hint("take positions on one side of them (`log --op ddl` shows where they are), or navigate"));
    }
    if !answer.schema_changes.is_empty() {
        context.output.prose(
            "the schema changes come first; rows that one of them makes by itself, such as CREATE TABLE AS, come twice",
        );
    }
    for statement in &answer.schema_changes {
        context.output.line(format_args!("{};", statement.trim_end().trim_end_matches(';')))?;
    }
    let rows = sql::rows(&answer.tables).map_err(|table| {
        Failure::new(Kind::Precondition, format!("the log does not hold a whole row of {table}"))
            .hint("tables with REPLICA IDENTITY FULL have whole rows; see `doctor`")
    })?;
    rows.iter().try_for_each(|statement| context.output.line(statement))?;
    Ok(())
}
