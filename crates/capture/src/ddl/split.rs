//! Cuts a string of SQL into its statements, as the server's grammar would.
//!
//! A statement ends at a semicolon outside parentheses (`CREATE RULE ... DO (a; b)`) and outside the body of
//! an SQL-standard function (`BEGIN ATOMIC ... END`, in which `CASE` has an `END` of its own). Strings,
//! quoted names, dollar quotes and comments are the lexer's business.

use squawk_lexer::{LiteralKind, TokenKind, tokenize};

/// How quotes were read when the statement was parsed: `standard_conforming_strings`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Backslashes {
    /// `on`, the default: a backslash in `'...'` is a character.
    #[default]
    Ordinary,
    /// `off`: a backslash in `'...'` escapes the next character.
    Escape,
}

/// One statement of a string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqlStatement<'a> {
    /// From its first to its last token: surrounding comments, white space and the semicolon are not part of it.
    pub text: &'a str,
    /// Its words and signs in order.
    pub words: Vec<Word<'a>>,
}

/// A token of a statement that is neither white space nor comment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word<'a> {
    /// As written.
    pub text: &'a str,
    /// What it is.
    pub kind: WordKind,
    /// Inside how many parentheses and brackets.
    pub depth: usize,
}

/// What a [`Word`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WordKind {
    /// A keyword or an unquoted name.
    Bare,
    /// A name in double quotes.
    QuotedName,
    /// Anything else.
    Other,
}

/// Text that does not consist of whole statements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SplitError {
    /// A string, quoted name, dollar quote or comment has no end.
    #[error("a quote or comment has no end")]
    Unterminated,
    /// Parentheses do not match.
    #[error("parentheses do not match")]
    Unbalanced,
    /// A function's body has no END.
    #[error("BEGIN ATOMIC has no END")]
    OpenBody,
}

impl Word<'_> {
    /// Whether it is this keyword, given in upper case.
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == WordKind::Bare && self.text.eq_ignore_ascii_case(keyword)
    }

    /// The name that it means, `None` where it is no name.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self.kind {
            // As the server folds it where characters have several bytes: no other letters than ASCII's.
            WordKind::Bare => Some(self.text.to_ascii_lowercase()),
            WordKind::QuotedName => {
                let inner = self.text.strip_prefix('"')?.strip_suffix('"')?;
                Some(inner.replace("\"\"", "\""))
            }
            WordKind::Other => None,
        }
    }
}

/// Cuts `sql` into its statements; empty ones are left out.
///
/// # Errors
/// [`SplitError`] where it ends inside something.
pub fn split(sql: &str, backslashes: Backslashes) -> Result<Vec<SqlStatement<'_>>, SplitError> {
    let mut splitter = Splitter { sql, ..Splitter::default() };
    let mut at = 0;
    while at < sql.len() {
        at = splitter.scan(at, backslashes)?;
    }
    splitter.finish()
}

#[derive(Default)]
struct Splitter<'a> {
    sql: &'a str,
    statements: Vec<SqlStatement<'a>>,
    words: Vec<Word<'a>>,
    start: usize,
    end: usize,
    depth: usize,
    /// Open BEGIN ATOMIC and the CASEs in it.
    blocks: usize,
}

impl<'a> Splitter<'a> {
    /// Reads tokens from `at` on. Returns early after a string whose end the lexer, which knows ordinary
    /// backslashes only, would misjudge; the caller goes on from there.
    fn scan(&mut self, mut at: usize, backslashes: Backslashes) -> Result<usize, SplitError> {
        let rest = &self.sql[at..];
        for token in tokenize(rest) {
            let mut end = at + usize::try_from(token.len).expect("a token is shorter than 4 GiB");
            let plain_string = matches!(token.kind, TokenKind::Literal { kind: LiteralKind::Str { .. } });
            if plain_string && backslashes == Backslashes::Escape {
                end = end_of_escaped_string(self.sql, at).ok_or(SplitError::Unterminated)?;
                self.word(at, end, WordKind::Other);
                return Ok(end);
            }
            self.token(token.kind, at, end)?;
            at = end;
        }
        Ok(self.sql.len())
    }

    fn token(&mut self, kind: TokenKind, at: usize, end: usize) -> Result<(), SplitError> {
        match kind {
            TokenKind::Whitespace | TokenKind::LineComment | TokenKind::BlockComment { terminated: true } => {
            }
            TokenKind::BlockComment { terminated: false }
            | TokenKind::QuotedIdent { terminated: false, .. } => {
                return Err(SplitError::Unterminated);
            }
            TokenKind::Literal { kind } if !is_terminated(kind) => return Err(SplitError::Unterminated),
            TokenKind::OpenParen | TokenKind::OpenBracket => {
                self.word(at, end, WordKind::Other);
                self.depth += 1;
            }
            TokenKind::CloseParen | TokenKind::CloseBracket => {
                self.depth = self.depth.checked_sub(1).ok_or(SplitError::Unbalanced)?;
                self.word(at, end, WordKind::Other);
            }
            TokenKind::Semi if self.depth == 0 && self.blocks == 0 => self.close_statement(),
            TokenKind::Ident => {
                self.word(at, end, WordKind::Bare);
                self.follow_block();
            }
            TokenKind::QuotedIdent { .. } => self.word(at, end, WordKind::QuotedName),
            _ => self.word(at, end, WordKind::Other),
        }
        Ok(())
    }

