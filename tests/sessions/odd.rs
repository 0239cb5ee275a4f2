//! Servers that misbehave on purpose: SSH servers of one oddity each, and plain TCP ones.
#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::keys::{Algorithm, HashAlg, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The one thing that is odd.
#[derive(Clone, Debug, PartialEq)]
pub enum Odd {
    Nothing,
    AuthSilent,
    /// Hangs up when a key is offered.
    AuthHangUp,
    /// Shows this banner, and hangs up or refuses the key.
    Shows(&'static str, Then),
    /// Only a password helps.
    Password(&'static str),
    /// Only a keyboard-interactive answer helps.
    Interactive(&'static str),
    /// Asks so many questions for ever, with so many bytes of instructions.
    Asks(usize, usize),
    /// Opens so many channels of all kinds before the command ends.
    OpensChannels(usize),
    OpenSilent,
    /// Channels are opened after this long.
    OpenLate(Duration),
    OpenRefused,
    ExecSilent,
    ExecRefused,
    /// Output without end, and no acknowledgement.
    ExecFlood,
    /// An exit status, and then nothing.
    NoClose,
    /// A close, and no exit status.
    NoStatus,
    /// EOF and status in this order, then the close.
    EofFirst,
    StatusFirst,
    /// A status, and then output in pieces for this many half seconds before the close.
    LateOutput(usize),
    /// Takes part in a Direct launch, in the oddest order.
    Launch(Launch),
    /// Runs for ever; takes no notice of anything.
    Deaf,
}

/// What follows a banner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    HangsUp,
    Refuses,
}

/// What becomes of a Direct launch: `Echo` returns the nonce.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Launch {
    /// A status before anything else, and the connection ends.
    StatusDrop,
    /// A status, and a second later the echo.
    StatusPauseEcho,
    /// The echo, and the connection ends once more came.
    EchoDrop,
    /// The echo, once more came the mark that the command begins and a status, and the connection
    /// ends.
    EchoStatusDrop,
}

/// What a server counted.
#[derive(Debug, Default)]
pub struct Counts {
    pub connections: AtomicUsize,
    pub ended: AtomicUsize,
    pub execs: AtomicUsize,
    pub closes: AtomicUsize,
    /// Set to hang up on every new connection.
    pub hangs_up: AtomicBool,
    /// Channels of the server's that were accepted, and refused.
    pub accepted: AtomicUsize,
    pub refused: AtomicUsize,
    /// Questions that were answered.
    pub answers: AtomicUsize,
    /// Bytes of input that came after the first two lines.
    pub more: AtomicUsize,
}

impl Counts {
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    pub fn execs(&self) -> usize {
        self.execs.load(Ordering::SeqCst)
    }

