//! The operator's journal: the stage is kept in the object's status.
//!
//! A status is always written whole: the stage, and in words what it means. So there is one
//! place that makes statuses from stages, used for saving a stage and for showing the same
//! stage in other words.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::Resource;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::events::{Announcement, Announcer};
use super::following::{Following, is_given_up};
use super::news::News;
use super::registry::Key;
use super::stage::{is_same, record};
use super::wishes::Wishes;
use super::writer::{Acknowledged, Request, Urgency, Writer};
use crate::api::conditions::{Known, status};
use crate::api::{OutputStatus, RemoteCommand, RemoteCommandStatus, StageRecord};
use crate::core::action::{Action, Seen};
use crate::core::phase::{self, Summary};
use crate::core::stage::{Attempt, Stage};
use crate::host::Host;
use crate::journal::{Journal, NotSaved, Saved};
use crate::reach::Ways;
use crate::step::Reach as _;

/// How often output is read on while a save waits.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// Keeps one object's stage.
pub struct Ledger {
    key: Key,
    writer: Writer,
    announcer: Announcer,
    /// The status handed over last, or found at the beginning.
    shown: RemoteCommandStatus,
    news: News,
}

/// What a status is made from, besides the stage.
pub struct Entry<'a> {
    pub ledger: &'a mut Ledger,
    pub object: &'a Arc<RemoteCommand>,
    pub wishes: &'a Wishes,
    /// Output goes on while a save waits for the API server.
    pub following: &'a mut Following,
    pub ways: &'a Ways,
    /// Set when another stage is stored than the one that was decided from.
    pub overtaken: Option<Arc<RemoteCommand>>,
}

impl Ledger {
    /// Begins with what `object` shows.
    pub fn new(key: Key, writer: Writer, announcer: Announcer, object: &RemoteCommand) -> Self {
        let shown = object.status.clone().unwrap_or_default();
        let news = News::of(&shown);
        Self { key, writer, announcer, shown, news }
    }

    /// The status handed over last.
    pub fn shown(&self) -> &RemoteCommandStatus {
        &self.shown
    }

    /// Begins again with what `object` shows.
    pub fn adopt(&mut self, object: &RemoteCommand) {
        self.shown = object.status.clone().unwrap_or_default();
        self.news = News::of(&self.shown);
    }

    /// Tells people that somebody else has written these fields of the status, and that they
    /// are put right.
    pub fn announce_overwritten(&self, object: &RemoteCommand, fields: &[String]) {
        let fields = fields.join(", ");
        warn!(namespace = self.key.namespace, name = self.key.name, fields, "status overwritten");
        let note = format!(
            "somebody else has written {fields} of this status; it is put right from the \
             operator's own record, and nothing is done for what it said"
        );
        let (warning, reason) = (true, "StatusOverwritten".to_owned());
        let announcement = Announcement { warning, reason, action: "PuttingRight", note };
        self.announcer.tell(object.object_ref(&()), announcement);
    }

    /// Takes `status` for what is shown, and tells people what is new about it.
    fn shows(&mut self, object: &RemoteCommand, status: RemoteCommandStatus) {
        let former = std::mem::replace(&mut self.shown, status);
        for announcement in self.news.told_by(object, &former, &self.shown) {
            self.tell(object, announcement);
        }
    }

    /// Tells people of what has kept the command waiting for long, although nothing changes.
    pub fn remind(&mut self, object: &RemoteCommand) {
        if let Some(announcement) = self.news.obstacle(&self.shown) {
            self.tell(object, announcement);
        }
    }

    fn tell(&self, object: &RemoteCommand, announcement: Announcement) {
        let (phase, reason) = (self.shown.phase.as_str(), announcement.reason.as_str());
        info!(namespace = self.key.namespace, name = self.key.name, phase, reason);
        self.announcer.tell(object.object_ref(&()), announcement);
    }
}

/// Whether output of the run's own command may come.
fn is_live(stage: &Stage) -> bool {
    let own = |attempt: &Attempt| attempt.entry.run == stage.run && !attempt.is_verify();
    super::stage::live(stage).is_some_and(own) && !is_given_up(stage)
}

