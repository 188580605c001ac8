//! What every command is given: the flags, the settings, the way to write, and the way to the API.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ptr_server::{
    Configuration, Flags, Setting,
    resource::{navigation::MoveAnswer, session::SessionAnswer, verification::VerificationAnswer},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    arguments::Global,
    client::{Call, Client, LocalClient},
    failure::{Failure, Kind},
    foreground::running,
    output::{Format, Output},
    progress::Progress,
    terminal::shown,
};

/// What is said to somebody who presses Ctrl-C.
struct Stopping {
    /// At once.
    said: &'static str,
    /// What can be done once it stopped.
    hint: &'static str,
    /// At the second Ctrl-C.
    left: &'static str,
}

/// What every command is given.
pub struct Context {
    /// The global flags as typed.
    pub global: Global,
    /// Where results go.
    pub output: Output,
    /// Whether a move or a verification is under way, which ends in its own way when somebody presses Ctrl-C.
    moving: AtomicBool,
}

impl Context {
    /// From the global flags.
    pub fn new(global: Global) -> Self {
        let format = if global.json { Format::Json } else { Format::Text };
        let output = Output::new(format, global.quiet);
        Self { global, output, moving: AtomicBool::new(false) }
    }

    /// The settings from everywhere; `flags` are the command's own.
    pub fn configuration(&self, flags: &[(Setting, Option<String>)]) -> Result<Configuration, Failure> {
        let mut all = Flags {
            env_file: self.global.env_file.clone(),
            config: self.global.config.clone(),
            ..Flags::default()
        };
        if let Some(folder) = &self.global.data_dir {
            let folder = folder.to_str().ok_or_else(|| {
                Failure::new(Kind::Usage, format!("--data-dir {} is not valid UTF-8", folder.display()))
            })?;
            all.values.insert(Setting::DataDirectory, folder.to_owned());
        }
        for (setting, value) in flags {
            all.values.extend(value.clone().map(|value| (*setting, value)));
        }
        let mut configuration =
            Configuration::load(&all).map_err(|error| Failure::new(Kind::Usage, error))?;
        configuration.consent = self.global.yes;
        configuration
            .warnings
            .iter()
            .for_each(|warning| self.output.prose(format_args!("warning: {warning}")));
        Ok(configuration)
    }

    /// The way to the API: to the running service, else to one in this process.
    pub async fn client(&self) -> Result<Client, Failure> {
        let configuration = self.configuration(&[])?;
        if let Some((_, client)) = running(&self.output, &configuration).await? {
            return Ok(Client::Service(client));
        }
        Ok(Client::Local(Box::new(LocalClient::open(configuration).await?)))
    }

