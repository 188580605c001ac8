//! What cannot be captured: the one list of it, and how it is noticed.
//!
//! Some of it is there or not ([`present`]: large objects, say); some of it happens without a trace in the stream
//! (REASSIGN OWNED, say) and is found by comparing two [`Fingerprint`]s of the primary ([`slipped`]). Doctor, the
//! status and the README tell both in the words of [`LIMITS`]. Pure, but for [`Fingerprint::take`].

mod fingerprint;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use fingerprint::{Aspect, Fingerprint};

/// Something that is not captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Names it, for scripts.
    pub code: &'static str,
    /// What is not captured, as a sentence.
    pub what: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// How it is noticed; `None` where the server leaves no trace.
    pub aspect: Option<Aspect>,
}

/// Everything that is not captured, whoever sets the primary up.
pub const LIMITS: &[Limit] = &[
    Limit {
        code: "large_objects",
        what: "Large objects: changes are not in the stream; the base image has those that were there.",
        fix: "store such values in bytea columns, or set up again when they changed",
        aspect: Some(Aspect::LargeObjects),
    },
    Limit {
        code: "unlogged_tables",
        what: "Contents of unlogged and temporary tables: they are not in WAL.",
        fix: "ALTER TABLE ... SET LOGGED; its rows are captured then",
        aspect: Some(Aspect::UnloggedTable),
    },
    Limit {
        code: "foreign_tables",
        what: "Contents of foreign tables: they are on another server, which the replica asks too.",
        fix: "point the replica's foreign server at a copy, if it must not see the original",
        aspect: Some(Aspect::ForeignTable),
    },
    Limit {
        code: "roles",
        what: "CREATE, ALTER and DROP ROLE, passwords, and grants of roles: a role that a schema change needs is created \
               on the replica, without login, and the move says so.",
        fix: "make the roles on the output server, if they are to log in there",
        aspect: Some(Aspect::Role),
    },
    Limit {
        code: "tablespaces",
        what: "CREATE, ALTER and DROP TABLESPACE.",
        fix: "make a tablespace of that name on the output server",
        aspect: Some(Aspect::Tablespace),
    },
    Limit {
        code: "event_triggers",
        what: "CREATE, ALTER and DROP EVENT TRIGGER: what the triggers do is captured, they themselves are not.",
        fix: "nothing, unless the replica is to have them; a new base image has them",
        aspect: Some(Aspect::EventTrigger),
    },
    Limit {
        code: "database_settings",
        what: "ALTER DATABASE, ALTER ROLE ... IN DATABASE, ALTER SYSTEM, grants on the database.",
        fix: "run the same on the output server",
        aspect: Some(Aspect::DatabaseSetting),
    },
    Limit {
        code: "owners",
        what: "REASSIGN OWNED: it changes owners without an event (ALTER ... OWNER TO is captured); the next DROP OWNED \
               brings the owners of everything.",
        fix: "ALTER ... OWNER TO on the primary for each, to the same owner again, which is captured; or set up again",
        aspect: Some(Aspect::Owner),
    },
    Limit {
        code: "cluster",
        what: "CLUSTER: the order of rows on disk, and the mark on the index (ALTER TABLE ... CLUSTER ON is captured).",
        fix: "ALTER TABLE ... CLUSTER ON that index again, which is captured; or nothing, as queries answer the same",
        aspect: Some(Aspect::Clustered),
    },
    Limit {
        code: "made_unseen",
        what: "A table without rows or a materialised view that EXPLAIN ANALYZE CREATE makes: no event tells of it.",
        fix: "drop each and make it without EXPLAIN ANALYZE; or set up again",
        aspect: Some(Aspect::Made),
    },
    Limit {
        code: "indexes_made_valid",
        what: "Invalid indexes that a failed CREATE INDEX CONCURRENTLY leaves, and what makes one valid without an event: \
               REINDEX before PostgreSQL 17, TRUNCATE, VACUUM FULL, CLUSTER and rewrites of its table.",
        fix: "DROP INDEX and CREATE INDEX again, which are captured",
        aspect: Some(Aspect::InvalidIndex),
    },
    Limit {
        code: "sequences_between",
        what: "Sequences between checkpoints: they are read at checkpoints, and inferred from rows in between.",
        fix: "make a checkpoint where the exact value matters, with writers paused",
        aspect: None,
    },
    Limit {
        code: "catalog_writes",
        what: "INSERT, UPDATE and DELETE on system catalogs.",
        fix: "use DDL; after a catalog was written to, set up again",
        aspect: None,
    },
    Limit {
        code: "invalid_text",
        what: "Text that is invalid in the database's encoding.",
        fix: "correct the rows, and set up again",
        aspect: None,
    },
];