    fn word(&mut self, at: usize, end: usize, kind: WordKind) {
        if self.words.is_empty() {
            self.start = at;
        }
        self.end = end;
        self.words.push(Word { text: &self.sql[at..end], kind, depth: self.depth });
    }

    /// Keeps count of `BEGIN ATOMIC`, and inside it of `CASE` and `END`.
    fn follow_block(&mut self) {
        let Some((word, before)) = self.words.split_last() else { return };
        let after_dot = before.last().is_some_and(|previous| previous.text == ".");
        if after_dot {
            return;
        }
        let opens_body = word.is("ATOMIC")
            && before.last().is_some_and(|previous| previous.is("BEGIN"))
            && before.first().is_some_and(|first| first.is("CREATE"));
        if opens_body || (self.blocks > 0 && word.is("CASE")) {
            self.blocks += 1;
        } else if self.blocks > 0 && word.is("END") {
            self.blocks -= 1;
        }
    }

    fn close_statement(&mut self) {
        if self.words.is_empty() {
            return;
        }
        let words = std::mem::take(&mut self.words);
        self.statements.push(SqlStatement { text: &self.sql[self.start..self.end], words });
    }

    fn finish(mut self) -> Result<Vec<SqlStatement<'a>>, SplitError> {
        if self.depth > 0 {
            return Err(SplitError::Unbalanced);
        }
        if self.blocks > 0 {
            return Err(SplitError::OpenBody);
        }
        self.close_statement();
        Ok(self.statements)
    }
}

fn is_terminated(kind: LiteralKind) -> bool {
    match kind {
        LiteralKind::Str { terminated }
        | LiteralKind::NationalStr { terminated }
        | LiteralKind::ByteStr { terminated }
        | LiteralKind::BitStr { terminated }
        | LiteralKind::DollarQuotedString { terminated }
        | LiteralKind::UnicodeEscStr { terminated }
        | LiteralKind::EscStr { terminated } => terminated,
        LiteralKind::Int { .. } | LiteralKind::Numeric { .. } => true,
    }
}

/// Just past the string that begins at `start`, a backslash escaping what follows it.
fn end_of_escaped_string(sql: &str, start: usize) -> Option<usize> {
    let bytes = sql.as_bytes();
    let mut at = start + 1;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'\\', _) | (b'\'', Some(b'\'')) => at += 2,
            (b'\'', _) => return Some(at + 1),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql, Backslashes::Ordinary).unwrap().into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn statements_end_at_semicolons_and_lose_comments_around_them() {
        assert_eq!(
            texts("/* a */ create table t (a int); -- ;\n;; select 1 -- last"),
            ["create table t (a int)", "select 1"]
        );
        assert_eq!(texts(" \n-- nothing\n"), Vec::<&str>::new());
    }

    #[test]
    fn semicolons_inside_quotes_comments_and_parentheses_are_part_of_the_statement() {
        for statement in [
            "select ';' || 'it''s;'",
            r"select E'\';'",
            r#"create table ";" (a int)"#,
            "do $x$ begin; $$;$$ end $x$",
            "select 1 /* ; /* ; */ ; */ + 2",
            "create rule r as on insert to t do (select 1; select 2)",
            r"select U&'\0041;'",
        ] {
            assert_eq!(texts(&format!("{statement};select 2")), [statement, "select 2"], "{statement}");
        }
    }

    #[test]
    fn the_body_of_an_atomic_function_is_one_statement() {
        let function = "create or replace function f(a int) returns int language sql begin atomic \
                        select case when a > 0 then 1 else (case a when 0 then 0 end) end; select 2; end";
        assert_eq!(texts(&format!("{function}; drop table t")), [function, "drop table t"]);
        assert_eq!(texts("begin; create table t (a int); end"), ["begin", "create table t (a int)", "end"]);
        assert_eq!(
            split("create function f() begin atomic select 1;", Backslashes::Ordinary),
            Err(SplitError::OpenBody)
        );
    }

    #[test]
    fn backslashes_escape_where_strings_do_not_conform() {
        let sql = r"comment on table t is 'it\'s; here'; select 1";
        let statements = split(sql, Backslashes::Escape).unwrap();
        assert_eq!(statements[0].text, r"comment on table t is 'it\'s; here'");
        assert_eq!(statements[1].text, "select 1");
        assert_eq!(split(sql, Backslashes::Ordinary), Err(SplitError::Unterminated));
    }

    #[test]
    fn an_open_end_is_an_error() {
        for (sql, error) in [
            ("select 'a", SplitError::Unterminated),
            ("select \"a", SplitError::Unterminated),
            ("select $a$ $", SplitError::Unterminated),
            ("select 1 /* /* */", SplitError::Unterminated),
            ("select (1", SplitError::Unbalanced),
            ("select 1)", SplitError::Unbalanced),
        ] {
            assert_eq!(split(sql, Backslashes::Ordinary), Err(error), "{sql}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_split_or_refused(sql in "[ -~\n\u{e9}]{0,60}", escape: bool) {
            let backslashes = if escape { Backslashes::Escape } else { Backslashes::Ordinary };
            if let Ok(statements) = split(&sql, backslashes) {
                for statement in statements {
                    prop_assert!(sql.contains(statement.text));
                }
            }
        }
    }
}
