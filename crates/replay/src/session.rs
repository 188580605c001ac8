//! A session's database on the output server: made from a template, opened and closed to local writes,
//! replaced by another, deleted.
//!
//! Invariants: a database that is not ours and not empty is never touched without consent; a replacement is
//! one transaction of two renames, so that a crash leaves the old database or the new one under the name;
//! what is left over is recognised by its cursor, or its mark, and removed at the next start.

mod copy;
mod names;
mod properties;
mod target;

use std::time::{Duration, Instant};

use ptr_log::crash_point;
use ptr_model::{OUR_SCHEMA, Position, SessionId};
use ptr_postgres::{ConnectError, Connection, Dsn, quote_identifier};
use tokio_postgres::Client;
use uuid::Uuid;

pub(crate) use copy::copy_database;
pub(crate) use names::image_number;
pub use names::{
    base_name, discarded_name, keyframe_name, keyframe_prefix, maintenance, next_name, spare_name,
    standing_name, template_name, unfit, verification_name,
};
pub(crate) use properties::put_back;
pub use target::{TargetState, inspect};

use crate::{
    base::DatabaseProperties,
    cursor::{self, Cursor, CursorError, CursorState},
    database::{self, DatabaseError, Doing},
    keyframe::{self, Keyframes, Mark},
};

/// A session's database and where it comes from.
#[derive(Clone, Debug)]
pub struct SessionDatabase {
    /// The output server.
    pub output: Dsn,
    /// The database's name.
    pub name: String,
    /// Whose it is.
    pub session_id: SessionId,
    /// Whose history it holds.
    pub log_id: Uuid,
    /// The captured database's properties, which a clone loses.
    pub properties: DatabaseProperties,
}

/// Whether the user agreed to lose what is in a database that is not ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consent {
    /// No.
    Missing,
    /// Yes, for this one.
    Given,
}

/// Whether a session's database takes writes of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// `default_transaction_read_only = on`.
    ReadOnly,
    /// It was opened by the user.
    Open,
}

/// Why something could not be done with a session's database.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It holds what is not ours.
    #[error(
        "database {database} is not empty and not ours ({holds}); name another target database, empty it, \
         or agree to lose what it holds (--yes)"
    )]
    Foreign {
        /// The database.
        database: String,
        /// What it holds.
        holds: String,
    },
    /// It is itself captured, by us or by others. No consent covers that.
    #[error(
        "database {database} is a source of replication (slot {slot}) and is not replaced; name another target \
         database, or drop the slot if nothing needs it: SELECT pg_drop_replication_slot('{slot}')"
    )]
    Source {
        /// The database.
        database: String,
        /// Its slot.
        slot: String,
    },
    /// Others are connected, and ending their connections was not agreed to.
    #[error("database {database} is in use by {connections} other connection(s): {who}; close them first")]
    InUse {
        /// The database.
        database: String,
        /// How many.
        connections: u64,
        /// Who they are.
        who: String,
    },
    /// Something stands where the next database of a session is to be made, and is not the session's.
    #[error(
        "database {database} is in the way: what a move builds for {target} is to have this name, and it holds {holds}; \
         rename it, drop it if nobody needs it (gc does where its session is gone), or give the session another target \
         database"
    )]
    InTheWay {
        /// The database.
        database: String,
        /// The session's database.
        target: String,
        /// What it holds.
        holds: String,
    },
    /// The template is not there.
    #[error(
        "the template database {template} does not exist; navigate again, which restores it from the base image where nothing else is there"
    )]
    NoTemplate {
        /// Its name.
        template: String,
    },
    /// The spare is not there any more: another move took it.
    #[error("the spare {spare} of a keyframe was taken by another move; navigate again")]
    NoSpare {
        /// Its name.
        spare: String,
    },
    /// The position in the database cannot be used.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The output server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The output server refused something.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl SessionError {
    /// Whether trying again later, with nothing changed by the user, may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::NoSpare { .. } => true,
            Self::Connect(error) => database::may_answer_later(error),
            Self::Database(error) | Self::Cursor(CursorError::Database(error)) => error.is_transient(),
            Self::Foreign { .. }
            | Self::Source { .. }
            | Self::InTheWay { .. }
            | Self::NoTemplate { .. }
            | Self::Cursor(CursorError::Damaged { .. }) => false,
        }
    }
}

impl SessionDatabase {
    /// Where the database is reached.
    #[must_use]
    pub fn dsn(&self) -> Dsn {
        self.output.with_database(&self.name)
    }

