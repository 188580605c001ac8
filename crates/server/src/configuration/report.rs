//! The configuration as users see it: every value with its origin, nothing secret.

use ptr_postgres::Dsn;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Configuration, Origin, Setting, layers::Layers};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingReport {
    /// Its name, the same in the environment and in `.env`.
    pub name: String,
    /// Its value, redacted; absent where nothing is set and there is no default.
    pub value: Option<String>,
    /// Where the value stands: `flag`, `environment`, `env_file`, `json_file` or `default`.
    pub origin: String,
    /// The file, where it stands in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// All settings, and what was found and not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationReport {
    /// The data directory.
    pub data_directory: String,
    /// Where the API listens.
    pub address: String,
    /// The captured databases; the first is the default.
    pub databases: Vec<String>,
    /// The input DSN without its password; `embedded` where a server of ours is used.
    pub input_dsn: String,
    /// The output DSN without its password; `embedded` where a server of ours is used.
    pub output_dsn: String,
    /// Each setting with its origin.
    pub settings: Vec<SettingReport>,
    /// What was found and not used.
    pub warnings: Vec<String>,
}

pub(super) fn settings(layers: &Layers, input: Option<&Dsn>, output: Option<&Dsn>) -> Vec<SettingReport> {
    let one = |setting: Setting| {
        let value = match setting {
            Setting::InputDsn => input.map(Dsn::to_string),
            Setting::OutputDsn => output.map(Dsn::to_string),
            Setting::ApiToken => layers.text(setting).map(|_| "[redacted]".to_owned()),
            _ if setting.is_path() => layers.path(setting).map(|path| path.display().to_string()),
            _ => layers.text(setting).map(str::to_owned),
        };
        let (origin, file) = origin(&layers.origin(setting));
        SettingReport { name: setting.variable().to_owned(), value, origin: origin.to_owned(), file }
    };
    Setting::ALL.into_iter().map(one).collect()
}

fn origin(origin: &Origin) -> (&'static str, Option<String>) {
    match origin {
        Origin::Flag => ("flag", None),
        Origin::Environment => ("environment", None),
        Origin::EnvFile { path } => ("env_file", Some(path.display().to_string())),
        Origin::JsonFile { path } => ("json_file", Some(path.display().to_string())),
        Origin::Default => ("default", None),
    }
}

pub(super) fn report(configuration: &Configuration) -> ConfigurationReport {
    let shown = |dsn: &Option<Dsn>| dsn.as_ref().map_or("embedded".to_owned(), Dsn::to_string);
    ConfigurationReport {
        data_directory: configuration.data.root().display().to_string(),
        address: configuration.address.to_string(),
        databases: configuration.databases.clone(),
        input_dsn: shown(&configuration.input),
        output_dsn: shown(&configuration.output),
        settings: configuration.settings.clone(),
        warnings: configuration.warnings.clone(),
    }
}
