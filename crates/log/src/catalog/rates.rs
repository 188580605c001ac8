//! How long parts of moves take on an output server, as measured by the moves that were made.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError};

/// What one part of a move costs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MeasuredRate {
    /// Which part; replay names them.
    pub component: String,
    /// Nanoseconds a unit.
    pub nanoseconds: f64,
    /// How many moves it was learnt from.
    pub measured: u64,
}

impl Catalog {
    /// What was learnt of an output server.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub fn rates(&self, server: &str) -> Result<Vec<MeasuredRate>, CatalogError> {
        self.ask(|connection| {
            let sql = "SELECT component, nanoseconds, measured FROM rate WHERE server = ? ORDER BY component";
            let mut statement = connection.prepare_cached(sql).map_err(self.failed())?;
            let rows = statement.query_map([server], |row| {
                let measured = row.get::<_, i64>(2)?.cast_unsigned();
                Ok(MeasuredRate { component: row.get(0)?, nanoseconds: row.get(1)?, measured })
            });
            rows.and_then(Iterator::collect).map_err(self.failed())
        })
    }

    /// Keeps what was learnt, in the place of what was known.
    ///
    /// # Errors
    /// The catalog cannot be written.
    pub fn save_rates(&self, server: &str, rates: &[MeasuredRate]) -> Result<(), CatalogError> {
        self.change(|transaction| {
            let sql =
                "INSERT OR REPLACE INTO rate (server, component, nanoseconds, measured) VALUES (?, ?, ?, ?)";
            for rate in rates {
                let values = params![server, rate.component, rate.nanoseconds, rate.measured.cast_signed()];
                transaction.execute(sql, values).map_err(self.failed())?;
            }
            Ok(())
        })
    }
}