    /// A connection to another database of the server, from which this one can be made, renamed, dropped.
    pub(crate) async fn server(&self) -> Result<Connection, ConnectError> {
        database::open(&maintenance(&self.output, &self.name)).await
    }

    /// What stands under the database's name now.
    ///
    /// # Errors
    /// [`SessionError`] where the server cannot be asked.
    pub async fn inspect(&self) -> Result<TargetState, SessionError> {
        inspect(&self.output, &self.name).await
    }

    /// Makes the database from a template. What stands under its name goes away if it is empty or ours, or
    /// with consent. Returns how many connections were ended for it.
    ///
    /// # Errors
    /// [`SessionError::Foreign`] and [`SessionError::InUse`] where something is in the way.
    pub async fn create(&self, template: &str, consent: Consent) -> Result<u64, SessionError> {
        let server = self.server().await?;
        let ended = self.make_room(&server, consent).await?;
        let temporary = next_name(&self.name);
        self.clone_to(&server, template, &temporary).await?;
        self.rename(&server, &temporary).await?;
        Ok(ended)
    }

    async fn make_room(&self, server: &Client, consent: Consent) -> Result<u64, SessionError> {
        let holds = match self.inspect().await? {
            TargetState::Absent => return Ok(0),
            TargetState::Ours(cursor) if cursor.log_id == self.log_id => {
                let ended = end_connections(server, &self.name).await?;
                drop_database(server, &self.name).await?;
                return Ok(ended);
            }
            TargetState::Empty => None,
            TargetState::Ours(cursor) => Some(format!("a session of log {}", cursor.log_id)),
            TargetState::Foreign { holds } => Some(holds),
        };
        refuse_source(server, &self.name).await?;
        match (holds, consent) {
            (Some(holds), Consent::Missing) => {
                return Err(SessionError::Foreign { database: self.name.clone(), holds });
            }
            (None, Consent::Missing) => refuse_others(server, &self.name).await?,
            (_, Consent::Given) => {}
        }
        let ended = end_connections(server, &self.name).await?;
        drop_database(server, &self.name).await?;
        Ok(ended)
    }

    /// Clones a template under a name of ours and gives the clone what cloning loses.
    pub(crate) async fn clone_to(
        &self,
        server: &Client,
        template: &str,
        name: &str,
    ) -> Result<(), SessionError> {
        self.clear(server, name).await?;
        copy_database(server, template, name).await?;
        crash_point("copied");
        put_back(server, name, &self.properties).await?;
        set_access(server, name, Access::ReadOnly).await?;
        self.claim(name).await
    }

