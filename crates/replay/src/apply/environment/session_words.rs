//! Words by which a statement takes something from the session that runs it, which here is another one. Pure.

use ptr_model::SchemaChange;
use ptr_postgres::quote_identifier;

use crate::apply::text::{Word, words_and_signs};

/// A setting whose value in the session a function keeps (`SET name FROM CURRENT`), where our session has another.
pub(in crate::apply) fn unknown_current(change: &SchemaChange, sql: &str) -> Option<String> {
    let keeps_settings = matches!(
        change.tag.as_str(),
        "CREATE FUNCTION" | "CREATE PROCEDURE" | "ALTER FUNCTION" | "ALTER PROCEDURE" | "ALTER ROUTINE"
    );
    if !keeps_settings {
        return None;
    }
    from_current(sql).into_iter().find(|setting| !super::is_as_it_was(&change.environment, setting))
}

/// The settings of each `SET name FROM CURRENT`, in lower case: PostgreSQL looks them up in any.
fn from_current(sql: &str) -> Vec<String> {
    let words = words_and_signs(sql);
    let after_set = |number: usize| {
        let rest = &words[number + 1..];
        let length = rest.windows(2).position(|two| two[0].is("FROM") && two[1].is("CURRENT"))?;
        // A name may have parts. Anything else is another clause, and its FROM a later one's.
        let is_name =
            length % 2 == 1 && rest[..length].iter().skip(1).step_by(2).all(|word| word.text == ".");
        let name: String = rest[..length].iter().map(|word| word.text).collect();
        is_name.then(|| name.replace('"', "").to_ascii_lowercase())
    };
    (0..words.len()).filter(|number| words[*number].is("SET")).filter_map(after_set).collect()
}

/// The statement with the role itself where it says SESSION_USER for one: our session has logged in as another.
pub(in crate::apply) fn with_session_user(change: &SchemaChange, sql: &str) -> String {
    let environment = &change.environment;
    if environment.session_user.is_empty() || environment.session_user == environment.current_user {
        return sql.to_owned();
    }
    let (mut named, mut from) = (String::new(), 0);
    for role in session_users(&change.tag, sql) {
        named.push_str(&sql[from..role.at]);
        named.push_str(&quote_identifier(&environment.session_user));
        from = role.at + role.text.len();
    }
    named.push_str(&sql[from..]);
    named
}

/// Each SESSION_USER that is a role and no expression, such as that of a column's default.
fn session_users<'s>(tag: &str, sql: &'s str) -> Vec<Word<'s>> {
    // Their expressions are in parentheses.
    let are_all_roles = matches!(
        tag,
        "GRANT" | "REVOKE" | "ALTER DEFAULT PRIVILEGES" | "DROP OWNED" | "CREATE POLICY" | "ALTER POLICY"
    ) || tag.ends_with(" USER MAPPING");
    let words = words_and_signs(sql);
    let is_role = |number: &usize| match &words[..*number] {
        _ if !words[*number].is("SESSION_USER") => false,
        _ if are_all_roles => true,
        [.., owner, to] if to.is("TO") => owner.is("OWNER"),
        [.., owned, by] if by.is("BY") => owned.is("OWNED"),
        [.., last] => last.is("AUTHORIZATION"),
        [] => false,
    };
    (0..words.len()).filter(is_role).map(|number| words[number]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::schema::tests::altered;

    fn named(tag: &str, sql: &str) -> String {
        with_session_user(&SchemaChange { tag: tag.to_owned(), ..altered(sql, json!({})) }, sql)
    }

    #[test]
    fn session_user_is_put_into_words_where_it_is_a_role() {
        for (tag, sql, expected) in [
            (
                "ALTER TABLE",
                "alter table t owner to session_user",
                "alter table t owner to \"who logged in\"",
            ),
            (
                "ALTER DEFAULT PRIVILEGES",
                "ALTER DEFAULT PRIVILEGES FOR ROLE SESSION_USER GRANT SELECT ON TABLES TO a, /* b */ Session_User",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"who logged in\" GRANT SELECT ON TABLES TO a, /* b */ \"who logged in\"",
            ),
            (
                "CREATE SCHEMA",
                "CREATE SCHEMA AUTHORIZATION SESSION_USER CREATE VIEW v AS SELECT SESSION_USER",
                "CREATE SCHEMA AUTHORIZATION \"who logged in\" CREATE VIEW v AS SELECT SESSION_USER",
            ),
            (
                "CREATE POLICY",
                "CREATE POLICY p ON t TO SESSION_USER USING (a = session_user)",
                "CREATE POLICY p ON t TO \"who logged in\" USING (a = session_user)",
            ),
        ] {
            assert_eq!(named(tag, sql), expected);
        }
    }

    #[test]
    fn session_user_stays_where_it_is_an_expression_a_name_or_text() {
        for (tag, sql) in [
            ("ALTER TABLE", "ALTER TABLE t ALTER who SET DEFAULT session_user"),
            ("CREATE VIEW", "CREATE VIEW v AS SELECT * FROM session_user"),
            ("ALTER TABLE", "ALTER TABLE t OWNER TO \"session_user\" -- SESSION_USER"),
        ] {
            assert_eq!(named(tag, sql), sql);
        }
    }

    #[test]
    fn settings_that_a_function_takes_from_its_session_are_found() {
        for (sql, expected) in [
            (
                "create function f() returns int set Work_Mem from current set a.\"B\" from current as ''",
                vec!["work_mem", "a.b"],
            ),
            (
                "alter function f() set work_mem = '1MB' set /* x */ timezone from /* y */ current",
                vec!["timezone"],
            ),
            ("create function f() returns int as 'set work_mem from current'", vec![]),
            ("create function f() begin atomic update t set a = b from current; end", vec![]),
            ("alter function f() set search_path to a, b", vec![]),
        ] {
            assert_eq!(from_current(sql), expected, "{sql}");
        }
    }
}
