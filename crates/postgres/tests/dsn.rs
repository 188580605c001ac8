//! Connection strings: what libpq takes is taken, with the same meaning; no password is ever shown.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use ptr_postgres::dsn::{ChannelBindingMode, RootCertificates, TargetSession};
use ptr_postgres::{Dsn, DsnError, SslMode};
use std::io::Write;
use std::time::Duration;

fn parse(text: &str) -> Result<Dsn, DsnError> {
    Dsn::parse(text, &|name| (name == "USER").then(|| "me".to_owned()))
}

fn hosts(text: &str) -> String {
    let dsn = parse(text).unwrap();
    dsn.hosts().iter().map(|host| format!("{}|{}", host.name(), host.port)).collect::<Vec<_>>().join(" ")
}

#[test]
fn hosts_and_ports_are_read_as_libpq_reads_them() {
    for (text, expected) in [
        ("postgres://db/x", "db|5432"),
        ("postgresql://db:6543", "db|6543"),
        ("postgres://h1:1,h2:2/x", "h1|1 h2|2"),
        ("postgres://h1,h2:2/x", "h1|5432 h2|2"),
        ("postgres://[::1]:7/x", "::1|7"),
        ("postgres://[2001:db8::1],[::2]:8", "2001:db8::1|5432 ::2|8"),
        ("postgres://%2Fvar%2Frun/x", "/var/run|5432"),
        ("postgres:///x?host=/tmp&port=9", "/tmp|9"),
        ("postgres:///x?host=a,b&port=7", "a|7 b|7"),
        ("postgres://u@/x", "/var/run/postgresql|5432 /tmp|5432"),
        ("host=a,b port=1,2", "a|1 b|2"),
        ("host = /tmp port = 5433", "/tmp|5433"),
        ("hostaddr=10.0.0.1", "10.0.0.1|5432"),
        ("", "/var/run/postgresql|5432 /tmp|5432"),
    ] {
        assert_eq!(hosts(text), expected, "{text}");
    }
}

#[test]
fn credentials_and_database_are_decoded() {
    for (text, user, password, database) in [
        ("postgres://ann:s%40cret%2F@h/shop", "ann", Some("s@cret/"), "shop"),
        ("postgres://ann@h", "ann", None, "ann"),
        ("postgres://h/sh%20op", "me", None, "sh op"),
        ("postgres://ann:a:b#c?d@h/shop", "ann", Some("a:b#c?d"), "shop"),
        (r"user=ann password='it\'s \\ here' dbname=shop", "ann", Some(r"it's \ here"), "shop"),
        (r"user=ann password=a\ b dbname = 'x y'", "ann", Some("a b"), "x y"),
        ("password='' user=ann", "ann", None, "ann"),
        ("postgres://h/?user=ann&password=p%26q&dbname=shop", "ann", Some("p&q"), "shop"),
    ] {
        let dsn = parse(text).unwrap();
        assert_eq!(dsn.user(), user, "{text}");
        assert_eq!(dsn.password().map(|password| password.reveal()), password, "{text}");
        assert_eq!(dsn.database(), database, "{text}");
    }
}

#[test]
fn options_get_their_types() {
    let text = "postgres://h/x?sslmode=verify-full&sslrootcert=/ca.crt&connect_timeout=1&application_name=a%20b\
                &target_session_attrs=read-write&channel_binding=require&options=-c%20geqo%3Doff&keepalives=1\
                &gssencmode=prefer&sslcert=c&sslkey=k";
    let dsn = parse(text).unwrap();
    assert_eq!(dsn.ssl().mode, SslMode::VerifyFull);
    assert_eq!(dsn.ssl().root, Some(RootCertificates::File("/ca.crt".into())));
    assert_eq!(dsn.connect_timeout(), Some(Duration::from_secs(2)));
    assert_eq!(dsn.application_name(), Some("a b"));
    assert_eq!(dsn.options(), Some("-c geqo=off"));
    assert_eq!(dsn.target(), TargetSession::ReadWrite);
    assert_eq!(dsn.channel_binding(), ChannelBindingMode::Require);
    assert_eq!(parse("connect_timeout=0").unwrap().connect_timeout(), None);
    assert_eq!(parse("sslrootcert=system").unwrap().ssl().mode, SslMode::VerifyFull);
    assert_eq!(parse("postgres://h/x?ssl=true").unwrap().ssl().mode, SslMode::Require);
}

