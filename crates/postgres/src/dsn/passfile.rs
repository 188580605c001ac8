//! Passwords from `~/.pgpass` (`hostname:port:database:username:password`, first match wins).

use super::{Dsn, Host, HostAddress};
use crate::Password;
use std::path::Path;

/// Gives each host of the DSN its password from the file, unless the DSN has one of its own.
///
/// As in libpq the file is optional: a missing one is silent, one that others may read is ignored
/// with a warning.
pub(super) fn fill(dsn: &mut Dsn, path: &Path) {
    if dsn.password.is_some() || !is_private(path) {
        return;
    }
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let (database, user) = (dsn.database.clone(), dsn.user.clone());
    for host in &mut dsn.hosts {
        let wanted = [host_name(host), host.port.to_string(), database.clone(), user.clone()];
        host.password = text.lines().find_map(|line| password(line, &wanted));
    }
}

/// How the file names a host: socket directories at their default places are `localhost`.
fn host_name(host: &Host) -> String {
    match &host.address {
        HostAddress::Tcp { name, .. } => name.clone(),
        HostAddress::Unix(path) if path == Path::new("/var/run/postgresql") || path == Path::new("/tmp") => {
            "localhost".to_owned()
        }
        HostAddress::Unix(path) => path.display().to_string(),
    }
}

fn password(line: &str, wanted: &[String; 4]) -> Option<Password> {
    if line.starts_with('#') {
        return None;
    }
    let fields = split(line);
    let matches = |(field, wanted): (&String, &String)| field == "*" || field == wanted;
    let found = fields.len() == 5 && fields.iter().zip(wanted).all(matches);
    found.then(|| Password::new(fields[4].clone()))
}

/// Splits at colons that have no backslash before them; the password is the rest.
fn split(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => field.extend(chars.next()),
            ':' if fields.len() < 4 => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(unix)]
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    if !metadata.is_file() {
        tracing::warn!(file = %path.display(), "the password file is not a plain file, so it is ignored");
        return false;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            file = %path.display(),
            "others can read the password file, so it is ignored; run chmod 0600 on it"
        );
        return false;
    }
    true
}

#[cfg(not(unix))]
fn is_private(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> [String; 4] {
        ["db.example", "5432", "shop", "ann"].map(str::to_owned)
    }

    #[test]
    fn a_star_matches_anything_and_a_backslash_escapes() {
        assert_eq!(password(r"*:*:*:ann:a\:b\\c", &wanted()), Some(Password::new(r"a:b\c")));
        assert_eq!(
            password("db.example:5432:shop:ann:with:colons", &wanted()),
            Some(Password::new("with:colons"))
        );
    }

    #[test]
    fn comments_and_other_roles_do_not_match() {
        assert_eq!(password("#*:*:*:*:secret", &wanted()), None);
        assert_eq!(password("*:*:*:bob:secret", &wanted()), None);
        assert_eq!(password("*:*:*:ann", &wanted()), None);
    }
}
