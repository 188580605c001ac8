//! Passwords in SQL, for everybody who shows it.
//!
//! The log keeps a statement as it was sent, because replay needs it; what is shown of it goes through [`redacted`].
//! Pure. It reads any text, also what is no SQL, and errs on the side of hiding: what it takes for a secret is
//! replaced whole.

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// Words that make the string literal behind them a secret: `PASSWORD 'x'`, `OPTIONS (password 'x', api_key 'y')`.
const SECRETS: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "api_key"];

/// SQL without the passwords in it: those of connection strings, of `PASSWORD '...'`, and of options whose names say
/// that they are secret, in function bodies too.
#[must_use]
pub fn redacted(sql: &str) -> String {
    let mut shown = String::with_capacity(sql.len());
    let mut before = Before::default();
    let mut rest = sql;
    while !rest.is_empty() {
        let (kind, token) = next_token(rest);
        rest = &rest[token.len()..];
        match kind {
            Token::Literal { open, close } | Token::Body { open, close } if before.is_secret() => {
                shown.extend([&token[..open], HIDDEN, &token[token.len() - close..]]);
            }
            Token::Literal { open, close } | Token::Body { open, close } => {
                let contents = &token[open..token.len() - close];
                shown.push_str(&token[..open]);
                shown.push_str(&match kind {
                    Token::Body { .. } if !before.is_connection() => redacted(contents),
                    _ => without_connection_secrets(contents, before.is_connection()),
                });
                shown.push_str(&token[token.len() - close..]);
            }
            Token::Word | Token::Other | Token::Blank => shown.push_str(token),
        }
        before.see(kind, token);
    }
    shown
}

/// What `pg_restore` and its like printed, without the passwords in the commands that it quotes.
#[must_use]
pub fn redacted_output(printed: &str) -> String {
    const QUOTES: &str = "Command was:";
    // What is said beside them is no SQL: an apostrophe in it begins no literal that the command could be in.
    let parts: Vec<String> = printed.split(QUOTES).map(redacted).collect();
    parts.join(QUOTES)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    /// A keyword or a name, quoted or not.
    Word,
    /// A string; how many bytes its quotes take at either end.
    Literal { open: usize, close: usize },
    /// A dollar-quoted string, and the same of it.
    Body { open: usize, close: usize },
    /// Space and comments.
    Blank,
    /// Anything else, a character.
    Other,
}

/// The word just before.
#[derive(Default)]
struct Before(String);

impl Before {
    fn see(&mut self, kind: Token, token: &str) {
        match kind {
            Token::Blank => {}
            Token::Word => self.0 = token.to_lowercase(),
            // `name => 'x'`, `name = 'x'`.
            Token::Other if matches!(token, "=" | ">" | ":") => {}
            _ => self.0.clear(),
        }
    }

    fn is_secret(&self) -> bool {
        SECRETS.iter().any(|secret| self.0.contains(secret))
    }

    fn is_connection(&self) -> bool {
        self.0 == "connection"
    }
}

/// The first token of a text that is not empty.
fn next_token(text: &str) -> (Token, &str) {
    let first = text.chars().next().unwrap_or(' ');
    let until = |end: usize| &text[..end];
    if first.is_whitespace() {
        (Token::Blank, until(end_where(text, |c| !c.is_whitespace())))
    } else if text.starts_with("--") {
        (Token::Blank, until(text.find('\n').unwrap_or(text.len())))
    } else if text.starts_with("/*") {
        (Token::Blank, until(text.find("*/").map_or(text.len(), |end| end + 2)))
    } else if first == '\'' {
        literal(text, 0, false)
    } else if matches!(first, 'e' | 'E') && text[1..].starts_with('\'') {
        literal(text, 1, true)
    } else if text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("u&'")) {
        literal(text, 2, false)
    } else if first == '"' {
        (Token::Word, until(text[1..].find('"').map_or(text.len(), |end| end + 2)))
    } else if let Some(quote) = dollar_quote(text) {
        match text[quote..].find(&text[..quote]) {
            Some(end) => (Token::Body { open: quote, close: quote }, until(end + 2 * quote)),
            None => (Token::Other, until(1)),
        }
    } else if first.is_alphanumeric() || first == '_' {
        (Token::Word, until(end_where(text, |c| !(c.is_alphanumeric() || matches!(c, '_' | '$')))))
    } else {
        (Token::Other, until(first.len_utf8()))
    }
}

fn end_where(text: &str, ends: impl Fn(char) -> bool) -> usize {
    text.find(ends).unwrap_or(text.len())
}

/// A string that begins at `at` with a quote; one that does not end goes to the end of the text.
fn literal(text: &str, at: usize, escapes: bool) -> (Token, &str) {
    let open = at + 1;
    let mut bytes = text.bytes().enumerate().skip(open).peekable();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'\\' if escapes => drop(bytes.next()),
            b'\'' if bytes.peek().is_some_and(|(_, next)| *next == b'\'') => drop(bytes.next()),
            b'\'' => return (Token::Literal { open, close: 1 }, &text[..=index]),
            _ => {}
        }
    }
    (Token::Literal { open, close: 0 }, text)
}

