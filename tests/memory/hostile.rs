//! SSH servers that try to make a client use memory, in ways drawn by dice.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, Handle, Msg, Session};
use russh::{Channel, ChannelId, MethodKind, MethodSet, Sig};
use tokio::net::TcpListener;

/// One way to make a client keep something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// A host with a record whose reports name processes without end.
    Survivors,
    /// The same, and output that nobody asked for while its shell is idle.
    Chatter,
    /// A line without end where a report should be.
    Line,
    /// Output on both streams and on streams that do not exist.
    Flood,
    /// The ends of a command, with long words, again and again.
    Signals,
    /// Channels of every kind that the server opens.
    Channels,
    /// Requests that are about the connection.
    Requests,
    /// Questions instead of a login.
    Questions,
    /// A login that is refused, again and again.
    Refusals,
    /// A long farewell.
    Farewell,
}

pub const ATTACKS: [Attack; 10] = [
    Attack::Survivors,
    Attack::Chatter,
    Attack::Line,
    Attack::Flood,
    Attack::Signals,
    Attack::Channels,
    Attack::Requests,
    Attack::Questions,
    Attack::Refusals,
    Attack::Farewell,
];

/// A server in this process that attacks everyone who comes.
pub struct Hostile {
    pub port: u16,
    pub known_hosts: String,
    /// How often each attack was begun.
    pub begun: Arc<[AtomicUsize; ATTACKS.len()]>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hostile {
    /// Draws from `attacks`, the same ones for the same seed and order of events.
    pub async fn start(seed: u64, attacks: &'static [Attack]) -> Self {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let known_hosts = format!("[127.0.0.1]:{port} {}", key.public_key().to_openssh().unwrap());
        let config = Arc::new(server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::ZERO,
            max_auth_attempts: usize::MAX,
            ..server::Config::default()
        });
        let begun = Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
        let dice = SmallRng::seed_from_u64(seed);
        let task = tokio::spawn(serve(listener, config, (dice, attacks), begun.clone()));
        Self { port, known_hosts, begun, task }
    }
}

type Begun = Arc<[AtomicUsize; ATTACKS.len()]>;

async fn serve(
    listener: TcpListener,
    config: Arc<server::Config>,
    (mut dice, attacks): (SmallRng, &'static [Attack]),
    begun: Begun,
) {
    let mut running = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let begun = begun.clone();
        let dice = SmallRng::seed_from_u64(dice.random());
        let attacker = Attacker { dice, attacks, begun, attack: None, heard: Vec::new() };
        let config = config.clone();
        running.spawn(async move {
            if let Ok(session) = server::run_stream(config, stream, attacker).await {
                let _ = session.await;
            }
        });
    }
}

struct Attacker {
    dice: SmallRng,
    attacks: &'static [Attack],
    begun: Begun,
    /// What this connection is for.
    attack: Option<Attack>,
    /// The end of what came on each channel.
    heard: Vec<(ChannelId, Vec<u8>)>,
}

fn only(method: MethodKind) -> Auth {
    let methods = MethodSet::from([method].as_slice());
    Auth::Reject { proceed_with_methods: Some(methods), partial_success: false }
}

impl Attacker {
    fn attack(&mut self) -> Attack {
        if self.attack.is_none() {
            let drawn = self.attacks[self.dice.random_range(0..self.attacks.len())];
            let at = ATTACKS.iter().position(|attack| *attack == drawn).unwrap();
            self.begun[at].fetch_add(1, Ordering::SeqCst);
            self.attack = Some(drawn);
        }
        self.attack.unwrap()
    }

    fn questions(&mut self) -> Auth {
        // As many as a packet holds, or a few.
        let count = [3, 40_000][self.dice.random_range(0..2)];
        let prompts = vec![("".into(), false); count];
        Auth::Partial { name: "".into(), instructions: "".into(), prompts: prompts.into() }
    }

    fn start(&self, attack: Attack, id: ChannelId, handle: Handle) {
        match attack {
            Attack::Flood => drop(tokio::spawn(flood(handle, id))),
            Attack::Signals => drop(tokio::spawn(signals(handle, id))),
            Attack::Channels => {
                for kind in 0..6 {
                    // Each waits for its answer.
                    for _ in 0..300 {
                        tokio::spawn(channels(handle.clone(), kind));
                    }
                }
            }
            Attack::Requests => {
                for _ in 0..20 {
                    tokio::spawn(requests(handle.clone(), id));
                }
            }
            Attack::Farewell => drop(tokio::spawn(async move {
                let (reason, words) = (russh::Disconnect::ByApplication, "x\n".repeat(100_000));
                let _ = handle.disconnect(reason, words, "".into()).await;
            })),
            Attack::Survivors
            | Attack::Chatter
            | Attack::Line
            | Attack::Questions
            | Attack::Refusals => {}
        }
    }
}

