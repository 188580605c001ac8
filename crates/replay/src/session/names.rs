//! Names of databases: templates, replacements, what is on its way out. Pure.

use ptr_postgres::Dsn;
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
    with_suffix(database, "__next")
}

/// Where a replaced database waits to be dropped.
#[must_use]
pub fn old_name(database: &str) -> String {
    with_suffix(database, "__old")
}

/// Where a comparison makes a database of its own at a position.
#[must_use]
pub fn verification_name(database: &str) -> String {
    with_suffix(database, "__verify")
}

/// The name with the suffix, the name cut at a character's end if both together are too long.
fn with_suffix(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(MAX_NAME - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
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
        let long = "ü".repeat(31);
        for name in [template_name(&long, log), next_name(&long), old_name(&long)] {
            assert!(name.len() <= MAX_NAME, "{name}");
        }
    }
}
