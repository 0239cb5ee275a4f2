//! Output that comes late, and supervisors that do not see the end of it.

mod budget;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;
use crate::api::RemoteCommand;
use crate::core::action::{Action, StopReason};
use crate::core::fault::{Fault, Transient};
use crate::core::outcome::Loss;
use crate::core::plan::Plan;
use crate::core::record::{
    Claimed, EntrySeen, HostRecord, Identity, Life, ProcessId, ProcessIds, Tree, parse_exit,
};
use crate::core::stage::{Attempt, Bounds, Next, Stop};
use crate::host::{Chunk, Material};
use crate::journal::Saved;

const TEXT: &[u8] = b"one\ntwo\nthree";

/// A host that reads out [`TEXT`] up to a limit, beyond which the link is lost.
struct Cut(Mutex<usize>);

#[async_trait]
impl Host for Cut {
    async fn act(&self, _: &Plan, action: &Saved<Action>, _: Option<Material>) -> Seen {
        panic!("not asked for: {:?}", action.get())
    }

    async fn read(&self, _: &Entry, stream: Stream, offset: u64, max: u32) -> Result<Chunk, Fault> {
        let from = usize::try_from(offset).unwrap();
        let until = (*self.0.lock().unwrap()).min(from + usize::try_from(max).unwrap());
        let bytes = TEXT.get(from..until).unwrap_or_default();
        if bytes.is_empty() && from < TEXT.len() {
            return Err(Fault::new(Transient::ConnectionLost, "cut"));
        }
        Ok(Chunk { stream, offset, bytes: bytes.to_vec(), truncated: false })
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn texts(&self) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let records = log.lines().map(serde_json::from_str::<serde_json::Value>);
        records.map(|record| record.unwrap()["text"].as_str().unwrap().to_owned()).collect()
    }
}

