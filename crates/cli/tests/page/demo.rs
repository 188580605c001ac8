//! The demo's story, as somebody who starts it sees it and goes through it: by mouse, then by keyboard alone.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    PLACE,
    browser::{Browser, chromium},
    no_errors,
    support::{Product, Running, both, wait_until},
};

const BEFORE: &str = "before prices in cents";
const AFTER: &str = "after prices in cents";

struct Demo {
    product: Product,
    running: Running,
    address: String,
}

impl Demo {
    fn start() -> Self {
        let product = Product::new(None, None);
        let running = product.spawn("demo", &["demo", "--addr", "127.0.0.1:0"]);
        let mut demo = Self { product, running, address: String::new() };
        demo.wait_until_told();
        demo
    }

    fn wait_until_told(&mut self) {
        self.running.wait_for_text("The shop goes on selling");
        let printed = self.running.printed();
        let mut words = printed.split_whitespace().rev();
        words.find(|word| word.starts_with("http://")).expect("an address").clone_into(&mut self.address);
    }

    /// What the session's database, or the primary, says.
    fn sql(&self, which: &str, sql: &str) -> String {
        let dsn = self.product.run(&["dsn", which]);
        let output = std::process::Command::new("psql")
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn.trim(), "-c", sql])
            .output()
            .expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn teapot(&self, column: &str) -> String {
        self.sql("session", &format!("select {column} from shop.products where name = 'Teapot'"))
    }

    /// Ctrl-C, and until it is gone.
    fn interrupt(&mut self) {
        let pid = Pid::from_child(&self.running.child);
        kill_process(pid, Signal::INT).expect("it runs");
        wait_until("the demo to end", || self.running.child.try_wait().expect("a child").is_some());
        let left = self.product.data_directory().join("run/service.json");
        assert!(!left.exists(), "{}", self.running.printed());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if matches!(self.running.child.try_wait(), Ok(None)) {
            drop(self.product.output(&["down"]));
        }
    }
}

fn by_mouse(demo: &Demo, page: &mut Browser) {
    page.wait_for_text(PLACE, "(before prices in cents)");
    // What went wrong is found by looking at the checkpoint after it.
    page.click("[aria-label='Look at checkpoint after prices in cents']");
    page.wait_for_text("#inspector", "DROP COLUMN price");
    let changes = page.text("#inspector");
    assert!(changes.contains("ADD COLUMN price_cents") && changes.contains("25"), "{changes}");
    assert_eq!(demo.teapot("price"), "24.90", "looking moves nothing");
    page.click("[aria-label='Go here: checkpoint after prices in cents']");
    page.wait_for_text(PLACE, "(after prices in cents)");
    assert_eq!(demo.teapot("price_cents"), "25");
    // Back over the schema change: the way is asked about first.
    page.click("#undo");
    page.wait_for_text("#dialog[open]", "GO THERE BY KEYFRAME?");
    page.click_button("#dialog", "Go there");
    page.wait_for_text(PLACE, "(before prices in cents)");
    assert_eq!(demo.teapot("price"), "24.90");
    page.wait_for("document.querySelectorAll('.tx.ahead').length > 5");
    page.click("[aria-label='Compare checkpoint after prices in cents with another position']");
    page.click_button("#dialog", "Compare");
    page.wait_for_text("#dialog[open]", "Schema changes between");
    page.click_button("#dialog", "Close");
    // The shop goes on while somebody looks.
    let seen = page.eval("document.querySelector('#place').innerText");
    page.wait_for(&format!("document.querySelector('#place').innerText !== {seen}"));
}

fn by_keyboard(demo: &Demo, page: &mut Browser) {
    page.wait_for_text(PLACE, "(before prices in cents)");
    page.wait_for("document.querySelectorAll('.tx').length > 5");
    page.key("/");
    page.write("drop column price");
    page.key("Enter");
    page.wait_for("location.search.includes('text=drop')");
    page.wait_for("document.querySelectorAll('.tx').length === 1");
    page.wait_for_text(".looked", "all of them: 1 transaction found");
    page.key("Escape");
    page.key("j");
    page.wait_for_text("#inspector", "DROP COLUMN price");
    page.key("J");
    page.wait_for_text(".plan", "The replica is here");
    page.key("K");
    page.wait_for_text(".plan", "forward");
    page.key("Enter");
    page.wait_for_text(PLACE, "(after prices in cents)");
    assert_eq!(demo.teapot("price_cents"), "25");
    page.key("u");
    page.wait_for_text("#dialog[open]", "GO THERE BY KEYFRAME?");
    page.key("Enter");
    page.wait_for_text(PLACE, "(before prices in cents)");
    assert_eq!(demo.teapot("price"), "24.90");
    page.key("r");
    page.wait_for_text(PLACE, "(after prices in cents)");
    page.key("u");
    page.wait_for_text("#dialog[open]", "GO THERE BY KEYFRAME?");
    page.key("Enter");
    page.wait_for_text(PLACE, "(before prices in cents)");
    assert_eq!(demo.teapot("price"), "24.90");
    page.key("c");
    page.wait_for("document.querySelector('#dialog input') === document.activeElement");
    page.write("found it");
    page.key("Enter");
    page.wait_for_text("#checkpoint-list", "found it");
    // Enter made the checkpoint, and nothing else.
    assert_eq!(demo.teapot("price"), "24.90");
    page.wait_for("fetch('/api/moves').then((answer) => answer.json()).then((all) => { window.moves = all; }) && window.moves?.every((one) => one.state === 'done')");
    assert_eq!(page.eval("window.moves.length"), 8);
}

