//! Schema changes whose outcome cannot be computed again: from the log, or not at all.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use ptr_log::Outline;
use ptr_model::{
    Change, Column, Datum, DroppedObject, MissingValue, Oid, Relation, RelationRows, ReplicaIdentity,
    SchemaChange, Statement, Tuple,
};
use ptr_replay::{
    Applier, Limits, Notice, ReplayError,
    apply::{Applied, Boundary, boundary},
};
use ptr_testkit::ServerVersion;
use std::sync::Arc;
use support::{World, schema_change};

/// A session at CREATION, and an applier on it that takes transactions made by hand.
struct Hand {
    world: World,
    applier: Applier,
    next: u64,
}

impl Hand {
    async fn new(schema: &str) -> Self {
        let world = World::new(ServerVersion::Debian15, schema).await;
        world.go(world.log.creation()).await;
        let applier = Applier::open(&world.dsn(), world.session.log_id, Limits::default()).await.unwrap();
        Self { world, applier, next: 0 }
    }

    async fn transaction(&mut self, changes: Vec<Change>) -> Result<(), ReplayError> {
        let outline = outline(self.next, self.applier.reached().entry_index, &changes);
        self.applier.begin(&outline).await?;
        let found = changes.iter().cloned().filter_map(boundary);
        let boundaries: Vec<_> = found.map(|change| Boundary { change, is_left_out: false }).collect();
        for change in changes {
            if self.applier.needs_ends(&change) {
                self.applier.foresee(boundaries.clone());
            }
            self.applier.change(change).await?;
        }
        self.applier.end().await?;
        self.next += 1;
        Ok(())
    }

    async fn stop_reason(&mut self, changes: Vec<Change>) -> String {
        let error = self.transaction(changes).await.expect_err("it cannot be replayed");
        self.applier.abandon().await.unwrap();
        match error {
            ReplayError::Stopped(stop) => stop.reason,
            other => panic!("{other}"),
        }
    }

    async fn ask(&self, sql: &str) -> String {
        self.world.server.psql("session", sql).await.trim().to_owned()
    }

    fn applied(&self) -> &Applied {
        self.applier.applied()
    }
}

fn outline(ordinal: u64, first_entry: u64, changes: &[Change]) -> Outline {
    let operations = || changes.iter().filter_map(Change::operation);
    let lsn = ptr_model::Lsn(1_000_000 + ordinal * 100);
    Outline {
        header: ptr_model::TransactionHeader {
            xid: ptr_model::Xid(1),
            commit_lsn: lsn,
            end_lsn: ptr_model::Lsn(lsn.0 + 50),
            commit_time: ptr_model::Timestamp(0),
            origin: None,
        },
        ordinal,
        first_entry,
        entries: operations().count() as u64,
        changes_schema: operations().any(|operation| operation == ptr_model::Operation::Ddl),
        has_gap: changes.iter().any(|change| matches!(change, Change::Gap(_))),
    }
}

fn ddl(tag: &str, text: &str) -> SchemaChange {
    schema_change(tag, text)
}

fn change(change: SchemaChange) -> Change {
    Change::Schema(Box::new(change))
}

fn start_of(tag: &str) -> Change {
    change(SchemaChange { event: "ddl_command_start".into(), is_entry: false, ..ddl(tag, "") })
}

fn described(view: &str, populated: bool) -> serde_json::Value {
    serde_json::json!([{"relation": format!("public.{view}"), "schema": "public", "name": view, "persistence": "p",
        "populated": populated}])
}

fn rows(relation: &str, rows: &[&str]) -> Change {
    Change::Rows(Box::new(RelationRows {
        relation: relation.into(),
        columns: vec!["id".into()],
        first: true,
        rows: rows.iter().map(|row| vec![Some((*row).to_owned())]).collect(),
    }))
}

#[tokio::test]
async fn a_rewrite_takes_its_rows_from_the_log_and_stops_without_them() {
    let mut hand = Hand::new("CREATE TABLE a (id int); INSERT INTO a VALUES (1), (2)").await;
    let rewrite = || {
        let text = "ALTER TABLE a ALTER id TYPE numeric USING random()";
        change(SchemaChange { rewrites: vec![("public.a".into(), 4)], ..ddl("ALTER TABLE", text) })
    };
    let reason = hand.stop_reason(vec![rewrite()]).await;
    assert!(reason.contains("rewritten"), "{reason}");
    assert_eq!(hand.ask("SELECT array_agg(id ORDER BY id) FROM a").await, "{1,2}");
    hand.transaction(vec![rewrite(), rows("public.a", &["0.25", "0.5"])]).await.unwrap();
    assert_eq!(hand.ask("SELECT array_agg(id ORDER BY id) FROM a").await, "{0.25,0.5}");
}

