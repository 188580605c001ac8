//! Where the API listens.

use std::{fmt, net::IpAddr};

use super::{ConfigurationError, Setting, layers::Layers};

pub(super) const DEFAULT_PORT: u16 = 8080;

/// A host and port to listen on. `:8080` means loopback: who wants more says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or address, without brackets.
    pub host: String,
    /// 0 lets the system choose.
    pub port: u16,
}

impl Address {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Puts SERVER_ADDR and SERVER_PORT together. A port inside the address holds unless SERVER_PORT comes from a
/// stronger place.
pub(super) fn resolve(layers: &Layers) -> Result<Address, ConfigurationError> {
    let (host, inner) = layers.parsed(Setting::ServerAddress, split)?.unwrap_or_default();
    let port = layers.parsed(Setting::ServerPort, parse_port)?;
    let stronger = layers.outranks(Setting::ServerPort, Setting::ServerAddress);
    let port = match (inner, port) {
        (Some(_), Some(port)) if stronger => port,
        (Some(inner), _) => inner,
        (None, port) => port.unwrap_or(DEFAULT_PORT),
    };
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
    Ok(Address { host, port })
}

/// Host and port of `HOST`, `HOST:PORT`, `:PORT`, `[ADDRESS]:PORT` or a bare IPv6 address.
fn split(text: &str) -> Result<(String, Option<u16>), String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.to_string(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(parse_port(port)?)),
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(inside) = bare {
        let address: IpAddr = inside.parse().map_err(|_| format!("{inside:?} is no IP address"))?;
        return Ok((address.to_string(), port));
    }
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.chars().all(named) {
        return Ok((host.to_owned(), port));
    }
    Err(format!(
        "{text:?} is no address; write 127.0.0.1:8080, [::1]:8080, a host name, or :8080 for loopback"
    ))
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("{text:?} is no port; a port is a number from 0 to 65535"))
}
