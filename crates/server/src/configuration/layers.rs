//! Precedence: which of several places a setting's value is taken from.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{ConfigurationError, DEFAULT_SLOT, DataDirectory, Setting, Sources, json};

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In the environment of the process.
    Environment,
    /// In a `.env` file.
    EnvFile {
        /// Which.
        path: PathBuf,
    },
    /// In a JSON file.
    JsonFile {
        /// Which.
        path: PathBuf,
    },
    /// Nowhere: it is ours.
    Default,
}

impl Origin {
    /// The folder that relative paths of this origin start from; `None` is the current one.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::EnvFile { path } | Self::JsonFile { path } => path.parent(),
            Self::Flag | Self::Environment | Self::Default => None,
        }
    }

    /// Greater is stronger.
    fn strength(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::JsonFile { .. } => 1,
            Self::EnvFile { .. } => 2,
            Self::Environment => 3,
            Self::Flag => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the command line"),
            Self::Environment => f.write_str("the environment"),
            Self::EnvFile { path } | Self::JsonFile { path } => path.display().fmt(f),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// The winning text of each setting that is set anywhere.
pub(super) struct Layers {
    values: BTreeMap<Setting, (String, Origin)>,
    folder: PathBuf,
    pub(super) warnings: Vec<String>,
}

impl Layers {
    pub(super) fn of(sources: &Sources) -> Result<Self, ConfigurationError> {
        let mut layers =
            Self { values: BTreeMap::new(), folder: sources.current_folder.clone(), warnings: Vec::new() };
        if let Some(file) = &sources.json {
            let read = json::read(file)?;
            let origin = Origin::JsonFile { path: file.path.clone() };
            layers.warnings.extend(read.warnings);
            read.values.into_iter().for_each(|(setting, text)| layers.put(setting, text, &origin));
        }
        if let Some((path, variables)) = &sources.env_file {
            layers.put_variables(variables, &Origin::EnvFile { path: path.clone() });
        }
        layers.put_variables(&sources.environment, &Origin::Environment);
        for (setting, text) in &sources.flags {
            layers.put(*setting, text.clone(), &Origin::Flag);
        }
        Ok(layers)
    }

    fn put_variables(&mut self, variables: &BTreeMap<String, String>, origin: &Origin) {
        for setting in Setting::ALL {
            if let Some(text) = variables.get(setting.variable()) {
                self.put(setting, text.clone(), origin);
            }
        }
    }

    fn put(&mut self, setting: Setting, text: String, origin: &Origin) {
        if !text.trim().is_empty() {
            self.values.insert(setting, (text, origin.clone()));
        }
    }

    pub(super) fn text(&self, setting: Setting) -> Option<&str> {
        self.values.get(&setting).map(|(text, _)| text.trim())
    }

    pub(super) fn origin(&self, setting: Setting) -> Origin {
        self.values.get(&setting).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Whether `setting` comes from a stronger place than `other`.
    pub(super) fn outranks(&self, setting: Setting, other: Setting) -> bool {
        self.origin(setting).strength() > self.origin(other).strength()
    }

    pub(super) fn parsed<T, E: fmt::Display>(
        &self,
        setting: Setting,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigurationError> {
        let Some(text) = self.text(setting) else { return Ok(None) };
        parse(text).map(Some).map_err(|error| ConfigurationError::Value {
            setting: setting.variable(),
            origin: self.origin(setting),
            problem: error.to_string(),
        })
    }

    /// A comma-separated list; empty parts do not count.
    pub(super) fn list(&self, setting: Setting) -> Vec<String> {
        let parts = self.text(setting).unwrap_or_default().split(',');
        parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// A path, relative to the file that sets it, else to the current folder.
    pub(super) fn path(&self, setting: Setting) -> Option<PathBuf> {
        let text = self.text(setting)?;
        let origin = self.origin(setting);
        let folder = origin.folder().unwrap_or(&self.folder);
        let plain = text.strip_prefix("./").unwrap_or(text);
        Some(folder.join(plain))
    }

    /// What a report shows for settings that nobody set.
    pub(super) fn fill_defaults(&mut self, data: &DataDirectory, databases: &[String]) {
        let catalog = data.catalog_folder().display().to_string();
        let defaults = [
            (Setting::InputDatabases, databases.join(",")),
            (Setting::ServerAddress, "127.0.0.1".into()),
            (Setting::ServerPort, super::address::DEFAULT_PORT.to_string()),
            (Setting::DataDirectory, data.root().display().to_string()),
            (Setting::WalLogPath, data.log_folder().display().to_string()),
            (Setting::BackupPath, data.backups().display().to_string()),
            (Setting::SessionPath, catalog.clone()),
            (Setting::CheckpointPath, catalog),
            (Setting::ReplicationSlot, DEFAULT_SLOT.into()),
            (Setting::PublicationName, DEFAULT_SLOT.into()),
            (Setting::ReplicaIdentity, "full".into()),
            (Setting::KeyframeBudget, super::DEFAULT_KEYFRAME_BUDGET.into()),
        ];
        for (setting, text) in defaults {
            self.values.entry(setting).or_insert((text, Origin::Default));
        }
    }
}
