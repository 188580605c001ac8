//! What the primary says about itself.

use ptr_model::Timestamp;
use ptr_postgres::{Connection, ServerVersion};

use super::{Doing, SourceError};

/// What set-up needs to know of the server and the role.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// Its version.
    pub version: ServerVersion,
    /// As the server prints it.
    pub version_text: String,
    /// Names the cluster; 0 where the role may not ask.
    pub system_identifier: u64,
    /// The WAL's timeline.
    pub timeline: u32,
    /// The database.
    pub database: String,
    /// Its oid.
    pub database_oid: u32,
    /// The role.
    pub user: String,
    /// Whether it is a superuser.
    pub is_superuser: bool,
    /// The server's clock.
    pub now: Timestamp,
}

const QUERY: &str = "SELECT pg_catalog.current_setting('server_version_num')::int4,
        pg_catalog.version(),
        d.datname::text, d.oid, current_user::text,
        (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
        (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::int8
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// The timeline that is written: for minutes after a promotion the last checkpoint is still one of the timeline before.
const CONTROL: &str = "SELECT s.system_identifier,
        CASE WHEN pg_catalog.pg_is_in_recovery() THEN c.timeline_id
             ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int4
        END
    FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c";

impl ServerFacts {
    /// Asks.
    ///
    /// # Errors
    /// [`SourceError::Server`] or [`SourceError::Lost`].
    pub async fn ask(connection: &Connection) -> Result<Self, SourceError> {
        let doing = || "asking the primary about itself".to_owned();
        let row = connection.query_one(QUERY, &[]).await.doing(doing)?;
        let number = u32::try_from(row.get::<_, i32>(0)).unwrap_or_default();
        let control = connection.query_one(CONTROL, &[]).await.doing(doing)?;
        Ok(Self {
            version: ServerVersion { major: number / 10_000, minor: number % 10_000 },
            version_text: row.get(1),
            // The catalog shows an unsigned number in a signed type.
            system_identifier: control.get::<_, i64>(0).cast_unsigned(),
            timeline: u32::try_from(control.get::<_, i32>(1)).unwrap_or_default(),
            database: row.get(2),
            database_oid: row.get(3),
            user: row.get(4),
            is_superuser: row.get(5),
            now: Timestamp(row.get(6)),
        })
    }
}