    /// Takes a spare for this session, under a name of ours; whose it is, the next commit in it says.
    pub(crate) async fn take_spare(
        &self,
        server: &Client,
        spare: &str,
        name: &str,
    ) -> Result<(), SessionError> {
        self.clear(server, name).await?;
        let sql = format!(
            "BEGIN; {}; ALTER DATABASE {} WITH ALLOW_CONNECTIONS true; {}; COMMIT",
            rename_sql(spare, name),
            quote_identifier(name),
            keyframe::comment_statement(name, self.properties.comment.as_deref()),
        );
        let Err(error) = server.batch_execute(&sql).await else { return Ok(()) };
        server.batch_execute("ROLLBACK").await.doing("roll back")?;
        if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_DATABASE) {
            return Err(SessionError::NoSpare { spare: spare.to_owned() });
        }
        Err(DatabaseError::new(format!("take the spare {spare}"), error).into())
    }

    /// The keyframes that this database can be made from.
    #[must_use]
    pub fn keyframes(&self) -> Keyframes {
        Keyframes { output: self.output.clone(), log_id: self.log_id, properties: self.properties.clone() }
    }

    /// Drops what a move began to build and did not put in the session's place.
    pub(crate) async fn drop_next(&self) -> Result<(), SessionError> {
        let server = self.server().await?;
        self.drop_leftover(&server, &next_name(&self.name)).await
    }

    /// Writes into a clone whose it is.
    pub(crate) async fn claim(&self, name: &str) -> Result<(), SessionError> {
        let client = database::open(&self.output.with_database(name)).await?;
        if let Some(cursor) = cursor::read(&client).await? {
            cursor::write(&client, &cursor::Cursor { session_id: Some(self.session_id), ..cursor }).await?;
        }
        client.close().await;
        Ok(())
    }

    /// Gives a database the session's name, where nothing has it.
    async fn rename(&self, server: &Client, from: &str) -> Result<(), SessionError> {
        let sql = rename_sql(from, &self.name);
        let doing = || format!("rename database {from} to {}", self.name);
        Ok(server.batch_execute(&sql).await.doing_with(doing)?)
    }

    /// Puts the database `next` in the place of the session's. Ends all connections to the old one and says how many
    /// there were. The old one is marked as discarded, for [`Keyframes::sweep`]: dropping it forces a PostgreSQL
    /// checkpoint, for which nobody is to wait.
    ///
    /// # Errors
    /// [`SessionError`]; the session then has the old database or the new one.
    pub async fn swap_in(&self, next: &str) -> Result<u64, SessionError> {
        let server = self.server().await?;
        let mut ended = 0;
        // A client may come back between the end of its connection and the renames; then once more.
        for attempt in 1..=SWAP_ATTEMPTS {
            match self.exchange(&server, next, &mut ended).await {
                Ok(()) => break,
                Err(error)
                    if attempt < SWAP_ATTEMPTS
                        && error.source.code() == Some(&tokio_postgres::error::SqlState::OBJECT_IN_USE) => {}
                Err(error) => {
                    close_door(&server, &self.name, true).await?;
                    return Err(error.into());
                }
            }
        }
        Ok(ended)
    }

    async fn exchange(&self, server: &Client, next: &str, ended: &mut u64) -> Result<(), DatabaseError> {
        // What we did there may just be ending; the rename would wait for it in steps of 100 ms.
        wait_until_left(server, next).await?;
        let sql = "SELECT oid FROM pg_database WHERE datname = $1";
        let row = server.query_opt(sql, &[&self.name]).await.doing("look for the session's database")?;
        let mut away = String::new();
        if let Some(row) = row {
            let old = discarded_name(&self.properties.name, self.log_id, row.get(0));
            let mark = keyframe::mark_statement(&old, &Mark::discarded(self.log_id));
            away = format!("{}; {mark}", rename_sql(&self.name, &old));
            close_door(server, &self.name, false).await?;
            *ended += end_connections(server, &self.name).await?;
        }
        let sql = format!("BEGIN; {away}; {}; COMMIT", rename_sql(next, &self.name));
        crash_point("swap");
        let outcome = server.batch_execute(&sql).await.doing("put the new database in its place");
        if outcome.is_err() {
            server.batch_execute("ROLLBACK").await.doing("roll back")?;
        }
        crash_point("swapped");
        outcome
    }

    /// Who is connected to the session's database, beside us: what a move by keyframe would end.
    ///
    /// # Errors
    /// [`SessionError`] where the server cannot be asked.
    pub async fn clients(&self) -> Result<Vec<String>, SessionError> {
        let server = self.server().await?;
        let sql = "SELECT format('%s as %s (pid %s)', coalesce(nullif(application_name, ''), 'a client'),
                          usename, pid)
                   FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()
                     AND backend_type = 'client backend' AND application_name <> $2 ORDER BY backend_start";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
            [&self.name, &database::APPLICATION_NAME];
        let rows =
            server.query(sql, &parameters).await.doing_with(|| format!("look who uses {}", self.name))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Makes a database that was filled from elsewhere one of this session's, before it takes the session's name. What
    /// it holds is near `position`, and is not what the log says: the session must be open.
    ///
    /// # Errors
    /// [`SessionError`] where the server refuses.
    pub async fn adopt(&self, database: &str, position: Position) -> Result<(), SessionError> {
        let client = database::open(&self.output.with_database(database)).await?;
        database::fire_nothing(&client).await?;
        let (log_id, session_id) = (self.log_id, Some(self.session_id));
        let cursor = Cursor { log_id, session_id, position, state: CursorState::Settled };
        cursor::install(&client).await?;
        cursor::write(&client, &cursor).await?;
        client.close().await;
        Ok(())
    }

    /// Opens the session's database to local writes, or closes it.
    ///
    /// # Errors
    /// [`SessionError`] where the server refuses.
    pub async fn set_access(&self, access: Access) -> Result<(), SessionError> {
        let server = self.server().await?;
        Ok(set_access(&server, &self.name, access).await?)
    }

    /// Takes what is ours out of the session's database: it is its user's from then on, takes writes, and nobody takes it
    /// for one that a session left.
    ///
    /// # Errors
    /// [`SessionError`] where the server refuses.
    pub async fn let_go(&self) -> Result<(), SessionError> {
        let server = self.server().await?;
        self.remove_leftovers().await?;
        self.drop_leftover(&server, &verification_name(&self.name)).await?;
        if let TargetState::Ours(_) = self.inspect().await? {
            set_access(&server, &self.name, Access::Open).await?;
            let client = database::open(&self.dsn()).await?;
            database::fire_nothing(&client).await?;
            let sql = format!("DROP SCHEMA IF EXISTS {OUR_SCHEMA} CASCADE");
            let dropped = client.batch_execute(&sql).await;
            client.close().await;
            dropped.doing_with(|| format!("let database {} go", self.name))?;
        }
        Ok(())
    }

    /// Deletes the session's database, if it is ours, and what moves of it left over. Returns how many
    /// connections were ended.
    ///
    /// # Errors
    /// [`SessionError::Foreign`] where it is not ours.
    pub async fn delete(&self) -> Result<u64, SessionError> {
        let server = self.server().await?;
        self.remove_leftovers().await?;
        self.drop_leftover(&server, &verification_name(&self.name)).await?;
        match self.inspect().await? {
            TargetState::Absent => Ok(0),
            TargetState::Ours(_) => {
                let ended = end_connections(&server, &self.name).await?;
                drop_database(&server, &self.name).await?;
                Ok(ended)
            }
            TargetState::Empty => Ok(0),
            TargetState::Foreign { holds } => {
                Err(SessionError::Foreign { database: self.name.clone(), holds })
            }
        }
    }

    /// Whether an interrupted move left something, asked in whichever database `client` is connected to.
    pub(crate) async fn has_leftovers(&self, client: &Client) -> Result<bool, DatabaseError> {
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)";
        Ok(client
            .query_one(sql, &[&next_name(&self.name)])
            .await
            .doing("look what an interrupted move left")?
            .get(0))
    }

    /// Finishes or removes what an interrupted move left. To be called before a session's first move.
    ///
    /// # Errors
    /// [`SessionError`] where the server refuses.
    pub async fn remove_leftovers(&self) -> Result<(), SessionError> {
        let server = self.server().await?;
        // A swap that failed between closing the door and renaming leaves it closed.
        close_door(&server, &self.name, true).await?;
        self.drop_leftover(&server, &next_name(&self.name)).await
    }

    async fn drop_leftover(&self, server: &Client, name: &str) -> Result<(), SessionError> {
        if let Private::Ours = self.private(server, name).await? {
            end_connections(server, name).await?;
            drop_database(server, name).await?;
        }
        Ok(())
    }

    /// Makes room under a name that is given to what is built for this session. What is not this session's stays, with
    /// an error.
    async fn clear(&self, server: &Client, name: &str) -> Result<(), SessionError> {
        match self.private(server, name).await? {
            Private::Absent => Ok(()),
            Private::Ours => Ok(drop_database(server, name).await?),
            Private::Others(holds) => {
                Err(SessionError::InTheWay { database: name.to_owned(), target: self.name.clone(), holds })
            }
        }
    }

    /// Whose a database is that has a name of this session's own.
    async fn private(&self, server: &Client, name: &str) -> Result<Private, SessionError> {
        // What a DROP DATABASE that was broken off left; nothing but dropping it again can be done with it.
        let sql = "SELECT datconnlimit = -2 FROM pg_catalog.pg_database WHERE datname = $1";
        let row = server.query_opt(sql, &[&name]).await.doing_with(|| format!("look for database {name}"))?;
        match row.map(|row| row.get::<_, bool>(0)) {
            None => return Ok(Private::Absent),
            Some(true) => return Ok(Private::Ours),
            Some(false) => {}
        }
        Ok(match inspect(&self.output, name).await? {
            TargetState::Absent => Private::Absent,
            TargetState::Empty => Private::Others("nothing, but it was not made by us".to_owned()),
            TargetState::Foreign { holds } => Private::Others(holds),
            TargetState::Ours(cursor) if cursor.log_id != self.log_id => {
                Private::Others(format!("a session of log {}", cursor.log_id))
            }
            TargetState::Ours(Cursor { session_id: Some(id), .. }) if id != self.session_id => {
                Private::Others(format!("what is of another session ({id})"))
            }
            TargetState::Ours(_) => Private::Ours,
        })
    }
}

