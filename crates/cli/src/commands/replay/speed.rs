//! `replay --speed`: transaction by transaction, with the pauses that were between them.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;
use ptr_server::resource::{
    navigation::{Navigated, Replay as Request},
    position::{PositionAnswer, PositionQuery},
    session::SessionAnswer,
    transaction::{TransactionAnswer, TransactionPage, TransactionQuery},
};

use crate::{
    client::{Call, encode},
    commands::navigate::new_id,
    context::Context,
    failure::{Failure, Kind},
};

/// Transactions that are asked for at a time.
const PAGE: usize = 200;

/// How fast: so many times as it was, or without pauses.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// `1x`, `10x`, `0.5x`.
    Times(f64),
    /// `max`.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.strip_suffix('x').unwrap_or(text).parse().ok();
        let times = times.filter(|times: &f64| times.is_finite() && *times > 0.0);
        times.map(Self::Times).ok_or_else(|| "a speed is 1x, 10x, 0.5x, or max for no pauses".to_owned())
    }
}

impl Speed {
    /// How long to wait for a transaction that committed so long after the one before.
    fn pause(self, gap: Duration) -> Duration {
        match self {
            Self::Max => Duration::ZERO,
            Self::Times(times) => {
                Duration::try_from_secs_f64(gap.as_secs_f64() / times).unwrap_or(Duration::MAX)
            }
        }
    }
}

/// Takes the session to a later position, one transaction after the other.
pub async fn play(
    context: &Context,
    session: Option<String>,
    to: String,
    speed: Speed,
) -> Result<(), Failure> {
    let database = match &session {
        Some(name) => {
            let shown: SessionAnswer =
                context.ask(&Call::get(format!("/api/sessions/{}", encode(name)))).await?;
            Some(shown.database)
        }
        None => None,
    };
    let ask = async |at: String| -> Result<PositionAnswer, Failure> {
        let query = PositionQuery { at, session_id: session.clone(), database: None };
        context.ask(&Call::get("/api/position").query(&query)).await
    };
    let (from, to) = (ask("@".to_owned()).await?, ask(to).await?);
    if to.transaction < from.transaction {
        return Err(Failure::new(Kind::Usage, format!("the session is at {}, after {}", from.lsn, to.lsn))
            .hint("replay with a speed goes forwards; navigate goes back first"));
    }
    let mut before: Option<Timestamp> = None;
    let mut next = from.transaction;
    while next < to.transaction {
        let query = TransactionQuery {
            first: Some(next),
            until: Some(to.lsn.clone()),
            limit: Some(PAGE),
            database: database.clone(),
            ..TransactionQuery::default()
        };
        let page: TransactionPage = context.ask(&Call::get("/api/transactions").query(&query)).await?;
        if page.transactions.is_empty() {
            break;
        }
        for transaction in page.transactions {
            let committed: Option<Timestamp> = transaction.commit_time.parse().ok();
            let gap =
                before.zip(committed).and_then(|(before, now)| now.duration_since(before).try_into().ok());
            before = committed;
            tokio::time::sleep(speed.pause(gap.unwrap_or_default())).await;
            step(context, session.clone(), &transaction).await?;
            next = transaction.ordinal + 1;
        }
    }
    Ok(())
}

async fn step(context: &Context, session_id: Option<String>, to: &TransactionAnswer) -> Result<(), Failure> {
    let id = new_id();
    let position = Some(to.position.lsn.clone());
    let request = Request { id: Some(id.clone()), session_id, position, checkpoint_id: None };
    let done: Navigated = context.ask_for_move(&Call::post("/api/replay", &request), &id).await?;
    if context.output.is_json() {
        context.output.json_line(&done)?;
    } else {
        let entries = if to.entries == 1 { "1 entry".to_owned() } else { format!("{} entries", to.entries) };
        let tables = to.tables.join(", ");
        context.output.line(format_args!("{}  xid {}  {entries}  {tables}", to.commit_time, to.xid))?;
    }
    Ok(context.output.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_factor_or_max() {
        let gap = Duration::from_secs(10);
        let pause = |text: &str| text.parse::<Speed>().map(|speed| speed.pause(gap));
        assert_eq!(pause("1x"), Ok(gap));
        assert_eq!(pause("10"), Ok(Duration::from_secs(1)));
        assert_eq!(pause("0.5x"), Ok(Duration::from_secs(20)));
        assert_eq!(pause("max"), Ok(Duration::ZERO));
        for wrong in ["0x", "-1", "fast", "", "infx", "NaN"] {
            assert!(pause(wrong).is_err(), "{wrong}");
        }
    }
}
