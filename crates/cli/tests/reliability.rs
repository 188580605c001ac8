//! `docs/reliability.md` says which test holds what: each of them is there.
#![allow(missing_docs)]

use std::path::Path;

#[test]
fn every_test_that_the_page_on_reliability_names_is_there() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = std::fs::read_to_string(docs.join("reliability.md")).expect("the page");
    let mut named = 0;
    // [`name`](../path)
    for link in page.split("[`").skip(1) {
        let (name, rest) = link.split_once("`](").expect("a link of a test");
        let (path, _) = rest.split_once(')').expect("the end of a link");
        let source =
            std::fs::read_to_string(docs.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let function = format!("fn {name}(");
        let at = source.find(&function).unwrap_or_else(|| panic!("{path} has no {name}"));
        let before: Vec<&str> = source[..at].lines().rev().take(4).collect();
        assert!(
            before.iter().any(|line| line.contains("test]") || line.contains("test("))
                // In on_every_version!, which makes a test for each.
                || source[at..].starts_with(&format!("{function}version)")),
            "{name} in {path} is no test"
        );
        named += 1;
    }
    assert!(named > 30, "only {named} tests are named");
    // Files that are named without a test.
    for path in page.split('`').filter(|text| text.starts_with("crates/") && !text.contains(' ')) {
        assert!(docs.join("..").join(path).exists(), "{path} is not there");
    }
}
