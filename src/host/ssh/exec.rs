//! One exec on a channel: opened, acknowledged, and drained by a task of its own.
//!
//! The library's connection stands still while any of its channels is not read, so the task
//! here reads always, whatever its consumer does. Everything it sends is sent beside reading,
//! never instead of it: a write that waits for window or for the connection must not keep a
//! signal, a close or the output of others.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::pool::Lease;
use crate::core::fault::{Fault, Ours, Standing, Transient};
use crate::host::{Event, Input};

/// How long the server may take to open a channel, and again to acknowledge the exec.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// After an exit status the channel may be held open by a background child; how long output
/// is still waited for.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// How long an abandoned channel may take to end by itself after EOF.
const LINGER: Duration = Duration::from_secs(2);
/// Output kept for a consumer that does not keep up, before the channel is given up.
const BACKLOG: usize = 8 << 20;
/// Input taken from the sender before it is on the wire. Larger than any value of an object,
/// so that signals queued behind it are always seen.
const STDIN_BACKLOG: usize = 4 << 20;

type Read = ChannelReadHalf;
type Write = Arc<ChannelWriteHalf<client::Msg>>;

/// An exec that did not come about.
#[derive(Debug)]
pub(crate) struct Unopened {
    pub(crate) fault: Fault,
    /// True when the request had been sent: the command may have started.
    pub(crate) sent: bool,
}

impl Unopened {
    fn unsent(fault: Fault) -> Self {
        Self { fault, sent: false }
    }
}

/// An acknowledged exec. Dropping it closes the channel.
pub(super) struct Started {
    /// Empty only once taken by [`Started::pump`].
    parts: Option<(Read, Write, Lease)>,
    /// What arrived before the acknowledgement.
    early: Vec<ChannelMsg>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some((read, write, lease)) = self.parts.take() {
            tokio::spawn(linger(read, write, lease));
        }
    }
}

/// Opens a channel and runs `line` on it. May be cancelled: what arrives late is closed.
///
/// # Errors
/// [`Unopened`], with `ReplyTimeout`, `ChannelRefused`, `HostUnusable` (exec refused) or the
/// link's fault.
pub(super) async fn start(lease: Lease, line: &str) -> Result<Started, Unopened> {
    let (ready, started) = oneshot::channel();
    tokio::spawn(open(lease, line.to_owned(), ready));
    started.await.unwrap_or_else(|_| {
        let fault = Fault::new(Ours::LibraryLimit, "opening the channel was abandoned");
        Err(Unopened { fault, sent: true })
    })
}

async fn open(lease: Lease, line: String, ready: oneshot::Sender<Result<Started, Unopened>>) {
    let session = lease.session();
    let opening = session.channel();
    tokio::pin!(opening);
    let channel = match timeout(REPLY_LIMIT, &mut opening).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(fault)) => {
            lease.unopened(&fault);
            drop(lease);
            let _ = ready.send(Err(Unopened::unsent(fault)));
            return;
        }
        Err(_) => {
            lease.suspect();
            let message = format!("the server opened no channel in {REPLY_LIMIT:?}");
            let fault = Fault::new(Transient::ReplyTimeout, message);
            let _ = ready.send(Err(Unopened::unsent(fault)));
            if let Ok(late) = opening.await {
                let _ = late.close().await;
            }
            return;
        }
    };
    let (read, write) = channel.split();
    let mut started = Started { parts: Some((read, Arc::new(write), lease)), early: Vec::new() };
    if ready.is_closed() {
        return;
    }
    let acknowledged = started.acknowledge(line).await;
    let _ = ready.send(acknowledged.map(|()| started));
}

impl Started {
    async fn acknowledge(&mut self, line: String) -> Result<(), Unopened> {
        let Some((read, write, lease)) = &mut self.parts else { return Ok(()) };
        let session = lease.session();
        if write.exec(true, line).await.is_err() {
            return Err(Unopened::unsent(session.ending.fault().await));
        }
        let early = &mut self.early;
        let answer = timeout(REPLY_LIMIT, async {
            loop {
                match read.wait().await {
                    Some(ChannelMsg::Success) => return Ok(()),
                    Some(ChannelMsg::Failure) => return Err(Some(refused())),
                    Some(ChannelMsg::Close) | None => return Err(None),
                    Some(other) => early.push(other),
                }
            }
        });
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Some(fault))) => Err(Unopened::unsent(fault)),
            Ok(Err(None)) => Err(Unopened { fault: session.ending.fault().await, sent: true }),
            Err(_) => {
                lease.suspect();
                let message = format!("the server did not acknowledge the exec in {REPLY_LIMIT:?}");
                Err(Unopened { fault: Fault::new(Transient::ReplyTimeout, message), sent: true })
            }
        }
    }

    /// Runs the channel to its end in a task of its own.
    pub(super) fn pump(mut self, input: mpsc::Receiver<Input>, outlet: Outlet) {
        let Some((read, write, lease)) = self.parts.take() else { return };
        let early = std::mem::take(&mut self.early);
        let pump = Pump {
            write,
            input: Some(input),
            outlet,
            stdin: Stdin::default(),
            control: VecDeque::new(),
            ended: false,
            until: None,
        };
        tokio::spawn(pump.run(read, early, lease));
    }
}

