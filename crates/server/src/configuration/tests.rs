//! Precedence and the edges of single settings, without a disk.

use std::collections::BTreeMap;

use super::*;

fn sources() -> Sources {
    let environment = BTreeMap::from([("USER".to_owned(), "alice".to_owned())]);
    Sources { environment, current_folder: "/home/alice/project".into(), ..Sources::default() }
}

fn json(text: &str) -> Option<FileText> {
    Some(FileText { path: "/home/alice/project/config.json".into(), text: text.to_owned() })
}

fn env_file(variables: &[(&str, &str)]) -> Option<(PathBuf, BTreeMap<String, String>)> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Some(("/home/alice/project/.env".into(), variables.collect()))
}

fn origin_of(configuration: &Configuration, setting: Setting) -> &str {
    let name = setting.variable();
    &configuration.settings.iter().find(|report| report.name == name).unwrap().origin
}

#[test]
fn each_place_outranks_those_below_it() {
    let mut sources = sources();
    let slot = |sources: &Sources| {
        let configuration = Configuration::resolve(sources).unwrap();
        let origin = origin_of(&configuration, Setting::ReplicationSlot).to_owned();
        (configuration.slot, origin)
    };
    assert_eq!(slot(&sources), (DEFAULT_SLOT.into(), "default".into()));
    sources.json = json(r#"{"replication": {"slot_name": "from_json"}}"#);
    assert_eq!(slot(&sources), ("from_json".into(), "json_file".into()));
    sources.env_file = env_file(&[("REPLICATION_SLOT", "from_env_file")]);
    assert_eq!(slot(&sources), ("from_env_file".into(), "env_file".into()));
    sources.environment.insert("REPLICATION_SLOT".into(), "from_environment".into());
    assert_eq!(slot(&sources), ("from_environment".into(), "environment".into()));
    sources.flags.insert(Setting::ReplicationSlot, "from_flag".into());
    assert_eq!(slot(&sources), ("from_flag".into(), "flag".into()));
}

#[test]
fn an_empty_value_counts_as_unset() {
    let mut sources = sources();
    sources.env_file = env_file(&[("REPLICATION_SLOT", "below")]);
    sources.environment.insert("REPLICATION_SLOT".into(), " ".into());
    assert_eq!(Configuration::resolve(&sources).unwrap().slot, "below");
}

#[test]
fn without_any_dsn_the_servers_are_embedded() {
    let configuration = Configuration::resolve(&sources()).unwrap();
    assert!(configuration.input.is_none() && configuration.output.is_none());
    assert_eq!(configuration.databases, [EMBEDDED_DATABASE]);
    assert_eq!(configuration.data.root(), std::path::Path::new("/home/alice/project/.postgres-test-replay"));
}

#[test]
fn the_known_json_file_is_understood_whole() {
    let mut sources = sources();
    sources.json = json(
        r#"{"primary_db": {"host": "db1", "port": 5432, "user": "postgres", "password": "ge'heim \\", "database": "testdb"},
            "replica_db": {"Host": "db2", "port": "5433", "user": "postgres", "database": "testdb", "ssl_mode": "disable"},
            "storage": {"wal_log_path": "./waldata", "backup_path": "backups", "session_path": "sessions", "checkpoint_path": "checkpoints"},
            "replication": {"slot_name": "test_slot", "publication_name": "test_pub"}}"#,
    );
    let configuration = Configuration::resolve(&sources).unwrap();
    let input = configuration.input.as_ref().unwrap();
    assert_eq!(input.password().unwrap().reveal(), r"ge'heim \");
    assert_eq!((input.database(), input.user()), ("testdb", "postgres"));
    assert_eq!(configuration.output.as_ref().unwrap().hosts()[0].port, 5433);
    assert_eq!(configuration.data.log_folder(), std::path::Path::new("/home/alice/project/waldata"));
    assert_eq!(
        configuration.data.catalog(),
        std::path::Path::new("/home/alice/project/checkpoints/catalog.sqlite")
    );
    assert_eq!(configuration.slot, "test_slot");
    assert!(configuration.warnings.is_empty(), "{:?}", configuration.warnings);
}

#[test]
fn an_unknown_json_key_is_a_warning_that_names_it() {
    let mut sources = sources();
    sources.json = json(r#"{"primary_db": {"host": "a", "user": "b", "pool": 3}, "logging": {"x": [1]}}"#);
    let warnings = Configuration::resolve(&sources).unwrap().warnings;
    assert!(warnings[0].contains("primary_db.pool") && warnings[1].contains("logging"), "{warnings:?}");
}

#[test]
fn a_wrong_json_type_is_an_error_with_file_and_line() {
    for text in
        ["{\n \"storage\": 3\n}", "{\n \"replication\": {\"slot_name\": true}}", "{\n \"primary_db\": [}"]
    {
        let mut sources = sources();
        sources.json = json(text);
        let error = Configuration::resolve(&sources).unwrap_err().to_string();
        assert!(error.starts_with("/home/alice/project/config.json, line 2: "), "{error}");
    }
}

#[test]
fn a_limit_that_would_drop_a_slot_in_good_order_is_refused() {
    let limit = |text: &str| {
        let mut sources = sources();
        sources.environment = [("SLOT_LIMIT".to_owned(), text.to_owned())].into_iter().collect();
        Configuration::resolve(&sources).map(|configuration| configuration.slot_limit)
    };
    for text in ["0", "20", "15MB"] {
        let error = limit(text).unwrap_err().to_string();
        assert!(error.contains("16MB or more, or leave it out"), "{error}");
    }
    assert_eq!(limit("16MB").unwrap(), Some(16 << 20));
    assert_eq!(limit("").unwrap(), None);
}

#[test]
fn a_port_alone_means_loopback_and_a_stronger_port_holds() {
    let address = |flag: &str, port: Option<&str>| {
        let mut sources = sources();
        sources.env_file = env_file(&[("SERVER_ADDR", flag)]);
        sources.environment.extend(port.map(|port| ("SERVER_PORT".to_owned(), port.to_owned())));
        Configuration::resolve(&sources).map(|configuration| configuration.address.to_string())
    };
    assert_eq!(address(":9000", None).unwrap(), "127.0.0.1:9000");
    assert_eq!(address(":9000", Some("9001")).unwrap(), "127.0.0.1:9001");
    assert_eq!(address("localhost", None).unwrap(), "localhost:8080");
    assert_eq!(address("[::1]:1", None).unwrap(), "[::1]:1");
    assert_eq!(address("::1", None).unwrap(), "[::1]:8080");
    assert!(address("1.2.3.4:x", None).is_err());
    assert!(matches!(address("0.0.0.0", None), Err(ConfigurationError::TokenMissing { .. })));
}

#[test]
fn tls_takes_both_files_relative_to_where_they_are_set() {
    let tls = |variables: &[(&str, &str)]| {
        let mut sources = sources();
        sources.env_file = env_file(variables);
        Configuration::resolve(&sources).map(|configuration| configuration.tls)
    };
    let (certificate, key) = (("SERVER_TLS_CERT", "tls/server.pem"), ("SERVER_TLS_KEY", "/etc/server.key"));
    assert_eq!(tls(&[]).unwrap(), None);
    let both = tls(&[certificate, key]).unwrap().unwrap();
    assert!(both.certificate.is_absolute() && both.certificate.ends_with("tls/server.pem"), "{both:?}");
    assert_eq!(both.key, std::path::Path::new("/etc/server.key"));
    for (one, missing) in [(certificate, "SERVER_TLS_KEY is not"), (key, "SERVER_TLS_CERT is not")] {
        let error = tls(&[one]).unwrap_err().to_string();
        assert!(error.contains(missing) && error.contains("TLS needs both"), "{error}");
    }
}

#[test]
fn secrets_show_in_no_report_and_no_error() {
    let mut sources = sources();
    sources.environment.insert("API_TOKEN".into(), "geheim1".into());
    sources.environment.insert("INPUT_DSN".into(), "postgres://u:geheim2@h/db".into());
    let configuration = Configuration::resolve(&sources).unwrap();
    let shown = format!("{configuration:?} {:?}", configuration.report());
    assert!(!shown.contains("geheim"), "{shown}");
    sources.environment.insert("INPUT_DSN".into(), "postgres://u:gehe@im3@h:x/db".into());
    let error = Configuration::resolve(&sources).unwrap_err().to_string();
    assert!(error.contains("INPUT_DSN") && !error.contains("im3"), "{error}");
}

#[test]
fn several_databases_are_listed_once_each() {
    let mut sources = sources();
    sources.environment.insert("INPUT_DATABASES".into(), "shop, Crm-2,shop,".into());
    let configuration = Configuration::resolve(&sources).unwrap();
    assert_eq!(configuration.databases, ["shop", "Crm-2"]);
}