#[test]
fn the_environment_fills_what_the_string_leaves_open() {
    let environment = |name: &str| {
        let value = match name {
            "PGHOST" => "envhost",
            "PGPORT" => "7000",
            "PGUSER" => "envuser",
            "PGPASSWORD" => "envsecret",
            "PGSSLMODE" => "require",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let dsn = Dsn::parse("postgres://ann@h/shop", &environment).unwrap();
    assert_eq!(dsn.to_string(), "postgresql://ann@h:7000/shop?sslmode=require");
    assert_eq!(dsn.password().map(|password| password.reveal()), Some("envsecret"));
    assert_eq!(
        Dsn::parse("", &environment).unwrap().to_string(),
        "postgresql://envuser@envhost:7000/envuser?sslmode=require"
    );
}

#[test]
fn the_variable_of_old_that_asks_for_tls_is_heard_where_nothing_else_is_said() {
    let mode = |text: &str, variables: &[(&str, &str)]| {
        let of = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted);
        Dsn::parse(text, &|name| of(name).map(|(_, value)| (*value).to_owned())).unwrap().ssl().mode
    };
    let asked = ("PGREQUIRESSL", "1");
    assert_eq!(mode("postgres://u@h/x", &[asked]), SslMode::Require);
    assert_eq!(mode("postgres://u@h/x", &[("PGREQUIRESSL", "0")]), SslMode::Prefer);
    assert_eq!(mode("postgres://u@h/x?sslmode=disable", &[asked]), SslMode::Disable);
    assert_eq!(mode("postgres://u@h/x", &[asked, ("PGSSLMODE", "verify-full")]), SslMode::VerifyFull);
    // A program that we run is told what we have understood, and hears nothing else.
    let mut child = std::process::Command::new("pg_dump");
    child.env("PGREQUIRESSL", "1");
    parse("postgres://h/x?sslmode=prefer").unwrap().apply_to(&mut child);
    assert!(child.get_envs().any(|(name, value)| name == "PGREQUIRESSL" && value.is_none()));
}

#[test]
fn without_a_user_it_is_this_account_whatever_the_environment_says() {
    let id = std::process::Command::new("id").arg("-un").output().unwrap();
    let account = String::from_utf8(id.stdout).unwrap();
    let someone = |name: &str| matches!(name, "USER" | "LOGNAME").then(|| "someone".to_owned());
    assert_eq!(Dsn::resolve("postgres://h/x", &someone).unwrap().user(), account.trim());
    assert_eq!(Dsn::resolve("postgres://ann@h/x", &someone).unwrap().user(), "ann");
    let asked = |name: &str| (name == "PGUSER").then(|| "ben".to_owned());
    assert_eq!(Dsn::resolve("postgres://h/x", &asked).unwrap().user(), "ben");
}

#[test]
fn what_the_environment_asks_for_and_we_cannot_do_is_refused_by_name() {
    for (variable, value) in [
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGREQUIREPEER", "postgres"),
        ("PGSSLCRL", "/crl"),
        ("PGSSLCRLDIR", "/crls"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
        ("PGSSLMAXPROTOCOLVERSION", "TLSv1.2"),
    ] {
        let with = |value: &'static str| {
            move |name: &str| match name {
                "USER" => Some("u".to_owned()),
                name => (name == variable).then(|| value.to_owned()),
            }
        };
        let error = Dsn::parse("postgres://h/x", &with(value)).unwrap_err().to_string();
        assert!(error.contains(variable), "{error}");
        Dsn::parse("postgres://h/x", &with("")).unwrap();
    }
    let granted = |name: &str| (name == "PGSSLMINPROTOCOLVERSION").then(|| "TLSv1.2".to_owned());
    Dsn::parse("postgres://u@h/x", &granted).unwrap();
}

#[test]
fn a_list_of_revoked_certificates_that_libpq_would_read_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".postgresql");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("root.crl"), "").unwrap();
    let variable = |name: &str| (name == "HOME").then(|| home.path().display().to_string());
    // Without a root certificate nothing is verified, and libpq does not read it either.
    Dsn::resolve("postgres://u@h/x", &variable).unwrap();
    Dsn::resolve("postgres://u@h/x?sslmode=disable&sslrootcert=/ca.crt", &variable).unwrap();
    let error = Dsn::resolve("postgres://u@h/x?sslmode=verify-full&sslrootcert=/ca.crt", &variable);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("root.crl") && error.contains("not checked"), "{error}");
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_never_with_the_password() {
    for (text, expected) in [
        ("postgres://u:s3cr/et@h/x", "character 14: a port number"),
        ("postgres://u:s3cr@et@h/x", "a second @"),
        ("postgres://u:s3@cr/et@h/x", "a second @ behind the host"),
        ("postgres://u:s3cr%zzet@h/x", "character 18: % without two hexadecimal digits"),
        ("postgres://u:12/x?s3cr@h", "an option without a value"),
        ("postgres://u:12/x?s3cr=1@h", "an option that is not known"),
        ("postgres://[::1/x", "[ without its ]"),
        ("user=u password=s3cr et host=h", "a word without = behind it"),
        ("user=u password=two s3cr=1", "just behind the password"),
        ("user=u password='s3cr", "character 17: a quote that is not closed"),
        ("s3cr", "a word without = behind it"),
        ("sslmod=require", "unknown option \"sslmod\" in the connection string; did you mean \"sslmode\"?"),
        ("sslmode=full", "disable, allow, prefer"),
        ("port=70000", "a number from 1 to 65535"),
        ("host=a,b,c port=1,2", "3 hosts but 2 port values"),
        ("sslpassword=s3cr", "decrypt the key first"),
        ("sslcrl=/x", "not supported"),
        ("service=shop", "the service \"shop\" is not defined"),
    ] {
        let error = parse(text).expect_err(text);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected), "{text}: {shown}");
        assert!(!shown.contains("s3cr"), "{text}: {shown}");
    }
    let hint = parse("postgres://u:a/b@h/x").unwrap_err().to_string();
    assert!(hint.contains("/ as %2F"), "{hint}");
}

