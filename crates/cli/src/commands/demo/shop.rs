//! A small shop, as an application of anybody's: it connects to its database and sells things.

use ptr_postgres::{Connection, Dsn, SessionSettings, connect};

use crate::failure::{Failure, Kind};

const SCHEMA: &str = "
    CREATE SCHEMA shop;
    CREATE TABLE shop.customers (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, email text NOT NULL UNIQUE, city text);
    CREATE TABLE shop.products (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, price numeric(8, 2) NOT NULL, stock int NOT NULL);
    CREATE TABLE shop.orders (
        id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id int NOT NULL REFERENCES shop.customers,
        state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'paid', 'shipped', 'cancelled')),
        ordered_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE shop.order_items (
        order_id int REFERENCES shop.orders ON DELETE CASCADE, product_id int REFERENCES shop.products,
        quantity int NOT NULL, PRIMARY KEY (order_id, product_id));
    INSERT INTO shop.products (name, price, stock) VALUES
        ('Teapot', 24.90, 40), ('Cup', 7.50, 120), ('Darjeeling, 100 g', 11.20, 80), ('Earl Grey, 100 g', 8.40, 90),
        ('Strainer', 4.75, 60), ('Honey', 6.30, 45), ('Scale', 39.00, 15), ('Kettle', 54.50, 20);
    INSERT INTO shop.customers (name, email, city) VALUES
        ('Ada', 'ada@example.com', 'London'), ('Grace', 'grace@example.com', 'New York'),
        ('Edsger', 'edsger@example.com', 'Rotterdam'), ('Barbara', 'barbara@example.com', 'Boston');";

/// A migration as it should be: a column with a default, an index.
const REVIEWS: &str = "
    CREATE TABLE shop.reviews (
        product_id int REFERENCES shop.products, customer_id int REFERENCES shop.customers,
        stars int NOT NULL CHECK (stars BETWEEN 1 AND 5), words text, PRIMARY KEY (product_id, customer_id));
    ALTER TABLE shop.orders ADD COLUMN note text;
    CREATE INDEX orders_by_state ON shop.orders (state);";

/// A migration that loses money: the factor of 100 is forgotten, and the column that knew better is dropped.
const PRICES_IN_CENTS: &str = "
    ALTER TABLE shop.products ADD COLUMN price_cents int;
    UPDATE shop.products SET price_cents = price;
    ALTER TABLE shop.products ALTER COLUMN price_cents SET NOT NULL;
    ALTER TABLE shop.products DROP COLUMN price;";

const NAMES: [&str; 12] = [
    "Alan",
    "Donald",
    "Frances",
    "John",
    "Katherine",
    "Ken",
    "Leslie",
    "Margaret",
    "Niklaus",
    "Radia",
    "Tim",
    "Tony",
];
const CITIES: [&str; 5] = ["Berlin", "Lyon", "Oslo", "Turin", "Vienna"];
const WORDS: [&str; 4] =
    ["Lovely.", "Arrived broken; a new one came at once.", "As described", "Too hot to hold."];

/// The shop, with its connection.
pub struct Shop {
    connection: Connection,
    /// Where chance is; a shop that is started again does other things.
    chance: u64,
}

impl Shop {
    /// Connects.
    pub async fn open(dsn: &Dsn) -> Result<Self, Failure> {
        let connection = connect(dsn, &SessionSettings::named("shop")).await.map_err(|error| {
            Failure::new(Kind::Unreachable, format!("the shop does not reach its database: {error}"))
        })?;
        let mut shop = Self { connection, chance: 0x9e37_79b9_7f4a_7c15 };
        if shop.is_there().await? {
            let orders = shop.count("SELECT count(*) FROM shop.orders").await?;
            for _ in 0..orders {
                shop.below(2);
            }
        }
        Ok(shop)
    }

    /// Whether it was opened before.
    pub async fn is_there(&self) -> Result<bool, Failure> {
        Ok(self.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'").await? == 1)
    }

    /// Tables that somebody else keeps in this database.
    pub async fn foreign_tables(&self) -> Result<i64, Failure> {
        let sql = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'
                   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'postgres_test_replay', 'shop')
                   AND n.nspname NOT LIKE 'pg\\_%'";
        self.count(sql).await
    }

    /// Makes its schema, and puts something on the shelves.
    pub async fn create(&self) -> Result<(), Failure> {
        self.run(SCHEMA).await
    }

