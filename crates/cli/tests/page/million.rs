//! A history of a million transactions: the list scrolls over it, the timeline shows it, neither holds it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ptr_testkit::{
    ClusterRole, HandwrittenLog, HandwrittenTable, ServerVersion, TestServer, TestServerOptions,
};

use crate::{
    browser::{Browser, chromium},
    support::Product,
};

const TRANSACTIONS: u32 = 1_000_000;

/// The page's memory, in bytes.
const MOST_MEMORY: u64 = 60_000_000;

/// What a page takes, after a collection.
struct Memory {
    /// Its JavaScript.
    script: u64,
    /// Pages of memory that its renderer's process has for itself, Chromium's own part of it included.
    private: u64,
    /// With its share of what processes have in common.
    share: u64,
    nodes: u64,
}

impl std::fmt::Display for Memory {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
        let [script, private, share] = [self.script, self.private, self.share].map(tenths);
        write!(
            to,
            "{script} of JavaScript, {} nodes, process {private} private, {share} with its share",
            self.nodes
        )
    }
}

fn memory(page: &mut Browser) -> Memory {
    page.call("HeapProfiler.collectGarbage", serde_json::json!({}));
    let script =
        page.call("Runtime.getHeapUsage", serde_json::json!({}))["usedSize"].as_f64().expect("a number");
    let nodes =
        page.call("Memory.getDOMCounters", serde_json::json!({}))["nodes"].as_u64().expect("a number");
    // The page's process is the one that worked; others wait for pages to come.
    let mut renderers = page.renderers();
    renderers.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (process, _) = renderers[0];
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("it runs");
    let kilobytes = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    };
    let private = (kilobytes("Private_Clean:") + kilobytes("Private_Dirty:")) * 1024;
    Memory {
        script: format!("{script:.0}").parse().expect("a number"),
        private,
        share: kilobytes("Pss:") * 1024,
        nodes,
    }
}

/// The memory of a renderer that shows nothing.
fn empty(chromium: &std::path::PathBuf) -> Memory {
    memory(&mut Browser::open(chromium, 1440, 900))
}

fn write(directory: &Path) {
    let mut log = HandwrittenLog::begin(directory, Duration::from_millis(10));
    let items = HandwrittenTable::new("items", &[("id", true, 23, "integer")]);
    for number in 0..TRANSACTIONS {
        log.transaction([items.insert(&[&number.to_string()])]);
        if number % 10_000 == 0 {
            log.flush();
        }
    }
    log.close();
}

/// Numbers of the transactions in sight.
fn rows(page: &mut Browser) -> Vec<u64> {
    let texts = page.eval(
        "[...document.querySelectorAll('.tx')].sort((a, b) => a.dataset.row - b.dataset.row)\
         .map((row) => row.firstChild.innerText.replace(/\\D/g, ''))",
    );
    let texts = texts.as_array().expect("rows").iter().map(|text| text.as_str().expect("a text"));
    texts.map(|text| text.parse().expect("a number")).collect()
}

/// Prints how long it takes until the newest transactions are drawn and one that is chosen by key shows what it did,
/// several times over, and what goes over the wire; `script/bench page` shows it. No time is asserted.
fn measure_loading(page: &mut Browser, address: &str) {
    let look = page.before_each_page(
        "window.drawn = null; window.usable = null; const look = () => { \
           if (!window.drawn && document.querySelector('.tx .cell:nth-child(5)')?.innerText) { \
             window.drawn = performance.now(); \
             document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'j', bubbles: true, cancelable: true })); } \
           if (document.querySelector('#inspector .change')) window.usable = performance.now(); \
           else requestAnimationFrame(look); }; requestAnimationFrame(look);",
    );
    for _ in 0..5 {
        page.go(address);
        page.wait_for("window.usable");
        println!(
            "loading: drawn after {} ms, a transaction chosen by key shown after {} ms",
            page.eval("Math.round(window.drawn)"),
            page.eval("Math.round(window.usable)")
        );
        page.key("Escape");
        page.wait_for("location.search === ''");
    }
    page.no_longer(look);
    println!(
        "first load: {} bytes over the wire",
        page.eval(
            "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')] \
             .reduce((sum, one) => sum + (one.transferSize ?? 0), 0)"
        )
    );
}

