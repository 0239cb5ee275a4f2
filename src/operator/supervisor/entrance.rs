//! The way in: what a launch needs before anything is prepared for it, and a place on the host.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Supervisor;
use crate::core::action::Action;
use crate::core::decide::{Now, decide};
use crate::core::plan::{Hold, HoldKind};
use crate::core::stage::{Stage, WaitingOn};
use crate::host::LookupError;
use crate::operator::admission::{Admission, Guest, HostKey, Ticket};
use crate::operator::wishes::Wishes;
use crate::step;

/// How long the name of the one in the way stands in status before it is looked at again: it
/// changes with every place that becomes free, and each change would be a write.
const BLOCKER_PERIOD: Duration = Duration::from_secs(600);

/// The reason of the wait for a place.
pub(super) const HOST_BUSY: &str = "HostBusy";

/// A command's place on its host, or its number in the queue for one.
pub(super) struct Entrance {
    admission: Arc<Admission>,
    guest: Guest,
    ticket: Option<Ticket>,
    /// Since when the name of the one in the way stands in status.
    blocker_named: Instant,
}

impl Entrance {
    pub(super) fn new(admission: Arc<Admission>, guest: Guest) -> Self {
        Self { admission, guest, ticket: None, blocker_named: Instant::now() }
    }

    /// Takes a place at once, for an attempt that may be alive.
    pub(super) fn occupy(&mut self, host: HostKey) {
        self.ticket = Some(self.admission.occupy(host, self.guest.clone()));
    }

    /// Gives the place, or the number, to the next one.
    pub(super) fn leave(&mut self) {
        self.ticket = None;
    }

    /// Takes a place if it is our turn; else the wait for one, in the words in which it stands
    /// in status if it does.
    fn enter(&mut self, wishes: &Wishes, stage: &Stage) -> Option<Hold> {
        if self.ticket.as_ref().is_some_and(|ticket| *ticket.key() != wishes.host) {
            self.ticket = None;
        }
        let queue = || self.admission.queue(wishes.host.clone(), self.guest.clone());
        let ticket = self.ticket.get_or_insert_with(queue);
        let blocker = ticket.enter(wishes.concurrency).err()?;
        let reason = HOST_BUSY.to_owned();
        let on = WaitingOn::Hold(HoldKind::Busy, reason.clone());
        let named = stage.waiting.as_ref().filter(|waiting| waiting.on == on);
        let message = match named.filter(|_| self.blocker_named.elapsed() < BLOCKER_PERIOD) {
            Some(waiting) => waiting.message.clone(),
            None => {
                self.blocker_named = Instant::now();
                let host = &wishes.plan.host;
                format!("no place is free on {host}; when last looked at, {blocker} was in the way")
            }
        };
        Some(Hold { kind: HoldKind::Busy, reason, message })
    }
}

impl Supervisor {
    /// Before anything is prepared: is what the connection needs there, and is there a place?
    /// What is not makes `wishes` hold the launch.
    ///
    /// # Errors
    /// What the connection needs could not be asked for: nothing is to be decided now.
    pub(super) async fn admit(
        &mut self,
        wishes: &mut Wishes,
        stage: &Stage,
        now: &Now,
    ) -> Result<(), LookupError> {
        let would = decide(&wishes.plan, &wishes.asked, stage, &self.seen, now);
        if !matches!(would.action, Some(Action::Prepare { .. })) {
            return Ok(());
        }
        if let Some(connection) = &wishes.connection {
            match self.ways.missing(connection).await {
                Ok(None) => {}
                Ok(Some(hold)) => {
                    wishes.hold(hold);
                    return Ok(());
                }
                // Once the run is on record its limit applies, and asking again writes nothing.
                Err(unavailable) if step::is_on_record(stage, &would) => return Err(unavailable),
                Err(unavailable) => {
                    wishes.hold(step::hold(&unavailable));
                    return Ok(());
                }
            }
        }
        if let Some(hold) = self.entrance.enter(wishes, stage) {
            wishes.hold(hold);
        }
        Ok(())
    }
}
