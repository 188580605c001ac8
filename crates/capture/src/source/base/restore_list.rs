//! What of the dump belongs on a replica: `restore.list`, for `pg_restore -L`.
//!
//! `pg_dump -N` leaves out our schema but not our event triggers, which are of no schema, and would fire on the
//! replica.

use std::path::Path;

use super::super::{ServerFacts, SourceError, SourceOptions, event_trigger_names};
use crate::source::record::replace;

/// The file's name.
pub(super) const FILE: &str = "restore.list";

pub(super) async fn write(
    options: &SourceOptions,
    facts: &ServerFacts,
    publication: &str,
    folder: &Path,
) -> Result<(), SourceError> {
    let program = options.programs.client_program("pg_restore", facts.version.major)?;
    let output = tokio::process::Command::new(&program)
        .arg("-l")
        .arg(folder.join(super::dump::FOLDER))
        .env("LC_ALL", "C")
        .output()
        .await
        .map_err(SourceError::file(&program))?;
    if !output.status.success() {
        return Err(SourceError::Program {
            program: "pg_restore",
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let path = folder.join(FILE);
    let list = filter(&output.stdout, publication);
    replace(&path, &list).map_err(SourceError::file(path))
}

/// Comments out, as `pg_restore` understands it, the lines of what stays behind. Names are bytes of the
/// database's encoding, and so is the list.
fn filter(list: &[u8], publication: &str) -> Vec<u8> {
    let mut filtered = Vec::with_capacity(list.len());
    for line in list.split_inclusive(|byte| *byte == b'\n') {
        if stays_behind(&String::from_utf8_lossy(line), publication) {
            filtered.extend_from_slice(b";");
        }
        filtered.extend_from_slice(line);
    }
    filtered
}

/// A line is `<dump id>; <catalog oid> <oid> <what> <schema or -> <name> <owner>`.
fn stays_behind(line: &str, publication: &str) -> bool {
    let Some((_, entry)) = line.split_once("; ") else { return false };
    let what = entry.splitn(3, ' ').nth(2).unwrap_or_default();
    let is_our_publication =
        [format!("PUBLICATION - {publication} "), format!("COMMENT - PUBLICATION {publication} ")]
            .iter()
            .any(|start| what.starts_with(start.as_str()))
            || what.starts_with("PUBLICATION TABLE ") && what.contains(&format!(" {publication} "));
    let is_our_trigger =
        event_trigger_names().iter().any(|name| what.contains(&format!("EVENT TRIGGER - {name} ")));
    // Their rows are loaded from `materialized/` instead.
    let is_refresh = what.starts_with("MATERIALIZED VIEW DATA ");
    // A subscription would take over the production slot of its name.
    let is_subscription = what.starts_with("SUBSCRIPTION");
    is_our_publication || is_our_trigger || is_refresh || is_subscription
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_what_would_be_computed_again_stay_behind() {
        let list = "\
;     TOC Entries: 9
215; 1259 16385 TABLE public EVENT TRIGGER postgres
3466; 3466 16500 EVENT TRIGGER - !postgres_test_replay_end postgres
3467; 3466 16501 EVENT TRIGGER - audit postgres
3440; 6104 16600 PUBLICATION - postgres_test_replay postgres
3441; 6104 16601 PUBLICATION - theirs postgres
3442; 0 0 COMMENT - PUBLICATION postgres_test_replay postgres
3443; 6106 16602 PUBLICATION TABLE public postgres_test_replay a postgres
3450; 0 16603 MATERIALIZED VIEW DATA public mv postgres
3460; 6100 16604 SUBSCRIPTION - s postgres
";
        let filtered = String::from_utf8(filter(list.as_bytes(), "postgres_test_replay")).unwrap();
        let kept: Vec<&str> = filtered.lines().filter(|line| !line.starts_with(';')).collect();
        assert_eq!(kept.len(), 3, "{kept:?}");
        assert!(kept[0].contains("TABLE public") && kept[1].contains("audit") && kept[2].contains("theirs"));
    }
}