#[test]
fn a_million_transactions_scroll() {
    let Some(chromium) = chromium() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options = TestServerOptions { role: ClusterRole::Replica, ..TestServerOptions::default() };
    let replica = runtime.block_on(TestServer::start(ServerVersion::Debian15, options));
    let output = replica.dsn("replica").to_uri_with_password();
    let product = Product::new(Some("postgresql://nobody@127.0.0.1:9/testdb"), Some(&output));
    let started = Instant::now();
    write(&product.data_directory().join("log/testdb"));
    println!("written in {:?}", started.elapsed());
    let mut service = product.spawn("ipc", &["ipc", "--addr", "127.0.0.1:0"]);
    service.wait_for_text("http://");
    let printed = service.printed();
    let address = printed.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");

    let mut page = Browser::open(&chromium, 1440, 900);
    page.go(address);
    page.wait_for_text("#range", "1,000,000 transactions");
    page.wait_for("document.querySelector('.tx')?.innerText.includes('999,999')");
    // What is wrong is said, and the history can be looked at all the same.
    page.wait_for_text("#states", "The input server does not answer");
    if let Some(axe) = crate::audit() {
        page.eval(&format!("{axe}; 1"));
        crate::assert_accessible(&mut page, "a server that does not answer");
    }
    measure_loading(&mut page, address);
    for by in ["transaction", "time"] {
        let took = page.eval(&format!(
            "(async () => {{ const start = performance.now(); \
             await (await fetch('/api/histogram?buckets=160&by={by}')).json(); return performance.now() - start; }})()"
        ));
        println!("histogram by {by}: {took} ms");
    }

    // The wheel goes row by row, however high the list is.
    let place = page.eval(
        "(() => { const box = document.querySelector('.viewport').getBoundingClientRect(); \
         return [box.x + 100, box.y + 60]; })()",
    );
    let place = [0, 1].map(|part| place[part].as_f64().expect("a number"));
    for _ in 0..10 {
        page.wheel(place, 280.0);
    }
    page.wait_for("[...document.querySelectorAll('.tx')].some((row) => row.dataset.row === '100')");
    let seen = rows(&mut page);
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1] + 1), "{seen:?}");
    // The scroll bar reaches the other end.
    page.eval("document.querySelector('.viewport').scrollTop = 1e9");
    page.wait_for("[...document.querySelectorAll('.tx')].some((row) => row.firstChild?.innerText === '0')");
    page.wait_for("[...document.querySelectorAll('.tx')].every((row) => row.innerText.includes('items'))");
    // A link to anywhere in it is found at once.
    page.go(&format!("{address}/?at=xid:500100"));
    page.wait_for_text("#inspector-title", "TRANSACTION 500,000");
    page.wait_for("document.querySelector('.tx.chosen')?.innerText.includes('500,000')");
    // The thumb in the middle, dragged to a quarter.
    let track = page.eval("(() => { const box = document.querySelector('.slider').getBoundingClientRect(); return [box.x, box.y + box.height / 2, box.width]; })()");
    let [x, y, width] = [0, 1, 2].map(|part| track[part].as_f64().expect("a number"));
    page.drag([x + width / 2.0, y], [x + width / 4.0, y]);
    page.wait_for(
        "Math.abs(document.querySelector('[role=slider]').getAttribute('aria-valuenow') - 250000) < 8000",
    );
    page.wait_for("document.querySelector('.tx.chosen')?.innerText.includes('items')");

    // Drawn over a part of the timeline, it shows that part, and so does the list.
    let drawn = page.eval("(() => { const box = document.querySelector('#track svg').getBoundingClientRect(); return [box.x, box.y + box.height / 2, box.width]; })()");
    let [x, y, width] = [0, 1, 2].map(|part| drawn[part].as_f64().expect("a number"));
    page.drag([x + width * 0.1, y], [x + width * 0.2, y]);
    page.wait_for("location.search.includes('zoom=0/')");
    page.wait_for("document.querySelectorAll('#track g').length > 90");
    page.wait_for("/^(9|10)\\d,\\d{3} transactions/.test(document.querySelector('#range').innerText)");
    let first = rows(&mut page)[0];
    assert!((195_000..205_000).contains(&first), "{first}");
    page.click("#whole");
    page.wait_for_text("#range", "1,000,000 transactions");

    // A text is looked for part by part, which is said, until all was looked at; the command does the same.
    page.key("Escape");
    page.key("/");
    page.write("123456");
    page.key("Enter");
    page.wait_for_text(".looked", "looked at, more to come");
    page.wait_for_text(".looked", "1,000,000 entries looked at, all of them: 1 transaction found");
    page.wait_for("document.querySelectorAll('.tx').length === 1");
    assert_eq!(rows(&mut page), [123_456]);
    let found = product.run(&["log", "--grep", "123456", "--since", "xid:123000"]);
    assert!(found.contains("123456") && found.matches("INSERT").count() == 1, "{found}");
    page.click("#clear");
    page.wait_for("document.querySelector('.tx')?.innerText.includes('999,999')");

    assert!(page.eval("document.querySelectorAll('*').length").as_u64().expect("a number") < 3000);
    let (memory, empty) = (memory(&mut page), empty(&chromium));
    println!("memory after all of this: {memory}");
    println!("memory of a renderer with an empty page: {empty}");
    let own = memory.private.saturating_sub(empty.private);
    assert!(
        memory.script < MOST_MEMORY && own < MOST_MEMORY,
        "the page holds {memory}; an empty one {empty}"
    );
    crate::no_errors(&mut page);
}