#[tokio::test]
async fn a_rewrite_keeps_rows_that_a_check_which_is_not_valid_would_refuse() {
    let schema = "CREATE TABLE a (id int); INSERT INTO a VALUES (1);
        ALTER TABLE a ADD CONSTRAINT large CHECK (id > 5) NOT VALID;
        COMMENT ON CONSTRAINT large ON a IS 'for new rows'";
    let mut hand = Hand::new(schema).await;
    let text = "ALTER TABLE a ALTER id TYPE numeric USING random()";
    let rewrite = change(SchemaChange { rewrites: vec![("public.a".into(), 4)], ..ddl("ALTER TABLE", text) });
    hand.transaction(vec![rewrite, rows("public.a", &["0.25"])]).await.unwrap();
    assert_eq!(hand.ask("SELECT array_agg(id) FROM a").await, "{0.25}");
    let check =
        "SELECT pg_get_constraintdef(oid), obj_description(oid) FROM pg_constraint WHERE conname = 'large'";
    let kept = hand.ask(check).await;
    assert!(kept.ends_with(" NOT VALID|for new rows"), "{kept}");
}

#[tokio::test]
async fn indexes_that_were_built_again_are_built_again_one_by_one() {
    let mut hand = Hand::new("CREATE TABLE a (id int); CREATE INDEX i ON a (id)").await;
    let index = ptr_model::AffectedObject {
        object_type: "index".into(),
        schema: Some("public".into()),
        identity: "public.i".into(),
        oid: 0,
        in_extension: false,
    };
    let text = "REINDEX (VERBOSE) SCHEMA CONCURRENTLY public";
    let again = SchemaChange { objects: vec![index], ..ddl("REINDEX", text) };
    let before = hand.ask("SELECT relfilenode FROM pg_class WHERE relname = 'i'").await;
    hand.transaction(vec![change(again)]).await.unwrap();
    assert_ne!(hand.ask("SELECT relfilenode FROM pg_class WHERE relname = 'i'").await, before);
}

#[tokio::test]
async fn a_default_that_was_evaluated_once_keeps_its_value() {
    let mut hand = Hand::new("CREATE TABLE a (id int); INSERT INTO a VALUES (1)").await;
    let missing = MissingValue {
        relation: "public.a".into(),
        column: "at".into(),
        value: Some("2001-02-03 04:05:06+00".into()),
    };
    let text = "ALTER TABLE a ADD at timestamptz DEFAULT now()";
    hand.transaction(vec![change(SchemaChange {
        missing_values: vec![missing],
        ..ddl("ALTER TABLE", text)
    })])
    .await
    .unwrap();
    assert_eq!(hand.ask("SET timezone = 'UTC'; SELECT at FROM a").await, "2001-02-03 04:05:06+00");
}

#[tokio::test]
async fn a_table_made_from_a_query_gets_the_captured_rows() {
    let mut hand = Hand::new("CREATE TABLE a (id int)").await;
    let made = serde_json::json!([{"schema": "public", "name": "made", "persistence": "p",
        "columns": [{"name": "x", "type": "double precision", "collation": null}]}]);
    let mut end = ddl("CREATE TABLE AS", "CREATE TABLE made AS SELECT random() AS x");
    end.details.insert("table_as".into(), made);
    let relation = Arc::new(Relation {
        oid: Oid(9),
        schema: "public".into(),
        name: "made".into(),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![Column {
            name: "x".into(),
            in_identity: false,
            type_oid: Oid(701),
            type_modifier: -1,
            type_name: "double precision".into(),
        }],
    });
    let row = Change::Insert { relation, new: Tuple(vec![Datum::Text("0.125".into())]) };
    hand.transaction(vec![start_of("CREATE TABLE AS"), row, change(end)]).await.unwrap();
    assert_eq!(hand.ask("SELECT x FROM made").await, "0.125");
}

