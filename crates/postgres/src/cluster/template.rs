//! `initdb`, and data directories kept from it to copy from: a copy takes a tenth of the time.
//!
//! A template is keyed by version and by the programs' folder (their share files go into it), and is
//! made under a file lock, so that processes starting together make one.

use super::{Account, ClusterError, SUPERUSER};
use crate::Installation;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Copies the cache's template for this installation, making the template first where it is missing.
pub(super) fn copy(
    cache: &Path,
    installation: &Installation,
    data: &Path,
    account: &Account,
) -> Result<(), ClusterError> {
    let template = ensure(cache, installation, account)?;
    copy_tree(&template, data, account)
}

fn ensure(cache: &Path, installation: &Installation, account: &Account) -> Result<PathBuf, ClusterError> {
    let digest = Sha256::digest(installation.bin_dir.as_os_str().as_encoded_bytes());
    let template = cache.join(format!("{}-{:02x}{:02x}", installation.version, digest[0], digest[1]));
    if template.exists() {
        return Ok(template);
    }
    fs::create_dir_all(cache).map_err(ClusterError::file("create", cache))?;
    let lock = cache.join("lock");
    let file = File::create(&lock).map_err(ClusterError::file("create", &lock))?;
    file.lock().map_err(ClusterError::file("lock", &lock))?;
    if !template.exists() {
        let building = cache.join("being-made");
        if building.exists() {
            fs::remove_dir_all(&building).map_err(ClusterError::file("remove", &building))?;
        }
        initdb(installation, &building, account)?;
        fs::rename(&building, &template).map_err(ClusterError::file("create", &template))?;
    }
    Ok(template)
}

/// Makes a data directory. Logins are closed by [`super::create`] before the first start.
///
/// The locale is C.UTF-8: sorts the same everywhere and knows letters; plain C where it is missing.
pub(super) fn initdb(
    installation: &Installation,
    data: &Path,
    account: &Account,
) -> Result<(), ClusterError> {
    let first = run_initdb(installation, data, account, "C.UTF-8")?;
    let output = if first.status.success() {
        first
    } else {
        // initdb removes what it made when it fails, but not the folder it was given.
        let _ = fs::remove_dir_all(data);
        run_initdb(installation, data, account, "C")?
    };
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(ClusterError::Program {
        program: installation.program("initdb"),
        directory: data.to_owned(),
        output: String::from_utf8_lossy(&text).into_owned(),
    })
}

fn run_initdb(
    installation: &Installation,
    data: &Path,
    account: &Account,
    locale: &str,
) -> Result<Output, ClusterError> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(data).map_err(ClusterError::file("create", data))?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))
        .map_err(ClusterError::file("close", data))?;
    account.own(data)?;
    let program = installation.program("initdb");
    let mut command = Command::new(&program);
    command.args([
        "--username",
        SUPERUSER,
        "--auth=trust",
        "--encoding=UTF8",
        "--no-sync",
        "--no-instructions",
    ]);
    command.arg(format!("--locale={locale}")).arg("-D").arg(data).env("LC_ALL", "C").current_dir(data);
    account.run(&mut command).output().map_err(ClusterError::file("run", &program))
}

fn copy_tree(from: &Path, to: &Path, account: &Account) -> Result<(), ClusterError> {
    fs::create_dir(to).map_err(ClusterError::file("create", to))?;
    let permissions = fs::metadata(from).map_err(ClusterError::file("read", from))?.permissions();
    fs::set_permissions(to, permissions).map_err(ClusterError::file("close", to))?;
    for entry in fs::read_dir(from).map_err(ClusterError::file("read", from))? {
        let entry = entry.map_err(ClusterError::file("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(ClusterError::file("read", &source))?;
        if kind.is_dir() {
            copy_tree(&source, &target, account)?;
        } else {
            fs::copy(&source, &target).map_err(ClusterError::file("copy", &source))?;
            account.own(&target)?;
        }
    }
    // Once all is in it: nobody else could put a link in the way until now.
    account.own(to)
}
