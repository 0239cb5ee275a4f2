//! One turn of decide, save, act and observe, with a scripted host, a journal in memory and a
//! clock that is told the time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use remote_command::core::action::{Action, Entry, Expect, Seen, StopReason};
use remote_command::core::decide::{Now, decide};
use remote_command::core::fault::{Fault, Transient};
use remote_command::core::outcome::{Doubt, Ending, Failure, Success};
use remote_command::core::phase::{Phase, summary};
use remote_command::core::plan::{Asked, HoldKind, Plan, Value};
use remote_command::core::record::{
    Claimed, EntrySeen, HostRecord, Identity, Life, OutputSeen, ProcessId, ProcessIds, Tree,
    parse_exit,
};
use remote_command::core::stage::{Place, Stage, WaitingOn};
use remote_command::host::{
    Chunk, Host, Lookup, LookupError, Material, Recall, SecretValues, Stream,
};
use remote_command::journal::{Journal, NotSaved, Saved};
use remote_command::step::{Reach, Step, Turned};
use zeroize::Zeroizing;

/// Answers verbs as told, and remembers them.
#[derive(Default)]
struct Scripted {
    silent: Mutex<bool>,
    /// Verbs that start nothing wait for ever.
    unresponsive: Mutex<bool>,
    /// How many probes find the command still running.
    probes: Mutex<u32>,
    verbs: Mutex<Vec<&'static str>>,
    connections: Mutex<Vec<String>>,
    environment: Mutex<Vec<(String, Vec<u8>)>>,
}

struct Way {
    host: Arc<Scripted>,
    connection: String,
}

struct Ways(Arc<Scripted>);

impl Reach for Ways {
    fn host(&self, connection: &str) -> Arc<dyn Host> {
        Arc::new(Way { host: Arc::clone(&self.0), connection: connection.to_owned() })
    }
}

#[async_trait]
impl Host for Way {
    async fn act(&self, _: &Plan, action: &Saved<Action>, material: Option<Material>) -> Seen {
        let host = &self.host;
        host.verbs.lock().unwrap().push(name_of(action.get()));
        host.connections.lock().unwrap().push(self.connection.clone());
        let env = material.into_iter().flat_map(|material| material.env);
        host.environment.lock().unwrap().extend(env.map(|(name, value)| (name, value.to_vec())));
        if *host.unresponsive.lock().unwrap() {
            return std::future::pending().await;
        }
        if *host.silent.lock().unwrap() {
            return Seen::Unreachable(Fault::new(Transient::ConnectionLost, "cut"));
        }
        match action.get().clone() {
            Action::Prepare { entry } => {
                Seen::Prepared { entry, identity: identity(), connection: String::new() }
            }
            Action::Launch { entry, .. } => seen(entry, false),
            Action::Probe { entry } => {
                let mut left = host.probes.lock().unwrap();
                let ended = *left == 0;
                *left = left.saturating_sub(1);
                seen(entry, ended)
            }
            other => panic!("not in the script: {other:?}"),
        }
    }

    fn waits_for(&self) -> Option<String> {
        let unresponsive = *self.host.unresponsive.lock().unwrap();
        unresponsive.then(|| "waiting for the handshake".to_owned())
    }

    async fn read(&self, _: &Entry, stream: Stream, offset: u64, _: u32) -> Result<Chunk, Fault> {
        Ok(Chunk { stream, offset, bytes: Vec::new(), truncated: false })
    }
}

fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Prepare { .. } => "Prepare",
        Action::Launch { .. } => "Launch",
        Action::Probe { .. } => "Probe",
        Action::Terminate { .. } => "Terminate",
        Action::Kill { .. } => "Kill",
        Action::Revoke { .. } => "Revoke",
        Action::Sweep { .. } => "Sweep",
    }
}

fn identity() -> Identity {
    Identity {
        machine: "machine".to_owned(),
        boot: "boot".to_owned(),
        store: "store".to_owned(),
        uptime_ms: 1000,
        can_tell: true,
    }
}

