//! Points in time as PostgreSQL keeps them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 00:00 UTC. Prints as RFC 3339 with microseconds, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Timestamp(pub i64);

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01 00:00 UTC.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Timestamp {
    /// From microseconds since 2000-01-01, the form of every time on the replication protocol.
    #[must_use]
    pub fn from_postgres(microseconds: i64) -> Self {
        Self(microseconds.saturating_add(POSTGRES_EPOCH))
    }

    /// Microseconds since 2000-01-01.
    #[must_use]
    pub fn to_postgres(self) -> i64 {
        self.0.saturating_sub(POSTGRES_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => write!(f, "{} microseconds from 1970", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time; write it as 2026-05-01T12:30:00Z, with Z or an offset")]
pub struct TimestampParseError(pub String);

impl FromStr for Timestamp {
    type Err = TimestampParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text.parse().map_err(|_| TimestampParseError(text.to_owned()))?;
        Ok(Self(time.as_microsecond()))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_postgres_epoch_is_the_year_2000() {
        assert_eq!(Timestamp::from_postgres(1).to_string(), "2000-01-01T00:00:00.000001Z");
        assert_eq!(Timestamp::from_postgres(1).to_postgres(), 1);
    }

    #[test]
    fn an_offset_is_understood() {
        assert_eq!("2000-01-01T01:00:00+01:00".parse(), Ok(Timestamp::from_postgres(0)));
        assert!("2000-01-01".parse::<Timestamp>().is_err());
    }
}