/// An operator's output log and marks, removed at the end.
struct Desk {
    sink: Sink,
    output: Output,
    directory: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let directory =
            std::env::temp_dir().join(format!("following-{:016x}", rand::random::<u64>()));
        let sink = Sink::default();
        let writer = Writer::start(sink.clone(), io::sink()).unwrap();
        let marks = Marks::open(&directory).unwrap();
        let output = Output { writer, marks, limits: LogLimits::default() };
        Self { sink, output, directory }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn source() -> Source {
    Source {
        namespace: "default".to_owned(),
        name: "talk".to_owned(),
        host: "local".to_owned(),
        tail_bytes: 100,
        log: true,
    }
}

fn entry() -> Entry {
    Entry {
        uid: "u".to_owned(),
        run: 1,
        attempt: 1,
        kind: Kind::Command,
        token: "T".to_owned(),
        machine: "m".to_owned(),
        run_as: None,
    }
}

/// The command has ended; `bytes` of its output are there, and that is all or not.
fn ended(bytes: usize, all: bool) -> Seen {
    let process = ProcessId { pid: 10, start: 1 };
    let claimed = Claimed {
        processes: ProcessIds {
            boot: "b".to_owned(),
            supervisor: process.clone(),
            command: process,
        },
        supervisor: Life::Gone,
        command: Life::Gone,
        watch: Life::Gone,
        exit: parse_exit("T 0 - ran 1999 - T 0 .", "T"),
        stop: None,
        claimed_uptime_ms: 1001,
    };
    let mut output = OutputSeen::default();
    output.stdout.bytes = bytes as u64;
    (output.stdout.ended, output.stderr.ended) = (all, true);
    let record = HostRecord {
        boot: "b".to_owned(),
        store: "s".to_owned(),
        uptime_ms: 2000,
        entry: EntrySeen::Claimed(claimed),
        tree: Tree::Empty,
        output,
    };
    Seen::Host { entry: entry(), record }
}

/// Delivers until there is nothing to go on with.
async fn deliver(following: &mut Following) {
    while let Some(again) = following.deliver().await {
        tokio::time::sleep_until(again).await;
    }
}

#[tokio::test]
async fn output_that_comes_after_the_exit_is_written_too() {
    let place = Desk::new();
    let host: Arc<dyn Host> = Arc::new(Cut(Mutex::new(TEXT.len())));
    let mut following = Following::new(place.output.clone());
    following.observe(&source(), &ended(6, false), &host, None).await;
    following.observe(&source(), &ended(TEXT.len(), true), &host, None).await;
    assert_eq!(place.sink.texts(), ["one", "two", "three"]);
    assert!(following.is_delivered());
}

#[tokio::test]
async fn what_a_result_did_not_wait_for_is_written_after_it() {
    let place = Desk::new();
    let cut = Arc::new(Cut(Mutex::new(6)));
    let host: Arc<dyn Host> = Arc::clone(&cut) as Arc<dyn Host>;
    let mut following = Following::new(place.output.clone());
    following.observe(&source(), &ended(TEXT.len(), true), &host, None).await;
    assert!(!following.is_delivered(), "the link was lost on the way");
    *cut.0.lock().unwrap() = TEXT.len();
    deliver(&mut following).await;
    assert_eq!(place.sink.texts(), ["one", "two", "three"]);
    assert!(following.is_delivered());
}

#[tokio::test]
async fn output_of_an_ended_command_goes_on_after_a_restart() {
    let place = Desk::new();
    let cut = Arc::new(Cut(Mutex::new(6)));
    let host: Arc<dyn Host> = Arc::clone(&cut) as Arc<dyn Host>;
    let shown = {
        let mut former = Following::new(place.output.clone());
        former.observe(&source(), &ended(TEXT.len(), true), &host, None).await;
        former.status(&stage(Place::Running)).unwrap()
    };
    *cut.0.lock().unwrap() = TEXT.len();
    let mut following = Following::new(place.output.clone());
    assert!(following.resume(&source(), &entry(), &shown, &host));
    assert_eq!(
        following.status(&stage(Place::Running)),
        None,
        "status has more than this one has read"
    );
    deliver(&mut following).await;
    assert_eq!(place.sink.texts(), ["one", "two", "three"]);
    let mut later = Following::new(place.output.clone());
    assert!(!later.resume(&source(), &entry(), &shown, &host), "all of it was written");
}

#[tokio::test]
async fn the_rest_of_an_earlier_attempt_is_written_while_the_next_one_is_followed() {
    let place = Desk::new();
    let cut = Arc::new(Cut(Mutex::new(6)));
    let host: Arc<dyn Host> = Arc::clone(&cut) as Arc<dyn Host>;
    let mut following = Following::new(place.output.clone());
    following.observe(&source(), &ended(TEXT.len(), true), &host, None).await;
    let mut next = ended(0, true);
    if let Seen::Host { entry, .. } = &mut next {
        (entry.attempt, entry.token) = (2, "U".to_owned());
    }
    following.observe(&source(), &next, &host, None).await;
    assert!(!following.is_delivered(), "the link was lost on the way");
    *cut.0.lock().unwrap() = TEXT.len();
    deliver(&mut following).await;
    assert_eq!(place.sink.texts(), ["one", "two", "three"]);
    assert!(following.is_delivered());
}

#[tokio::test]
async fn what_is_given_up_of_an_earlier_attempt_is_told_as_a_gap() {
    let place = Desk::new();
    let host: Arc<dyn Host> = Arc::new(Cut(Mutex::new(6)));
    let mut following = Following::new(place.output.clone());
    following.observe(&source(), &ended(TEXT.len(), true), &host, None).await;
    let mut given_up = following.current.take().unwrap();
    given_up.stuck = Instant::now().checked_sub(PATIENCE * 2);
    given_up.deliver_rest().await;
    let log = String::from_utf8(place.sink.0.lock().unwrap().clone()).unwrap();
    let last: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "outputGap", "{log}");
    assert_eq!((&last["offset"], &last["bytes"]), (&6.into(), &7.into()), "{log}");
}

