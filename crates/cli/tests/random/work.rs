//! Random transactions, one after the other: alone, with savepoints, as one string, in DO blocks, in two phases.

use std::{fs::File, io::Write as _};

use ptr_postgres::Connection;
use ptr_testkit::TestServer;

use super::{
    alter, create, rows,
    support::{Chance, pair::DATABASE},
    world::World,
};

/// A client of the primary that works at random.
pub struct Worker {
    client: Connection,
    trace: Option<File>,
    /// Transactions that are prepared and neither committed nor rolled back yet.
    prepared: Vec<String>,
    number: usize,
    taken: usize,
    refused: usize,
}

impl Worker {
    pub async fn new(primary: &TestServer) -> Self {
        let client = primary.client(DATABASE).await;
        // What a prepared transaction locks must not stop everything.
        client
            .batch_execute("SET lock_timeout = '100ms'; SET client_min_messages = error")
            .await
            .expect("settings");
        let trace = std::env::var("PTR_RANDOM_TRACE").ok().map(|path| File::create(path).expect("a trace"));
        Self { client, trace, prepared: Vec::new(), number: 0, taken: 0, refused: 0 }
    }

    /// How much of what was tried went through, so that a generator that only fails is noticed.
    pub fn summary(&self) -> String {
        format!("{} statements taken, {} refused", self.taken, self.refused)
    }

    /// Does something, and leaves no transaction open but prepared ones.
    pub async fn transaction(&mut self, chance: &mut Chance) {
        self.number += 1;
        match chance.below(12) {
            0..=3 => {
                if let Some(sql) = self.statement(chance).await {
                    self.run(&sql).await;
                }
            }
            4..=7 => self.with_savepoints(chance).await,
            8 => self.one_string(chance).await,
            9 => self.do_block(chance).await,
            10 => self.two_phase(chance).await,
            _ => self.outside(chance).await,
        }
        if chance.one_in(2) {
            self.settle().await;
        }
    }

    /// Ends prepared transactions.
    pub async fn settle(&mut self) {
        for name in std::mem::take(&mut self.prepared) {
            let end = if self.number.is_multiple_of(4) { "ROLLBACK" } else { "COMMIT" };
            assert!(self.run(&format!("{end} PREPARED '{name}'")).await, "a prepared transaction ends");
        }
    }

    async fn statement(&mut self, chance: &mut Chance) -> Option<String> {
        let world = World::read(&self.client).await;
        match chance.below(10) {
            0..=1 => create::create(chance, &world),
            2..=3 => alter::alter(chance, &world),
            _ => rows::change(chance, &world),
        }
    }

    /// Whether the server took it.
    async fn run(&mut self, sql: &str) -> bool {
        let outcome = self.client.batch_execute(sql).await;
        match outcome {
            Ok(()) => {
                self.taken += 1;
                self.write(&format!("{sql};"));
                true
            }
            Err(error) => {
                self.refused += 1;
                let message = error.as_db_error().map(|error| error.message().to_owned());
                let message = message.unwrap_or_else(|| panic!("{sql}: {error:?}"));
                self.write(&format!(
                    "-- refused: {}: {}",
                    message.replace('\n', " "),
                    sql.replace('\n', " ")
                ));
                false
            }
        }
    }

    fn write(&mut self, line: &str) {
        if let Some(trace) = &mut self.trace {
            writeln!(trace, "{line}").expect("the trace");
        }
    }

    async fn with_savepoints(&mut self, chance: &mut Chance) {
        self.run("BEGIN").await;
        if chance.one_in(6) {
            self.run("SET LOCAL search_path = app, public").await;
        }
        if chance.one_in(10) {
            self.run("SET LOCAL ROLE app_owner").await;
        }
        if chance.one_in(8) {
            self.run("SET LOCAL timezone = 'Asia/Kolkata'; SET LOCAL datestyle = 'SQL, DMY'; SET LOCAL extra_float_digits = 0").await;
        }
        for _ in 0..=chance.below(7) {
            let Some(sql) = self.statement(chance).await else { continue };
            self.run("SAVEPOINT s").await;
            let taken = self.run(&sql).await;
            if !taken || chance.one_in(6) {
                self.run("ROLLBACK TO s").await;
            }
            if chance.one_in(3) {
                self.run("RELEASE s").await;
            }
        }
        let end = if chance.one_in(10) { "ROLLBACK" } else { "COMMIT" };
        if !self.run(end).await {
            // A deferred constraint; the server has rolled back.
            self.write("ROLLBACK;");
        }
    }

    /// Several statements in one simple query: a transaction of their own.
    async fn one_string(&mut self, chance: &mut Chance) {
        let mut all = Vec::new();
        for _ in 0..=chance.below(3) {
            all.extend(self.statement(chance).await);
        }
        if !all.is_empty() {
            self.run(&all.join(";\n")).await;
        }
    }

    async fn do_block(&mut self, chance: &mut Chance) {
        let mut body = String::new();
        for _ in 0..=chance.below(3) {
            let Some(sql) = self.statement(chance).await else { continue };
            // Each in a subtransaction, as PL/pgSQL does it.
            body.push_str(&format!("BEGIN EXECUTE $st${sql}$st$; EXCEPTION WHEN OTHERS THEN NULL; END;\n"));
        }
        self.run(&format!("DO $do$ BEGIN\n{body} END $do$")).await;
    }

    async fn two_phase(&mut self, chance: &mut Chance) {
        self.run("BEGIN").await;
        for _ in 0..=chance.below(3) {
            let Some(sql) = self.statement(chance).await else { continue };
            self.run("SAVEPOINT p").await;
            if !self.run(&sql).await {
                self.run("ROLLBACK TO p").await;
            }
        }
        let name = format!("random {}", self.number);
        if self.run(&format!("PREPARE TRANSACTION '{name}'")).await {
            self.prepared.push(name);
        } else {
            self.run("ROLLBACK").await;
        }
    }

    /// What cannot be in a transaction.
    async fn outside(&mut self, chance: &mut Chance) {
        let world = World::read(&self.client).await;
        if world.tables.is_empty() || !self.prepared.is_empty() {
            return;
        }
        let table = chance.pick(&world.tables);
        let sql = match chance.below(4) {
            0 if !world.indexes.is_empty() => {
                Some(format!("DROP INDEX CONCURRENTLY {}", chance.pick(&world.indexes)))
            }
            1 => Some(format!("VACUUM (FULL) {}", table.name)),
            2 if !world.indexes.is_empty() => {
                Some(format!("REINDEX INDEX CONCURRENTLY {}", chance.pick(&world.indexes)))
            }
            _ => create::index(chance, table, "CONCURRENTLY"),
        };
        if let Some(sql) = sql {
            self.run(&sql).await;
        }
    }
}
