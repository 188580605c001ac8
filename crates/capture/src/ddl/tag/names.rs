//! Names of objects: those that a statement writes, and those that an event says it touched.
//!
//! A statement may leave the schema out, an identity never does; so a written name is a part of an identity from its
//! end. Apart from [`super`], because names are compared without regard to what kind of statement they stand in.

use std::collections::HashSet;

use super::super::{event::SchemaEvent, split::Word};

/// The longest name that PostgreSQL keeps, in bytes (`NAMEDATALEN` - 1); a longer one is cut off.
const LONGEST_NAME: usize = 63;

/// A qualified name, unquoted, from the outermost part on.
pub(super) type Path = Vec<String>;

/// The objects of one event.
#[derive(Debug, Default)]
pub struct Touched {
    objects: Vec<Identity>,
    /// Where names without a schema are looked for, and made; empty where it is not known.
    search_path: Vec<String>,
}

/// An object as `pg_event_trigger_ddl_commands` and `pg_event_trigger_dropped_objects` print it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    path: Path,
    /// The table of a trigger, constraint, rule or policy: `trigger on public.t`.
    of: Option<Path>,
}

impl Touched {
    /// What `event` tells. GRANT and REVOKE touch nothing that has a name.
    #[must_use]
    pub fn by(event: &SchemaEvent) -> Self {
        let made = event.objects.iter().map(|object| &object.identity);
        let dropped = event.dropped.iter().map(|object| &object.identity);
        let names = parts(&event.search_path, ',').0;
        let of_user = |name: String| if name == "$user" { event.current_user.clone() } else { name };
        Self {
            objects: made.chain(dropped).filter_map(|identity| Identity::read(identity)).collect(),
            search_path: names.into_iter().map(of_user).collect(),
        }
    }

    /// Whether nothing is known of what was touched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether a statement that writes these names writes that of a touched object.
    pub(super) fn are_named_by(&self, names: &HashSet<Path>) -> bool {
        self.objects.iter().any(|object| object.is_named_by(names))
    }

    /// Whether the object that a statement makes by this name is among them. `is_placed`: it is in the schema of the
    /// table that the statement names, and not in one of the search path.
    pub(super) fn has(&self, path: &Path, is_placed: bool) -> bool {
        self.objects.iter().any(|object| {
            let is_found = |schema: &String| {
                self.search_path.is_empty()
                    || schema.starts_with("pg_temp")
                    || self.search_path.contains(schema)
            };
            object.path.ends_with(path)
                && (path.len() > 1 || is_placed || object.path.len() != 2 || is_found(&object.path[0]))
        })
    }
}

impl Identity {
    /// `None` where it does not begin with a name, as that of a cast.
    fn read(identity: &str) -> Option<Self> {
        let (path, rest) = parts(identity, '.');
        let of = rest.strip_prefix(" on ").map(|table| parts(table, '.').0);
        (!path.is_empty()).then_some(Self { path, of })
    }

    fn is_named_by(&self, names: &HashSet<Path>) -> bool {
        let is_named = |path: &[String]| (0..path.len()).any(|from| names.contains(&path[from..]));
        match self.path.as_slice() {
            // A column: written behind its table, or both by themselves.
            [schema, table, column] => {
                let behind = [table.clone(), column.clone()];
                names.contains(&self.path)
                    || names.contains(&behind[..])
                    || names.contains(&[column.clone()][..]) && is_named(&[schema.clone(), table.clone()])
            }
            path => is_named(path) && self.of.as_deref().is_none_or(is_named),
        }
    }
}

/// All qualified names in a statement. A keyword counts as a name, which does no harm: what is one is told only by a
/// grammar.
pub(super) fn written(words: &[Word<'_>]) -> HashSet<Path> {
    let mut names = HashSet::new();
    let mut at = 0;
    while at < words.len() {
        let Some(path) = path_at(words, at) else {
            at += 1;
            continue;
        };
        at += path.len() * 2 - 1;
        if path.len() > 2 {
            // In front of the schema the database may be named.
            names.insert(path[1..].to_vec());
        }
        names.insert(path);
    }
    names
}

/// The qualified name that begins with this word.
pub(super) fn path_at(words: &[Word<'_>], at: usize) -> Option<Path> {
    let mut path = vec![name(words.get(at)?)?];
    let rest = words[at + 1..].chunks_exact(2);
    path.extend(rest.take_while(|pair| pair[0].text == ".").map_while(|pair| name(&pair[1])));
    Some(path)
}

fn name(word: &Word<'_>) -> Option<String> {
    let mut name = word.name()?;
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    Some(name)
}

/// The unquoted names of a text with such a separator, and what is left of it behind them:
/// `public."A b"(integer)` gives `public` and `A b`.
fn parts(text: &str, separator: char) -> (Vec<String>, &str) {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut end = text.len();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                part.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            c if c == separator && !quoted => parts.push(std::mem::take(&mut part)),
            ' ' if !quoted && separator == ',' => {}
            '(' | ' ' if !quoted => {
                end = at;
                break;
            }
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    (parts, &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::split::{Backslashes, split};

    fn is_named(sql: &str, identity: &str) -> bool {
        let names = written(&split(sql, Backslashes::Ordinary).unwrap()[0].words);
        Identity::read(identity).unwrap().is_named_by(&names)
    }

    #[test]
    fn an_object_is_recognised_by_as_much_of_its_name_as_is_written() {
        let long = "x".repeat(70);
        for (sql, identity, expected) in [
            (r#"create table app."Or""der" (a int)"#, r#"app."Or""der""#, true),
            (r#"create table app."Or""der" (a int)"#, "app.order", false),
            ("create table a.t ()", "b.t", false),
            ("create table t ()", "b.t", true),
            ("create table shop . b . t ()", "b.t", true),
            ("create function F(a int) returns int", "public.f(integer,text)", true),
            ("create trigger tr after insert on t", "tr on public.t", true),
            ("drop trigger if exists tr on a", "tr on public.b", false),
            ("alter table t rename a to b", "public.t.b", true),
            ("alter table u rename a to b", "public.t.b", false),
            ("comment on column s.t.b is ''", "s.t.b", true),
            ("comment on column t.b is ''", "s.t.b", true),
            ("comment on column u.b is ''", "s.t.b", false),
            ("create user mapping for alice server s", "alice on server s", true),
            (&format!("create index {long} on t (a)"), &format!("public.{}", &long[..63]), true),
        ] {
            assert_eq!(is_named(sql, identity), expected, "{sql} / {identity}");
        }
    }

    #[test]
    fn a_cast_has_no_name() {
        assert_eq!(Identity::read("(text AS integer)"), None);
        assert_eq!(Identity::read(""), None);
    }
}