/// What has a name that is given to what is built for a session.
enum Private {
    Absent,
    /// This session's, or what was about to become its own.
    Ours,
    /// What it holds.
    Others(String),
}

/// How often a swap is tried against clients that come back at once.
const SWAP_ATTEMPTS: u32 = 5;

fn rename_sql(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", quote_identifier(from), quote_identifier(to))
}

/// Lets everybody into a session's database again that a move had closed to exchange it, and that was left so by a crash.
/// Nothing happens where there is no such database. Nobody may be moving the session.
///
/// # Errors
/// [`SessionError`] where the server cannot be asked.
pub async fn reopen(output: &Dsn, name: &str) -> Result<(), SessionError> {
    let server = database::open(&maintenance(output, name)).await?;
    close_door(&server, name, true).await?;
    server.close().await;
    Ok(())
}

/// Lets nobody in any more, or everybody again. Nothing happens where there is no such database.
pub(crate) async fn close_door(server: &Client, name: &str, open: bool) -> Result<(), DatabaseError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datallowconn <> $2)";
    let row =
        server.query_one(sql, &[&name, &open]).await.doing_with(|| format!("look for database {name}"))?;
    if row.get(0) {
        let sql = format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {open}", quote_identifier(name));
        server.batch_execute(&sql).await.doing_with(|| format!("let connections to {name} in: {open}"))?;
    }
    Ok(())
}

