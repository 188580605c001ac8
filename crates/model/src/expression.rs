//! What users write to name a position.

use std::{fmt, str::FromStr};

use crate::{Lsn, Timestamp, Xid};

/// A position as it was written, before it is looked up in a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PositionExpression {
    /// `head`: after the last transaction of the log.
    Head,
    /// `@`, `@-3`, `@+1`: transactions back from, or forward of, where the session is.
    Session(i64),
    /// `0/16B3748`.
    Lsn(Lsn),
    /// `entry:42` or `#42`: before that entry's transaction if it is inside one.
    Entry(u64),
    /// `xid:812`: just after that transaction.
    Xid(Xid),
    /// An RFC 3339 time: after the last transaction, in log order, that committed at or before it.
    Time(Timestamp),
    /// `5m ago` or `-5m`, in microseconds before now.
    Ago(i64),
    /// The name or id of a checkpoint, `CREATION` and `MIGRATION` among them.
    Checkpoint(String),
}

/// What an expression is measured from. Given by the caller, because this crate has no clock and no sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// The ordinal of the session's position; `None` where no session is meant.
    pub session_ordinal: Option<u64>,
    /// Now.
    pub now: Timestamp,
}

/// Text that names no position.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExpressionError {
    /// Nothing was written.
    #[error(
        "the position is empty; write a checkpoint's name, head, @-1, an LSN, entry:42, xid:812, a time, or 5m ago"
    )]
    Empty,
    /// It begins like one of the forms and then does not hold.
    #[error("{text:?} reads like {form} but is none: {expected}")]
    Malformed {
        /// What was written.
        text: String,
        /// The form that it resembles.
        form: &'static str,
        /// What that form looks like.
        expected: &'static str,
    },
    /// A checkpoint must not be named like this.
    #[error("{name:?} cannot name a checkpoint: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
}

impl FromStr for PositionExpression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ExpressionError::Empty);
        }
        if text.eq_ignore_ascii_case("head") {
            return Ok(Self::Head);
        }
        parse_session(text)
            .or_else(|| parse_number(text))
            .or_else(|| parse_ago(text))
            .or_else(|| parse_lsn(text))
            .or_else(|| parse_time(text))
            .unwrap_or_else(|| Ok(Self::Checkpoint(text.to_owned())))
    }
}

type Parsed = Option<Result<PositionExpression, ExpressionError>>;

fn malformed(text: &str, form: &'static str, expected: &'static str) -> ExpressionError {
    ExpressionError::Malformed { text: text.to_owned(), form, expected }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn parse_session(text: &str) -> Parsed {
    let steps = text.strip_prefix('@')?;
    let number = match steps.as_bytes().first() {
        None => Some(0),
        Some(b'+' | b'-') if digits(&steps[1..]) => steps.parse().ok(),
        Some(_) => None,
    };
    Some(number.map(PositionExpression::Session).ok_or_else(|| {
        malformed(
            text,
            "a step from the session",
            "@ is where it is, @-3 three transactions back, @+1 one forward",
        )
    }))
}

fn parse_number(text: &str) -> Parsed {
    let lower = text.to_ascii_lowercase();
    if let Some(number) = lower.strip_prefix("entry:").or_else(|| lower.strip_prefix('#')) {
        let entry = digits(number).then(|| number.parse().ok()).flatten();
        return Some(
            entry
                .map(PositionExpression::Entry)
                .ok_or_else(|| malformed(text, "an entry", "entry:42 or #42, a number counted from 0")),
        );
    }
    let number = lower.strip_prefix("xid:")?;
    let xid = digits(number).then(|| number.parse().ok()).flatten();
    Some(
        xid.map(|xid| PositionExpression::Xid(Xid(xid)))
            .ok_or_else(|| malformed(text, "a transaction id", "xid:812, a number below 2^32")),
    )
}

fn parse_lsn(text: &str) -> Parsed {
    let (high, low) = text.split_once('/')?;
    let hexadecimal = |half: &str| half.bytes().all(|b| b.is_ascii_hexdigit());
    if !hexadecimal(high) || !hexadecimal(low) {
        return None;
    }
    Some(
        text.parse().map(PositionExpression::Lsn).map_err(|_| {
            malformed(text, "an LSN", "0/16B3748, two hexadecimal numbers of one to eight digits")
        }),
    )
}

fn parse_time(text: &str) -> Parsed {
    let bytes = text.as_bytes();
    let dated = bytes.len() >= 10
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[5..7].iter().all(u8::is_ascii_digit)
        && bytes[7] == b'-'
        && bytes[8..10].iter().all(u8::is_ascii_digit);
    dated.then(|| {
        text.parse().map(PositionExpression::Time).map_err(|_| {
            malformed(text, "a time", "2026-05-01T12:30:00Z, with Z or an offset such as +02:00")
        })
    })
}

fn parse_ago(text: &str) -> Parsed {
    let lower = text.to_ascii_lowercase();
    let span = match (lower.strip_suffix("ago"), lower.strip_prefix('-')) {
        (Some(span), _) if span.trim_start().starts_with(|c: char| c.is_ascii_digit()) => span.trim(),
        (None, Some(span)) => span.trim(),
        _ => return None,
    };
    Some(parse_span(span).map(PositionExpression::Ago).ok_or_else(|| {
        malformed(text, "a time span", "5m ago or -5m; units are ms, s, m, h, d, and 1h30m adds up")
    }))
}

/// Microseconds of a span such as `90s`, `1h30m` or `5 minutes`.
fn parse_span(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(number_end);
        let tail = tail.trim_start();
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_microseconds(unit)?)?)?;
        rest = tail.trim_start();
    }
    (!text.is_empty()).then_some(total)
}

