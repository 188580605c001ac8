//! A look at what does not pass through the stream, small enough to be kept and compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

const QUERY: &str = include_str!("../../sql/fingerprint.sql");

/// Kinds of things that a fingerprint looks at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// How many large objects there are, and the highest.
    LargeObjects,
    /// An unlogged table with contents.
    UnloggedTable,
    /// A foreign table.
    ForeignTable,
    /// A role of the cluster, its attributes and memberships; its password only its owner can see.
    Role,
    /// A tablespace of the user's.
    Tablespace,
    /// An event trigger of the user's.
    EventTrigger,
    /// Settings, owner and rights of the database.
    DatabaseSetting,
    /// Who owns a table, view, function or schema.
    Owner,
    /// Which index a table is clustered on.
    Clustered,
    /// A table or materialised view, by its OID.
    Made,
    /// An index that a failed CREATE INDEX CONCURRENTLY left, by its OID: its table's OID and its name.
    InvalidIndex,
}

impl Aspect {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::LargeObjects,
        Self::UnloggedTable,
        Self::ForeignTable,
        Self::Role,
        Self::Tablespace,
        Self::EventTrigger,
        Self::DatabaseSetting,
        Self::Owner,
        Self::Clustered,
        Self::Made,
        Self::InvalidIndex,
    ];

    /// One and several of it.
    pub(super) fn nouns(self) -> (&'static str, &'static str) {
        match self {
            Self::LargeObjects => ("set of large objects", "sets of large objects"),
            Self::UnloggedTable => ("unlogged table", "unlogged tables"),
            Self::ForeignTable => ("foreign table", "foreign tables"),
            Self::Role => ("role", "roles"),
            Self::Tablespace => ("tablespace", "tablespaces"),
            Self::EventTrigger => ("event trigger", "event triggers"),
            Self::DatabaseSetting => ("setting of the database", "settings of the database"),
            Self::Owner => ("object", "objects"),
            Self::Clustered => ("mark of CLUSTER", "marks of CLUSTER"),
            Self::InvalidIndex => ("index", "indexes"),
            Self::Made => ("table or materialised view", "tables and materialised views"),
        }
    }

    /// From the words of `sql/fingerprint.sql`.
    fn read(word: &str) -> Option<Self> {
        serde_json::from_value(word.into()).ok()
    }
}

/// What a primary held at one moment of what the stream does not carry.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Fingerprint(BTreeMap<Aspect, BTreeMap<String, String>>);

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

impl Fingerprint {
    /// Looks, in one statement and with the rights that everybody has.
    ///
    /// # Errors
    /// Whatever the server answers.
    pub async fn take(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let rows = client.query(QUERY, &[]).await?;
        Ok(Self::of_things(rows.iter().filter_map(|row| {
            let aspect = Aspect::read(row.get(0))?;
            Some((aspect, row.get(1), row.get(2)))
        })))
    }

    pub(super) fn of_things(things: impl IntoIterator<Item = (Aspect, String, String)>) -> Self {
        let mut fingerprint = Self::default();
        for (aspect, name, value) in things {
            fingerprint.0.entry(aspect).or_default().insert(name, value);
        }
        fingerprint
    }

    /// The things of one kind, and what is to be noticed of each.
    #[must_use]
    pub fn of(&self, aspect: Aspect) -> &BTreeMap<String, String> {
        self.0.get(&aspect).unwrap_or(&NOTHING)
    }
}
