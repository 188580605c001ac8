//! That a server is to show that it knows the password, by SCRAM, before anything is said to it.
//!
//! tokio-postgres does whatever login the server asks for: who asks for the password in clear gets it, and who asks for
//! nothing gets statements. So what the server sends is looked at until it asks, and asking for anything but SCRAM is an
//! error. In SCRAM tokio-postgres itself checks what the server proves.

use std::error::Error;
use std::io;

/// What the server has said so far.
#[derive(Debug, Default)]
pub(super) struct Proof {
    is_asked: bool,
    /// The beginning of the message that is under way: a type, a length that counts itself, and the kind of login.
    head: Vec<u8>,
    /// Bytes of that message that are still to come, once it is no matter.
    left: usize,
}

/// Type and length, and behind them what login is asked for.
const HEAD: usize = 5;
const HEAD_AND_KIND: usize = 9;

/// `AuthenticationSASL`.
const SASL: [u8; 4] = [0, 0, 0, 10];

impl Proof {
    /// The server sent this.
    ///
    /// # Errors
    /// It lets us in, or asks for a password, without a proof.
    pub(super) fn came(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let [byte, rest @ ..] = bytes
            && !self.is_asked
        {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - skipped, &bytes[skipped..]);
                continue;
            }
            self.head.push(*byte);
            bytes = rest;
            match self.head.as_slice() {
                // An error ends it without us.
                [b'E', ..] => self.is_asked = true,
                [b'R', ..] if self.head.len() < HEAD_AND_KIND => {}
                [b'R', head @ ..] => match head.ends_with(&SASL) {
                    true => self.is_asked = true,
                    false => return Err(io::Error::other(NoProof)),
                },
                [_, length @ ..] => {
                    if let Ok(length) = <[u8; HEAD - 1]>::try_from(length) {
                        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                        self.left = length.saturating_sub(HEAD - 1);
                        self.head.clear();
                    }
                }
                [] => unreachable!("a byte was put into it"),
            }
        }
        Ok(())
    }
}

/// What the server asks for instead proves nothing.
#[derive(Debug, thiserror::Error)]
#[error("the server does not ask for a login by SCRAM")]
struct NoProof;

/// Whether that is what a login failed by.
pub(super) fn is_missing(error: &tokio_postgres::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<NoProof>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(bytes: &[u8]) -> Vec<Result<(), String>> {
        let said = |size: usize| {
            let mut proof = Proof::default();
            bytes.chunks(size).try_for_each(|piece| proof.came(piece)).map_err(|error| error.to_string())
        };
        (1..=bytes.len()).map(said).collect()
    }

    #[test]
    fn only_who_asks_for_scram_is_answered_however_its_messages_come() {
        let notice = b"N\0\0\0\x09R\0\0\0\x03";
        let sasl = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x08\0\0\0\0";
        for allowed in [&sasl[..], &[&notice[..], &sasl[..]].concat(), b"E\0\0\0\x05\0R\0\0\0\x08\0\0\0\x03"]
        {
            assert!(in_pieces(allowed).iter().all(Result::is_ok), "{allowed:?}");
        }
        // Nothing, in clear, by MD5.
        for kind in [0, 3, 5] {
            let asked = [&notice[..], &[b'R', 0, 0, 0, 8, 0, 0, 0, kind]].concat();
            for refused in in_pieces(&asked) {
                assert!(refused.unwrap_err().contains("does not ask for a login by SCRAM"));
            }
        }
    }
}
