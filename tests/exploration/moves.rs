//! Everything that can happen next.

use remote_command::core::action::{Action, Entry, Kind, Refusal, Seen};
use remote_command::core::fault::{Fault, Standing, Transient};
use remote_command::core::plan::{Plan, Resolution, Verdict};
use remote_command::core::record::DirectSeen;

use crate::ageing::ROLLED_BACK_MS;
use crate::host::{UPTIME_MS, Unsynced};
use crate::mutants::Mutant;
use crate::plans::{Bounds, Elsewhere};
use crate::world::{Operator, Step, World, entry_of, is_elsewhere, name_of, unreachable};

/// Grants a wish: what it is, and how it changes the world.
type Wish<'a> = dyn FnMut(Step, &dyn Fn(&mut World)) + 'a;

impl World {
    pub fn successors(&self, bounds: &Bounds) -> Vec<(Step, World)> {
        let mut out = Vec::new();
        match &self.operator {
            Operator::Acting(action) if self.link || is_elsewhere(action) => {
                self.act(bounds, action, &mut out);
            }
            Operator::Acting(action) => {
                let mut next = self.clone();
                next.turn(&bounds.plan, self.lost_answer(action));
                out.push((Step::Silence(name_of(action)), next));
            }
            Operator::Waiting(_) => {
                let mut next = self.clone();
                if let Some(by) = next.pass_time(&bounds.plan) {
                    out.push((Step::Time(by), next));
                }
            }
        }
        self.host_moves(bounds, &mut out);
        self.wishes(bounds, &mut out);
        if self.left.faults > 0 {
            self.faults(bounds, &mut out);
        }
        if !self.link {
            out.push((Step::LinkUp, World { link: true, ..self.clone() }));
        }
        out
    }

    /// What the operator sees of an action whose answer does not come. About a Direct attempt
    /// it knows more: the channel is gone.
    fn lost_answer(&self, action: &Action) -> Seen {
        let about_attempt = !matches!(action, Action::Prepare { .. } | Action::Sweep { .. });
        match entry_of(action) {
            Some(entry) if self.host.nature.direct && about_attempt => {
                Seen::Direct { entry: entry.clone(), seen: DirectSeen::Lost }
            }
            Some(_) | None => unreachable(action),
        }
    }

    fn act(&self, bounds: &Bounds, action: &Action, out: &mut Vec<(Step, World)>) {
        let (plan, verb) = (&bounds.plan, name_of(action));
        let mut answered = self.clone();
        if is_elsewhere(action) && bounds.elsewhere == Some(Elsewhere::Dead) {
            answered.turn(plan, unreachable(action));
            out.push((Step::Silence(verb), answered));
            return;
        }
        answered.ghost.swept_elsewhere |= is_elsewhere(action);
        let seen = answered.host.perform(action);
        if self.mutant() == Mutant::EvidenceRemovedEarly {
            answered.sweep_early(plan, &seen, out);
        }
        answered.turn(plan, seen);
        out.push((Step::Answered(verb), answered));
        if self.mutant() == Mutant::LaunchSentAgain && matches!(action, Action::Launch { .. }) {
            self.send_again(plan, action, out);
        }
    }

    /// The broken driver: it sees the end, sweeps, and crashes before the save.
    fn sweep_early(&self, plan: &Plan, seen: &Seen, out: &mut Vec<(Step, World)>) {
        let mut next = self.clone();
        next.turn(plan, seen.clone());
        let ended = next.stage.current.as_ref().is_some_and(|c| c.is_fenced());
        if ended && self.left.faults > 0 {
            let mut crashed = self.clone();
            crashed.left.faults -= 1;
            crashed.host.perform(&Action::Sweep {
                uid: plan.uid.clone(),
                machine: String::new(),
                store: String::new(),
                run_as: None,
            });
            crashed.turn(plan, Seen::Nothing);
            out.push((Step::CrashAfter("Sweep"), crashed));
        }
    }

    /// The broken driver: a launch whose reply is lost is sent again.
    fn send_again(&self, plan: &Plan, action: &Action, out: &mut Vec<(Step, World)>) {
        if self.left.faults == 0 {
            return;
        }
        for reboot in [false, true] {
            let mut next = self.with_fault();
            next.host.perform(action);
            if reboot {
                // Who took the entry is forgotten with it, or the second copy would be told.
                next.host.reboot(Unsynced::Claims);
                next.ghost.rebooted = true;
            }
            let seen = next.host.perform(action);
            next.turn(plan, seen);
            let verb = name_of(action);
            let step =
                if reboot { Step::SentAgainAfterReboot(verb) } else { Step::SentAgain(verb) };
            out.push((step, next));
        }
    }

