//! The embedded primary and replica, where no DSN says which servers to use.
//!
//! Invariant: their passwords are told to nobody who only listens at their remembered ports. Connections of ours are by
//! SCRAM alone, and whoever asks where a server is that is down is told that it is down.

use ptr_postgres::{
    Cluster, ClusterOptions, Dsn, SessionSettings, cluster::ClusterRole, connect, programs::Installations,
    quote_identifier,
};

use super::{Announcer, End, Service, ServiceError};
use crate::configuration::Configuration;

/// The embedded servers of a data directory, those that are needed.
#[derive(Default)]
pub(super) struct Embedded {
    primary: Option<Cluster>,
    replica: Option<Cluster>,
}

/// Whether servers are made and started, or only those that are there are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Make and start them.
    All,
    /// Use them as they are.
    Nothing,
}

/// Where the two servers are; `None` where an embedded one was never made.
pub(super) struct Ends {
    pub(super) input: Option<Dsn>,
    pub(super) output: Option<Dsn>,
    pub(super) embedded: Embedded,
}

impl Ends {
    /// Finds both servers; with [`Start::All`] the embedded ones run afterwards and have their database.
    pub(super) async fn find(
        configuration: &Configuration,
        start: Start,
        announcer: &Announcer,
    ) -> Result<Self, ServiceError> {
        let mut embedded = Embedded::default();
        let database = configuration.default_database();
        let input = match &configuration.input {
            Some(dsn) => Some(dsn.clone()),
            None => {
                embedded.primary = open(configuration, ClusterRole::Primary, start, announcer).await?;
                dsn_of(embedded.primary.as_ref(), database, start).await?
            }
        };
        let output = match &configuration.output {
            Some(dsn) => Some(dsn.clone()),
            None => {
                embedded.replica = open(configuration, ClusterRole::Replica, start, announcer).await?;
                // The default session's database is made from the base image, not here.
                embedded.replica.as_ref().map(|cluster| cluster.dsn(database).with_scram_only())
            }
        };
        Ok(Self { input, output, embedded })
    }
}

impl Embedded {
    /// Starts the primary where it is ours and down. Returns whether it was.
    pub(super) async fn start_primary(&mut self) -> Result<bool, ServiceError> {
        match &mut self.primary {
            Some(primary) if !primary.is_running() => {
                primary.start().await?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Stops the servers that were started here or picked up.
    pub(super) async fn stop(&mut self) -> Result<(), ServiceError> {
        for cluster in [&mut self.primary, &mut self.replica].into_iter().flatten() {
            cluster.stop().await?;
        }
        Ok(())
    }
}

impl Service {
    /// Refuses to say where an embedded server is that does not run: somebody else may listen there, and a client would
    /// give them the password.
    ///
    /// # Errors
    /// It is embedded and down.
    pub(crate) async fn refuse_where_nothing_runs(&self, end: End) -> Result<(), ServiceError> {
        let embedded = self.embedded.lock().await;
        let (cluster, name) = match end {
            End::Input => (&embedded.primary, "primary"),
            End::Output | End::Session => (&embedded.replica, "replica"),
        };
        match cluster {
            Some(cluster) if !cluster.is_running() => Err(ServiceError::precondition(
                format!("the embedded {name} does not run, so it is nowhere to connect to"),
                "run postgres-test-replay up, which starts it",
            )),
            Some(_) | None => Ok(()),
        }
    }
}

async fn open(
    configuration: &Configuration,
    role: ClusterRole,
    start: Start,
    announcer: &Announcer,
) -> Result<Option<Cluster>, ServiceError> {
    let name = match role {
        ClusterRole::Primary => "primary",
        ClusterRole::Replica => "replica",
    };
    let directory = configuration.data.embedded(name);
    if start == Start::Nothing && !directory.exists() {
        return Ok(None);
    }
    let installation = installations(configuration)?.newest_server()?.clone();
    if !directory.exists() {
        announcer.step(format!("making the embedded {name} (PostgreSQL {})", installation.version));
    }
    let mut cluster = Cluster::create_or_open(ClusterOptions::new(directory, installation, role)).await?;
    if start == Start::All {
        announcer.step(format!("starting the embedded {name} on port {}", cluster.port()));
        cluster.start().await?;
    }
    Ok(Some(cluster))
}

/// The programs that the configuration points at, else those that are found.
pub(super) fn installations(configuration: &Configuration) -> Result<Installations, ServiceError> {
    let chosen = configuration.program_directory.as_ref().map(|path| path.display().to_string());
    let lookup = |name: &str| match name {
        "PG_BIN" => chosen.clone(),
        _ => std::env::var(name).ok(),
    };
    Ok(Installations::find(&lookup)?)
}

/// The primary's DSN; its database is made where it is missing.
async fn dsn_of(
    cluster: Option<&Cluster>,
    database: &str,
    start: Start,
) -> Result<Option<Dsn>, ServiceError> {
    let Some(cluster) = cluster else { return Ok(None) };
    let dsn = cluster.dsn(database).with_scram_only();
    if start == Start::All {
        let maintenance =
            connect(&dsn.with_database("postgres"), &SessionSettings::named("postgres-test-replay")).await?;
        let known = "SELECT FROM pg_catalog.pg_database WHERE datname = $1";
        if maintenance.query_opt(known, &[&database]).await?.is_none() {
            maintenance.batch_execute(&format!("CREATE DATABASE {}", quote_identifier(database))).await?;
        }
        maintenance.close().await;
    }
    Ok(Some(dsn))
}
