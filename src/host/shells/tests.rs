//! Helper shells of many users over a transport that is short of channels or of words.

use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::*;
use crate::core::action::{Action, Entry, Expect, Kind, Refusal, Seen};
use crate::core::plan::Plan;
use crate::host::recorded::Recorded;
use crate::host::{Event, ExecChannel, Host, Input};
use crate::journal::Saved;
use crate::shim::GREETING;

const MACHINE: &str = "0123456789abcdef0123456789abcdef";

/// Has so many channels, and a helper shell of few words on each.
struct Short {
    channels: Arc<Semaphore>,
    /// Nobody ever answers the greeting.
    silent: bool,
    /// No connection is made any more.
    down: AtomicBool,
    /// Another machine answers in the channels opened from now on.
    elsewhere: AtomicBool,
    launches: Arc<AtomicUsize>,
}

impl Short {
    fn of(channels: usize) -> Arc<Self> {
        Arc::new(Self::new(channels, false))
    }

    fn new(channels: usize, silent: bool) -> Self {
        Self {
            channels: Arc::new(Semaphore::new(channels)),
            silent,
            down: AtomicBool::new(false),
            elsewhere: AtomicBool::new(false),
            launches: Arc::default(),
        }
    }
}

#[async_trait]
impl Transport for Short {
    async fn open(&self, _: &str) -> Result<ExecChannel, Fault> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Fault::new(Transient::ConnectionRefused, "nobody is there"));
        }
        let channel = timeout(Duration::from_secs(40), self.channels.clone().acquire_owned()).await;
        let Ok(Ok(channel)) = channel else {
            return Err(Fault::new(Transient::ChannelRefused, "all sessions stayed in use"));
        };
        let (input, inputs) = mpsc::channel(64);
        let (told, events) = mpsc::channel(64);
        let elsewhere = self.elsewhere.load(Ordering::SeqCst);
        let far = Far {
            channel,
            silent: self.silent,
            machine: if elsewhere { MACHINE.replace('0', "f") } else { MACHINE.to_owned() },
            launches: self.launches.clone(),
        };
        tokio::spawn(far.answer(inputs, told));
        Ok(ExecChannel { input, events })
    }

    fn is_full(&self) -> bool {
        self.channels.available_permits() == 0
    }
}

/// The far end of one channel. It is given back when nobody listens any more.
struct Far {
    channel: OwnedSemaphorePermit,
    silent: bool,
    machine: String,
    launches: Arc<AtomicUsize>,
}

impl Far {
    async fn answer(self, mut inputs: mpsc::Receiver<Input>, told: mpsc::Sender<Event>) {
        let mut nonce = String::new();
        while let Some(input) = inputs.recv().await {
            let Input::Bytes(bytes) = input else {
                // What is at work goes on without its input.
                if self.silent { continue } else { break }
            };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let at = format!("{nonce} at {} boot store 1 1\n", self.machine);
            let last = text.lines().last().unwrap_or_default();
            let said = if self.silent {
                continue;
            } else if text.starts_with("exec sudo ") || text.len() == 33 {
                nonce = last.to_owned();
                format!("{GREETING}{nonce}\n")
            } else if text.starts_with("rc_sh=") {
                format!("{nonce} hello 1\n{at}{nonce} end\n")
            } else if let Some(line) = text.strip_prefix(&format!("{nonce} ")) {
                self.launches.fetch_add(usize::from(line.starts_with("launch")), Ordering::SeqCst);
                format!("{at}{nonce} entry unclaimed\n{nonce} end\n")
            } else {
                continue;
            };
            let _ = told.send(Event::Stdout(said.into_bytes())).await;
        }
        drop(self.channel);
    }
}

fn plan() -> Plan {
    Plan::plain("uid", "host", &["true"])
}

fn entry(run_as: Option<&str>) -> Entry {
    Entry {
        uid: "uid".to_owned(),
        run: 1,
        attempt: 1,
        kind: Kind::Command,
        token: "1".repeat(32),
        machine: MACHINE.to_owned(),
        run_as: run_as.map(str::to_owned),
    }
}

async fn probe(shells: &Arc<Shells>, user: usize) -> Seen {
    let action = Action::Probe { entry: entry(Some(&format!("user-{user}"))) };
    Recorded::new(shells.clone()).act(&plan(), &Saved::for_test(action), None).await
}

