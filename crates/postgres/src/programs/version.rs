//! A PostgreSQL version: a major and a minor number since 10.

use std::fmt;

/// The version of a server or of programs. Orders as versions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// 15 in 15.4: what decides about formats and features.
    pub major: u32,
    /// 4 in 15.4; 0 for a beta or release candidate.
    pub minor: u32,
}

impl ServerVersion {
    /// From what a program prints for `--version`: `pg_dump (PostgreSQL) 15.4 (Debian 15.4-1)`.
    pub fn of_program(output: &str) -> Option<Self> {
        let (_, version) = output.split_once("(PostgreSQL) ")?;
        let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        let major = number(version).parse().ok()?;
        let minor = version.split_once('.').and_then(|(_, minor)| number(minor).parse().ok()).unwrap_or(0);
        Some(Self { major, minor })
    }

    /// From the setting `server_version_num`: 150004.
    pub fn of_number(server_version_num: u32) -> Self {
        Self { major: server_version_num / 10_000, minor: server_version_num % 10_000 }
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_programs_and_servers() {
        let of = |text| ServerVersion::of_program(text).map(|version| version.to_string());
        assert_eq!(of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(), Some("15.18"));
        assert_eq!(of("pg_dump (PostgreSQL) 19beta2\n").as_deref(), Some("19.0"));
        assert_eq!(of("git version 2"), None);
        assert_eq!(ServerVersion::of_number(180_004), ServerVersion { major: 18, minor: 4 });
    }
}
