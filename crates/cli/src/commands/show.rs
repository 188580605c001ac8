//! `show`: one transaction and all it did.

use clap::Args;

use ptr_server::resource::transaction::{TransactionDetail, TransactionQuery};

use super::log::Printer;
use crate::{
    client::{Call, Client},
    context::Context,
    failure::Failure,
};

/// One transaction and all it did
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  postgres-test-replay show 812")]
pub struct Show {
    /// The transaction's id, as `log` shows it
    #[arg(value_name = "XID", value_parser = xid)]
    xid: u32,
}

fn xid(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("xid:").unwrap_or(text);
    digits.parse().map_err(|_| "a transaction id is a number below 2^32, such as 812".to_owned())
}

impl Show {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = context.client().await?;
        let result = self.stream(context, &client).await;
        client.close().await;
        result
    }

    async fn stream(&self, context: &Context, client: &Client) -> Result<(), Failure> {
        let path = format!("/api/transactions/{}", self.xid);
        let mut query = TransactionQuery { database: context.database()?, ..TransactionQuery::default() };
        let mut printer = Printer::new(&context.output);
        loop {
            let page: TransactionDetail = client.ask(&Call::get(&path).query(&query)).await?;
            printer.page(&page.entries)?;
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(());
            }
        }
    }
}