fn refused() -> Fault {
    Fault::new(Standing::HostUnusable, "the server refused to run a command")
}

/// Where events go. Taking one never waits.
pub(super) enum Outlet {
    /// To a consumer that may be slow: kept up to a limit, then the channel is given up.
    Queue(Queue),
    /// To a sink that bounds itself.
    Sink(Box<dyn FnMut(Event) + Send>),
}

/// Events on their way to a slow consumer.
pub(super) struct Queue {
    events: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
    bytes: usize,
}

impl Outlet {
    pub(super) fn queue(events: mpsc::Sender<Event>) -> Self {
        Self::Queue(Queue { events, waiting: VecDeque::new(), bytes: 0 })
    }

    /// Takes an event; false when the consumer is too far behind.
    fn put(&mut self, event: Event) -> bool {
        match self {
            Self::Sink(sink) => {
                sink(event);
                true
            }
            Self::Queue(queue) => {
                queue.bytes += size(&event);
                queue.waiting.push_back(event);
                queue.hand_over();
                queue.bytes <= BACKLOG
            }
        }
    }

    /// Goes on handing events over; never ends when there is nothing to do. False when the
    /// consumer is gone.
    async fn drain(&mut self) -> bool {
        let Self::Queue(queue) = self else { return std::future::pending().await };
        if queue.waiting.is_empty() {
            queue.events.closed().await;
            return false;
        }
        let Ok(permit) = queue.events.reserve().await else { return false };
        if let Some(event) = queue.waiting.pop_front() {
            queue.bytes -= size(&event);
            permit.send(event);
        }
        true
    }

