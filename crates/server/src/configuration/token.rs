//! The token that requests carry.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A bearer token. Printed as `[redacted]`.
#[derive(Clone)]
pub struct ApiToken(String);

impl ApiToken {
    /// Takes a token from the configuration: it must fit into a header.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().all(|c| c.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err("it holds spaces or characters that a header cannot carry; use letters and digits")
    }

    /// A token that nobody has seen: 244 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// Whether `candidate` is this token. Takes the same time wherever they differ: what is compared are
    /// digests, which a guesser cannot steer.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(candidate.as_bytes())
    }

    /// The clear text, for the file of the running service and for requests.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
