//! Helper shells that die under a request, stay silent, or belong to another machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use remote_command::core::action::{Action, Seen};
use remote_command::core::fault::{Fault, Transient};
use remote_command::host::recorded::{Recorded, Shells};
use remote_command::host::{Event, ExecChannel, Input, Transport};
use tokio::sync::mpsc;

use crate::rig::{LIMIT, Rig, Sh, claim_of};
use crate::support::until;

/// The rig's transport, with its faults.
struct Faulty {
    inner: Arc<dyn Transport>,
    opened: AtomicUsize,
    launches: Arc<AtomicUsize>,
    /// Ends that were told.
    ends: Arc<AtomicUsize>,
    /// The channel is lost as soon as a launch was passed on.
    loses: bool,
    /// Another machine answers, until the connections are renewed.
    elsewhere: AtomicBool,
    renewable: AtomicBool,
}

impl Faulty {
    fn new(rig: &Rig, loses: bool) -> Arc<Faulty> {
        Arc::new(Faulty {
            inner: rig.transport.clone(),
            opened: AtomicUsize::new(0),
            launches: Arc::default(),
            ends: Arc::default(),
            loses,
            elsewhere: AtomicBool::new(false),
            renewable: AtomicBool::new(false),
        })
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Transport for Faulty {
    async fn open(&self, line: &str) -> Result<ExecChannel, Fault> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let ExecChannel { input: into, mut events } = self.inner.open(line).await?;
        let (input, mut inputs) = mpsc::channel(16);
        let (told, received) = mpsc::channel(64);
        let (launches, ends, loses) = (self.launches.clone(), self.ends.clone(), self.loses);
        let elsewhere = self.elsewhere.load(Ordering::SeqCst);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    said = inputs.recv() => {
                        let Some(said) = said else { return };
                        let launch = matches!(&said, Input::Bytes(bytes) if is_launch(bytes));
                        let _ = into.send(said).await;
                        if launch {
                            launches.fetch_add(1, Ordering::SeqCst);
                            if loses {
                                let fault = Fault::new(Transient::ConnectionLost, "cut");
                                let _ = told.send(Event::Lost(fault)).await;
                                // What was passed on still arrives.
                                while events.recv().await.is_some() {}
                                return;
                            }
                        }
                    }
                    event = events.recv() => {
                        let Some(event) = event else { return };
                        let event = if elsewhere { renamed(event) } else { event };
                        let end = matches!(event, Event::ExitSignal(_));
                        let _ = told.send(event).await;
                        ends.fetch_add(usize::from(end), Ordering::SeqCst);
                    }
                }
            }
        });
        Ok(ExecChannel { input, events: received })
    }

    fn renew(&self) -> bool {
        let renewed = self.renewable.load(Ordering::SeqCst);
        if renewed {
            self.elsewhere.store(false, Ordering::SeqCst);
        }
        renewed
    }
}

/// Its first line begins with the nonce and the verb; the program text also holds the word.
fn is_launch(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).split(' ').nth(1) == Some("launch")
}

