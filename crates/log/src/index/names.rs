//! Names of tables, kept once: transactions refer to them by number.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::format::Input;

/// Stands for a table's name in the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TableId(pub(crate) u32);

/// All names that the index knows, in the order of their numbers.
#[derive(Default)]
pub(crate) struct TableNames {
    ids: HashMap<(String, String), TableId>,
    names: Vec<(String, String)>,
    /// How many of them are in the index.
    stored: usize,
}

impl TableNames {
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut names = Self::default();
        let mut statement = connection.prepare("SELECT schema, name FROM table_name ORDER BY id")?;
        for row in statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (schema, name): (String, String) = row?;
            names.intern(&schema, &name);
        }
        names.stored = names.names.len();
        Ok(names)
    }

    /// The number of a name, a new one where it has none.
    pub(crate) fn intern(&mut self, schema: &str, name: &str) -> TableId {
        let key = (schema.to_owned(), name.to_owned());
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = TableId(u32::try_from(self.names.len()).expect("a database has fewer than 2^32 tables"));
        self.names.push(key.clone());
        self.ids.insert(key, id);
        id
    }

    /// Adds new names to the index.
    pub(crate) fn store(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("INSERT INTO table_name VALUES (?, ?, ?)")?;
        for (id, (schema, name)) in (0u32..).zip(&self.names).skip(self.stored) {
            statement.execute((id, schema, name))?;
        }
        self.stored = self.names.len();
        Ok(())
    }

    /// `schema.table`, empty where the number stands for nothing.
    pub(crate) fn qualified(&self, id: TableId) -> String {
        self.names.get(id.0 as usize).map_or_else(String::new, |(schema, name)| format!("{schema}.{name}"))
    }

    pub(crate) fn knows(&self, id: TableId) -> bool {
        (id.0 as usize) < self.names.len()
    }

    /// The tables that a user means: by `schema.table`, or by bare name in any schema.
    pub(crate) fn matching(&self, text: &str) -> Vec<TableId> {
        let ids = (0u32..).map(TableId);
        let named = self.names.iter().zip(ids).filter(|((schema, name), _)| names_table(text, schema, name));
        named.map(|(_, id)| id).collect()
    }
}

/// Whether what a user wrote names this table.
pub(crate) fn names_table(text: &str, schema: &str, name: &str) -> bool {
    let qualified = || text.strip_prefix(schema).and_then(|rest| rest.strip_prefix('.')) == Some(name);
    text == name || qualified()
}

/// The `tables` column: the numbers as variable-length integers.
pub(crate) fn decode_table_ids(blob: &[u8]) -> Vec<TableId> {
    let mut input = Input::new(blob);
    let mut ids = Vec::new();
    while let Ok(id) = input.varint_u32("table") {
        ids.push(TableId(id));
    }
    ids
}