    /// The migration that is as it should be.
    pub async fn add_reviews(&self) -> Result<(), Failure> {
        self.run(REVIEWS).await
    }

    /// The migration that is not.
    pub async fn prices_in_cents(&self) -> Result<(), Failure> {
        self.run(PRICES_IN_CENTS).await
    }

    /// Something that happens in a shop, as one transaction.
    pub async fn trade(&mut self) -> Result<(), Failure> {
        let sql = match self.below(20) {
            0..=8 => self.order(),
            9..=12 => step("new", "paid"),
            13..=15 => step("paid", "shipped"),
            16 => cancel(),
            17 => self.customer(),
            18 => "UPDATE shop.products SET stock = stock + 30 WHERE stock < 30".to_owned(),
            _ => self.review_or_move().await?,
        };
        self.run(&sql).await
    }

    fn order(&mut self) -> String {
        let mut sql = "INSERT INTO shop.orders (customer_id)
                       SELECT id FROM shop.customers ORDER BY random() LIMIT 1;\n"
            .to_owned();
        let first = self.below(8);
        for item in 0..=self.below(3) {
            let (product, quantity) = ((first + item) % 8 + 1, self.below(3) + 1);
            sql.push_str(&format!(
                "INSERT INTO shop.order_items SELECT max(id), {product}, {quantity} FROM shop.orders;
                 UPDATE shop.products SET stock = stock - {quantity} WHERE id = {product};\n"
            ));
        }
        sql
    }

    fn customer(&mut self) -> String {
        let (name, city) = (NAMES[self.index(NAMES.len())], CITIES[self.index(CITIES.len())]);
        let address = format!("{}{}@example.com", name.to_lowercase(), self.below(10_000));
        format!(
            "INSERT INTO shop.customers (name, email, city) VALUES ('{name}', '{address}', '{city}')
             ON CONFLICT DO NOTHING"
        )
    }

    async fn review_or_move(&mut self) -> Result<String, Failure> {
        let reviews =
            self.count("SELECT count(*) FROM pg_tables WHERE schemaname = 'shop' AND tablename = 'reviews'");
        if reviews.await? == 0 {
            let city = CITIES[self.index(CITIES.len())];
            return Ok(format!("UPDATE shop.customers SET city = '{city}' WHERE id = {}", self.below(4) + 1));
        }
        let (product, customer, stars) = (self.below(8) + 1, self.below(4) + 1, self.below(5) + 1);
        let words = WORDS[self.index(WORDS.len())];
        Ok(format!(
            "INSERT INTO shop.reviews VALUES ({product}, {customer}, {stars}, '{words}')
             ON CONFLICT (product_id, customer_id) DO UPDATE SET stars = excluded.stars, words = excluded.words"
        ))
    }

    async fn run(&self, sql: &str) -> Result<(), Failure> {
        // Statements that are sent together are one transaction.
        self.connection.batch_execute(sql).await.map_err(failed)
    }

    async fn count(&self, sql: &str) -> Result<i64, Failure> {
        Ok(self.connection.query_one(sql, &[]).await.map_err(failed)?.get(0))
    }

    /// A number below another, as chance has it: xorshift.
    fn below(&mut self, most: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % most
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

/// The oldest order in one state comes into the next.
fn step(from: &str, to: &str) -> String {
    format!(
        "UPDATE shop.orders SET state = '{to}' WHERE id = (SELECT min(id) FROM shop.orders WHERE state = '{from}')"
    )
}

/// An order that nobody paid goes away, and what was in it back on the shelf.
fn cancel() -> String {
    "UPDATE shop.products p SET stock = stock + i.quantity FROM shop.order_items i
         WHERE i.product_id = p.id AND i.order_id = (SELECT max(id) FROM shop.orders WHERE state = 'new');
     DELETE FROM shop.order_items WHERE order_id = (SELECT max(id) FROM shop.orders WHERE state = 'new');
     UPDATE shop.orders SET state = 'cancelled' WHERE id = (SELECT max(id) FROM shop.orders WHERE state = 'new')"
        .to_owned()
}

fn failed(error: impl std::error::Error) -> Failure {
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    Failure::new(Kind::Failed, format!("the shop's statement failed: {error}{cause}"))
        .hint("start the demo again; it goes on where it was")
}