fn renamed(event: Event) -> Event {
    let Event::Stdout(bytes) = event else { return event };
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    Event::Stdout(text.replace(machine.trim(), &"0".repeat(32)).into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_that_was_written_is_never_sent_again() {
    let rig = Rig::new(Sh::Dash);
    let transport = Faulty::new(&rig, true);
    let mut attempt = rig.command(&["/bin/sleep", "300"]);
    let shells = Shells::new(transport.clone(), rig.account.clone());
    attempt.host = Recorded::new(Arc::new(shells));
    attempt.prepare().await;
    let seen = attempt.act(attempt.launch_action()).await;
    let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.reason(), "ConnectionLost");
    assert_eq!(transport.launches.load(Ordering::SeqCst), 1);
    let claimed = async || {
        let record = attempt.probe().await;
        matches!(record.entry, remote_command::core::record::EntrySeen::Claimed(_))
    };
    until(LIMIT, "the one that was sent arrives", claimed).await.unwrap();
    assert!(claim_of(&attempt.probe().await).exit.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_that_died_since_it_was_last_asked_is_replaced_even_for_a_launch() {
    let rig = Rig::new(Sh::Dash);
    let transport = Faulty::new(&rig, false);
    let mut attempt = rig.command(&["/bin/sleep", "300"]);
    let shells = Shells::new(transport.clone(), rig.account.clone());
    attempt.host = Recorded::new(Arc::new(shells));
    attempt.prepare().await;
    for shell in rig.channels() {
        shell.signal(crate::support::processes::Signal::KILL);
    }
    until(LIMIT, "its end is told", async || transport.ends.load(Ordering::SeqCst) == 1)
        .await
        .unwrap();
    let claimed = attempt.act(attempt.launch_action()).await;
    assert!(matches!(claimed, Seen::Host { .. }), "{claimed:?}");
    assert_eq!((transport.launches.load(Ordering::SeqCst), transport.opened()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_another_machine_answers_new_connections_are_made_now_and_then() {
    let rig = Rig::new(Sh::Dash);
    let transport = Faulty::new(&rig, false);
    let mut attempt = rig.command(&["/bin/sleep", "300"]);
    attempt.launch().await;
    transport.elsewhere.store(true, Ordering::SeqCst);
    let shells = Shells::new(transport.clone(), rig.account.clone());
    attempt.host = Recorded::new(Arc::new(shells));
    let probe = || Action::Probe { entry: attempt.entry.clone() };
    let wrong = |seen: &Seen| matches!(seen, Seen::Unreachable(f) if f.reason() == "WrongHost");
    for _ in 0..3 {
        let seen = attempt.act(probe()).await;
        assert!(wrong(&seen), "{seen:?}");
    }
    assert_eq!(transport.opened(), 1, "the shell is kept while it would be too soon");
    transport.renewable.store(true, Ordering::SeqCst);
    assert!(wrong(&attempt.act(probe()).await));
    assert!(claim_of(&attempt.probe().await).exit.is_none());
    assert_eq!(transport.opened(), 2);
}

/// Opens at once, and never answers.
struct Mute {
    opened: AtomicUsize,
    ends: tokio::sync::broadcast::Sender<()>,
}

#[async_trait]
impl Transport for Mute {
    async fn open(&self, _: &str) -> Result<ExecChannel, Fault> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (input, mut inputs) = mpsc::channel(16);
        let (told, events) = mpsc::channel(64);
        let mut end = self.ends.subscribe();
        tokio::spawn(async move {
            let _ = end.recv().await;
            let _ = told.send(Event::ExitStatus(0)).await;
            let _ = told.send(Event::Closed).await;
            while inputs.recv().await.is_some() {}
        });
        Ok(ExecChannel { input, events })
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_account_is_waited_for_on_its_one_exec() {
    let ends = tokio::sync::broadcast::Sender::new(1);
    let mute = Arc::new(Mute { opened: AtomicUsize::new(0), ends });
    let shells = Shells::new(mute.clone(), remote_command::shim::Account::default());
    for _ in 0..5 {
        // A caller who gives up changes nothing about it.
        let brief = Duration::from_secs(3);
        assert!(tokio::time::timeout(brief, shells.identify(None)).await.is_err());
        let fault = shells.identify(None).await.unwrap_err();
        assert_eq!(fault.reason(), "ReplyTimeout");
        assert_eq!(shells.identify(Some("other")).await.unwrap_err().reason(), "ReplyTimeout");
    }
    mute.ends.send(()).unwrap();
    for _ in 0..3 {
        assert_eq!(shells.identify(None).await.unwrap_err().reason(), "ForcedCommand");
    }
    assert_eq!(mute.opened.load(Ordering::SeqCst), 1);
}

/// Greets as our shell would, and then says `words` after the nonce, for ever.
struct Babbler(&'static str);

#[async_trait]
impl Transport for Babbler {
    async fn open(&self, _: &str) -> Result<ExecChannel, Fault> {
        let (input, mut inputs) = mpsc::channel(16);
        let (told, events) = mpsc::channel(64);
        let words = self.0;
        tokio::spawn(async move {
            let Some(Input::Bytes(hello)) = inputs.recv().await else { return };
            let nonce = String::from_utf8_lossy(&hello).trim().to_owned();
            let greeting = format!("remote-command {nonce}\n").into_bytes();
            let _ = told.send(Event::Stdout(greeting)).await;
            let line = format!("{nonce} {words}\n").repeat(1000).into_bytes();
            while told.send(Event::Stdout(line.clone())).await.is_ok() {}
        });
        Ok(ExecChannel { input, events })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_says_more_than_it_was_asked_is_not_listened_to_for_ever() {
    let began = std::time::Instant::now();
    for words in ["bytes 18446744073709551615", "left 1 0 x", "swept"] {
        let account = remote_command::shim::Account::default();
        let fault =
            Shells::new(Arc::new(Babbler(words)), account).identify(None).await.unwrap_err();
        assert_eq!(fault.reason(), "ProtocolError", "{words}: {fault:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
