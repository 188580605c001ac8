//! What was committed, and in which order, as `test_decoding` says by a slot of its own; and what the tables held at any
//! of its commits. Nothing of the product is asked.

use std::collections::{BTreeMap, BTreeSet};

use ptr_testkit::TestServer;

use super::{DATABASE, world::lsn};

/// Tables by name, their rows by id.
pub type Contents = BTreeMap<String, BTreeMap<i64, String>>;

/// A transaction that changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Just past its commit record.
    pub end: u64,
    pub changes: Vec<RowChange>,
}

/// A row that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    pub table: String,
    pub operation: String,
    pub id: i64,
    /// What it was made; nothing after a DELETE.
    row: Option<String>,
}

/// All that was committed.
#[derive(Default)]
pub struct Oracle {
    pub commits: Vec<Commit>,
    first: Contents,
}

impl Oracle {
    /// From now on; nobody may be writing.
    pub async fn begin(primary: &TestServer) -> Self {
        primary.psql(DATABASE, "SELECT pg_create_logical_replication_slot('oracle', 'test_decoding')").await;
        Self { commits: Vec::new(), first: contents(primary, DATABASE, ["account", "ledger"]).await }
    }

    /// Reads what was committed meanwhile. A server that crashed may say again what it has said before.
    pub async fn read(&mut self, primary: &TestServer) {
        let client = primary.client(DATABASE).await;
        let changes = "SELECT lsn::text, data FROM pg_logical_slot_peek_changes('oracle', NULL, NULL,
                       'skip-empty-xacts', '1', 'include-xids', '0')";
        let rows = client.query(changes, &[]).await.unwrap_or_else(|error| panic!("{changes}: {error:?}"));
        let (known, mut open) = (self.commits.last().map_or(0, |commit| commit.end), Vec::new());
        for row in rows {
            let (at, data): (String, String) = (row.get(0), row.get(1));
            match data.as_str() {
                "BEGIN" => open.clear(),
                "COMMIT" => {
                    let commit = Commit { end: lsn(&at), changes: std::mem::take(&mut open) };
                    if commit.end > known && !commit.changes.is_empty() {
                        self.commits.push(commit);
                    }
                }
                // The product's own, by which it marks moments and schema changes.
                message if message.starts_with("message: ") => {}
                change => open.push(parse(change)),
            }
        }
        if let Some(last) = self.commits.last() {
            let (high, low) = (last.end >> 32, last.end & 0xFFFF_FFFF);
            let advance = format!("SELECT pg_replication_slot_advance('oracle', '{high:X}/{low:X}')");
            client.batch_execute(&advance).await.unwrap_or_else(|error| panic!("{advance}: {error:?}"));
        }
        client.close().await;
    }

    /// Transactions that committed after one LSN and up to another.
    pub fn between(&self, after: u64, upto: u64) -> &[Commit] {
        let place = |lsn| self.commits.partition_point(|commit| commit.end <= lsn);
        &self.commits[place(after)..place(upto)]
    }

    /// What the tables held after everything that had committed by then.
    pub fn contents_at(&self, lsn: u64) -> Contents {
        let mut contents = self.first.clone();
        for change in self.between(0, lsn).iter().flat_map(|commit| &commit.changes) {
            let table = contents.entry(change.table.clone()).or_default();
            match &change.row {
                Some(row) => drop(table.insert(change.id, row.clone())),
                None => drop(table.remove(&change.id)),
            }
        }
        contents
    }

    /// Entries of the ledger that were made up to an LSN.
    pub fn entries_until(&self, lsn: u64) -> BTreeSet<i64> {
        let changes = self.between(0, lsn).iter().flat_map(|commit| &commit.changes);
        changes
            .filter(|change| change.table == "ledger" && change.operation == "INSERT")
            .map(|change| change.id)
            .collect()
    }

    /// Rows that were changed so far.
    pub fn changes(&self) -> usize {
        self.commits.iter().map(|commit| commit.changes.len()).sum()
    }
}

/// `table public.ledger: UPDATE: old-key: id[bigint]:1 ... new-tuple: id[bigint]:1 v[text]:'x'`.
fn parse(data: &str) -> RowChange {
    let parts = data.strip_prefix("table public.").and_then(|rest| rest.split_once(": "));
    let (table, rest) = parts.unwrap_or_else(|| panic!("test_decoding says {data}"));
    let (operation, rest) = rest.split_once(": ").unwrap_or_else(|| panic!("test_decoding says {data}"));
    let tuple = rest.split_once("new-tuple: ").map_or(rest, |(_, new)| new);
    let values: Vec<&str> = tuple
        .split(' ')
        .map(|column| {
            column
                .split_once("]:")
                .unwrap_or_else(|| panic!("test_decoding says {data}"))
                .1
                .trim_matches('\'')
        })
        .collect();
    let id = values[0].parse().unwrap_or_else(|_| panic!("test_decoding says {data}"));
    let row = (operation != "DELETE").then(|| values.join("|"));
    RowChange { table: table.to_owned(), operation: operation.to_owned(), id, row }
}

/// What tables hold, read in one statement.
pub async fn contents(
    server: &TestServer,
    database: &str,
    tables: impl IntoIterator<Item = &str>,
) -> Contents {
    let tables: Vec<&str> = tables.into_iter().collect();
    let rows = |table: &&str| {
        // As the table is called, its columns in their order, separated as above.
        format!(
            "SELECT '{table}', id, array_to_string(ARRAY(SELECT value FROM json_each_text(row_to_json(t))), '|') FROM {table} t"
        )
    };
    let sql = tables.iter().map(rows).collect::<Vec<_>>().join(" UNION ALL ");
    let client = server.client(database).await;
    let found = client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    client.close().await;
    let mut contents: Contents = tables.iter().map(|table| ((*table).to_owned(), BTreeMap::new())).collect();
    for row in found {
        contents.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
    }
    contents
}
