//! The suite's files as `script/install-regression-suite` lays them down, and how one of them is run.

use std::path::PathBuf;

use ptr_postgres::Dsn;
use ptr_testkit::ServerVersion;
use tokio::process::Command;

/// Not run: they need what a database that is compared cannot have.
const LEFT_OUT: [(&str, &str); 0] = [];

#[derive(Clone)]
pub struct Suite {
    folder: PathBuf,
    library: PathBuf,
    psql: PathBuf,
}

impl Suite {
    pub fn installed(version: ServerVersion) -> Self {
        let servers = std::env::var_os("PTR_TEST_SERVERS")
            .map_or_else(|| PathBuf::from("/var/tmp/postgres-test-replay-servers"), PathBuf::from);
        let folder = servers.join("regress");
        assert!(
            folder.join("sql/test_setup.sql").is_file(),
            "PostgreSQL's regression suite is not in {}; run script/install-regression-suite",
            folder.display()
        );
        let library = folder.join(match version {
            ServerVersion::Debian15 => "lib15",
            ServerVersion::Pypi18 => "lib18",
        });
        let psql = version.installation().program("psql");
        Self { folder, library, psql }
    }

    /// The schedule's files in its order, or those wanted of them.
    pub fn files(&self, wanted: &[&str]) -> Vec<String> {
        let schedule = std::fs::read_to_string(self.folder.join("parallel_schedule")).expect("the schedule");
        let all: Vec<String> = schedule
            .lines()
            .filter_map(|line| line.strip_prefix("test: "))
            .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .filter(|name| !LEFT_OUT.iter().any(|(left_out, _)| left_out == name))
            .collect();
        if wanted.is_empty() {
            return all;
        }
        if let Some(unknown) = wanted.iter().find(|name| !all.iter().any(|file| file == **name)) {
            panic!("the regression suite has no file {unknown}");
        }
        all.into_iter().filter(|file| file == "test_setup" || wanted.contains(&file.as_str())).collect()
    }

    /// A database as `pg_regress` makes it.
    pub fn database_settings() -> String {
        [
            "lc_messages = 'C'",
            "lc_monetary = 'C'",
            "lc_numeric = 'C'",
            "lc_time = 'C'",
            "bytea_output = 'hex'",
            "timezone_abbreviations = 'Default'",
        ]
        .map(|setting| format!("ALTER DATABASE regression SET {};", setting.replacen(" = ", " TO ", 1)))
        .concat()
    }

    /// Runs a file as `pg_regress` does; what psql printed.
    pub async fn run(&self, file: &str, dsn: &Dsn, build_folder: &std::path::Path) -> String {
        let mut command = std::process::Command::new(&self.psql);
        dsn.apply_to(&mut command);
        let script = std::fs::File::open(self.folder.join(format!("sql/{file}.sql"))).expect("the file");
        command
            .args(["-X", "-a", "-q"])
            .current_dir(&self.folder)
            .env_remove("LC_ALL")
            .env("LANG", "C")
            .env("LC_MESSAGES", "C")
            .env("PGAPPNAME", format!("pg_regress/{file}"))
            .env("PG_ABS_SRCDIR", &self.folder)
            .env("PG_ABS_BUILDDIR", build_folder)
            .env("PG_LIBDIR", &self.library)
            .env("PG_DLSUFFIX", ".so")
            .env("PGTZ", "America/Los_Angeles")
            .env("PGDATESTYLE", "Postgres, MDY")
            .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
            .stdin(script)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        // pg_regress joins the two; here they come one after the other, which is the same with and without capture.
        let output = command.output().await.expect("psql runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}\n---- stderr\n{}", text(&output.stdout), text(&output.stderr))
    }
}
