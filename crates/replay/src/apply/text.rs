//! What must be known of a statement's text, and what must be taken out of it. Pure.

use squawk_lexer::{TokenKind, tokenize};

/// A word or sign of a statement, outside of parentheses.
#[derive(Clone, Copy)]
pub(super) struct Word<'s> {
    pub(super) at: usize,
    pub(super) text: &'s str,
    kind: TokenKind,
}

impl Word<'_> {
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self.kind, TokenKind::Ident) && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// The words and signs of a statement outside of parentheses and comments.
pub(super) fn words_and_signs(sql: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let (mut at, mut depth) = (0_usize, 0_usize);
    for token in tokenize(sql) {
        let end = sql.len().min(at + usize::try_from(token.len).unwrap_or(usize::MAX));
        match token.kind {
            TokenKind::OpenParen => depth += 1,
            TokenKind::CloseParen => depth = depth.saturating_sub(1),
            TokenKind::Whitespace | TokenKind::LineComment | TokenKind::BlockComment { .. } => {}
            kind if depth == 0 => words.push(Word { at, text: &sql[at..end], kind }),
            _ => {}
        }
        at = end;
    }
    words
}

/// The words of a statement outside of quotes, comments and parentheses, upper-case, with their byte offsets.
pub(super) fn words(sql: &str) -> Vec<(usize, String)> {
    let words = words_and_signs(sql).into_iter().filter(|word| matches!(word.kind, TokenKind::Ident));
    words.map(|word| (word.at, word.text.to_ascii_uppercase())).collect()
}

/// Whether the statement has the word outside of quotes, comments and parentheses.
pub(super) fn has_word(sql: &str, word: &str) -> bool {
    words(sql).iter().any(|(_, found)| found == word)
}

/// The tablespace of `REINDEX (TABLESPACE name, ..)`, as it is written.
pub(super) fn tablespace_option(sql: &str) -> Option<&str> {
    let (mut at, mut depth, mut is_next) = (0_usize, 0_usize, false);
    for token in tokenize(sql) {
        let text = &sql[at..sql.len().min(at + usize::try_from(token.len).unwrap_or(usize::MAX))];
        at += text.len();
        match token.kind {
            TokenKind::OpenParen => depth += 1,
            TokenKind::CloseParen => return None,
            TokenKind::Whitespace | TokenKind::LineComment | TokenKind::BlockComment { .. } => {}
            _ if is_next => return Some(text),
            _ => is_next = depth > 0 && text.eq_ignore_ascii_case("tablespace"),
        }
    }
    None
}

/// Whether a CREATE TABLE AS says ON COMMIT DROP, which the catalog does not show.
pub(super) fn drops_on_commit(sql: &str) -> bool {
    let words = words(sql);
    words.windows(3).any(|three| three.iter().map(|(_, word)| word.as_str()).eq(["ON", "COMMIT", "DROP"]))
}

/// A CREATE MATERIALIZED VIEW that filled its view, so that it does not. Where it says WITH DATA, that goes.
pub(super) fn with_no_data(sql: &str) -> String {
    let words = words(sql);
    let query = match words.as_slice() {
        [.., (with, first), (data, last)]
            if first == "WITH" && last == "DATA" && data + last.len() == sql.trim_end().len() =>
        {
            &sql[..*with]
        }
        _ => sql,
    };
    // On a line of its own, because a comment may come before it.
    format!("{}\nWITH NO DATA", query.trim_end())
}

/// The statement without CONCURRENTLY: the replica runs it in a transaction, where that word is not allowed,
/// and the outcome is the same.
pub(super) fn without_concurrently(sql: &str) -> String {
    match words(sql).iter().find(|(_, word)| word == "CONCURRENTLY") {
        Some((at, word)) => format!("{}{}", &sql[..*at], &sql[at + word.len()..]),
        None => sql.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tablespace_of_a_reindex_is_taken_as_it_is_written() {
        assert_eq!(
            tablespace_option("REINDEX (VERBOSE, tablespace /* x */ \"a b\") TABLE t"),
            Some("\"a b\"")
        );
        assert_eq!(tablespace_option("REINDEX (CONCURRENTLY) TABLE tablespace (tablespace)"), None);
    }

    #[test]
    fn concurrently_is_taken_out_where_it_is_a_word_of_the_statement() {
        assert_eq!(
            without_concurrently("create unique index concurrently i on t (a)"),
            "create unique index  i on t (a)"
        );
        let quoted = "create index \"concurrently\" /* concurrently /* x */ */ on t (concurrently)";
        assert_eq!(without_concurrently(quoted), quoted);
    }

    #[test]
    fn a_view_is_made_without_data() {
        for (sql, expected) in [
            (
                "create materialized view v as select 1",
                "create materialized view v as select 1\nWITH NO DATA",
            ),
            (
                "create materialized view v as select 'with data'",
                "create materialized view v as select 'with data'\nWITH NO DATA",
            ),
            (
                "create materialized view v as select 1 with /* x */ data",
                "create materialized view v as select 1\nWITH NO DATA",
            ),
            (
                "create materialized view v as select 1 as data",
                "create materialized view v as select 1 as data\nWITH NO DATA",
            ),
        ] {
            assert_eq!(with_no_data(sql), expected);
        }
    }

    #[test]
    fn a_word_is_seen_outside_of_quotes_and_parentheses() {
        assert!(has_word("alter table a detach partition b concurrently", "CONCURRENTLY"));
        assert!(!has_word(
            "alter table \"concurrently\" add b int default (concurrently('concurrently'))",
            "CONCURRENTLY"
        ));
    }
}