/// A limit that matters for this primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Met {
    /// Which.
    pub limit: &'static Limit,
    /// What it is about, for people: what was found, or what changed.
    pub found: String,
}

/// The limits that matter for a primary as it is: there is something whose contents are not captured.
#[must_use]
pub fn present(fingerprint: &Fingerprint) -> Vec<Met> {
    let contents = [Aspect::LargeObjects, Aspect::UnloggedTable, Aspect::ForeignTable];
    LIMITS
        .iter()
        .filter_map(|limit| {
            let aspect = limit.aspect.filter(|aspect| contents.contains(aspect))?;
            let things = fingerprint.of(aspect);
            let found = match aspect {
                Aspect::LargeObjects => things.values().next().map(|value| format!("large objects: {value}")),
                _ => (!things.is_empty()).then(|| named(aspect, &things.keys().cloned().collect::<Vec<_>>())),
            };
            found.map(|found| Met { limit, found })
        })
        .collect()
}

/// Something that changed on the primary without passing through the stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slipped {
    /// What kind of thing.
    pub aspect: Aspect,
    /// The things that changed, appeared or went away.
    pub names: Vec<String>,
}

impl Slipped {
    /// The limit that it is about.
    #[must_use]
    pub fn limit(&self) -> Option<&'static Limit> {
        LIMITS.iter().find(|limit| limit.aspect == Some(self.aspect))
    }

    /// What happened, for people.
    #[must_use]
    pub fn told(&self) -> String {
        match self.aspect {
            Aspect::Owner => format!("{} got another owner", named(self.aspect, &self.names)),
            Aspect::Made => format!("{} appeared", named(self.aspect, &self.names)),
            Aspect::InvalidIndex => {
                format!("{} became valid, which replicas do not have", named(self.aspect, &self.names))
            }
            _ => format!("{} changed", named(self.aspect, &self.names)),
        }
    }
}

/// What differs between two fingerprints although no captured schema change was about it. `touched` holds what
/// captured ones were about, as the server identifies objects.
#[must_use]
pub fn slipped(before: &Fingerprint, after: &Fingerprint, touched: &BTreeSet<String>) -> Vec<Slipped> {
    Aspect::ALL
        .into_iter()
        .filter_map(|aspect| {
            let names = match aspect {
                Aspect::Made => made(before, after, touched),
                Aspect::InvalidIndex => made_valid(before, after, touched),
                _ => changed(aspect, before.of(aspect), after.of(aspect), touched),
            };
            (!names.is_empty()).then_some(Slipped { aspect, names })
        })
        .collect()
}

fn changed(
    aspect: Aspect,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    touched: &BTreeSet<String>,
) -> Vec<String> {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&&String| match aspect {
        // What has no contents now, or none any more, is told by `present` and by its schema change.
        Aspect::UnloggedTable | Aspect::ForeignTable | Aspect::Made | Aspect::InvalidIndex => false,
        // A new object has a new owner; that is its schema change.
        Aspect::Owner => {
            before.get(**name).zip(after.get(**name)).is_some_and(|(before, after)| before != after)
        }
        _ => before.get(**name) != after.get(**name),
    };
    all.iter().filter(differs).filter(|name| !touched.contains(**name)).map(|name| (*name).clone()).collect()
}

/// What is new and not under another name: a schema that is renamed takes its tables along.
fn made(before: &Fingerprint, after: &Fingerprint, touched: &BTreeSet<String>) -> Vec<String> {
    let known: BTreeSet<&String> = before.of(Aspect::Made).values().collect();
    let is_new = |(name, oid): &(&String, &String)| {
        // A fingerprint that an earlier version took has owners alone.
        !known.contains(oid) && !before.of(Aspect::Owner).contains_key(*name) && !touched.contains(*name)
    };
    after.of(Aspect::Made).iter().filter(is_new).map(|(name, _)| name.clone()).collect()
}

/// Indexes that are invalid no more, on tables that are still there; a captured DROP INDEX or REINDEX names its index.
fn made_valid(before: &Fingerprint, after: &Fingerprint, touched: &BTreeSet<String>) -> Vec<String> {
    let tables: BTreeSet<&str> = after.of(Aspect::Made).values().map(String::as_str).collect();
    let invalid = after.of(Aspect::InvalidIndex);
    let gone = before.of(Aspect::InvalidIndex).iter().filter(|(oid, _)| !invalid.contains_key(*oid));
    let named = gone.filter_map(|(_, value)| value.split_once(' '));
    named
        .filter(|(table, index)| tables.contains(table) && !touched.contains(*index))
        .map(|(_, index)| index.to_owned())
        .collect()
}

