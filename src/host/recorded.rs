//! The verbs on a machine that keeps a record, over any transport.
//!
//! A fault says nothing about the command. Every verb may be repeated but Launch, whose refusal
//! proves something only while it was sent once. How the host is asked is `shells`' business.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::inputs::inputs;
use super::shell::{Unanswered, call};
use super::shells::{Answer, Question};
pub use super::shells::{REPLY_LIMIT, Shells};
use super::{Chunk, Host, Material, Stream, shortage};
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
    ) -> Result<Seen, Fault> {
        let id = call();
        let (entry, line) = match action {
            Action::Prepare { entry } => {
                let line = wire::request("prepare", &id, entry, "").map_err(flawed)?;
                let report = self.ask(entry, &line).await?.0;
                let identity = report.identity.ok_or_else(nobody)?;
                let (entry, connection) = (entry.clone(), String::new());
                return Ok(Seen::Prepared { entry, identity, connection });
            }
            Action::Sweep { uid, machine, store, run_as } => {
                let line = wire::sweep(&id, uid).map_err(flawed)?;
                self.put(run_as.as_deref(), &Question::of(&line, machine)).await?;
                let (uid, machine, store) = (uid.clone(), machine.clone(), store.clone());
                return Ok(Seen::Swept { uid, machine, store });
            }
            Action::Launch { entry, expect } => {
                return match inputs(plan, entry.kind, material) {
                    Ok(inputs) => self.launch(&id, entry, expect, &inputs).await,
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
        let report = self.ask(entry, &line.map_err(flawed)?).await?.0;
        seen(entry, &report, plan.program.output_limit)
    }

    async fn launch(
        &self,
        id: &str,
        entry: &Entry,
        expect: &Expect,
        inputs: &Inputs,
    ) -> Result<Seen, Fault> {
        let report = match self.send_launch(id, entry, expect, inputs).await {
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
        seen(entry, &self.ask(entry, &probe).await?.0, inputs.output_limit)
    }

    /// The only place where a Launch is sent.
    async fn send_launch(
        &self,
        id: &str,
        entry: &Entry,
        expect: &Expect,
        inputs: &Inputs,
    ) -> Result<Answer, Unanswered> {
        let run_as = entry.run_as.as_deref();
        let forks = self.0.forks(run_as).await.map_err(Unanswered::unsent)?;
        let words = wire::launch_words(expect, inputs, !forks);
        let line = wire::request("launch", id, entry, &words).map_err(flawed);
        let line = line.map_err(Unanswered::unsent)?;
        let bytes = inputs.bytes(id);
        let question =
            Question { inputs: &bytes, once: true, ..Question::of(&line, &entry.machine) };
        if forks {
            self.0.ask(run_as, &question).await
        } else {
            self.0.hand_over(run_as, &question).await
        }
    }

    async fn ask(&self, entry: &Entry, line: &str) -> Result<Answer, Fault> {
        self.put(entry.run_as.as_deref(), &Question::of(line, &entry.machine)).await
    }

    async fn put(&self, run_as: Option<&str>, question: &Question<'_>) -> Result<Answer, Fault> {
        self.0.ask(run_as, question).await.map_err(|unanswered| unanswered.fault)
    }
}

#[async_trait]
impl Host for Recorded {
    async fn act(&self, plan: &Plan, action: &Saved<Action>, material: Option<Material>) -> Seen {
        match self.perform(plan, action.get(), material).await {
            Ok(seen) => seen,
            Err(fault) => Seen::Unreachable(fault),
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
        let question = Question { most: max, ..Question::of(&line, &entry.machine) };
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