impl server::Handler for Attacker {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(match self.attack() {
            Attack::Questions => only(MethodKind::Password),
            Attack::Refusals => only(MethodKind::PublicKey),
            _ => Auth::Accept,
        })
    }

    async fn auth_password(&mut self, _: &str, _: &str) -> Result<Auth, russh::Error> {
        Ok(only(MethodKind::KeyboardInteractive))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        _: Option<server::Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.questions())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        // Its messages come to the methods below as well.
        drop(channel);
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(id)?;
        let attack = self.attack();
        self.start(attack, id, session.handle());
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        bytes: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let attack = self.attack();
        if !self.heard.iter().any(|(channel, _)| *channel == id) {
            self.heard.push((id, Vec::new()));
        }
        let Some((_, heard)) = self.heard.iter_mut().find(|(channel, _)| *channel == id) else {
            return Ok(());
        };
        heard.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(heard).into_owned();
        let Some((nonce, rest)) = text.split_once('\n') else { return Ok(()) };
        let answer = if heard.first() == Some(&b'!') {
            let nonce = &nonce[1..];
            // The program ends with an empty word, and after it come requests of one line.
            let asked = rest.lines().rev().find(|line| line.starts_with(nonce)).map(str::to_owned);
            if asked.is_none() && !rest.ends_with("\n.\n") {
                return Ok(());
            }
            let named = [15_000, 120_000][self.dice.random_range(0..2)];
            answer(attack, (nonce, asked.as_deref()), named)
        } else {
            format!("remote-command {nonce}\n")
        };
        *heard = format!("!{}\n", nonce.trim_start_matches('!')).into_bytes();
        let handle = session.handle();
        tokio::spawn(async move {
            for piece in answer.into_bytes().chunks(30_000) {
                let _ = handle.data(id, piece.to_vec()).await;
            }
            if attack == Attack::Chatter {
                flood(handle, id).await;
            }
        });
        Ok(())
    }
}

/// What a host with a record says: at first who it is, and later what became of a command, with
/// so many processes `named`.
fn answer(attack: Attack, (nonce, asked): (&str, Option<&str>), named: u32) -> String {
    if attack == Attack::Line {
        return "x".repeat(3_000_000);
    }
    let at = format!("{nonce} at 0123456789abcdef boot:1:1 store 100000 1\n");
    let Some(asked) = asked else { return format!("{at}{nonce} hello 1\n{nonce} end\n") };
    let mut report = at;
    if !asked.contains(" prepare ") {
        report += &format!("{nonce} entry claimed\n");
        report += &format!("{nonce} claim 7 70 8 80 60 boot:1:1 alive alive alive\n");
        report += &format!("{nonce} tree alive\n");
        for pid in 1..named {
            report += &format!("{nonce} left {pid} 0 \u{1b}[31m\n");
        }
        report += &format!("{nonce} output out 5 0 0\n");
    }
    report + &format!("{nonce} end\n")
}

async fn flood(handle: Handle, id: ChannelId) {
    let mut stream = 0;
    loop {
        stream = (stream + 1) % 4;
        let bytes = vec![b'x'; 32 * 1024];
        let sent = match stream {
            0 => handle.data(id, bytes).await,
            _ => handle.extended_data(id, stream, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn signals(handle: Handle, id: ChannelId) {
    let long = || "x".repeat(100_000);
    loop {
        let name = Sig::Custom(long());
        if handle.exit_signal_request(id, name, false, long(), "".into()).await.is_err() {
            return;
        }
    }
}

async fn channels(handle: Handle, kind: u32) {
    let mut open = Vec::new();
    loop {
        let opened = match kind {
            0 => handle.channel_open_agent().await,
            1 => handle.channel_open_session().await,
            2 => handle.channel_open_direct_tcpip("a".repeat(10_000), 1, "b", 2).await,
            3 => handle.channel_open_forwarded_tcpip("a".repeat(10_000), 1, "b", 2).await,
            4 => handle.channel_open_forwarded_streamlocal("a".repeat(10_000)).await,
            _ => handle.channel_open_x11("a".repeat(10_000), 2).await,
        };
        match opened {
            Ok(channel) => open.push(channel),
            Err(russh::Error::ChannelOpenFailure(_)) => {}
            Err(_) => return,
        }
    }
}

async fn requests(handle: Handle, id: ChannelId) {
    while handle.eof(id).await.is_ok() {
        let _ = handle.forward_tcpip("x".repeat(10_000), 1).await;
    }
}
