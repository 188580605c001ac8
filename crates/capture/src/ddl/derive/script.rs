//! A string of statements, split once, and how far its events have come.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::super::{
    split::{Backslashes, SqlStatement, split},
    tag::{Outline, Touched},
};

/// A string that was sent or run at one time.
#[derive(Debug)]
pub(super) struct Script {
    text: Arc<str>,
    backslashes: Backslashes,
    statements: Vec<Part>,
    /// The statements of each tag that was asked for, in order.
    by_tag: HashMap<String, Vec<usize>>,
    next: usize,
    /// `next` when the last whole transaction had ended.
    settled: usize,
}

#[derive(Debug)]
struct Part {
    range: Range<usize>,
    outline: Outline,
    /// A later statement of the string takes it back, so that no event of it ever arrives.
    undone: bool,
}

impl Script {
    pub(super) fn split(text: &Arc<str>, backslashes: Backslashes) -> Result<Self, String> {
        let statements = split(text, backslashes)
            .map_err(|error| format!("the text it was sent in cannot be split into statements: {error}"))?;
        let part = |statement: SqlStatement<'_>| {
            let statement = prepared(statement);
            // Both are slices of one string, so the distance of their addresses is an offset in it.
            let start = statement.text.as_ptr() as usize - text.as_ptr() as usize;
            Part {
                range: start..start + statement.text.len(),
                outline: Outline::of(&statement),
                undone: false,
            }
        };
        let mut statements: Vec<Part> = statements.into_iter().map(part).collect();
        mark_undone(&mut statements);
        Ok(Self {
            text: Arc::clone(text),
            backslashes,
            statements,
            by_tag: HashMap::new(),
            next: 0,
            settled: 0,
        })
    }

    pub(super) fn is_of(&self, text: &Arc<str>, backslashes: Backslashes) -> bool {
        self.backslashes == backslashes && (Arc::ptr_eq(&self.text, text) || self.text == *text)
    }

    pub(super) fn holds_several(&self) -> bool {
        self.statements.len() > 1
    }

    pub(super) fn statement(&self, index: usize) -> &str {
        &self.text[self.statements[index].range.clone()]
    }

    pub(super) fn advance_past(&mut self, index: usize) {
        self.next = index + 1;
    }

    pub(super) fn settle(&mut self) {
        self.settled = self.next;
    }

    pub(super) fn go_back(&mut self) {
        self.next = self.settled;
    }

    /// The statement of that tag where there is one alone in the whole string, for it is not known how far the events
    /// before this one came.
    pub(super) fn only(&mut self, tag: &str) -> Result<usize, String> {
        let number = self.statements.len();
        match *self.of_tag(tag) {
            [only] => Ok(only),
            [] => Err(format!("none of the {number} statements sent together is a {tag}")),
            ref several => Err(format!(
                "capture began again in the midst of {number} statements that were sent together in several \
                 transactions, and {} of them do {tag}",
                several.len()
            )),
        }
    }

    fn of_tag(&mut self, tag: &str) -> &[usize] {
        let statements = &self.statements;
        if !self.by_tag.contains_key(tag) {
            let has_tag =
                |index: &usize| !statements[*index].undone && statements[*index].outline.has_tag(tag);
            self.by_tag.insert(tag.to_owned(), (0..statements.len()).filter(has_tag).collect());
        }
        &self.by_tag[tag]
    }

    /// The first statement of that tag that names an object that the event touched, else the first that did something:
    /// a statement may touch objects that it does not name, and one in between may have had nothing to do
    /// (`IF NOT EXISTS`). Where all that are left seem to have had nothing to do, a guess would be no better than
    /// another.
    pub(super) fn choose(&mut self, tag: &str, touched: &Touched, repeats: bool) -> Result<usize, String> {
        self.of_tag(tag);
        let (statements, all) = (&self.statements, &self.by_tag[tag]);
        let later = &all[all.partition_point(|index| *index < self.next)..];
        let starts_over = later.is_empty() && (repeats || statements.len() == 1);
        let candidates = if starts_over { all.as_slice() } else { later };
        if let [only] = candidates {
            return Ok(*only);
        }
        let outline = |index: &&usize| &statements[**index].outline;
        let chosen = candidates
            .iter()
            .find(|index| outline(index).names_one_of(touched))
            .or_else(|| candidates.iter().find(|index| !outline(index).is_idle(touched)));
        chosen.copied().ok_or_else(|| match (statements.len(), candidates) {
            (1, _) => format!("the statement does not do {tag} itself; something that it called did"),
            (number, []) => format!("none of the {number} statements sent together that are left is a {tag}"),
            (number, several) => format!(
                "{} of the {number} statements sent together are left that may do {tag}, and none names what it was done to",
                several.len()
            ),
        })
    }
}

