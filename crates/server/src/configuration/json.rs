//! The JSON file, in the keys that the product's first users know: `primary_db`, `replica_db`, `storage`,
//! `replication`, `server`.
//!
//! Keys are matched without case, `_` and `-`, because such files were written for a reader that did the same.
//! An unknown key is a warning that names it; a wrong type is an error with file and line.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{ConfigurationError, FileText, Setting};

/// What a file sets, and what in it means nothing to us.
#[derive(Default)]
pub(super) struct JsonSettings {
    pub(super) values: BTreeMap<Setting, String>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn read(file: &FileText) -> Result<JsonSettings, ConfigurationError> {
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    let mut settings = JsonSettings::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Root(&mut settings).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    read.map_err(|error| ConfigurationError::Malformed {
        path: file.path.clone(),
        line: error.line(),
        problem: describe(&error),
    })?;
    settings.warnings.iter_mut().for_each(|key| {
        *key = format!("{}: the key {key:?} means nothing here and is ignored", file.path.display());
    });
    Ok(settings)
}

/// serde_json's message without its own line, which we say first.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

fn normal(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Keys of `storage`, `replication` and `server`, normalised.
const STORAGE: &[(&str, Setting)] = &[
    ("wallogpath", Setting::WalLogPath),
    ("walpath", Setting::WalLogPath),
    ("backuppath", Setting::BackupPath),
    ("sessionpath", Setting::SessionPath),
    ("checkpointpath", Setting::CheckpointPath),
    ("datadir", Setting::DataDirectory),
    ("datadirectory", Setting::DataDirectory),
    ("keyframebudget", Setting::KeyframeBudget),
    ("retainage", Setting::RetainAge),
    ("retainbytes", Setting::RetainBytes),
];
const REPLICATION: &[(&str, Setting)] = &[
    ("slotname", Setting::ReplicationSlot),
    ("slot", Setting::ReplicationSlot),
    ("replicationslot", Setting::ReplicationSlot),
    ("publicationname", Setting::PublicationName),
    ("publication", Setting::PublicationName),
    ("databases", Setting::InputDatabases),
    ("replicaidentity", Setting::ReplicaIdentity),
    ("excludetables", Setting::ExcludeTables),
    ("slotlimit", Setting::SlotLimit),
];
const SERVER: &[(&str, Setting)] = &[
    ("addr", Setting::ServerAddress),
    ("address", Setting::ServerAddress),
    ("host", Setting::ServerAddress),
    ("port", Setting::ServerPort),
    ("token", Setting::ApiToken),
    ("apitoken", Setting::ApiToken),
    ("tlscert", Setting::ServerTlsCert),
    ("tlskey", Setting::ServerTlsKey),
];

struct Root<'a>(&'a mut JsonSettings);

impl<'de> DeserializeSeed<'de> for Root<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with primary_db, replica_db, storage and replication")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let settings = &mut *self.0;
            match normal(&key).as_str() {
                "primarydb" | "primary" | "input" | "inputdb" => {
                    map.next_value_seed(Connection { settings, key: &key, target: Setting::InputDsn })?;
                }
                "replicadb" | "replica" | "output" | "outputdb" => {
                    map.next_value_seed(Connection { settings, key: &key, target: Setting::OutputDsn })?;
                }
                "storage" => map.next_value_seed(Section { settings, key: &key, keys: STORAGE })?,
                "replication" => map.next_value_seed(Section { settings, key: &key, keys: REPLICATION })?,
                "server" | "ipc" => map.next_value_seed(Section { settings, key: &key, keys: SERVER })?,
                other => match Setting::ALL.into_iter().find(|s| normal(s.variable()) == other) {
                    Some(setting) => {
                        settings.values.insert(setting, map.next_value_seed(Text)?);
                    }
                    None => {
                        settings.warnings.push(key);
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        Ok(())
    }
}

struct Section<'a> {
    settings: &'a mut JsonSettings,
    key: &'a str,
    keys: &'static [(&'static str, Setting)],
}

impl<'de> DeserializeSeed<'de> for Section<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Section<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be an object", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.keys.iter().find(|(name, _)| *name == normal(&key)) {
                Some((_, setting)) => {
                    self.settings.values.insert(*setting, map.next_value_seed(Text)?);
                }
                None => {
                    self.settings.warnings.push(format!("{}.{key}", self.key));
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// `{host, port, user, password, database, sslmode}`, or a DSN as one text.
struct Connection<'a> {
    settings: &'a mut JsonSettings,
    key: &'a str,
    target: Setting,
}

impl<'de> DeserializeSeed<'de> for Connection<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// libpq's name of a connection key, normalised spellings on the left.
const CONNECTION: &[(&str, &str)] = &[
    ("host", "host"),
    ("port", "port"),
    ("user", "user"),
    ("username", "user"),
    ("password", "password"),
    ("database", "dbname"),
    ("dbname", "dbname"),
    ("name", "dbname"),
    ("sslmode", "sslmode"),
    ("sslrootcert", "sslrootcert"),
    ("sslcert", "sslcert"),
    ("sslkey", "sslkey"),
];

impl<'de> Visitor<'de> for Connection<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be an object with host, port, user, password and database, or a DSN", self.key)
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.settings.values.insert(self.target, text.to_owned());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut parts: Vec<String> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let normal = normal(&key);
            if let Some((_, option)) = CONNECTION.iter().find(|(name, _)| *name == normal) {
                let value = map.next_value_seed(Text)?;
                if !value.is_empty() {
                    parts.push(format!("{option}={}", quoted(&value)));
                }
            } else if matches!(normal.as_str(), "dsn" | "url" | "uri") {
                self.settings.values.insert(self.target, map.next_value_seed(Text)?);
            } else {
                self.settings.warnings.push(format!("{}.{key}", self.key));
                map.next_value::<IgnoredAny>()?;
            }
        }
        if !parts.is_empty() {
            self.settings.values.insert(self.target, parts.join(" "));
        }
        Ok(())
    }
}

/// A value of a keyword DSN, quoted as libpq reads it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A text, a whole number, or a list of texts joined by commas; null is empty, and so unset.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a whole number")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<String, A::Error> {
        let mut parts: Vec<String> = Vec::new();
        while let Some(part) = sequence.next_element::<String>()? {
            if part.contains(',') {
                return Err(A::Error::custom("names with a comma cannot stand in a list"));
            }
            parts.push(part);
        }
        Ok(parts.join(","))
    }
}
