//! Names of databases: templates, replacements, what is on its way out. Pure.

use ptr_postgres::Dsn;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// `NAMEDATALEN - 1`: the server cuts longer names without saying so to programs.
const MAX_NAME: usize = 63;

/// The template of a log's beginning.
#[must_use]
pub fn template_name(database: &str, log_id: Uuid) -> String {
    let short = &log_id.simple().to_string()[24..];
    with_suffix(&format!("ptr_{database}"), &format!("_{short}_creation"))
}

/// Where the replacement of a session's database is made.
#[must_use]
pub fn next_name(database: &str) -> String {
    distinct(database, "__next")
}

/// What the names begin with that are given to keyframes of a log and to what is made beside them. Short enough for
/// all that can follow, so that it is the same in all of them.
#[must_use]
pub fn keyframe_prefix(database: &str, log_id: Uuid) -> String {
    let short = &log_id.simple().to_string()[24..];
    format!("{}_{short}_", cut(&format!("ptr_{database}"), MAX_NAME - LONGEST_ENDING))
}

/// `_`, eight digits of the log's id, `_`, an ordinal, `_spare`.
const LONGEST_ENDING: usize = 1 + 8 + 1 + 20 + 6;

/// A keyframe, by the transactions before it.
#[must_use]
pub fn keyframe_name(database: &str, log_id: Uuid, ordinal: u64) -> String {
    format!("{}{ordinal}", keyframe_prefix(database, log_id))
}

/// A copy of a keyframe that waits to be used.
#[must_use]
pub fn spare_name(database: &str, log_id: Uuid, ordinal: u64) -> String {
    format!("{}{ordinal}_spare", keyframe_prefix(database, log_id))
}

/// The template of a base image that is not at a log's creation, by the transactions before it.
#[must_use]
pub fn base_name(database: &str, log_id: Uuid, ordinal: u64) -> String {
    format!("{}{ordinal}_base", keyframe_prefix(database, log_id))
}

/// Where the database is made of which such a base image is taken.
#[must_use]
pub fn standing_name(database: &str, log_id: Uuid, ordinal: u64) -> String {
    format!("{}{ordinal}_trim", keyframe_prefix(database, log_id))
}

/// The number in a name that begins with [`keyframe_prefix`] and was given to an image: the transactions before it.
pub(crate) fn image_number(rest: &str) -> Option<u64> {
    ["_spare", "_base", "_trim"].iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest).parse().ok()
}

/// Where a replaced database waits to be dropped, by its oid: several may wait.
#[must_use]
pub fn discarded_name(database: &str, log_id: Uuid, oid: u32) -> String {
    format!("{}old_{oid}", keyframe_prefix(database, log_id))
}

/// Where a comparison makes a database of its own at a position.
#[must_use]
pub fn verification_name(database: &str) -> String {
    distinct(database, "__verify")
}

/// Why no database of ours can have that name, a session's or one made from a backup; `None` where one can.
#[must_use]
pub fn unfit(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > MAX_NAME {
        return Some("it is longer than 63 bytes");
    }
    if name.contains('\0') {
        return Some("it holds a zero byte");
    }
    if ["postgres", "template0", "template1"].contains(&name) {
        return Some("every server has it, and databases are made and dropped from there");
    }
    // What stands under these is dropped when it is to be made anew, or was left over.
    let is_given = ["__next", "__verify"].iter().any(|suffix| name.ends_with(suffix));
    if is_given || name.starts_with("postgres_test_replay_") {
        return Some("databases in the making are named so");
    }
    None
}

/// The name with the suffix, the name cut at a character's end if both together are too long.
fn with_suffix(name: &str, suffix: &str) -> String {
    format!("{}{suffix}", cut(name, MAX_NAME - suffix.len()))
}

/// The same for names of which nothing else tells two that begin alike apart: where it has to be cut, it gets a hash of
/// the whole name.
fn distinct(name: &str, suffix: &str) -> String {
    if name.len() + suffix.len() <= MAX_NAME {
        return format!("{name}{suffix}");
    }
    let hash = Sha256::digest(name);
    let hash = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    with_suffix(name, &format!("_{hash:08x}{suffix}"))
}

/// At most so many bytes of a name, whole characters.
fn cut(name: &str, length: usize) -> &str {
    let mut end = name.len().min(length);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Another database of the server: CREATE, RENAME and DROP DATABASE cannot run in the one they are about.
#[must_use]
pub fn maintenance(output: &Dsn, target: &str) -> Dsn {
    let other = if target == "postgres" { "template1" } else { "postgres" };
    output.with_database(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_whole_characters() {
        let log = Uuid::from_u128(0x1234_5678);
        assert_eq!(template_name("shop", log), "ptr_shop_12345678_creation");
        assert_eq!(keyframe_name("shop", log, 7), "ptr_shop_12345678_7");
        let long = "ü".repeat(31);
        let given = [
            template_name(&long, log),
            next_name(&long),
            keyframe_name(&long, log, u64::MAX),
            spare_name(&long, log, u64::MAX),
            discarded_name(&long, log, u32::MAX),
        ];
        for name in &given {
            assert!(name.len() <= MAX_NAME, "{name}");
        }
        let prefix = keyframe_prefix(&long, log);
        assert!(given[2..].iter().all(|name| name.starts_with(&prefix)));
        assert_eq!(spare_name("shop", log, 7), "ptr_shop_12345678_7_spare");
    }

    #[test]
    fn names_of_the_server_and_of_what_is_in_the_making_are_unfit() {
        let making = [next_name("shop"), verification_name(&"n".repeat(MAX_NAME))];
        let others =
            ["", "a\0b", "postgres", "template1", "postgres_test_replay_restore_1"].map(str::to_owned);
        for name in making.iter().chain(&others).chain([&"n".repeat(MAX_NAME + 1)]) {
            assert!(unfit(name).is_some(), "{name:?}");
        }
        for name in ["shop", "shop_next", "Postgres", "ptr_shop", "two words", "表"] {
            assert_eq!(unfit(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_is_made_for_two_sessions_has_two_names_however_long_they_are() {
        let (first, second) = ("x".repeat(57) + "first", "x".repeat(57) + "other");
        for name in [next_name, verification_name] {
            assert_ne!(name(&first), name(&second));
            assert!(name(&first).len() <= MAX_NAME && name(&first).starts_with(&"x".repeat(40)));
        }
        assert_eq!(
            (next_name("shop"), verification_name("shop")),
            ("shop__next".into(), "shop__verify".into())
        );
    }
}
