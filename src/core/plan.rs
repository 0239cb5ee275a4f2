//! The plan: what to do, validated and complete.
//!
//! A [`Plan`] is what `decide` reads of a user's spec, and what a host needs to
//! launch it. It is not the API object: defaults are applied, durations are
//! durations, and values that live in Secrets or ConfigMaps are named, not held.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sitting::Sitting;

/// How safe it is to run the command again when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Idempotency {
    /// Starts at most once per run, whatever crashes.
    NonIdempotent,
    /// Repeating does no harm; a lost attempt is tried again.
    Idempotent,
    /// A read-only check tells whether the effect is in place.
    Verifiable,
}

/// Where the truth about an attempt is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Execution {
    /// A record on the host outlives links and operators.
    Recorded,
    /// The command runs on the SSH channel itself and leaves nothing behind.
    Direct(Direct),
}

/// How a Direct command reaches the far side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Direct {
    /// True for `shell: None`: the words go to the device as they are.
    pub no_shell: bool,
    /// True when the account runs one fixed command: exactly one exec per attempt.
    pub forced_command: bool,
    /// The user accepts that a repeat may run beside a lost attempt.
    pub may_overlap: bool,
}

impl Direct {
    /// True when the words are the exec itself: no shell of the account reads anything for us.
    pub fn is_plain(&self) -> bool {
        self.no_shell || self.forced_command
    }
}

/// The most bytes that an argument, or a variable with its name, can have (Linux:
/// `MAX_ARG_STRLEN` with its closing NUL).
pub const WORD_BYTES: usize = 131_071;

/// The most bytes of a script or standard input that is written in a spec, and of any script of
/// a Direct command: the account's shell takes that one in line by line.
pub const TEXT_BYTES: usize = 262_144;

/// The most bytes of a script that is read from elsewhere: what a Secret or a ConfigMap holds.
pub const SCRIPT_BYTES: usize = 1_048_576;

/// The bounds on every wait `decide` knows about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// From the run's request to its launch, not counting suspension.
    pub queue: Duration,
    /// How long the command may run, in host time.
    pub execution: Duration,
    /// No output for this long ends it; `None` is off.
    pub idle: Option<Duration>,
    /// From TERM to KILL.
    pub termination: Duration,
    /// How long to go on asking about an uncertain attempt.
    pub resolve: Duration,
    /// How long deletion waits for a host that cannot be cleaned.
    pub cleanup: Duration,
}

/// When and how often to try again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Attempts that may have started, beyond the first: limit 3 is at most 4 starts.
    pub limit: u32,
    /// First delay.
    pub initial: Duration,
    /// Largest delay.
    pub max: Duration,
    /// Exit codes after which another attempt is wanted. Empty for NonIdempotent.
    pub exit_codes: Vec<i32>,
}

/// The read-only check of a Verifiable command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verify {
    /// Its words; exit 100 means the effect is in place, 101 that it is not.
    pub command: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
}

/// What to do: everything `decide` and a host need to know of a spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The object's UID; the key of its records on the host.
    pub uid: String,
    /// The host's name as users know it, for messages.
    pub host: String,
    pub idempotency: Idempotency,
    pub execution: Execution,
    /// Present exactly when `idempotency` is Verifiable.
    pub verify: Option<Verify>,
    pub limits: Limits,
    pub retry: Retry,
    /// Exit codes that count as success.
    pub success_exit_codes: Vec<i32>,
    pub program: Program,
}

impl Plan {
    /// The least that a plan says: these words on record, never repeated, 0 for success, a
    /// minute for everything. What is more is set beside it.
    pub fn plain(uid: &str, host: &str, argv: &[&str]) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            uid: uid.to_owned(),
            host: host.to_owned(),
            idempotency: Idempotency::NonIdempotent,
            execution: Execution::Recorded,
            verify: None,
            limits: Limits {
                queue: minute,
                execution: minute,
                idle: None,
                termination: minute,
                resolve: minute,
                cleanup: minute,
            },
            retry: Retry { limit: 0, initial: minute, max: minute, exit_codes: Vec::new() },
            success_exit_codes: vec![0],
            program: Program {
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                script: None,
                env: Vec::new(),
                stdin: None,
                working_directory: None,
                run_as: None,
                output_limit: 1 << 30,
            },
        }
    }
}

/// What runs on the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// The words; for a script: the interpreter's words, or none where the script's own first
    /// line is to say, which is read at launch. The script goes beside them.
    pub argv: Vec<String>,
    /// The script, handed to the interpreter as a file; `None` for a plain command.
    pub script: Option<Value>,
    pub env: Vec<(String, Value)>,
    pub stdin: Option<Value>,
    pub working_directory: Option<String>,
    /// Another user of the host, reached by `sudo -n`.
    pub run_as: Option<String>,
    /// Byte limit of each output stream on the host.
    pub output_limit: u64,
}

/// A value, or the name of the place that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    Literal(String),
    SecretKey { name: String, key: String },
    ConfigMapKey { name: String, key: String },
}

/// What the user wants right now. Made anew from the object at every turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    /// `spec.rerunToken`; empty when unset.
    pub rerun_token: String,
    /// A digest of the frozen fields; under OnChange a difference asks for a new run.
    pub frozen_digest: String,
    /// `runPolicy: OnChange`.
    pub on_change: bool,
    pub suspend: bool,
    pub cancel: bool,
    pub delete: bool,
    pub resolution: Option<Resolution>,
    /// Why nothing may be launched now although it is wanted; `None` when it may.
    pub hold: Option<Hold>,
    /// How the host is reached now, opaque text kept with the attempt it launches.
    pub connection: String,
    /// Changes whenever the host object or something it refers to does (for example their
    /// resource versions): a reason to look again at what was given up on for a while.
    pub poke: String,
    /// Set where nobody is at work between two lives of the program: not in an operator.
    pub sitting: Option<Sitting>,
}

/// A person's word on an attempt whose end is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resolution {
    pub run: i32,
    pub attempt: i32,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    Succeeded,
    Failed,
    Retry,
}

/// Something outside the host that keeps the next launch waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hold {
    pub kind: HoldKind,
    /// The reason shown in status, one CamelCase word.
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HoldKind {
    /// All places on the host are taken (HostBusy); the message names the blocker.
    Busy,
    /// Something referred to is missing: HostNotFound, SecretNotFound, ...
    Missing,
    /// The spec cannot be carried out: InvalidSpec, ViaCycle, PolicyDenied.
    Invalid,
}