    /// Hands over what is left and the last word, for as long as the consumer listens.
    async fn finish(mut self, last: Event) {
        self.put(last);
        if let Self::Queue(queue) = self {
            for event in queue.waiting {
                if queue.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Queue {
    fn hand_over(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            let bytes = size(&event);
            match self.events.try_send(event) {
                Ok(()) => self.bytes -= bytes,
                Err(
                    mpsc::error::TrySendError::Full(event)
                    | mpsc::error::TrySendError::Closed(event),
                ) => {
                    self.waiting.push_front(event);
                    return;
                }
            }
        }
    }
}

/// Bytes an event holds; small ones count for what they cost.
fn size(event: &Event) -> usize {
    let payload = match event {
        Event::Stdout(bytes) | Event::Stderr(bytes) => bytes.len(),
        Event::ExitStatus(_) | Event::ExitSignal(_) | Event::Closed | Event::Lost(_) => 0,
    };
    payload + size_of::<Event>()
}

/// Input accepted and not yet on the wire.
#[derive(Default)]
struct Stdin {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    eof: bool,
    eof_sent: bool,
}

/// Why the channel is given a last moment before we close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// The end is known; output may still come.
    Draining,
    /// The consumer asked for the close.
    Asked,
    /// The consumer is gone.
    Abandoned,
}

struct Pump {
    write: Write,
    input: Option<mpsc::Receiver<Input>>,
    outlet: Outlet,
    stdin: Stdin,
    control: VecDeque<Sig>,
    /// True once a status or signal arrived.
    ended: bool,
    until: Option<(Instant, Last)>,
}

/// How a channel's life went on.
enum Turn {
    On,
    /// The server closed it, or the connection ended.
    Closed,
    Lost,
    TooSlow,
    /// The last moment has passed.
    Expired(Last),
}

impl Pump {
    async fn run(mut self, mut read: Read, early: Vec<ChannelMsg>, lease: Lease) {
        let mut turn = Turn::On;
        for message in early {
            if let Turn::On = turn {
                turn = self.take(Some(message));
            }
        }
        let (mut data, mut control): (Lane, Lane) = (None, None);
        while let Turn::On = turn {
            self.load(&mut data, &mut control);
            turn = self.turn(&mut read, &mut data, &mut control).await;
        }
        drop((data, control));
        let last = self.conclude(turn, &lease).await;
        drop((read, lease));
        self.outlet.finish(last).await;
    }

    /// Puts the next thing to send on each free lane.
    fn load(&mut self, data: &mut Lane, control: &mut Lane) {
        if data.is_none() {
            let write = self.write.clone();
            if let Some(bytes) = self.stdin.waiting.pop_front() {
                self.stdin.bytes -= bytes.len();
                *data = Some(Box::pin(async move { drop(write.data_bytes(bytes).await) }));
            } else if self.stdin.eof && !self.stdin.eof_sent {
                self.stdin.eof_sent = true;
                *data = Some(Box::pin(async move { drop(write.eof().await) }));
            }
        }
        if control.is_none()
            && let Some(signal) = self.control.pop_front()
        {
            let write = self.write.clone();
            *control = Some(Box::pin(async move { drop(write.signal(signal).await) }));
        }
    }

    async fn turn(&mut self, read: &mut Read, data: &mut Lane, control: &mut Lane) -> Turn {
        let room = self.stdin.bytes < STDIN_BACKLOG;
        let abandoned = matches!(self.until, Some((_, Last::Abandoned)));
        tokio::select! {
            message = read.wait() => self.take(message),
            () = finish_lane(data) => Turn::On,
            () = finish_lane(control) => Turn::On,
            input = next(&mut self.input), if room => {
                self.accept(input);
                Turn::On
            }
            listening = self.outlet.drain(), if !abandoned => {
                if !listening {
                    self.end_by(LINGER, Last::Abandoned);
                }
                Turn::On
            }
            last = expire(self.until) => Turn::Expired(last),
        }
    }

    fn accept(&mut self, input: Option<Input>) {
        match input {
            Some(Input::Bytes(mut bytes)) => {
                self.stdin.bytes += bytes.len();
                self.stdin.waiting.push_back(std::mem::take(&mut *bytes));
            }
            Some(Input::Eof) => self.stdin.eof = true,
            Some(Input::Signal(name)) => self.control.push_back(signal(name)),
            Some(Input::Close) => self.end_by(LINGER, Last::Asked),
            None => {
                self.input = None;
                self.stdin.eof = true;
            }
        }
    }

    /// Sets the last moment, unless an earlier one is set.
    fn end_by(&mut self, within: Duration, last: Last) {
        self.stdin.eof = true;
        let until = Instant::now() + within;
        match self.until {
            Some((earlier, _)) if earlier <= until && last != Last::Abandoned => {}
            _ => self.until = Some((until, last)),
        }
    }

    fn take(&mut self, message: Option<ChannelMsg>) -> Turn {
        let event = match message {
            Some(ChannelMsg::Data { data }) => Event::Stdout(data.into()),
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => Event::Stderr(data.into()),
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.ended = true;
                self.end_by(DRAIN_GRACE, Last::Draining);
                Event::ExitStatus(exit_status)
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                self.ended = true;
                self.end_by(DRAIN_GRACE, Last::Draining);
                Event::ExitSignal(signal_text(&signal_name))
            }
            Some(ChannelMsg::Close) => return Turn::Closed,
            None => return Turn::Lost,
            Some(_) => return Turn::On,
        };
        if self.outlet.put(event) { Turn::On } else { Turn::TooSlow }
    }

    /// Closes what is still open, and gives the last word.
    async fn conclude(&mut self, turn: Turn, lease: &Lease) -> Event {
        let lost = |message: &str| Event::Lost(Fault::new(Transient::ConnectionLost, message));
        let last = match turn {
            Turn::Lost => return Event::Lost(lease.session().ending.fault().await),
            Turn::Closed if self.ended => return Event::Closed,
            Turn::Closed | Turn::On => {
                return lost("the server closed the channel without an exit status");
            }
            Turn::Expired(Last::Draining) => Event::Closed,
            Turn::Expired(Last::Asked | Last::Abandoned) => lost("closed before its end was told"),
            Turn::TooSlow => {
                let message = format!("output was not taken; given up {BACKLOG} bytes behind");
                Event::Lost(Fault::new(Ours::LibraryLimit, message))
            }
        };
        if !self.ended {
            lease.leave_running();
        }
        let _ = timeout(LINGER, self.write.close()).await;
        last
    }
}

/// Something being sent beside everything else.
type Lane = Option<BoxFuture<'static, ()>>;

async fn finish_lane(lane: &mut Lane) {
    match lane {
        Some(sending) => {
            sending.await;
            *lane = None;
        }
        None => std::future::pending().await,
    }
}

async fn next(input: &mut Option<mpsc::Receiver<Input>>) -> Option<Input> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

async fn expire(until: Option<(Instant, Last)>) -> Last {
    match until {
        Some((at, last)) => {
            tokio::time::sleep_until(at).await;
            last
        }
        None => std::future::pending().await,
    }
}

/// Ends a channel nobody wants: EOF, a moment to end by itself, then the close.
async fn linger(mut read: Read, write: Write, lease: Lease) {
    let orderly = async {
        let _ = write.eof().await;
        while let Some(message) = read.wait().await {
            if matches!(message, ChannelMsg::Close) {
                break;
            }
        }
    };
    if timeout(LINGER, orderly).await.is_err() {
        lease.leave_running();
        let _ = timeout(LINGER, write.close()).await;
    }
}

/// The library's form of a signal name of RFC 4254, 6.9.
fn signal(name: &str) -> Sig {
    match name {
        "ABRT" => Sig::ABRT,
        "ALRM" => Sig::ALRM,
        "FPE" => Sig::FPE,
        "HUP" => Sig::HUP,
        "ILL" => Sig::ILL,
        "INT" => Sig::INT,
        "KILL" => Sig::KILL,
        "PIPE" => Sig::PIPE,
        "QUIT" => Sig::QUIT,
        "SEGV" => Sig::SEGV,
        "TERM" => Sig::TERM,
        "USR1" => Sig::USR1,
        other => Sig::Custom(other.to_owned()),
    }
}

fn signal_text(signal: &Sig) -> String {
    match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    }
    .to_owned()
}
