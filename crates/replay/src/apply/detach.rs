//! DETACH PARTITION ... CONCURRENTLY and FINALIZE, done in one transaction. Pure.

use ptr_postgres::quote_literal;

use super::text;

/// One statement that does in a transaction what the concurrent form, or the FINALIZE of one, leaves behind; `None`
/// where `sql` is neither.
///
/// That form makes a CHECK of the partition's bounds, its arrays folded into constants, but for a hash partition, and
/// unless the table's own constraints imply it (`ATExecDetachPartition` and `DetachAddConstraintIfNeeded` in
/// `tablecmds.c`). Where the table has no CHECK nothing can imply it, and one that reads the same does; anything
/// else is the server's to decide, and is an error here.
pub(super) fn at_once(sql: &str) -> Option<String> {
    let words = text::words(sql);
    let (last, keyword) = words.last().filter(|(_, word)| word == "CONCURRENTLY" || word == "FINALIZE")?;
    let at = words.windows(2).find(|pair| pair[0].1 == "DETACH" && pair[1].1 == "PARTITION")?[1].0;
    let partition = sql[at + "PARTITION".len()..*last].trim();
    let detach = format!("{}{}", &sql[..*last], &sql[*last + keyword.len()..]);
    let body = BODY
        .replace("{partition}", &quote_literal(partition))
        .replace("{detach}", &quote_literal(detach.trim()));
    Some(format!("DO {}", quote_literal(&body)))
}

/// Runs under the search path of the statement, so it names everything in full.
const BODY: &str = r"DECLARE
    partition pg_catalog.regclass := {partition};
    strategy text := (SELECT t.partstrat FROM pg_catalog.pg_inherits i
                        JOIN pg_catalog.pg_partitioned_table t ON t.partrelid OPERATOR(pg_catalog.=) i.inhparent
                       WHERE i.inhrelid OPERATOR(pg_catalog.=) partition);
    wanted text := pg_catalog.pg_get_partition_constraintdef(partition);
    items text := (pg_catalog.regexp_match(wanted, E'ANY \\((ARRAY\\[.*\\])\\)'))[1];
    folded text;
    own text[] := ARRAY(SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
                         WHERE conrelid OPERATOR(pg_catalog.=) partition AND contype OPERATOR(pg_catalog.=) 'c');
BEGIN
    IF items IS NOT NULL THEN
        EXECUTE pg_catalog.format('SELECT pg_catalog.format(''%%L::%%s'', %1$s, pg_catalog.pg_typeof(%1$s))', items)
           INTO folded;
        wanted := pg_catalog.replace(wanted, items, folded);
    END IF;
    IF strategy OPERATOR(pg_catalog.<>) 'h' AND pg_catalog.cardinality(own) OPERATOR(pg_catalog.>) 0
       AND pg_catalog.format('CHECK (%s)', wanted) OPERATOR(pg_catalog.<>) ALL (own) THEN
        RAISE 'partition % has CHECK constraints of its own, and the log does not tell whether PostgreSQL made '
              'another of its bounds', partition;
    END IF;
    EXECUTE {detach};
    IF strategy OPERATOR(pg_catalog.<>) 'h' AND pg_catalog.cardinality(own) OPERATOR(pg_catalog.=) 0 THEN
        EXECUTE pg_catalog.format('ALTER TABLE ONLY %s ADD CHECK (%s)', partition, wanted);
    END IF;
END";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_concurrent_form_and_its_end_are_changed() {
        let sql = at_once("ALTER TABLE p DETACH PARTITION \"concurrently\" CONCURRENTLY").expect("it is one");
        assert!(sql.contains("concurrently"), "{sql}");
        assert!(!sql.contains("CONCURRENTLY"), "{sql}");
        assert!(at_once("alter table p detach partition s.p1 finalize").is_some());
        assert_eq!(at_once("ALTER TABLE p DETACH PARTITION p1"), None);
        assert_eq!(at_once("ALTER TABLE p ADD finalize int, DROP concurrently"), None);
    }
}