#[test]
fn the_demos_story_by_mouse_and_by_keyboard_and_the_demo_again() {
    let Some(chromium) = chromium() else { return };
    let mut demo = Demo::start();
    let mut page = Browser::open(&chromium, 1440, 900);
    page.go(&demo.address);
    by_mouse(&demo, &mut page);
    page.go(&demo.address);
    by_keyboard(&demo, &mut page);
    no_errors(&mut page);
    drop(page);

    // The commands find the same by text and by key.
    let found = demo.product.run(&["log", "--grep", "Drop Column PRICE"]);
    assert_eq!(found.matches("DDL").count(), 1, "{found}");
    let teapot = demo.product.run(&["log", "--table", "shop.products", "--key", "1", "--until", BEFORE]);
    let same =
        demo.product.run(&["log", "--table", "shop.products", "--key", "name=Teapot", "--until", BEFORE]);
    assert!(teapot.contains("Teapot") && !teapot.contains("Cup"), "{teapot}");
    assert_eq!(teapot, same);

    let orders = demo.sql("input", "select count(*) from shop.orders").parse::<u32>().expect("a number");
    demo.interrupt();
    let again = demo.product.spawn("again", &["demo", "--addr", "127.0.0.1:0"]);
    demo.running = again;
    demo.wait_until_told();
    let printed = demo.running.printed();
    assert!(printed.contains("the shop is open again") && !printed.contains("migration that"), "{printed}");
    let now = || demo.sql("input", "select count(*) from shop.orders").parse::<u32>().expect("a number");
    wait_until("another order", || now() > orders);
    assert_eq!(demo.teapot("price"), "24.90");
    demo.product.run(&["down"]);
    wait_until("the demo to end", || demo.running.child.try_wait().expect("a child").is_some());
}

#[test]
fn the_demo_writes_into_nobodys_database() {
    let product = Product::new(Some("postgresql://nobody@127.0.0.1:9/testdb"), None);
    let said = product.output(&["demo"]);
    assert_eq!(said.status.code(), Some(4), "{}", both(&said));
    assert!(both(&said).contains("INPUT_DSN is set"), "{}", both(&said));
}

/// Makes the pictures of README.md again, in the folder that `PTR_SCREENSHOTS` names.
#[test]
#[ignore = "makes pictures: PTR_SCREENSHOTS=docs/images"]
fn screenshots() {
    let Some(folder) = std::env::var_os("PTR_SCREENSHOTS").map(PathBuf::from) else { return };
    let Some(chromium) = chromium() else { return };
    std::fs::create_dir_all(&folder).expect("a folder");
    let demo = Demo::start();
    for (name, scheme, width, height) in [
        ("page-light.png", "light", 1280, 860),
        ("page-dark.png", "dark", 1280, 860),
        ("narrow-light.png", "light", 700, 1400),
        ("narrow-dark.png", "dark", 700, 1400),
    ] {
        let mut page = Browser::open(&chromium, width, height);
        page.scheme(scheme);
        page.go(&demo.address);
        page.wait_for_text(PLACE, "(before prices in cents)");
        page.click(&format!("[aria-label='Look at checkpoint {AFTER}']"));
        page.wait_for_text("#inspector", "DROP COLUMN price");
        page.wait_for_text(".plan", "forward");
        page.eval("document.querySelector('.viewport').parentNode.scrollIntoView({ block: 'nearest' }); window.scrollTo(0, 0)");
        // A frame after the next one everything is drawn where it stays.
        page.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
        page.wait_for("document.getAnimations().every((one) => one.playState === 'finished')");
        std::fs::write(folder.join(name), page.picture()).expect("the picture is written");
    }
}
