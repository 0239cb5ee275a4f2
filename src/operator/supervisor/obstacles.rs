//! What stands in a supervisor's way: a stage that cannot be read, one that cannot be saved,
//! and a way to a host that somebody has to mend.

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use tokio::time::Instant;
use tracing::warn;

use super::waiting::instant;
use super::{Next, Supervisor};
use crate::api::conditions::unreadable;
use crate::api::{Place, RemoteCommand, place};
use crate::core::action::Seen;
use crate::core::connection::Connection;
use crate::core::fault::Cause;
use crate::core::plan::HoldKind;
use crate::core::stage::{Stage, after};
use crate::operator::events::Announcement;
use crate::operator::lookup::Namespace;
use crate::operator::wishes::Wishes;
use crate::operator::writer::{Request, Urgency};
use crate::operator::{closing, stage};

/// Between two tries of a save that was refused.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often the Secrets and ConfigMaps of an inline host are looked at for being mended.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// How long what a host is reached with may be missing before deletion goes on without it:
/// manifests that are applied anew may bring it back.
const RETURN_GRACE: Duration = Duration::from_secs(15);
const NEVER: Duration = Duration::from_secs(3600);

/// What is remembered of obstacles while they last.
pub(super) struct Obstacles {
    lookup: Namespace,
    /// Pause before a refused save is decided on again; `None` when none was refused lately.
    refused: Option<Duration>,
    way: Option<Way>,
}

/// A way that leads to a standing fault.
struct Way {
    connection: Connection,
    /// Versions of what it refers to; `None` for what is not there.
    versions: Vec<Option<String>>,
    looked: Instant,
}

impl Obstacles {
    pub(super) fn new(lookup: Namespace) -> Self {
        Self { lookup, refused: None, way: None }
    }

    /// A stage was saved.
    pub(super) fn overcome(&mut self) {
        self.refused = None;
    }

    /// When to see whether the way was mended.
    pub(super) fn next_look(&self) -> Instant {
        match &self.way {
            Some(way) => way.looked + LOOK_PERIOD,
            None => Instant::now() + NEVER,
        }
    }

    /// The versions of what the way refers to. What cannot be asked for counts as missing: it
    /// is asked for again.
    async fn versions(&self, connection: &Connection) -> Vec<Option<String>> {
        let mut versions = Vec::new();
        for hop in &connection.hops {
            versions.push(self.lookup.secret_version(&hop.credentials).await.ok().flatten());
            if let Some((name, _)) = &hop.host_keys.config_map {
                versions.push(self.lookup.config_map_version(name).await.ok().flatten());
            }
        }
        versions
    }
}

impl Supervisor {
    /// The stage cannot be understood, so nothing may be done on the host: that is said, and a
    /// deletion ends when its limit does.
    pub(super) async fn leave_alone(&mut self, object: &RemoteCommand) -> Next {
        let status = unreadable(object, Timestamp::now());
        let dispute = self.is_in_dispute(object);
        let unsaid = Some(&status) != object.status.as_ref();
        if unsaid && dispute.is_none() {
            self.context.disputes.note(&self.seat.key.uid, object.metadata.generation);
            let request = Request {
                key: self.seat.key.clone(),
                base: std::sync::Arc::new(object.clone()),
                before: stage::shown(object).cloned(),
                status,
                urgency: Urgency::Shown,
            };
            self.context.writer.show(request).await;
        }
        match closing::gives_up_at(object) {
            None => dispute.filter(|_| unsaid).map_or(Next::Rest, Next::Wait),
            Some(limit) if limit > Timestamp::now() => Next::Wait(instant(limit)),
            Some(_) => {
                let left = "what it left on its host is not known: the stage in its status \
                            cannot be read, so nothing was stopped and nothing removed";
                let revision = stage::shown(object).map_or(0, |shown| shown.revision);
                let left = [left.to_owned()];
                closing::release(&self.context, object, revision, &left).await;
                Next::Rest
            }
        }
    }

    /// Whether the object can go without another call on its host, and without a save.
    pub(super) fn leaves_nothing(&self, stage: &Stage) -> bool {
        self.context.swept.leaves_nothing(&self.seat.key.uid, stage)
    }

    /// What may stay on the host of an object that is being deleted together with what its host
    /// is reached with, as in a namespace that goes. Only files can be left where all attempts
    /// have ended, and waiting for the rest of the limit would not bring a Secret back.
    pub(super) async fn is_out_of_reach(
        &self,
        object: &RemoteCommand,
        stage: &Stage,
    ) -> Option<String> {
        let deleting = stage.deleting.as_ref()?;
        let tried = deleting.blocked.is_some();
        // Of several stores others may be within reach: the limit names what is left of them.
        let several = stage.traces.len() > usize::from(deleting.own_swept) || stage.untraced > 0;
        if several || stage.overlapped > 0 {
            return None;
        }
        let since = object.metadata.deletion_timestamp.as_ref()?.0;
        let current = stage.current.as_ref().filter(|current| tried && current.is_fenced())?;
        if Timestamp::now() < after(since, RETURN_GRACE) {
            return None;
        }
        let way =
            stage.unswept().next().map_or(current.connection.as_str(), |left| left.connection);
        let connection = serde_json::from_str::<Connection>(way).ok()?;
        let hold = self.ways.missing(&connection).await.ok().flatten()?;
        let host = connection.hops.last().map(|hop| hop.name.clone()).unwrap_or_default();
        let uid = &self.seat.key.uid;
        (hold.kind == HoldKind::Missing).then(|| {
            format!(
                "the records of {uid} may stay on {host}, which is out of reach: {}",
                hold.message
            )
        })
    }

