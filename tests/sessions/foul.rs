//! SSH servers that put all they can into their words: line ends, terminal sequences, controls
//! of direction, and twenty kilobytes of it. Accept every key.
#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, Disconnect, SshId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Where the words are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Foul {
    /// There is no SSH at all; the service hangs up after its words.
    NoSsh,
    /// In the lines before the version, in the version and in the banner before authentication.
    Version,
    /// In the reason to disconnect, once a channel is opened.
    Disconnect,
    /// In what the account runs in place of our shell.
    Forced,
    /// In the reason why a launch is refused.
    Refused,
    /// In the signal that ended the command, and the name of what it left running.
    Left,
}

pub const ALL: [Foul; 6] =
    [Foul::NoSsh, Foul::Version, Foul::Disconnect, Foul::Forced, Foul::Refused, Foul::Left];

/// What would be a line of its own in a log, clear a screen, set a title and turn text around.
const WORDS: &str = "x\n2026-01-02T03:04:05.678901Z ERROR remote_command: forged\r\u{1b}[2J\
                     \u{1b}]0;owned\u{7}\u{9b}1m\u{202e}\u{2066}\u{2028}\0y";

fn long() -> String {
    format!("{WORDS}{}", "z".repeat(20_000))
}

/// The same on one line and in one word.
fn word() -> String {
    WORDS.replace(['\n', '\r', ' '], "")
}

/// Whether nothing of the words is in `text` but what can be read.
pub fn is_clean(text: &str) -> bool {
    let foul = |c: char| {
        c.is_control() && c != '\n'
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
            || ('\u{2028}'..='\u{2029}').contains(&c)
    };
    !text.contains(foul)
        && !text.contains("zzzzzzzzzz".repeat(80).as_str())
        && text.lines().all(|line| !line.starts_with("2026-01-02T03:04:05.678901Z"))
}

/// A server in this process.
pub struct Server {
    pub port: u16,
    /// Its line of known_hosts.
    pub known_hosts: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(foul: Foul) -> Self {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let known_hosts = format!("[127.0.0.1]:{port} {}", key.public_key().to_openssh().unwrap());
        let mut config = server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::from_millis(10),
            ..server::Config::default()
        };
        if foul == Foul::Version {
            let version = format!("SSH-2.0-x{}", "\u{1b}[2J\u{202e}\u{7}");
            config.server_id = SshId::Standard(Cow::Owned(version));
        }
        let config = Arc::new(config);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (config, peer) = (config.clone(), Peer { foul, heard: Vec::new() });
                running.spawn(async move {
                    match foul {
                        Foul::NoSsh => {
                            let _ =
                                stream.write_all(format!("secret: {}", long()).as_bytes()).await;
                            let _ = stream.shutdown().await;
                            let mut heard = [0; 4096];
                            while let Ok(1..) = stream.read(&mut heard).await {}
                            return;
                        }
                        Foul::Version => {
                            let _ = stream.write_all(format!("{WORDS}\r\n").as_bytes()).await;
                        }
                        Foul::Disconnect | Foul::Forced | Foul::Refused | Foul::Left => {}
                    }
                    if let Ok(session) = server::run_stream(config, stream, peer).await {
                        let _ = session.await;
                    }
                });
            }
        });
        Self { port, known_hosts, task }
    }
}

struct Peer {
    foul: Foul,
    heard: Vec<u8>,
}

impl server::Handler for Peer {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok((self.foul == Foul::Version).then(long))
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.foul == Foul::Disconnect {
            return session.disconnect(Disconnect::ByApplication, &long(), "");
        }
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.heard.clear();
        session.channel_success(id)?;
        if self.foul == Foul::Forced {
            session.data(id, long().into_bytes())?;
            session.exit_status_request(id, 1)?;
            session.close(id)?;
        }
        Ok(())
    }

    /// A helper shell of few words.
    async fn data(
        &mut self,
        id: ChannelId,
        bytes: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.heard.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.heard).into_owned();
        let Some((nonce, rest)) = text.split_once('\n') else { return Ok(()) };
        if rest.is_empty() {
            return session.data(id, format!("remote-command {nonce}\n").into_bytes());
        }
        // Each request ends with a line; the program ends with the line of its last word.
        let at = format!("{nonce} at 0123456789abcdef boot store 5000 1\n");
        let said = if rest.starts_with("rc_sh=") && rest.ends_with("\n.\n") {
            format!("{nonce} hello 1\n{at}{nonce} end\n")
        } else if let Some(request) = rest.strip_prefix(&format!("{nonce} ")) {
            let words: Vec<&str> = request.split_whitespace().collect();
            let (verb, call, token) = (words[0], words[1], words.get(4).unwrap_or(&"-"));
            if verb == "launch" && !request.ends_with(&format!("{call}\n")) {
                return Ok(());
            }
            format!("{at}{}{nonce} end\n", self.answer(verb, nonce, token))
        } else {
            return Ok(());
        };
        self.heard = format!("{nonce}\n").into_bytes();
        session.data(id, said.into_bytes())
    }
}

impl Peer {
    fn answer(&self, verb: &str, nonce: &str, token: &str) -> String {
        let lines = match (verb, self.foul) {
            ("prepare", _) => vec!["entry unclaimed".to_owned()],
            ("sweep", _) => vec!["swept".to_owned()],
            ("launch", Foul::Refused) => {
                vec![format!("refused changed {}", long().replace('\n', " "))]
            }
            _ => vec![
                "entry claimed".to_owned(),
                "claim 7 70 8 80 60 boot gone gone gone".to_owned(),
                "output out 0 0 1".to_owned(),
                "output err 0 0 1".to_owned(),
                format!("exit {token} 137 {} ran 90 - {token} 137 .", word()),
                "tree alive".to_owned(),
                format!("left 9 0 {}", long().replace('\n', " ")),
            ],
        };
        lines.iter().map(|line| format!("{nonce} {line}\n")).collect()
    }
}
