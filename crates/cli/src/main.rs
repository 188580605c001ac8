//! `postgres-test-replay`: a time machine for a PostgreSQL database.
//!
//! What was typed -> arguments -> context (settings, output) -> a call of the API -> its answer, rendered. Each
//! command is a file of its own and has no logic of its own: it asks the API, over HTTP where a service runs and
//! in this process where none does. Failures are told here, once.

mod arguments;
mod client;
mod commands;
mod context;
mod embedded;
mod entry_line;
mod failure;
mod foreground;
mod logging;
mod output;
mod port;
mod progress;
mod terminal;
mod typed;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::SignalKind;

/// One thread reads the log and another folds and frees what it read, which glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for what waits for the disk. Each keeps memory of its own, so clients that ask at once wait for one; a move needs
/// one as long as it reads the log, and there are never nearly as many moves ([`ptr_server`] limits them).
const BLOCKING_THREADS: usize = 48;

use crate::{
    arguments::{Arguments, Command},
    context::Context,
    failure::{Failure, Kind},
};

fn main() -> ExitCode {
    leave_no_memory_on_disk();
    let typed = typed::rewrite(std::env::args_os());
    let arguments = match Arguments::try_parse_from(typed) {
        Ok(arguments) => arguments,
        Err(error) => return told_by_parser(&error),
    };
    logging::start(arguments.global.verbose, arguments.global.quiet);
    let context = Context::new(arguments.global);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let done = match threads {
        Ok(runtime) => runtime.block_on(run(arguments.command, &context)),
        Err(error) => Err(Failure::new(Kind::Failed, format!("cannot start threads: {error}"))),
    };
    // What was written before a failure is still wanted.
    let done = done.and(context.output.flush().map_err(Failure::from));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(context.output.is_json());
            failure.exit_code()
        }
    }
}

/// Memory of ours has passwords in it, and so has that of `pg_dump`, which inherits this; a dump of it would be on the disk.
fn leave_no_memory_on_disk() {
    let limit = rustix::process::getrlimit(Resource::Core);
    // Lowering is always allowed.
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit });
}

/// A file that may not grow any more is then an error of the write, which is told and waited for like a full disk, and not
/// the end of the process.
fn outlive_limits_on_files() {
    let signal = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // Once caught it stays caught. Where it cannot be, there is the error of the system: the process ends.
    drop(tokio::signal::unix::signal(signal));
}

/// Help and version go to stdout, what cannot be understood to stderr with exit code 2.
fn told_by_parser(error: &clap::Error) -> ExitCode {
    // There is nowhere to tell that telling failed.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    outlive_limits_on_files();
    // These end by a signal in their own way.
    match command {
        Command::Up(command) => return command.run(context).await,
        Command::Demo(command) => return command.run(context).await,
        Command::Listener(command) => return command.run(context).await,
        Command::Ipc(command) => return command.run(context).await,
        _ => {}
    }
    tokio::select! {
        done = answer(command, context) => done,
        () = context.interrupted() => Err(Failure::new(Kind::Interrupted, "interrupted")),
    }
}

async fn answer(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Up(_) | Command::Demo(_) | Command::Listener(_) | Command::Ipc(_) => Ok(()),
        Command::Down(command) => command.run(context).await,
        Command::Doctor(command) => command.run(context).await,
        Command::Status(command) => command.run(context).await,
        Command::Config(command) => command.run(context),
        Command::Dsn(command) => command.run(context).await,
        Command::Checkpoint(command) => command.run(context).await,
        Command::Session(command) => command.run(context).await,
        Command::Keyframe(command) => command.run(context).await,
        Command::Navigate(command) => command.run(context).await,
        Command::Undo(command) => command.run(context).await,
        Command::Redo(command) => command.run(context).await,
        Command::Replay(command) => command.run(context).await,
        Command::Log(command) => command.run(context).await,
        Command::Show(command) => command.run(context).await,
        Command::Diff(command) => command.run(context).await,
        Command::Verify(command) => command.run(context).await,
        Command::Backup(command) => command.run(context).await,
        Command::Gc(command) => command.run(context).await,
        Command::Teardown(command) => command.run(context).await,
        Command::Completions(command) => command.run(context),
        Command::Man(command) => command.run(context),
    }
}
