//! What is wrong, or will be.

use std::{path::Path, time::Duration};

use ptr_capture::doctor::{Finding, OutputOptions, Severity, check_output, check_primary, fix};

use ptr_log::DEFAULT_SESSION;
use ptr_model::Timestamp;
use ptr_postgres::{ConnectError, Dsn, SessionSettings, connect, sqlstate::SqlState};
use ptr_replay::session::unfit;

use super::{APPLICATION_NAME, Service, ServiceError, now};
use crate::{
    resource::status::{Doctor, FindingAnswer, Mend},
    serve::expires_by,
};

/// Space below which a full disk is near.
const SCARCE_BYTES: u64 = 1 << 30;

/// The finding of a slot of our name that is not of this data directory.
const SLOT: &str = "leftover_slot";

/// How long before its end a certificate is told of.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

impl Service {
    /// `GET /api/doctor`.
    ///
    /// # Errors
    /// Nothing can be checked at all.
    pub async fn doctor(&self) -> Result<Doctor, ServiceError> {
        let _turn = self.lanes.turn().await;
        let mut findings = self.look_at_input().await;
        findings.extend(self.look_at_output().await);
        findings.extend(self.slipped_findings());
        findings.extend(self.check_disk());
        findings.extend(self.check_certificate());
        findings.sort_by_key(|finding| std::cmp::Reverse(rank(&finding.severity)));
        findings.dedup();
        Ok(Doctor { healthy: findings.iter().all(|finding| finding.severity != "error"), findings })
    }

    /// `POST /api/doctor/fix`. A slot, which may be what another data directory's history hangs on, only with consent.
    ///
    /// # Errors
    /// Nothing can be checked at all. A fix that fails leaves its finding.
    pub async fn doctor_fix(&self, request: Mend) -> Result<Doctor, ServiceError> {
        let turn = self.lanes.turn().await;
        let mut refused: Vec<(&str, String)> = Vec::new();
        for database in &self.configuration.databases {
            let options = self.source_options(database)?;
            let wanted = |finding: &&Finding| finding.fixable && (finding.code != SLOT || request.drop_slot);
            for finding in check_primary(&options).await.iter().filter(wanted) {
                match fix(&options, finding, &()).await {
                    Ok(done) => tracing::info!("{done}"),
                    Err(error) => refused.push((finding.code, error.to_string())),
                }
            }
        }
        drop(turn);
        let mut answer = self.doctor().await?;
        for (code, error) in refused {
            for finding in answer.findings.iter_mut().filter(|finding| finding.code == code) {
                finding.meaning.push_str(&format!("; it was not mended: {error}"));
            }
        }
        Ok(answer)
    }

    pub(super) async fn look_at_input(&self) -> Vec<FindingAnswer> {
        let mut findings = Vec::new();
        for database in &self.configuration.databases {
            match self.source_options(database) {
                Ok(options) => findings.extend(check_primary(&options).await.into_iter().map(shown)),
                Err(error) => findings.push(of_error("input", &error)),
            }
        }
        findings
    }

