//! The SQL that gives a table the net effect of a range. Pure: facts in, statements out.
//!
//! Order within a table: what goes away, then updates that touch no unique column, then what comes. So no
//! statement ever meets a row that is only there for a moment, whatever keys were exchanged in the range.
//! Every statement says how many rows it must affect.
//!
//! Always `ONLY` (a DELETE on an inheritance parent takes its children's rows), always qualified and quoted
//! names, operators by `OPERATOR(...)`: the session's search path is `pg_catalog` alone.

mod copy;
mod keyed;
mod keyless;
mod parameter;

use bytes::Bytes;
use ptr_model::{Relation, ReplicaIdentity};
use ptr_postgres::{QualifiedName, quote_identifier};

pub use parameter::Parameter;

use crate::{
    catalog::{ColumnFacts, TableFacts, TableKind},
    fold::{LoneUpdate, RowIdentity, RowsEffect, TableEffect, table_name},
};

/// Rows a statement at most: large enough that the round trip is nothing, small enough that the server's
/// copy of the parameters is small.
const BATCH: usize = 10_000;

/// One thing to send.
#[derive(Debug)]
pub struct Step {
    /// What it does, for errors.
    pub action: Action,
    /// How many rows it must affect.
    pub rows: u64,
    /// What to send.
    pub command: Command,
}

/// What a step does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Removes rows.
    Delete,
    /// Changes rows in place.
    Update,
    /// Adds rows.
    Insert,
}

impl Action {
    /// The SQL word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Update => "UPDATE",
            Self::Insert => "INSERT",
        }
    }
}

/// How a step is sent.
#[derive(Debug)]
pub enum Command {
    /// A statement with parameters.
    Execute {
        /// Its text.
        sql: String,
        /// Its parameters.
        parameters: Vec<Parameter>,
    },
    /// `COPY ... FROM STDIN`.
    Copy {
        /// The COPY statement.
        sql: String,
        /// Its data in text format.
        data: Bytes,
    },
}

/// A range whose changes do not fit the table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SqlError {
    /// The log speaks of a column that the replica's table has not.
    #[error("table {table} of the replica has no column {column}, of which the log has values")]
    NoColumn {
        /// The table.
        table: QualifiedName,
        /// The column.
        column: String,
    },
    /// Rows for a relation that can hold none.
    #[error("{table} is no table with rows of its own on the replica, but the log has rows of it")]
    NoTable {
        /// The relation.
        table: QualifiedName,
    },
    /// A row known in part only, whose identity column may have changed.
    #[error(
        "a row of table {table} was captured in part, and its column {column} is GENERATED ALWAYS AS \
         IDENTITY, which cannot be updated"
    )]
    IdentityInPart {
        /// The table.
        table: QualifiedName,
        /// The column.
        column: String,
    },
}

/// How rows of `relation` are told apart on the replica.
///
/// With full old rows the replica's best key is taken: unique, checked at once (a deferrable one can be
/// shared by two rows for a moment), without NULL, all its columns in the log. Without, only the columns of
/// the replica identity are known of old rows, so they are the key, if they are all of one: a generated column is not
/// sent before PostgreSQL 18, and what is left of its key is nobody's.
#[must_use]
pub fn row_identity(relation: &Relation, table: &TableFacts) -> RowIdentity {
    let index_of = |name: &str| relation.columns.iter().position(|column| column.name == name);
    let key_of_constraint = |constraint: &crate::catalog::UniqueConstraint| {
        let usable = constraint.immediate && constraint.not_null;
        let columns = constraint.columns.as_ref().filter(|columns| usable && !columns.is_empty())?;
        columns.iter().map(|column| index_of(&column.name)).collect::<Option<Vec<_>>>()
    };
    let key = match relation.replica_identity {
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => {
            table.constraints.iter().find_map(key_of_constraint)
        }
        ReplicaIdentity::Default | ReplicaIdentity::Index => {
            let columns = relation.columns.iter().enumerate();
            let key: Vec<usize> =
                columns.filter(|(_, column)| column.in_identity).map(|(index, _)| index).collect();
            let tells_apart = |other: Vec<usize>| other.iter().all(|column| key.contains(column));
            let is_key = table.constraints.iter().filter_map(key_of_constraint).any(tells_apart);
            is_key.then_some(key)
        }
    };
    match key {
        None => RowIdentity::WholeRow,
        Some(columns) => {
            let is_key = |constraint: &crate::catalog::UniqueConstraint| {
                key_of_constraint(constraint).is_some_and(|other| other == columns)
            };
            let others_unique = table.constraints.iter().any(|constraint| !is_key(constraint));
            RowIdentity::Key { columns, others_unique }
        }
    }
}

