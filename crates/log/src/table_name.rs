//! The name of a table as people write it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A schema and a table in it, both unquoted. Reads and prints as SQL does: quoted where it must be.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
}

/// What does not read as the name of a table.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is no name of a table: write schema.table, with double quotes where SQL needs them")]
pub struct TableNameError {
    /// What was written.
    pub text: String,
}

impl TableName {
    /// Both parts as the catalog has them.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let bare = text.chars().all(plain) && text.starts_with(|c: char| !c.is_ascii_digit());
            if bare { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
        };
        write!(f, "{}.{}", part(&self.schema), part(&self.name))
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    /// A name without a schema is one of `public`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || TableNameError { text: text.to_owned() };
        let (first, rest) = part(text).ok_or_else(wrong)?;
        let Some(rest) = rest.strip_prefix('.') else {
            return if rest.is_empty() { Ok(Self::new("public", first)) } else { Err(wrong()) };
        };
        match part(rest) {
            Some((name, "")) => Ok(Self::new(first, name)),
            _ => Err(wrong()),
        }
    }
}

/// The identifier that a text begins with, and what follows it.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (bare, rest) = text.split_at(end);
        return (!bare.is_empty() && !bare.contains('"')).then(|| (bare.to_lowercase(), rest));
    };
    let mut name = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_print() {
        for (schema, name) in [("public", "t"), ("Sales", "a.b"), ("x", "say \"hi\""), ("s", "1a")] {
            let name = TableName::new(schema, name);
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert_eq!("Orders".parse(), Ok(TableName::new("public", "orders")));
        for wrong in ["", ".", "a.", ".a", "a.b.c", "\"a", "\"a\"b"] {
            assert!(wrong.parse::<TableName>().is_err(), "{wrong}");
        }
    }
}
