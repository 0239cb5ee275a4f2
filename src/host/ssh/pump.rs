//! The life of an acknowledged exec: everything read at once, everything sent beside reading.
//!
//! The library's connection stands still while any of its channels is not read. So the pump
//! reads always, whatever its consumer does (but for the moments in which a disk takes what is
//! put by), and a write that waits for window or for the
//! connection never keeps a signal, a close or the output of others.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use russh::{ChannelMsg, Sig};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::exec::{LINGER, Read, Write};
use super::outlet::{BACKLOG, Outlet};
use super::pool::Lease;
use crate::core::fault::{Fault, Ours, Transient};
use crate::core::foreign::foreign;
use crate::host::{Event, Input};

/// After an exit status the channel may be held open by a background child; how long a silence
/// is borne then, while output is still waited for.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// The most of it in all.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Input taken from the sender before it is on the wire. Larger than any value of an object,
/// so that signals queued behind it are always seen.
const STDIN_BACKLOG: usize = 4 << 20;
/// Most characters of a signal's name; those that are no RFC's are `name@domain`.
const LONGEST_SIGNAL: usize = 64;

/// Input accepted and not yet on the wire.
#[derive(Default)]
struct Stdin {
    waiting: VecDeque<Zeroizing<Vec<u8>>>,
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

/// One channel's pump.
pub(super) struct Pump {
    write: Write,
    input: Option<mpsc::Receiver<Input>>,
    outlet: Outlet,
    stdin: Stdin,
    control: VecDeque<Sig>,
    /// True once a status or signal arrived.
    ended: bool,
    until: Option<(Instant, Last)>,
    /// When draining ends although output still comes.
    drained: Option<Instant>,
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
    pub(super) fn new(write: Write, input: mpsc::Receiver<Input>, outlet: Outlet) -> Self {
        Self {
            write,
            input: Some(input),
            outlet,
            stdin: Stdin::default(),
            control: VecDeque::new(),
            ended: false,
            until: None,
            drained: None,
        }
    }

    /// Runs the channel to its end and tells it.
    pub(super) async fn run(mut self, mut read: Read, early: Vec<ChannelMsg>, lease: Lease) {
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
                // Wiped when the last piece of it is on its way.
                let bytes = Bytes::from_owner(bytes);
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
        if self.outlet.is_behind() {
            // A consumer who keeps up as well as it can gets its turn.
            tokio::task::yield_now().await;
        }
        let wanted = self.outlet.has_room();
        let abandoned = matches!(self.until, Some((_, Last::Abandoned)));
        tokio::select! {
            message = read.wait(), if wanted => self.take(message),
            () = finish_lane(data) => Turn::On,
            () = finish_lane(control) => Turn::On,
            input = next(&mut self.input), if room => {
                self.accept(input);
                Turn::On
            }
            listening = self.outlet.drain(!wanted), if !abandoned => {
                if !listening {
                    self.end_by(LINGER, Last::Abandoned);
                }
                Turn::On
            }
            last = expire(self.until) => match (last, read.wait().now_or_never()) {
                // A busy process is no silence: what has arrived counts.
                (Last::Draining, Some(message)) if !self.is_drained() => self.take(message),
                (Last::Draining | Last::Asked | Last::Abandoned, _) => Turn::Expired(last),
            },
        }
    }

    fn accept(&mut self, input: Option<Input>) {
        match input {
            Some(Input::Bytes(bytes)) => {
                self.stdin.bytes += bytes.len();
                self.stdin.waiting.push_back(bytes);
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

    /// The end is known; from now on output is waited for only as long as it comes.
    fn drain(&mut self) {
        self.ended = true;
        self.drained.get_or_insert(Instant::now() + DRAIN_LIMIT);
        self.end_by(DRAIN_GRACE, Last::Draining);
    }

    fn is_drained(&self) -> bool {
        self.drained.is_some_and(|limit| Instant::now() >= limit)
    }

    /// Output came: while it does, a drain goes on.
    fn go_on(&mut self) {
        if let (Some((until, Last::Draining)), Some(limit)) = (&mut self.until, self.drained) {
            *until = (Instant::now() + DRAIN_GRACE).min(limit);
        }
    }

    fn take(&mut self, message: Option<ChannelMsg>) -> Turn {
        let event = match message {
            Some(ChannelMsg::Data { data }) => {
                self.go_on();
                Event::Stdout(data.into())
            }
            Some(ChannelMsg::ExtendedData { data, ext: 1 }) => {
                self.go_on();
                Event::Stderr(data.into())
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.drain();
                Event::ExitStatus(exit_status)
            }
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                self.drain();
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
            Turn::Expired(Last::Draining) => Event::Detached,
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

/// The name of a signal as it may be shown: a server may send any text.
fn signal_text(signal: &Sig) -> String {
    let name = match signal {
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
    };
    foreign(name).chars().take(LONGEST_SIGNAL).collect()
}