    fn with_fault(&self) -> World {
        let mut next = self.clone();
        next.left.faults -= 1;
        next
    }

    fn faults(&self, bounds: &Bounds, out: &mut Vec<(Step, World)>) {
        let plan = &bounds.plan;
        match &self.operator {
            Operator::Acting(action) if self.link && !is_elsewhere(action) => {
                self.faults_of_acting(bounds, action, out);
            }
            Operator::Acting(_) => {}
            Operator::Waiting(_) => {
                let mut next = self.with_fault();
                if self.host.nature.direct {
                    next.cut_channels();
                }
                next.turn(plan, Seen::Nothing);
                out.push((Step::Restart, next));
            }
        }
        if self.link && bounds.cuts {
            let mut next = self.with_fault();
            next.link = false;
            next.cut_channels();
            out.push((Step::LinkDown, next));
        }
        if !self.host.places.is_empty() {
            self.faults_of_host(bounds, out);
        }
    }

    fn faults_of_host(&self, bounds: &Bounds, out: &mut Vec<(Step, World)>) {
        let recorded = !self.host.nature.direct;
        for (i, place) in self.host.places.iter().enumerate() {
            if place.supervisor && recorded {
                let mut next = self.with_fault();
                next.host.places[i].supervisor = false;
                next.ghost.supervisor_killed = true;
                out.push((Step::SupervisorKilled, next));
            }
        }
        let all = [Unsynced::Nothing, Unsynced::Claims, Unsynced::Entries];
        for lost in if recorded { &all[..] } else { &all[..1] } {
            let mut next = self.with_fault();
            next.host.reboot(*lost);
            next.ghost.rebooted = true;
            next.ghost.wiped |= *lost == Unsynced::Entries;
            out.push((Step::Reboot(*lost), next));
        }
        if bounds.snapshots && !self.ghost.rolled_back {
            out.push((Step::RolledBack, self.rolled_back()));
        }
        if !recorded || !self.host.places.iter().any(|p| p.present) {
            return;
        }
        for store in [false, true] {
            let mut next = self.with_fault();
            next.host.wipe(store);
            next.ghost.wiped = true;
            let launching = |action: &Action| matches!(action, Action::Launch { .. });
            let sent = match &self.operator {
                Operator::Acting(action) => launching(action),
                Operator::Waiting(_) => false,
            };
            if !store && (sent || self.network.iter().any(launching)) {
                // Left out: a repeated Prepare that arrives after the wipe and makes the entry
                // anew for a repeated Launch. A store that forgot everything but its name
                // cannot tell.
                next.network.retain(|a| !matches!(a, Action::Prepare { .. }));
            }
            out.push((Step::Wipe { store }, next));
        }
    }

    /// Connections do not outlive the host's memory, so nothing is under way afterwards. The
    /// uptimes known from before lie ahead now.
    fn rolled_back(&self) -> World {
        let mut next = self.with_fault();
        next.host.roll_back();
        next.network.clear();
        next.ghost.rolled_back = true;
        if let Some(current) = &mut next.stage.current {
            current.identity.uptime_ms += ROLLED_BACK_MS;
        }
        next
    }

