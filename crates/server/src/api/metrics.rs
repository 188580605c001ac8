//! Numbers for Prometheus, in its text format (version 0.0.4). What does not answer has no number, but for `up`.

use std::fmt::Write;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::Shared;
use crate::resource::status::{DatabaseStatus, Status};

/// The numbers of `GET /api/status`, for Prometheus.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, content_type = "text/plain", body = String, description = "Prometheus text format")))]
pub(super) async fn metrics(State(service): Shared) -> Response {
    let status = service.status().await;
    let text = rendered(&status, service.free_bytes());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

/// Families in the order in which they were begun, each with its samples together, as the format wants it.
#[derive(Default)]
struct Families(Vec<(String, String)>);

impl Families {
    fn add(&mut self, name: &str, kind: Kind, help: &str, labels: &[(&str, &str)], value: Option<f64>) {
        let Some(value) = value else { return };
        let name = format!("postgres_test_replay_{name}");
        let place = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            let kind = match kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            let head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            self.0.push((name.clone(), head));
            self.0.len() - 1
        });
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // Writing to a String does not fail.
        let _ = writeln!(self.0[place].1, "{name}{labels} {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Counts beyond 2^53 lose their last digits, as all of Prometheus' do.
#[allow(clippy::cast_precision_loss, reason = "a sample is a double")]
fn number(count: u64) -> f64 {
    count as f64
}

fn flag(is_so: bool) -> Option<f64> {
    Some(f64::from(u8::from(is_so)))
}

fn rendered(status: &Status, free_bytes: Option<u64>) -> String {
    let mut all = Families::default();
    let version = [("version", status.version.as_str()), ("role", status.role.as_str())];
    all.add("build_info", Kind::Gauge, "Version and role of the service.", &version, Some(1.0));
    for (end, server) in [("input", &status.input), ("output", &status.output)] {
        let help = "Whether the server answers.";
        all.add("server_up", Kind::Gauge, help, &[("end", end)], flag(server.connected));
    }
    let help = "Bytes left on the disk of the data directory.";
    all.add("data_directory_free_bytes", Kind::Gauge, help, &[], free_bytes.map(number));
    let help = "Things that the status warns of.";
    all.add("warnings", Kind::Gauge, help, &[], Some(number(status.warnings.len() as u64)));
    status.databases.iter().for_each(|one| database(&mut all, one));
    if let Some(session) = &status.session {
        let labels = [("session", session.name.as_str()), ("database", session.database.as_str())];
        let at = session.position.as_ref().map(|position| number(position.transaction));
        all.add(
            "session_position_transactions",
            Kind::Gauge,
            "Transactions of the log before the active session.",
            &labels,
            at,
        );
    }
    all.0.into_iter().map(|(_, text)| text).collect()
}

fn database(all: &mut Families, one: &DatabaseStatus) {
    let labels = [("database", one.database.as_str())];
    let captures = matches!(one.listener.state.as_str(), "streaming" | "catching_up");
    all.add("listener_up", Kind::Gauge, "Whether changes are captured.", &labels, flag(captures));
    let progress = |name: &str| one.listener.details["progress"][name].as_u64().map(number);
    let ignored = "Messages with our prefix that were not ours.";
    all.add("listener_ignored_messages_total", Kind::Counter, ignored, &labels, progress("ignored_messages"));
    let again = "Times that the listener had to connect again.";
    all.add("listener_reconnects_total", Kind::Counter, again, &labels, progress("reconnects"));
    if let Some(slot) = &one.slot {
        let lost = slot.wal_status.as_deref() == Some("lost");
        all.add("slot_lost", Kind::Gauge, "Whether the server gave up the slot's WAL.", &labels, flag(lost));
        let help = "WAL that was written and is not confirmed.";
        all.add("slot_lag_bytes", Kind::Gauge, help, &labels, slot.lag_bytes.map(number));
        let help = "How long the oldest of it has waited.";
        all.add("slot_lag_seconds", Kind::Gauge, help, &labels, slot.lag_ms.map(|ms| number(ms) / 1000.0));
        let help = "WAL that the slot keeps on the primary.";
        all.add("slot_retained_bytes", Kind::Gauge, help, &labels, slot.retained_bytes.map(number));
    }
    if let Some(log) = &one.log {
        let transactions = "Transactions in the log.";
        all.add(
            "log_transactions_total",
            Kind::Counter,
            transactions,
            &labels,
            Some(number(log.transactions)),
        );
        all.add(
            "log_entries_total",
            Kind::Counter,
            "Entries in the log.",
            &labels,
            Some(number(log.entries)),
        );
        all.add("log_bytes", Kind::Gauge, "Size of the log on disk.", &labels, Some(number(log.bytes)));
        all.add("log_segments", Kind::Gauge, "Segments of the log.", &labels, Some(number(log.segments)));
    }
    if let Some(keyframes) = &one.keyframes {
        let count = (keyframes.keyframes.len() + keyframes.spares.len()) as u64;
        all.add(
            "keyframes",
            Kind::Gauge,
            "Keyframes and spares on the output server.",
            &labels,
            Some(number(count)),
        );
        let help = "What they take of the budget.";
        all.add("keyframe_bytes", Kind::Gauge, help, &labels, Some(number(keyframes.used_bytes)));
        let help = "KEYFRAME_BUDGET.";
        all.add("keyframe_budget_bytes", Kind::Gauge, help, &labels, Some(number(keyframes.budget_bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_family_stand_together_and_labels_are_escaped() {
        let mut all = Families::default();
        all.add("a", Kind::Gauge, "A.", &[("x", "q\"b\\n\n")], Some(1.0));
        all.add("b_total", Kind::Counter, "B.", &[], Some(2.5));
        all.add("a", Kind::Gauge, "A.", &[("x", "2")], Some(0.0));
        all.add("c", Kind::Gauge, "C.", &[], None);
        let text: String = all.0.into_iter().map(|(_, text)| text).collect();
        assert_eq!(
            text,
            "# HELP postgres_test_replay_a A.\n# TYPE postgres_test_replay_a gauge\n\
             postgres_test_replay_a{x=\"q\\\"b\\\\n\\n\"} 1\npostgres_test_replay_a{x=\"2\"} 0\n\
             # HELP postgres_test_replay_b_total B.\n# TYPE postgres_test_replay_b_total counter\n\
             postgres_test_replay_b_total 2.5\n"
        );
    }
}
