//! `keyframe`: whole images of the captured database on the output server.

use clap::Subcommand;
use indicatif::HumanBytes;
use ptr_server::resource::{
    keyframe::{CreateKeyframe, KeyframeAnswer, KeyframeList, KeyframeQuery},
    session::Deleted,
};

use crate::{
    client::{Call, encode},
    context::Context,
    entry_line::place,
    failure::Failure,
};

/// Whole images of the captured database, from which sessions are made
#[derive(Subcommand, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay keyframe list")]
pub enum Keyframe {
    /// The keyframes and spares that there are, in log order
    #[command(
        visible_alias = "ls",
        after_help = "Example:\n  postgres-test-replay keyframe list --json | jq -r '.keyframes[].name'"
    )]
    List {},
    /// Make one, which stays until it is deleted
    #[command(
        after_help = "Examples:\n  postgres-test-replay keyframe create\n  postgres-test-replay keyframe create --at before-migration"
    )]
    Create {
        /// Where, instead of head
        #[arg(long, value_name = "POS")]
        at: Option<String>,
    },
    /// Drop one, and the spares of it; CREATION's stays, and one that pays may be made again
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  postgres-test-replay keyframe delete ptr_shop_1a2b3c4d_812"
    )]
    Delete {
        /// Its database, as `keyframe list` shows it
        name: String,
    },
}

impl Keyframe {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let database = context.database()?;
        let query = KeyframeQuery { database: database.clone() };
        match self {
            Self::List {} => list(context, &query).await,
            Self::Create { at } => {
                let request = CreateKeyframe { at, database };
                let made: KeyframeAnswer = context.ask(&Call::post("/api/keyframes", &request)).await?;
                context.result(&made, || {
                    format!("made {} at {}, {}", made.name, place(&made.position), HumanBytes(made.bytes))
                })
            }
            Self::Delete { name } => {
                let call = Call::delete(format!("/api/keyframes/{}", encode(&name))).query(&query);
                let gone: Deleted = context.ask(&call).await?;
                context.result(&gone, || format!("deleted {}", gone.name))
            }
        }
    }
}

async fn list(context: &Context, query: &KeyframeQuery) -> Result<(), Failure> {
    let all: KeyframeList = context.ask(&Call::get("/api/keyframes").query(query)).await?;
    if context.output.is_json() {
        return Ok(context.output.json(&all)?);
    }
    let row = |one: &KeyframeAnswer, kind: &str| {
        let size = HumanBytes(one.bytes).to_string();
        vec![one.name.clone(), kind.to_owned(), place(&one.position), size, one.reason.clone()]
    };
    let keyframes = all.keyframes.iter().map(|one| row(one, "keyframe"));
    let spares = all.spares.iter().map(|one| row(one, "spare"));
    context.output.table(&["name", "kind", "position", "size", "reason"], keyframes.chain(spares))?;
    let (used, budget) = (HumanBytes(all.used_bytes), HumanBytes(all.budget_bytes));
    context.output.prose(format_args!("{used} of the budget of {budget} (KEYFRAME_BUDGET) are used"));
    all.doing.iter().for_each(|doing| context.output.prose(format_args!("now: {doing}")));
    all.problem.iter().for_each(|problem| context.output.prose(format_args!("problem: {problem}")));
    Ok(())
}