pub(crate) async fn set_access(server: &Client, name: &str, access: Access) -> Result<(), DatabaseError> {
    let database = quote_identifier(name);
    let sql = match access {
        Access::ReadOnly => format!("ALTER DATABASE {database} SET default_transaction_read_only = on"),
        Access::Open => format!("ALTER DATABASE {database} RESET default_transaction_read_only"),
    };
    server.batch_execute(&sql).await.doing_with(|| format!("say whether {name} takes writes"))
}

/// Drops a database of that name, if there is one.
pub(crate) async fn drop_database(server: &Client, name: &str) -> Result<(), DatabaseError> {
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(name));
    server.batch_execute(&sql).await.doing_with(|| format!("drop database {name}"))
}

/// Ends all connections to a database, waits until they are gone, and says how many there were.
pub(crate) async fn end_connections(server: &Client, name: &str) -> Result<u64, DatabaseError> {
    let sql = "SELECT count(*) FILTER (WHERE backend_type = 'client backend' AND application_name <> $2),
                      count(pg_terminate_backend(pid))
               FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()";
    let doing = || format!("end the connections to {name}");
    let row = server.query_one(sql, &[&name, &database::APPLICATION_NAME]).await.doing_with(doing)?;
    wait_until_left(server, name).await?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// How long a connection that ends may take until it is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until nobody is connected to a database. The server itself waits for that too, but looks every 100 ms only.
async fn wait_until_left(server: &Client, name: &str) -> Result<(), DatabaseError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid())";
    let doing = || format!("wait until nobody is connected to {name}");
    let since = Instant::now();
    // Who stays longer is found by what is done next, which says who it is.
    while since.elapsed() < PATIENCE && server.query_one(sql, &[&name]).await.doing_with(doing)?.get(0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Refuses a database that a logical slot streams from: dropping it would take slot and source away.
///
/// # Errors
/// [`SessionError::Source`].
pub async fn refuse_source(server: &Client, database: &str) -> Result<(), SessionError> {
    let sql = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = $1 LIMIT 1";
    let slot = server.query_opt(sql, &[&database]).await.doing("look for replication slots")?;
    slot.map_or(Ok(()), |row| Err(SessionError::Source { database: database.to_owned(), slot: row.get(0) }))
}

/// Refuses a database that others are connected to. A connection of ours that was closed a moment ago may still be there.
async fn refuse_others(server: &Client, name: &str) -> Result<(), SessionError> {
    let sql = "SELECT count(*), coalesce(string_agg(DISTINCT format('%s as %s (pid %s)', coalesce(nullif(
                      application_name, ''), 'a client'), usename, pid), ', '), '')
               FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()
                 AND backend_type = 'client backend' AND NOT starts_with(application_name, $2)";
    let ours = database::APPLICATION_NAME;
    let row = server.query_one(sql, &[&name, &ours]).await.doing_with(|| format!("look who uses {name}"))?;
    match u64::try_from(row.get::<_, i64>(0)).unwrap_or(0) {
        0 => Ok(()),
        connections => Err(SessionError::InUse { database: name.to_owned(), connections, who: row.get(1) }),
    }
}
