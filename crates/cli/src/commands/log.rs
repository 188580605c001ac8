//! `log`: the captured history, entry by entry.

mod histogram;

use std::time::Duration;

use clap::Args;
use ptr_server::resource::{
    LONGEST_PAGE,
    entry::{EntryAnswer, EntryPage, EntryQuery},
    histogram::HistogramQuery,
    position::{PositionAnswer, PositionQuery},
};

use crate::{
    client::{Call, Client},
    context::Context,
    entry_line::{relation, sign, summary},
    failure::Failure,
    output::{Output, Paint},
};

/// How often `--follow` looks for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);

/// The captured history, oldest first
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  postgres-test-replay log --follow
  postgres-test-replay log --table orders --op update,delete --since '1h ago'
  postgres-test-replay log --grep ada@example.com --key id=42
  postgres-test-replay log --histogram time --since '1h ago'
  postgres-test-replay log --json | jq 'select(.operation == \"DDL\") | .sql'")]
pub struct Log {
    /// Go on with what is captured from now on
    #[arg(long, short)]
    follow: bool,
    /// Only this table, as table or schema.table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only these operations: insert, update, delete, truncate, ddl, message
    #[arg(long, value_name = "OP", value_delimiter = ',')]
    op: Vec<String>,
    /// Only entries that hold this text in a value, a statement or a message; upper and lower case are the same
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only rows with this key: a value of the primary key, or COLUMN=VALUE for any column
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// From this position on
    #[arg(long, value_name = "POS")]
    since: Option<String>,
    /// Up to this position
    #[arg(long, value_name = "POS", conflicts_with = "follow")]
    until: Option<String>,
    /// At most so many entries
    #[arg(long, short = 'n', value_name = "COUNT")]
    limit: Option<usize>,
    /// How much of what happened when, as a line for each part: of the transactions or of the time; -n is how many
    #[arg(long, value_name = "AXIS", num_args = 0..=1, default_missing_value = "transaction",
        value_parser = ["transaction", "time"], conflicts_with_all = ["follow", "table", "op", "grep", "key"])]
    histogram: Option<String>,
}

impl Log {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let mut query = self.query();
        query.database = context.database()?;
        if let Some(by) = self.histogram {
            let EntryQuery { since, until, database, .. } = query;
            let wanted = HistogramQuery { buckets: self.limit, by: Some(by), since, until, database };
            return histogram::run(context, wanted).await;
        }
        let client = context.client().await?;
        let result = self.stream(context, &client, query).await;
        client.close().await;
        result
    }

    async fn stream(&self, context: &Context, client: &Client, mut query: EntryQuery) -> Result<(), Failure> {
        let mut printer = Printer::new(&context.output);
        let mut left = self.limit.unwrap_or(usize::MAX);
        if !self.follow {
            return pages(client, query, &mut printer, &mut left).await;
        }
        while left > 0 {
            // Each part is looked through once, whatever is found in it: up to what is head now, and then from there.
            let head = head(client, query.database.clone()).await?;
            if query.since.as_ref() != Some(&head) {
                query.until = Some(head.clone());
                pages(client, query.clone(), &mut printer, &mut left).await?;
                query.since = Some(head);
                context.output.flush()?;
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
        Ok(())
    }

    fn query(&self) -> EntryQuery {
        EntryQuery {
            table: self.table.clone(),
            operation: (!self.op.is_empty()).then(|| self.op.join(",")),
            text: self.grep.clone(),
            key: self.key.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            ..EntryQuery::default()
        }
    }
}

/// Writes all that a query finds, page by page, and no more than what is left.
async fn pages(
    client: &Client,
    mut query: EntryQuery,
    printer: &mut Printer<'_>,
    left: &mut usize,
) -> Result<(), Failure> {
    while *left > 0 {
        query.limit = Some((*left).min(LONGEST_PAGE));
        let page: EntryPage = client.ask(&Call::get("/api/wal-logs").query(&query)).await?;
        printer.page(&page.entries)?;
        *left = left.saturating_sub(page.entries.len());
        if page.next_cursor.is_none() {
            break;
        }
        query.cursor = page.next_cursor;
    }
    Ok(())
}

/// The LSN of the end of the log of a captured database.
async fn head(client: &Client, database: Option<String>) -> Result<String, Failure> {
    let query = PositionQuery { at: "head".to_owned(), session_id: None, database };
    let head: PositionAnswer = client.ask(&Call::get("/api/position").query(&query)).await?;
    Ok(head.lsn)
}

/// Writes entries, those of one transaction under a line of their own.
pub struct Printer<'a> {
    output: &'a Output,
    transaction: Option<(u32, String)>,
}

impl<'a> Printer<'a> {
    /// Nothing written yet.
    pub fn new(output: &'a Output) -> Self {
        Self { output, transaction: None }
    }

    /// Writes some more, in log order.
    pub fn page(&mut self, entries: &[EntryAnswer]) -> Result<(), Failure> {
        for entry in entries {
            if self.output.is_json() {
                self.output.json_line(entry)?;
            } else {
                self.entry(entry)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &EntryAnswer) -> Result<(), Failure> {
        let transaction = (entry.xid, entry.commit_lsn.clone());
        if self.transaction.as_ref() != Some(&transaction) {
            let line = format!("xid {}  {}  {}", entry.xid, entry.timestamp, entry.commit_lsn);
            self.output.line(self.output.paint(Paint::Dim, &line))?;
            self.transaction = Some(transaction);
        }
        let (sign, colour) = sign(&entry.operation);
        let what = self.output.paint(colour, &format!("{sign} {}", entry.operation));
        let relation = relation(entry);
        let blank = if relation.is_empty() { "" } else { " " };
        Ok(self.output.line(format_args!(
            "  {:>6} {what}{blank}{relation}  {}",
            entry.index,
            summary(entry)
        ))?)
    }
}
