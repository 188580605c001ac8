//! DETACH PARTITION ... CONCURRENTLY and FINALIZE, done in one transaction. Pure.

use ptr_model::SchemaChange;
use ptr_postgres::quote_literal;

use super::text;

/// One statement that does in a transaction what the concurrent form, or the FINALIZE of one, leaves behind; `None`
/// where `sql` is neither.
///
/// That form makes a CHECK of the partition's bounds, but for a hash partition, and unless the table's own constraints
/// imply it (`DetachAddConstraintIfNeeded` in `tablecmds.c`). What can be proved is the server's to say: the log holds
/// the CHECKs that the partition had then.
///
/// # Errors
/// Where the log does not hold them.
pub(super) fn at_once(change: &SchemaChange, sql: &str) -> Result<Option<String>, String> {
    let words = text::words(sql);
    let Some((last, keyword)) = words.last().filter(|(_, word)| word == "CONCURRENTLY" || word == "FINALIZE")
    else {
        return Ok(None);
    };
    let Some(pair) = words.windows(2).find(|pair| pair[0].1 == "DETACH" && pair[1].1 == "PARTITION") else {
        return Ok(None);
    };
    let partition = sql[pair[1].0 + "PARTITION".len()..*last].trim();
    let detach = format!("{}{}", &sql[..*last], &sql[*last + keyword.len()..]);
    let Some(checks) = change.details.get("checks") else {
        return Err("the log does not hold which CHECK constraints the partition had afterwards: event triggers of an \
                    earlier version made it"
            .to_owned());
    };
    let body = BODY
        .replace("{partition}", &quote_literal(partition))
        .replace("{checks}", &quote_literal(&checks.to_string()))
        .replace("{detach}", &quote_literal(detach.trim()));
    Ok(Some(format!("DO {}", quote_literal(&body))))
}

/// Begins under the search path of the statement, so it names everything in full. Definitions are those of an empty one.
const BODY: &str = r"DECLARE
    partition pg_catalog.regclass := {partition};
    before text := pg_catalog.current_setting('search_path');
    one record;
BEGIN
    EXECUTE {detach};
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
    FOR one IN
        SELECT k.name, k.definition FROM pg_catalog.json_to_recordset({checks}) AS k(relation text, name text, definition text)
         WHERE pg_catalog.to_regclass(k.relation) = partition
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = partition AND c.conname = k.name)
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', partition, one.name, one.definition);
    END LOOP;
    PERFORM pg_catalog.set_config('search_path', before, true);
END";

#[cfg(test)]
mod tests {
    use crate::apply::schema::tests::altered;

    #[test]
    fn only_the_concurrent_form_and_its_end_are_changed() {
        let at_once = |sql: &str, details: serde_json::Value| super::at_once(&altered(sql, details), sql);
        let checks = serde_json::json!({"checks": []});
        let sql = "ALTER TABLE p DETACH PARTITION \"concurrently\" CONCURRENTLY";
        let done = at_once(sql, checks.clone()).expect("described").expect("it is one");
        assert!(done.contains("concurrently"), "{done}");
        assert!(!done.contains("CONCURRENTLY"), "{done}");
        assert!(at_once(sql, serde_json::json!({})).expect_err("not described").contains("CHECK"));
        assert!(
            at_once("alter table p detach partition s.p1 finalize", checks.clone())
                .expect("described")
                .is_some()
        );
        assert_eq!(at_once("ALTER TABLE p DETACH PARTITION p1", checks.clone()), Ok(None));
        assert_eq!(at_once("ALTER TABLE p ADD finalize int, DROP concurrently", checks), Ok(None));
    }
}