/// The statement that a PREPARE holds: `current_query()` of an EXECUTE is its PREPARE.
fn prepared(statement: SqlStatement<'_>) -> SqlStatement<'_> {
    if !statement.words.first().is_some_and(|first| first.is("PREPARE")) {
        return statement;
    }
    let body = statement.words.iter().position(|word| word.depth == 0 && word.is("AS")).map(|at| at + 1);
    let Some(words) = body.and_then(|at| statement.words.get(at..)).filter(|words| !words.is_empty()) else {
        return statement;
    };
    let offset = words[0].text.as_ptr() as usize - statement.text.as_ptr() as usize;
    SqlStatement { text: &statement.text[offset..], words: words.to_vec() }
}

/// Finds the statements that a ROLLBACK in the string takes back. A string runs to its end or to its first error, so
/// that what stands before a ROLLBACK that ran did run; and a BEGIN in the middle takes what came before it in the
/// string into its transaction ("Multiple Statements in a Simple Query").
fn mark_undone(statements: &mut [Part]) {
    let mut transaction = 0;
    let mut savepoints: Vec<(String, usize)> = Vec::new();
    for at in 0..statements.len() {
        let Some(command) = transaction_command(statements[at].outline.leading()) else { continue };
        let undone = match command {
            TransactionCommand::Savepoint(name) => {
                savepoints.push((name, at));
                continue;
            }
            TransactionCommand::Release(name) => {
                if let Some(found) = savepoints.iter().rposition(|(other, _)| *other == name) {
                    savepoints.truncate(found);
                }
                continue;
            }
            TransactionCommand::RollbackTo(name) => {
                let found = savepoints.iter().rposition(|(other, _)| *other == name);
                savepoints.truncate(found.map_or(0, |found| found + 1));
                // Not found: it was set by what the client sent before.
                found.map_or(transaction, |found| savepoints[found].1)..at
            }
            TransactionCommand::Rollback => std::mem::replace(&mut transaction, at + 1)..at,
            TransactionCommand::Commit => {
                transaction = at + 1;
                at..at
            }
        };
        if transaction > at {
            savepoints.clear();
        }
        statements[undone].iter_mut().for_each(|statement| statement.undone = true);
    }
}

enum TransactionCommand {
    Commit,
    Rollback,
    RollbackTo(String),
    Savepoint(String),
    Release(String),
}

/// Names of savepoints in upper case, quoted ones with their quotes: alike enough within one string.
fn transaction_command(leading: &[String]) -> Option<TransactionCommand> {
    let mut words = leading.iter().map(String::as_str);
    let first = words.next()?;
    let mut rest = words.filter(|word| !matches!(*word, "WORK" | "TRANSACTION" | "SAVEPOINT"));
    let second = rest.next();
    let named = |word: Option<&str>| word.unwrap_or_default().to_owned();
    match (first, second) {
        ("ROLLBACK" | "COMMIT", Some("PREPARED")) => None,
        ("ROLLBACK", Some("TO")) => Some(TransactionCommand::RollbackTo(named(rest.next()))),
        ("ROLLBACK" | "ABORT", _) => Some(TransactionCommand::Rollback),
        ("COMMIT" | "END", _) => Some(TransactionCommand::Commit),
        ("PREPARE", _) if leading.get(1).is_some_and(|word| word == "TRANSACTION") => {
            Some(TransactionCommand::Commit)
        }
        ("SAVEPOINT", name) => Some(TransactionCommand::Savepoint(named(name))),
        ("RELEASE", name) => Some(TransactionCommand::Release(named(name))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str) -> Vec<&str> {
        let script = Script::split(&Arc::from(text), Backslashes::Ordinary).unwrap();
        let left =
            script.statements.iter().filter(|part| !part.undone && part.outline.has_tag("CREATE TABLE"));
        left.map(|part| &text[part.range.clone()]).collect()
    }

    #[test]
    fn what_the_string_takes_back_is_no_candidate() {
        for (text, expected) in [
            ("begin; create table a (); rollback; create table b ()", vec!["create table b ()"]),
            ("create table a (); begin; create table b (); abort work; create table c ()", vec!["create table c ()"]),
            ("create table a (); commit; create table b (); rollback", vec!["create table a ()"]),
            ("create table a (); savepoint s; create table b (); rollback to s; create table c ()",
             vec!["create table a ()", "create table c ()"]),
            ("savepoint s; create table a (); savepoint s; create table b (); rollback transaction to savepoint s;
              release s; create table c (); rollback to s", vec![]),
            ("create table a (); rollback to earlier; create table b ()", vec!["create table b ()"]),
            ("create table a (); rollback prepared 'x'; end", vec!["create table a ()"]),
        ] {
            assert_eq!(left(text), expected, "{text}");
        }
    }
}