    fn faults_of_acting(&self, bounds: &Bounds, action: &Action, out: &mut Vec<(Step, World)>) {
        let plan = &bounds.plan;
        let verb = name_of(action);
        let lost = self.lost_answer(action);
        let mut push = |step: Step, performed: bool, later: bool, seen: Seen| {
            let mut next = self.with_fault();
            if performed {
                next.host.perform(action);
            }
            next.cut_channels();
            if later {
                next.network.push(action.clone());
            }
            next.turn(plan, seen);
            out.push((step, next));
        };
        push(Step::RequestLost(verb), false, false, lost.clone());
        push(Step::ReplyLost(verb), true, false, lost.clone());
        push(Step::Delayed(verb), false, true, lost);
        push(Step::CrashBefore(verb), false, false, Seen::Nothing);
        push(Step::CrashAfter(verb), true, false, Seen::Nothing);
        push(Step::CrashAndDelayed(verb), false, true, Seen::Nothing);
        match action {
            Action::Launch { entry, .. } if self.host.nature.direct => {
                let mut next = self.with_fault();
                let fault = Fault::new(Transient::ChannelRefused, "no channel");
                let seen = DirectSeen::NeverStarted(fault);
                next.turn(plan, Seen::Direct { entry: entry.clone(), seen });
                out.push((Step::ChannelRefused, next));
            }
            _ if self.host.nature.direct => {}
            Action::Launch { entry, .. } => self.unsent(bounds, action, entry, out),
            Action::Probe { entry } => self.probe_torn(bounds, entry, out),
            _ => {}
        }
        if !self.host.nature.direct {
            let mut next = self.with_fault();
            let seen = next.host.perform(action);
            next.network.push(action.clone());
            next.turn(plan, seen);
            out.push((Step::Repeated(verb), next));
        }
    }

    /// The driver knows that nothing of the launch left it; the broken one is wrong.
    fn unsent(
        &self,
        bounds: &Bounds,
        action: &Action,
        entry: &Entry,
        out: &mut Vec<(Step, World)>,
    ) {
        let mut next = self.with_fault();
        if self.mutant() == Mutant::WrittenButSaidUnsent {
            next.host.perform(action);
        }
        let why = Refusal::Unsent(Fault::new(Transient::ConnectionRefused, "nobody is there"));
        next.turn(&bounds.plan, Seen::Refused { entry: entry.clone(), why });
        out.push((Step::Unsent, next));
        self.unable(bounds, action, entry, out);
    }

    /// The host could not begin it, and says why; the broken driver takes that for an end.
    fn unable(
        &self,
        bounds: &Bounds,
        action: &Action,
        entry: &Entry,
        out: &mut Vec<(Step, World)>,
    ) {
        let mut next = self.with_fault();
        let seen = if self.mutant() == Mutant::RefusalTakenForEnd {
            let mut liar = next.host.clone();
            liar.perform(action);
            liar.torn_probe(entry, 126);
            liar.perform(&Action::Probe { entry: entry.clone() })
        } else {
            let fault = Fault::new(Standing::EnvironmentRefused, "UID cannot be set");
            Seen::Refused { entry: entry.clone(), why: Refusal::Unable(fault) }
        };
        next.turn(&bounds.plan, seen);
        out.push((Step::Unable, next));
    }

    fn probe_torn(&self, bounds: &Bounds, entry: &Entry, out: &mut Vec<(Step, World)>) {
        let mut next = self.with_fault();
        let ends = next.host.find(entry).is_some_and(|p| p.command && p.supervisor && p.present);
        if let (true, Some(code)) = (ends, bounds.codes_of(entry.kind).first()) {
            let seen = next.host.torn_probe(entry, *code);
            next.turn(&bounds.plan, seen);
            out.push((Step::AnsweredTorn("Probe"), next));
        }
    }

    /// What the host, its processes and the network do by themselves.
    pub fn host_moves(&self, bounds: &Bounds, out: &mut Vec<(Step, World)>) {
        for (i, action) in self.network.iter().enumerate() {
            let mut next = self.clone();
            next.network.remove(i);
            next.host.perform(action);
            next.cut_channels_of(action);
            next.normalise();
            out.push((Step::Arrives(name_of(action)), next));
        }
        if self.host.places.iter().any(|p| p.stalled) {
            let mut next = self.clone();
            next.host.resume_stalled();
            out.push((Step::StalledLaunchGoesOn, next));
        }
        let mut push = |i: usize, step: Step, change: &dyn Fn(&mut crate::place::Place)| {
            let mut next = self.clone();
            change(&mut next.host.places[i]);
            out.push((step, next));
        };
        for (i, place) in self.host.places.iter().enumerate() {
            if place.command {
                for code in bounds.codes_of(place.entry.kind) {
                    push(i, Step::Ends(*code), &|p| p.end(*code));
                }
            } else if place.supervisor {
                push(i, Step::ExitPutOnRecord, &|p| p.put_on_record());
            }
            if place.child && !place.command {
                push(i, Step::ChildEnds, &|p| p.child = false);
            }
            if self.is_overdue(bounds, place) {
                push(i, Step::HostDeadline, &|p| p.overrun(bounds.nature.unkillable));
            }
        }
    }