/// The steps that give `table` the effect.
///
/// # Errors
/// [`SqlError`] where log and replica do not speak of the same table.
pub fn steps(effect: &TableEffect, table: &TableFacts) -> Result<Vec<Step>, SqlError> {
    let target = Target::new(&effect.relation, table)?;
    match &effect.rows {
        RowsEffect::Keyed { key, rows } => keyed::steps(&target, key, rows),
        RowsEffect::Counted { removed, added } => Ok(keyless::steps(&target, removed, added)),
    }
}

/// The step for an update that could not be folded.
///
/// # Errors
/// [`SqlError`] where log and replica do not speak of the same table.
pub fn lone_update(update: &LoneUpdate, table: &TableFacts) -> Result<Step, SqlError> {
    keyed::lone_update(&Target::new(&update.relation, table)?, update)
}

/// The steps that replace a table's contents: all rows away, then these. For the rows that a rewrite left.
///
/// # Errors
/// [`SqlError::NoColumn`] for a column that the table has not.
pub fn copy_text_rows(
    table: &TableFacts,
    columns: &[String],
    rows: &[Vec<Option<String>>],
) -> Result<Step, SqlError> {
    let known: Result<Vec<_>, _> = columns
        .iter()
        .map(|name| {
            table.column(name).map(|column| column.name.as_str()).ok_or_else(|| no_column(table, name))
        })
        .collect();
    Ok(copy::of_text(&table.name, &known?, rows))
}

fn no_column(table: &TableFacts, column: &str) -> SqlError {
    SqlError::NoColumn { table: table.name.clone(), column: column.to_owned() }
}

/// A relation of the log and the replica's table of that name, matched by column name.
pub(crate) struct Target<'a> {
    table: &'a TableFacts,
    /// For each column of the relation the table's.
    columns: Vec<&'a ColumnFacts>,
}

impl<'a> Target<'a> {
    fn new(relation: &Relation, table: &'a TableFacts) -> Result<Self, SqlError> {
        if table.kind != TableKind::Ordinary {
            return Err(SqlError::NoTable { table: table_name(relation) });
        }
        let column = |name: &str| table.column(name).ok_or_else(|| no_column(table, name));
        let columns = relation.columns.iter().map(|announced| column(&announced.name));
        Ok(Self { table, columns: columns.collect::<Result<_, _>>()? })
    }

    /// `ONLY` and the table's name.
    fn only(&self) -> String {
        format!("ONLY {}", self.table.name)
    }

    /// Whether the relation has all columns of the table that hold values of their own. The table has more where the
    /// statement that dropped one was left out; a row that were inserted anew would lose what is in there.
    fn is_whole(&self) -> bool {
        let is_sent = |column: &ColumnFacts| self.columns.iter().any(|sent| sent.name == column.name);
        self.table.columns.iter().all(|column| column.generated || is_sent(column))
    }

    /// The columns that can be written, with their index in the relation: not generated ones, which compute themselves.
    fn writable(&self) -> impl Iterator<Item = (usize, &'a ColumnFacts)> {
        self.columns.iter().copied().enumerate().filter(|(_, column)| !column.generated)
    }

    /// `t.column OPERATOR(=) value` for a key column.
    fn equals(&self, column: &ColumnFacts, value: &str) -> String {
        let name = quote_identifier(&column.name);
        format!("t.{name} OPERATOR({}) {value}", self.table.equality(&column.name))
    }
}
