//! `session`: replay databases, each with a position of its own.

use clap::{Args, Subcommand};
use ptr_server::resource::{
    navigation::Navigate,
    session::{
        CreateSession, Deleted, OpenSession, SessionAnswer, SessionQuery, SessionState, SwitchSession,
    },
};

use super::{
    decision::{Decisions, Resync, Skip, Undecide},
    navigate::tell_connections,
};

use crate::{
    client::{Call, encode},
    context::Context,
    entry_line::{one_line, place},
    failure::Failure,
};

/// Replay databases, each with a position of its own
#[derive(Subcommand, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay session create edge-cases --at xid:812")]
pub enum Session {
    /// Make a session with a database of its own on the output server
    #[command(
        after_help = "Examples:\n  postgres-test-replay session create rehearsal\n  postgres-test-replay session create bug-812 --at xid:812"
    )]
    Create(Create),
    /// All sessions; * marks the active one
    #[command(visible_alias = "ls", after_help = "Example:\n  postgres-test-replay session list")]
    List,
    /// One session
    #[command(after_help = "Example:\n  postgres-test-replay session show default")]
    Show {
        /// Name or id
        session: String,
    },
    /// Make a session the active one, which commands mean by default
    #[command(after_help = "Example:\n  postgres-test-replay session switch rehearsal")]
    Switch {
        /// Name or id
        session: String,
    },
    /// Let people write to a session's database; the next move starts from a keyframe and drops those writes
    #[command(after_help = "Example:\n  postgres-test-replay session open rehearsal")]
    Open {
        /// Name or id
        session: String,
        /// Read-only again
        #[arg(long)]
        close: bool,
    },
    Skip(Skip),
    Resync(Resync),
    Decisions(Decisions),
    Undecide(Undecide),
    /// Drop a session and its database
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  postgres-test-replay session delete rehearsal --yes"
    )]
    Delete {
        /// Name or id
        session: String,
    },
}

/// Make a session
#[derive(Args, Debug)]
pub struct Create {
    /// Its name
    name: String,
    /// What to remember about it
    #[arg(short = 'm', long = "message", value_name = "TEXT")]
    message: Option<String>,
    /// The name of its database [default: made from the session's name]
    #[arg(long, value_name = "NAME")]
    target_database: Option<String>,
    /// Where it begins, instead of CREATION
    #[arg(long, value_name = "POS")]
    at: Option<String>,
}

fn path(session: &str) -> String {
    format!("/api/sessions/{}", encode(session))
}

impl Session {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = context.database()?;
        match self {
            Self::Create(create) => {
                let call = Call::post("/api/sessions", &create.request(database, context.global.yes));
                one(context, call, "created ").await
            }
            Self::List => list(context, SessionQuery { database }).await,
            Self::Show { session } => one(context, Call::get(path(&session)), "").await,
            Self::Switch { session } => {
                let call = Call::post("/api/sessions/switch", &SwitchSession { session_id: session });
                one(context, call, "active: ").await
            }
            Self::Skip(skip) => skip.run(context).await,
            Self::Resync(resync) => resync.run(context).await,
            Self::Decisions(decisions) => decisions.run(context).await,
            Self::Undecide(undecide) => undecide.run(context).await,
            Self::Open { session, close } => {
                if close {
                    let back = Navigate { position: Some("@".into()), ..Navigate::default() };
                    tell_connections(context, Navigate { session_id: Some(session.clone()), ..back }).await?;
                }
                let call = Call::post(format!("{}/open", path(&session)), &OpenSession { open: !close });
                one(context, call, if close { "read-only: " } else { "open for writing: " }).await
            }
            Self::Delete { session } => {
                context.confirm(&format!("Drop session {session} and its database?")).await?;
                let gone: Deleted = context.ask(&Call::delete(path(&session))).await?;
                context.result(&gone, || format!("deleted {}", gone.name))
            }
        }
    }
}

impl Create {
    fn request(self, database: Option<String>, replace: bool) -> CreateSession {
        CreateSession {
            name: self.name,
            description: self.message,
            database,
            target_database: self.target_database,
            at: self.at,
            replace,
        }
    }
}

async fn one(context: &Context, call: Call, done: &str) -> Result<(), Failure> {
    let one: SessionAnswer = context.ask(&call).await?;
    context.result(&one, || {
        let text =
            if one.description.is_empty() { String::new() } else { format!("\n  {}", one.description) };
        let mut text =
            format!("{done}{}: database {} at {}{text}", one.name, one.target_database, position(&one));
        remarks(&one).iter().for_each(|remark| text.push_str(&format!("\n  {remark}")));
        text
    })
}

async fn list(context: &Context, query: SessionQuery) -> Result<(), Failure> {
    let all: Vec<SessionAnswer> = context.ask(&Call::get("/api/sessions").query(&query)).await?;
    let heading = ["", "name", "position", "database", "replays", "state"];
    context.list(&heading, &all, |one| {
        let active = if one.active { "*" } else { "" };
        [active, &one.name, &position(one), &one.target_database, &one.database, &states(one)]
            .map(ToString::to_string)
            .to_vec()
    })
}

/// Where a session is, for people.
pub fn position(session: &SessionAnswer) -> String {
    session.position.as_ref().map_or("no position".to_owned(), place)
}

/// What there is to say about a session, for people: where it stopped, in what it differs, what its moves did.
pub fn remarks(session: &SessionAnswer) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(stop) = &session.stop {
        let state = stop.sqlstate.as_ref().map_or_else(String::new, |state| format!(" [SQLSTATE {state}]"));
        remarks.push(format!("stopped at {}{state}: {}", place(&stop.position), stop.reason));
        remarks.extend(stop.statement.as_deref().map(|statement| format!("  {}", one_line(statement))));
        for choice in stop.choices.iter() {
            let command = choice.command.as_deref().unwrap_or_default();
            remarks.push(format!("  {command}{}{}", if command.is_empty() { "" } else { "  " }, choice.does));
        }
    }
    remarks.extend(session.differs.iter().cloned());
    remarks.extend(session.notices.iter().map(|notice| format!("note: {notice}")));
    remarks
}

/// What is special about a session, for people; empty where nothing is.
pub fn states(session: &SessionAnswer) -> String {
    let mut states = Vec::new();
    states.extend(match session.state {
        SessionState::Settled => None,
        SessionState::Moving => Some("moving"),
        SessionState::Missing => Some("database missing"),
        SessionState::Unreachable => Some("unreachable"),
    });
    states.extend(session.follow.then_some("follows head"));
    states.extend(session.stop.is_some().then_some("stopped"));
    states.extend(session.open.then_some("open for writing"));
    states.join(", ")
}