#[tokio::test]
async fn a_role_that_is_missing_is_created_without_login_and_owns_what_it_made() {
    let mut hand = Hand::new("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    let mut made = ddl("CREATE TABLE", "CREATE TABLE theirs (id int)");
    made.environment.session_user = "newcomer".into();
    made.environment.current_user = "newcomer".into();
    made.environment.settings.insert("default_tablespace".into(), String::new());
    hand.transaction(vec![change(made)]).await.unwrap();
    assert_eq!(hand.ask("SELECT tableowner FROM pg_tables WHERE tablename = 'theirs'").await, "newcomer");
    assert_eq!(hand.ask("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'newcomer'").await, "f");
    assert_eq!(hand.applied().notices, [Notice::RoleCreated { role: "newcomer".into() }]);
    let mut more = ddl("CREATE EVENT TRIGGER", "CREATE SCHEMA elsewhere");
    more.environment.current_user = "newcomer".into();
    hand.transaction(vec![change(more)]).await.unwrap();
    assert_eq!(hand.ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'newcomer'").await, "f");
    assert!(
        matches!(&hand.applied().notices[1], Notice::RanWithMoreRights { role, .. } if role == "newcomer")
    );
}

#[tokio::test]
async fn what_cannot_be_done_exactly_stops_and_what_must_not_be_done_is_reported() {
    let mut hand = Hand::new("CREATE TABLE a (id int)").await;
    let underivable = Statement::Underivable { reason: "nobody knows".into(), text: "DO $$...$$".into() };
    let unknown = SchemaChange { statement: underivable, ..ddl("CREATE TABLE", "") };
    assert!(hand.stop_reason(vec![change(unknown)]).await.contains("nobody knows"));
    let view = ddl("CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW m AS SELECT random()");
    assert!(hand.stop_reason(vec![change(view)]).await.contains("other rows"));
    let mut filled = ddl("REFRESH MATERIALIZED VIEW", "REFRESH MATERIALIZED VIEW m");
    filled.details.insert("table_as".into(), described("m", true));
    let mut without_rows = ddl("CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW m AS SELECT random()");
    without_rows.details.insert("table_as".into(), described("m", true));
    let reason = hand.stop_reason(vec![change(without_rows), change(filled)]).await;
    assert!(reason.contains("public.m"), "{reason}");
    let gap =
        ptr_model::Gap { reason: "it was lost".into(), statement: None, sqlstate: None, relation: None };
    assert_eq!(hand.stop_reason(vec![Change::Gap(gap)]).await, "it was lost");
    let mut empty =
        ddl("CREATE MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW m AS SELECT random() WITH NO DATA");
    empty.details.insert("table_as".into(), described("m", false));
    let index = ddl("CREATE INDEX", "CREATE INDEX CONCURRENTLY i ON a (id)");
    hand.transaction(vec![change(empty), change(index)]).await.unwrap();
    assert_eq!(hand.ask("SELECT count(*) FROM pg_class WHERE relname IN ('m', 'i')").await, "2");
    let subscription = ddl("CREATE SUBSCRIPTION", "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p");
    hand.transaction(vec![change(subscription)]).await.unwrap();
    assert!(matches!(&hand.applied().notices[..], [Notice::Skipped { .. }]));
}

#[tokio::test]
async fn rows_that_were_missed_stop_replay_unless_they_follow_in_the_transaction() {
    let mut hand = Hand::new("CREATE TABLE a (id int)").await;
    let missed = |relation: &str| {
        Change::Gap(ptr_model::Gap {
            reason: format!("{relation} is left out"),
            statement: None,
            sqlstate: None,
            relation: Some(relation.to_owned()),
        })
    };
    let rows = RelationRows {
        relation: "public.a".into(),
        columns: vec!["id".into()],
        first: true,
        rows: vec![vec![Some("7".into())]],
    };
    let key = || change(ddl("ALTER TABLE", "ALTER TABLE a ADD PRIMARY KEY (id)"));
    assert_eq!(hand.stop_reason(vec![missed("public.a"), key()]).await, "public.a is left out");
    hand.transaction(vec![missed("public.a"), key(), Change::Rows(Box::new(rows))]).await.unwrap();
    assert_eq!(hand.ask("SELECT id FROM a").await, "7");
    let dropped =
        DroppedObject { object_type: "table".into(), identity: "public.b".into(), is_temporary: false };
    let drop = SchemaChange { dropped: vec![dropped], ..ddl("DROP TABLE", "DROP TABLE b") };
    let make = change(ddl("CREATE TABLE", "CREATE TABLE b (id int)"));
    hand.transaction(vec![make, missed("public.b"), change(drop)]).await.unwrap();
}

#[tokio::test]
async fn an_extension_runs_its_script_once() {
    let mut hand = Hand::new("CREATE TABLE a (id int)").await;
    let inner = SchemaChange { is_entry: false, ..ddl("CREATE FUNCTION", "CREATE FUNCTION gibberish") };
    let changes = vec![
        start_of("CREATE EXTENSION"),
        change(inner),
        change(ddl("CREATE EXTENSION", "CREATE EXTENSION citext")),
        change(ddl("CREATE TABLE", "CREATE TABLE names (name citext PRIMARY KEY)")),
    ];
    hand.transaction(changes).await.unwrap();
    assert_eq!(hand.ask("SELECT count(*) FROM pg_extension WHERE extname = 'citext'").await, "1");
    let relation = Arc::new(Relation {
        oid: Oid(11),
        schema: "public".into(),
        name: "names".into(),
        replica_identity: ReplicaIdentity::Full,
        columns: vec![Column {
            name: "name".into(),
            in_identity: true,
            type_oid: Oid(12),
            type_modifier: -1,
            type_name: "public.citext".into(),
        }],
    });
    let row = |text: &'static str| Tuple(vec![Datum::Text(text.into())]);
    let insert = Change::Insert { relation: relation.clone(), new: row("Ada") };
    let update = Change::Update { relation, old: ptr_model::OldTuple::Full(row("Ada")), new: row("ADA") };
    hand.transaction(vec![insert]).await.unwrap();
    hand.transaction(vec![update]).await.unwrap();
    hand.applier.commit().await.unwrap();
    assert_eq!(hand.ask("SELECT name FROM names").await, "ADA");
}
