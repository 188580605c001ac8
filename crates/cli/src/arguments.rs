//! What can be typed: the commands, and the flags that all of them take. Each command's own flags stand in its
//! own file.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    backup, checkpoint, completions, config, demo, diff, doctor, down, dsn, gc, keyframe, listener, log, man,
    navigate, replay, service, session, show, status, teardown, undo, up, verify,
};

/// A time machine for a PostgreSQL database: captures every change, names points in its history, and takes a
/// replica to any of them.
#[derive(Parser, Debug)]
#[command(name = "postgres-test-replay", version, propagate_version = true, after_help = FIRST_STEPS)]
pub struct Arguments {
    /// Flags of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const FIRST_STEPS: &str = "\
Examples:
  postgres-test-replay up --detach
  psql \"$(postgres-test-replay dsn input)\"
  postgres-test-replay checkpoint create before-update
  postgres-test-replay navigate before-update

Positions: head, @ (where the session is), @-3, a checkpoint's name, CREATION, MIGRATION, an LSN,
  entry:42, xid:812, 2026-05-01T12:30:00Z, 5m ago

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 a precondition does not hold,
  5 server unreachable or login refused, 6 integrity failure, 130 interrupted";

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where everything is kept [default: .postgres-test-replay, here or in a folder above]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Read settings from this file instead of .env
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Read settings from this JSON file instead of config.json
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The captured database that is meant; repeated for `up` and `listener`, all that are to be captured
    #[arg(long, global = true, value_name = "NAME", action = ArgAction::Append)]
    pub database: Vec<String>,
    /// Answer in JSON, one document a line where there are many
    #[arg(long, global = true)]
    pub json: bool,
    /// Yes to every question
    #[arg(long, short, global = true)]
    pub yes: bool,
    /// Never ask; what would be asked fails instead
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Tell more on stderr; twice: everything
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Tell nothing but results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// What to do.
#[derive(Subcommand, Debug)]
#[allow(missing_docs, reason = "each variant's text is its command's, in its own file")]
pub enum Command {
    Up(up::Up),
    Demo(demo::Demo),
    Down(down::Down),
    Listener(listener::Listener),
    #[command(visible_alias = "serve")]
    Ipc(service::Ipc),
    Doctor(doctor::Doctor),
    Status(status::Status),
    #[command(subcommand)]
    Config(config::Config),
    Dsn(dsn::DsnCommand),
    #[command(subcommand)]
    Checkpoint(checkpoint::Checkpoint),
    #[command(subcommand)]
    Session(session::Session),
    #[command(subcommand)]
    Keyframe(keyframe::Keyframe),
    #[command(visible_alias = "goto")]
    Navigate(navigate::Navigate),
    Undo(undo::Undo),
    Redo(undo::Redo),
    Replay(replay::Replay),
    Log(log::Log),
    Show(show::Show),
    Diff(diff::Diff),
    Verify(verify::Verify),
    #[command(subcommand)]
    Backup(backup::Backup),
    Gc(gc::Gc),
    Teardown(teardown::Teardown),
    Completions(completions::Completions),
    Man(man::Man),
}