fn seen(entry: Entry, ended: bool) -> Seen {
    let process = |pid| ProcessId { pid, start: 1 };
    let processes =
        ProcessIds { boot: "boot".to_owned(), supervisor: process(10), command: process(11) };
    let life = if ended { Life::Gone } else { Life::Alive };
    let exit = parse_exit("T 0 - ran 1999 - T 0 .", "T").filter(|_| ended);
    let claimed = Claimed {
        processes,
        supervisor: life,
        command: life,
        watch: life,
        exit,
        stop: None,
        claimed_uptime_ms: 1001,
    };
    let mut output = OutputSeen::default();
    output.stdout.ended = ended;
    output.stderr.ended = ended;
    let record = HostRecord {
        boot: "boot".to_owned(),
        store: "store".to_owned(),
        uptime_ms: 2000,
        entry: EntrySeen::Claimed(claimed),
        tree: Tree::Empty,
        output,
    };
    Seen::Host { entry, record }
}

/// Keeps what is saved, and can refuse to.
#[derive(Default)]
struct Memory {
    saved: Vec<Stage>,
    refusals: VecDeque<NotSaved>,
}

#[async_trait]
impl Journal for Memory {
    async fn write(&mut self, before: &Stage, stage: &Stage) -> Result<(), NotSaved> {
        if let Some(refusal) = self.refusals.pop_front() {
            return Err(refusal);
        }
        assert_eq!(before, &self.saved.last().cloned().unwrap_or_default());
        self.saved.push(stage.clone());
        Ok(())
    }
}

#[derive(Default)]
struct Secrets {
    values: BTreeMap<String, String>,
    down: bool,
    denied: bool,
}

#[async_trait]
impl Lookup for Secrets {
    async fn secret(&self, name: &str) -> Result<SecretValues, LookupError> {
        if self.down {
            return Err(LookupError::Unavailable("down".to_owned()));
        }
        if self.denied {
            return Err(LookupError::Denied(format!("secret {name:?}"), "forbidden".to_owned()));
        }
        let value = self.values.get(name).ok_or(LookupError::SecretNotFound(name.to_owned()))?;
        Ok([("key".to_owned(), Zeroizing::new(value.clone().into_bytes()))].into())
    }

    async fn config_map(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::ConfigMapNotFound(name.to_owned(), key.to_owned()))
    }
}

fn plan() -> Plan {
    let mut plan = Plan::plain("uid", "host", &["true"]);
    plan.retry.limit = 3;
    let token = Value::SecretKey { name: "secret".to_owned(), key: "key".to_owned() };
    plan.program.env.push(("TOKEN".to_owned(), token));
    plan
}

/// One object's life: the turns one after the other, the clock moved to each wake-up.
struct Course {
    plan: Plan,
    asked: Asked,
    host: Arc<Scripted>,
    secrets: Secrets,
    recall: Recall,
    journal: Memory,
    stage: Stage,
    seen: Seen,
    now: Timestamp,
}

