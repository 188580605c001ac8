//! What is no longer needed: found, told, and removed.
//!
//! Invariants: nothing goes that a checkpoint somebody made, a session or a keyframe that was asked for needs. The present
//! history of a database only begins later ([`present`], [`beginning`]). An earlier history
//! goes whole (log, base image, its keyframes on the output server, the catalog's part of it), and only where a policy
//! asks for it, no session replays it, and no checkpoint that somebody made is in it. A database goes only where it
//! says itself that it holds a history of ours, and no session of ours has it, or where it was made for a backup to be
//! restored and nobody has its lock ([`scratch`]). What belongs to another data directory
//! cannot be told from what was left by one that is gone, so it stays until somebody asks for it.

mod beginning;
mod by_itself;
mod orphans;
mod present;
mod scratch;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ptr_capture::source::base::later::superseded;
use ptr_log::{CheckpointKind, Log, Session};
use ptr_model::Timestamp;
use ptr_replay::inventory::{Found, drop_database, inventory};

use orphans::is_made_by_us;

use super::{
    Captured, Running, Service, ServiceError, blocking, moves::comparison_of, now, running::unfinished_by,
};
use crate::{
    backups::is_scratch,
    configuration::{age, bytes},
    resource::retention::{Collect, Collected, Thing},
};

/// What a folder is called that is being removed: no name of a captured database has a dot.
const ON_ITS_WAY_OUT: &str = "removed";

/// An earlier history, and what decides about it.
struct History {
    captured: Arc<Captured>,
    ended: Timestamp,
    bytes: u64,
    /// Why it stays, whatever is asked for.
    needed: Option<String>,
}

/// What is wanted gone.
struct Policy {
    before: Option<Timestamp>,
    keep_bytes: Option<u64>,
    worth: Worth,
}

/// When a history is to begin later.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Whenever it can.
    Anything,
    /// When a quarter of its log goes.
    AQuarter,
}

impl Service {
    /// `POST /api/gc`.
    ///
    /// # Errors
    /// An age or a size that is none; another process has the data directory open; something cannot be removed.
    pub async fn collect(self: &Arc<Self>, request: Collect) -> Result<Collected, ServiceError> {
        self.collect_for(request, Worth::Anything).await
    }

    /// The same where it is done by itself.
    async fn collect_worthwhile(self: &Arc<Self>, request: Collect) -> Result<Collected, ServiceError> {
        self.collect_for(request, Worth::AQuarter).await
    }

    async fn collect_for(
        self: &Arc<Self>,
        request: Collect,
        worth: Worth,
    ) -> Result<Collected, ServiceError> {
        let policy = Policy {
            worth,
            before: request.older_than.as_deref().map(before).transpose()?,
            keep_bytes: request.keep_bytes.as_deref().map(size).transpose()?,
        };
        let mut done = Collected { dry_run: request.dry_run, ..Collected::default() };
        // Files are there without the server; what has databases there waits for it.
        let databases = match self.output() {
            Ok(output) => inventory(output).await.map_err(ServiceError::from),
            Err(error) => Err(error),
        };
        let mut databases = match databases {
            Ok(found) => Some(found),
            Err(error) => {
                let reason = format!("its databases were not looked at: {error}");
                done.kept.push(thing("server", "output", 0, reason));
                None
            }
        };
        // Asked after the databases: one of a session that is made meanwhile is not taken for nobody's.
        let catalog = self.catalog.clone();
        let sessions = blocking(move || catalog.sessions()).await??;
        if let Some(databases) = &mut databases {
            databases.retain(|found| !is_scratch(&found.name));
            databases.retain(|found| sessions.iter().all(|session| session.target_database != found.name));
        }
        let answers = databases.is_some();
        self.collect_histories(&policy, request.foreign, &sessions, databases.as_mut(), &mut done).await?;
        self.collect_beginnings(&policy, &mut done).await?;
        self.collect_databases(request.foreign, databases.unwrap_or_default(), &mut done).await?;
        if answers {
            self.collect_scratch(&mut done).await?;
        }
        self.collect_files(&mut done).await?;
        done.bytes = done.removed.iter().map(|thing| thing.bytes).sum();
        Ok(done)
    }

