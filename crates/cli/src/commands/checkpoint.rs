//! `checkpoint`: names for positions.

use clap::{Args, Subcommand};
use ptr_server::resource::{
    checkpoint::{
        CheckpointAnswer, CheckpointKind, CheckpointQuery, CreateCheckpoint, PinMigration, RenameCheckpoint,
    },
    session::Deleted,
};
use serde::Serialize;

use crate::{
    client::{Call, encode},
    context::Context,
    failure::Failure,
};

/// Name positions in the history
#[derive(Subcommand, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay checkpoint create before-update")]
pub enum Checkpoint {
    /// Name a position: now, exactly, unless --at says otherwise
    #[command(
        after_help = "Examples:\n  postgres-test-replay checkpoint create before-migration -m 'schema 41'\n  postgres-test-replay checkpoint create at-noon --at 2026-05-01T12:00:00Z\n  postgres-test-replay checkpoint create released --hash"
    )]
    Create(Create),
    /// All checkpoints, in log order
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  postgres-test-replay checkpoint list --json | jq -r '.[].name'"
    )]
    List {
        /// Only those made in this session
        #[arg(long, value_name = "SESSION")]
        session: Option<String>,
    },
    /// One checkpoint
    #[command(after_help = "Example:\n  postgres-test-replay checkpoint show MIGRATION")]
    Show {
        /// Name or id
        checkpoint: String,
    },
    /// Give a checkpoint another name
    #[command(after_help = "Example:\n  postgres-test-replay checkpoint rename tmp before-migration")]
    Rename {
        /// Name or id
        checkpoint: String,
        /// The new name
        name: String,
    },
    /// Forget a checkpoint; the history stays. CREATION and MIGRATION cannot be deleted
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  postgres-test-replay checkpoint delete before-migration"
    )]
    Delete {
        /// Name or id
        checkpoint: String,
    },
    /// Fix MIGRATION by hand
    #[command(after_help = "Example:\n  postgres-test-replay checkpoint pin migration --at xid:812")]
    Pin(Pin),
}

/// Name a position
#[derive(Args, Debug)]
pub struct Create {
    /// Its name
    name: String,
    /// What to remember about it
    #[arg(short = 'm', long = "message", value_name = "TEXT")]
    message: Option<String>,
    /// The position to name, instead of now
    #[arg(long, value_name = "POS")]
    at: Option<String>,
    /// Keep hashes of the primary's contents and schema, for `verify --at NAME`
    #[arg(long)]
    hash: bool,
    /// The session that it belongs to
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

/// Fix a checkpoint by hand
#[derive(Args, Debug)]
pub struct Pin {
    /// Only MIGRATION can be pinned
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(["migration"]), ignore_case = true)]
    checkpoint: String,
    /// Where, instead of where it is now
    #[arg(long, value_name = "POS")]
    at: Option<String>,
}

fn path(checkpoint: &str) -> String {
    format!("/api/checkpoints/{}", encode(checkpoint))
}

/// `?database=` where a call takes nothing else.
#[derive(Serialize)]
struct InDatabase {
    database: Option<String>,
}

impl Checkpoint {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = context.database()?;
        let within = InDatabase { database: database.clone() };
        match self {
            Self::Create(create) => one(context, create.call(database), "created ").await,
            Self::List { session } => list(context, CheckpointQuery { session_id: session, database }).await,
            Self::Show { checkpoint } => one(context, Call::get(path(&checkpoint)).query(&within), "").await,
            Self::Rename { checkpoint, name } => {
                let call = Call::patch(path(&checkpoint), &RenameCheckpoint { name });
                one(context, call.query(&within), "renamed ").await
            }
            Self::Delete { checkpoint } => {
                let gone: Deleted = context.ask(&Call::delete(path(&checkpoint)).query(&within)).await?;
                context.result(&gone, || format!("deleted {}", gone.name))
            }
            Self::Pin(pin) => {
                let request = PinMigration { at: pin.at, database };
                one(context, Call::post("/api/checkpoints/migration/pin", &request), "pinned ").await
            }
        }
    }
}

impl Create {
    fn call(self, database: Option<String>) -> Call {
        let request = CreateCheckpoint {
            name: self.name,
            description: self.message,
            at: self.at,
            hash: self.hash,
            session_id: self.session,
            database,
            ..CreateCheckpoint::default()
        };
        Call::post("/api/checkpoints", &request)
    }
}

async fn one(context: &Context, call: Call, done: &str) -> Result<(), Failure> {
    let one: CheckpointAnswer = context.ask(&call).await?;
    context.result(&one, || {
        let text =
            if one.description.is_empty() { String::new() } else { format!("\n  {}", one.description) };
        let hash = one.hash.as_ref().map_or(String::new(), |hash| {
            format!(
                "\n  hashes of {} tables, {} rows; `verify --at {}` compares with them",
                hash.tables, hash.rows, one.name
            )
        });
        format!("{done}{} at {} (entry {}){text}{hash}", one.name, one.lsn, one.entry_index)
    })
}

async fn list(context: &Context, query: CheckpointQuery) -> Result<(), Failure> {
    let all: Vec<CheckpointAnswer> = context.ask(&Call::get("/api/checkpoints").query(&query)).await?;
    let heading = ["name", "kind", "lsn", "entry", "made", "description"];
    context.list(&heading, &all, |one| {
        let kind = match one.kind {
            CheckpointKind::Creation | CheckpointKind::Migration => "fixed",
            CheckpointKind::Manual => "manual",
        };
        let entry = one.entry_index.to_string();
        [&one.name, kind, &one.lsn, &entry, &one.created_at, &one.description]
            .map(ToString::to_string)
            .to_vec()
    })
}
