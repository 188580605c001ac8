//! `log --histogram`: how much of what happened when.

use ptr_server::resource::{
    histogram::{BucketAnswer, HistogramAnswer, HistogramQuery},
    transaction::Counts,
};

use crate::{
    client::Call,
    context::Context,
    entry_line::counted,
    failure::Failure,
    output::{Output, Paint},
};

/// Lines, when not told otherwise: they fit on a screen.
const LINES: usize = 20;

/// The longest bar, in characters.
const WIDTH: u64 = 40;

/// Asks for the buckets and prints a line of each.
pub async fn run(context: &Context, query: HistogramQuery) -> Result<(), Failure> {
    let query = HistogramQuery { buckets: query.buckets.or(Some(LINES)), ..query };
    let answer: HistogramAnswer = context.ask(&Call::get("/api/histogram").query(&query)).await?;
    if context.output.is_json() {
        return Ok(context.output.json(&answer)?);
    }
    let most = answer.buckets.iter().map(|bucket| total(bucket.counts)).max().unwrap_or_default();
    answer.buckets.iter().try_for_each(|bucket| line(&context.output, bucket, most))
}

fn line(output: &Output, bucket: &BucketAnswer, most: u64) -> Result<(), Failure> {
    let entries = total(bucket.counts);
    let transactions = counted(bucket.transactions, "transaction");
    Ok(output.line(format_args!(
        "{}  {:>12}  {transactions:>20}  {:WIDTH$}  {}",
        bucket.time,
        bucket.since.lsn,
        bar(entries, most),
        tally(output, bucket.counts),
        WIDTH = usize::try_from(WIDTH).unwrap_or_default(),
    ))?)
}

fn total(counts: Counts) -> u64 {
    let Counts { inserts, updates, deletes, truncates, ddl, messages } = counts;
    inserts + updates + deletes + truncates + ddl + messages
}

/// What is there is never without a mark.
fn bar(entries: u64, most: u64) -> String {
    let length = if entries == 0 { 0 } else { (entries.saturating_mul(WIDTH) / most.max(1)).max(1) };
    "#".repeat(usize::try_from(length).unwrap_or_default())
}

fn tally(output: &Output, counts: Counts) -> String {
    let kinds = [
        (counts.inserts, "+", Paint::Green),
        (counts.updates, "~", Paint::Yellow),
        (counts.deletes, "-", Paint::Red),
        (counts.truncates, "truncate ", Paint::Magenta),
        (counts.ddl, "ddl ", Paint::Blue),
        (counts.messages, "message ", Paint::Blue),
    ];
    let parts = kinds.into_iter().filter(|(count, ..)| *count > 0);
    parts
        .map(|(count, sign, paint)| output.paint(paint, &format!("{sign}{count}")))
        .collect::<Vec<_>>()
        .join(" ")
}
