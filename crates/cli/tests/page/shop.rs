//! A product that is up, with a small shop's history in it, and a browser that looks at its page.

use std::process::Command;

use crate::{
    browser::{Browser, chromium},
    support::{Product, both, wait_until},
};

/// A running product on embedded servers; down again at the end of the test.
pub struct Shop {
    pub product: Product,
    pub address: String,
}

impl Shop {
    /// Three orders; a checkpoint; then a migration that ships them all.
    pub fn open() -> Self {
        let shop = Self::empty();
        shop.sql("create table orders (id int primary key, state text, note text)");
        for id in 1..=3 {
            shop.sql(&format!("insert into orders values ({id}, 'new', null)"));
        }
        shop.product.run(&["checkpoint", "create", "before migration"]);
        shop.sql("update orders set state = 'shipped'");
        shop.sql("delete from orders where id = 3");
        // Everything is in the log when this returns.
        shop.product.run(&["checkpoint", "create", "after migration"]);
        shop
    }

    pub fn empty() -> Self {
        Self::of(Product::new(None, None))
    }

    /// With settings of the product.
    pub fn of(product: Product) -> Self {
        let said = product.output(&["up", "--detach", "--addr", ":0"]);
        assert!(said.status.success(), "{}", both(&said));
        let mut shop = Self { product, address: String::new() };
        let status = shop.product.json(&["status"]);
        shop.address = format!("http://{}", status["address"].as_str().expect("an address"));
        shop
    }

    /// What a statement on the primary says.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.psql("input", sql)
    }

    /// The orders as the replica has them.
    #[track_caller]
    pub fn replica(&self) -> String {
        self.psql("session", "select string_agg(id || state, ' ' order by id) from orders")
    }

    /// What a statement in another database of the output server says.
    #[track_caller]
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        self.psql_after("output", &["-c", &format!("\\connect {database}")], sql)
    }

    /// SIGKILL to the service, as a power cut would; the embedded servers go on.
    pub fn kill(&self) {
        let file = self.product.data_directory().join("run/service.json");
        let running: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).expect("it runs")).expect("JSON");
        let pid = running["pid"].as_u64().expect("a process");
        let sent = Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill starts");
        assert!(sent.success(), "no signal could be sent to {pid}");
        wait_until("the service to be gone", || !std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    }

    #[track_caller]
    fn psql(&self, which: &str, sql: &str) -> String {
        self.psql_after(which, &[], sql)
    }

    #[track_caller]
    fn psql_after(&self, which: &str, first: &[&str], sql: &str) -> String {
        let dsn = self.product.run(&["dsn", which]);
        let output = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn.trim()])
            .args(first)
            .args(["-c", sql])
            .output()
            .expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A browser on the page, once its list is there; `None` where there is no browser.
    pub fn browser(&self, path: &str) -> Option<Browser> {
        let mut browser = Browser::open(&chromium()?, 1440, 900);
        browser.go(&format!("{}{path}", self.address));
        Some(browser)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let said = self.product.output(&["down"]);
        if !said.status.success() {
            eprintln!("down failed: {}", both(&said));
        }
    }
}
