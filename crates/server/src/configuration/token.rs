//! The token that requests carry.

use std::fmt;

use sha2::{Digest, Sha256};

/// What a digest begins with in place of a token.
const DIGEST: &str = "sha256:";

/// A bearer token, of which only the digest is kept. Printed as `[redacted]`.
#[derive(Clone)]
pub struct ApiToken([u8; 32]);

impl ApiToken {
    /// Takes a token from the configuration, or `sha256:` and the digest of one, in hexadecimal digits: then the token
    /// itself is kept nowhere.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(digits) = text.strip_prefix(DIGEST) {
            return digest(digits).map(Self).ok_or(
                "behind sha256: there are to be the 64 hexadecimal digits that `printf %s TOKEN | sha256sum` prints",
            );
        }
        if text.chars().all(|c| c.is_ascii_graphic()) {
            return Ok(Self(Sha256::digest(text.as_bytes()).into()));
        }
        Err("it holds spaces or characters that a header cannot carry; use letters and digits")
    }

    /// Whether `candidate` is this token. Takes the same time wherever they differ: what is compared are
    /// digests, which a guesser cannot steer.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0 == <[u8; 32]>::from(Sha256::digest(candidate.as_bytes()))
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `printf %s secret | sha256sum` prints it.
    const OF_SECRET: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_token_may_be_given_by_its_digest_which_opens_nothing_itself() {
        let token = ApiToken::parse(OF_SECRET).unwrap();
        assert!(token.matches("secret"));
        assert!(ApiToken::parse(&OF_SECRET.replace("bb", "BB")).unwrap().matches("secret"));
        for other in ["Secret", "", OF_SECRET, &OF_SECRET[7..]] {
            assert!(!token.matches(other), "{other}");
        }
        for wrong in ["sha256:", "sha256:2bb8", &OF_SECRET.replace("2b", "zz"), &format!("{OF_SECRET}0")] {
            assert!(ApiToken::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_in_clear_is_that_token() {
        let token = ApiToken::parse("secret").unwrap();
        assert!(token.matches("secret") && !token.matches("secre"));
        assert!(ApiToken::parse("with space").is_err());
    }
}
