//! What several commands came to: a line each, and how many ended in which way.

use super::exit::ExitCode;
use super::report::{CommandReport, When};
use crate::core::phase::Phase;

/// The lines for reports with the names that their commands go by.
pub fn lines(reports: &[(String, CommandReport)]) -> Vec<String> {
    let mut lines: Vec<_> = reports.iter().map(|(name, report)| line(name, report)).collect();
    lines.push(count(reports));
    lines
}

fn line(name: &str, report: &CommandReport) -> String {
    let CommandReport { phase, reason, host, .. } = report;
    let at = host.address.as_ref().map_or(String::new(), |address| format!(" ({address})"));
    let exit = report.exit_code.map_or(String::new(), |code| format!(", exit code {code}"));
    let missing = if lacks_output(report) { ", not all of its output" } else { "" };
    let when = match (report.started, &report.ended_before) {
        (When::Never, _) => "not started",
        (_, Some(_)) => "had ended before, not started",
        (When::Earlier, None) => "started earlier",
        (When::Now, None) => "started now",
    };
    format!("{name}: {}/{reason}{exit}{missing}; on {}{at}, {when}", phase.word(), host.name)
}

/// As `4 commands: 2 succeeded, 1 failed, 1 unknown`.
fn count(reports: &[(String, CommandReport)]) -> String {
    let phases = [
        (Phase::Succeeded, "succeeded"),
        (Phase::Failed, "failed"),
        (Phase::Unknown, "unknown"),
        (Phase::Running, "still running"),
        (Phase::Pending, "not started"),
    ];
    let of = |phase| reports.iter().filter(|(_, report)| report.phase == phase).count();
    let counts = phases.map(|(phase, word)| (of(phase), word));
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    let lacking = reports.iter().filter(|(_, report)| lacks_output(report)).count();
    let lacking =
        if lacking > 0 { format!("; {lacking} without all output") } else { String::new() };
    format!("{} commands: {}{lacking}", reports.len(), counts.join(", "))
}

/// It has ended, and what is amiss is this program's own part.
fn lacks_output(report: &CommandReport) -> bool {
    let own = report.exit_code.and_then(|code| u8::try_from(code).ok());
    let trouble = ExitCode::Trouble.number();
    let ended = matches!(report.phase, Phase::Succeeded | Phase::Failed);
    ended && report.code == trouble && own != Some(trouble)
}
