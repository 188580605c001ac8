//! Reads tables of one or two databases, in parallel, range by range.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ptr_postgres::Connection;
use tokio::sync::watch;

use super::{
    VerifyError, VerifyOptions, VerifyProgress,
    digest::{Groups, Sum, TableDigest},
    plan::TablePlan,
    sql,
};
use crate::{
    database::{self, DatabaseError, Doing},
    snapshot::Exported,
};

/// One range of one side of a table.
struct Task {
    table: usize,
    side: usize,
    range: (u64, Option<u64>),
    pages: u64,
}

/// A table that is being read.
struct Reading {
    sides: [Option<Groups>; 2],
    left: usize,
}

struct Shared<'a> {
    databases: &'a [&'a Exported],
    plans: &'a [TablePlan],
    options: &'a VerifyOptions,
    tasks: Mutex<VecDeque<Task>>,
    reading: Mutex<(Vec<Reading>, Vec<TableDigest>)>,
    progress: &'a watch::Sender<VerifyProgress>,
}

/// Adds up the hashes of every table of one or two databases.
pub(super) async fn digests(
    databases: &[&Exported],
    plans: &[TablePlan],
    options: &VerifyOptions,
    progress: &watch::Sender<VerifyProgress>,
) -> Result<Vec<TableDigest>, VerifyError> {
    let tasks = tasks(databases.len(), plans);
    let reading: Vec<Reading> = plans
        .iter()
        .enumerate()
        .map(|(table, plan)| Reading {
            sides: [0, 1].map(|side| plan.has(side).then(Groups::new)),
            left: tasks.iter().filter(|task| task.table == table).count(),
        })
        .collect();
    let digests = reading.iter().map(|reading| TableDigest::of(&reading.sides)).collect();
    let total = tasks.iter().map(|task| task.pages).sum();
    progress.send_modify(|progress| *progress = VerifyProgress { total, ..VerifyProgress::default() });
    let shared = Shared {
        databases,
        plans,
        options,
        tasks: Mutex::new(tasks),
        reading: Mutex::new((reading, digests)),
        progress,
    };
    futures_util::future::try_join_all((0..options.jobs.max(1)).map(|_| shared.work())).await?;
    Ok(lock(&shared.reading).1.clone())
}

fn tasks(databases: usize, plans: &[TablePlan]) -> VecDeque<Task> {
    let mut tasks = VecDeque::new();
    for (table, plan) in plans.iter().enumerate() {
        for side in (0..databases).filter(|side| plan.has(*side)) {
            let all = plan.facts[side].as_ref().map_or(0, |facts| facts.pages);
            tasks.extend(plan.ranges(side).into_iter().map(|range| {
                let pages = range.1.unwrap_or(all).saturating_sub(range.0);
                Task { table, side, range, pages }
            }));
        }
    }
    tasks
}

impl Shared<'_> {
    async fn work(&self) -> Result<(), VerifyError> {
        let mut connections: [Option<Connection>; 2] = [None, None];
        loop {
            let Some(task) = lock(&self.tasks).pop_front() else { break };
            let plan = &self.plans[task.table];
            self.progress.send_modify(|progress| progress.step = format!("comparing {}", plan.shown()));
            let database = self.databases[task.side];
            let connection = match &mut connections[task.side] {
                Some(connection) => connection,
                none => none.insert(open(database, self.options).await?),
            };
            let sums = read(connection, database, plan, task.range).await?;
            self.put(&task, sums);
        }
        for connection in connections.into_iter().flatten() {
            connection.close().await;
        }
        Ok(())
    }

    fn put(&self, task: &Task, sums: Vec<(i32, Sum)>) {
        let mut reading = lock(&self.reading);
        let (all, digests) = &mut *reading;
        let table = &mut all[task.table];
        if let Some(groups) = &mut table.sides[task.side] {
            sums.into_iter().for_each(|(group, sum)| groups.entry(group).or_default().add(sum));
        }
        table.left -= 1;
        if table.left == 0 {
            digests[task.table] = TableDigest::of(&table.sides);
            table.sides = [None, None];
        }
        drop(reading);
        self.progress.send_modify(|progress| progress.done += task.pages);
    }
}

async fn read(
    connection: &Connection,
    database: &Exported,
    plan: &TablePlan,
    range: (u64, Option<u64>),
) -> Result<Vec<(i32, Sum)>, VerifyError> {
    begin(connection, database).await?;
    let sql = sql::sums(plan, range);
    let rows = connection.query(&sql, &[]).await.doing_with(|| format!("read {}", plan.shown()));
    let rows = rows.map_err(|error| disturbed_or(error, plan))?;
    connection.batch_execute("COMMIT").await.doing("end reading")?;
    let half = |text: String| {
        text.parse().map_err(|_| VerifyError::Unreadable { table: plan.shown(), text: text.clone() })
    };
    let sum = |row: tokio_postgres::Row| {
        let rows = u64::try_from(row.get::<_, i64>(1)).unwrap_or(0);
        Ok((row.get(0), Sum { rows, halves: [half(row.get(2))?, half(row.get(3))?] }))
    };
    rows.into_iter().map(sum).collect()
}

/// A session that reads, to be found by its name.
pub(super) async fn open(database: &Exported, options: &VerifyOptions) -> Result<Connection, VerifyError> {
    Ok(database::open(&database.dsn().with_application_name(&options.application_name)).await?)
}

/// A transaction in the exported snapshot. Each holds its locks only as long as it reads.
pub(super) async fn begin(connection: &Connection, database: &Exported) -> Result<(), DatabaseError> {
    let sql = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT '{}';
         SET LOCAL row_security = off; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0",
        database.id()
    );
    connection.batch_execute(&sql).await.doing("read in the snapshot")
}

/// A table or column that is not there any more (42P01, 42703), a view in its place (42809).
pub(super) fn disturbed_or(error: DatabaseError, plan: &TablePlan) -> VerifyError {
    match error.sqlstate() {
        Some("42P01" | "42703" | "42809") => VerifyError::Disturbed { table: plan.shown(), source: error },
        _ => error.into(),
    }
}

/// Locks a mutex whose holders never panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