impl Entry<'_> {
    /// The status that goes with `stage`.
    pub fn status(&self, stage: &Stage) -> Result<RemoteCommandStatus, serde_json::Error> {
        let shown = &self.ledger.shown;
        let summary = self.summary(stage);
        // What an earlier supervisor showed of the same attempt stays until more is known.
        let same = (shown.run, shown.attempt) == (Some(stage.run), Some(stage.attempt));
        let earlier = shown.output.clone().filter(|_| same).map(|output| {
            let open = output.open && !is_given_up(stage);
            OutputStatus { open, ..output }
        });
        let output = self.following.status(stage);
        let known = Known {
            stage,
            to_be_followed: stage.is_to_be_followed(&self.wishes.asked),
            record: self.record(stage)?,
            summary: &summary,
            output: output.or(earlier).unwrap_or_else(|| OutputStatus::unseen(is_live(stage))),
            previous: Some(shown),
            now: Timestamp::now(),
        };
        Ok(status(self.object, known))
    }

    /// What is said of the stage, with what a connection that is being made waits for just now.
    fn summary(&self, stage: &Stage) -> Summary {
        let mut summary = phase::summary(&self.wishes.plan, stage);
        if summary.reason == phase::CONNECTING {
            let host = self.ways.host(&self.wishes.asked.connection);
            if let Some(waits_for) = host.waits_for() {
                summary.message = format!("{}: {waits_for}", summary.message);
            }
        }
        summary
    }

    /// The stage as it is to be stored. One that is stored already stays as it was written,
    /// also by another version of the operator: it changes with its revision only.
    fn record(&self, stage: &Stage) -> Result<StageRecord, serde_json::Error> {
        let fresh = record(stage)?;
        let kept = self.ledger.shown.stage.as_ref().filter(|kept| kept.revision == fresh.revision);
        let kept = kept.filter(|kept| is_same(Some(kept), Some(&fresh)));
        Ok(kept.cloned().unwrap_or(fresh))
    }

    /// Shows the same stage in other words, some time.
    pub async fn show(&mut self, stage: &Stage, status: RemoteCommandStatus) {
        let before = (stage.revision > 0).then(|| record(stage)).and_then(Result::ok);
        let request = self.request(before, &status, Urgency::Shown);
        self.ledger.shows(self.object, status);
        self.ledger.writer.show(request).await;
    }

    /// What there is to be read on while nothing can be saved, and where. What is seen decides
    /// nothing: it is seen again.
    async fn look(&self, stage: &Stage) -> Option<(Seen, Arc<dyn Host>)> {
        let attempt = super::stage::live(stage)?;
        let probe = Action::Probe { entry: attempt.entry.clone() };
        let probe = Saved::harmless(probe, stage)?;
        let host = self.ways.host(&attempt.connection);
        let seen = host.act(&self.wishes.plan, &probe, None).await;
        Some((seen, host))
    }

    fn request(
        &self,
        before: Option<StageRecord>,
        status: &RemoteCommandStatus,
        urgency: Urgency,
    ) -> Request {
        Request {
            key: self.ledger.key.clone(),
            base: Arc::clone(self.object),
            before,
            status: status.clone(),
            urgency,
        }
    }
}

#[async_trait]
impl Journal for Entry<'_> {
    async fn write(&mut self, before: &Stage, stage: &Stage) -> Result<(), NotSaved> {
        let unwritable = |error: serde_json::Error| NotSaved::Failed(error.into());
        let status = self.status(stage).map_err(unwritable)?;
        let stored =
            if before.revision > 0 { Some(record(before).map_err(unwritable)?) } else { None };
        let ended = before.outcome.is_none() && stage.outcome.is_some();
        let urgency = if ended { Urgency::Terminal } else { Urgency::Stage };
        let request = self.request(stored, &status, urgency);
        let writer = self.ledger.writer.clone();
        let mut saved = pin!(writer.save(request));
        let acknowledged = loop {
            tokio::select! {
                acknowledged = &mut saved => break acknowledged,
                () = sleep(LOOK_PERIOD) => {}
            }
            let looked = tokio::select! {
                acknowledged = &mut saved => break acknowledged,
                looked = self.look(before) => looked,
            };
            let Some((seen, host)) = looked else { continue };
            // A result does not wait for the rest of its output once it is stored.
            tokio::select! {
                acknowledged = &mut saved => break acknowledged,
                () = self.following.observe(&self.wishes.source, &seen, &host, None) => {}
            }
        };
        match acknowledged {
            Some(Acknowledged::Written(displaced)) => {
                if !displaced.is_empty() {
                    self.ledger.announce_overwritten(self.object, &displaced);
                }
                debug!(name = self.ledger.key.name, revision = stage.revision, "stage saved");
                self.ledger.shows(self.object, status);
                Ok(())
            }
            Some(Acknowledged::Overtaken(object)) => {
                self.overtaken = Some(object);
                Err(NotSaved::Overtaken)
            }
            Some(Acknowledged::Gone) => Err(NotSaved::Gone),
            // Nothing is launched for an object that is being deleted. What is done instead may
            // be done again (the record's rule 14), as it is by an operator that begins anew
            // from the stage that is stored; and nobody will read the result.
            Some(Acknowledged::Refused(why)) if stage.deleting.is_some() => {
                warn!(name = self.ledger.key.name, why, "cleaned up although it cannot be saved");
                Ok(())
            }
            Some(Acknowledged::Refused(why)) => Err(NotSaved::Refused(why)),
            None => Err(NotSaved::Failed(io::Error::other("the status writer has ended"))),
        }
    }
}
