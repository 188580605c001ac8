//! Making a cluster, or opening the one that is there.
//!
//! The data directory is built as `data.new` and renamed, so that a `data/` is always whole.

use super::{
    Account, Cluster, ClusterError, ClusterOptions, SUPERUSER, account, identity, place, port, template,
};
use crate::Password;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Local connections by network, with a password, for every role; replication too.
const HBA: &str = "# Written by postgres-test-replay.\n\
    host all all 127.0.0.1/32 scram-sha-256\n\
    host replication all 127.0.0.1/32 scram-sha-256\n";

impl Cluster {
    /// Opens the cluster in the folder, making it first when there is none. Does not start it.
    ///
    /// # Errors
    /// [`ClusterError`], with what `initdb` printed or the file that could not be used.
    pub async fn create_or_open(options: ClusterOptions) -> Result<Self, ClusterError> {
        tokio::task::spawn_blocking(move || create_or_open(options))
            .await
            .expect("making a cluster does not panic, and the runtime outlives its tasks")
    }

    /// Opens the cluster in the folder; `None` where there is none, or one that is still being made.
    ///
    /// # Errors
    /// [`ClusterError`], with the file that could not be used.
    pub async fn open(options: ClusterOptions) -> Result<Option<Self>, ClusterError> {
        tokio::task::spawn_blocking(move || {
            let account = Account::for_servers()?;
            let directory = std::path::absolute(&options.directory)
                .map_err(ClusterError::file("find", &options.directory))?;
            let is_made = place::place(&directory, &account)?.join("data").join("PG_VERSION").exists();
            is_made.then(|| create_or_open(options)).transpose()
        })
        .await
        .expect("opening a cluster does not panic, and the runtime outlives its tasks")
    }
}

fn create_or_open(mut options: ClusterOptions) -> Result<Cluster, ClusterError> {
    let account = Account::for_servers()?;
    if !account.can_enter(&options.installation.bin_dir) {
        let path = options.installation.bin_dir;
        return Err(ClusterError::NotEnterable { account: account.name().to_owned(), path });
    }
    options.directory =
        std::path::absolute(&options.directory).map_err(ClusterError::file("find", &options.directory))?;
    let directory = place::place(&options.directory, &account)?;
    account.private_folder(&directory)?;
    let version_file = directory.join("data").join("PG_VERSION");
    let password_file = directory.join("password");
    let password = if version_file.exists() {
        check_version(&directory, &version_file, options.installation.version.major)?;
        let password = std::fs::read_to_string(&password_file);
        Password::new(password.map_err(ClusterError::file("read", &password_file))?)
    } else {
        create(&options, &directory, &account, &password_file)?
    };
    let port = match options.port {
        Some(port) => port,
        None => port::remembered_or_free(&directory)?,
    };
    Ok(Cluster { options, directory, account, password, port, child: None })
}

fn check_version(directory: &Path, file: &Path, wanted: u32) -> Result<(), ClusterError> {
    let found = std::fs::read_to_string(file).map_err(ClusterError::file("read", file))?;
    let found = found.trim().to_owned();
    if found == wanted.to_string() {
        return Ok(());
    }
    Err(ClusterError::OtherVersion { directory: directory.to_owned(), found, wanted })
}

fn create(
    options: &ClusterOptions,
    directory: &Path,
    account: &Account,
    password_file: &Path,
) -> Result<Password, ClusterError> {
    let building = directory.join("data.new");
    if building.exists() {
        std::fs::remove_dir_all(&building).map_err(ClusterError::file("remove", &building))?;
    }
    match &options.template_cache {
        Some(cache) => {
            template::copy(cache, &options.installation, &building, account)?;
            identity::renew(&building, &options.installation, account)?;
        }
        None => template::initdb(&options.installation, &building, account)?,
    }
    let password = random_password(password_file)?;
    write_private(password_file, password.reveal())?;
    configure(&building, account)?;
    set_password(options, &building, account, &password)?;
    let data = directory.join("data");
    std::fs::rename(&building, &data).map_err(ClusterError::file("create", &data))?;
    Ok(password)
}

fn configure(data: &Path, account: &Account) -> Result<(), ClusterError> {
    account.replace(data, "pg_hba.conf", HBA.as_bytes())?;
    let mut main = account::read(data, "postgresql.conf")?;
    main.extend_from_slice(format!("include_if_exists = '{}'\n", super::run::SETTINGS_FILE).as_bytes());
    account.replace(data, "postgresql.conf", &main)
}

/// In single-user mode, before anybody can connect: no moment with an open or known password.
fn set_password(
    options: &ClusterOptions,
    data: &Path,
    account: &Account,
    password: &Password,
) -> Result<(), ClusterError> {
    let program = options.installation.program("postgres");
    let mut command = Command::new(&program);
    command.args(["--single", "-c", "fsync=off", "-D"]).arg(data).arg("postgres").current_dir(data);
    command.env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = account.run(&mut command).spawn().map_err(ClusterError::file("run", &program))?;
    let mut input = child.stdin.take().expect("stdin was asked to be a pipe");
    let sql = format!("ALTER ROLE {SUPERUSER} PASSWORD '{}'\n", password.reveal());
    input.write_all(sql.as_bytes()).map_err(ClusterError::file("run", &program))?;
    drop(input);
    let output = child.wait_with_output().map_err(ClusterError::file("run", &program))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ClusterError::Program {
        program,
        directory: data.to_owned(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// 128 random bits in hexadecimal: nothing to encode in a URI or to quote in a shell.
fn random_password(file: &Path) -> Result<Password, ClusterError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| ClusterError::File {
        action: "make a password for",
        path: file.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(Password::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Writes a file that only its owner may read.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), ClusterError> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(ClusterError::file("write", path))
}
