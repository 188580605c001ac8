//! The schemas of two databases, entry by entry of `pg_dump`.

use std::{collections::BTreeMap, process::Stdio};

use ptr_model::OUR_SCHEMA;
use ptr_postgres::programs::until_lost;

use super::{SchemaDifference, Side, VerifyError, VerifyOptions};
use crate::snapshot::Exported;

/// An entry: its heading, and the SQL under it.
type Entry = (String, String);

/// Compares the schemas of two databases.
pub(super) async fn compare(
    primary: &Exported,
    replica: &Exported,
    options: &VerifyOptions,
) -> Result<Vec<SchemaDifference>, VerifyError> {
    Ok(differences(&read(primary, options).await?, &read(replica, options).await?))
}

/// The entries of a database's schema in a snapshot, what is ours left out.
pub(super) async fn read(database: &Exported, options: &VerifyOptions) -> Result<Vec<Entry>, VerifyError> {
    Ok(entries(&dump(database, options).await?, &options.publication))
}

/// Runs `pg_dump --schema-only`.
async fn dump(database: &Exported, options: &VerifyOptions) -> Result<String, VerifyError> {
    let (program, dsn) = (options.installation.program("pg_dump"), database.dsn());
    let named = dsn.with_application_name(&options.application_name);
    let mut command = std::process::Command::new(&program);
    // The password goes by the environment.
    named.apply_to(&mut command);
    command
        .args(["--schema-only", "--no-password", "--no-subscriptions"])
        .arg(format!("--exclude-schema={OUR_SCHEMA}"))
        .arg(format!("--snapshot={}", database.id()))
        .env("LC_ALL", "C");
    let failed = |status, output| VerifyError::Dump {
        program: program.display().to_string(),
        dsn: dsn.to_string(),
        status,
        output,
    };
    let not_run = |source| VerifyError::Program { program: program.display().to_string(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(not_run)?;
    let process = child.id();
    let output = tokio::select! {
        ended = child.wait_with_output() => ended.map_err(not_run)?,
        lost = until_lost(process, dsn, &options.application_name) => return Err(failed("given up".to_owned(), lost)),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(output.status.to_string(), String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// The entries of a dump, what is ours left out. Each begins with a comment `-- Name: ...; Type: ...`, which names its
/// tablespace too. The access method of a table is set before its entry, if it is another than that of the table before.
fn entries(dump: &str, publication: &str) -> Vec<Entry> {
    let (mut method, mut of_this) = (None, None);
    let mut entries = Vec::new();
    let mut heading = None;
    let mut sql = Vec::new();
    let mut end = |heading: Option<&str>, lines: &mut Vec<&str>, method: Option<&str>| {
        let mut sql = std::mem::take(lines).join("\n");
        let Some(heading) = heading.filter(|heading| !is_ours(heading, publication)) else { return };
        if let Some(method) = method.filter(|_| is_stored(heading, &sql)) {
            sql.insert_str(0, &format!("{method}\n"));
        }
        entries.push((heading.to_owned(), sql));
    };
    for Line { text, is_quoted } in lines(dump) {
        if let Some(next) = text.strip_prefix("-- Name: ").filter(|_| !is_quoted) {
            end(heading.replace(next), &mut sql, of_this);
            of_this = method;
        } else if is_quoted || is_essential(text) {
            sql.push(text);
        } else if text.starts_with(ACCESS_METHOD) {
            method = Some(text);
        }
    }
    end(heading, &mut sql, of_this);
    entries
}

/// A line of a dump.
struct Line<'a> {
    text: &'a str,
    /// Whether it begins within a quoted text, name or function.
    is_quoted: bool,
}

fn lines(dump: &str) -> impl Iterator<Item = Line<'_>> {
    let mut quote: Option<&str> = None;
    dump.split('\n').map(move |text| {
        let line = Line { text, is_quoted: quote.is_some() };
        if line.is_quoted || !text.starts_with("--") {
            quote = quote_after(text, quote);
        }
        line
    })
}

/// The quote that is open at the end of a line, where one is open at its beginning or not. `pg_dump` doubles quotes, and
/// backslashes where they mean something, so that a doubled quote closes a text and opens it again.
fn quote_after<'a>(line: &'a str, mut quote: Option<&'a str>) -> Option<&'a str> {
    let mut rest = line;
    loop {
        let met = match quote {
            Some(open) => rest.find(open).map(|at| (at, open.len(), None)),
            None => rest.find(['\'', '"', '$']).map(|at| {
                let opening = opening_quote(&rest[at..]);
                (at, opening.map_or(1, str::len), opening)
            }),
        };
        let Some((at, length, next)) = met else { return quote };
        rest = &rest[at + length..];
        quote = next;
    }
}

/// The quote that a text begins with, `$tag$` among them; `$1` is none.
fn opening_quote(text: &str) -> Option<&str> {
    if !text.starts_with('$') {
        return Some(&text[..1]);
    }
    let tag = &text[1..=text[1..].find('$')?];
    let is_tag = !tag.starts_with(|first: char| first.is_ascii_digit())
        && tag.chars().all(|one| one == '_' || one.is_alphanumeric());
    is_tag.then(|| &text[..tag.len() + 2])
}

const ACCESS_METHOD: &str = "SET default_table_access_method";

/// Whether an entry makes something with an access method of its own; `pg_dump` sets none before a partitioned table.
fn is_stored(heading: &str, sql: &str) -> bool {
    let makes = |kind: &str| heading.contains(&format!("; Type: {kind};"));
    (makes("TABLE") || makes("MATERIALIZED VIEW")) && !sql.contains("\nPARTITION BY ")
}

fn is_ours(heading: &str, publication: &str) -> bool {
    let (name, rest) = heading.split_once("; Type: ").unwrap_or((heading, ""));
    let of_ours = |name: &str| name.trim_start_matches('!').starts_with(OUR_SCHEMA);
    let kind = rest.split(';').next().unwrap_or_default();
    match kind {
        "EVENT TRIGGER" | "SCHEMA" => of_ours(name),
        "PUBLICATION" => name == publication,
        "PUBLICATION TABLE" => name.split(' ').next() == Some(publication),
        "COMMENT" | "ACL" => name.split(' ').next_back().is_some_and(of_ours),
        _ => false,
    }
}

/// Whether a line outside of quotes says something, and something that depends neither on the order of entries, nor on us,
/// nor on chance (`\restrict`).
fn is_essential(line: &str) -> bool {
    let means_nothing = ["--", "SET default_table", "\\restrict", "\\unrestrict"];
    let is_ours = line.starts_with("ALTER TABLE ONLY ") && line.ends_with(" REPLICA IDENTITY FULL;");
    !line.trim().is_empty() && !is_ours && !means_nothing.iter().any(|start| line.starts_with(start))
}

/// Entries that one side has more often than the other, or has in another form.
fn differences(primary: &[Entry], replica: &[Entry]) -> Vec<SchemaDifference> {
    let mut counts: BTreeMap<&Entry, i64> = BTreeMap::new();
    for entry in primary {
        *counts.entry(entry).or_default() += 1;
    }
    for entry in replica {
        *counts.entry(entry).or_default() -= 1;
    }
    let mut found: BTreeMap<&str, [Vec<&str>; 2]> = BTreeMap::new();
    for ((heading, sql), count) in counts.into_iter().filter(|(_, count)| *count != 0) {
        found.entry(heading).or_default()[usize::from(count < 0)].push(sql);
    }
    let difference = |(heading, [here, there]): (&str, [Vec<&str>; 2])| {
        let joined = |sql: &[&str]| (!sql.is_empty()).then(|| sql.join("\n"));
        let (primary, replica) = (joined(&here), joined(&there));
        let only_on = match (&primary, &replica) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some(Side::Primary),
            (None, _) => Some(Side::Replica),
        };
        SchemaDifference { only_on, entry: heading.to_owned(), primary, replica }
    };
    found.into_iter().map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_what_is_ours_make_no_difference_and_the_rest_does() {
        let entry = |heading: &str, sql: &str| format!("\n--\n-- Name: {heading}; Owner: o\n--\n\n{sql}\n");
        let a = entry(
            "a; Type: TABLE; Schema: public",
            "CREATE TABLE a ();\nALTER TABLE ONLY a REPLICA IDENTITY FULL;",
        );
        let plain = entry("a; Type: TABLE; Schema: public", "CREATE TABLE a ();");
        let b = entry("b; Type: TABLE; Schema: public", "CREATE TABLE b ();");
        let ours = entry("mine; Type: PUBLICATION; Schema: -", "CREATE PUBLICATION mine;");
        let trigger =
            entry("!postgres_test_replay_end; Type: EVENT TRIGGER; Schema: -", "CREATE EVENT TRIGGER");
        let primary = entries(&format!("{a}{b}{ours}{trigger}"), "mine");
        assert_eq!(differences(&primary, &entries(&format!("{b}{plain}"), "mine")), vec![]);
        let found = differences(&primary, &entries(&b, "mine"));
        assert_eq!((found.len(), found[0].only_on), (1, Some(Side::Primary)));
        let other = a.replace("CREATE TABLE a ()", "CREATE TABLE a (x int)");
        let found = differences(&primary, &entries(&format!("{other}{b}"), "mine"));
        assert_eq!((found.len(), found[0].only_on), (1, None));
        assert!(found[0].replica.as_deref().is_some_and(|sql| sql.contains("x int")));
    }

    /// The quotes that are open at the end of each line.
    fn open(sql: &str) -> Vec<Option<&str>> {
        let mut quote = None;
        let after = |line| {
            quote = quote_after(line, quote);
            quote
        };
        sql.split('\n').map(after).collect()
    }

    #[test]
    fn quotes_are_open_as_far_as_they_go() {
        assert_eq!(open("AS $$a '\n$_$ \"\n$$; 'b"), [Some("$$"), Some("$$"), Some("'")]);
        assert_eq!(open("'it''s'\nE'a\\\\'\n'x''\n'''"), [None, None, Some("'"), None]);
        assert_eq!(open("\"a'\"\"\n\" $1 + $2\n$_X$ $_$\n$_X$"), [Some("\""), None, Some("$_X$"), None]);
        assert_eq!(open("ü $ü$ '\n$ü$"), [Some("$ü$"), None]);
    }

    #[test]
    fn a_line_within_quotes_is_a_part_of_what_it_is_in() {
        let entry =
            |heading: &str, sql: &str| format!("\n--\n-- Name: {heading}; Owner: o\n--\n\n{sql}\n\n\n");
        let heading = "f(); Type: FUNCTION; Schema: public";
        let function = |line: &str| entry(heading, &format!("CREATE FUNCTION f() AS $$\na{line}\nb\n$$;"));
        let comment =
            |line: &str| entry(heading, &format!("COMMENT ON FUNCTION f() IS 'it''s\na{line}\nb';"));
        let after = entry("t; Type: TABLE; Schema: public", "CREATE TABLE t ();");
        for made in [&function as &dyn Fn(&str) -> String, &comment] {
            let without = entries(&format!("{}{after}", made("")), "mine");
            assert_eq!(without.len(), 2);
            for line in [
                "\n",
                "\n-- why",
                "\nSET default_tablespace = x;",
                "\r",
                "\n--\n-- Name: mine; Type: PUBLICATION; Schema: -; Owner: o",
            ] {
                let with = entries(&format!("{}{after}", made(line)), "mine");
                let found = differences(&without, &with);
                assert_eq!(
                    (found.len(), found[0].entry.starts_with("f()")),
                    (1, true),
                    "{line:?}: {found:#?}"
                );
            }
        }
        // Outside it says nothing.
        let sql = "CREATE TABLE t ();\n\n\nALTER TABLE t OWNER TO o;";
        let spaced = entries(&entry(heading, sql), "mine");
        let tight = sql.replace("\n\n\n", "\n-- it's\nSET default_tablespace = '';\n");
        assert_eq!(differences(&spaced, &entries(&entry(heading, &tight), "mine")), vec![]);
    }
}
