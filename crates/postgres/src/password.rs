//! A password that does not show itself.
//!
//! Invariant: neither `Debug` nor any `Display` in this crate prints the value; whoever needs it
//! says so by calling [`Password::reveal`].

use std::fmt;

/// A password. Printed as `[redacted]`, and deliberately neither `Display` nor serialisable.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(String);

impl Password {
    /// Takes the password in clear text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The clear text, for the login and for child processes only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