impl Course {
    fn new() -> Self {
        Self {
            plan: plan(),
            asked: Asked { connection: "first".to_owned(), ..Asked::default() },
            host: Arc::default(),
            secrets: Secrets {
                values: [("secret".to_owned(), "s3cret".to_owned())].into(),
                ..Secrets::default()
            },
            recall: Recall::new(),
            journal: Memory::default(),
            stage: Stage::default(),
            seen: Seen::Nothing,
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    async fn turn(&mut self) -> Result<Turned, NotSaved> {
        let ways = Ways(Arc::clone(&self.host));
        let step = Step {
            plan: &self.plan,
            asked: &self.asked,
            reach: &ways,
            lookup: &self.secrets,
            recall: &self.recall,
        };
        let now = Now { at: self.now, seed: 7, secret: 8 };
        let turned = step.turn(&mut self.journal, &mut self.stage, &self.seen, &now).await;
        self.seen = match &turned {
            Ok(Turned::Acted { seen, .. }) => Seen::clone(seen),
            Ok(Turned::Resting { .. } | Turned::Deferred { .. } | Turned::Recalled) | Err(_) => {
                Seen::Nothing
            }
        };
        turned
    }

    /// Turns until nothing is left to do before `wake`, which it gives.
    async fn rest(&mut self) -> Option<Timestamp> {
        for _ in 0..50 {
            if let Turned::Resting { wake } = self.turn().await.unwrap() {
                return wake;
            }
        }
        panic!("it does not come to rest: {:?}", self.verbs());
    }

    async fn end(&mut self) {
        for _ in 0..50 {
            match self.rest().await {
                Some(wake) => self.now = self.now.max(wake),
                None => return,
            }
        }
        panic!("it does not end: {:?}", self.verbs());
    }

    fn verbs(&self) -> Vec<&'static str> {
        self.host.verbs.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_is_prepared_launched_once_and_followed_to_its_end() {
    let mut life = Course::new();
    *life.host.probes.lock().unwrap() = 2;
    life.end().await;
    let verbs = life.verbs();
    assert_eq!(verbs.first(), Some(&"Prepare"));
    assert_eq!(verbs.iter().filter(|verb| **verb == "Launch").count(), 1);
    let ending = life.stage.outcome.as_ref().unwrap().ending;
    assert_eq!(ending, Ending::Succeeded(Success::Completed));
    assert!(life.journal.saved.len() <= 3, "{} writes", life.journal.saved.len());
}

/// A stage that the build before saved while its command ran, as JSON.
const BEFORE: &str = include_str!("shim/before/stage.json");

/// Not a test: writes what this very build saves, to be read by the one after the next release.
#[tokio::test(start_paused = true)]
#[ignore = "by hand, after a release"]
async fn keep_a_stage_of_this_build() {
    let mut life = Course::new();
    *life.host.probes.lock().unwrap() = 9;
    life.rest().await;
    let text = serde_json::to_string_pretty(&life.stage).unwrap() + "\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/before/stage.json");
    std::fs::write(file, text).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_the_build_before_saved_is_gone_on_from_and_nothing_is_launched_again() {
    let stage: Stage = serde_json::from_str(BEFORE).unwrap();
    let attempt = stage.current.as_ref().unwrap();
    assert!(stage.outcome.is_none() && !attempt.entry.token.is_empty());
    let kept: serde_json::Value = serde_json::from_str(BEFORE).unwrap();
    let again = serde_json::to_value(&stage).unwrap();
    for (name, value) in kept.as_object().unwrap() {
        assert_eq!(again.get(name), Some(value), "{name} is lost or changed");
    }
    let mut life = Course { stage: stage.clone(), ..Course::new() };
    life.journal.saved.push(stage);
    *life.host.probes.lock().unwrap() = 1;
    life.end().await;
    assert!(life.verbs().iter().all(|verb| *verb == "Probe"), "{:?}", life.verbs());
    assert_eq!(life.stage.outcome.unwrap().ending, Ending::Succeeded(Success::Completed));
}

/// Guards against a hidden half that can be reckoned from the one in an entry's name, which other
/// users of the host can see.
#[test]
fn the_halves_of_a_token_are_made_of_dice_of_their_own() {
    let (plan, asked, stage) = (plan(), Course::new().asked, Stage::default());
    let token = |seed, secret| {
        let now = Now { at: "2026-01-02T03:04:05Z".parse().unwrap(), seed, secret };
        let decision = decide(&plan, &asked, &stage, &Seen::Nothing, &now);
        let Some(Action::Prepare { entry }) = decision.action else { panic!("{decision:?}") };
        let (seen, hidden) = entry.token.split_at(16);
        (seen.to_owned(), hidden.to_owned())
    };
    let (one, other) = (token(1, 2), token(1, 3));
    assert!(one.0 == other.0 && one.1 != other.1, "{one:?} {other:?}");
    let other = token(4, 2);
    assert!(one.0 != other.0 && one.1 == other.1, "{one:?} {other:?}");
}

#[tokio::test(start_paused = true)]
async fn a_launch_is_sent_only_after_its_stage_was_saved() {
    let mut life = Course::new();
    life.journal.refusals = [NotSaved::Overtaken].into();
    while life.turn().await.is_ok() {}
    assert_eq!(life.verbs(), ["Prepare"]);
    assert_eq!(life.stage, Stage::default(), "the stage is the one that is stored");
    life.end().await;
    assert_eq!(life.verbs().iter().filter(|verb| **verb == "Launch").count(), 1);
    let launched = life.journal.saved.first().unwrap();
    assert!(launched.current.is_some(), "the intent is the first thing that is saved");
}

/// Guards against actions that nobody decided on: each of these starts or ends something, or
/// takes evidence away.
#[tokio::test(start_paused = true)]
async fn only_a_probe_and_the_sweep_of_what_has_ended_need_no_save() {
    let mut life = Course::new();
    life.end().await;
    let ended = life.stage;
    let entry = ended.current.as_ref().unwrap().entry.clone();
    let sweep = Action::Sweep {
        uid: "uid".to_owned(),
        machine: String::new(),
        store: String::new(),
        run_as: None,
    };
    let probe = Action::Probe { entry: entry.clone() };
    assert!(Saved::harmless(probe.clone(), &Stage::default()).is_some());
    assert!(Saved::harmless(sweep.clone(), &ended).is_some());
    let (reason, processes) = (StopReason::Fenced, None);
    let expect = Expect { boot: String::new(), store: String::new(), latest_uptime_ms: 1 };
    for action in [
        Action::Prepare { entry: entry.clone() },
        Action::Launch { entry: entry.clone(), expect },
        Action::Terminate { entry: entry.clone(), reason, processes: None, grace_ms: 1 },
        Action::Kill { entry: entry.clone(), reason, processes },
        Action::Revoke { entry, boot: String::new(), store: String::new() },
    ] {
        assert!(Saved::harmless(action.clone(), &ended).is_none(), "{action:?}");
    }
    let mut doubted = ended.clone();
    doubted.outcome.as_mut().unwrap().ending = Ending::Unknown(Doubt::Unreachable);
    let under_way = Stage { outcome: None, ..ended.clone() };
    let mut resolved = ended;
    resolved.current.as_mut().unwrap().place = Place::Running;
    for stage in [doubted, under_way, resolved, Stage::default()] {
        assert!(Saved::harmless(sweep.clone(), &stage).is_none(), "{stage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_fetched_for_the_launch_and_for_nothing_else() {
    let mut life = Course::new();
    life.end().await;
    let environment = life.host.environment.lock().unwrap().clone();
    assert_eq!(environment, [("TOKEN".to_owned(), b"s3cret".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_holds_the_launch_before_the_host_is_asked_and_heals() {
    let mut life = Course::new();
    let value = life.secrets.values.remove("secret").unwrap();
    assert!(life.rest().await.is_some(), "there is a limit to waiting");
    assert_eq!(life.verbs(), Vec::<&str>::new());
    assert_eq!(life.stage.starts, 0);
    life.secrets.values.insert("secret".to_owned(), value);
    life.end().await;
    assert!(life.stage.outcome.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_source_of_secrets_that_is_down_is_said_once_and_bounded_by_the_queue_limit() {
    let mut life = Course::new();
    life.secrets.down = true;
    let limit = life.rest().await.unwrap();
    assert_eq!(life.stage.run, 1, "the run is on record, and its queue clock runs");
    let waiting = life.stage.waiting.clone().unwrap();
    assert_eq!(waiting.reason(), "Queued");
    assert!(waiting.message.contains("down"), "{}", waiting.message);
    for _ in 0..3 {
        assert!(matches!(life.turn().await, Ok(Turned::Deferred { .. })));
    }
    assert_eq!((life.journal.saved.len(), life.verbs().len()), (1, 0));
    life.now = limit;
    life.end().await;
    let ending = life.stage.outcome.as_ref().unwrap().ending;
    assert_eq!(ending, Ending::Failed(Failure::QueueTimeout));
    assert_eq!(life.verbs(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_source_of_secrets_that_is_up_again_is_used_at_once() {
    let mut life = Course::new();
    life.secrets.down = true;
    life.rest().await;
    life.secrets.down = false;
    life.end().await;
    let ending = life.stage.outcome.as_ref().unwrap().ending;
    assert_eq!(ending, Ending::Succeeded(Success::Completed));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_may_not_be_read_is_a_matter_of_policy() {
    let mut life = Course::new();
    life.secrets.denied = true;
    life.rest().await;
    let waiting = life.stage.waiting.clone().unwrap();
    assert_eq!(waiting.on, WaitingOn::Hold(HoldKind::Invalid, "PolicyDenied".to_owned()));
    assert!(waiting.message.contains("secret"), "{}", waiting.message);
    assert_eq!(life.verbs(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_no_variable_can_hold_is_named_by_its_key_before_the_host_is_asked() {
    let long = "x".repeat(131_072);
    for (value, flaw) in [("a\0b", "NUL"), (long.as_str(), "131071")] {
        let mut life = Course::new();
        life.secrets.values.insert("secret".to_owned(), value.to_owned());
        life.rest().await;
        let waiting = life.stage.waiting.clone().unwrap();
        assert_eq!(waiting.on, WaitingOn::Hold(HoldKind::Invalid, "InvalidSpec".to_owned()));
        for part in [flaw, "TOKEN", "\"key\" of secret \"secret\""] {
            assert!(waiting.message.contains(part), "{}", waiting.message);
        }
        assert!(!waiting.message.contains(value), "its value is nobody's business");
        assert_eq!(life.verbs(), Vec::<&str>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_finds_the_same_writes_nothing() {
    let mut life = Course::new();
    *life.host.probes.lock().unwrap() = u32::MAX;
    for _ in 0..20 {
        let wake = life.rest().await.unwrap();
        life.now = life.now.max(wake);
    }
    let probes = life.verbs().iter().filter(|verb| **verb == "Probe").count();
    assert!(probes >= 10, "{probes} probes");
    assert!(life.journal.saved.len() <= 2, "{} writes", life.journal.saved.len());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_followed_over_the_connection_it_was_launched_with() {
    let mut life = Course::new();
    *life.host.probes.lock().unwrap() = u32::MAX;
    life.rest().await;
    life.asked.connection = "second".to_owned();
    for _ in 0..3 {
        let wake = life.rest().await.unwrap();
        life.now = life.now.max(wake);
    }
    let connections = life.host.connections.lock().unwrap().clone();
    assert!(connections.iter().all(|connection| connection == "first"), "{connections:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_leaves_a_running_command_undecided() {
    let mut life = Course::new();
    *life.host.probes.lock().unwrap() = u32::MAX;
    life.rest().await;
    *life.host.silent.lock().unwrap() = true;
    let wake = life.rest().await.unwrap();
    life.now = life.now.max(wake);
    life.rest().await;
    assert!(life.stage.outcome.is_none());
    *life.host.silent.lock().unwrap() = false;
    *life.host.probes.lock().unwrap() = 0;
    life.end().await;
    let ending = life.stage.outcome.as_ref().unwrap().ending;
    assert_eq!(ending, Ending::Succeeded(Success::Completed));
}

/// Guards against a launch on another host than the one that holds the entry.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_re_addressed_after_the_prepare_is_prepared_again_before_the_launch() {
    let mut life = Course::new();
    life.turn().await.unwrap();
    life.asked.connection = "second".to_owned();
    life.end().await;
    let verbs = life.verbs();
    let connections = life.host.connections.lock().unwrap().clone();
    let sent: Vec<_> = verbs.into_iter().zip(connections.iter().map(String::as_str)).collect();
    assert_eq!(
        sent.get(..3),
        Some(&[("Prepare", "first"), ("Prepare", "second"), ("Launch", "second")][..])
    );
}

/// Guards against a sweep asked for again and again without a pause, because nobody knows which
/// store did not answer.
#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_not_answered_is_said_once_and_tried_at_a_pace() {
    let mut life = Course::new();
    life.end().await;
    let sweeps = |life: &Course| life.verbs().iter().filter(|verb| **verb == "Sweep").count();
    life.asked.delete = true;
    *life.host.silent.lock().unwrap() = true;
    life.rest().await.unwrap();
    let blocked = life.stage.deleting.as_ref().and_then(|deleting| deleting.blocked.as_ref());
    assert_eq!((blocked.unwrap().message.as_str(), sweeps(&life)), ("cut", 1));
    let writes = life.journal.saved.len();
    life.end().await;
    assert!(life.stage.released() && sweeps(&life) > 2);
    assert_eq!(life.journal.saved.len(), writes + 1, "giving up is the only news");
}

/// Guards against limits that begin anew with every turn, and a status that says nothing, as
/// long as a host does not answer.
#[tokio::test(start_paused = true)]
async fn a_first_run_whose_host_does_not_answer_is_on_record_at_once_and_ends_at_its_limit() {
    let mut life = Course::new();
    life.plan.limits.queue = Duration::from_secs(5);
    *life.host.unresponsive.lock().unwrap() = true;
    let began = tokio::time::Instant::now();
    assert_eq!(life.turn().await.unwrap(), Turned::Recalled);
    assert_eq!(began.elapsed(), life.plan.limits.queue);
    assert_eq!(life.journal.saved.len(), 1);
    let summary = summary(&life.plan, &life.stage);
    assert_eq!((summary.phase, summary.reason.as_str()), (Phase::Pending, "Connecting"));
    life.now += life.plan.limits.queue;
    life.end().await;
    let ending = life.stage.outcome.as_ref().unwrap().ending;
    assert_eq!(ending, Ending::Failed(Failure::QueueTimeout));
    assert_eq!(life.verbs(), ["Prepare"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_host_is_recalled_at_once_and_goes_on_when_it_is_wanted_again() {
    let mut life = Course::new();
    *life.host.unresponsive.lock().unwrap() = true;
    let recall = life.recall.clone();
    let began = tokio::time::Instant::now();
    let (turned, ()) = tokio::join!(life.turn(), async { recall.say() });
    assert_eq!(turned.unwrap(), Turned::Recalled);
    assert!(began.elapsed().is_zero() && life.journal.saved.is_empty());
    (life.recall, *life.host.unresponsive.lock().unwrap()) = (Recall::new(), false);
    life.end().await;
    let ending = life.stage.outcome.as_ref().unwrap().ending;
    assert_eq!(ending, Ending::Succeeded(Success::Completed));
}

/// A limit of a moment must not be begun anew for ever.
#[tokio::test(start_paused = true)]
async fn a_queue_limit_shorter_than_a_moment_ends_the_run_too() {
    let mut life = Course::new();
    life.plan.limits.queue = Duration::from_millis(50);
    *life.host.unresponsive.lock().unwrap() = true;
    assert_eq!(life.turn().await.unwrap(), Turned::Recalled);
    assert_eq!(life.stage.run, 1);
    life.now += life.plan.limits.queue;
    life.end().await;
    assert!(life.stage.outcome.is_some());
}

/// Guards against a running command that is shown as such, and whose limits do not begin, as long
/// as its host is connected to anew.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_connected_to_anew_is_told_before_that_limit_runs_out() {
    let mut life = Course::new();
    *life.host.probes.lock().unwrap() = 1;
    while life.stage.current.as_ref().is_none_or(|current| current.place != Place::Running) {
        life.turn().await.unwrap();
    }
    life.rest().await;
    let saved = life.journal.saved.len();
    *life.host.unresponsive.lock().unwrap() = true;
    let waited = tokio::time::timeout(Duration::from_secs(10), life.turn()).await;
    assert_eq!(waited.unwrap().unwrap(), Turned::Recalled);
    assert_eq!(life.journal.saved.len(), saved + 1);
    let summary = summary(&life.plan, &life.stage);
    assert_eq!((summary.phase, summary.reason.as_str()), (Phase::Running, "Reattaching"));
    assert!(summary.message.contains("waiting for the handshake"), "{}", summary.message);
    life.recall = Recall::new();
    let again = tokio::time::timeout(Duration::from_secs(60), life.turn()).await;
    assert!(again.is_err(), "and then it is waited for: {again:?}");
    *life.host.unresponsive.lock().unwrap() = false;
    life.recall = Recall::new();
    life.end().await;
    let ending = life.stage.outcome.as_ref().unwrap().ending;
    assert_eq!(ending, Ending::Succeeded(Success::Completed));
}