    /// Against each captured database, because none of them may be the output.
    pub(super) async fn look_at_output(&self) -> Vec<FindingAnswer> {
        let output = match self.output() {
            Ok(output) => output,
            Err(error) => return vec![of_error("output", &error)],
        };
        let mut findings: Vec<FindingAnswer> = Vec::new();
        findings.extend(self.check_output_name(output.database()).await);
        findings.extend(self.check_maintenance().await);
        for input in self.reachable_inputs().await {
            let options = OutputOptions { output: output.clone(), input };
            for finding in check_output(&options).await.into_iter().map(shown) {
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
    }

    /// A database that the server needs, or that is dropped when something is made, is none for a session. One that
    /// the default session has already is only warned of.
    async fn check_output_name(&self, database: &str) -> Option<FindingAnswer> {
        let reason = unfit(database)?;
        let mut found = finding(
            "output_name",
            &format!("OUTPUT_DSN names the database {database:?}, which no session can have: {reason}"),
            "The default session's database is replaced and dropped as the session moves.",
            "name another database in OUTPUT_DSN; it is made where it is not there",
        );
        if self.session_named(Some(DEFAULT_SESSION)).await.is_ok_and(|had| had.target_database == database) {
            found.severity = "warning".into();
        }
        Some(found)
    }

    /// Databases are made, renamed and dropped from `postgres`.
    async fn check_maintenance(&self) -> Option<FindingAnswer> {
        match self.output_maintenance().await {
            Ok(connection) => {
                connection.close().await;
                None
            }
            Err(ServiceError::Connect(ConnectError::LoginRefused { error, .. }))
                if error.sqlstate == SqlState::UNDEFINED_DATABASE =>
            {
                Some(finding(
                    "output_maintenance",
                    "the output server has no database \"postgres\"",
                    "Sessions' databases and keyframes are made, renamed and dropped from there.",
                    "on the output server, connected to template1: CREATE DATABASE postgres",
                ))
            }
            // Told by whoever looks at the output itself.
            Err(_) => None,
        }
    }

    /// What the output is compared with; a primary that does not answer is a finding of its own, and then the
    /// output is looked at alone.
    async fn reachable_inputs(&self) -> Vec<Option<Dsn>> {
        let mut inputs = Vec::new();
        if let Ok(input) = self.input() {
            for database in &self.configuration.databases {
                let input = input.with_database(database);
                if let Ok(connection) = connect(&input, &SessionSettings::named(APPLICATION_NAME)).await {
                    connection.close().await;
                    inputs.push(Some(input));
                }
            }
        }
        if inputs.is_empty() { vec![None] } else { inputs }
    }

    /// A certificate of the API that clients refuse, or will before long.
    pub(super) fn check_certificate(&self) -> Option<FindingAnswer> {
        let files = self.configuration.tls.as_ref()?;
        let now = now();
        let soon = Timestamp(now.0.saturating_add(SOON.as_micros().try_into().unwrap_or(i64::MAX)));
        let end = expires_by(files, soon)?;
        let day = end.to_string().chars().take("2026-05-01".len()).collect::<String>();
        let (verb, since) = if end <= now { ("expired", "refuse") } else { ("expires", "will refuse") };
        let mut found = finding(
            "certificate",
            &format!("the certificate {} {verb} on {day}", files.certificate.display()),
            &format!(
                "Whoever asks the API over https {since} it then. Put a renewed pair at SERVER_TLS_CERT and SERVER_TLS_KEY; \
                 the running service takes it without a restart."
            ),
            &format!(
                "renew it, and put certificate and key at {} and {}",
                files.certificate.display(),
                files.key.display()
            ),
        );
        found.severity = "warning".into();
        Some(found)
    }

    /// The same for the status.
    pub(super) fn certificate_told(&self) -> Option<String> {
        let served = self.role.serves().then(|| self.check_certificate()).flatten();
        served.map(|finding| told(&finding))
    }

    /// Bytes left on the data directory's disk.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let there = self.configuration.data.root().ancestors().find(|folder| folder.exists())?;
        let space = rustix::fs::statvfs(there).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    pub(super) fn check_disk(&self) -> Vec<FindingAnswer> {
        let root = self.configuration.data.root();
        let there = root.ancestors().find(|folder| folder.exists());
        if let Some(Err(error)) = there.map(try_to_write) {
            return vec![finding(
                "data_directory",
                &format!("{} cannot be written: {error}", root.display()),
                "The log, the base image and the catalog are kept there; nothing can begin.",
                "give this user the right to write there, or name another folder with --data-dir",
            )];
        }
        let Some(free) = self.free_bytes() else { return Vec::new() };
        if free >= SCARCE_BYTES {
            return Vec::new();
        }
        let mut scarce = finding(
            "disk",
            &format!("{} has {} MB left", root.display(), free >> 20),
            "When the disk is full the log stops cleanly, and the slot keeps WAL on the primary meanwhile.",
            "free some space, or move the data directory with --data-dir",
        );
        scarce.severity = "warning".into();
        vec![scarce]
    }
}

/// Makes a folder and removes it: rights alone do not tell, for root or on a file system that is read-only.
fn try_to_write(folder: &Path) -> std::io::Result<()> {
    tempfile::Builder::new().prefix(".ptr-doctor-").tempdir_in(folder)?.close()
}

/// In one line.
pub(super) fn told(finding: &FindingAnswer) -> String {
    format!("{}: {}", finding.title, finding.meaning)
}

fn shown(finding: Finding) -> FindingAnswer {
    FindingAnswer {
        code: finding.code.to_owned(),
        severity: match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
        .to_owned(),
        title: finding.title,
        meaning: finding.meaning,
        fix: finding.fix,
        fixable: finding.fixable,
    }
}

fn finding(code: &str, title: &str, meaning: &str, fix: &str) -> FindingAnswer {
    FindingAnswer {
        code: code.to_owned(),
        severity: "error".to_owned(),
        title: title.to_owned(),
        meaning: meaning.to_owned(),
        fix: fix.to_owned(),
        fixable: false,
    }
}

fn of_error(code: &str, error: &ServiceError) -> FindingAnswer {
    let problem = error.problem();
    finding(code, &problem.detail, "Nothing can begin before this holds.", &problem.hint.unwrap_or_default())
}

fn rank(severity: &str) -> u8 {
    match severity {
        "error" => 2,
        "warning" => 1,
        _ => 0,
    }
}