fn unit_microseconds(unit: &str) -> Option<i64> {
    Some(match unit {
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000,
        "h" | "hour" | "hours" => 3_600_000_000,
        "d" | "day" | "days" => 86_400_000_000,
        _ => return None,
    })
}

/// Checks that a name can stand for a checkpoint: not empty, no control characters, at most 200 characters,
/// not one of the fixed two, and not like any other form of a position.
///
/// # Errors
/// [`ExpressionError::Name`] with the reason.
pub fn check_checkpoint_name(name: &str) -> Result<(), ExpressionError> {
    let refuse = |reason| Err(ExpressionError::Name { name: name.to_owned(), reason });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.trim() != name {
        return refuse("it begins or ends with a space");
    }
    if name.chars().count() > 200 {
        return refuse("it is longer than 200 characters");
    }
    if name.chars().any(char::is_control) {
        return refuse("it holds a control character");
    }
    if ["CREATION", "MIGRATION"].iter().any(|fixed| name.eq_ignore_ascii_case(fixed)) {
        return refuse("CREATION and MIGRATION are fixed checkpoints");
    }
    if uuid::Uuid::try_parse(name).is_ok() {
        return refuse("it reads like the id of a checkpoint");
    }
    match name.parse::<PositionExpression>() {
        Ok(PositionExpression::Checkpoint(_)) => Ok(()),
        Ok(_) | Err(_) => {
            refuse("it reads like another form of a position (head, @, an LSN, entry:, xid:, a time)")
        }
    }
}

impl fmt::Display for PositionExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Session(0) => f.write_str("@"),
            Self::Session(steps) => write!(f, "@{steps:+}"),
            Self::Lsn(lsn) => write!(f, "{lsn}"),
            Self::Entry(index) => write!(f, "entry:{index}"),
            Self::Xid(xid) => write!(f, "xid:{xid}"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Ago(microseconds) => {
                let milliseconds = microseconds / 1_000;
                // The largest unit that says it whole: 5m, not 300000ms.
                let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
                let whole = units.iter().find(|(_, length)| milliseconds != 0 && milliseconds % length == 0);
                match whole {
                    Some((unit, length)) => write!(f, "{}{unit} ago", milliseconds / length),
                    None => write!(f, "{milliseconds}ms ago"),
                }
            }
            Self::Checkpoint(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> PositionExpression {
        text.parse().unwrap()
    }

    #[test]
    fn each_form_is_recognised() {
        assert_eq!(parsed("HEAD"), PositionExpression::Head);
        assert_eq!(parsed("@"), PositionExpression::Session(0));
        assert_eq!(parsed("@-3"), PositionExpression::Session(-3));
        assert_eq!(parsed("@+1"), PositionExpression::Session(1));
        assert_eq!(parsed("0/16B3748"), PositionExpression::Lsn(Lsn(0x16B_3748)));
        assert_eq!(parsed("entry:42"), PositionExpression::Entry(42));
        assert_eq!(parsed("#42"), PositionExpression::Entry(42));
        assert_eq!(parsed("xid:812"), PositionExpression::Xid(Xid(812)));
        assert_eq!(parsed("5m ago"), PositionExpression::Ago(300_000_000));
        assert_eq!(parsed("-1h30m"), PositionExpression::Ago(5_400_000_000));
        for (typed, shown) in
            [("5m ago", "5m ago"), ("-1h30m", "90m ago"), ("48h ago", "2d ago"), ("0s ago", "0ms ago")]
        {
            assert_eq!(parsed(typed).to_string(), shown);
        }
        assert_eq!(parsed("2000-01-01T00:00:00Z"), PositionExpression::Time(Timestamp::from_postgres(0)));
        assert_eq!(parsed("CREATION"), PositionExpression::Checkpoint("CREATION".into()));
        assert_eq!(parsed("before/after"), PositionExpression::Checkpoint("before/after".into()));
        assert_eq!(parsed("two days ago"), PositionExpression::Checkpoint("two days ago".into()));
    }

    #[test]
    fn a_form_that_does_not_hold_is_an_error_and_no_name() {
        for text in [
            "",
            "  ",
            "@3",
            "@-",
            "@x",
            "0/",
            "/1",
            "0/123456789",
            "entry:",
            "#x",
            "xid:-1",
            "xid:4294967296",
            "2026-05-01",
            "2026-13-01T00:00:00Z",
            "-5",
            "5 fortnights ago",
            "-99999999999999999999d",
        ] {
            assert!(text.parse::<PositionExpression>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_name_that_reads_like_another_form_is_refused() {
        for name in [
            "head",
            "@",
            "@-1",
            "0/16B3748",
            "entry:1",
            "#1",
            "xid:1",
            "5m ago",
            "-5m",
            "creation",
            "Migration",
            "2026-05-01T00:00:00Z",
            "2026-05-01",
            "",
            " x",
            "a\nb",
            "0190a5a4-1c1f-7000-8000-000000000000",
        ] {
            assert!(check_checkpoint_name(name).is_err(), "{name:?} was accepted");
        }
        for name in ["before-update", "Before migration", "v1.2", "état", "x/y", "10/x"] {
            assert_eq!(check_checkpoint_name(name), Ok(()), "{name:?} was refused");
        }
    }

    #[test]
    fn what_is_printed_parses_back() {
        for text in ["head", "@", "@-3", "@+1", "0/16B3748", "entry:42", "xid:812", "some name"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }
}
