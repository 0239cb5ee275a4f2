//! The verbs on a host, and what came back.
//!
//! [`Action`] is what `decide` asks for; [`Seen`] is what the last one told.
//! Every verb may be repeated with the same effect, and may arrive late.

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::record::{DirectSeen, HostRecord, Identity, ProcessIds};

/// The attempt's place on the host. Its token is random, so that two operators
/// preparing the same attempt never meet in one entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The object's UID.
    pub uid: String,
    pub run: i32,
    /// The attempt's number; for a verify: the attempt it stands before or after.
    pub attempt: i32,
    pub kind: Kind,
    /// 32 lower-case hex digits.
    pub token: String,
    /// [`super::record::Identity::machine`] of the host it was prepared on: another machine
    /// that answers a verb on this entry is `WrongHost`. Empty until Prepare has told it,
    /// and for Direct; then it is not compared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// The user of the host whose store it is in, when that is not the login's: `runAs` as it
    /// was at the launch, whatever became of the spec since.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "runAs")]
    pub run_as: Option<String>,
}

/// What an entry runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// The command itself.
    Command,
    /// The read-only check of a Verifiable command.
    Verify,
}

/// Why the process tree is ended. Written on the host before the first signal; first one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopReason {
    Cancelled,
    ExecutionTimeout,
    IdleTimeout,
    Deleted,
    /// What is left of an attempt whose record is lost is ended before another may start.
    Fenced,
}

/// What a launch is conditional on. The host refuses it (nothing starts) if one differs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Expect {
    pub boot: String,
    pub store: String,
    /// Host uptime in milliseconds after which this launch is stale.
    pub latest_uptime_ms: u64,
}

/// One verb on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Reads the host's identity and creates the entry; starts nothing and may run unsaved.
    /// For a Direct command it only makes sure that the connection stands (no exec), and
    /// answers with an identity of empty strings that cannot tell.
    Prepare { entry: Entry },
    /// Starts the command, at most once per entry. It is sent once only, with the save of its
    /// intent, so a refusal of it proves that nothing started.
    Launch { entry: Entry, expect: Expect },
    /// Reads the record; changes nothing. While a stop mark stands, and once an exit record
    /// does, it also looks for what is left of the tree.
    Probe { entry: Entry },
    /// Marks the reason, sends TERM to the whole tree, and reports who is left. On a lost
    /// entry the host is searched by process ids and marker instead. After an exit record
    /// which no stop mark precedes it ends nothing; where the mark came first the stop goes
    /// on, because the tree may outlive the command. An entry not claimed yet is left so.
    Terminate {
        entry: Entry,
        reason: StopReason,
        processes: Option<ProcessIds>,
        /// From TERM to KILL in milliseconds, as it was at the launch.
        grace_ms: u64,
    },
    /// The same with KILL, rescanning until two scans are empty.
    Kill { entry: Entry, reason: StopReason, processes: Option<ProcessIds> },
    /// Takes the claim itself, so that no launch of this entry can ever win.
    Revoke { entry: Entry, boot: String, store: String },
    /// Removes the files of every entry of the object and leaves tombstones. Ends no process.
    /// `machine` is compared as [`Entry::machine`] is; `run_as` is whose store it is. `store`
    /// only tells it from others of the object: whatever is there now is swept.
    Sweep { uid: String, machine: String, store: String, run_as: Option<String> },
}

/// Why a Launch started nothing. Each of them proves it only because the Launch of an entry is
/// sent at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The host turned it away, because it has changed since it was prepared. For people.
    HostChanged(String),
    /// The host could not begin it, and says why: what the command needs was not to be had.
    Unable(Fault),
    /// It was not sent: certainly no byte of it left this process.
    Unsent(Fault),
}

/// What the last action told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// No action was performed since the last decision.
    Nothing,
    /// The host could not be asked. Says nothing about the command.
    Unreachable(Fault),
    /// Answer to Prepare, and the connection it was asked over: the entry is only there. A
    /// host leaves the connection empty; the step that knows it fills it in.
    Prepared { entry: Entry, identity: Identity, connection: String },
    /// Answer to Launch: nothing started by it, nor ever will.
    Refused { entry: Entry, why: Refusal },
    /// Answer to Launch, Probe, Terminate, Kill and Revoke of a recorded attempt.
    Host { entry: Entry, record: HostRecord },
    /// Answer to Launch, Probe, Terminate and Kill of a Direct attempt.
    Direct { entry: Entry, seen: DirectSeen },
    /// Answer to Sweep, with the store that was asked for.
    Swept { uid: String, machine: String, store: String },
    /// A Sweep of this store was not answered. A host says Unreachable; the step that knows
    /// what was asked makes this of it.
    Unswept { machine: String, store: String, fault: Fault },
}
