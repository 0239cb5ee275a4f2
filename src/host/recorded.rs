//! The verbs on a machine that keeps a record, over any transport.
//!
//! A fault says nothing about the command. Every verb may be repeated but Launch, whose refusal
//! proves something only while it was sent once. How the host is asked is `shells`' business.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::inputs::inputs;
use super::recall::may_be_torn;
use super::shell::{Unanswered, call};
use super::shells::{Answer, Question};
pub use super::shells::{REPLY_LIMIT, Shells};
use super::{Chunk, Host, Material, Recall, Stream, shortage};
use crate::core::action::{Action, Entry, Expect, Refusal, Seen};
use crate::core::fault::{Fault, Ours, Standing};
use crate::core::plan::Plan;
use crate::journal::Saved;
use crate::shim::wire::{self, Flaw, Inputs, Refused, Report};

/// The account's host, as far as it keeps records. Each verb acts in the store of the user whom
/// the entry names, whatever the spec says by now.
pub struct Recorded(Arc<Shells>);

impl Recorded {
    /// The verbs on the account that `shells` belong to.
    pub fn new(shells: Arc<Shells>) -> Self {
        Self(shells)
    }

    async fn perform(
        &self,
        plan: &Plan,
        action: &Action,
        material: Option<Material>,
        recall: &Recall,
    ) -> Result<Seen, Fault> {
        let id = call();
        let (entry, line) = match action {
            Action::Prepare { entry } => {
                let line = wire::request("prepare", &id, entry, "").map_err(flawed)?;
                let report = self.ask(entry, &line, recall).await?.0;
                let identity = report.identity.ok_or_else(nobody)?;
                let (entry, connection) = (entry.clone(), String::new());
                return Ok(Seen::Prepared { entry, identity, connection });
            }
            Action::Sweep { uid, machine, store, run_as } => {
                let line = wire::sweep(&id, uid).map_err(flawed)?;
                self.put(run_as.as_deref(), &Question::of(&line, machine, recall)).await?;
                let (uid, machine, store) = (uid.clone(), machine.clone(), store.clone());
                return Ok(Seen::Swept { uid, machine, store });
            }
            Action::Launch { entry, expect } => {
                return match inputs(plan, entry.kind, material) {
                    Ok(inputs) => self.launch(&id, (entry, expect), &inputs, recall).await,
                    Err(flaw) => {
                        let fault = Fault::new(Ours::ProtocolError, flaw.to_string());
                        Ok(unsent(entry, fault))
                    }
                };
            }
            Action::Probe { entry } => (entry, wire::request("probe", &id, entry, "")),
            Action::Terminate { entry, reason, processes, grace_ms } => {
                let grace = Some(Duration::from_millis(*grace_ms));
                let words = wire::stop_words(*reason, grace, processes.as_ref());
                (entry, wire::request("stop", &id, entry, &words))
            }
            Action::Kill { entry, reason, processes } => {
                let words = wire::stop_words(*reason, None, processes.as_ref());
                (entry, wire::request("stop", &id, entry, &words))
            }
            Action::Revoke { entry, boot, store } => {
                (entry, wire::request("revoke", &id, entry, &wire::revoke_words(boot, store)))
            }
        };
        let report = self.ask(entry, &line.map_err(flawed)?, recall).await?.0;
        seen(entry, &report, plan.program.output_limit)
    }

