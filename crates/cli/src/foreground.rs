//! A service in this process, in front of a person or as the process that `up --detach` leaves behind: started
//! step by step aloud, ended by Ctrl-C, SIGTERM, a terminal that is closed, or `down`.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use ptr_server::{
    Announcement, Announcer, Configuration, Problem, Role, Running, Service,
    resource::status::{DatabaseStatus, Status},
    serve,
};
use serde::Serialize;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    client::{Call, Client, HEALTH_TIMEOUT, LocalClient, SocketClient},
    context::Context,
    embedded,
    failure::{Failure, Kind},
    output::{self, Output},
    port,
    progress::Progress,
};

/// How long a service whose process lives may be silent: a machine that is short of memory or of time, a service that is
/// about to end.
struct Patience {
    /// Before that is worth a word.
    quiet: Duration,
    /// Before it is given up.
    all: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { quiet: HEALTH_TIMEOUT, all: Duration::from_secs(60) }
    }
}

/// The service whose process lives on the data directory, whether it answers or not.
pub fn found(configuration: &Configuration) -> Result<Option<Running>, Failure> {
    let file = configuration.data.service_file();
    Running::find(&configuration.data)
        .map_err(|error| Failure::new(Kind::Failed, format!("{} cannot be read: {error}", file.display())))
}

/// The service that runs on the data directory, with the way to it. One that is silent is waited for as long as its process
/// lives: what it has in its hands must not be taken for free.
pub async fn running(
    output: &Output,
    configuration: &Configuration,
) -> Result<Option<(Running, SocketClient)>, Failure> {
    running_within(&Patience::default(), output, configuration).await
}

