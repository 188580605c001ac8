//! What a database held at a checkpoint, as hashes that are compared later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{
    SchemaDifference, Side, TableReport, VerifyError, VerifyOptions, VerifyProgress, VerifyReport, plan,
    read, schema, tables,
};
use crate::snapshot::Exported;

/// The way of hashing; one that is later than ours is not compared. Form 1 left lines out of texts and functions before it
/// hashed the schema: rows are compared with it alone.
const FORM: u32 = 2;

/// Hashes of a database's contents and schema. As JSON they are what the catalog keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptHashes {
    form: u32,
    /// The major version of the `pg_dump` that wrote the schema: another writes another text.
    pub pg_dump: u32,
    /// Each table's, by its quoted name; `None` for a materialised view without contents.
    pub tables: BTreeMap<String, Option<KeptTable>>,
    /// Tables whose rows were not captured, so that there is nothing to compare later.
    pub left_out: Vec<String>,
    /// SHA-256 of each schema entry, by its heading.
    schema: BTreeMap<String, String>,
}

/// One table's contents.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptTable {
    /// Its rows.
    pub rows: u64,
    /// A sum over the hashes of its rows, whatever their order.
    digest: String,
}

impl KeptHashes {
    /// Reads what was kept; `None` where it is of a later form than this program's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|kept: &Self| (1..=FORM).contains(&kept.form))
    }

    /// As it is kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names and numbers are JSON")
    }

    /// One hash over the whole schema.
    #[must_use]
    pub fn catalog_fingerprint(&self) -> String {
        let mut all = Sha256::new();
        for (heading, digest) in &self.schema {
            all.update(format!("{heading}\n{digest}\n"));
        }
        hex(&all.finalize())
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.values().flatten().map(|table| table.rows).sum()
    }

    /// How `found` differs from these. Rows cannot be named: only their hashes are kept.
    #[must_use]
    pub fn compare(&self, found: &Self) -> VerifyReport {
        let is_compared = |name: &&String| !self.left_out.contains(name);
        let all = self.tables.keys().chain(found.tables.keys());
        let mut names: Vec<&String> = all.filter(is_compared).collect();
        names.sort();
        names.dedup();
        let tables = names.into_iter().filter_map(|name| {
            let (then, now) = (self.tables.get(name), found.tables.get(name));
            // Both without contents: nothing to compare.
            (then != Some(&None) || now != Some(&None)).then(|| {
                let (then, now) = (then.and_then(Option::as_ref), now.and_then(Option::as_ref));
                TableReport {
                    table: name.clone(),
                    primary_rows: then.map(|table| table.rows),
                    replica_rows: now.map(|table| table.rows),
                    same_rows: then == now,
                    first_differences: Vec::new(),
                }
            })
        });
        let schema = match self.why_no_schema(found) {
            None => self.schema_differences(found),
            Some(_) => Vec::new(),
        };
        VerifyReport {
            schema,
            tables: tables.collect(),
            left_out: self.left_out.clone(),
            disturbed: Vec::new(),
        }
    }

    /// Why the schemas of these and `found` cannot be compared, if they cannot.
    #[must_use]
    pub fn why_no_schema(&self, found: &Self) -> Option<String> {
        if self.form != found.form {
            return Some("its fingerprint is of another form than this version's".to_owned());
        }
        let (then, now) = (self.pg_dump, found.pg_dump);
        (then != now)
            .then(|| format!("its fingerprint is of pg_dump {then}, and pg_dump {now} writes another text"))
    }

    fn schema_differences(&self, found: &Self) -> Vec<SchemaDifference> {
        let mut headings: Vec<&String> = self.schema.keys().chain(found.schema.keys()).collect();
        headings.sort();
        headings.dedup();
        let differing =
            headings.into_iter().filter(|heading| self.schema.get(*heading) != found.schema.get(*heading));
        let difference = |heading: &String| SchemaDifference {
            only_on: match (self.schema.contains_key(heading), found.schema.contains_key(heading)) {
                (true, false) => Some(Side::Primary),
                (false, true) => Some(Side::Replica),
                _ => None,
            },
            entry: heading.clone(),
            primary: None,
            replica: None,
        };
        differing.map(difference).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes a database in a snapshot. `disturbed` names the tables for which that failed, because they were
/// truncated, rewritten or dropped meanwhile.
///
/// # Errors
/// [`VerifyError`] where it cannot be read.
pub async fn hash(
    database: &Exported,
    options: &VerifyOptions,
    progress: &watch::Sender<VerifyProgress>,
) -> Result<(KeptHashes, Vec<String>), VerifyError> {
    progress.send_modify(|progress| "reading the schema".clone_into(&mut progress.step));
    let mut entries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (heading, sql) in schema::read(database, options).await? {
        entries.entry(heading).or_default().push(sql);
    }
    let schema = entries.into_iter().map(|(heading, mut sql)| {
        sql.sort();
        (heading, hex(&Sha256::digest(sql.join("\n").as_bytes())))
    });
    let listed = tables::list(database, &options.publication).await?;
    let plan::Planned { plans, left_out } = plan::of_one(listed);
    let digests = read::digests(&[database], &plans, options, progress).await?;
    let tables = plans.iter().zip(&digests).map(|(plan, digest)| {
        let [first, second] = digest.sum.halves;
        let kept = digest.rows[0].map(|rows| KeptTable { rows, digest: format!("{first:x} {second:x}") });
        (plan.shown(), kept)
    });
    let kept = KeptHashes {
        form: FORM,
        pg_dump: options.installation.version.major,
        tables: tables.collect(),
        left_out,
        schema: schema.collect(),
    };
    Ok((kept, tables::disturbed(database, &plans).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(form: u32, schema: &str) -> KeptHashes {
        KeptHashes {
            form,
            pg_dump: 18,
            tables: [("t".to_owned(), Some(KeptTable { rows: 1, digest: "1 2".into() }))].into(),
            left_out: Vec::new(),
            schema: [("f()".to_owned(), schema.to_owned())].into(),
        }
    }

    #[test]
    fn of_hashes_of_the_first_form_the_rows_are_compared_and_the_schema_is_not() {
        let first = KeptHashes::parse(&kept(1, "a").to_text()).unwrap();
        let mut found = kept(FORM, "b");
        assert!(first.compare(&found).is_equal());
        assert!(first.why_no_schema(&found).unwrap().contains("another form"));
        found.tables.clear();
        assert!(!first.compare(&found).is_equal());
        assert_eq!(kept(FORM, "a").compare(&kept(FORM, "b")).schema.len(), 1);
    }

    #[test]
    fn hashes_of_a_later_form_are_not_read() {
        assert_eq!(KeptHashes::parse(&kept(FORM + 1, "a").to_text()), None);
    }
}
