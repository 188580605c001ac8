//! Backups on disk: `<id>.dump` (a file or a folder) and `<id>.json`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use crate::{
    resource::backup::{BackupAnswer, BackupState},
    service::{ServiceError, process_lives, write_private},
};

/// The folder of the backups.
#[derive(Clone)]
pub(crate) struct Backups {
    folder: PathBuf,
}

/// What the file beside a dump says.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) answer: BackupAnswer,
    /// What the dump held when it was made; empty until then.
    pub(super) contents: Contents,
    /// The process that makes it, or made it.
    pub(super) pid: u32,
    /// When that process began: ids are used again.
    #[serde(default)]
    pub(super) born: Option<u64>,
}

impl Backups {
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) fn dump(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.dump"))
    }

    fn record(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Notes a backup that is about to be made, unless there is one of that name: of several at once, in whatever
    /// processes, one is noted.
    pub(super) fn reserve(&self, record: &Record) -> Result<(), ServiceError> {
        let (id, path) = (&record.answer.id, self.record(&record.answer.id));
        let failed = || ServiceError::file("write", &path);
        ptr_log::create_private_folder(&self.folder).map_err(failed())?;
        let naming = format!("{id}.");
        let mut building = tempfile::Builder::new();
        let mut file = building.prefix(&naming).suffix(".new").tempfile_in(&self.folder).map_err(failed())?;
        file.write_all(&in_json(record)).and_then(|()| file.as_file().sync_all()).map_err(failed())?;
        file.persist_noclobber(&path).map(|_| ()).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => ServiceError::precondition(
                format!("there is a backup called {id:?} already"),
                "choose another name, or delete that one first",
            ),
            _ => failed()(error.error),
        })
    }

    /// Writes what is known of a backup.
    pub(super) fn save(&self, record: &Record) -> Result<(), ServiceError> {
        let path = self.record(&record.answer.id);
        write_private(&path, &in_json(record)).map_err(ServiceError::file("write", path))
    }

    /// One backup.
    pub(super) fn find(&self, id: &str) -> Result<Record, ServiceError> {
        let missing = || ServiceError::not_found("backup", id, "postgres-test-replay backup list shows all");
        check_name(id).map_err(|_| missing())?;
        self.load(&self.record(id))?.ok_or_else(missing)
    }

    /// All backups, oldest first.
    pub(super) fn all(&self) -> Result<Vec<BackupAnswer>, ServiceError> {
        let names = match fs::read_dir(&self.folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ServiceError::file("read", &self.folder)(error)),
        };
        let mut all = Vec::new();
        for name in names {
            let path = name.map_err(ServiceError::file("read", &self.folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                all.extend(self.load(&path)?.map(|record| record.answer));
            }
        }
        all.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
        Ok(all)
    }

    fn load(&self, path: &Path) -> Result<Option<Record>, ServiceError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ServiceError::file("read", path)(error)),
        };
        let invalid =
            |error| ServiceError::file("understand", path)(io::Error::new(io::ErrorKind::InvalidData, error));
        let mut record: Record = serde_json::from_slice(&text).map_err(invalid)?;
        // Where it was written is another place once the data directory was moved, or copied.
        record.answer.path = self.dump(&record.answer.id).display().to_string();
        if record.answer.state == BackupState::Running && !process_lives(record.pid, record.born) {
            record.answer.state = BackupState::Failed;
            record.answer.error = Some("the process that made it ended before it was done".to_owned());
        }
        Ok(Some(record))
    }

    /// Removes a backup's dump, and its metadata last, so that what is left after a crash is still listed.
    pub(super) fn remove(&self, id: &str) -> Result<(), ServiceError> {
        remove_dump(&self.dump(id))?;
        let path = self.record(id);
        fs::remove_file(&path).map_err(ServiceError::file("remove", path))
    }
}

fn in_json(record: &Record) -> Vec<u8> {
    serde_json::to_vec_pretty(record).expect("a record has only string keys")
}

/// Removes a dump, which is a file or a folder, or not there.
pub(super) fn remove_dump(path: &Path) -> Result<(), ServiceError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ServiceError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// A backup's name is also its file's.
pub(super) fn check_name(name: &str) -> Result<(), ServiceError> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=100).contains(&name.len()) && name.chars().all(sound) && !name.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(ServiceError::usage(
        format!("{name:?} cannot name a backup"),
        "use at most 100 letters, digits, _, - and ., beginning with a letter or digit",
    ))
}

/// Bytes of a file, or of all files in a folder.
pub(super) fn size(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(files) => files.flatten().map(|file| size(&file.path())).sum(),
        Err(_) => fs::metadata(path).map_or(0, |metadata| metadata.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_the_folder() {
        for name in ["", ".", "..", "../x", "a/b", "-x", ".hidden", "a b", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name:?} was accepted");
        }
        assert!(check_name("shop-2026.05.01_a").is_ok());
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Backups::at(folder.path()).find("../x"), Err(ServiceError::NotFound { .. })));
    }

    #[test]
    fn no_folder_means_no_backups() {
        assert!(Backups::at(Path::new("/nonexistent/backups")).all().unwrap().is_empty());
    }

    #[test]
    fn of_many_at_once_one_gets_the_name_and_the_others_are_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let backups = Backups::at(&folder.path().join("backups"));
        let reserve = |pid| {
            let answer = serde_json::json!({"id": "b", "name": "b", "database": "d", "session_id": null,
                "format": "custom", "path": "", "bytes": 0, "server_version": "", "position": null,
                "state": "running", "error": null, "created_at": "", "elapsed_ms": 0});
            let record = serde_json::json!({"answer": answer, "contents": {}, "pid": pid});
            backups.reserve(&serde_json::from_value(record).unwrap())
        };
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = (1..=8).map(|pid| scope.spawn(move || reserve(pid))).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.into_iter().filter_map(Result::err) {
            let problem = refused.problem();
            assert_eq!(problem.detail, "there is a backup called \"b\" already");
            assert_eq!(problem.hint.as_deref(), Some("choose another name, or delete that one first"));
        }
        // One that cannot be understood is one too.
        fs::write(backups.record("b"), "{").unwrap();
        assert!(matches!(reserve(9), Err(ServiceError::Precondition { .. })));
        assert_eq!(fs::read_dir(&backups.folder).unwrap().count(), 1, "something is left over");
    }
}
