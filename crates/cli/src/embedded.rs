//! Embedded servers that outlived their service: `down` stops them too.

use ptr_postgres::{Cluster, ClusterOptions, cluster::ClusterRole, programs::Installations};
use ptr_server::Configuration;

use crate::failure::{Failure, Kind};

/// Stops the data directory's embedded servers; whether there was one to stop.
pub async fn stop(configuration: &Configuration) -> Result<bool, Failure> {
    let mut stopped = false;
    for (name, role) in [("primary", ClusterRole::Primary), ("replica", ClusterRole::Replica)] {
        let directory = configuration.data.embedded(name);
        if !directory.exists() {
            continue;
        }
        let chosen = configuration.program_directory.as_ref().map(|path| path.display().to_string());
        let lookup = |name: &str| match name {
            "PG_BIN" => chosen.clone(),
            _ => std::env::var(name).ok(),
        };
        let failed = |error: &dyn std::error::Error| {
            Failure::new(
                Kind::Failed,
                format!("the embedded {name} in {} was not stopped: {error}", directory.display()),
            )
        };
        let installations = Installations::find(&lookup).map_err(|error| failed(&error))?;
        let installation = installations.newest_server().map_err(|error| failed(&error))?.clone();
        let options = ClusterOptions::new(&directory, installation, role);
        let Some(mut cluster) = Cluster::open(options).await.map_err(|error| failed(&error))? else {
            continue;
        };
        if cluster.is_running() {
            cluster.stop().await.map_err(|error| failed(&error))?;
            stopped = true;
        }
    }
    Ok(stopped)
}