    /// Removes the finalizer, unless somebody else has gone on from another stage.
    pub(super) async fn let_go(
        &mut self,
        object: &RemoteCommand,
        stage: Stage,
        left: &[String],
    ) -> Next {
        self.following.give_up().await;
        let later = closing::release(&self.context, object, stage.revision, left).await;
        let Some(later) = later else { return Next::Rest };
        self.stage = Some(stage);
        self.overtaken = Some(std::sync::Arc::new(later));
        Next::Again
    }

    /// The stage was not saved, so nothing of it was done. It is decided anew after a while,
    /// or as soon as something else is wanted; a deletion ends when its limit does.
    pub(super) async fn refused(
        &mut self,
        object: &RemoteCommand,
        stage: Stage,
        why: &str,
    ) -> Next {
        let limit = closing::gives_up_at(object);
        if limit.is_some_and(|limit| limit <= Timestamp::now()) {
            let left = format!(
                "run {} attempt {} may be alive on its host and its records may stay there: \
                 its status cannot be written, {why}",
                stage.run, stage.attempt
            );
            return self.let_go(object, stage, &[left]).await;
        }
        if self.obstacles.refused.is_none() {
            let note = format!("nothing is done until its status can be written: {why}");
            let reason = "StatusRefused".to_owned();
            let announcement = Announcement { warning: true, reason, action: "Saving", note };
            self.context.announcer.tell(object.object_ref(&()), announcement);
        }
        warn!(name = self.seat.key.name, why, "stage not saved");
        // The host is asked again, so that its output is followed meanwhile. What is said once
        // only is kept: a place on the host, and how a launch or a Direct command went.
        if let Seen::Host { .. } = self.seen {
            self.seen = Seen::Nothing;
        }
        let pause = self.obstacles.refused.unwrap_or(PAUSES.0);
        self.obstacles.refused = Some(pause.saturating_mul(2).min(PAUSES.1));
        self.stage = Some(stage);
        let again = Instant::now() + pause;
        Next::Wait(limit.map_or(again, |limit| again.min(instant(limit))))
    }

    /// What has to change before a standing fault of an inline host is mended, as a text that
    /// changes when it does. A RemoteHost is looked after by its own checks.
    pub(super) async fn what_may_mend(
        &mut self,
        object: &RemoteCommand,
        wishes: &Wishes,
        stage: &Stage,
    ) -> String {
        let inline = matches!(place(&object.spec), Ok(Place::Inline(_)));
        if !inline || !self.meets_standing_fault(stage) {
            self.obstacles.way = None;
            return String::new();
        }
        let kept = stage::live(stage).map(|attempt| serde_json::from_str(&attempt.connection));
        let connection = kept.and_then(Result::ok).or_else(|| wishes.connection.clone());
        let Some(connection) = connection else { return String::new() };
        if let Some(way) = self.obstacles.way.as_ref().filter(|way| way.connection == connection) {
            return format!("{:?}", way.versions);
        }
        let versions = self.obstacles.versions(&connection).await;
        let told = format!("{versions:?}");
        self.obstacles.way = Some(Way { connection, versions, looked: Instant::now() });
        told
    }

    fn meets_standing_fault(&self, stage: &Stage) -> bool {
        let standing = |cause: &Cause| matches!(cause, Cause::Standing(_));
        let seen = match &self.seen {
            Seen::Unreachable(fault) | Seen::Unswept { fault, .. } => standing(&fault.cause),
            Seen::Nothing
            | Seen::Prepared { .. }
            | Seen::Refused { .. }
            | Seen::Host { .. }
            | Seen::Direct { .. }
            | Seen::Swept { .. } => false,
        };
        let silent = stage::live(stage).and_then(|attempt| attempt.uncertain.as_ref());
        seen || stage.waiting.as_ref().is_some_and(|waiting| waiting.on.is_standing())
            || silent.is_some_and(|uncertain| standing(&uncertain.cause))
    }

    /// Looks whether the way was changed. What was remembered of it is forgotten then, but for
    /// connections that stand while something is missing: there would be no others.
    pub(super) async fn may_be_mended(&mut self) -> bool {
        let Some(way) = &self.obstacles.way else { return false };
        let versions = self.obstacles.versions(&way.connection).await;
        let Some(way) = &mut self.obstacles.way else { return false };
        way.looked = Instant::now();
        if way.versions == versions {
            return false;
        }
        way.versions = versions;
        if way.versions.iter().any(Option::is_none) {
            return true;
        }
        let namespace = &self.seat.key.namespace;
        for hop in &way.connection.hops {
            self.context.hosts.poke(namespace, &hop.credentials);
        }
        true
    }
}
