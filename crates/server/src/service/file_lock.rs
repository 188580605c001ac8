//! Locks between processes that share a data directory: a file each, locked by `flock`, so that a lock ends with its
//! process.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::ServiceError;

/// A lock that this process has, until it is dropped.
pub(super) struct FileLock(File);

impl FileLock {
    /// Takes it; `None` where somebody has it.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub(super) fn take(folder: &Path, name: &str) -> Result<Option<Self>, ServiceError> {
        ptr_log::create_private_folder(folder).map_err(ServiceError::file("create", folder))?;
        let path = folder.join(name);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(ServiceError::file("create", &path))?;
        Self::of(file, &path)
    }

    /// Takes that of a folder itself; `None` where somebody has it, or there is no such folder.
    ///
    /// # Errors
    /// It cannot be opened or locked.
    pub(super) fn of_folder(folder: &Path) -> Result<Option<Self>, ServiceError> {
        match File::open(folder) {
            Ok(file) => Self::of(file, folder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ServiceError::file("open", folder)(error)),
        }
    }

    fn of(file: File, path: &Path) -> Result<Option<Self>, ServiceError> {
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(ServiceError::file("lock", path)(error)),
        }
    }
}

impl Drop for FileLock {
    /// Closing the file is not enough: a program that is being started has all our files until it runs, and the lock
    /// with them. Failing leaves it to that.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_back_though_a_program_that_is_being_started_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let take = || FileLock::take(folder.path(), "one.lock").unwrap();
        let held = take().unwrap();
        assert!(take().is_none());
        let of_the_program = held.0.try_clone().unwrap();
        drop(held);
        assert!(take().is_some());
        drop(of_the_program);
        let of_folder = || FileLock::of_folder(folder.path()).unwrap();
        let held = of_folder().unwrap();
        assert!(of_folder().is_none());
        drop(held);
        assert!(of_folder().is_some());
        assert!(FileLock::of_folder(&folder.path().join("none")).unwrap().is_none());
    }
}
