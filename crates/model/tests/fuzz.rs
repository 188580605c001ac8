//! Texts that nobody thought of: positions, and statements that are shown.
#![allow(missing_docs)]

use ptr_model::{PositionExpression, check_checkpoint_name, redacted};
use ptr_testkit::{corpus, fuzz};

#[test]
fn whatever_reads_as_a_position_is_printed_so_that_it_reads_as_the_same() {
    fuzz("positions", &corpus("positions.txt"), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        let Ok(position) = text.parse::<PositionExpression>() else { return false };
        let printed = position.to_string();
        let again =
            printed.parse::<PositionExpression>().unwrap_or_else(|error| panic!("{printed:?}: {error}"));
        assert_eq!(position, again, "{text:?} is printed as {printed:?}");
        // A name that a checkpoint may have reads as that checkpoint and as nothing else.
        if check_checkpoint_name(text).is_ok() {
            assert_eq!(position, PositionExpression::Checkpoint(text.to_owned()), "{text:?}");
        }
        true
    });
}

#[test]
fn whatever_is_shown_of_a_statement_is_shown_the_same_when_it_is_shown_again() {
    fuzz("statements that are shown", &corpus("statements.sql.txt"), |input| {
        let Ok(sql) = std::str::from_utf8(input) else { return false };
        let shown = redacted(sql);
        assert_eq!(redacted(&shown), shown);
        true
    });
}
