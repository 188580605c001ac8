//! What moves cost on the output server, learnt from those that were made.
//!
//! Kept in memory, and in the catalog by the keeper and at the end: a move waits for no disk because of it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use ptr_replay::{NavigateOutcome, Rates};

use super::{Service, ServiceError, blocking};

/// The rates of each captured database: how large rows are and how often the same ones change is part of them.
#[derive(Default)]
pub(super) struct KnownRates(Mutex<HashMap<String, Known>>);

#[derive(Clone, Default)]
struct Known {
    rates: Rates,
    /// Learnt since it was kept.
    is_new: bool,
}

impl KnownRates {
    fn with<T>(&self, use_them: impl FnOnce(&mut HashMap<String, Known>) -> T) -> T {
        use_them(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Service {
    /// What is known of moves over the history of a captured database.
    pub(super) async fn rates(&self, database: &str) -> Result<Rates, ServiceError> {
        if let Some(known) = self.known_rates.with(|all| all.get(database).cloned()) {
            return Ok(known.rates);
        }
        let (catalog, server) = (self.catalog.clone(), self.rates_name(database)?);
        let kept = blocking(move || catalog.rates(&server)).await??;
        let known = Known { rates: Rates::of(&kept), is_new: false };
        Ok(self.known_rates.with(|all| all.entry(database.to_owned()).or_insert(known).rates.clone()))
    }

    /// Learns from a move that arrived.
    pub(super) fn learn_rates(&self, database: &str, outcome: &NavigateOutcome) {
        self.known_rates.with(|all| {
            let known = all.entry(database.to_owned()).or_default();
            outcome.measured.iter().for_each(|measured| known.rates.learn(measured));
            known.is_new |= !outcome.measured.is_empty();
        });
    }

    /// Keeps what was learnt. Not being able to is told and harms nothing: it is learnt again.
    pub(super) async fn keep_rates(&self) {
        let new: Vec<(String, Rates)> = self.known_rates.with(|all| {
            let new = all.iter_mut().filter_map(|(database, known)| {
                std::mem::take(&mut known.is_new).then(|| (database.clone(), known.rates.clone()))
            });
            new.collect()
        });
        for (database, rates) in new {
            let Ok(server) = self.rates_name(&database) else { continue };
            let catalog = self.catalog.clone();
            let kept = blocking(move || catalog.save_rates(&server, &rates.to_keep())).await;
            if let Err(error) = kept.and_then(|kept| Ok(kept?)) {
                tracing::warn!("what moves cost could not be noted: {error}");
            }
        }
    }

    /// By which the rates are kept: the server's address and the captured database.
    fn rates_name(&self, database: &str) -> Result<String, ServiceError> {
        let output = self.output()?;
        let hosts: Vec<String> =
            output.hosts().iter().map(|host| format!("{:?}:{}", host.address, host.port)).collect();
        Ok(format!("{} {database}", hosts.join(",")))
    }
}
