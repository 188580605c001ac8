//! The port of a cluster: fixed by the user, or chosen once and remembered in the file `port`.

use super::{ClusterError, create::write_private};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// The port remembered, or a free one, now remembered.
pub(super) fn remembered_or_free(directory: &Path) -> Result<u16, ClusterError> {
    let remembered = std::fs::read_to_string(directory.join("port")).ok();
    match remembered.and_then(|text| text.trim().parse().ok()) {
        Some(port) => Ok(port),
        None => choose(directory),
    }
}

/// A free port, remembered from now on.
pub(super) fn choose(directory: &Path) -> Result<u16, ClusterError> {
    let file = directory.join("port");
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ClusterError::file("choose", &file))?;
    let port = listener.local_addr().map_err(ClusterError::file("choose", &file))?.port();
    write_private(&file, &port.to_string())?;
    Ok(port)
}

/// Whether a server could listen there now.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
