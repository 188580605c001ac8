//! Proves that our event trigger made a message.
//!
//! Any role may call `pg_logical_emit_message`, and replay runs DDL with high rights; so each message carries
//! `sha256(secret ':' xid ':' json)`. The secret is readable only inside our SECURITY DEFINER function. The
//! xid binds a message to its transaction: what somebody saw in the stream cannot be sent again.

use std::fmt;

use ptr_model::Xid;
use sha2::{Digest, Sha256};

/// The secret that signs messages: 64 hexadecimal digits, used as that text. Does not show itself.
#[derive(Clone)]
pub struct Secret(String);

/// Text that is no secret. Does not repeat it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not 64 lower-case hexadecimal digits.
    #[error(
        "the secret of the event triggers is not 64 lower-case hexadecimal digits; run teardown, then up, to make another"
    )]
    Malformed,
}

/// Why a message with our prefix is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureError {
    /// It does not begin with a signature.
    #[error("a message with our prefix carries no signature")]
    Missing,
    /// The signature is another's, or of another transaction or content.
    #[error("a message with our prefix carries a signature that does not hold")]
    Wrong,
    /// No secret is known, because set-up made no event triggers.
    #[error("a message with our prefix arrived, but there are no event triggers of ours")]
    NoSecret,
}

impl Secret {
    /// A secret nobody knows.
    ///
    /// # Errors
    /// What the operating system says when it has no random numbers.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hexadecimal(&bytes)))
    }

    /// The text to install on the primary and to keep.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The content of a message, for tests and for whoever plays the trigger.
    #[must_use]
    pub fn sign(&self, xid: Xid, json: &str) -> String {
        format!("{}:{json}", self.signature(xid, json.as_bytes()))
    }

    fn signature(&self, xid: Xid, json: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.0.as_bytes());
        hash.update(b":");
        hash.update(xid.to_string().as_bytes());
        hash.update(b":");
        hash.update(json);
        hexadecimal(&hash.finalize())
    }
}

impl std::str::FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let sound = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if sound { Ok(Self(text.to_owned())) } else { Err(SecretError::Malformed) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The JSON of a message of transaction `xid`, if `secret` signed it.
///
/// # Errors
/// [`SignatureError`] says why it is not believed.
pub fn verify<'a>(secret: Option<&Secret>, content: &'a [u8], xid: Xid) -> Result<&'a [u8], SignatureError> {
    let (signature, rest) = content.split_at_checked(64).ok_or(SignatureError::Missing)?;
    let json = rest.strip_prefix(b":").ok_or(SignatureError::Missing)?;
    if !signature.iter().all(u8::is_ascii_hexdigit) {
        return Err(SignatureError::Missing);
    }
    let secret = secret.ok_or(SignatureError::NoSecret)?;
    let expected = secret.signature(xid, json);
    if equal_in_constant_time(signature, expected.as_bytes()) { Ok(json) } else { Err(SignatureError::Wrong) }
}

/// Takes the same time wherever the first difference is, so that a signature cannot be guessed byte by byte.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    /// `printf '%s:812:{"v":1}' $SECRET | sha256sum`
    const SIGNATURE: &str = "186be1e58f21084c3f6140c2acb5749a0712e8f5484f5e2a8985b9ca7579cf55";

    #[test]
    fn the_signature_is_what_sha256sum_gives() {
        let secret: Secret = SECRET.parse().unwrap();
        assert_eq!(secret.sign(Xid(812), r#"{"v":1}"#), format!("{SIGNATURE}:{{\"v\":1}}"));
    }

    #[test]
    fn a_message_of_another_transaction_content_or_secret_is_refused() {
        let secret: Secret = SECRET.parse().unwrap();
        let content = secret.sign(Xid(812), "{}");
        let other = Secret::generate().unwrap();
        assert_eq!(verify(Some(&secret), content.as_bytes(), Xid(812)), Ok(&b"{}"[..]));
        assert_eq!(verify(Some(&secret), content.as_bytes(), Xid(813)), Err(SignatureError::Wrong));
        assert_eq!(
            verify(Some(&secret), content.replace("{}", "[]").as_bytes(), Xid(812)),
            Err(SignatureError::Wrong)
        );
        assert_eq!(verify(Some(&other), content.as_bytes(), Xid(812)), Err(SignatureError::Wrong));
        assert_eq!(verify(None, content.as_bytes(), Xid(812)), Err(SignatureError::NoSecret));
        for content in ["", "{}", &SECRET[..63], SECRET, &SECRET.replace('0', "x")] {
            assert_eq!(verify(Some(&secret), content.as_bytes(), Xid(812)), Err(SignatureError::Missing));
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret: Secret = SECRET.parse().unwrap();
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert!("abc".parse::<Secret>().is_err());
    }
}
