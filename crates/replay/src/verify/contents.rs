//! The rows of two databases, table by table.

use std::{cmp::Ordering, collections::BTreeMap, pin::Pin};

use futures_util::StreamExt;
use ptr_model::OUR_SCHEMA;
use ptr_postgres::{Connection, Dsn, QualifiedName, quote_identifier};
use tokio_postgres::RowStream;

use super::{RowDifference, SHOWN_ROWS, Side, TableReport, VerifyError, shown};
use crate::database::{self, DatabaseError, Doing};

/// Tables with rows of their own and materialised views that are filled, with their columns. What is ours,
/// temporary or unlogged is left out.
fn tables_query() -> String {
    format!(
        "SELECT n.nspname::text, c.relname::text,
                coalesce((SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
                          WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}')
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.relispopulated
           AND n.nspname NOT IN ('pg_catalog', 'information_schema', '{OUR_SCHEMA}')
           AND n.nspname !~ '^pg_(toast|temp)'"
    )
}

/// One side of the comparison, in one snapshot.
struct Database {
    client: Connection,
    /// The columns of each table, in the order of their names.
    tables: BTreeMap<(String, String), Vec<String>>,
}

impl Database {
    async fn open(dsn: &Dsn) -> Result<Self, VerifyError> {
        let client = database::open(dsn).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL row_security = off";
        client.batch_execute(begin).await.doing("begin to read")?;
        let rows = client.query(&tables_query(), &[]).await.doing("list the tables")?;
        let tables = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        Ok(Self { client, tables })
    }

    /// How many rows a table has, and a sum over them that does not depend on their order: each row's MD5, as
    /// two numbers. A sum, not an exclusive or, so that rows that are there twice count twice.
    async fn summary(&self, table: &(String, String)) -> Result<Option<(u64, String)>, DatabaseError> {
        let Some(columns) = self.tables.get(table) else { return Ok(None) };
        let half = |from: u32| {
            format!("coalesce(sum(('x' || substr(digest, {from}, 16))::bit(64)::bigint::numeric), 0)")
        };
        let sql = format!(
            "SELECT count(*), format('%s %s', {}, {}) FROM (SELECT md5(image) AS digest FROM ({}) AS images) AS digests",
            half(1),
            half(17),
            images(table, columns)
        );
        let row = self
            .client
            .query_one(&sql, &[])
            .await
            .doing_with(|| format!("read {}", shown(&table.0, &table.1)))?;
        Ok(Some((u64::try_from(row.get::<_, i64>(0)).unwrap_or(0), row.get(1))))
    }

    async fn sorted(&self, table: &(String, String)) -> Result<Rows, DatabaseError> {
        let columns = self.tables.get(table).map_or(&[][..], Vec::as_slice);
        let sql =
            format!("SELECT image FROM ({}) AS images ORDER BY image COLLATE \"C\"", images(table, columns));
        let doing = || format!("read {}", shown(&table.0, &table.1));
        let parameters: [&str; 0] = [];
        let stream = self.client.query_raw(&sql, parameters).await.doing_with(doing)?;
        Ok(Rows { stream: Box::pin(stream), table: shown(&table.0, &table.1) })
    }
}

/// A table's rows as text, one column `image`.
fn images((schema, name): &(String, String), columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
    format!(
        "SELECT ROW({})::text AS image FROM ONLY {}",
        columns.join(", "),
        QualifiedName::new(schema, name)
    )
}

struct Rows {
    stream: Pin<Box<RowStream>>,
    table: String,
}

impl Rows {
    async fn next(&mut self) -> Result<Option<String>, DatabaseError> {
        let row = self.stream.next().await.transpose().doing_with(|| format!("read {}", self.table))?;
        Ok(row.map(|row| row.get(0)))
    }
}

pub(super) async fn compare(primary: &Dsn, replica: &Dsn) -> Result<Vec<TableReport>, VerifyError> {
    let (primary, replica) = (Database::open(primary).await?, Database::open(replica).await?);
    let mut names: Vec<&(String, String)> = primary.tables.keys().chain(replica.tables.keys()).collect();
    names.sort();
    names.dedup();
    let mut reports = Vec::new();
    for name in names {
        let (here, there) = (primary.summary(name).await?, replica.summary(name).await?);
        let same_rows = here == there;
        let comparable = here.is_some() && there.is_some();
        let first_differences = if same_rows || !comparable {
            Vec::new()
        } else {
            first_differences(&primary, &replica, name).await?
        };
        reports.push(TableReport {
            table: shown(&name.0, &name.1),
            primary_rows: here.map(|(rows, _)| rows),
            replica_rows: there.map(|(rows, _)| rows),
            same_rows,
            first_differences,
        });
    }
    Ok(reports)
}

/// Both sides' rows in the order of their text, side by side.
async fn first_differences(
    primary: &Database,
    replica: &Database,
    table: &(String, String),
) -> Result<Vec<RowDifference>, VerifyError> {
    let (mut here, mut there) = (primary.sorted(table).await?, replica.sorted(table).await?);
    let (mut left, mut right) = (here.next().await?, there.next().await?);
    let mut found = Vec::new();
    while found.len() < SHOWN_ROWS {
        let order = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.as_bytes().cmp(right.as_bytes()),
        };
        if order.is_lt() {
            found.extend(left.take().map(|row| RowDifference { only_on: Side::Primary, row }));
        }
        if order.is_gt() {
            found.extend(right.take().map(|row| RowDifference { only_on: Side::Replica, row }));
        }
        if order.is_le() {
            left = here.next().await?;
        }
        if order.is_ge() {
            right = there.next().await?;
        }
    }
    Ok(found)
}