    /// One question, one answer.
    pub async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let client = self.client().await?;
        let progress = Progress::spinner(&self.output, "working");
        let answer = client.ask(call).await;
        progress.finish();
        client.close().await;
        answer
    }

    /// One question whose answer takes a move of a session, which it gives this id; tells how far that is. Ctrl-C ends it,
    /// while it waits for another one too.
    pub async fn ask_for_move<T: DeserializeOwned>(&self, call: &Call, id: &str) -> Result<T, Failure> {
        let client = self.client().await?;
        let progress = Progress::spinner(&self.output, "moving");
        let path = format!("/api/moves/{id}");
        let answer = {
            let watching = watch_move(&client, &path, &progress);
            let stopping = Stopping {
                said: "stopping at the next position; Ctrl-C again leaves it to go on",
                hint: "postgres-test-replay undo takes the session back (--session, where it is not the active one)",
                left: "interrupted; the move may still be under way",
            };
            self.or_stopped(client.ask(call), watching, stop(&client, &path), &progress, &stopping).await
        };
        progress.finish();
        client.close().await;
        answer
    }

    /// Waits for the answer of what goes on in the service, drawing meanwhile. At Ctrl-C it is stopped, and what it then
    /// came to is the answer; a second Ctrl-C waits no longer.
    async fn or_stopped<T>(
        &self,
        asked: impl Future<Output = Result<T, Failure>>,
        watching: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
        progress: &Progress,
        stopping: &Stopping,
    ) -> Result<T, Failure> {
        let watched = self.output.draws_progress();
        self.moving.store(true, Ordering::Relaxed);
        let mut asked = std::pin::pin!(asked);
        let answer = tokio::select! {
            answer = &mut asked => answer,
            () = watching, if watched => unreachable!("it watches for ever"),
            _ = tokio::signal::ctrl_c() => {
                progress.above(|| self.output.prose(stopping.said));
                let stopped = async {
                    let answer = tokio::select! {
                        answer = &mut asked => answer,
                        () = stop => asked.await,
                    };
                    answer.map_err(|failure: Failure| failure.interrupted(stopping.hint))
                };
                tokio::select! {
                    answer = stopped => answer,
                    _ = tokio::signal::ctrl_c() => Err(Failure::new(Kind::Interrupted, stopping.left)),
                }
            }
        };
        self.moving.store(false, Ordering::Relaxed);
        answer
    }

    /// Returns once somebody presses Ctrl-C, unless a move or a verification is under way, which takes it for itself.
    pub async fn interrupted(&self) {
        // Where signals cannot be heard, nobody can interrupt.
        while tokio::signal::ctrl_c().await.is_ok() {
            if !self.moving.load(Ordering::Relaxed) {
                return;
            }
        }
        std::future::pending().await
    }

    /// One question whose answer takes a verification, which it names; tells how far that is. Ctrl-C ends it.
    pub async fn ask_for_verification<T: DeserializeOwned>(
        &self,
        call: &Call,
        id: &str,
    ) -> Result<T, Failure> {
        let client = self.client().await?;
        let progress = Progress::spinner(&self.output, "verifying");
        let path = format!("/api/verifications/{id}");
        let answer = {
            let watching = watch_verification(&client, &path, &progress);
            let stopping = Stopping {
                said: "stopping the verification; Ctrl-C again leaves it to go on",
                hint: "nothing was changed; verify again when there is time",
                left: "interrupted; the verification may still be under way",
            };
            self.or_stopped(client.ask(call), watching, stop(&client, &path), &progress, &stopping).await
        };
        progress.finish();
        client.close().await;
        answer
    }

    /// Writes an answer: as it is with `--json`, else as the text.
    pub fn result<T: Serialize>(&self, answer: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.output.is_json() {
            return Ok(self.output.json(answer)?);
        }
        Ok(self.output.line(text())?)
    }

    /// Writes a list: as it is with `--json`, else as a table.
    pub fn list<T: Serialize>(
        &self,
        heading: &[&str],
        all: &[T],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.output.is_json() {
            return Ok(self.output.json(&all)?);
        }
        Ok(self.output.table(heading, all.iter().map(row))?)
    }

    /// The one captured database that the command is about; `None` is the default one.
    pub fn database(&self) -> Result<Option<String>, Failure> {
        match self.global.database.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            _ => Err(Failure::new(Kind::Usage, "this command is about one database; give --database once")),
        }
    }

    /// The session that a command is about which moves or compares one: as it is named, else the active one (`None`). With
    /// `--database` it has to be one of that database: the active one, or the only one there is.
    pub async fn session(&self, named: Option<String>) -> Result<Option<String>, Failure> {
        let Some(database) = self.database()? else { return Ok(named) };
        let all: Vec<SessionAnswer> = self.ask(&Call::get("/api/sessions")).await?;
        let is_meant = |one: &&SessionAnswer| match &named {
            Some(named) => one.name == *named || one.id == *named,
            None => one.active,
        };
        match all.iter().find(is_meant) {
            Some(meant) if meant.database == database => return Ok(named),
            // What it says of a session that is not there is the API's.
            None if named.is_some() => return Ok(named),
            _ => {}
        }
        let its: Vec<&str> =
            all.iter().filter(|one| one.database == database).map(|one| &*one.name).collect();
        match (&named, its.as_slice()) {
            (None, [only]) => Ok(Some((*only).to_owned())),
            (_, []) => Err(Failure::new(Kind::NotFound, format!("there is no session of {database}"))
                .hint(format!("make one: postgres-test-replay session create NAME --database {database}"))),
            _ => Err(Failure::new(Kind::Usage, format!("the session is none of {database}"))
                .hint(format!("name one of those with --session: {}", its.join(", ")))),
        }
    }

    /// All captured databases that were named, as the setting takes them; `None` leaves it to the settings.
    pub fn databases(&self) -> Option<String> {
        (!self.global.database.is_empty()).then(|| self.global.database.join(","))
    }

    /// Asks the person, unless `--yes` has answered already.
    pub async fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.global.yes {
            return Ok(());
        }
        if self.global.no_input || !someone_is_there() {
            return Err(Failure::new(Kind::Precondition, format!("not done without consent: {question}"))
                .hint("say yes beforehand with --yes"));
        }
        ask(question).await
    }

    /// Says what is about to happen, and asks where somebody can answer: something that a script may do without
    /// being asked, unless it says `--no-input` and not `--yes`.
    pub async fn consent(&self, what: &str, question: &str) -> Result<(), Failure> {
        if !self.global.yes && (self.global.no_input || someone_is_there()) {
            return self.confirm(&format!("{what} {question}")).await;
        }
        self.output.prose(what);
        Ok(())
    }
}

fn someone_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

async fn ask(question: &str) -> Result<(), Failure> {
    eprint!("{} [y/N] ", shown(question));
    io::stderr().flush()?;
    // On a thread of its own that nothing waits for: who presses Ctrl-C types no answer any more.
    let (typed, answer) = oneshot::channel();
    std::thread::Builder::new().spawn(move || {
        let mut line = String::new();
        let _ = typed.send(io::stdin().lock().read_line(&mut line).map(|_| line));
    })?;
    let answer = answer.await.unwrap_or_else(|_| Ok(String::new()))?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Kind::Interrupted, "not done"))
}

/// How often it is asked how far something is.
const INTERVAL: Duration = Duration::from_millis(250);

/// Draws how far the newest verification is, for ever.
async fn watch_verification(client: &Client, path: &str, progress: &Progress) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // What is only drawn may fail: the answer that is waited for says what is wrong.
        let Ok(running) = client.ask::<VerificationAnswer>(&Call::get(path)).await else { continue };
        if let Some(step) = running.progress {
            progress.step(&step);
        }
    }
}

/// Asks what was asked for to end. What goes wrong its own answer tells.
async fn stop(client: &Client, path: &str) {
    // The service may not know of it yet: asking for it and Ctrl-C are on the way at the same time.
    while client.ask::<Value>(&Call::delete(path)).await.is_err_and(|failure| failure.is_not_found()) {
        tokio::time::sleep(INTERVAL / 10).await;
    }
}

/// Draws how far the move is, for ever.
async fn watch_move(client: &Client, path: &str, progress: &Progress) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        // What is only drawn may fail: the answer that is waited for says what is wrong. One that waits has not begun.
        let Ok(moving) = client.ask::<MoveAnswer>(&Call::get(path)).await else { continue };
        if let Some(step) = moving.progress {
            progress.step(&step);
        }
    }
}