/// Things of one kind for a sentence: how many, and the first few.
fn named(aspect: Aspect, names: &[String]) -> String {
    let (one, many) = aspect.nouns();
    let noun = if names.len() == 1 { one } else { many };
    format!("{} {noun} ({})", names.len(), crate::doctor::list(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(things: &[(Aspect, &str, &str)]) -> Fingerprint {
        let things =
            things.iter().map(|(aspect, name, value)| (*aspect, (*name).to_owned(), (*value).to_owned()));
        Fingerprint::of_things(things)
    }

    #[test]
    fn an_owner_that_no_captured_statement_changed_slipped_through() {
        let before = of(&[(Aspect::Owner, "public.a", "app"), (Aspect::Owner, "public.b", "app")]);
        let after = of(&[
            (Aspect::Owner, "public.a", "boss"),
            (Aspect::Owner, "public.b", "boss"),
            (Aspect::Owner, "public.new", "boss"),
        ]);
        let touched = BTreeSet::from(["public.b".to_owned()]);
        let found = slipped(&before, &after, &touched);
        assert_eq!(found, [Slipped { aspect: Aspect::Owner, names: vec!["public.a".into()] }]);
        assert_eq!(found[0].told(), "1 object (public.a) got another owner");
        assert_eq!(slipped(&before, &before, &BTreeSet::new()), []);
    }

    #[test]
    fn a_table_that_no_captured_statement_made_slipped_through() {
        let before = of(&[(Aspect::Made, "s.moves", "1"), (Aspect::Owner, "public.known", "app")]);
        let after = of(&[
            (Aspect::Made, "renamed.moves", "1"),
            (Aspect::Made, "public.known", "2"),
            (Aspect::Made, "public.told", "3"),
            (Aspect::Made, "public.hidden", "4"),
        ]);
        let found = slipped(&before, &after, &BTreeSet::from(["public.told".to_owned()]));
        assert_eq!(found, [Slipped { aspect: Aspect::Made, names: vec!["public.hidden".into()] }]);
        assert_eq!(found[0].told(), "1 table or materialised view (public.hidden) appeared");
    }

    #[test]
    fn an_index_that_became_valid_without_a_captured_statement_slipped_through() {
        let table = |oid| (Aspect::Made, if oid == "1" { "public.a" } else { "public.b" }, oid);
        let before = of(&[
            table("1"),
            table("2"),
            (Aspect::InvalidIndex, "11", "1 public.mended"),
            (Aspect::InvalidIndex, "12", "1 public.dropped"),
            (Aspect::InvalidIndex, "13", "1 public.still"),
            (Aspect::InvalidIndex, "14", "2 public.with_its_table"),
        ]);
        let after = of(&[table("1"), (Aspect::InvalidIndex, "13", "1 public.renamed")]);
        let found = slipped(&before, &after, &BTreeSet::from(["public.dropped".to_owned()]));
        assert_eq!(found, [Slipped { aspect: Aspect::InvalidIndex, names: vec!["public.mended".into()] }]);
        assert_eq!(found[0].told(), "1 index (public.mended) became valid, which replicas do not have");
    }

    #[test]
    fn contents_that_are_not_captured_are_told_as_long_as_they_are_there() {
        let fingerprint = of(&[
            (Aspect::LargeObjects, "large objects", "3 up to 16400"),
            (Aspect::UnloggedTable, "public.fast", ""),
            (Aspect::Role, "app", ""),
        ]);
        let found: Vec<String> = present(&fingerprint).into_iter().map(|met| met.found).collect();
        assert_eq!(found, ["large objects: 3 up to 16400", "1 unlogged table (public.fast)"]);
    }

    #[test]
    fn every_aspect_has_its_limit_and_the_readme_names_every_limit() {
        for aspect in Aspect::ALL {
            assert_eq!(LIMITS.iter().filter(|limit| limit.aspect == Some(aspect)).count(), 1, "{aspect:?}");
        }
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let readme = words(include_str!("../../../README.md"));
        for limit in LIMITS {
            assert!(readme.contains(&words(limit.what)), "README.md does not say: {}", limit.what);
        }
    }
}
