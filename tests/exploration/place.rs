//! One entry on the host with the processes it started. The files may be gone while the
//! processes live.

use remote_command::core::action::{Entry, StopReason};
use remote_command::core::record::{
    Claimed, DirectSeen, EntrySeen, ExitRecord, Life, ProcessId, ProcessIds, exit_from_channel,
    parse_exit,
};

use crate::host::UPTIME_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    Free,
    Revoked,
    Taken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub entry: Entry,
    /// The entry's files are there.
    pub present: bool,
    /// Swept: only the claim is left.
    pub tombstone: bool,
    pub claim: Claim,
    pub stop: Option<StopReason>,
    /// The exit on record, and the host's uptime then.
    pub exit: Option<(i32, u64)>,
    pub claimed_uptime_ms: u64,
    pub supervisor: bool,
    pub command: bool,
    /// A descendant that the command leaves behind.
    pub child: bool,
    pub starts: u8,
    /// A launch that has checked the claim and not taken it yet (a broken host only).
    pub stalled: bool,
    /// The operator holds the channel that the command runs on (Direct).
    pub channel: bool,
    /// How the command really ended, for the invariants and for its supervisor.
    pub ended_with: Option<i32>,
}

impl Place {
    pub fn new(entry: Entry) -> Self {
        Self {
            entry,
            present: true,
            tombstone: false,
            claim: Claim::Free,
            stop: None,
            exit: None,
            claimed_uptime_ms: UPTIME_MS,
            supervisor: false,
            command: false,
            child: false,
            starts: 0,
            stalled: false,
            channel: false,
            ended_with: None,
        }
    }

    /// Something of it runs that is not left behind on purpose by a command that has ended. Its
    /// supervisor is there for the record, and no part of it.
    pub fn is_alive(&self) -> bool {
        let left_on_purpose = self.exit.is_some() && self.stop.is_none();
        self.command || self.child && !left_on_purpose
    }

    /// Nothing of it runs, on purpose or not.
    pub fn is_still(&self) -> bool {
        !self.command && !self.child
    }

    pub fn start(&mut self, child: bool) {
        self.claim = Claim::Taken;
        self.starts += 1;
        self.supervisor = true;
        self.command = true;
        self.child = child;
        self.channel = true;
        self.claimed_uptime_ms = UPTIME_MS;
    }

    /// The command ends; its supervisor, if it lives, has yet to put that on record.
    pub fn end(&mut self, code: i32) {
        self.command = false;
        self.ended_with = Some(code);
    }

    pub fn put_on_record(&mut self) {
        if self.supervisor && self.present {
            self.exit = self.ended_with.map(|code| (code, UPTIME_MS));
        }
        self.supervisor = false;
    }

    /// The host keeps its deadline, with or without its record.
    pub fn is_watched(&self) -> bool {
        self.command && self.supervisor
    }

    /// The deadline: the reason is written where there is something to write to.
    pub fn overrun(&mut self, child_stays: bool) {
        if self.present {
            self.stop.get_or_insert(StopReason::ExecutionTimeout);
        }
        self.kill(child_stays);
    }

    pub fn terminate(&mut self) {
        if self.command {
            self.end(143);
        }
        self.child = false;
    }

    pub fn kill(&mut self, child_stays: bool) {
        if self.command {
            self.end(137);
        }
        self.child &= child_stays;
    }

    /// With the host.
    pub fn die(&mut self) {
        self.command = false;
        self.supervisor = false;
        self.child = false;
        self.channel = false;
        self.stalled = false;
    }

    /// As it was prepared.
    pub fn forget(&mut self) {
        self.claim = Claim::Free;
        self.stop = None;
        self.exit = None;
    }

    /// Nobody asks about it any more, and nothing of it is left but its record.
    pub fn be_past(&mut self) {
        self.claim = if self.present { self.claim } else { Claim::Taken };
        self.stop = None;
        self.exit = None;
        self.supervisor = false;
        self.channel = false;
        self.claimed_uptime_ms = UPTIME_MS;
    }

    fn exit_record(&self) -> Option<ExitRecord> {
        let (code, uptime) = self.exit?;
        parse_exit(&format!("t {code} - ran {uptime} - t {code} ."), "t")
    }

    pub fn seen_on_its_channel(&self) -> DirectSeen {
        if !self.channel {
            return DirectSeen::Lost;
        }
        match (self.command, self.exit) {
            (true, _) => DirectSeen::Running,
            (false, Some((143, _))) => {
                DirectSeen::Exited(exit_from_channel(Err("TERM".to_owned())))
            }
            (false, Some((code, _))) => {
                DirectSeen::Exited(exit_from_channel(Ok(u32::try_from(code).unwrap())))
            }
            // The end is on its way.
            (false, None) if self.supervisor => DirectSeen::Running,
            (false, None) => DirectSeen::Lost,
        }
    }

    pub fn seen(&self, boot: &str, cannot_tell: bool) -> EntrySeen {
        let life = |alive| match (cannot_tell, alive) {
            (true, _) => Life::CannotTell,
            (false, true) => Life::Alive,
            (false, false) => Life::Gone,
        };
        match self.claim {
            Claim::Free => EntrySeen::Unclaimed,
            Claim::Revoked => EntrySeen::Revoked,
            Claim::Taken => EntrySeen::Claimed(Claimed {
                processes: ProcessIds {
                    boot: boot.to_owned(),
                    supervisor: ProcessId { pid: 1, start: 1 },
                    command: ProcessId { pid: 2, start: 1 },
                },
                supervisor: life(self.supervisor),
                command: life(self.command),
                watch: life(self.is_watched()),
                exit: self.exit_record(),
                stop: self.stop,
                claimed_uptime_ms: self.claimed_uptime_ms,
            }),
        }
    }
}