    async fn collect_histories(
        &self,
        policy: &Policy,
        foreign: bool,
        sessions: &[Session],
        mut databases: Option<&mut Vec<Found>>,
        done: &mut Collected,
    ) -> Result<(), ServiceError> {
        let mut histories = Vec::new();
        for (name, _) in self.earlier() {
            histories.push(self.history(&name, sessions).await?);
        }
        histories.sort_by_key(|history| history.ended);
        let mut left: u64 = histories.iter().map(|history| history.bytes).sum();
        for history in histories {
            let name = history.captured.database.clone();
            let ended = format!("its last transaction is of {}", history.ended);
            let too_old = policy.before.is_some_and(|before| history.ended < before);
            let too_much = policy.keep_bytes.is_some_and(|most| left > most);
            let reason = match history.needed {
                _ if !too_old && !too_much => Err(format!("{ended}; --older-than and --keep-bytes spare it")),
                Some(needed) => Err(needed),
                None if databases.is_none() => {
                    Err("the output server does not answer, and may hold keyframes of it".to_owned())
                }
                None if too_old => Ok(ended),
                None => Ok(format!("{ended}; earlier histories have more than --keep-bytes")),
            };
            match reason {
                Err(reason) => done.kept.push(thing("history", &name, history.bytes, reason)),
                Ok(reason) => {
                    left = left.saturating_sub(history.bytes);
                    let log_id = history.captured.log.identity().log_id;
                    let all = databases.as_mut().map(|all| std::mem::take(*all)).unwrap_or_default();
                    let (its, others): (Vec<Found>, Vec<Found>) =
                        all.into_iter().partition(|found| found.log_id == log_id);
                    if let Some(all) = databases.as_mut() {
                        **all = others;
                    }
                    for found in its {
                        if foreign || is_made_by_us(&found) {
                            self.drop_found(&found, "its history is removed".to_owned(), done).await?;
                        } else {
                            let reason =
                                "its history is removed, and somebody may have made it; --foreign drops it";
                            done.kept.push(thing("database", &found.name, found.bytes, reason.to_owned()));
                        }
                    }
                    if !done.dry_run {
                        self.remove_history(&history.captured).await?;
                    }
                    done.removed.push(thing("history", &name, history.bytes, reason));
                }
            }
        }
        Ok(())
    }

    async fn history(&self, name: &str, sessions: &[Session]) -> Result<History, ServiceError> {
        let captured = self.captured(Some(name))?;
        let created_at = captured.log.identity().created_at;
        let last = |log: &Log| {
            let last = log.head()?.ordinal.checked_sub(1);
            let last = last.map(|ordinal| log.transaction(ordinal)).transpose()?.flatten();
            // By this machine's clock: the primary's may have been set back.
            let segment =
                log.segments()?.pop().map(|(start, _)| log.segment_begun(start.ordinal)).transpose()?;
            Ok((last, segment))
        };
        let (last, segment) = captured.read(last).await?;
        let (log, base) = (self.configuration.data.log_of(name), self.configuration.data.base_of(name));
        let bytes = blocking(move || size_of(&log) + size_of(&base)).await?;
        let (catalog, of) = (self.catalog.clone(), name.to_owned());
        let checkpoints = blocking(move || catalog.checkpoints(Some(&of))).await??;
        let made = checkpoints.iter().find(|one| one.kind == CheckpointKind::Manual);
        let needed = sessions
            .iter()
            .find(|session| session.database == name)
            .map(|session| format!("session {:?} replays it; session delete lets it go", session.name))
            .or_else(|| {
                made.map(|one| {
                    format!("checkpoint {:?} is in it; checkpoint delete --database lets it go", one.name)
                })
            });
        let ended =
            last.map_or(created_at, |last| last.header.commit_time).max(segment.unwrap_or(created_at));
        Ok(History { captured, ended, bytes, needed })
    }

