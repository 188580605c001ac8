//! What a DROP ... IF EXISTS of several found. Pure.

use ptr_model::SchemaChange;

use crate::apply::text::words_and_signs;

/// The statement with nothing but what it dropped on the primary, where that is not all it names: the rest may be here,
/// made by another session that committed before it.
pub(super) fn only_what_was_there(change: &SchemaChange, sql: &str) -> Option<String> {
    // What they are called in the log is not what these take.
    let takes_identities = !matches!(change.tag.as_str(), "DROP AGGREGATE" | "DROP ROUTINE");
    if !takes_identities || !change.tag.starts_with("DROP ") || change.dropped.is_empty() {
        return None;
    }
    let words = words_and_signs(sql);
    let after = words.windows(2).position(|two| two[0].is("IF") && two[1].is("EXISTS"))? + 2;
    let named = words[after..].iter().filter(|word| word.text == ",").count() + 1;
    if named <= change.dropped.len() || change.dropped.iter().any(|object| object.is_temporary) {
        return None;
    }
    let found: Vec<&str> = change.dropped.iter().map(|object| object.identity.as_str()).collect();
    let last = words.last().filter(|word| word.is("CASCADE") || word.is("RESTRICT"));
    let behaviour = last.map_or_else(String::new, |word| format!(" {}", word.text));
    Some(format!("{}{}{behaviour}", &sql[..words.get(after)?.at], found.join(", ")))
}

#[cfg(test)]
mod tests {
    use ptr_model::DroppedObject;
    use serde_json::json;

    use super::*;
    use crate::apply::schema::tests::altered;

    fn rest(sql: &str, found: &[&str]) -> Option<String> {
        let object = |identity: &&str| DroppedObject {
            object_type: "table".to_owned(),
            identity: (*identity).to_owned(),
            is_temporary: false,
        };
        let dropped = found.iter().map(object).collect();
        only_what_was_there(&SchemaChange { dropped, ..altered(sql, json!({})) }, sql)
    }

    #[test]
    fn what_was_not_there_is_taken_out_of_a_drop() {
        assert_eq!(
            rest("DROP TABLE IF EXISTS a, /* , */ \"B,\" CASCADE", &["public.\"B,\""]).as_deref(),
            Some("DROP TABLE IF EXISTS public.\"B,\" CASCADE")
        );
        assert_eq!(
            rest("drop function if exists f(int, int), g", &["public.g()"]).as_deref(),
            Some("drop function if exists public.g()")
        );
    }

    #[test]
    fn a_drop_of_all_that_it_names_stays_as_it_is() {
        assert_eq!(rest("DROP TABLE IF EXISTS a, b", &["public.a", "public.b"]), None);
        assert_eq!(rest("DROP FUNCTION IF EXISTS f(int, int)", &["public.f(integer,integer)"]), None);
        assert_eq!(rest("DROP TABLE a, b", &["public.a"]), None);
    }
}
