//! Names and literals written into SQL text.
//!
//! Identifiers are always quoted: whether a word needs quotes depends on the server's keyword list,
//! which grows with each major version. Invariant: what these functions return is one token.

use std::fmt;

/// An identifier in double quotes, with double quotes inside doubled.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal. A backslash makes it an `E''` literal, so that the text means the same
/// whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A schema and a name in it. Prints quoted, ready for SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    /// The schema, unquoted.
    pub schema: String,
    /// The name of the table, sequence or function, unquoted.
    pub name: String,
}

impl QualifiedName {
    /// Both parts as the catalog has them, without quotes.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_a_name_are_doubled() {
        assert_eq!(quote_identifier(r#"Or"der"#), r#""Or""der""#);
        assert_eq!(QualifiedName::new("public", "user").to_string(), r#""public"."user""#);
    }

    #[test]
    fn a_backslash_makes_an_escape_literal() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\'b"), r"E'a\\''b'");
    }
}
