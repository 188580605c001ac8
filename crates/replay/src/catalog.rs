//! What the replica's catalog says about a table: all that building SQL for it needs to know.
//!
//! Facts are read once and kept until the schema changes; [`Catalog::forget`] drops them all then.

mod query;

use std::{collections::HashMap, sync::Arc};

use ptr_postgres::QualifiedName;
use tokio_postgres::Client;

use crate::database::DatabaseError;

/// A table of the replica.
#[derive(Clone, PartialEq, Debug)]
pub struct TableFacts {
    /// `pg_class.oid` on the replica.
    pub oid: u32,
    /// Its name.
    pub name: QualifiedName,
    /// What kind of relation it is.
    pub kind: TableKind,
    /// Its columns, in order, dropped ones left out.
    pub columns: Vec<ColumnFacts>,
    /// Its unique indexes and exclusion constraints, the best for telling rows apart first.
    pub constraints: Vec<UniqueConstraint>,
    /// Triggers and rules that fire even under `session_replication_role = replica`.
    pub firing: Vec<FiringObject>,
    /// Sequences that fill its columns.
    pub sequences: Vec<FillingSequence>,
    /// Rows, as the planner believes; 0 where it was never analyzed.
    pub estimated_rows: u64,
    /// Whether writing a row computes something that users wrote: an index expression, a check, a generated column,
    /// a domain. Functions in it may name things by the user's search path.
    pub evaluates: bool,
    /// Whether it is a part of an extension.
    pub of_extension: bool,
    /// Whether it has another replica identity than FULL while the database has publications: then PostgreSQL may
    /// refuse UPDATE and DELETE (55000), though nobody subscribes.
    pub lacks_identity: bool,
}

/// What kind of relation holds rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableKind {
    /// A table with rows of its own, a partition and an inheritance child among them.
    Ordinary,
    /// A partitioned table: its rows are its partitions'.
    Partitioned,
    /// A materialised view, which gets rows only as they were captured, whole.
    MaterializedView,
    /// Views, foreign tables, sequences: nothing that replay writes rows to.
    Other,
}

/// A column of a [`TableFacts`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnFacts {
    /// Its name, unquoted.
    pub name: String,
    /// Its type with modifier, of a domain the base type, as `format_type` says it under an empty search path.
    pub type_name: String,
    /// How a value gets from text to the type.
    pub input: InputPath,
    /// Whether it is computed from other columns.
    pub generated: bool,
    /// Whether it is `GENERATED ALWAYS AS IDENTITY`, which no UPDATE may set.
    pub always_identity: bool,
}

/// How a value gets from text to a column's type without anything but the type's input function.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InputPath {
    /// The input function refuses every value, as `pg_node_tree`'s does. The type is stored as text is, so a cast
    /// without a function does; there is one while the guard holds the table.
    NodeTree,
    /// `text::type` runs the input function.
    Cast,
    /// A cast function from text exists (`regclass`, `"char"`, a user's own), and may differ from the input
    /// function: values travel as an array of the type, whose elements that function reads.
    Array {
        /// The array type's name.
        array_type: String,
        /// What stands between its elements (`pg_type.typdelim`).
        delimiter: char,
    },
}

/// A unique index or an exclusion constraint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UniqueConstraint {
    /// The index's name.
    pub name: String,
    /// Its columns with their equality operators; `None` where it has expressions or a predicate, or is an
    /// exclusion constraint: then any change of the row may concern it.
    pub columns: Option<Vec<KeyColumn>>,
    /// Whether it is checked row by row and so tells rows apart at every moment.
    pub immediate: bool,
    /// Whether none of its columns can be NULL, and it compares each as the column's own operators do: an index may have
    /// another collation.
    pub not_null: bool,
}

/// A column of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyColumn {
    /// Its name, unquoted.
    pub name: String,
    /// The equality of the index's operator class, ready for `OPERATOR(...)`.
    pub equality: String,
}

/// A sequence that fills a column: by ownership (`serial`, identity) or by the column's default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FillingSequence {
    /// The column's name, unquoted.
    pub column: String,
    /// The sequence's `pg_class.oid` on the replica.
    pub sequence: u32,
    /// Which way it goes.
    pub direction: Direction,
}

/// Which way a sequence goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Its increment is positive.
    Ascending,
    /// Its increment is negative.
    Descending,
}

/// A trigger or rule that has to be turned off while rows are applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FiringObject {
    /// `TRIGGER` or `RULE`.
    pub kind: &'static str,
    /// Its name, unquoted.
    pub name: String,
    /// When it fires.
    pub firing: Firing,
}

/// When a trigger or rule fires, as far as it does under `session_replication_role = replica`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firing {
    /// `ENABLE ALWAYS`.
    Always,
    /// `ENABLE REPLICA`.
    Replica,
}

impl TableFacts {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether a column's values can only come in by a cast that the guard makes.
    #[must_use]
    pub fn needs_cast(&self) -> bool {
        self.columns.iter().any(|column| column.input == InputPath::NodeTree)
    }

    /// The equality operator of a key column: that of an index on it, else that of its type.
    #[must_use]
    pub fn equality(&self, name: &str) -> &str {
        self.constraints
            .iter()
            .filter_map(|constraint| constraint.columns.as_deref())
            .flatten()
            .find(|column| column.name == name)
            .map_or("pg_catalog.=", |column| &column.equality)
    }
}

/// The facts of the tables that were asked for since the last schema change.
#[derive(Debug, Default)]
pub struct Catalog {
    tables: HashMap<QualifiedName, Arc<TableFacts>>,
}

impl Catalog {
    /// The table of that name, `None` where the replica has none.
    pub async fn table(
        &mut self,
        client: &Client,
        name: &QualifiedName,
    ) -> Result<Option<Arc<TableFacts>>, DatabaseError> {
        if let Some(facts) = self.tables.get(name) {
            return Ok(Some(Arc::clone(facts)));
        }
        let facts = query::tables(client, std::slice::from_ref(name)).await?.pop().map(Arc::new);
        if let Some(facts) = &facts {
            self.tables.insert(name.clone(), Arc::clone(facts));
        }
        Ok(facts)
    }

    /// Reads the facts of all of these tables that are not known yet, so that nobody asks for each by itself. Those that
    /// are not there may be made before their rows come.
    pub async fn acquaint(
        &mut self,
        client: &Client,
        names: impl Iterator<Item = QualifiedName>,
    ) -> Result<(), DatabaseError> {
        let unknown: Vec<QualifiedName> = names.filter(|name| !self.tables.contains_key(name)).collect();
        // One is found out when it is needed, as ever.
        if unknown.len() < 2 {
            return Ok(());
        }
        for facts in query::tables(client, &unknown).await? {
            self.tables.insert(facts.name.clone(), Arc::new(facts));
        }
        Ok(())
    }

    /// The table has a replica identity now. What else is known of it stays: read anew while its triggers are held off,
    /// it would say that there are none to hold off.
    pub fn has_identity(&mut self, name: &QualifiedName) {
        if let Some(facts) = self.tables.get_mut(name) {
            Arc::make_mut(facts).lacks_identity = false;
        }
    }

    /// Forgets everything, because the schema changed.
    pub fn forget(&mut self) {
        self.tables.clear();
    }
}