/// The same attempt while it runs and has written nothing.
fn silent() -> Seen {
    let mut seen = ended(0, false);
    if let Seen::Host { record, .. } = &mut seen
        && let EntrySeen::Claimed(claimed) = &mut record.entry
    {
        (claimed.supervisor, claimed.command, claimed.exit) = (Life::Alive, Life::Alive, None);
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn patience_with_the_rest_of_the_output_begins_with_the_end_however_long_it_was_awaited() {
    let place = Desk::new();
    let host: Arc<dyn Host> = Arc::new(Cut(Mutex::new(0)));
    for at_the_end in [ended(TEXT.len(), true), silent()] {
        let mut following = Following::new(place.output.clone());
        following.observe(&source(), &silent(), &host, None).await;
        tokio::time::advance(PATIENCE * 2).await;
        following.observe(&source(), &at_the_end, &host, None).await;
        if let Some(current) = &mut following.current {
            // Of a lost attempt no end is seen.
            current.seen.stdout.bytes = TEXT.len() as u64;
        }
        assert!(following.deliver().await.is_some(), "the link was lost a moment ago");
        tokio::time::advance(PATIENCE / 2).await;
        assert!(following.deliver().await.is_some());
        tokio::time::advance(PATIENCE).await;
        assert!(following.deliver().await.is_none(), "it does not get on");
    }
}

#[tokio::test]
async fn output_that_came_only_at_the_end_is_not_lost_together_with_its_supervisor() {
    let (place, elsewhere) = (Desk::new(), Desk::new());
    let cut = Arc::new(Cut(Mutex::new(0)));
    let host: Arc<dyn Host> = Arc::clone(&cut) as Arc<dyn Host>;
    let shown = {
        let mut former = Following::new(place.output.clone());
        former.observe(&source(), &silent(), &host, None).await;
        former.observe(&source(), &ended(TEXT.len(), true), &host, None).await;
        former.status(&stage(Place::Running)).unwrap()
    };
    *cut.0.lock().unwrap() = TEXT.len();
    let mut other = Following::new(elsewhere.output.clone());
    assert!(!other.resume(&source(), &entry(), &shown, &host), "it never followed this one");
    let mut following = Following::new(place.output.clone());
    assert!(following.resume(&source(), &entry(), &shown, &host));
    deliver(&mut following).await;
    assert_eq!(place.sink.texts(), ["one", "two", "three"]);
}

/// The stage of the attempt while it is at `place`.
fn stage(place: Place) -> Stage {
    let attempt = Attempt {
        entry: entry(),
        direct: false,
        identity: Identity {
            machine: "m".to_owned(),
            boot: "b".to_owned(),
            store: "s".to_owned(),
            uptime_ms: 1000,
            can_tell: true,
        },
        connection: String::new(),
        host: "local".to_owned(),
        purpose: Next::Ordinary,
        bounds: Bounds { execution_ms: 1, idle_ms: None, termination_ms: 1, success: Vec::new() },
        processes: None,
        launched: Timestamp::UNIX_EPOCH,
        started: None,
        quiet: None,
        uncertain: None,
        place,
        left_running: Vec::new(),
    };
    Stage { run: 1, attempt: 1, current: Some(attempt), ..Stage::default() }
}

/// Guards against `output.open` for ever where nobody is left to write.
#[tokio::test]
async fn output_is_shown_open_while_somebody_may_write_who_is_read() {
    let desk = Desk::new();
    let host: Arc<dyn Host> = Arc::new(Cut(Mutex::new(TEXT.len())));
    let mut following = Following::new(desk.output.clone());
    following.observe(&source(), &ended(6, false), &host, None).await;
    let exit = parse_exit("T 0 - ran 1999 - T 0 .", "T").unwrap();
    let stop = Stop::new(StopReason::Cancelled, Timestamp::UNIX_EPOCH);
    for (place, open) in [
        (Place::Running, true),
        (Place::Stopping(stop), true),
        (Place::Ended(Fate::Exited(exit.clone())), true),
        (Place::Ended(Fate::Stopped { reason: StopReason::Cancelled, exit: Some(exit) }), false),
        (Place::Lost(Loss::LostNoRecord), false),
        (Place::Ended(Fate::Lost(Loss::LostByReboot)), false),
    ] {
        let shown = following.status(&stage(place.clone())).unwrap();
        assert_eq!(shown.open, open, "{place:?}");
    }
}

/// Guards against an end of the log while what the command left in its tree is being ended.
#[tokio::test]
async fn what_is_being_stopped_may_write_long_after_the_commands_own_exit() {
    let desk = Desk::new();
    let host: Arc<dyn Host> = Arc::new(Cut(Mutex::new(TEXT.len())));
    let mut following = Following::new(desk.output.clone());
    let stopped = |bytes, all, tree| {
        let mut seen = ended(bytes, all);
        if let Seen::Host { record, .. } = &mut seen
            && let EntrySeen::Claimed(claimed) = &mut record.entry
        {
            claimed.stop = Some(StopReason::Cancelled);
            (record.uptime_ms, record.tree) = (60_000, tree);
        }
        seen
    };
    let alive = stopped(6, false, Tree::Alive(Vec::new()));
    following.observe(&source(), &alive, &host, None).await;
    following.observe(&source(), &stopped(6, false, Tree::Empty), &host, None).await;
    assert!(!following.is_delivered(), "its drains have not said that it is all");
    following.observe(&source(), &stopped(TEXT.len(), true, Tree::Empty), &host, None).await;
    assert_eq!(desk.sink.texts(), ["one", "two", "three"]);
    assert!(following.is_delivered());
}

/// A host that does not answer.
struct Deaf;

#[async_trait]
impl Host for Deaf {
    async fn act(&self, _: &Plan, action: &Saved<Action>, _: Option<Material>) -> Seen {
        panic!("not asked for: {:?}", action.get())
    }

    async fn read(&self, _: &Entry, _: Stream, _: u64, _: u32) -> Result<Chunk, Fault> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_asked_for_cuts_reading_short_while_there_is_something_to_be_stopped() {
    let place = Desk::new();
    let host: Arc<dyn Host> = Arc::new(Deaf);
    let object = |change: serde_json::Value| -> Arc<RemoteCommand> {
        let mut object = serde_json::json!({
            "metadata": {"namespace": "ns", "name": "a", "uid": "u"},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]},
        });
        for (part, fields) in change.as_object().unwrap() {
            object[part].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        }
        Arc::new(serde_json::from_value(object).unwrap())
    };
    let known = object(serde_json::json!({}));
    let mut runs = silent();
    if let Seen::Host { record, .. } = &mut runs {
        record.output.stdout.bytes = TEXT.len() as u64;
    }
    let over = ended(TEXT.len(), true);
    let cancelled = serde_json::json!({"spec": {"cancel": true}});
    let deleted = serde_json::json!({"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}});
    let labelled = serde_json::json!({"metadata": {"labels": {"a": "b"}}});
    for (seen, change, limit) in [
        (&runs, &cancelled, Duration::ZERO),
        (&runs, &deleted, Duration::ZERO),
        (&runs, &labelled, LIMIT),
        (&over, &deleted, END_LIMIT + LIMIT),
    ] {
        let (shown, seat) = tokio::sync::watch::channel(Arc::clone(&known));
        let mut hearing = Hearing::new(&seat, &known);
        shown.send_replace(object(change.clone()));
        let (begun, mut following) = (Instant::now(), Following::new(place.output.clone()));
        following.observe(&source(), seen, &host, Some(&mut hearing)).await;
        assert_eq!(begun.elapsed(), limit, "{change}");
        assert!(seat.has_changed().unwrap(), "it is still news for the supervisor");
    }
}
