//! What happens in the demo: a shop opens, sells, migrates well, migrates badly, and the replica goes back to before.
//!
//! Each act looks whether it was done before, so a demo that is ended anywhere goes on there.

use std::time::Duration;

use ptr_postgres::Dsn;
use ptr_server::resource::{
    checkpoint::{CheckpointAnswer, CreateCheckpoint},
    navigation::{MoveAnswer, Navigate, Navigated},
    status::{DsnAnswer, Status},
};

use super::shop::Shop;
use crate::{
    client::{Call, Client},
    context::Context,
    failure::{Failure, Kind},
};

const OPENED: &str = "shop opened";
const REVIEWS: &str = "reviews added";
const BEFORE: &str = "before prices in cents";
const AFTER: &str = "after prices in cents";

/// Between two transactions: slow enough to be told apart on the timeline, quick enough to have a history soon.
const BUSY: Duration = Duration::from_millis(200);

/// The same once the story is told: something keeps happening.
const CALM: Duration = Duration::from_millis(1500);

/// Plays the shop until it is ended.
pub async fn tell(context: &Context, client: &Client) -> Result<(), Failure> {
    let dsn: DsnAnswer = client.ask(&Call::get("/api/dsn/input")).await?;
    let dsn = Dsn::parse(&dsn.uri.unwrap_or(dsn.dsn), &|_| None)
        .map_err(|error| Failure::new(Kind::Failed, error))?;
    let mut stage = Stage { context, client, shop: Shop::open(&dsn).await? };
    stage.open().await?;
    stage.migrate().await?;
    stage.break_it().await?;
    stage.go_back().await?;
    stage.say_what_to_do().await?;
    loop {
        tokio::time::sleep(CALM).await;
        stage.shop.trade().await?;
    }
}

struct Stage<'a> {
    context: &'a Context,
    client: &'a Client,
    shop: Shop,
}

impl Stage<'_> {
    async fn open(&mut self) -> Result<(), Failure> {
        if self.shop.is_there().await? {
            self.say("demo: the shop is open again");
        } else {
            let foreign = self.shop.foreign_tables().await?;
            if foreign > 0 {
                let what = format!(
                    "the demo was not begun: the embedded primary holds {foreign} tables of somebody else's"
                );
                return Err(Failure::new(Kind::Precondition, what)
                    .hint("run it in an empty folder, or give it one with --data-dir"));
            }
            self.say("demo: a shop opens: customers, products, orders");
            self.shop.create().await?;
        }
        self.once(OPENED, "The schema and what is on the shelves").await?;
        Ok(())
    }

    async fn migrate(&mut self) -> Result<(), Failure> {
        if self.has(REVIEWS).await? {
            return Ok(());
        }
        self.trade(24).await?;
        self.say("demo: a migration that goes well: reviews");
        self.shop.add_reviews().await?;
        self.trade(6).await?;
        self.once(REVIEWS, "After a migration that went well").await
    }

    async fn break_it(&mut self) -> Result<(), Failure> {
        if self.has(AFTER).await? {
            return Ok(());
        }
        if !self.has(BEFORE).await? {
            self.trade(24).await?;
            self.once(BEFORE, "All is well").await?;
            self.say("demo: a migration that goes wrong: prices in cents, but nobody multiplies by 100");
            self.shop.prices_in_cents().await?;
        }
        self.once(AFTER, "A teapot for a quarter of a coin").await?;
        self.trade(12).await
    }

    /// Takes the replica to head and back before the bad migration, once.
    async fn go_back(&self) -> Result<(), Failure> {
        let moves: Vec<MoveAnswer> = self.client.ask(&Call::get("/api/moves")).await?;
        if !moves.is_empty() {
            return Ok(());
        }
        self.say("demo: the replica goes to head, and back to before the migration");
        for position in ["head", BEFORE] {
            let request = Navigate { position: Some(position.into()), ..Navigate::default() };
            let moved: Navigated = self.client.ask(&Call::post("/api/navigate", &request)).await?;
            self.say(&format!("demo: at {position} by {} in {} ms", moved.strategy, moved.elapsed_ms));
        }
        Ok(())
    }

    async fn say_what_to_do(&self) -> Result<(), Failure> {
        let status: Status = self.client.ask(&Call::get("/api/status")).await?;
        let page = status.url.unwrap_or_default();
        self.say(&format!(
            "
The shop goes on selling. Look at what happened, in the page or from another terminal in this folder:

  {page}
  postgres-test-replay log --table products --op update
  postgres-test-replay diff '{BEFORE}' '{AFTER}'
  psql \"$(postgres-test-replay dsn input)\" -c 'select name, price_cents from shop.products'
  psql \"$(postgres-test-replay dsn session)\" -c 'select name, price from shop.products'
  postgres-test-replay navigate '{AFTER}'
  postgres-test-replay undo

Ctrl-C ends everything; the demo goes on where it was when it is started again."
        ));
        Ok(())
    }

    async fn trade(&mut self, times: u32) -> Result<(), Failure> {
        for _ in 0..times {
            self.shop.trade().await?;
            tokio::time::sleep(BUSY).await;
        }
        Ok(())
    }

    async fn has(&self, name: &str) -> Result<bool, Failure> {
        let all: Vec<CheckpointAnswer> = self.client.ask(&Call::get("/api/checkpoints")).await?;
        Ok(all.iter().any(|one| one.name == name))
    }

    /// A checkpoint now, unless there is one of that name.
    async fn once(&self, name: &str, description: &str) -> Result<(), Failure> {
        if self.has(name).await? {
            return Ok(());
        }
        let (name, description) = (name.to_owned(), Some(description.to_owned()));
        let request = CreateCheckpoint { name, description, ..CreateCheckpoint::default() };
        let made: CheckpointAnswer = self.client.ask(&Call::post("/api/checkpoints", &request)).await?;
        self.say(&format!("demo: checkpoint {:?} at {}", made.name, made.lsn));
        Ok(())
    }

    fn say(&self, text: &str) {
        self.context.output.prose(text);
    }
}