    async fn launch(
        &self,
        id: &str,
        (entry, expect): (&Entry, &Expect),
        inputs: &Inputs,
        recall: &Recall,
    ) -> Result<Seen, Fault> {
        let report = match self.send_launch(id, (entry, expect), inputs, recall).await {
            Ok((report, _)) => report,
            Err(Unanswered { fault, written: true }) => return Err(fault),
            // Nothing started, and nothing will, however much goes wrong from here on: this was
            // the entry's only Launch, and no byte of it left this process.
            // - Its token is of one Prepare of one process, and `decide` gives its Launch
            //   together with the change of stage that announces it, and never again: whoever
            //   finds the stage at Launching, after a crash too, probes and revokes.
            // - The step performs once what it saved, and `Shells::ask` puts a Launch to another
            //   shell only while nothing of it was written.
            // A Revoke is needed where a Launch may be on its way. There is none here. Whoever
            // has gone on from the same stage meanwhile is not overruled: the refusal counts
            // once it is saved, and then the stage is no longer what it was.
            Err(Unanswered { fault, written: false }) => return Ok(unsent(entry, fault)),
        };
        if let Some(why) = turned_away(&report) {
            return Ok(Seen::Refused { entry: entry.clone(), why });
        }
        if !report.taken {
            return seen(entry, &report, inputs.output_limit);
        }
        let probe = wire::request("probe", id, entry, "").map_err(flawed)?;
        seen(entry, &self.ask(entry, &probe, recall).await?.0, inputs.output_limit)
    }

    /// The only place where a Launch is sent.
    async fn send_launch(
        &self,
        id: &str,
        (entry, expect): (&Entry, &Expect),
        inputs: &Inputs,
        recall: &Recall,
    ) -> Result<Answer, Unanswered> {
        let run_as = entry.run_as.as_deref();
        let forks = recall.unless_failed(self.0.forks(run_as)).await.map_err(Unanswered::unsent)?;
        let words = wire::launch_words(expect, inputs, !forks);
        let line = wire::request("launch", id, entry, &words).map_err(flawed);
        let line = line.map_err(Unanswered::unsent)?;
        let bytes = inputs.bytes(id);
        let question =
            Question { inputs: &bytes, once: true, ..Question::of(&line, &entry.machine, recall) };
        if forks {
            self.0.ask(run_as, &question).await
        } else {
            self.0.hand_over(run_as, &question).await
        }
    }

    async fn ask(&self, entry: &Entry, line: &str, recall: &Recall) -> Result<Answer, Fault> {
        self.put(entry.run_as.as_deref(), &Question::of(line, &entry.machine, recall)).await
    }

    async fn put(&self, run_as: Option<&str>, question: &Question<'_>) -> Result<Answer, Fault> {
        self.0.ask(run_as, question).await.map_err(|unanswered| unanswered.fault)
    }
}

#[async_trait]
impl Host for Recorded {
    async fn act(&self, plan: &Plan, action: &Saved<Action>, material: Option<Material>) -> Seen {
        match self.perform(plan, action.get(), material, &Recall::new()).await {
            Ok(seen) => seen,
            Err(fault) => Seen::Unreachable(fault),
        }
    }

    async fn act_unless(
        &self,
        plan: &Plan,
        (action, material): (&Saved<Action>, Option<Material>),
        recall: &Recall,
    ) -> Option<Seen> {
        let action = action.get();
        let performing = self.perform(plan, action, material, recall);
        let performed =
            if may_be_torn(action) { recall.unless(performing).await? } else { performing.await };
        match performed {
            Ok(seen) => Some(seen),
            // It is decided on anew; of a launch that may be on its way the host is asked.
            Err(_) if recall.is_said() => None,
            Err(fault) => Some(Seen::Unreachable(fault)),
        }
    }

    async fn read(
        &self,
        entry: &Entry,
        stream: Stream,
        offset: u64,
        max: u32,
    ) -> Result<Chunk, Fault> {
        let words = wire::read_words(stream, offset, max);
        let line = wire::request("read", &call(), entry, &words).map_err(flawed)?;
        let never = Recall::new();
        let question = Question { most: max, ..Question::of(&line, &entry.machine, &never) };
        let (_, bytes) = self.put(entry.run_as.as_deref(), &question).await?;
        Ok(Chunk { stream, offset, bytes, truncated: false })
    }
}

