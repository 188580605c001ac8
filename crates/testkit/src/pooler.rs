//! A PgBouncer in front of a server, for what users meet who were given a pooler's address.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use ptr_postgres::Dsn;
use tokio::net::TcpStream;

use crate::{TestServer, versions::servers_folder, wait_until};

/// `$0` is the program, `$1` its settings. It ends with its starter, whatever ends that: the pipe closes.
const SCRIPT: &str = r#""$0" -q "$1" & while read -r _; do :; done; kill $!; wait"#;

/// A running PgBouncer; it ends when dropped.
#[derive(Debug)]
pub struct Pooler {
    shell: Child,
    port: u16,
}

impl Pooler {
    /// In front of one database of the server, in its folder. Everybody who comes is let in, as the server's superuser.
    ///
    /// `None` where there is no PgBouncer, with a notice.
    ///
    /// # Panics
    /// In CI, where there is none; and when nobody answers.
    pub async fn start(server: &TestServer, database: &str) -> Option<Self> {
        Self::start_in_mode(server, database, "session").await
    }

    /// The same, with `pool_mode`: `session`, `transaction` or `statement`.
    ///
    /// # Panics
    /// As [`Pooler::start`].
    pub async fn start_in_mode(server: &TestServer, database: &str, mode: &str) -> Option<Self> {
        let program = program()?;
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map(|free| free.port());
        let port = port.unwrap_or_else(|error| panic!("no free port: {error}"));
        let settings = write_settings(server, database, port, mode);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT]).arg(program).arg(settings).current_dir("/");
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            // It refuses root: the account of the server's files.
            let owner = fs::metadata(server.cluster().data_directory()).expect("a server has files");
            command.uid(owner.uid()).gid(owner.gid());
        }
        let shell = command.spawn().expect("every Unix has /bin/sh");
        let started = Self { shell, port };
        wait_until("PgBouncer answers", Duration::from_secs(20), async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Some(started)
    }

    /// What a user is given who is to go through it: the server's DSN with another port.
    pub fn dsn(&self, direct: &Dsn) -> Dsn {
        let (uri, port) = (direct.to_uri_with_password(), direct.hosts()[0].port);
        let through = uri.replacen(&format!(":{port}"), &format!(":{}", self.port), 1);
        Dsn::parse(&through, &|_| None).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn write_settings(server: &TestServer, database: &str, port: u16, mode: &str) -> PathBuf {
    let path = server.folder().join(format!("pgbouncer-{mode}.ini"));
    let direct = server.dsn(database);
    let password = direct.password().map_or("", |password| password.reveal());
    let text = format!(
        "[databases]\n{database} = host=127.0.0.1 port={} dbname={database} user={} password={password}\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = {mode}\n",
        direct.hosts()[0].port,
        direct.user(),
    );
    let written =
        fs::write(&path, text).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

fn program() -> Option<PathBuf> {
    let unpacked = servers_folder().join("pgbouncer/usr/sbin/pgbouncer");
    let found = [unpacked, PathBuf::from("/usr/sbin/pgbouncer")].into_iter().find(|path| Path::is_file(path));
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no PgBouncer in CI; run script/install-test-servers");
        eprintln!("SKIPPED: there is no PgBouncer; script/install-test-servers unpacks it");
    }
    found
}