    /// After its databases, which its base image could make again: its part of the catalog, then the folders. A crash in
    /// between leaves folders that the next collection removes, or a history that it can look at anew.
    async fn remove_history(&self, captured: &Arc<Captured>) -> Result<(), ServiceError> {
        let data = &self.configuration.data;
        let found = Running::find(data).map_err(ServiceError::file("read", data.service_file()))?;
        if let Some(other) = found.filter(|other| other.pid != std::process::id()) {
            return Err(ServiceError::precondition(
                format!("`{}` (process {}) has {} open", other.role, other.pid, captured.database),
                "ask that service, or end it with postgres-test-replay down",
            ));
        }
        // Nobody who still sees it makes a session or a checkpoint in it.
        let _none_is_named = self.beginning.write().await;
        let (catalog, name) = (self.catalog.clone(), captured.database.clone());
        if !blocking(move || catalog.forget_history(&name)).await?? {
            return Err(ServiceError::precondition(
                format!("{} got a session or a checkpoint meanwhile", captured.database),
                "look again with gc --dry-run",
            ));
        }
        self.captured.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&captured.database);
        let folders = [data.log_of(&captured.database), data.base_of(&captured.database)];
        blocking(move || {
            let gone: Vec<PathBuf> =
                folders.iter().map(|folder| folder.with_extension(ON_ITS_WAY_OUT)).collect();
            for (folder, gone) in folders.iter().zip(&gone) {
                match fs::rename(folder, gone) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(ServiceError::file("rename", folder)(error));
                    }
                    _ => {}
                }
            }
            gone.iter().try_for_each(|folder| remove(folder))
        })
        .await?
    }

    async fn drop_found(
        &self,
        found: &Found,
        reason: String,
        done: &mut Collected,
    ) -> Result<(), ServiceError> {
        if !done.dry_run {
            drop_database(self.output()?, &found.name).await?;
        }
        done.removed.push(thing("database", &found.name, found.bytes, reason));
        Ok(())
    }

    async fn collect_files(&self, done: &mut Collected) -> Result<(), ServiceError> {
        let data = self.configuration.data.clone();
        let (catalog, dry_run) = (self.catalog.clone(), done.dry_run);
        // Who has a history begin later is making such files.
        let alone = match self.beginning_made.try_lock() {
            Ok(here) => self.lock_beginnings()?.map(|elsewhere| (here, elsewhere)),
            Err(_) => None,
        };
        let captured = self.all_captured();
        let bases = captured.iter().map(|one| data.base_of(&one.database));
        let bases: Vec<PathBuf> =
            bases.filter(|base| alone.is_some() && base.join("manifest.json").exists()).collect();
        let found = blocking(move || {
            let mut found = Vec::new();
            for base in bases {
                for path in superseded(&base)? {
                    let reason = "the history begins later, or was to".to_owned();
                    found.push(thing("file", &path.display().to_string(), size_of(&path), reason));
                }
            }
            for parent in [data.log_folder().to_owned(), data.root().join("base")] {
                let is_out = |path: &Path| path.extension().is_some_and(|end| end == ON_ITS_WAY_OUT);
                add(&mut found, &parent, is_out, "its history is removed")?;
            }
            let mut of_sessions = Vec::new();
            add(&mut of_sessions, &data.run(), |path| locked_by(path).is_some(), "its session is gone")?;
            add(&mut of_sessions, &data.root().join("resync"), |_| true, "its session is gone")?;
            // Read after the folders: what is there of a session that was made meanwhile is not among these.
            let sessions = catalog.sessions()?;
            let has = |path: &Path| {
                sessions.iter().any(|session| {
                    path == data.contents_of(&session.id.to_string())
                        || locked_by(path).is_some_and(|lock| {
                            [session.id, comparison_of(session.id)].iter().any(|id| id.to_string() == lock)
                        })
                })
            };
            found.extend(of_sessions.into_iter().filter(|thing| !has(Path::new(&thing.name))));
            // Written anew and renamed: one of these was left by a process that was killed.
            let is_left =
                |path: &Path| path.extension().is_some_and(|end| end == "new") && is_of_the_dead(path);
            for parent in [data.run(), data.root().join("source")] {
                add(&mut found, &parent, is_left, "a process that was killed left it")?;
            }
            if !dry_run {
                found.iter().try_for_each(|thing| remove(Path::new(&thing.name)))?;
            }
            Ok::<_, ServiceError>(found)
        })
        .await??;
        done.removed.extend(found);
        Ok(())
    }
}

