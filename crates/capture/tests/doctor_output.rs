//! Each finding about the output on a real server in that state, and again after its fix.

#![allow(clippy::unwrap_used, reason = "what fails in a test is to fail the test")]

mod source_support;

use ptr_capture::doctor::{Finding, OutputOptions, Severity, check_output};
use ptr_testkit::{Pooler, ServerVersion, TestServer, TestServerOptions};
use source_support::create_role;

async fn server(version: ServerVersion) -> TestServer {
    let server = TestServer::start(version, TestServerOptions::default()).await;
    server.database("shop").await;
    server
}

async fn codes(options: &OutputOptions) -> Vec<&'static str> {
    let findings: Vec<Finding> = check_output(options).await;
    assert!(
        findings.iter().all(|finding| !finding.meaning.is_empty() && !finding.fix.is_empty()),
        "{findings:?}"
    );
    findings.iter().map(|finding| finding.code).collect()
}

on_every_version! {
    async fn an_empty_or_missing_database_has_no_finding(version) {
        let server = server(version).await;
        for database in ["shop", "not_made_yet"] {
            let options = OutputOptions { output: server.dsn(database), input: None };
            assert_eq!(codes(&options).await, <[&str; 0]>::default());
        }
    }

    async fn a_role_that_may_not_turn_triggers_off(version) {
        let server = server(version).await;
        server.psql("shop", &create_role(&server, "app", "")).await;
        let dsn = server.dsn("shop");
        let options = OutputOptions { output: dsn.with_user("app", dsn.password().cloned()), input: None };
        let findings = check_output(&options).await;
        assert_eq!(findings[0].code, "session_replication_role");
        let (_, grant) = findings[0].fix.split_once(": ").unwrap();
        assert!(grant.starts_with("GRANT SET ON PARAMETER session_replication_role"), "{grant}");
        server.psql("shop", grant).await;
        assert_eq!(codes(&options).await, <[&str; 0]>::default());
    }

    async fn input_and_output_that_are_one_database_by_two_ways(version) {
        let server = server(version).await;
        server.database("other").await;
        let input = Some(server.dsn("shop"));
        assert_eq!(codes(&OutputOptions { output: server.dsn("shop"), input: input.clone() }).await, ["same_database"]);
        assert_eq!(codes(&OutputOptions { output: server.dsn("other"), input }).await, <[&str; 0]>::default());
    }

    async fn a_database_with_contents_that_are_not_ours(version) {
        let server = server(version).await;
        server.psql("shop", "CREATE TABLE precious (x int)").await;
        let options = OutputOptions { output: server.dsn("shop"), input: None };
        let findings = check_output(&options).await;
        assert_eq!((findings[0].code, findings[0].severity), ("output_not_empty", Severity::Error));
        assert!(findings[0].meaning.contains("precious"));
        server.psql("shop", "CREATE SCHEMA postgres_test_replay").await;
        assert_eq!(codes(&options).await, <[&str; 0]>::default());
    }

    async fn others_that_are_connected(version) {
        let server = server(version).await;
        let other = source_support::session_as(&server.dsn("shop"), "postgres").await;
        let options = OutputOptions { output: server.dsn("shop"), input: None };
        let findings = check_output(&options).await;
        assert_eq!((findings[0].code, findings[0].severity), ("output_in_use", Severity::Info));
        assert!(findings[0].title.contains("a test"), "{findings:?}");
        // As it says.
        assert!(findings[0].fix.contains("close them"), "{findings:?}");
        other.close().await;
        ptr_testkit::wait_until("nobody else is connected", std::time::Duration::from_secs(20), async || {
            codes(&options).await.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_pooler_before_the_output_is_passed_by() {
    let server = server(ServerVersion::Pypi18).await;
    let direct = server.dsn("shop");
    for mode in ["session", "transaction"] {
        let Some(pooler) = Pooler::start_in_mode(&server, "shop", mode).await else { return };
        let options = OutputOptions { output: pooler.dsn(&direct), input: None };
        let findings = check_output(&options).await;
        assert_eq!(codes(&options).await, ["pooler"], "{mode}: {findings:?}");
        assert!(
            findings[0].fix.contains("OUTPUT_DSN") && findings[0].fix.contains("own port"),
            "{findings:?}"
        );
        assert_eq!(findings[0].severity, Severity::Error);
    }
    // What it says is to be done, done.
    assert_eq!(codes(&OutputOptions { output: direct, input: None }).await, <[&str; 0]>::default());
}
