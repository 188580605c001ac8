//! Connection strings that nobody thought of.
#![allow(missing_docs)]

use ptr_postgres::{Dsn, Password};
use ptr_testkit::{corpus, fuzz};

#[test]
fn whatever_reads_as_a_dsn_is_printed_so_that_it_reads_as_the_same() {
    let nothing = |_: &str| None;
    fuzz("connection strings", &corpus("dsns.txt"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        let Ok(dsn) = Dsn::parse(text, &nothing) else { return false };
        let printed = dsn.to_uri_with_password();
        let again = Dsn::parse(&printed, &nothing).unwrap_or_else(|error| panic!("{printed:?}: {error}"));
        assert_eq!(dsn, again, "{text:?} is printed as {printed:?}");
        // What is shown to people is the same whatever the password is.
        let other = dsn.with_user(dsn.user(), Some(Password::new("another")));
        assert_eq!(dsn.to_string(), other.to_string());
        true
    });
}
