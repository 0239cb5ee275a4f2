//! A TCP link on loopback that can fail: cut, stalled, slowed. It stands between a
//! client and a server and knows nothing of what they say.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Result, until};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Passes on, each piece after this long.
    Open(Duration),
    /// Accepts connections and bytes and passes nothing on: half-open.
    Stalled,
    /// The same for what the client says; what the server says is passed on.
    Mute,
    /// Resets what is open and refuses what is new.
    Cut,
}

pub struct Link {
    port: u16,
    mode: watch::Sender<Mode>,
    /// Counts how often what was open has been forsaken.
    forsaken: watch::Sender<u64>,
    listening: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Link {
    /// Forwards a free port to `target`, both on loopback. It lives on this runtime.
    pub async fn start(target: u16) -> Result<Link> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (mode, modes) = watch::channel(Mode::Open(Duration::ZERO));
        let (said, listening) = watch::channel(true);
        let (forsaken, mark) = watch::channel(0);
        let task = tokio::spawn(serve(Some(listener), (port, target), (modes, mark), said));
        Ok(Link { port, mode, forsaken, listening, task })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Resets every connection and refuses new ones; returns when that is so.
    pub async fn cut(&self) -> Result<()> {
        self.mode.send_replace(Mode::Cut);
        self.wait_listening(false).await
    }

    /// From now on bytes are accepted and go nowhere, in both directions.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stalled);
    }

    /// From now on the client's bytes are accepted and go nowhere; the server's still arrive.
    pub fn mute(&self) {
        self.mode.send_replace(Mode::Mute);
    }

    /// The connections that are open fall silent for ever, without a word; new ones pass.
    pub fn forsake(&self) {
        self.forsaken.send_modify(|count| *count += 1);
    }

    /// What was stalled goes on with every byte in place; what was cut can be dialled again.
    pub async fn heal(&self) -> Result<()> {
        self.slow(Duration::ZERO).await
    }

    /// Passes each piece on only after `delay`, one after the other.
    pub async fn slow(&self, delay: Duration) -> Result<()> {
        self.mode.send_replace(Mode::Open(delay));
        self.wait_listening(true).await
    }

    async fn wait_listening(&self, wanted: bool) -> Result<()> {
        let listening = &self.listening;
        let what = if wanted { "the link listens again" } else { "the link refuses" };
        until(Duration::from_secs(10), what, async || *listening.borrow() == wanted).await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Cut);
        self.task.abort();
    }
}

async fn serve(
    mut listener: Option<TcpListener>,
    (port, target): (u16, u16),
    (mut modes, forsaken): (watch::Receiver<Mode>, watch::Receiver<u64>),
    said: watch::Sender<bool>,
) {
    loop {
        if *modes.borrow_and_update() == Mode::Cut {
            listener = None;
        } else if listener.is_none() {
            // Kept when it fails: the port may be busy for a moment.
            listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.ok();
        }
        said.send_replace(listener.is_some());
        let Some(open) = &listener else {
            let pause = Duration::from_millis(50);
            if let Ok(Err(_)) = tokio::time::timeout(pause, modes.changed()).await {
                return;
            }
            continue;
        };
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            accepted = open.accept() => if let Ok((client, _)) = accepted {
                let mut forsaken = forsaken.clone();
                forsaken.mark_unchanged();
                tokio::spawn(join(client, target, modes.clone(), forsaken));
            },
        }
    }
}

async fn join(
    mut client: TcpStream,
    target: u16,
    mut modes: watch::Receiver<Mode>,
    mut forsaken: watch::Receiver<u64>,
) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return;
    };
    // Small pieces go at once, as they came.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let there = pass(from_client, to_server, modes.clone(), &[Mode::Stalled, Mode::Mute]);
    let back = pass(from_server, to_client, modes.clone(), &[Mode::Stalled]);
    let both = async {
        tokio::select! {
            _ = async { tokio::join!(there, back) } => {}
            _ = forsaken.changed() => std::future::pending().await,
        }
    };
    let cut = tokio::select! {
        () = both => false,
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => true,
    };
    if cut {
        // Closing then resets: a cut is no polite good-bye.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Passes on while the mode is none of those that `hold` it up.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut modes: watch::Receiver<Mode>,
    hold: &[Mode],
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        let Ok(mode) = modes.wait_for(|mode| !hold.contains(mode)).await.map(|m| *m) else {
            return;
        };
        if let Mode::Open(delay) = mode
            && !delay.is_zero()
        {
            tokio::time::sleep(delay).await;
        }
        if count == 0 {
            // The end of one direction only; the other may still have something to say.
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
