//! What people are told by Events about one object, each thing once.
//!
//! Not the Events' publishing ([`events`](super::events)), and no record: a new supervisor tells
//! what lasts once more, unless the status already shows it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::events::Announcement;
use crate::api::conditions::cut;
use crate::api::{Phase, RemoteCommand, RemoteCommandStatus};

/// How long something that goes by itself keeps a command Pending before it is told.
const PATIENCE: Duration = Duration::from_secs(120);
/// Reasons told in one run; there are fewer, and what is beyond is told in status alone.
const REASONS: usize = 64;

/// What was told of the current run.
pub struct News {
    run: Option<i32>,
    told: BTreeSet<String>,
    /// The reason that is shown, and since when.
    shown: (Option<String>, Instant),
}

impl News {
    /// What `status` shows was told by whoever wrote it.
    pub fn of(status: &RemoteCommandStatus) -> Self {
        let mut news = Self {
            run: status.run,
            told: BTreeSet::new(),
            shown: (status.reason.clone(), Instant::now()),
        };
        if stands_still(status) {
            news.told.extend(status.reason.clone());
        }
        news
    }

    /// What is to be told when `status` is shown in place of `former`.
    pub fn told_by(
        &mut self,
        object: &RemoteCommand,
        former: &RemoteCommandStatus,
        status: &RemoteCommandStatus,
    ) -> Vec<Announcement> {
        if self.run != status.run {
            // The first run has no number before its first launch, which changes nothing.
            if self.run.is_some() {
                self.told.clear();
            }
            self.run = status.run;
        }
        if self.shown.0 != status.reason {
            self.shown = (status.reason.clone(), Instant::now());
        }
        let changed = (status.phase != former.phase).then(|| change_of_phase(status));
        let first = self.obstacle(status).or(changed);
        first.into_iter().chain(cut_output(object, former, status)).collect()
    }

    /// What keeps the command Pending: at once where somebody has to mend it, else when it lasts.
    pub fn obstacle(&mut self, status: &RemoteCommandStatus) -> Option<Announcement> {
        let lasts = waits_for_a_fault(status) && self.shown.1.elapsed() >= PATIENCE;
        if !(stands_still(status) || lasts) || self.told.len() >= REASONS {
            return None;
        }
        let reason = status.reason.clone()?;
        self.told.insert(reason.clone()).then(|| Announcement {
            warning: true,
            reason,
            action: "Waiting",
            note: status.message.clone().unwrap_or_default(),
        })
    }
}

/// A result whose output is not all there, also when that shows after the result.
fn cut_output(
    object: &RemoteCommand,
    former: &RemoteCommandStatus,
    status: &RemoteCommandStatus,
) -> Option<Announcement> {
    let of = |status: &RemoteCommandStatus| {
        let ended = is_ended(status.phase);
        status.output.as_ref().filter(|_| ended).and_then(|output| cut(object, output))
    };
    let cut = of(status).filter(|_| former.run != status.run || of(former).is_none())?;
    Some(Announcement {
        warning: true,
        reason: "OutputTruncated".to_owned(),
        action: "Following",
        note: cut.to_string(),
    })
}

fn change_of_phase(status: &RemoteCommandStatus) -> Announcement {
    Announcement {
        warning: matches!(status.phase, Phase::Failed | Phase::Unknown),
        reason: status.reason.clone().unwrap_or_else(|| status.phase.as_str().to_owned()),
        action: status.phase.as_str(),
        note: status.message.clone().unwrap_or_default(),
    }
}

fn is_ended(phase: Phase) -> bool {
    match phase {
        Phase::Succeeded | Phase::Failed | Phase::Unknown => true,
        Phase::Pending | Phase::Running => false,
    }
}

fn says(status: &RemoteCommandStatus, condition: &str, value: &str) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().any(|said| said.type_ == condition && said.status == value)
}

