//! Statements without the passwords in them, for messages. Pure.

/// Words beside which a literal may be a password, or anything else that opens a door.
const TELLTALE: [&str; 7] =
    ["password", "passwd", "secret", "token", "user mapping", "subscription", "connection"];

/// The statement as it can be shown: no password in a URI, and, where it looks as if it held any other, no
/// literals at all. Rather too little than too much: the log has the whole.
#[must_use]
pub fn without_secrets(text: &str) -> String {
    let lower = text.to_lowercase();
    let text = without_uri_passwords(text);
    if TELLTALE.iter().any(|word| lower.contains(word)) { without_literals(&text) } else { text }
}

/// `scheme://user:***@host`.
fn without_uri_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, authority) = rest.split_at(start + 3);
        shown.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"' | '?' | '#');
        let end = authority.find(ends).unwrap_or(authority.len());
        // A password may hold any of the characters that end an authority, where somebody forgot to encode it.
        let end = authority[end..]
            .find('@')
            .filter(|at| !authority[end..end + at].contains(char::is_whitespace))
            .map_or(end, |at| end + at + 1);
        let (login, after) = authority.split_at(end);
        match login.rfind('@').and_then(|at| Some((login[..at].find(':')?, at))) {
            Some((colon, at)) => {
                shown.push_str(&login[..=colon]);
                shown.push_str("***");
                shown.push_str(&login[at..]);
            }
            None => shown.push_str(login),
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Everything between quotes, single or dollar, as `***`; what is never closed too.
fn without_literals(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(['\'', '$']) {
        shown.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some(quote) = opening(rest) else {
            shown.push('$');
            rest = &rest[1..];
            continue;
        };
        shown.push_str(&format!("{quote}***{quote}"));
        let escapes = quote == "'" && shown_escapes(text, rest);
        rest = after_literal(&rest[quote.len()..], quote, escapes);
    }
    shown.push_str(rest);
    shown
}

/// Whether the literal that `rest` begins with is an `E''` one.
fn shown_escapes(text: &str, rest: &str) -> bool {
    text[..text.len() - rest.len()].ends_with(['e', 'E'])
}

/// `'`, or `$tag$`.
fn opening(text: &str) -> Option<&str> {
    if text.starts_with('\'') {
        return Some(&text[..1]);
    }
    let end = text[1..].find('$')? + 2;
    let tag = &text[1..end - 1];
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &text[..end])
}

fn after_literal<'a>(mut text: &'a str, quote: &str, escapes: bool) -> &'a str {
    loop {
        let Some(end) = text.find(|c| quote.starts_with(c) || (escapes && c == '\\')) else { return "" };
        if text[end..].starts_with('\\') {
            let next = text[end + 1..].chars().next().map_or(0, char::len_utf8);
            text = &text[end + 1 + next..];
        } else if quote == "'" && text[end + 1..].starts_with('\'') {
            text = &text[end + 2..];
        } else if text[end..].starts_with(quote) {
            return &text[end + quote.len()..];
        } else {
            text = &text[end + 1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        let shown = [
            (
                "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'u', password 'it''s')",
                "CREATE USER MAPPING FOR u SERVER s OPTIONS (user '***', password '***')",
            ),
            (r"SELECT E'password=a\'b', 'c'", "SELECT E'***', '***'"),
            ("DO $x$ BEGIN PERFORM dblink('password=p'); END $x$; SELECT $1", "DO $x$***$x$; SELECT $1"),
            (
                "CREATE SERVER s OPTIONS (url 'postgres://me:p@ss@h/db')",
                "CREATE SERVER s OPTIONS (url 'postgres://me:***@h/db')",
            ),
            ("see http://h:80/x and p://u:a/b@h", "see http://h:80/x and p://u:***@h"),
            ("ALTER ROLE r PASSWORD 'open", "ALTER ROLE r PASSWORD '***'"),
        ];
        for (statement, expected) in shown {
            assert_eq!(without_secrets(statement), expected);
        }
    }

    #[test]
    fn what_holds_none_is_shown_whole() {
        let statement = "CREATE TABLE t (a text DEFAULT 'it''s', b int CHECK (b > 0)) -- 50 $";
        assert_eq!(without_secrets(statement), statement);
    }
}