async fn running_within(
    patience: &Patience,
    output: &Output,
    configuration: &Configuration,
) -> Result<Option<(Running, SocketClient)>, Failure> {
    const INTERVAL: Duration = Duration::from_millis(100);
    let Some(running) = found(configuration)? else { return Ok(None) };
    let Some(client) = SocketClient::of(&running) else { return Err(of_another_version(&running)) };
    let since = Instant::now();
    let mut is_told = false;
    while !client.is_alive(patience.quiet).await {
        if found(configuration)?.is_none_or(|now| now.pid != running.pid) {
            return Ok(None);
        }
        if since.elapsed() > patience.all {
            return Err(silent(&running, since.elapsed()));
        }
        if !is_told && since.elapsed() >= patience.quiet {
            let waited = since.elapsed().as_secs();
            output.prose(format_args!(
                "the service, pid {}, has not answered for {waited} s; waiting",
                running.pid
            ));
            is_told = true;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(Some((running, client)))
}

fn silent(running: &Running, waited: Duration) -> Failure {
    let what =
        format!("the service, pid {}, lives and has not answered for {} s", running.pid, waited.as_secs());
    Failure::new(Kind::Unreachable, what)
        .hint("see run/up.log in the data directory; `postgres-test-replay down` ends it")
}

fn of_another_version(running: &Running) -> Failure {
    let what = format!(
        "the service, pid {}, is of version {}, which this one cannot ask",
        running.pid, running.version
    );
    Failure::new(Kind::Precondition, what)
        .hint("`postgres-test-replay down` ends it, and `up` starts this one")
}

/// Runs a service of that role until somebody ends it.
pub async fn run(context: &Context, configuration: Configuration, role: Role) -> Result<(), Failure> {
    run_with(context, configuration, role, async |_| Ok(())).await
}

/// The same, and once everything runs, something beside it; where that fails, everything ends.
pub async fn run_with(
    context: &Context,
    configuration: Configuration,
    role: Role,
    beside: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    refuse_a_second(context, &configuration, role).await?;
    if role != Role::Listener {
        port::check(&configuration.address)?;
    }
    let mut signals = Signals::catch()?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let telling = tokio::spawn(tell(receiver, Teller::new(&context.output)));
    let announcer = Announcer::to(sender);
    let opened = tokio::select! {
        opened = Service::open(configuration.clone(), role, &announcer) => opened.map_err(|error| Problem::from(error).into()),
        () = signals.one() => Err(Failure::new(Kind::Interrupted, "interrupted while starting")),
    };
    let service = match opened {
        Ok(service) => service,
        Err(failure) => {
            if role == Role::Up {
                embedded::stop(&configuration).await?;
            }
            return Err(failure);
        }
    };
    drop(announcer);
    let mut working = pin!(work(&service, role));
    let ended = tokio::select! {
        ended = &mut working => ended,
        failure = tell_when_ready(context, &service, role, beside) => Err(failure),
        () = signals.one() => {
            context.output.prose("stopping");
            service.shutdown_token().cancel();
            working.await
        }
    };
    telling.abort();
    service.close().await.map_err(Problem::from)?;
    ended
}

/// What the role does until it is ended.
async fn work(service: &Arc<Service>, role: Role) -> Result<(), Failure> {
    if role == Role::Listener {
        service.shutdown_token().cancelled().await;
        return Ok(());
    }
    serve(Arc::clone(service)).await.map_err(|error| Problem::from(error).into())
}

/// Tells when everything runs, does what is to be done beside it, then waits for ever; ends only where either fails.
async fn tell_when_ready(
    context: &Context,
    service: &Arc<Service>,
    role: Role,
    beside: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> Failure {
    let client = Client::Local(Box::new(LocalClient::of(Arc::clone(service))));
    let told = async {
        until_ready(context, &client, role).await?;
        Summary::ask(&client, std::process::id()).await?.show(context)?;
        context.output.flush()?;
        beside(&client).await
    };
    match told.await {
        Ok(()) => std::future::pending().await,
        Err(failure) => failure,
    }
}

/// Capture and API may be two processes; two of a kind on one data directory may not.
async fn refuse_a_second(
    context: &Context,
    configuration: &Configuration,
    role: Role,
) -> Result<(), Failure> {
    let Some((running, _)) = running(&context.output, configuration).await? else { return Ok(()) };
    if role == Role::Listener && running.role == Role::Ipc.name() {
        return Ok(());
    }
    Err(runs_already(&running))
}

/// Another process serves this data directory.
pub fn runs_already(running: &Running) -> Failure {
    let what = format!("`{}` runs on this data directory already, pid {}", running.role, running.pid);
    Failure::new(Kind::Precondition, what)
        .hint("use it, or end it with `postgres-test-replay down`, or take another --data-dir")
}

/// Ctrl-C, SIGTERM and a terminal that is closed, caught from the start.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where `nohup` or the like had it ignored: then it stays so.
    hangup: Option<Signal>,
}

impl Signals {
    fn catch() -> Result<Self, Failure> {
        let caught = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(Kind::Failed, format!("signals cannot be caught: {error}")))
        };
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: (!hangup_is_ignored()).then(|| caught(SignalKind::hangup())).transpose()?,
        })
    }

    async fn one(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(self.hangup.as_mut()) => {}
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started us wants a closed terminal to be survived. Where the system does not tell, it is not.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (SignalKind::hangup().as_raw_value() - 1) != 0)
}