/// It is Pending, and not acceptable as it is, or stalled.
fn stands_still(status: &RemoteCommandStatus) -> bool {
    let refused = || says(status, "Accepted", "False") || says(status, "Stalled", "True");
    status.phase == Phase::Pending && refused()
}

/// It is Pending because the host could not be reached the last time.
fn waits_for_a_fault(status: &RemoteCommandStatus) -> bool {
    status.phase == Phase::Pending && says(status, "HostReachable", "False")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object() -> RemoteCommand {
        let object = json!({
            "metadata": {"namespace": "ns", "name": "a", "uid": "a"},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"],
                     "output": {"sizeLimit": "10"}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn status(phase: &str, reason: &str, conditions: &[(&str, &str)]) -> RemoteCommandStatus {
        let said = |(name, value): &(&str, &str)| -> Value {
            json!({"type": name, "status": value, "reason": reason, "message": "",
                   "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let conditions: Vec<_> = conditions.iter().map(said).collect();
        let status = json!({"observedGeneration": 1, "phase": phase, "reason": reason,
                            "message": "words", "conditions": conditions});
        serde_json::from_value(status).unwrap()
    }

    /// What is told of these statuses, one after the other.
    fn told(statuses: &[RemoteCommandStatus]) -> Vec<String> {
        let mut former = RemoteCommandStatus::default();
        let mut news = News::of(&former);
        let mut told = Vec::new();
        for status in statuses {
            told.extend(news.told_by(&object(), &former, status).into_iter().map(|n| n.reason));
            former.clone_from(status);
        }
        told
    }

    #[test]
    fn what_keeps_a_command_pending_is_told_once_per_reason() {
        let host = || status("Pending", "HostNotFound", &[("Accepted", "False")]);
        let secret = || status("Pending", "SecretNotFound", &[("Accepted", "False")]);
        let key = || status("Pending", "HostKeyMismatch", &[("Stalled", "True")]);
        let connecting = || status("Pending", "Connecting", &[("Accepted", "True")]);
        let seen = told(&[host(), secret(), host(), connecting(), host(), key(), key()]);
        assert_eq!(seen, ["HostNotFound", "SecretNotFound", "HostKeyMismatch"]);
    }

    #[test]
    fn a_new_run_is_told_of_anew() {
        let of = |run| RemoteCommandStatus {
            run: Some(run),
            ..status("Pending", "SecretNotFound", &[("Accepted", "False")])
        };
        assert_eq!(told(&[of(1), of(1), of(2)]), ["SecretNotFound", "SecretNotFound"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_go_by_itself_is_told_when_it_lasts() {
        let refused = status("Pending", "ConnectionRefused", &[("HostReachable", "False")]);
        let mut news = News::of(&RemoteCommandStatus::default());
        assert_eq!(news.told_by(&object(), &RemoteCommandStatus::default(), &refused), []);
        tokio::time::advance(PATIENCE / 2).await;
        assert_eq!(news.obstacle(&refused), None);
        tokio::time::advance(PATIENCE / 2).await;
        let told = news.obstacle(&refused).map(|told| told.reason);
        assert_eq!(told.as_deref(), Some("ConnectionRefused"));
        assert_eq!(news.obstacle(&refused), None);
    }

    #[test]
    fn what_the_status_shows_already_was_told_by_whoever_wrote_it() {
        let stalled = status("Pending", "HostKeyUnknown", &[("Stalled", "True")]);
        assert_eq!(News::of(&stalled).told_by(&object(), &stalled, &stalled), []);
    }

    #[test]
    fn a_result_whose_output_is_cut_is_told_once_and_with_a_warning() {
        let ended = status("Succeeded", "Completed", &[]);
        let mut cut = ended.clone();
        let mut output = crate::api::OutputStatus::unseen(false);
        (output.stdout.bytes, output.stdout.truncated) = (10, true);
        cut.output = Some(output);
        assert_eq!(told(&[ended, cut.clone(), cut]), ["Completed", "OutputTruncated"]);
    }
}
