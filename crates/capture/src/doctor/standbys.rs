//! `synchronous_standby_names`, as the server reads it (`src/backend/replication/syncrep_gram.y`).

/// The name that matches every walsender.
const ANY: &str = "*";

/// Which standbys a commit waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StandbyList {
    /// `FIRST` or `ANY`.
    method: String,
    /// How many of them.
    number: usize,
    names: Vec<String>,
}

impl StandbyList {
    /// Reads the setting, which the server has accepted.
    pub(super) fn read(setting: &str) -> Self {
        let mut list = Self { method: "FIRST".to_owned(), number: 1, names: Vec::new() };
        let (mut word, mut quoted) = (String::new(), false);
        let mut chars = setting.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    word.push('"');
                    chars.next();
                }
                '"' => quoted = !quoted,
                // Words before the parenthesis say how many are waited for.
                '(' | ')' | ',' | ' ' | '\t' | '\n' if !quoted => {
                    list.word(std::mem::take(&mut word));
                    if c == '(' {
                        list.begin();
                    }
                }
                c => word.push(c),
            }
        }
        list.word(word);
        list
    }

    fn word(&mut self, word: String) {
        if !word.is_empty() {
            self.names.push(word);
        }
    }

    fn begin(&mut self) {
        for word in std::mem::take(&mut self.names) {
            match word.parse() {
                Ok(number) => self.number = number,
                Err(_) => self.method = word.to_uppercase(),
            }
        }
    }

    /// The setting that does the same without a walsender of this name, where that is among them. `standbys` are the
    /// others that there are now.
    pub(super) fn without(&self, name: &str, standbys: &[String]) -> Option<String> {
        let matches = |listed: &String| listed == ANY || listed.eq_ignore_ascii_case(name);
        if !self.names.iter().any(matches) {
            return None;
        }
        let mut names: Vec<&str> =
            self.names.iter().filter(|name| !matches(name)).map(String::as_str).collect();
        if self.names.iter().any(|listed| listed == ANY) {
            names.extend(
                standbys.iter().map(String::as_str).filter(|name| !self.names.iter().any(|n| n == name)),
            );
        }
        if names.is_empty() {
            names.push("STANDBY");
        }
        let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
        let number = self.number.min(names.len());
        Some(format!("{} {number} ({})", self.method, quoted.join(", ")))
    }
}

fn quote(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
        && !["any", "first"].iter().any(|word| name.eq_ignore_ascii_case(word));
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_said_without_us_where_we_are_in_it() {
        let standbys = ["one".to_owned(), "two-b".to_owned()];
        for (setting, expected) in [
            ("", None),
            ("one, two", None),
            ("ANY 1 (one)", None),
            ("\"us (too\"", None),
            ("*", Some(r#"FIRST 1 (one, "two-b")"#)),
            ("2(one,*)", Some(r#"FIRST 2 (one, "two-b")"#)),
            ("any 2 ( one , US )", Some("ANY 1 (one)")),
            (r#"us, "a""b""#, Some(r#"FIRST 1 ("a""b")"#)),
            ("us", Some("FIRST 1 (STANDBY)")),
        ] {
            assert_eq!(StandbyList::read(setting).without("us", &standbys).as_deref(), expected, "{setting}");
        }
    }
}
