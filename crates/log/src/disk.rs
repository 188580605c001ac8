//! The few things that segments and the log's beginning ask of a disk, so that a test can stand in for one that fails.

use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

/// A place that keeps files. The index, the catalog, `log.json` and `holes.json` are not.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes an empty file for its owner alone; one that is there already is emptied.
    ///
    /// # Errors
    /// As the operating system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading, and for writing where it may be written.
    ///
    /// # Errors
    /// As the operating system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, replacing what had it, and returns when that is durable.
    ///
    /// # Errors
    /// As the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns when the removals of a directory's files are durable. Until then any of them may be undone by a crash.
    ///
    /// # Errors
    /// As the operating system says.
    fn sync_names(&self, directory: &Path) -> io::Result<()>;

    /// The names of all files of a directory, in any order.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
}

/// An open file of a [`Disk`].
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads at an offset, fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// As the operating system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// As the operating system says; then some of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written is durable.
    ///
    /// # Errors
    /// As the operating system says; then nobody knows what is durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file off.
    ///
    /// # Errors
    /// As the operating system says.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// As the operating system says.
    fn length(&self) -> io::Result<u64>;
}

/// The disks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl SystemDisk {
    /// It, to be shared.
    #[must_use]
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(SystemFile(options.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = match fs::OpenOptions::new().read(true).write(true).open(path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                fs::File::open(path)?
            }
            opened => opened?,
        };
        Ok(Box::new(SystemFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_parent(to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_names(&self, directory: &Path) -> io::Result<()> {
        fs::File::open(directory)?.sync_all()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}

#[derive(Debug)]
struct SystemFile(fs::File);

impl DiskFile for SystemFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }
}

/// Makes a directory and those above it, for their owner alone. Their names are not durable yet.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a folder of the data directory that only its owner may enter, durable with its name. Folders above it are made
/// as the umask says: an embedded server runs as another user and has to pass through the data directory.
///
/// # Errors
/// Those of the file system; a folder that is there already is none, and stays as it is.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    let missing = missing(path);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    sync_made(&missing)
}

/// A folder that is not there, and those above it that are not.
fn missing(path: &Path) -> Vec<&Path> {
    path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect()
}

fn sync_made(folders: &[&Path]) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    for folder in folders {
        match sync_parent(folder) {
            // Above the data directory there may be one that can be written and not read, or a file system that syncs none.
            Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Makes the names durable of a file or folder and of the folder that it is in: two levels below a data directory, all
/// of its way there, whoever made it and was killed before that was durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_way_to(path: &Path) -> io::Result<()> {
    sync_parent(path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => sync_parent(folder),
        None => Ok(()),
    }
}

/// Makes the names in a file's directory durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => fs::File::open(directory)?.sync_all(),
        _ => fs::File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_folder_is_made_with_those_above_it_and_stays_as_it_is_when_it_is_there() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("base/shop.partial");
        create_private_folder(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(folder.join("manifest.json"), "{}").unwrap();
        create_private_folder(&folder).unwrap();
        let image = folder.with_file_name("shop");
        fs::rename(&folder, &image).unwrap();
        sync_way_to(&image).unwrap();
        assert_eq!(fs::read_to_string(image.join("manifest.json")).unwrap(), "{}");
        let file = image.join("manifest.json/dump");
        assert!(create_private_folder(&file).is_err(), "a file is no folder");
    }

    #[test]
    fn what_has_no_folder_above_it_is_where_the_process_is() {
        sync_way_to(Path::new("no-such-file")).unwrap();
        assert_eq!(missing(Path::new("no-such/folder")), [Path::new("no-such/folder"), Path::new("no-such")]);
    }
}
