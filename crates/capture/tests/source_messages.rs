//! What the event triggers say, and whom they believe.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use serde_json::{Value, json};
use source_support::{Primary, create_role, sqlstate};

/// `event tag` of each message.
fn kinds(messages: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    messages.iter().map(|m| format!("{} {}", text(&m["event"]), text(&m["tag"])).trim().to_owned()).collect()
}

on_every_version! {
    async fn a_statement_is_said_with_what_it_ran_under(version) {
        let primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "app", "")).await;
        primary.run("GRANT CREATE ON SCHEMA public TO app").await;
        let secret = primary.prepare().await.secret.unwrap();
        let app = primary.session_as("app").await;
        app.batch_execute("SET DateStyle = 'SQL, DMY'; SET search_path = public, pg_catalog").await.unwrap();
        app.batch_execute("CREATE TABLE t (id int)").await.unwrap();

        let (messages, refused) = primary.messages(&secret).await;
        assert_eq!((kinds(&messages), refused), (vec!["ddl_command_end CREATE TABLE".to_owned()], 0));
        let message = &messages[0];
        assert_eq!(message["query"], "CREATE TABLE t (id int)");
        assert_eq!((message["current_user"].as_str(), message["session_user"].as_str()), (Some("app"), Some("app")));
        assert_eq!(message["search_path"], "public, pg_catalog");
        assert_eq!(message["settings"]["DateStyle"], "SQL, DMY");
        assert_eq!(message["objects"][0]["identity"], "public.t");
        let roles: Vec<&str> = message["roles"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        assert!(roles.contains(&"app"), "{roles:?}");
    }

    async fn roles_are_said_once_a_session_and_again_when_they_change(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        let session = primary.session().await;
        for statement in ["CREATE TABLE a ()", "CREATE TABLE b ()", "CREATE ROLE late", "CREATE TABLE c ()"] {
            session.batch_execute(statement).await.unwrap();
        }
        // What a rollback took back is said again.
        session.batch_execute("CREATE ROLE later").await.unwrap();
        session.batch_execute("BEGIN; CREATE TABLE d (); ROLLBACK").await.unwrap();
        session.batch_execute("CREATE TABLE e ()").await.unwrap();
        let (messages, _) = primary.messages(&secret).await;
        let with_roles: Vec<bool> = messages.iter().map(|message| !message["roles"].is_null()).collect();
        assert_eq!(with_roles, [true, false, true, true]);
    }

    async fn a_string_of_many_statements_is_sent_once(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        let session = primary.session().await;
        let script: String = (0..1000).map(|n| format!("CREATE TABLE t{n} (id int);")).collect();
        let position = "SELECT pg_current_wal_insert_lsn()::text";
        let before: String = session.query_one(position, &[]).await.unwrap().get(0);
        session.batch_execute(&script).await.unwrap();
        let written = format!("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')::int8");
        let written: i64 = session.query_one(&written, &[]).await.unwrap().get(0);
        let (messages, _) = primary.messages(&secret).await;
        assert_eq!(messages.len(), 1000);
        assert_eq!(messages[0]["query"], script);
        assert!(messages[1..].iter().all(|m| m["query"].is_null() && m["query_of"] == 1), "{}", messages[1]);
        // With the string in each it would be more than 27 MB for the messages alone.
        assert!(written < 15_000_000, "{written} bytes of WAL");
    }

    async fn a_string_whose_first_message_was_rolled_back_is_sent_again(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        let session = primary.session().await;
        let script = "BEGIN; SAVEPOINT s; CREATE TABLE a (); ROLLBACK TO s; CREATE TABLE b (); CREATE TABLE c (); COMMIT";
        session.batch_execute(script).await.unwrap();
        let caught = "DO $$ BEGIN
            BEGIN CREATE TABLE d (); RAISE 'undone'; EXCEPTION WHEN OTHERS THEN NULL; END;
            BEGIN CREATE TABLE e (); EXCEPTION WHEN OTHERS THEN NULL; END;
            CREATE TABLE f (); COMMIT; CREATE TABLE g (); END $$";
        session.batch_execute(caught).await.unwrap();
        // A setting that somebody made up is not believed.
        let forged = format!("BEGIN; SET postgres_test_replay.query = '1:{}'; CREATE TABLE h (); COMMIT", "0".repeat(64));
        session.batch_execute(&forged).await.unwrap();
        let (messages, _) = primary.messages(&secret).await;
        let queries: Vec<(&Value, &Value, &Value)> = messages.iter().map(|m| (&m["n"], &m["query"], &m["query_of"])).collect();
        let null = Value::Null;
        assert_eq!(queries, [
            (&json!(1), &json!(script), &null),
            (&json!(2), &null, &json!(1)),
            (&json!(1), &json!(caught), &null),
            (&json!(2), &null, &json!(1)),
            (&json!(1), &json!(caught), &null),
            (&json!(1), &json!(forged), &null),
        ]);
    }

    async fn the_inner_statement_of_a_block_is_in_the_context(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        primary.run("DO $$ BEGIN EXECUTE 'CREATE TABLE inner_one (x int)'; END $$").await;
        primary.run("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'CREATE TABLE inner_two (x int)'; SELECT f()").await;
        let (messages, _) = primary.messages(&secret).await;
        assert!(messages[0]["context"].as_str().unwrap().contains("SQL statement \"CREATE TABLE inner_one (x int)\""));
        assert_eq!(messages[2]["functions"], json!([{"name": "f", "source": "CREATE TABLE inner_two (x int)"}]));
    }

    async fn values_that_could_come_out_different_are_sent(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (id int, c char(4)); INSERT INTO t VALUES (1, 'a'), (2, NULL)").await;
        let secret = primary.prepare().await.secret.unwrap();
        primary.run("ALTER TABLE t ADD COLUMN at timestamptz DEFAULT now()").await;
        primary.run("ALTER TABLE t ALTER COLUMN id TYPE bigint USING id * 10").await;
        let at = primary.value("SET timezone = 'UTC'; SELECT DISTINCT at FROM t").await;

        let (messages, _) = primary.messages(&secret).await;
        assert_eq!(messages[0]["missing"], json!([{"relation": "public.t", "column": "at", "value": at}]));
        assert_eq!(kinds(&messages)[1..], ["table_rewrite ALTER TABLE", "ddl_command_end ALTER TABLE", "rows"]);
        assert_eq!(messages[2]["rewrites"], json!([["public.t", 4]]));
        let rows = &messages[3];
        assert_eq!((&rows["relation"], &rows["columns"]), (&json!("public.t"), &json!(["id", "c", "at"])));
        assert_eq!(rows["rows"], json!([["10", "a   ", at], ["20", null, at]]));
    }

    async fn many_rows_come_in_several_messages(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (id int, v text); INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n").await;
        let secret = primary.prepare().await.secret.unwrap();
        primary.run("ALTER TABLE t ALTER COLUMN id TYPE bigint").await;
        let (messages, _) = primary.messages(&secret).await;
        let chunks: Vec<&Value> = messages.iter().filter(|message| message["event"] == "rows").collect();
        let firsts: Vec<bool> = chunks.iter().map(|chunk| chunk["first"].as_bool().unwrap()).collect();
        assert_eq!(firsts, [true, false, false, false]);
        assert_eq!(chunks.iter().map(|chunk| chunk["rows"].as_array().unwrap().len()).sum::<usize>(), 3000);
    }

    async fn a_table_made_from_a_query_is_bracketed_and_described(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        primary.run("CREATE TABLE t AS SELECT 1::numeric(5,2) AS n, 'x'::text COLLATE \"C\" AS c").await;
        let (messages, _) = primary.messages(&secret).await;
        assert_eq!(kinds(&messages), ["ddl_command_start CREATE TABLE AS", "ddl_command_end CREATE TABLE AS"]);
        assert_eq!(messages[1]["table_as"][0]["columns"], json!([
            {"name": "n", "type": "numeric(5,2)"},
            {"name": "c", "type": "text", "collation": "pg_catalog.\"C\""},
        ]));
    }

    async fn nothing_is_said_of_statements_that_did_nothing_or_were_rolled_back(version) {
        let primary = Primary::start(version).await;
        primary.run("CREATE TABLE t (x int)").await;
        let secret = primary.prepare().await.secret.unwrap();
        primary.run("CREATE TABLE IF NOT EXISTS t (x int)").await;
        primary.run("ALTER TABLE IF EXISTS missing ADD COLUMN y int").await;
        primary.run("BEGIN; CREATE TABLE u (x int); ROLLBACK").await;
        primary.run("CREATE INDEX ON t (x)").await;
        let (messages, refused) = primary.messages(&secret).await;
        assert_eq!((kinds(&messages), refused), (vec!["ddl_command_end CREATE INDEX".to_owned()], 0));
    }

    async fn others_can_neither_sign_nor_call_nor_read_the_secret(version) {
        let primary = Primary::start(version).await;
        primary.run(&create_role(&primary.server, "mallory", "")).await;
        primary.run("GRANT CREATE ON SCHEMA public TO mallory").await;
        let secret = primary.prepare().await.secret.unwrap();
        let mallory = primary.session_as("mallory").await;
        let refused = "42501";
        let call = "postgres_test_replay.capture('ddl_command_end', 'DROP TABLE', 'postgres', '', '{}')";
        let attempts = [
            // Nothing comes of these, not even an error: they could be the user's DDL after all.
            (format!("SELECT {call}"), "00000"),
            (format!("DO $$ DECLARE b boolean; BEGIN b := {call}; END $$"), "00000"),
            // Call stacks that try to read like ours.
            (format!("CREATE FUNCTION on_event() RETURNS boolean LANGUAGE plpgsql AS $$ DECLARE b boolean; BEGIN\n b := {call}; RETURN b; END $$"), "00000"),
            ("SELECT on_event()".to_owned(), "00000"),
            (format!("DO $$ BEGIN EXECUTE 'SELECT {} AS \"\nPL/pgSQL function postgres_test_replay.on_event() line 5 at assignment\n\"'; END $$", call.replace('\'', "''")), "00000"),
            ("SELECT postgres_test_replay.on_event()".to_owned(), "42501"),
            ("SELECT secret FROM postgres_test_replay.configuration".to_owned(), refused),
            ("SELECT postgres_test_replay.seal('{}')".to_owned(), refused),
            ("SELECT postgres_test_replay.send_gap('x', 'y')".to_owned(), refused),
            ("CREATE TABLE postgres_test_replay.t (x int)".to_owned(), refused),
            ("SELECT pg_logical_emit_message(true, 'postgres_test_replay', repeat('0', 64) || ':{\"v\":1,\"event\":\"ddl_command_end\",\"tag\":\"DROP TABLE\"}')".to_owned(), "00000"),
            // Looking away is for us only.
            ("SET postgres_test_replay.ours = 'yes'; CREATE TABLE seen (x int)".to_owned(), "00000"),
        ];
        for (attempt, expected) in &attempts {
            assert_eq!(sqlstate(&mallory, attempt).await, *expected, "{attempt}");
        }
        let (messages, unsigned) = primary.messages(&secret).await;
        let told = kinds(&messages);
        assert_eq!(told, ["ddl_command_end CREATE FUNCTION", "ddl_command_end CREATE TABLE"], "{messages:?}");
        assert_eq!(unsigned, 1);
    }

    async fn what_cannot_be_described_becomes_a_gap_and_the_statement_succeeds(version) {
        let primary = Primary::start(version).await;
        let secret = primary.prepare().await.secret.unwrap();
        // Something of ours breaks.
        primary.run("ALTER FUNCTION postgres_test_replay.describe_missing(oid[]) RENAME TO gone").await;
        primary.run("CREATE TABLE t (x int)").await;
        primary.run("ALTER TABLE t ADD COLUMN y int DEFAULT 1").await;
        let (messages, _) = primary.messages(&secret).await;
        let gap = messages.last().unwrap();
        assert_eq!((gap["event"].as_str(), gap["sqlstate"].as_str()), (Some("gap"), Some("42883")), "{gap}");
        assert_eq!(gap["statement"], "ALTER TABLE t ADD COLUMN y int DEFAULT 1");
        // And even what says so.
        primary.run("DROP TABLE postgres_test_replay.configuration CASCADE").await;
        primary.run("CREATE TABLE u (x int); ALTER TABLE u ADD y int; DROP TABLE u").await;
    }

    async fn a_table_that_is_added_to_our_publication_is_nothing_of_a_replicas(version) {
        let mut primary = Primary::start(version).await;
        primary.options.replica_identity = false;
        let secret = primary.prepare().await.secret.unwrap();
        // A list of tables from here on.
        primary.run("CREATE TABLE more (id int PRIMARY KEY); CREATE TABLE bare (a int)").await;
        let ours = async |change: &str| {
            let before = primary.messages(&secret).await.0.len();
            primary.run(&format!("ALTER PUBLICATION postgres_test_replay {change}")).await;
            primary.messages(&secret).await.0[before..].iter().map(|message| message["tag"].to_string()).collect::<Vec<_>>()
        };
        assert_ne!(ours("DROP TABLE more").await, [""; 0]);
        assert_eq!(ours("ADD TABLE more").await, [""; 0]);
        // What takes changes away is told, and stops replay.
        assert_ne!(ours("DROP TABLE more").await, [""; 0]);
        assert_ne!(ours("ADD TABLE more WHERE (id > 1)").await, [""; 0]);
        assert_ne!(ours("SET (publish = 'insert')").await, [""; 0]);
    }

    async fn a_message_is_utf_8_whatever_the_database_is(version) {
        let mut primary = Primary::start(version).await;
        for (encoding, name, kind) in [("LATIN1", "größe", "ddl_command_end CREATE TABLE"), ("SQL_ASCII", "größe", "ddl_command_end CREATE TABLE")] {
            let database = encoding.to_lowercase();
            primary.server.psql("postgres", &format!("CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")).await;
            primary.options = source_support::options(&primary.server, &database);
            primary.options.slot = database.clone();
            let secret = primary.prepare().await.secret.unwrap();
            primary.server.psql(&database, &format!("SET client_encoding = 'UTF8'; CREATE TABLE \"{name}\" (x int)")).await;
            let (messages, refused) = primary.messages(&secret).await;
            assert_eq!((kinds(&messages), refused), (vec![kind.to_owned()], 0));
            assert_eq!(messages[0]["objects"][0]["identity"], format!("public.\"{name}\""));
        }
        // What is no text at all cannot be said, but can be made.
        primary.server.psql("sql_ascii", "DO $$ BEGIN EXECUTE E'CREATE TABLE \"\\xff\" (x int)'; END $$").await;
        let secret = primary.prepare().await.secret.unwrap();
        let (messages, _) = primary.messages(&secret).await;
        assert_eq!(kinds(&messages)[1..], ["gap"]);
        // Nor where the client's own string is none: then not even that it cannot be said can be said in its words.
        let mut psql = primary.psql();
        psql.env("PGDATABASE", "sql_ascii").stdin(std::process::Stdio::piped());
        let mut psql = psql.spawn().unwrap();
        std::io::Write::write_all(&mut psql.stdin.take().unwrap(), b"CREATE TABLE latin (x int); -- caf\xe9\nCOMMENT ON TABLE latin IS 'caf\xe9';\n").unwrap();
        assert!(psql.wait().unwrap().success());
        let (messages, _) = primary.messages(&secret).await;
        assert_eq!(kinds(&messages)[2..], ["ddl_command_end CREATE TABLE", "gap"]);
        assert!(messages[3]["reason"].as_str().unwrap().contains("could not be described"), "{}", messages[3]);
    }
}
