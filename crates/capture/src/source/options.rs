//! What set-up is told.

use std::{path::PathBuf, time::Duration};

use ptr_postgres::{Dsn, QualifiedName, programs::Installations};

/// What set-up is told about one captured database.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The primary, with the database to capture.
    pub dsn: Dsn,
    /// The slot's name; see [`slot_name`] for the second and later databases of a server.
    pub slot: String,
    /// The publication's name.
    pub publication: String,
    /// Whether tables get REPLICA IDENTITY FULL where it can make no statement fail. Without it, going back over
    /// changes of tables needs a keyframe.
    pub replica_identity: bool,
    /// Tables whose identity is left alone.
    pub exclude_tables: Vec<QualifiedName>,
    /// Processes that `pg_dump` reads the base image with.
    pub jobs: u32,
    /// Where `pg_dump` is looked for.
    pub programs: Installations,
    /// Where the base image goes (`base/<database>`).
    pub base_directory: PathBuf,
    /// Where set-up notes what it does (`source/<database>.json`).
    pub record_path: PathBuf,
    /// How long one table's lock is waited for, all attempts together. Each attempt is short, because a waiting
    /// ALTER TABLE holds up everybody behind it.
    pub lock_patience: Duration,
}

impl SourceOptions {
    /// The usual, for this database.
    pub fn new(dsn: Dsn, programs: Installations, base_directory: PathBuf, record_path: PathBuf) -> Self {
        Self {
            dsn,
            slot: ptr_model::OUR_SCHEMA.to_owned(),
            publication: ptr_model::OUR_SCHEMA.to_owned(),
            replica_identity: true,
            exclude_tables: Vec::new(),
            jobs: 2,
            programs,
            base_directory,
            record_path,
            lock_patience: Duration::from_secs(120),
        }
    }
}

/// The longest name that PostgreSQL keeps (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;

/// The slot of a further database of one server: slots are the cluster's, so their names must differ.
///
/// A slot's name may hold only lower-case letters, digits and underscores; other characters become underscores,
/// and a checksum keeps two names apart that would then be equal or too long.
#[must_use]
pub fn slot_name(slot: &str, database: &str, is_first: bool) -> String {
    if is_first {
        return slot.to_owned();
    }
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let plain = format!("{slot}_{database}");
    if plain.len() <= LONGEST_NAME && database.chars().all(sound) {
        return plain;
    }
    let checksum = database
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut name: String = plain.chars().map(|c| if sound(c) { c } else { '_' }).collect();
    name.truncate(LONGEST_NAME - 9);
    format!("{name}_{checksum:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_database_has_the_plain_slot_and_others_their_name_behind_it() {
        assert_eq!(slot_name("ptr", "shop", true), "ptr");
        assert_eq!(slot_name("ptr", "shop", false), "ptr_shop");
    }

    #[test]
    fn names_that_a_slot_cannot_have_stay_different() {
        let names = ["Shop", "shop-1", "shop.1", &"x".repeat(63), &"x".repeat(62)];
        let slots: Vec<String> = names.iter().map(|name| slot_name("ptr", name, false)).collect();
        for (at, slot) in slots.iter().enumerate() {
            assert!(slot.len() <= 63 && !slots[..at].contains(slot), "{slot}");
            assert!(
                slot.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{slot}"
            );
        }
    }
}
