//! `postgres://` URIs, cut where libpq cuts them (`conninfo_uri_parse_options` in `fe-connect.c`).

use super::error::{DsnError, ENCODE};
use super::parameters::Parameters;

/// Parses what follows `text`'s scheme.
pub(super) fn parse(text: &str, scheme: usize) -> Result<Parameters, DsnError> {
    let mut uri = Uri { text, at: scheme, parameters: Parameters::default() };
    uri.credentials()?;
    let end = uri.hosts()?;
    if end == Some('/') {
        uri.database()?;
    }
    uri.query()?;
    Ok(uri.parameters)
}

struct Uri<'a> {
    text: &'a str,
    /// Byte offset of what is not parsed yet.
    at: usize,
    parameters: Parameters,
}

impl<'a> Uri<'a> {
    fn credentials(&mut self) -> Result<(), DsnError> {
        let rest = self.rest();
        let Some(end) = rest.find(['@', '/']).filter(|end| rest[*end..].starts_with('@')) else {
            return Ok(());
        };
        let credentials = &rest[..end];
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some((user.len() + 1, password))),
            None => (credentials, None),
        };
        self.store("user", user, self.at)?;
        if let Some((offset, password)) = password {
            self.store("password", password, self.at + offset)?;
        }
        self.at += end + 1;
        Ok(())
    }

    /// Hosts and ports up to, and over, the character that ends them.
    fn hosts(&mut self) -> Result<Option<char>, DsnError> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        let start = self.at;
        let end = loop {
            hosts.push(self.host()?);
            let mut end = self.take();
            if end == Some(':') {
                ports.push(self.port()?);
                end = self.take();
            } else {
                ports.push("");
            }
            if end != Some(',') {
                break end;
            }
        };
        let hosts = hosts.join(",");
        if let Some(offset) = hosts.find('@') {
            return Err(malformed(self.text, start + offset, "a second @ in front of the host"));
        }
        self.store("host", &hosts, start)?;
        if ports.iter().any(|port| !port.is_empty()) {
            self.store("port", &ports.join(","), start)?;
        }
        if end == Some('?') {
            self.at -= 1;
        }
        Ok(end)
    }

    fn host(&mut self) -> Result<&'a str, DsnError> {
        let rest = self.rest();
        let Some(inside) = rest.strip_prefix('[') else {
            return Ok(self.until([':', '/', '?', ',']));
        };
        let end = inside.find(']').ok_or_else(|| malformed(self.text, self.at, "[ without its ]"))?;
        let after = self.at + end + 2;
        if end == 0 {
            return Err(malformed(self.text, self.at, "an empty IPv6 address"));
        }
        if self.text[after..].starts_with(|c| !matches!(c, ':' | '/' | '?' | ',')) {
            return Err(malformed(self.text, after, "an unexpected character after ]"));
        }
        self.at = after;
        Ok(&inside[..end])
    }

    /// A port is checked here, where its place is known: text that is no number is most often the
    /// rest of a password with a slash in it.
    fn port(&mut self) -> Result<&'a str, DsnError> {
        let at = self.at;
        let port = self.until(['/', '?', ',']);
        if port.chars().all(|c| c.is_ascii_digit() || c == '%') {
            Ok(port)
        } else {
            Err(malformed(self.text, at, "a port number was expected here"))
        }
    }

    fn database(&mut self) -> Result<(), DsnError> {
        let at = self.at;
        let name = self.until(['?']);
        // libpq would take it for a part of the name. It is the end of a password with a @ and a slash.
        if let Some(offset) = name.find('@') {
            return Err(malformed(self.text, at + offset, "a second @ behind the host"));
        }
        if name.is_empty() { Ok(()) } else { self.store("dbname", name, at) }
    }

    fn query(&mut self) -> Result<(), DsnError> {
        if self.take().is_none() {
            return Ok(());
        }
        while !self.rest().is_empty() {
            let at = self.at;
            let pair = self.until(['&']);
            self.take();
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| malformed(self.text, at, "an option without a value (name=value)"))?;
            if value.contains('=') {
                return Err(malformed(self.text, at + name.len() + 1, "a second = in an option (write %3D)"));
            }
            self.option(name, value, at)?;
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: &str, at: usize) -> Result<(), DsnError> {
        let value_at = at + name.len() + 1;
        let name = decode(self.text, name, at)?;
        // JDBC's spelling, which libpq takes too.
        if name == "ssl" && value == "true" {
            return self.store("sslmode", "require", value_at);
        }
        let value = decode(self.text, value, value_at)?;
        self.parameters.set(&name, value).map_err(|error| match error {
            // What looks like an option may be the rest of a password with a slash and a question mark.
            DsnError::UnknownOption { .. } if self.text[at..].contains('@') => {
                malformed(self.text, at, "an option that is not known")
            }
            error => error,
        })
    }

    fn store(&mut self, option: &str, value: &str, at: usize) -> Result<(), DsnError> {
        if value.is_empty() {
            return Ok(());
        }
        let value = decode(self.text, value, at)?;
        self.parameters.set(option, value)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn until<const N: usize>(&mut self, ends: [char; N]) -> &'a str {
        let rest = self.rest();
        let part = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += part.len();
        part
    }

    fn take(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }
}

/// Percent-decoding; `at` is the byte offset of `part` in `text`, for the error.
fn decode(text: &str, part: &str, at: usize) -> Result<String, DsnError> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let offset = at + part.len() - tail.len() - 1;
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(0) => return Err(malformed(text, offset, "%00 is not allowed")),
            Some(byte) => bytes.push(byte),
            None => return Err(malformed(text, offset, "% without two hexadecimal digits")),
        }
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| malformed(text, at, "percent-encoded bytes that are not UTF-8"))
}

/// `byte` may be off by the brackets and ports that stand between several hosts, and so within a character.
fn malformed(text: &str, byte: usize, problem: &'static str) -> DsnError {
    let before = &text[..text.floor_char_boundary(byte)];
    DsnError::Malformed { at: before.chars().count() + 1, problem, hint: ENCODE }
}
