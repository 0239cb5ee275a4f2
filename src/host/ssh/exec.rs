//! Beginning an exec: a channel opened and the request acknowledged, each within a limit.
//!
//! Opening runs in a task of its own, because it cannot be cancelled: the server would keep a
//! channel that nobody closes. What is no longer wanted when it arrives is closed.

use std::sync::Arc;
use std::time::Duration;

use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::outlet::Outlet;
use super::pool::Lease;
use super::pump::Pump;
use crate::core::fault::{Fault, Ours, Standing, Transient};
use crate::host::Input;

/// How long the server may take to open a channel, and again to acknowledge the exec.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// How long an abandoned channel may take to end by itself after EOF.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How long a channel that was given up is still expected, to be closed when it comes.
const LATE_LIMIT: Duration = Duration::from_secs(20);
/// Most output taken before the acknowledgement: a server owes none.
const EARLY_LIMIT: usize = 256 * 1024;

pub(super) type Read = ChannelReadHalf;
pub(super) type Write = Arc<ChannelWriteHalf<client::Msg>>;

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
            // Its place is then given back, and the connection ends with its last command.
            if let Ok(Ok(late)) = timeout(LATE_LIMIT, opening).await {
                let _ = timeout(LINGER, late.close()).await;
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
        let early = &mut self.early;
        let mut taken = 0;
        let answer = timeout(REPLY_LIMIT, async {
            if write.exec(true, line).await.is_err() {
                return Err((None, false));
            }
            loop {
                match read.wait().await {
                    Some(ChannelMsg::Success) => return Ok(()),
                    Some(ChannelMsg::Failure) => return Err((Some(refused()), false)),
                    Some(ChannelMsg::Close) => return Err((Some(closed()), true)),
                    None => return Err((None, true)),
                    Some(other) => {
                        taken += size(&other);
                        if taken > EARLY_LIMIT {
                            return Err((Some(flooded()), true));
                        }
                        early.push(other);
                    }
                }
            }
        });
        match answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err((Some(fault), sent))) => Err(Unopened { fault, sent }),
            Ok(Err((None, sent))) => Err(Unopened { fault: session.ending.fault().await, sent }),
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
        tokio::spawn(Pump::new(write, input, outlet).run(read, early, lease));
    }
}

fn closed() -> Fault {
    let message = "the server closed the channel without acknowledging the exec";
    Fault::new(Transient::ConnectionLost, message)
}

fn flooded() -> Fault {
    let message = "the server sends output instead of acknowledging the exec";
    Fault::new(Ours::ProtocolError, message)
}

/// Bytes a message holds; small ones count for what they cost.
fn size(message: &ChannelMsg) -> usize {
    let payload = match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => data.len(),
        ChannelMsg::ExitSignal {
            signal_name: Sig::Custom(name), error_message, lang_tag, ..
        } => name.len() + error_message.len() + lang_tag.len(),
        ChannelMsg::ExitSignal { error_message, lang_tag, .. } => {
            error_message.len() + lang_tag.len()
        }
        _ => 0,
    };
    payload + size_of::<ChannelMsg>()
}

fn refused() -> Fault {
    Fault::new(Standing::HostUnusable, "the server refused to run a command")
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
