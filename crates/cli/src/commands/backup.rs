//! `backup`: dumps of the captured database, kept with their position.

use clap::{Args, Subcommand, ValueEnum};
use ptr_server::resource::{
    backup::{
        BackupAnswer, BackupFormat, BackupState, BackupVerified, CreateBackup, RestoreBackup, Restored,
    },
    session::Deleted,
};

use crate::{
    client::{Call, encode},
    context::Context,
    entry_line::place,
    failure::{Failure, Kind},
};

/// Dumps of the captured database
#[derive(Subcommand, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay backup create")]
pub enum Backup {
    /// Dump the captured database with pg_dump
    #[command(after_help = "Example:\n  postgres-test-replay backup create nightly")]
    Create(Create),
    /// All backups: size, time, server version, position
    #[command(visible_alias = "ls", after_help = "Example:\n  postgres-test-replay backup list")]
    List,
    /// Restore a backup into a session or a database on the output server
    #[command(
        after_help = "Examples:\n  postgres-test-replay backup restore nightly --to-database copy\n  postgres-test-replay backup restore nightly --session rehearsal"
    )]
    Restore(Restore),
    /// Restore a backup into a scratch database and compare it with what was dumped
    #[command(after_help = "Example:\n  postgres-test-replay backup verify nightly")]
    Verify {
        /// Name or id
        backup: String,
    },
    /// Delete a backup from the disk
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  postgres-test-replay backup delete nightly --yes"
    )]
    Delete {
        /// Name or id
        backup: String,
    },
}

/// Dump the captured database
#[derive(Args, Debug)]
pub struct Create {
    /// Its name [default: the database and the time]
    name: Option<String>,
    /// pg_dump's format
    #[arg(long, value_enum, default_value_t = Format::Custom)]
    format: Format,
    /// Dump this session's database instead of the primary's
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

/// pg_dump's formats that pg_restore reads in parallel or in part.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Format {
    /// One file
    Custom,
    /// A folder, dumped in parallel
    Directory,
}

/// Restore a backup
#[derive(Args, Debug)]
pub struct Restore {
    /// Name or id
    backup: String,
    #[command(flatten)]
    target: Target,
}

/// Where a backup is restored to: one of the two.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// The session whose database takes it
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// The database on the output server that takes it; made if it does not exist
    #[arg(long, value_name = "NAME")]
    to_database: Option<String>,
}

fn path(backup: &str) -> String {
    format!("/api/backups/{}", encode(backup))
}

impl Backup {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Create(create) => {
                let call = Call::post("/api/backups", &create.request(context.database()?));
                let one: BackupAnswer = context.ask(&call).await?;
                context.result(&one, || format!("created {}: {} in {}", one.name, bytes(one.bytes), one.path))
            }
            Self::List => list(context).await,
            Self::Restore(restore) => restore.run(context).await,
            Self::Verify { backup } => verify(context, &backup).await,
            Self::Delete { backup } => {
                context.confirm(&format!("Delete backup {backup}?")).await?;
                let gone: Deleted = context.ask(&Call::delete(path(&backup))).await?;
                context.result(&gone, || format!("deleted {}", gone.name))
            }
        }
    }
}

impl Create {
    fn request(self, database: Option<String>) -> CreateBackup {
        let format = match self.format {
            Format::Custom => BackupFormat::Custom,
            Format::Directory => BackupFormat::Directory,
        };
        CreateBackup {
            name: self.name,
            database,
            session_id: self.session,
            format: Some(format),
            background: false,
        }
    }
}

impl Restore {
    async fn run(self, context: &Context) -> Result<(), Failure> {
        let request = RestoreBackup {
            session_id: self.target.session,
            database: self.target.to_database,
            replace: context.global.yes,
        };
        let call = Call::post(format!("{}/restore", path(&self.backup)), &request);
        let done: Restored = context.ask(&call).await?;
        context.result(&done, || {
            format!("restored {} into {} in {} ms", self.backup, done.database, done.elapsed_ms)
        })
    }
}

async fn verify(context: &Context, backup: &str) -> Result<(), Failure> {
    let call = Call::post(format!("{}/verify", path(backup)), &serde_json::Map::new());
    let report: BackupVerified = context.ask(&call).await?;
    context.result(&report, || {
        let verdict = if report.sound { "sound" } else { "NOT SOUND" };
        let mut text = format!("{verdict}: {} tables, {} rows", report.tables, report.rows);
        report.findings.iter().for_each(|finding| text.push_str(&format!("\n  {finding}")));
        text
    })?;
    if report.sound {
        return Ok(());
    }
    Err(Failure::new(Kind::Integrity, format!("backup {backup} does not restore to what was dumped"))
        .hint("take another backup, and do not rely on this one"))
}

async fn list(context: &Context) -> Result<(), Failure> {
    let all: Vec<BackupAnswer> = context.ask(&Call::get("/api/backups")).await?;
    let heading = ["name", "size", "taken", "server", "position", "database", "state"];
    context.list(&heading, &all, |one| {
        let position = one.position.as_ref().map_or_else(String::new, |position| {
            format!("{}{}", if position.exact { "" } else { "about " }, place(&position.at))
        });
        let state = match one.state {
            BackupState::Running => "running",
            BackupState::Complete => "complete",
            BackupState::Failed => "FAILED",
        };
        let size = bytes(one.bytes);
        [&one.name, &size, &one.created_at, &one.server_version, &position, &one.database, state]
            .map(ToString::to_string)
            .to_vec()
    })
}

fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
