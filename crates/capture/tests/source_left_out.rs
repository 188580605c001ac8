//! Tables that a publication would harm are left out of it, and everything else is captured as before.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use ptr_capture::assemble::Step;
use ptr_capture::ddl::Secret;
use ptr_capture::doctor::{Severity, check_primary};
use ptr_model::{Change, Lsn};
use ptr_postgres::QualifiedName;
use ptr_testkit::ServerVersion;
use source_support::{Primary, create_role, sqlstate};

/// What the stream holds of rows and gaps, a line each.
async fn said(primary: &Primary, secret: &Secret) -> Vec<String> {
    let steps = primary.stream(secret).await;
    let said = steps.iter().filter_map(|step| match step {
        Step::Change(Change::Insert { relation, .. }) => Some(format!("insert {}", relation.name)),
        Step::Change(Change::Update { relation, .. }) => Some(format!("update {}", relation.name)),
        Step::Change(Change::Delete { relation, .. }) => Some(format!("delete {}", relation.name)),
        Step::Change(Change::Truncate { relations, .. }) => Some(format!(
            "truncate {}",
            relations.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(" ")
        )),
        Step::Change(Change::Rows(rows)) => Some(format!("rows {} {}", rows.relation, rows.rows.len())),
        Step::Change(Change::Gap(gap)) => {
            Some(format!("gap {}", gap.relation.clone().unwrap_or_else(|| gap.reason.clone())))
        }
        _ => None,
    });
    // The end of a statement says again what its drop of a key has said.
    let mut said: Vec<String> = said.collect();
    said.dedup();
    said
}

const PUBLISHED: &str =
    "SELECT coalesce(string_agg(tablename, ' ' ORDER BY tablename), '') FROM pg_publication_tables";