/// The length of `$$` or `$tag$` at the beginning.
fn dollar_quote(text: &str) -> Option<usize> {
    let tag = text.strip_prefix('$')?;
    let end = end_where(tag, |c| !(c.is_alphanumeric() || c == '_'));
    (tag[end..].starts_with('$') && !tag.starts_with(|c: char| c.is_ascii_digit())).then_some(end + 2)
}

/// A string's contents without the passwords of connection strings. A connection string that holds one and is written
/// in a way that is not known is hidden whole.
fn without_connection_secrets(contents: &str, is_connection: bool) -> String {
    let lower = contents.to_ascii_lowercase();
    let names_one = SECRETS.iter().any(|secret| lower.contains(secret));
    if is_connection && (names_one || lower.contains("://")) {
        return HIDDEN.to_owned();
    }
    if let Some(scheme) = lower.find("://")
        && let Some(at) = lower[scheme..].rfind('@')
    {
        let behind = after_each_secret(&contents[scheme + at..], &lower[scheme + at..]);
        return format!("{}{HIDDEN}{behind}", &contents[..scheme + 3]);
    }
    after_each_secret(contents, &lower)
}

/// Hides what follows the words that name a secret: `password=x`, `PASSWORD ''x''`.
fn after_each_secret(contents: &str, lower: &str) -> String {
    let mut shown = String::new();
    let mut done = 0;
    while let Some(found) = SECRETS
        .iter()
        .filter_map(|secret| lower[done..].find(secret).map(|at| done + at + secret.len()))
        .min()
    {
        let value =
            found + end_where(&contents[found..], |c| !(c.is_whitespace() || matches!(c, '=' | '\'' | '"')));
        let is_value = contents[found..value].contains(['=', '\'']);
        shown.push_str(&contents[done..value]);
        done = value;
        if is_value {
            let is_quoted = contents[found..value].contains('\'');
            let is_escaped = contents[value..].contains('\\') || contents[value..].contains("''''");
            done += match (is_escaped, is_quoted) {
                (true, _) => contents.len() - value,
                (false, true) => end_where(&contents[value..], |c| c == '\''),
                (false, false) => {
                    end_where(&contents[value..], |c| c.is_whitespace() || matches!(c, '\'' | '&'))
                }
            };
            shown.push_str(HIDDEN);
        }
    }
    shown.push_str(&contents[done..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_any_statement_is_shown() {
        for sql in [
            "CREATE SUBSCRIPTION s CONNECTION 'host=a password=HUSH' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION 'host=a password = ''HUSH HUSH''' PUBLICATION p",
            "ALTER SUBSCRIPTION s CONNECTION E'postgresql://u:HUSH@h/d'",
            "CREATE SUBSCRIPTION s CONNECTION $$host=a password=HUSH$$ PUBLICATION p",
            "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'u', password 'HUSH')",
            "ALTER USER MAPPING FOR u SERVER s OPTIONS (SET \"password\" 'HU''HUSH', ADD sslpassword E'\\'HUSH')",
            "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'h', aws_secret_key 'HUSH', api_key 'HUSH')",
            "CREATE ROLE r ENCRYPTED PASSWORD /* here */ 'HUSH'",
            "DO $do$ BEGIN EXECUTE 'CREATE USER MAPPING FOR u SERVER s OPTIONS (password ''HUSH'')'; END $do$",
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT dblink('dbname=x password=HUSH', 'q') $$",
            "SELECT 'postgres://u:HUSH@h/d', 'PASSWORD=HUSH'",
            "ALTER ROLE r PASSWORD 'HUSH",
            "ALTER ROLE r PASSWORD U&'HUSH'",
            "ALTER ROLE r PASSWORD $$HUSH$$",
            "SELECT 'postgres://u:H@HUSH@h/d?sslpassword=HUSH&x=1'",
        ] {
            let shown = redacted(sql);
            assert!(!shown.contains("HUSH") && shown.contains(HIDDEN), "{shown}");
        }
    }

    #[test]
    fn no_password_of_a_command_that_a_program_quotes_is_shown() {
        let printed = "pg_restore: error: could not execute query: ERROR:  it's not there\n\
            Command was: CREATE USER MAPPING FOR app SERVER far OPTIONS (\n    password 'HUSH',\n    \"user\" 'u'\n);\n\
            pg_restore: error: it isn't there\nCommand was: ALTER ROLE r PASSWORD 'HUSH';";
        let shown = redacted_output(printed);
        assert!(
            !shown.contains("HUSH") && shown.contains("it's not there") && shown.contains("\"user\" 'u'"),
            "{shown}"
        );
        let plain = "pg_restore: error: could not open input file \"a's\": No such file or directory";
        assert_eq!(redacted_output(plain), plain);
    }

    #[test]
    fn everything_else_is_shown_as_it_is() {
        for sql in [
            "CREATE TABLE users (id int, password text DEFAULT 'none', \"it's\" text) -- password='x'",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $x$ SELECT 'a' || $1 || 'b' $x$",
            "COMMENT ON TABLE t IS 'holds no password'; SELECT E'\\'', $1, $, '",
            "CREATE SUBSCRIPTION s CONNECTION 'host=a' PUBLICATION p",
            "ünïcödé 'ß' € $ü$",
            "",
        ] {
            assert_eq!(redacted(sql), sql);
        }
    }
}
