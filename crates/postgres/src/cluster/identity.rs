//! A system identifier of its own for a data directory that was copied.
//!
//! A system identifier names a cluster: two with the same one would be taken for the same server. It is
//! the first field of `global/pg_control` (`src/include/catalog/pg_control.h`), covered by a CRC-32C
//! whose place differs between majors: it is found as the offset where the bytes before it have the
//! checksum that stands there. `pg_resetwal` then makes WAL that carries the new identifier.

use super::{Account, ClusterError, account};
use crate::Installation;
use std::path::Path;
use std::process::Command;

const CONTROL: &str = "global/pg_control";

/// Gives the data directory a random system identifier. The server must not run.
pub(super) fn renew(data: &Path, installation: &Installation, account: &Account) -> Result<(), ClusterError> {
    let file = data.join(CONTROL);
    let mut control = account::read(data, CONTROL)?;
    let invalid =
        || std::io::Error::new(std::io::ErrorKind::InvalidData, "no checksum of this file is in it");
    let mut identifier = [0u8; 8];
    let no_random = |error: getrandom::Error| std::io::Error::other(error.to_string());
    getrandom::fill(&mut identifier).map_err(no_random).map_err(ClusterError::file("write", &file))?;
    replace(&mut control, identifier).ok_or_else(|| ClusterError::file("understand", &file)(invalid()))?;
    account.replace(data, CONTROL, &control)?;
    let program = installation.program("pg_resetwal");
    let mut command = Command::new(&program);
    command.arg("-f").arg("-D").arg(data).env("LC_ALL", "C").current_dir(data);
    let output = account.run(&mut command).output().map_err(ClusterError::file("run", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ClusterError::Program { program, directory: data.to_owned(), output })
}

fn replace(control: &mut [u8], identifier: [u8; 8]) -> Option<()> {
    let crc = checksum_offset(control)?;
    control.get_mut(..8)?.copy_from_slice(&identifier);
    let checksum = crc32c::crc32c(&control[..crc]);
    control[crc..crc + 4].copy_from_slice(&checksum.to_ne_bytes());
    Some(())
}

/// The struct is some 300 bytes of the 8 kB file; its checksum is its last field, aligned to 4.
fn checksum_offset(control: &[u8]) -> Option<usize> {
    let mut crc = 0;
    control.chunks_exact(4).take(256).enumerate().find_map(|(word, bytes)| {
        let found = word > 2 && *bytes == u32::to_ne_bytes(crc);
        crc = crc32c::crc32c_append(crc, bytes);
        found.then_some(word * 4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_found_and_follows_the_new_identifier() {
        let mut control: Vec<u8> = (0..=199).collect();
        let crc = crc32c::crc32c(&control).to_ne_bytes();
        control.extend(crc);
        control.resize(8192, 0);
        assert_eq!(checksum_offset(&control), Some(200));
        replace(&mut control, [9; 8]).unwrap();
        assert_eq!(control[..8], [9; 8]);
        assert_eq!(checksum_offset(&control), Some(200));
    }

    #[test]
    fn a_file_without_a_checksum_is_left_alone() {
        let mut control = vec![7u8; 8192];
        assert_eq!(replace(&mut control, [1; 8]), None);
        assert_eq!(control, vec![7u8; 8192]);
    }
}