#[test]
fn a_dsn_shows_no_password_in_any_form() {
    let dsn = parse("postgres://ann:s3cr@h/shop").unwrap();
    let json = serde_json::to_string(&dsn).unwrap();
    assert_eq!(json, "\"postgresql://ann@h:5432/shop\"");
    assert!(!format!("{dsn} {dsn:?} {json}").contains("s3cr"));
    assert_eq!(dsn.to_uri_with_password(), "postgresql://ann:s3cr@h:5432/shop");
}

#[test]
fn child_processes_get_all_by_their_environment() {
    let dsn = parse("postgres://ann:s3cr@h1:1,h2:2/shop?sslmode=require&options=-c%20a%3Db").unwrap();
    let mut environment = dsn.libpq_environment();
    environment.sort();
    let shown: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        shown,
        [
            "PGDATABASE=shop",
            "PGHOST=h1,h2",
            "PGOPTIONS=-c a=b",
            "PGPASSWORD=s3cr",
            "PGPORT=1,2",
            "PGSSLMODE=require",
            "PGUSER=ann"
        ]
    );
}

#[test]
fn a_child_process_is_told_to_give_no_password_in_clear() {
    let dsn = parse("postgres://ann:s3cr@h/shop").unwrap().with_scram_only();
    let told = |dsn: &Dsn| {
        let mut child = std::process::Command::new("pg_dump");
        child.env("PGREQUIREAUTH", "password");
        dsn.apply_to(&mut child);
        let found = child.get_envs().find(|(name, _)| *name == "PGREQUIREAUTH").unwrap();
        found.1.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(told(&dsn.with_database("other")).as_deref(), Some("scram-sha-256"));
    assert_eq!(told(&parse("postgres://h/x").unwrap()), None);
}

#[test]
fn service_and_password_files_are_read_and_open_ones_ignored() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let passfile = home.path().join(".pgpass");
    std::fs::write(home.path().join(".pg_service.conf"), "[shop]\nhost=b\nuser=ann\ndbname=x\n").unwrap();
    let mut file = std::fs::File::create(&passfile).unwrap();
    writeln!(file, "b:5432:x:ann:fromfile").unwrap();
    let variable = |name: &str| (name == "HOME").then(|| home.path().display().to_string());
    let password = || {
        let dsn = Dsn::resolve("service=shop", &variable).unwrap();
        assert_eq!(dsn.to_string(), "postgresql://ann@b:5432/x");
        dsn.password_for(&dsn.hosts()[0]).map(|password| password.reveal().to_owned())
    };
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(password().as_deref(), Some("fromfile"));
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(password(), None);
    let missing = Dsn::resolve("service=other", &variable).unwrap_err().to_string();
    assert!(missing.contains("[other]") && missing.contains(".pg_service.conf"), "{missing}");
}

#[test]
fn a_child_process_gets_no_hosts_password_for_another_host() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let passfile = folder.path().join("passwords");
    std::fs::write(&passfile, "a:*:*:*:of a\nb:*:*:*:of b\nc:*:*:*:of b\n").unwrap();
    std::fs::set_permissions(&passfile, std::fs::Permissions::from_mode(0o600)).unwrap();
    let passed = |hosts: &str| {
        let text = format!("host={hosts} user=u dbname=x passfile={}", passfile.display());
        let environment = Dsn::resolve(&text, &|_| None).unwrap().libpq_environment();
        environment.into_iter().filter(|(name, _)| name.starts_with("PGPASS")).collect::<Vec<_>>()
    };
    let password = |value: &str| vec![("PGPASSWORD".to_owned(), value.to_owned())];
    assert_eq!(passed("a"), password("of a"));
    assert_eq!(passed("b,c"), password("of b"));
    let file = vec![("PGPASSFILE".to_owned(), passfile.display().to_string())];
    assert_eq!(passed("a,b"), file);
    assert_eq!(passed("unknown,b"), file);
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

proptest! {
    #[test]
    fn whatever_is_in_it_a_dsn_survives_both_forms(
        user in "[^\0]{1,12}", password in "[^\0]{1,12}", database in "[^\0]{1,12}",
        host in "[a-z][a-z0-9.-]{0,9}", port in 1u16.., name in "[^\0]{1,9}",
    ) {
        let text = format!(
            "user={} password={} dbname={} host={host} port={port} application_name={} sslmode=require",
            quoted(&user), quoted(&password), quoted(&database), quoted(&name),
        );
        let dsn = parse(&text).unwrap();
        prop_assert_eq!(dsn.user(), &user);
        prop_assert_eq!(dsn.password().unwrap().reveal(), &password);
        prop_assert_eq!(&parse(&dsn.to_uri_with_password()).unwrap(), &dsn);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(postgres://)?[a-z:/@?&=%,'\\\\\\[\\] 0-9é]{0,40}") {
        let _ = parse(&text);
    }
}