    fn is_overdue(&self, bounds: &Bounds, place: &crate::place::Place) -> bool {
        let limit = bounds.plan.limits.execution.as_millis();
        let ran = u128::from(UPTIME_MS - place.claimed_uptime_ms);
        place.is_watched() && ran >= limit && !self.host.nature.direct
    }

    fn wishes(&self, bounds: &Bounds, out: &mut Vec<(Step, World)>) {
        let plan = &bounds.plan;
        let mut wish = |step: Step, change: &dyn Fn(&mut World)| {
            let mut next = self.clone();
            change(&mut next);
            if matches!(next.operator, Operator::Waiting(_)) {
                next.turn(plan, Seen::Nothing);
            }
            out.push((step, next));
        };
        if self.left.cancels > 0 {
            wish(Step::Cancel, &|w| {
                w.left.cancels -= 1;
                w.asked.cancel = true;
            });
        }
        if self.left.deletes > 0 {
            wish(Step::Delete, &|w| {
                w.left.deletes -= 1;
                w.asked.delete = true;
            });
        }
        if self.left.reruns > 0 && self.stage.run > 0 {
            wish(Step::Rerun, &|w| {
                w.left.reruns -= 1;
                w.asked.rerun_token = format!("token-{}", w.left.reruns);
            });
        }
        if self.left.edits > 0 && self.stage.run > 0 {
            wish(Step::Edit, &|w| {
                w.left.edits -= 1;
                w.asked.frozen_digest = format!("spec-{}", w.left.edits);
            });
        }
        self.words(&mut wish);
    }

    fn words(&self, wish: &mut Wish<'_>) {
        let unknown = self.stage.outcome.as_ref().is_some_and(|o| o.is_unknown());
        if self.left.words == 0 || !unknown {
            return;
        }
        for verdict in [Verdict::Succeeded, Verdict::Failed, Verdict::Retry] {
            // A person who calls a Direct attempt over knows that it is.
            let direct = self.host.nature.direct;
            let over = !self.host.places.iter().any(|p| p.is_alive() || p.supervisor);
            let honest = verdict == Verdict::Retry || !direct || over;
            let quiet = !direct || self.network.is_empty();
            if honest && quiet {
                wish(Step::Word(verdict), &|w| {
                    w.left.words -= 1;
                    let (run, attempt) = (w.stage.run, w.stage.attempt);
                    let word = Some(Resolution { run, attempt, verdict });
                    if w.asked.resolution != word && verdict == Verdict::Retry {
                        *w.ghost.retries.entry(run).or_default() += 1;
                        w.ghost.unused_retries += 1;
                    }
                    w.asked.resolution = word;
                });
            }
        }
    }

    /// The answers of a world in which nothing more goes wrong: the host is heard again, what
    /// is under way arrives, and then whatever comes first.
    pub fn quiet_successor(&self, bounds: &Bounds) -> Option<World> {
        let mut moves = Vec::new();
        if !self.network.is_empty() {
            self.host_moves(bounds, &mut moves);
            return moves.into_iter().next().map(|(_, world)| world);
        }
        if let Some(i) = self.host.places.iter().position(|p| p.supervisor && !p.command) {
            let mut next = self.clone();
            next.host.places[i].put_on_record();
            return Some(next);
        }
        if let Some(i) = self.host.places.iter().position(|p| self.is_overdue(bounds, p)) {
            let mut next = self.clone();
            next.host.places[i].overrun(bounds.nature.unkillable);
            return Some(next);
        }
        match &self.operator {
            Operator::Acting(action) => self.act(bounds, action, &mut moves),
            Operator::Waiting(_) => {
                let mut next = self.clone();
                if let Some(by) = next.pass_time(&bounds.plan) {
                    moves.push((Step::Time(by), next));
                }
            }
        }
        if moves.is_empty() {
            self.host_moves(bounds, &mut moves);
        }
        moves.into_iter().next().map(|(_, world)| world)
    }
}

impl Bounds {
    /// How an entry of this kind may end.
    pub fn codes_of(&self, kind: Kind) -> &'static [i32] {
        match kind {
            Kind::Command => self.codes,
            Kind::Verify => self.checks,
        }
    }
}