/// Why the launch that a report answers started nothing, and never will. A supervisor that is gone
/// without a word, and without one on why, is left to a Revoke.
fn turned_away(report: &Report) -> Option<Refusal> {
    let standing = |cause: Standing, message: &str| Refusal::Unable(Fault::new(cause, message));
    if let Some((why, message)) = &report.refused {
        return Some(match why {
            Refused::Changed => Refusal::HostChanged(message.clone()),
            Refused::Environment => standing(Standing::EnvironmentRefused, message),
            Refused::TooLong => standing(Standing::ArgumentsTooLong, message),
            Refused::Processes => {
                let said = [message.as_bytes(), b": ", &report.said].concat();
                Refusal::Unable(shortage::fault(&said))
            }
        });
    }
    let lacking = report.unstarted && shortage::lacks_processes(&report.said);
    lacking.then(|| Refusal::Unable(shortage::fault(&report.said)))
}

fn unsent(entry: &Entry, fault: Fault) -> Seen {
    Seen::Refused { entry: entry.clone(), why: Refusal::Unsent(fault) }
}

/// What the report says. Of output it is believed no more than `limit`, which the host keeps
/// itself where it is honest.
fn seen(entry: &Entry, report: &Report, limit: u64) -> Result<Seen, Fault> {
    if let Some(message) = &report.fault {
        return Err(Fault::new(Standing::HostUnusable, message));
    }
    let mut record = report.record(&entry.token).map_err(flawed)?;
    record.output = record.output.within(limit);
    Ok(Seen::Host { entry: entry.clone(), record })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn flawed(flaw: Flaw) -> Fault {
    Fault::new(Ours::ProtocolError, flaw.to_string())
}

fn nobody() -> Fault {
    Fault::new(Ours::ProtocolError, "the report names no host")
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::core::action::{Kind, StopReason};
    use crate::host::{ExecChannel, Transport};
    use crate::shim::Account;

    /// Never comes to a connection.
    struct Never;

    #[async_trait]
    impl Transport for Never {
        async fn open(&self, _: &str) -> Result<ExecChannel, Fault> {
            std::future::pending().await
        }
    }

    fn actions() -> Vec<Action> {
        let entry = Entry {
            uid: "uid".to_owned(),
            run: 1,
            attempt: 1,
            kind: Kind::Command,
            token: "0".repeat(32),
            machine: "machine".to_owned(),
            run_as: None,
        };
        let (reason, processes, grace_ms) = (StopReason::Cancelled, None, 1);
        let (boot, store) = ("boot".to_owned(), "store".to_owned());
        let expect = Expect { boot: boot.clone(), store: store.clone(), latest_uptime_ms: 1 };
        let (uid, machine) = (entry.uid.clone(), entry.machine.clone());
        vec![
            Action::Launch { entry: entry.clone(), expect },
            Action::Prepare { entry: entry.clone() },
            Action::Probe { entry: entry.clone() },
            Action::Terminate { entry: entry.clone(), reason, processes: None, grace_ms },
            Action::Kill { entry: entry.clone(), reason, processes },
            Action::Revoke { entry, boot, store: store.clone() },
            Action::Sweep { uid, machine, store, run_as: None },
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_connection_is_recalled_at_once_and_a_launch_was_not_sent() {
        let host = Recorded::new(Arc::new(Shells::new(Arc::new(Never), Account::default())));
        let plan = Plan::plain("uid", "host", &["true"]);
        for action in actions() {
            let recall = Recall::new();
            let began = Instant::now();
            let saved = Saved::for_test(action.clone());
            let acting = host.act_unless(&plan, (&saved, Some(Material::default())), &recall);
            let (seen, ()) = tokio::join!(acting, async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                recall.say();
            });
            assert_eq!(began.elapsed(), Duration::from_secs(1), "{action:?}");
            let launched = matches!(action, Action::Launch { .. });
            let unsent = matches!(seen, Some(Seen::Refused { why: Refusal::Unsent(_), .. }));
            assert!(if launched { unsent } else { seen.is_none() }, "{action:?}: {seen:?}");
        }
    }
}