    pub fn closes(&self) -> usize {
        self.closes.load(Ordering::SeqCst)
    }
}

/// An SSH server in this process.
pub struct Server {
    pub port: u16,
    pub counts: Arc<Counts>,
    /// Its line of known_hosts.
    pub known_hosts: String,
    pub fingerprint: String,
    /// A key it accepts; it accepts every key.
    pub client_key: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

impl Server {
    pub async fn start(odd: Odd) -> Self {
        let key = new_key();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let known_hosts = format!("[127.0.0.1]:{port} {}", key.public_key().to_openssh().unwrap());
        let fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        let client_key = new_key().to_openssh(Default::default()).unwrap().to_string();
        let config = Arc::new(server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::from_millis(10),
            ..server::Config::default()
        });
        let task = tokio::spawn(serve(listener, config, odd, counts.clone()));
        Self { port, counts, known_hosts, fingerprint, client_key, task }
    }
}

async fn serve(listener: TcpListener, config: Arc<server::Config>, odd: Odd, counts: Arc<Counts>) {
    let mut running = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::SeqCst);
        if counts.hangs_up.load(Ordering::SeqCst) {
            continue;
        }
        let counts = counts.clone();
        let handler = Peer {
            odd: odd.clone(),
            counts: counts.clone(),
            kept: Mutex::default(),
            heard: Vec::new(),
        };
        let config = config.clone();
        running.spawn(async move {
            if let Ok(session) = server::run_stream(config, stream, handler).await {
                let _ = session.await;
            }
            counts.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

struct Peer {
    odd: Odd,
    counts: Arc<Counts>,
    /// What would be answered if it were dropped.
    kept: Mutex<Vec<(Channel<Msg>, Option<ChannelOpenHandle>)>>,
    heard: Vec<u8>,
}

fn only(method: MethodKind) -> Auth {
    let methods = MethodSet::from([method].as_slice());
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
}

impl server::Handler for Peer {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        let Odd::Shows(banner, _) = self.odd else { return Ok(None) };
        Ok(Some(banner.to_owned()))
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        match self.odd {
            Odd::AuthSilent => std::future::pending().await,
            Odd::AuthHangUp | Odd::Shows(_, Then::HangsUp) => Err(russh::Error::Disconnect),
            Odd::Shows(_, Then::Refuses) => Ok(Auth::reject()),
            Odd::Password(_) => Ok(only(MethodKind::Password)),
            Odd::Interactive(_) | Odd::Asks(..) => Ok(only(MethodKind::KeyboardInteractive)),
            _ => Ok(Auth::Accept),
        }
    }

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        match self.odd {
            Odd::Password(right) if right == password => Ok(Auth::Accept),
            Odd::Interactive(_) | Odd::Asks(..) => Ok(only(MethodKind::KeyboardInteractive)),
            _ => Ok(Auth::reject()),
        }
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<server::Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        if let Odd::Asks(questions, words) = self.odd {
            let answers = response.into_iter().flatten().count();
            self.counts.answers.fetch_add(answers, Ordering::SeqCst);
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "x".repeat(words).into(),
                prompts: vec![("Password: ".into(), false); questions].into(),
            });
        }
        let Odd::Interactive(right) = self.odd else { return Ok(Auth::reject()) };
        match response {
            None => Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false)].into(),
            }),
            Some(mut said) => match said.next() {
                Some(word) if *word == *right.as_bytes() => Ok(Auth::Accept),
                _ => Ok(Auth::reject()),
            },
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let mut handle = Some(reply);
        match self.odd {
            Odd::OpenSilent => {}
            Odd::OpenRefused => drop(handle.take()),
            Odd::OpenLate(after) => {
                let handle = handle.take();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    if let Some(handle) = handle {
                        handle.accept().await;
                    }
                });
            }
            _ => {
                if let Some(handle) = handle.take() {
                    handle.accept().await;
                }
            }
        }
        self.kept.lock().unwrap().push((channel, handle));
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.odd == Odd::OpenSilent {
            self.kept.lock().unwrap().push((channel, Some(reply)));
        }
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.counts.execs.fetch_add(1, Ordering::SeqCst);
        match self.odd {
            Odd::ExecSilent => return Ok(()),
            Odd::ExecRefused => return session.channel_failure(id),
            Odd::ExecFlood => {}
            _ => session.channel_success(id)?,
        }
        match self.odd {
            Odd::NoClose => session.exit_status_request(id, 3)?,
            Odd::NoStatus => session.close(id)?,
            Odd::EofFirst => {
                session.eof(id)?;
                session.exit_status_request(id, 3)?;
                session.close(id)?;
            }
            Odd::ExecFlood => {
                let handle = session.handle();
                tokio::spawn(async move {
                    while handle.data(id, vec![b'x'; 32 * 1024]).await.is_ok() {}
                });
            }
            Odd::Deaf => {}
            Odd::OpensChannels(count) => {
                let (handle, counts) = (session.handle(), self.counts.clone());
                tokio::spawn(async move {
                    for number in 0..count {
                        let opened = open_channel(&handle, number).await;
                        let told = if opened { &counts.accepted } else { &counts.refused };
                        told.fetch_add(1, Ordering::SeqCst);
                    }
                    let _ = handle.exit_status_request(id, 3).await;
                    let _ = handle.close(id).await;
                });
            }
            Odd::LateOutput(pieces) => {
                session.exit_status_request(id, 3)?;
                let handle = session.handle();
                tokio::spawn(async move {
                    for _ in 0..pieces {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        let _ = handle.data(id, b"late".to_vec()).await;
                    }
                    let _ = handle.close(id).await;
                });
            }
            Odd::Launch(launch) => {
                if matches!(launch, Launch::StatusDrop | Launch::StatusPauseEcho) {
                    session.exit_status_request(id, 0)?;
                }
            }
            _ => {
                session.data(id, b"out".to_vec())?;
                session.exit_status_request(id, 3)?;
                session.eof(id)?;
                session.close(id)?;
            }
        }
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        bytes: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Odd::Launch(launch) = self.odd else { return Ok(()) };
        self.heard.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.heard).into_owned();
        let mut lines = text.splitn(3, '\n');
        let (Some(_), Some(nonce), Some(more)) = (lines.next(), lines.next(), lines.next()) else {
            return Ok(());
        };
        self.counts.more.store(more.len(), Ordering::SeqCst);
        let echo = format!("\n{nonce}.\n").into_bytes();
        match launch {
            Launch::StatusDrop => return Err(russh::Error::Disconnect),
            Launch::StatusPauseEcho => {
                let handle = session.handle();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    // A shell that runs our line writes it on both streams.
                    let _ = handle.extended_data(id, 1, echo.clone()).await;
                    let _ = handle.data(id, echo).await;
                    let _ = handle.close(id).await;
                });
            }
            Launch::EchoDrop | Launch::EchoStatusDrop if more.is_empty() => {
                session.extended_data(id, 1, echo.clone())?;
                session.data(id, echo)?;
            }
            Launch::EchoDrop => return Err(russh::Error::Disconnect),
            Launch::EchoStatusDrop => {
                session.data(id, format!("\u{1}{nonce} ran\n").into_bytes())?;
                session.exit_status_request(id, 3)?;
                let handle = session.handle();
                tokio::spawn(async move {
                    let _ = handle
                        .disconnect(russh::Disconnect::ByApplication, "".into(), "".into())
                        .await;
                });
            }
        }
        Ok(())
    }

    async fn channel_close(&mut self, _: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.counts.closes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Opens a channel of one of all kinds; whether the client took it.
async fn open_channel(handle: &server::Handle, number: usize) -> bool {
    let opened = match number % 6 {
        0 => handle.channel_open_session().await,
        1 => handle.channel_open_agent().await,
        2 => handle.channel_open_x11("127.0.0.1", 1).await,
        3 => handle.channel_open_direct_tcpip("127.0.0.1", 1, "127.0.0.1", 2).await,
        4 => handle.channel_open_forwarded_tcpip("127.0.0.1", 1, "127.0.0.1", 2).await,
        _ => handle.channel_open_forwarded_streamlocal("/socket").await,
    };
    opened.is_ok()
}

/// A TCP server that says `words` to everyone and then does nothing, or hangs up.
pub struct Plain {
    pub port: u16,
    pub counts: Arc<Counts>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plain {
    pub async fn start(words: &'static str, hang_up: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let counted = counts.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                open.spawn(talk(stream, words, hang_up, counted.clone()));
            }
        });
        Self { port, counts, task }
    }
}

/// Counts the connection as ended once the client's side of it is closed.
async fn talk(mut stream: TcpStream, words: &str, hang_up: bool, counts: Arc<Counts>) {
    let _ = stream.write_all(words.as_bytes()).await;
    if !hang_up {
        let mut heard = [0; 4096];
        while let Ok(1..) = stream.read(&mut heard).await {}
    }
    drop(stream);
    counts.ended.fetch_add(1, Ordering::SeqCst);
}
