//! `doctor`: what stands in the way, and the exact fix.

use clap::Args;
use ptr_server::resource::status::{Doctor as Report, FindingAnswer, Mend};

use crate::{
    client::Call,
    context::Context,
    failure::{Failure, Kind},
    output::{Output, Paint},
};

/// Check servers, rights, disk and ports, and say what to do about what is wrong
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  postgres-test-replay doctor\n  postgres-test-replay doctor --fix")]
pub struct Doctor {
    /// Do the fixes that can be done from here; a slot that another data directory may need is dropped with --yes only
    #[arg(long)]
    fix: bool,
}

impl Doctor {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let call = match self.fix {
            true => Call::post("/api/doctor/fix", &Mend { drop_slot: context.global.yes }),
            false => Call::get("/api/doctor"),
        };
        let report: Report = context.ask(&call).await?;
        if context.output.is_json() {
            context.output.json(&report)?;
        } else {
            report.findings.iter().try_for_each(|finding| show(&context.output, finding))?;
        }
        if !report.healthy {
            let errors = report.findings.iter().filter(|finding| finding.severity == "error").count();
            let what = format!("{errors} of {} findings stand in the way", report.findings.len());
            return Err(Failure::new(Kind::Precondition, what).hint("each finding above names its own fix"));
        }
        context.output.prose("nothing stands in the way");
        Ok(())
    }
}

/// A finding: what is wrong, what it means, the fix.
fn show(output: &Output, finding: &FindingAnswer) -> Result<(), Failure> {
    let (colour, severity) = match finding.severity.as_str() {
        "error" => (Paint::Red, "error"),
        "warning" => (Paint::Yellow, "warning"),
        _ => (Paint::Dim, "info"),
    };
    output.line(format_args!("{} [{}] {}", output.paint(colour, severity), finding.code, finding.title))?;
    if !finding.meaning.is_empty() {
        output.line(format_args!("  {}", finding.meaning))?;
    }
    if !finding.fix.is_empty() {
        let by_us = match (finding.fixable, finding.code.as_str()) {
            (false, _) => "",
            (true, "leftover_slot") => " (doctor --fix --yes drops it)",
            (true, _) => " (doctor --fix does it)",
        };
        output.line(format_args!("  fix: {}{by_us}", finding.fix))?;
    }
    Ok(())
}