on_every_version! {
    /// Excluded by the user, because before 18 no column stands against FULL.
    async fn a_new_table_that_would_be_harmed_is_left_out_and_the_others_stay(version) {
        let mut primary = Primary::start(version).await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        primary.run("CREATE TABLE before (id int PRIMARY KEY); CREATE TABLE keyless (x int)").await;
        let secret = primary.prepare().await.secret.unwrap();
        let session = primary.session().await;
        for statement in [
            "CREATE TABLE harmed (x int)",
            "INSERT INTO harmed VALUES (1); UPDATE harmed SET x = 2",
            "INSERT INTO before VALUES (1); UPDATE before SET id = 2",
            "INSERT INTO keyless VALUES (1); DELETE FROM keyless",
            "CREATE TABLE after (x int); INSERT INTO after VALUES (1); UPDATE after SET x = 2",
            "CREATE TABLE copied AS SELECT 1 AS x",
            "UPDATE copied SET x = 2",
            "CREATE TABLE parted (x int) PARTITION BY LIST (x); CREATE TABLE parted_1 PARTITION OF parted DEFAULT",
            "INSERT INTO parted VALUES (1)",
            "TRUNCATE before, harmed, parted",
            "INSERT INTO harmed VALUES (7), (8), (9); ALTER TABLE harmed ADD PRIMARY KEY (x)",
            "DELETE FROM harmed WHERE x = 7",
            "ALTER TABLE after SET UNLOGGED; INSERT INTO after VALUES (3)",
            "ALTER TABLE after SET LOGGED",
            "DELETE FROM after WHERE x = 3",
            "BEGIN; ALTER TABLE before RENAME TO past; SAVEPOINT s; ALTER TABLE past SET UNLOGGED; ROLLBACK TO s; COMMIT",
            "INSERT INTO past VALUES (5)",
        ] {
            assert_eq!(sqlstate(&session, statement).await, "00000", "{statement}");
        }
        assert_eq!(
            said(&primary, &secret).await,
            [
                "gap public.harmed",
                "insert before", "update before",
                "insert keyless", "delete keyless",
                "insert after", "update after",
                "rows public.copied 1", "update copied",
                "insert parted_1",
                "truncate before parted_1",
                "rows public.harmed 3", "delete harmed",
                "rows public.after 2", "delete after",
                "insert past",
            ]
        );
        assert_eq!(primary.value(PUBLISHED).await, "after copied harmed keyless parted_1 past");
        assert_eq!(primary.value("SELECT count(*) FROM pg_depend WHERE classid = 'pg_publication_rel'::regclass").await, "12");
        primary.run("DROP TABLE harmed, parted").await;
        assert_eq!(primary.value(PUBLISHED).await, "after copied keyless past");
    }

    /// While a statement runs that may set a table UNLOGGED, the table is off the list.
    async fn the_list_is_whole_again_whatever_a_statement_that_says_unlogged_came_to(version) {
        let mut primary = Primary::start(version).await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        primary.run("CREATE TABLE harmed (x int); CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
            CREATE TABLE \"Ä \"\"n;\" (id int PRIMARY KEY);
            CREATE FUNCTION by_sql() RETURNS void LANGUAGE sql AS 'ALTER TABLE a SET UNLOGGED'").await;
        primary.prepare().await;
        let all = "a b Ä \"n;";
        for (statement, published) in [
            ("ALTER TABLE IF EXISTS missing SET UNLOGGED", all),
            ("ALTER TABLE a ADD c int; ALTER TABLE b ADD c int; ALTER TABLE IF EXISTS missing ADD c int -- unlogged", all),
            ("ALTER TABLE a SET UNLOGGED", "b Ä \"n;"),
            ("ALTER TABLE a SET LOGGED", all),
            ("SELECT by_sql()", "b Ä \"n;"),
            ("ALTER TABLE a SET LOGGED; ALTER TABLE \"Ä \"\"n;\" ADD c text DEFAULT 'alter table', SET UNLOGGED", "a b"),
            ("ALTER TABLE \"Ä \"\"n;\" SET LOGGED", all),
            ("DO $$ BEGIN EXECUTE 'ALTER TABLE B SET ' || 'UNLOGGED'; END $$", "a Ä \"n;"),
            ("ALTER TABLE ONLY b SET LOGGED", all),
            ("BEGIN ISOLATION LEVEL REPEATABLE READ; ALTER TABLE a SET UNLOGGED; ALTER TABLE a SET LOGGED; COMMIT", all),
            // A session that names our schema, and one for which nothing can be described.
            ("SET search_path = public, postgres_test_replay; ALTER TABLE b SET UNLOGGED", "a Ä \"n;"),
            ("ALTER TABLE b SET LOGGED", all),
            ("SET search_path = public, postgres_test_replay; ALTER TABLE b ADD d int /* ALTER TABLE b SET UNLOGGED */", all),
            ("ALTER FUNCTION postgres_test_replay.describe_missing(oid[]) RENAME TO gone;
              ALTER TABLE a ADD e int DEFAULT 1; ALTER TABLE b ADD e int DEFAULT 1 /* unlogged */", all),
        ] {
            let session = primary.session().await;
            assert_eq!(sqlstate(&session, statement).await, "00000", "{statement}");
            assert_eq!(primary.value(PUBLISHED).await, published, "{statement}");
        }
        // However long the string.
        let long = format!("ALTER TABLE b ADD f text DEFAULT '{}'; ALTER TABLE a SET UNLOGGED; ALTER TABLE a SET LOGGED", "x".repeat(20_000));
        assert_eq!(sqlstate(&primary.session().await, &long).await, "00000");
        assert_eq!(primary.value(PUBLISHED).await, all);
        assert_eq!(primary.value("SELECT count(*) FROM pg_depend WHERE classid = 'pg_publication_rel'::regclass").await, "6");
    }

    async fn what_one_sets_unlogged_holds_up_nobody_who_is_at_other_tables(version) {
        let mut primary = Primary::start(version).await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        primary.run("CREATE TABLE harmed (x int); CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
            CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE d (id int PRIMARY KEY)").await;
        primary.prepare().await;
        let (first, second) = (primary.session().await, primary.session().await);
        first.batch_execute("BEGIN; ALTER TABLE a SET UNLOGGED").await.unwrap();
        for statement in ["SET lock_timeout = '20s'", "DROP TABLE c", "ALTER TABLE b SET UNLOGGED", "ALTER TABLE d RENAME TO e"] {
            assert_eq!(sqlstate(&second, statement).await, "00000", "{statement}");
        }
        first.batch_execute("COMMIT").await.unwrap();
        assert_eq!(primary.value(PUBLISHED).await, "e");
    }

    async fn others_can_neither_take_tables_off_the_list_nor_make_one(version) {
        let mut primary = Primary::start(version).await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        primary.run(&create_role(&primary.server, "mallory", "")).await;
        primary.run("GRANT CREATE ON SCHEMA public TO mallory; CREATE TABLE kept (id int PRIMARY KEY)").await;
        primary.prepare().await;
        let mallory = primary.session_as("mallory").await;
        mallory.batch_execute("CREATE TABLE mine (id int PRIMARY KEY)").await.unwrap();
        // While all tables are published.
        for setting in ["emptied = 'on'", "taken = '{16384}:0'"] {
            let statement = format!("SET postgres_test_replay.{setting}; ALTER TABLE mine ADD z int; ALTER TABLE mine DROP z");
            assert_eq!(sqlstate(&mallory, &statement).await, "00000");
        }
        assert_eq!(primary.value("SELECT count(*) FROM pg_publication_rel").await, "0");
        assert_eq!(sqlstate(&mallory, "ALTER TABLE mine SET UNLOGGED").await, "00000");
        assert_eq!(sqlstate(&mallory, "ALTER TABLE mine SET LOGGED").await, "00000");

        // While a list is.
        primary.run("CREATE TABLE harmed (x int)").await;
        for call in ["before_unlogged()", "before_unlogged('postgres')"] {
            let statement = format!("CREATE FUNCTION on_alter() RETURNS boolean LANGUAGE plpgsql AS
                $$ DECLARE done boolean; BEGIN done := postgres_test_replay.{call}; RETURN done; END $$");
            assert_eq!(sqlstate(&mallory, &statement).await, "00000");
            // Whether there is such a function or not.
            sqlstate(&mallory, "SELECT on_alter() /* ALTER TABLE kept SET UNLOGGED */").await;
            assert_eq!(sqlstate(&mallory, "DROP FUNCTION on_alter").await, "00000");
            assert_eq!(primary.value(PUBLISHED).await, "kept mine", "{call}");
        }
        // Names of tables that are not theirs change nothing for these, not even while the statement runs.
        mallory.batch_execute("BEGIN; ALTER TABLE mine ADD z int /* ALTER TABLE kept SET UNLOGGED */").await.unwrap();
        let other = primary.session().await;
        assert_eq!(sqlstate(&other, "SET lock_timeout = '20s'; ALTER TABLE kept SET UNLOGGED").await, "00000");
        mallory.batch_execute("COMMIT").await.unwrap();
        assert_eq!(primary.value(PUBLISHED).await, "mine");
    }

    /// Such a key identifies no rows for PostgreSQL, and "no primary key" would send the user to look for one.
    async fn a_deferrable_primary_key_is_called_that(version) {
        let mut primary = Primary::start(version).await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        let secret = primary.prepare().await.secret.unwrap();
        primary.run("CREATE TABLE harmed (x int PRIMARY KEY DEFERRABLE)").await;
        let steps = primary.stream(&secret).await;
        let reason = steps.iter().find_map(|step| match step {
            Step::Change(Change::Gap(gap)) => Some(gap.reason.clone()),
            _ => None,
        });
        let reason = reason.unwrap();
        assert!(reason.contains("its primary key is deferrable, which identifies no rows"), "{reason}");
        assert!(reason.contains("give it a primary key that is not deferrable, after which"), "{reason}");
    }

    async fn a_table_that_was_there_is_left_out_by_set_up_and_taken_in_with_its_key(version) {
        let mut primary = Primary::start(version).await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        primary.run("CREATE TABLE harmed (x int); CREATE TABLE other (x int); INSERT INTO harmed VALUES (1)").await;
        let prepared = primary.prepare().await;
        assert!(prepared.warnings.iter().any(|finding| finding.code == "unpublishable_tables"), "{:?}", prepared.warnings);
        let secret = prepared.secret.unwrap();
        primary.run("UPDATE harmed SET x = 2; INSERT INTO other VALUES (1)").await;
        primary.run("ALTER TABLE harmed ADD PRIMARY KEY (x)").await;
        primary.run("UPDATE harmed SET x = 3").await;
        assert_eq!(said(&primary, &secret).await, ["insert other", "rows public.harmed 1", "update harmed"]);
    }

    /// A transaction that made a table before, and commits after, has it on nobody's list: that is said.
    async fn tables_that_are_made_meanwhile_are_not_lost_in_silence(version) {
        let mut primary = Primary::start(version).await;
        primary.options.exclude_tables = vec![QualifiedName::new("public", "harmed")];
        let secret = primary.prepare().await.secret.unwrap();
        let (slow, session) = (primary.session().await, primary.session().await);
        slow.batch_execute("BEGIN; CREATE TABLE meanwhile (x int)").await.unwrap();
        session.batch_execute("CREATE TABLE harmed (x int); UPDATE harmed SET x = 1").await.unwrap();
        slow.batch_execute("COMMIT").await.unwrap();
        slow.batch_execute("UPDATE meanwhile SET x = 1").await.unwrap();
        let said = said(&primary, &secret).await;
        assert!(said.iter().any(|line| line.starts_with("gap the publication became a list")), "{said:?}");
        let findings = check_primary(&primary.options).await;
        let finding = findings.iter().find(|finding| finding.code == "unpublished_tables").unwrap();
        assert!(finding.severity == Severity::Warning && finding.meaning.contains("\"meanwhile\""), "{finding:?}");
        // The next change of it takes it in, rows and all.
        slow.batch_execute("ALTER TABLE meanwhile ADD COLUMN y int").await.unwrap();
        assert_eq!(primary.value(PUBLISHED).await, "meanwhile");
    }

    async fn nobody_else_can_empty_the_list(version) {
        let primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "app", "")).await;
        primary.prepare().await;
        let app = primary.session_as("app").await;
        for call in ["take_off('', 'app')", "leave_out('{}')", "unlist_tables(NULL)", "list_tables(NULL)", "spare('{}', true)"] {
            assert_eq!(sqlstate(&app, &format!("SELECT postgres_test_replay.{call}")).await, "42501", "{call}");
        }
    }
}

/// Virtual generated columns are of 18.
#[tokio::test]
async fn a_virtual_column_leaves_a_table_out_until_it_has_a_key() {
    let primary = Primary::start(ServerVersion::Pypi18).await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2))").await;
    let prepared = primary.prepare().await;
    assert!(prepared.manifest.lsn > Lsn(0));
    let secret = prepared.secret.unwrap();
    for statement in [
        "INSERT INTO t VALUES (1, 1)",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "UPDATE t SET a = 2",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "UPDATE t SET a = 3",
        "ALTER TABLE t DROP COLUMN id CASCADE",
        "UPDATE t SET a = 4",
        "ALTER TABLE t DROP COLUMN b",
        "UPDATE t SET a = 5",
    ] {
        primary.run(statement).await;
    }
    assert_eq!(
        said(&primary, &secret).await,
        [
            "insert t",
            "gap public.t",
            "rows public.t 1",
            "update t",
            "gap public.t",
            "rows public.t 1",
            "update t"
        ]
    );
}