async fn launch(shells: &Arc<Shells>) -> Seen {
    let expect = Expect { boot: "boot".into(), store: "store".into(), latest_uptime_ms: 9 };
    let action = Action::Launch { entry: entry(None), expect };
    Recorded::new(shells.clone()).act(&plan(), &Saved::for_test(action), None).await
}

/// Guards against idle shells of many users that keep another user out.
#[tokio::test(start_paused = true)]
async fn idle_shells_make_room_for_another_users() {
    let shells = Arc::new(Shells::new(Short::of(16), Account::default()));
    // Two for each of eight users, all of them idle then.
    for user in 0..8 {
        let both = join_all([probe(&shells, user), probe(&shells, user)]).await;
        assert!(both.iter().all(|seen| matches!(seen, Seen::Host { .. })), "{both:?}");
    }
    assert!(shells.transport.is_full());
    let began = Instant::now();
    let ninth = probe(&shells, 9).await;
    assert!(matches!(ninth, Seen::Host { .. }), "{ninth:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The first one's were idle longest.
    let idle = (0..8).map(|user| shells.pool(Some(&format!("user-{user}"))).idle().len());
    assert_eq!(idle.collect::<Vec<_>>(), [1, 2, 2, 2, 2, 2, 2, 2]);
}

/// Guards against callers of other users who wait for a silent account one after the other.
#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_for_a_silent_account_because_others_wait_too() {
    let transport = Arc::new(Short::new(1, true));
    let shells = Arc::new(Shells::new(transport, Account::default()));
    let began = Instant::now();
    let all = join_all((0..50).map(|user| probe(&shells, user))).await;
    let silent = |seen: &Seen| matches!(seen, Seen::Unreachable(f) if f.reason() == "ReplyTimeout");
    assert!(all.iter().all(silent), "{all:?}");
    assert!(began.elapsed() <= REPLY_LIMIT, "{:?}", began.elapsed());
    assert!(silent(&probe(&shells, 0).await), "and whoever comes later waits for it anew");
}

/// Guards against a queue before the one who makes a connection.
#[tokio::test(start_paused = true)]
async fn the_wait_for_a_shell_has_a_limit_however_many_are_opened_before() {
    let shells = Arc::new(Shells::new(Short::of(100), Account::default()));
    let door = shells.door.lock().await;
    let seen = timeout(REPLY_LIMIT * (TURNS + 1), probe(&shells, 0)).await.unwrap();
    assert!(matches!(&seen, Seen::Unreachable(f) if f.reason() == "ReplyTimeout"), "{seen:?}");
    drop(door);
    assert!(matches!(probe(&shells, 0).await, Seen::Host { .. }));
}

/// Guards against a doubt about what certainly never started, and against a certainty about what
/// may have.
#[tokio::test(start_paused = true)]
async fn a_launch_that_was_not_sent_is_a_refusal_and_one_that_was_is_none() {
    let transport = Short::of(4);
    let shells = Arc::new(Shells::new(transport.clone(), Account::default()));
    let unsent = |seen: Seen, reason: &str| {
        let Seen::Refused { why: Refusal::Unsent(fault), .. } = seen else { panic!("{seen:?}") };
        assert_eq!(fault.reason(), reason);
    };
    transport.down.store(true, Ordering::SeqCst);
    unsent(launch(&shells).await, "ConnectionRefused");
    transport.down.store(false, Ordering::SeqCst);
    transport.elsewhere.store(true, Ordering::SeqCst);
    unsent(launch(&shells).await, "WrongHost");
    assert_eq!(transport.launches.load(Ordering::SeqCst), 0);
    shells.forget();
    transport.elsewhere.store(false, Ordering::SeqCst);
    let sent = launch(&shells).await;
    assert!(matches!(sent, Seen::Host { .. }), "{sent:?}");
    assert_eq!(transport.launches.load(Ordering::SeqCst), 1);
}

/// A host that answers each read with these counts of bytes, and says that it has as much output
/// as a number can say.
struct Generous {
    counts: &'static [u64],
    there: u64,
    opened: AtomicUsize,
}