/// Returns when the role's work is done from here on: every captured database streams, the API answers. Fails
/// when capture has failed, and is not tried again by itself; what it waits for then is told once.
pub async fn until_ready(context: &Context, client: &Client, role: Role) -> Result<(), Failure> {
    const INTERVAL: Duration = Duration::from_millis(50);
    let mut told = false;
    loop {
        let status: Status = client.ask(&Call::get("/api/status")).await?;
        if role != Role::Ipc
            && let Some(one) = status.databases.iter().find(|one| one.listener.state == "failed")
        {
            let error = one.listener.details.get("error").and_then(|error| error.as_str());
            let error = error.unwrap_or("it does not say why");
            let what = format!("capture of {} failed: {error}", one.database);
            if one.listener.details["again"] != true {
                return Err(Failure::new(Kind::Failed, what).hint("see `postgres-test-replay doctor`"));
            }
            if !std::mem::replace(&mut told, true) {
                context.output.prose(format_args!("{what}"));
            }
        }
        let captures =
            role == Role::Ipc || (!status.databases.is_empty() && status.databases.iter().all(captures));
        let listens = role == Role::Listener || status.address.is_some();
        if captures && listens {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether changes of the database reach its log now: a marker came round.
fn captures(database: &DatabaseStatus) -> bool {
    database.listener.state == "streaming"
}

/// What is up, where.
#[derive(Serialize)]
pub struct Summary {
    role: String,
    pid: u32,
    address: Option<String>,
    /// What a browser opens.
    url: Option<String>,
    data_directory: String,
    /// Without passwords; `dsn` gives them.
    input_dsn: String,
    output_dsn: String,
    capturing: Vec<String>,
}

impl Summary {
    /// Of the service behind the client.
    pub async fn ask(client: &Client, pid: u32) -> Result<Self, Failure> {
        let status: Status = client.ask(&Call::get("/api/status")).await?;
        let capturing = status.databases.iter().filter(|one| captures(one));
        Ok(Self {
            role: status.role,
            pid,
            address: status.address,
            url: status.url,
            data_directory: status.data_directory,
            input_dsn: status.input.dsn,
            output_dsn: status.output.dsn,
            capturing: capturing.map(|one| one.database.clone()).collect(),
        })
    }

    /// Writes it.
    pub fn show(&self, context: &Context) -> Result<(), Failure> {
        let output = &context.output;
        if output.is_json() {
            return Ok(output.json(self)?);
        }
        output.line(format_args!("primary    {}", self.input_dsn))?;
        output.line(format_args!("replica    {}", self.output_dsn))?;
        if let Some(url) = &self.url {
            output.line(format_args!("API        {url}"))?;
        }
        if !self.capturing.is_empty() {
            output.line(format_args!("capturing  {}", self.capturing.join(", ")))?;
        }
        Ok(())
    }
}

/// How announcements reach the person.
struct Teller {
    progress: Progress,
    quiet: bool,
}

impl Teller {
    fn new(output: &Output) -> Self {
        Self { progress: Progress::spinner(output, "starting"), quiet: output.is_quiet() }
    }

    fn line(&self, text: &str) {
        if !self.quiet {
            self.progress.above(|| output::tell(text));
        }
    }
}

async fn tell(mut announcements: mpsc::UnboundedReceiver<Announcement>, teller: Teller) {
    while let Some(announcement) = announcements.recv().await {
        match announcement {
            Announcement::Step(text) => teller.line(&text),
            Announcement::Warning(text) => teller.line(&format!("warning: {text}")),
            Announcement::Progress(step) => teller.progress.step(&step),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use ptr_server::configuration::Sources;
    use tokio::net::UnixListener;

    use super::*;
    use crate::output::Format;

    fn configuration(folder: &Path) -> Configuration {
        let environment = BTreeMap::from([("USER".to_owned(), "nobody".to_owned())]);
        let sources = Sources { environment, current_folder: folder.to_owned(), ..Sources::default() };
        Configuration::resolve(&sources).unwrap()
    }

    #[tokio::test]
    async fn a_service_that_lives_and_stays_silent_is_given_up_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let configuration = configuration(folder.path());
        // This process is the service. It takes connections, and answers none.
        let socket = folder.path().join("silent.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let service = Running {
            address: "127.0.0.1:1".into(),
            socket: Some(socket),
            pid: std::process::id(),
            born: None,
            role: "up".into(),
            version: String::new(),
        };
        std::fs::create_dir_all(configuration.data.run()).unwrap();
        std::fs::write(configuration.data.service_file(), serde_json::to_vec(&service).unwrap()).unwrap();
        let output = Output::new(Format::Text, true);
        let patience = Patience { quiet: Duration::from_millis(20), all: Duration::from_millis(200) };
        let waited = running_within(&patience, &output, &configuration);
        let waited = tokio::time::timeout(Duration::from_secs(30), waited).await.expect("it gives up");
        let Err(failure) = waited else { panic!("nobody answers there") };
        let told = format!("{failure:?}");
        let what = format!("the service, pid {}, lives and has not answered for ", service.pid);
        for part in ["Unreachable", &what, "`postgres-test-replay down` ends it"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