fn thing(kind: &str, name: &str, bytes: u64, reason: String) -> Thing {
    Thing { kind: kind.to_owned(), name: name.to_owned(), bytes, reason }
}

fn add(
    found: &mut Vec<Thing>,
    folder: &Path,
    is_it: impl Fn(&Path) -> bool,
    reason: &str,
) -> Result<(), ServiceError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ServiceError::file("read", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(ServiceError::file("read", folder))?.path();
        if is_it(&path) {
            found.push(thing("file", &path.display().to_string(), size_of(&path), reason.to_owned()));
        }
    }
    Ok(())
}

/// The id in the name of a session's lock.
fn locked_by(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix("session-")?.strip_suffix(".lock")
}

/// Whether a file is [`unfinished`], and of a process that is no more.
fn is_of_the_dead(path: &Path) -> bool {
    unfinished_by(path).is_some_and(|(pid, born)| !super::process_lives(pid, born))
}

fn size_of(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size_of(&entry.path())).sum(),
        Err(_) => fs::symlink_metadata(path).map_or(0, |meta| meta.len()),
    }
}

fn remove(path: &Path) -> Result<(), ServiceError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ServiceError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The time so long ago.
fn before(written: &str) -> Result<Timestamp, ServiceError> {
    let ago = age(written).map_err(|problem| {
        let problem = problem.split(';').next().unwrap_or_default().to_owned();
        ServiceError::usage(problem, "write a number and d, h or m: 30d, 12h, 45m")
    })?;
    Ok(Timestamp(now().0.saturating_sub(ago)))
}

fn size(text: &str) -> Result<u64, ServiceError> {
    bytes(text).map_err(|problem| ServiceError::usage(problem, "write 0, 500MB or 10GB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::running::unfinished;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        let ago = |age: &str| before(age).map(|time| (now().0 - time.0) / 1_000_000);
        assert!(
            (86_400..86_410).contains(&ago("1d").unwrap()) && (7_200..7_210).contains(&ago("2h").unwrap())
        );
        assert!((0..10).contains(&ago("0m").unwrap()));
        for wrong in ["", "d", "1", "1w", "-1d", "1.5h", "99999999999999999d", "€"] {
            assert!(before(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_files_of_processes_that_are_gone_are_left_over() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_of_the_dead(Path::new(&format!("/x/service.{}.new", child.id()))));
        assert!(is_of_the_dead(Path::new(&format!("/x/service.{}-77.new", child.id()))));
        assert!(!is_of_the_dead(Path::new(&format!("/x/service.{}.new", std::process::id()))));
        assert!(!is_of_the_dead(&unfinished(Path::new("/x/service.json"))));
        for other in ["/x/service.new", "/x/service.json", "/x/a.b-c.new"] {
            assert!(!is_of_the_dead(Path::new(other)), "{other}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_of_a_process_whose_id_is_anothers_by_now_is_left_over() {
        let ours = unfinished(Path::new("/x/service.json"));
        let born = crate::service::born(std::process::id()).unwrap();
        let earlier = ours.display().to_string().replace(&format!("-{born}."), &format!("-{}.", born - 1));
        assert!(is_of_the_dead(Path::new(&earlier)), "{earlier}");
    }
}