#[async_trait]
impl Transport for Generous {
    async fn open(&self, _: &str) -> Result<ExecChannel, Fault> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (input, mut inputs) = mpsc::channel(64);
        let (told, events) = mpsc::channel(64);
        let (counts, there) = (self.counts, self.there);
        tokio::spawn(async move {
            let mut nonce = String::new();
            while let Some(Input::Bytes(bytes)) = inputs.recv().await {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let at = format!("{nonce} at {MACHINE} boot store 1 1\n");
                let said = if text.len() == 33 {
                    nonce = text.trim().to_owned();
                    format!("{GREETING}{nonce}\n")
                } else if text.starts_with("rc_sh=") {
                    format!("{nonce} hello 1\n{at}{nonce} end\n")
                } else if text.starts_with(&format!("{nonce} read")) {
                    let piece = |count: &u64| {
                        let bytes = usize::try_from(*count).unwrap().min(1 << 20);
                        format!("{nonce} bytes {count}\n{}", "y".repeat(bytes))
                    };
                    let pieces: String = counts.iter().map(piece).collect();
                    format!("{at}{pieces}{nonce} end\n")
                } else if text.starts_with(&format!("{nonce} ")) {
                    let output = format!("{nonce} output out {there} 0 0\n");
                    format!("{at}{nonce} entry unclaimed\n{output}{nonce} end\n")
                } else {
                    continue;
                };
                if told.send(Event::Stdout(said.into_bytes())).await.is_err() {
                    return;
                }
            }
        });
        Ok(ExecChannel { input, events })
    }
}

fn generous(counts: &'static [u64], there: u64) -> (Arc<Generous>, Recorded) {
    let transport = Arc::new(Generous { counts, there, opened: AtomicUsize::new(0) });
    let shells = Shells::new(transport.clone(), Account::default());
    (transport, Recorded::new(Arc::new(shells)))
}

fn asked() -> Entry {
    Entry {
        uid: "uid".to_owned(),
        run: 1,
        attempt: 1,
        kind: Kind::Command,
        token: MACHINE.to_owned(),
        machine: MACHINE.to_owned(),
        run_as: None,
    }
}

/// Guards against a log of 1.6 GB in 20 s, of a command that had written nothing.
#[tokio::test]
async fn a_host_that_answers_with_more_than_was_asked_for_is_not_believed() {
    let answers: [&'static [u64]; 4] = [&[101], &[60, 60], &[1 << 20], &[u64::MAX]];
    for counts in answers {
        let (transport, host) = generous(counts, 0);
        for opened in 1..=2 {
            let fault = host.read(&asked(), crate::host::Stream::Stdout, 0, 100).await.unwrap_err();
            assert_eq!(fault.cause, Cause::Ours(Ours::ProtocolError), "{fault:?}");
            let shells = transport.opened.load(Ordering::SeqCst);
            assert_eq!(shells, opened, "its shell is not used again");
        }
    }
    let (_, honest) = generous(&[100], 0);
    let chunk = honest.read(&asked(), crate::host::Stream::Stdout, 0, 100).await.unwrap();
    assert_eq!(chunk.bytes.len(), 100);
}

#[tokio::test]
async fn a_host_is_believed_no_more_output_than_it_may_keep() {
    let mut plan = plan();
    plan.program.output_limit = 1000;
    let probe = Saved::for_test(Action::Probe { entry: asked() });
    let (_, host) = generous(&[], 1 << 53);
    let Seen::Host { record, .. } = host.act(&plan, &probe, None).await else {
        panic!("no record")
    };
    assert_eq!((record.output.stdout.bytes, record.output.stdout.truncated), (1000, true));
    let (_, host) = generous(&[], u64::MAX);
    let seen = host.act(&plan, &probe, None).await;
    let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.cause, Cause::Ours(Ours::ProtocolError));
}

/// Lets nobody in, and says so.
struct Closed(AtomicUsize);

#[async_trait]
impl Transport for Closed {
    async fn open(&self, _: &str) -> Result<ExecChannel, Fault> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let (input, _) = mpsc::channel(4);
        let (told, events) = mpsc::channel(4);
        let said = b"This account is currently not available.\n".to_vec();
        for event in [Event::Stdout(said), Event::ExitStatus(1), Event::Closed] {
            told.try_send(event).unwrap();
        }
        Ok(ExecChannel { input, events })
    }
}

/// Guards against a look for each of a thousand commands that wait, and against an hour in which
/// an account that was mended is not looked at.
#[tokio::test(start_paused = true)]
async fn an_account_that_lets_nobody_in_is_looked_at_once_a_minute_whoever_asks() {
    let transport = Arc::new(Closed(AtomicUsize::new(0)));
    let shells = Shells::new(transport.clone(), Account::default());
    for minute in 1..=3 {
        for _ in 0..10 {
            assert_eq!(shells.identify(None).await.unwrap_err().reason(), "HostUnusable");
        }
        assert_eq!(transport.0.load(Ordering::SeqCst), minute);
        tokio::time::advance(Duration::from_secs(60)).await;
    }
}
