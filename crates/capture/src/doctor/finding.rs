//! One thing that doctor found.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something works less well, or soon will not.
    Warning,
    /// Nothing can begin before it is fixed.
    Error,
}

/// One thing that doctor found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// Names the kind of finding, for scripts and for `--fix`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub title: String,
    /// What it means for the user.
    pub meaning: String,
    /// Exactly what to do.
    pub fix: String,
    /// Whether `--fix` can do it.
    pub fixable: bool,
}

impl Finding {
    pub(super) fn error(code: &'static str, title: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, title.into())
    }

    pub(super) fn warning(code: &'static str, title: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, title.into())
    }

    pub(super) fn info(code: &'static str, title: impl Into<String>) -> Self {
        Self::new(code, Severity::Info, title.into())
    }

    fn new(code: &'static str, severity: Severity, title: String) -> Self {
        Self { code, severity, title, meaning: String::new(), fix: String::new(), fixable: false }
    }

    pub(super) fn means(mut self, meaning: impl Into<String>) -> Self {
        self.meaning = meaning.into();
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    pub(super) fn fixable(mut self, fixable: bool) -> Self {
        self.fixable = fixable;
        self
    }
}

/// Names for a sentence: the first few, and how many more.
pub(crate) fn list(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// Bytes for a sentence.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    let unit = UNITS.iter().find(|(_, unit)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} bytes"), |(name, unit)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_says_how_many_more() {
        let names: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert_eq!(list(&names[..2]), "0, 1");
        assert_eq!(list(&names[..10]), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert!(list(&names).ends_with("9 and 2 more"));
        assert_eq!(size(3 << 20), "3 MB");
    }
}
