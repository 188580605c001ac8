//! `pg_dump --schema-only` as a sorted list of entries.
//!
//! An entry begins with `-- Name: ...; Type: ...; Schema: ...; Owner: ...`. The settings `pg_dump`
//! changes between entries (tablespace, access method) belong to all that follow, so they are written
//! into each entry they concern: entries can then be compared in any order.

use super::OUR_SCHEMA;

const HEADER: &str = "\n--\n-- Name: ";
const CARRIED: [&str; 2] = ["SET default_tablespace", "SET default_table_access_method"];

/// The entries of a dump, without ours.
pub(super) fn entries(dump: &str, publications: &[&str]) -> Vec<String> {
    let mut parts = dump.split(HEADER);
    let mut carried = CARRIED.map(String::from);
    carry(parts.next().unwrap_or_default(), &mut carried);
    let mut entries = Vec::new();
    for part in parts {
        let (header, body) = part.split_once('\n').unwrap_or((part, ""));
        if !is_ours(header, body, publications) {
            entries.push(entry(header, body, &carried));
        }
        carry(body, &mut carried);
    }
    entries.sort();
    entries
}

/// Notes the settings for the entries that follow.
fn carry(body: &str, carried: &mut [String; 2]) {
    for line in body.lines() {
        if let Some(place) = CARRIED.iter().position(|setting| line.starts_with(setting)) {
            carried[place] = line.to_owned();
        }
    }
}

fn entry(header: &str, body: &str, carried: &[String; 2]) -> String {
    let kept = body.lines().filter(|line| {
        let is_frame = line.is_empty() || line.starts_with("--") || line.starts_with("\\unrestrict");
        let is_ours = line.starts_with("ALTER TABLE") && line.ends_with(" REPLICA IDENTITY FULL;");
        !is_frame && !is_ours && !CARRIED.iter().any(|setting| line.starts_with(setting))
    });
    let body: Vec<&str> = kept.collect();
    let has_storage = ["Type: TABLE;", "Type: INDEX;", "Type: MATERIALIZED VIEW;", "Type: CONSTRAINT;"]
        .iter()
        .any(|kind| header.contains(kind));
    let storage = if has_storage { carried.join("\n") + "\n" } else { String::new() };
    format!("{header}\n{storage}{}", body.join("\n"))
}

fn is_ours(header: &str, body: &str, publications: &[&str]) -> bool {
    let field = |name: &str| {
        let start = header.find(name)? + name.len();
        header[start..].split(';').next()
    };
    let name = header.split(';').next().unwrap_or_default();
    let in_our_schema = field("Schema: ") == Some(OUR_SCHEMA);
    let our_schema = name == OUR_SCHEMA || name == format!("SCHEMA {OUR_SCHEMA}");
    let kind = field("Type: ").unwrap_or_default();
    let our_trigger = kind.starts_with("EVENT TRIGGER") && body.contains(&format!("{OUR_SCHEMA}."));
    // Comments on our event triggers and publications have names like `EVENT TRIGGER "!postgres_test_replay_..."`.
    let named_like_us =
        name.contains(OUR_SCHEMA) && (name.starts_with("EVENT TRIGGER") || name.starts_with("PUBLICATION"));
    let publication = kind.starts_with("PUBLICATION")
        && (name.starts_with(OUR_SCHEMA)
            || publications.contains(&name.split(' ').next().unwrap_or_default()));
    in_our_schema || our_schema || our_trigger || named_like_us || publication
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict oracle\n\nSET row_security = off;\n\n\
SET default_tablespace = '';\n\n\
--\n-- Name: b; Type: TABLE; Schema: public; Owner: p\n--\n\nCREATE TABLE public.b (\n    i integer\n);\n\n\
ALTER TABLE ONLY public.b REPLICA IDENTITY FULL;\n\n\
SET default_tablespace = fast;\n\n\
--\n-- Name: a; Type: TABLE; Schema: public; Owner: p\n--\n\nCREATE TABLE public.a ();\n\n\
--\n-- Name: key; Type: TABLE; Schema: postgres_test_replay; Owner: p\n--\n\nCREATE TABLE postgres_test_replay.key ();\n\n\
--\n-- Name: feed; Type: PUBLICATION; Schema: -; Owner: p\n--\n\nCREATE PUBLICATION feed FOR ALL TABLES;\n";

    #[test]
    fn entries_are_sorted_and_keep_the_tablespace_that_held_for_them() {
        let entries = entries(DUMP, &["feed"]);
        assert_eq!(entries.len(), 2);
        assert!(entries[0].starts_with("a; ") && entries[0].contains("default_tablespace = fast"));
        assert!(entries[1].starts_with("b; ") && entries[1].contains("default_tablespace = ''"));
    }

    #[test]
    fn what_capture_puts_on_a_primary_is_left_out() {
        let all = entries(DUMP, &[]).join("\n");
        assert!(!all.contains("REPLICA IDENTITY") && !all.contains(OUR_SCHEMA));
        assert!(all.contains("CREATE PUBLICATION feed"));
    }
}
