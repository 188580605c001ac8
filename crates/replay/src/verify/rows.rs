//! Names the first differing rows of groups that differ.

use std::{cmp::Ordering, pin::Pin};

use futures_util::StreamExt;
use ptr_postgres::Connection;
use tokio_postgres::RowStream;

use super::{
    ColumnDifference, RowDifference, SHOWN_ROWS, Side, VerifyError, VerifyOptions,
    plan::{Key, TablePlan},
    read::{self, begin, disturbed_or},
    sql,
};
use crate::{database::Doing, snapshot::Exported};

/// A row as it is compared.
struct FetchedRow {
    place: String,
    key: Option<String>,
    digest: String,
    columns: Vec<Option<String>>,
}

/// The rows of one side, in their order.
struct Rows<'a> {
    stream: Pin<Box<RowStream>>,
    plan: &'a TablePlan,
    // Ends the query when it is dropped.
    _connection: Connection,
}

impl<'a> Rows<'a> {
    async fn open(
        database: &Exported,
        plan: &'a TablePlan,
        groups: &[i32],
        options: &VerifyOptions,
    ) -> Result<Self, VerifyError> {
        let connection = read::open(database, options).await?;
        begin(&connection, database).await?;
        let groups = groups.to_vec();
        let stream = connection.query_raw(&sql::of_groups(plan), [&groups]).await;
        let stream = stream.doing_with(|| format!("read {}", plan.shown()));
        let stream = Box::pin(stream.map_err(|error| disturbed_or(error, plan))?);
        Ok(Self { stream, plan, _connection: connection })
    }

    async fn next(&mut self) -> Result<Option<FetchedRow>, VerifyError> {
        let row = self.stream.next().await.transpose();
        let row = row.doing_with(|| format!("read {}", self.plan.shown()));
        let row = row.map_err(|error| disturbed_or(error, self.plan))?;
        Ok(row.map(|row| FetchedRow {
            place: row.get(0),
            key: row.get(1),
            digest: row.get(2),
            columns: row.get(3),
        }))
    }
}

/// The first rows that differ, of these groups, side by side.
pub(super) async fn first_differences(
    databases: [&Exported; 2],
    plan: &TablePlan,
    groups: &[i32],
    options: &VerifyOptions,
) -> Result<Vec<RowDifference>, VerifyError> {
    let mut here = Rows::open(databases[0], plan, groups, options).await?;
    let mut there = Rows::open(databases[1], plan, groups, options).await?;
    let (mut left, mut right) = (here.next().await?, there.next().await?);
    let mut found = Vec::new();
    while found.len() < SHOWN_ROWS {
        let order = match (&left, &right) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.place.as_bytes().cmp(right.place.as_bytes()),
        };
        let one = if order.is_le() { left.take() } else { None };
        let other = if order.is_ge() { right.take() } else { None };
        if one.as_ref().map(|row| &row.digest) != other.as_ref().map(|row| &row.digest) {
            found.push(difference(plan, one, other));
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

fn difference(plan: &TablePlan, primary: Option<FetchedRow>, replica: Option<FetchedRow>) -> RowDifference {
    let only_on = match (&primary, &replica) {
        (Some(_), None) => Some(Side::Primary),
        (None, Some(_)) => Some(Side::Replica),
        _ => None,
    };
    let key = primary.as_ref().or(replica.as_ref()).and_then(|row| row.key.clone());
    let key = match &plan.key {
        Key::Integer(name) => key.map(|key| format!("{name}={key}")),
        Key::Columns(names) => key.map(|key| format!("({})={key}", names.join(", "))),
        Key::None => None,
    };
    let value = |row: &Option<FetchedRow>, place: usize| {
        row.as_ref().and_then(|row| row.columns.get(place).cloned().flatten())
    };
    let columns = plan.columns.iter().enumerate().map(|(place, (name, _))| ColumnDifference {
        column: name.clone(),
        primary: value(&primary, place),
        replica: value(&replica, place),
    });
    let columns = columns.filter(|column| only_on.is_some() || column.primary != column.replica).collect();
    RowDifference { key, only_on, columns }
}
