//! Writers on the primary, who note what they were answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use ptr_postgres::{Connection, Dsn, SessionSettings, connect};
use tokio::task::JoinHandle;

use super::support::Chance;

/// What they write to.
pub const TABLES: &str = "
CREATE TABLE ledger (id bigint PRIMARY KEY, w int, n int, v text);
CREATE TABLE account (id bigint PRIMARY KEY, balance bigint);
INSERT INTO account SELECT i, 1000 FROM generate_series(0, 9) i;";

const WRITERS: i64 = 3;
/// Transactions of one writer at most.
const SPAN: i64 = 1_000_000;
/// Rows of a large transaction; the log writes it in parts.
const MANY: usize = 700;

/// The writers.
pub struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    dsn: Mutex<Dsn>,
    is_over: AtomicBool,
    /// Ledger entries whose COMMIT returned.
    acknowledged: Mutex<Vec<i64>>,
    /// The last transaction that each writer began.
    begun: Vec<AtomicI64>,
}

/// What was known of the writers at a moment.
pub struct Moment {
    /// Entries whose COMMIT had returned.
    pub acknowledged: Vec<i64>,
    /// The last entry that each writer had begun.
    pub begun: Vec<i64>,
}

impl Load {
    pub fn new(dsn: Dsn) -> Self {
        let shared = Arc::new(Shared {
            dsn: Mutex::new(dsn),
            is_over: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            begun: (0..WRITERS).map(|writer| AtomicI64::new(writer * SPAN)).collect(),
        });
        Self { shared, tasks: Vec::new() }
    }

    pub fn begin(&mut self, chance: &mut Chance) {
        let writer = |writer| tokio::spawn(write(Arc::clone(&self.shared), writer, Chance(chance.number())));
        self.tasks = (0..WRITERS).map(writer).collect();
    }

    /// The server has another port, maybe.
    pub fn lead_to(&self, dsn: Dsn) {
        *self.shared.dsn.lock().expect("nobody panics with it") = dsn;
    }

    pub fn moment(&self) -> Moment {
        let begun = self.shared.begun.iter().map(|begun| begun.load(Ordering::SeqCst)).collect();
        Moment {
            acknowledged: self.shared.acknowledged.lock().expect("nobody panics with it").clone(),
            begun,
        }
    }

    /// Whether an entry was begun after a moment.
    pub fn is_after(moment: &Moment, entry: i64) -> bool {
        moment
            .begun
            .get(usize::try_from(entry / SPAN).unwrap_or(usize::MAX))
            .is_some_and(|last| entry > *last)
    }

    pub async fn end(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            task.await.expect("a writer does not panic");
        }
    }
}

async fn write(shared: Arc<Shared>, writer: i64, mut chance: Chance) {
    let mut connection: Option<Connection> = None;
    for number in 1.. {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        if connection.is_none() {
            let dsn = shared.dsn.lock().expect("nobody panics with it").clone();
            // A server that is down is tried again.
            connection = connect(&dsn, &SessionSettings::named("load")).await.ok();
        }
        if let Some(client) = &connection {
            let entry = writer * SPAN + number;
            shared.begun[usize::try_from(writer).expect("few")].store(entry, Ordering::SeqCst);
            match client.batch_execute(&transaction(&mut chance, writer, number)).await {
                Ok(()) => shared.acknowledged.lock().expect("nobody panics with it").push(entry),
                // Whether it committed, nobody knows.
                Err(_) => connection = None,
            }
        }
        // Their pace, so that the history stays short enough to be compared again and again.
        tokio::time::sleep(Duration::from_millis(10 + chance.below(120) as u64)).await;
    }
}

fn transaction(chance: &mut Chance, writer: i64, number: i64) -> String {
    let entry = writer * SPAN + number;
    let mut sql = format!("BEGIN; INSERT INTO ledger VALUES ({entry}, {writer}, {number}, 'v{number}');");
    let earlier = writer * SPAN
        + 1
        + i64::try_from(chance.below(usize::try_from(number).expect("positive"))).expect("small");
    let (from, amount) = (chance.below(9), chance.below(50));
    let to = from + 1 + chance.below(9 - from);
    match chance.below(160) {
        0..80 => sql.push_str(&format!(
            "UPDATE account SET balance = balance - {amount} WHERE id = {from};
             UPDATE account SET balance = balance + {amount} WHERE id = {to};"
        )),
        80..110 => sql.push_str(&format!("UPDATE ledger SET v = v || 'u{number}' WHERE id = {earlier};")),
        110..124 => sql.push_str(&format!("DELETE FROM ledger WHERE id = {earlier};")),
        124..127 if writer == 0 => sql.push_str(&format!(
            "CREATE TABLE made_{number} (id bigint PRIMARY KEY, v text); INSERT INTO made_{number} VALUES ({number}, 'first');"
        )),
        127 if chance.one_in(2) => sql.push_str(&format!(
            "INSERT INTO ledger SELECT {first} + g, {writer}, {number}, repeat(md5(g::text), 30) FROM generate_series(1, {MANY}) g;",
            first = 1_000_000_000_000 + entry * 10_000
        )),
        127 => sql.push_str(&format!("DELETE FROM ledger WHERE id > 1000000000000 AND w = {writer};")),
        _ => {}
    }
    sql.push_str("COMMIT");
    sql
}
