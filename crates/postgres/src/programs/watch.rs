//! Notices that a program which connects by itself (`pg_dump`, `pg_restore`) waits for a connection that leads nowhere any
//! more. libpq leaves that to the kernel, which notices after hours, and behind a proxy that lives not at all.
//!
//! A process to which nothing comes does nothing: the system counts how often it was given a processor. While that stands
//! still, the server is asked, over another connection, what the program's sessions are doing: they have a name of their
//! own. One that works is waited for, however long, and so is one to which bytes come. Where all wait for the program, and
//! it for them, it is given up.
//! Where the system does not count (outside Linux), nothing is watched.

use std::{
    collections::HashMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    connect::{ConnectError, MARK, ask_aside},
    dsn::{DEFAULT_CONNECT_TIMEOUT, Dsn},
};

/// So many `connect_timeout`s in which it does nothing, and the server is asked.
const QUIET: u32 = 3;

/// So many answers in a row that speak against it, and it is given up.
const DOUBTS: u32 = 3;

/// So many times in a row without an answer: a server that has too much to do works all the same.
const UNANSWERED: u32 = 6;

/// For how long sessions are looked for that were left behind on a server that could not be reached.
const LEFT_BEHIND: Duration = Duration::from_secs(15 * 60);

/// A name for a program's sessions that no other has, beginning as given.
#[must_use]
pub fn session_name(prefix: &str) -> String {
    let mut random = [0; 6];
    // Without chance the process's id tells it from others.
    if getrandom::fill(&mut random).is_err() {
        random[..4].copy_from_slice(&std::process::id().to_be_bytes());
    }
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix} {digits}")
}

/// Returns when the program `process` is to be given up, whose sessions on the server of `dsn` have the name `session`,
/// with the reason and what to do. Its own processes and its sessions are ended then; it itself is the caller's.
pub async fn until_lost(process: Option<u32>, dsn: &Dsn, session: &str) -> String {
    let unit = dsn.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let (mut moved, mut last, mut doubts, mut before) = (Instant::now(), None, 0, None);
    loop {
        tokio::time::sleep(unit).await;
        let Some(turns) = process.and_then(turns) else { return std::future::pending().await };
        if last != Some(turns) {
            (moved, last, doubts) = (Instant::now(), Some(turns), 0);
        }
        if moved.elapsed() < unit * QUIET {
            continue;
        }
        let found = look(dsn, session).await;
        let moves =
            matches!(&found, Found::Waits(_)) && before.as_ref().is_some_and(|before| *before != found);
        before = Some(found.clone());
        doubts = if found == Found::Works || moves { 0 } else { doubts + 1 };
        if doubts < if found == Found::Unreachable { UNANSWERED } else { DOUBTS } {
            continue;
        }
        if let Some(process) = process {
            end_children(process);
        }
        let (host, seconds) =
            (dsn.hosts().first().map(ToString::to_string).unwrap_or_default(), moved.elapsed().as_secs());
        let what_next = "look at what lies between (a firewall, a proxy, a tunnel) and try again";
        if found == Found::Unreachable {
            tokio::spawn(end_left_behind(dsn.clone(), session.to_owned()));
            return format!(
                "nothing came from {host} for {seconds} s, and it cannot be reached; {what_next}"
            );
        }
        end(dsn, session).await;
        return format!(
            "nothing came from {host} for {seconds} s, though it answers others: the connection leads nowhere any more; \
             {what_next}"
        );
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Found {
    /// Some session works, or nothing can be told.
    Works,
    /// All wait for the program, and have come so far, or are gone.
    Waits(String),
    /// Nobody answers there.
    Unreachable,
}

async fn look(dsn: &Dsn, session: &str) -> Found {
    let sql = format!(
        "SELECT coalesce(bool_or(coalesce(state NOT LIKE 'idle%' AND wait_event_type IS DISTINCT FROM 'Client', true)), false),
                coalesce(string_agg({MARK}, ' ' ORDER BY pid), '')
         FROM pg_catalog.pg_stat_activity a WHERE application_name = $1"
    );
    match ask_aside(dsn, &sql, &[&session]).await {
        Ok(Some(row)) if !row.get::<_, bool>(0) => Found::Waits(row.get(1)),
        Ok(_) => Found::Works,
        Err(
            ConnectError::Unreachable { .. } | ConnectError::Timeout { .. } | ConnectError::Protocol { .. },
        ) => Found::Unreachable,
        Err(error) => {
            tracing::debug!("what the sessions {session:?} do cannot be asked: {error}");
            Found::Works
        }
    }
}

async fn end(dsn: &Dsn, session: &str) {
    let sql = "SELECT bool_and(pg_catalog.pg_terminate_backend(pid))
               FROM pg_catalog.pg_stat_activity WHERE application_name = $1";
    if let Err(error) = ask_aside(dsn, sql, &[&session]).await {
        tracing::warn!("the sessions {session:?} of the server cannot be ended: {error}");
    }
}

/// Sessions that nobody talks to any more keep what they have locked; they are ended as soon as the server can be reached.
async fn end_left_behind(dsn: Dsn, session: String) {
    let unit = dsn.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let since = Instant::now();
    while since.elapsed() < LEFT_BEHIND {
        tokio::time::sleep(unit).await;
        match look(&dsn, &session).await {
            Found::Unreachable => {}
            Found::Works | Found::Waits(_) => return end(&dsn, &session).await,
        }
    }
}

/// How often a process and those that it began were given a processor; `None` where the system does not say.
fn turns(process: u32) -> Option<u64> {
    let known = processes();
    known.get(&process)?;
    Some(family(&known, process).iter().map(|member| known[member].turns).sum())
}

struct Process {
    parent: u32,
    turns: u64,
}

fn processes() -> HashMap<u32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id: u32| Some((id, process_of(&fs::read_to_string(format!("/proc/{id}/status")).ok()?)?)))
        .collect()
}

/// What `/proc/PID/status` says (proc(5)).
fn process_of(status: &str) -> Option<Process> {
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
    };
    let turns = field("voluntary_ctxt_switches")? + field("nonvoluntary_ctxt_switches")?;
    Some(Process { parent: u32::try_from(field("PPid")?).ok()?, turns })
}

/// A process and all that it began, itself first.
fn family(known: &HashMap<u32, Process>, process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(known.iter().filter(|(_, child)| child.parent == parent).map(|(id, _)| *id));
        next += 1;
    }
    family
}

/// A process that waits for its connection does not notice that the one which began it is gone.
fn end_children(process: u32) {
    for child in family(&processes(), process).into_iter().skip(1) {
        let id = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
    }
}

/// Gives the program's sessions their name.
pub fn name_sessions(command: &mut Command, session: &str) {
    command.env("PGAPPNAME", session);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_of_a_process_is_understood() {
        let status =
            "Name:\tpg_dump\nPPid:\t12\nvoluntary_ctxt_switches:\t30\nnonvoluntary_ctxt_switches:\t4\n";
        let read = process_of(status).unwrap();
        assert_eq!((read.parent, read.turns), (12, 34));
        assert!(process_of("Name:\tgone\n").is_none());
    }

    #[test]
    fn a_family_is_all_that_a_process_began() {
        let of = |parent| Process { parent, turns: 1 };
        let known = HashMap::from([(1, of(0)), (2, of(1)), (3, of(2)), (4, of(1)), (9, of(0))]);
        let mut found = family(&known, 1);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3, 4]);
    }
}
