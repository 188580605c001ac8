//! What a terminal is given. Names and values come from databases, where anybody may have put control sequences into
//! them that move the cursor, change the title or answer in the user's place; on a terminal they are shown, not obeyed.
//! What goes into a file or a pipe stays as it is.

use std::borrow::Cow;

/// The text without anything that a terminal obeys, but for line ends and our own colours.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for (at, char) in text.char_indices() {
        if is_obeyed(char) && !is_colour(&text[at..]) {
            shown.extend(char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// The same of JSON, which stays JSON and means the same. What stands before U+0020 it does not hold as it is, but for its
/// own line ends.
pub fn shown_in_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_obeyed) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for char in json.chars() {
        if is_obeyed(char) {
            // None of them needs more than one UTF-16 code unit, which is what \u stands for.
            shown.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and those that turn the direction of what is around them.
fn is_obeyed(char: char) -> bool {
    let is_control = char.is_control() && char != '\n' && char != '\t';
    let turns = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_control || turns || matches!(char, '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// `ESC [ digits m` of one or two digits: [`crate::output::Output::paint`]. Anybody may use colours.
fn is_colour(text: &str) -> bool {
    let digits = text.strip_prefix("\u{1b}[").map(|rest| rest.split_once('m').unwrap_or_default().0);
    digits.is_some_and(|digits| matches!(digits.len(), 1 | 2) && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_shown_and_colours_kept() {
        assert_eq!(shown("Größe\n\tor less"), "Größe\n\tor less");
        assert_eq!(shown("\u{1b}[31mred\u{1b}[0m"), "\u{1b}[31mred\u{1b}[0m");
        assert_eq!(shown("\u{1b}]0;title\u{7}"), r"\u{1b}]0;title\u{7}");
        assert_eq!(shown("\u{1b}[2J\u{1b}[m\u{1b}[1;31m"), r"\u{1b}[2J\u{1b}[m\u{1b}[1;31m");
        assert_eq!(shown("a\rb\u{8}\u{9b}2J"), r"a\u{d}b\u{8}\u{9b}2J");
        assert_eq!(shown("abc\u{202e}def"), r"abc\u{202e}def");
    }

    #[test]
    fn json_is_shown_and_reads_as_the_same() {
        let value = serde_json::json!({"\u{1b}]0;\u{7}": "a\r\u{7f}\u{9b}2J\u{61c}\u{202e}", "Größe": ["\u{1b}[31mred"]});
        let json = serde_json::to_string_pretty(&value).unwrap();
        let shown = shown_in_json(&json);
        assert!(shown.contains(r"\u007f\u009b2J\u061c\u202e") && shown.contains("Größe"), "{shown}");
        assert!(!shown.chars().any(is_obeyed), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
