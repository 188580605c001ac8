//! Tablespaces of the primary's cluster that objects are kept in.
//!
//! They belong to the whole output server, so they are only ever added, inside its data directory
//! (`allow_in_place_tablespaces`), and reported. Where they are is not what makes two databases equal; that an
//! object is in the tablespace of that name is.

use ptr_postgres::quote_identifier;
use tokio_postgres::Client;

use crate::database::{DatabaseError, Doing};

/// Which of the primary's tablespaces the output server lacks.
pub(crate) async fn missing(client: &Client, names: &[String]) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT wanted.name FROM pg_catalog.unnest($1::text[]) AS wanted(name)
               WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_tablespace t WHERE t.spcname = wanted.name)";
    let rows = client.query(sql, &[&names]).await.doing("look for the primary's tablespaces")?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Creates them, in a session that is in no transaction: CREATE TABLESPACE refuses to run in one.
pub(crate) async fn create(client: &Client, names: &[String]) -> Result<(), DatabaseError> {
    for name in names {
        let doing = || {
            format!(
                "create the primary's tablespace {name} on the output server; create one of that name there \
                 by hand, in any folder"
            )
        };
        client.batch_execute("SET allow_in_place_tablespaces = on").await.doing_with(doing)?;
        let sql = format!("CREATE TABLESPACE {} LOCATION ''", quote_identifier(name));
        client.batch_execute(&sql).await.doing_with(doing)?;
    }
    Ok(())
}
