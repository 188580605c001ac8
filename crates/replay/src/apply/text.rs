//! What must be known of a statement's text, and what must be taken out of it. Pure.

/// The words of a statement outside of quotes and comments, upper-case, with their byte offsets, up to the
/// first parenthesis.
fn words(sql: &str) -> Vec<(usize, String)> {
    let bytes = sql.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'(' => break,
            b'"' | b'\'' => at = after_quote(bytes, at),
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| at + end);
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = after_comment(bytes, at),
            byte if is_word(byte) => {
                let end =
                    bytes[at..].iter().position(|byte| !is_word(*byte)).map_or(bytes.len(), |end| at + end);
                words.push((at, sql[at..end].to_ascii_uppercase()));
                at = end;
            }
            _ => at += 1,
        }
    }
    words
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn after_quote(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    bytes[start + 1..].iter().position(|byte| *byte == quote).map_or(bytes.len(), |end| start + end + 2)
}

/// Comments nest ("SQL Syntax", "Comments").
fn after_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < bytes.len() {
        match &bytes[at..bytes.len().min(at + 2)] {
            b"/*" => (at, depth) = (at + 2, depth + 1),
            b"*/" => (at, depth) = (at + 2, depth.saturating_sub(1)),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Whether the statement has the word outside of quotes, comments and parentheses.
pub(super) fn has_word(sql: &str, word: &str) -> bool {
    words(sql).iter().any(|(_, found)| found == word)
}

/// Whether the statement ends with `WITH NO DATA`.
pub(super) fn has_no_data(sql: &str) -> bool {
    let upper = sql.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_ascii_uppercase();
    let end: Vec<&str> = upper.split_whitespace().rev().take(3).collect();
    end == ["DATA", "NO", "WITH"]
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
    fn concurrently_is_taken_out_where_it_is_a_word_of_the_statement() {
        assert_eq!(
            without_concurrently("create unique index concurrently i on t (a)"),
            "create unique index  i on t (a)"
        );
        let quoted = "create index \"concurrently\" /* concurrently /* x */ */ on t (concurrently)";
        assert_eq!(without_concurrently(quoted), quoted);
    }

    #[test]
    fn no_data_is_seen_at_the_end_only() {
        assert!(has_no_data("create materialized view v as select 1 with no\n data ;"));
        assert!(!has_no_data("create materialized view v as select 'with no data'"));
        assert!(has_word("alter table a detach partition b concurrently", "CONCURRENTLY"));
    }
}
