//! Markers: how we learn where "now" is in the stream.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A random token sent through the primary's WAL in a transaction of its own. When it comes round, the
/// position before it is the position of the moment at which it was sent. Unguessable, so that nobody else
/// can make it come round early.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MarkerToken(pub Uuid);

impl MarkerToken {
    /// A token that nobody has seen.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The content of the logical message that carries it.
    #[must_use]
    pub fn to_content(self) -> String {
        format!("marker {}", self.0)
    }

    /// The token in a logical message's content, `None` where it holds something else.
    #[must_use]
    pub fn from_content(content: &[u8]) -> Option<Self> {
        let token = std::str::from_utf8(content).ok()?.strip_prefix("marker ")?;
        Uuid::from_str(token).ok().map(Self)
    }
}

impl fmt::Display for MarkerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_its_own_content_only() {
        let token = MarkerToken::random();
        assert_eq!(MarkerToken::from_content(token.to_content().as_bytes()), Some(token));
        assert_eq!(MarkerToken::from_content(b"marker x"), None);
        assert_eq!(MarkerToken::from_content(b"{\"v\":1}"), None);
    }
}
