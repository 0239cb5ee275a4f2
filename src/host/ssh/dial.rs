//! Making a connection: name, TCP, handshake, authentication, each within its own limit.
//!
//! Jump hosts are dialled in order; each further one through a channel of the one before.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::Algorithm;
use russh::{Limits, Preferred, cipher, compression};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::auth::{self, Credentials};
use super::banner::Banner;
use super::breaker::{Breaker, Leave, Login};
use super::client::Client;
use super::fault::{self, Broken, Stage};
use super::gate::Gate;
use super::place::Place;
use super::progress::{Progress, Stage as Waits};
use super::resolve::{Resolved, unresolved};
use super::session::{Ending, Session, Shown};
use super::socket::{Greeting, Socket, Switch, TripOnDrop};
use super::trust::Trust;
use crate::core::connection::{Connection, Hop};
use crate::core::fault::{Cause, Fault, Standing, Transient};
use crate::core::foreign::foreign;
use crate::host::networks::Denied;
use crate::host::{Lookup, LookupError};

/// Bytes of content after which we begin a new key exchange: late, because the library drops a
/// busy connection during an exchange it began itself, and OpenSSH begins one at 1 GiB with
/// ChaCha20. Not later, because ChaCha20 must not see a 32-bit packet number twice: that takes
/// 40 GiB of packets with one byte of output each.
const REKEY_BYTES: usize = 16 << 30;
/// Likewise for time; servers that limit it begin the exchange themselves.
const REKEY_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// A connection takes no new commands after this many bytes: long before either side would
/// begin a key exchange under the load of many.
const WORN_BYTES: u64 = 4 << 30;

/// Messages that wait in the library for each channel's reader, who takes them at once. Behind
/// them the connection stands still.
const UNREAD: usize = 16;

/// What all dialling shares: the memory of refusals, the gate before each host, and how long
/// a connection's keys are used, and what is not connected to.
#[derive(Debug, Default)]
pub(super) struct Etiquette {
    pub(super) breaker: Breaker,
    pub(super) gate: Gate,
    pub(super) wear: Wear,
    pub(super) denied: Denied,
}

/// How many bytes a connection is used for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wear {
    /// We begin a key exchange.
    pub(super) rekey: usize,
    /// No new command is given to it.
    pub(super) worn: u64,
}

impl Default for Wear {
    fn default() -> Self {
        Self { rekey: REKEY_BYTES, worn: WORN_BYTES }
    }
}

/// A dial that failed.
pub(super) struct Undialled {
    pub(super) fault: Fault,
    /// Set when nothing was sent because of an earlier refusal: when that rest is over.
    pub(super) rests_until: Option<Instant>,
}

impl From<Fault> for Undialled {
    fn from(fault: Fault) -> Self {
        Self { fault, rests_until: None }
    }
}

/// Who dials, and what all of it is done with.
pub(super) struct Dialling<'a> {
    /// The namespace. Others' failures are not put down to it, nor its own to others.
    pub(super) scope: &'a str,
    pub(super) lookup: &'a dyn Lookup,
    pub(super) etiquette: &'a Etiquette,
    /// What is waited for is told there.
    pub(super) progress: &'a Progress,
}

/// How far a dial has come: a hop that is reached, and which server that is.
struct Reached {
    session: Box<Session>,
    place: Place,
}

/// Dials every hop of `connection`.
///
/// # Errors
/// The fault of the stage that failed, naming the hop if it is a jump host.
pub(super) async fn dial(
    connection: &Connection,
    dialling: Dialling<'_>,
) -> Result<Session, Undialled> {
    let mut below: Option<Reached> = None;
    let last = connection.hops.len().saturating_sub(1);
    for (index, hop) in connection.hops.iter().enumerate() {
        let reached = dialling.reach(hop, below.take()).await.map_err(|mut undialled| {
            if index != last {
                undialled.fault.message = format!("via {}: {}", hop.name, undialled.fault.message);
            }
            undialled
        })?;
        below = Some(reached);
    }
    let target = below.map(|reached| *reached.session);
    target.ok_or_else(|| Fault::new(Standing::HostUnusable, "the connection names no host").into())
}

impl Dialling<'_> {
    /// Dials one hop, directly or through the session `below`. The turn at the gate is taken
    /// for this hop alone, when all before it stand.
    async fn reach(&self, hop: &Hop, below: Option<Reached>) -> Result<Reached, Undialled> {
        let resting = |(fault, until)| Undialled { fault, rests_until: Some(until) };
        let (scope, etiquette) = (self.scope, self.etiquette);
        let trust = known_keys(hop, self.lookup).await?;
        let credentials = Credentials::read(hop, self.lookup).await?;
        self.progress.tell(hop, Waits::Connection);
        let (way, place) = match &below {
            None => {
                let resolved = Resolved::of(hop, &etiquette.denied).await?;
                let place = resolved.place(hop)?;
                (Way::Direct(resolved), place)
            }
            Some(reached) => {
                let place = reached.place.then(&hop.address, hop.port);
                (Way::Through(&reached.session), place)
            }
        };
        let login = Login::new(scope, &place, hop, &credentials);
        etiquette.breaker.forgive(&login, &hop.name);
        etiquette.breaker.check(&login).map_err(resting)?;
        self.progress.tell(hop, Waits::Turn);
        let turn = etiquette.gate.enter(scope, &place).await?;
        // Others may have been refused meanwhile.
        etiquette.breaker.check(&login).map_err(resting)?;
        let mut greeted = self.meet(hop, &way, trust).await?;
        self.progress.tell(hop, Waits::Authentication);
        let leave = etiquette.breaker.turn(login).await.map_err(resting)?;
        log_in(&mut greeted, hop, credentials, (&etiquette.breaker, leave)).await?;
        drop(turn);
        let session = greeted.into_session(below.map(|reached| reached.session));
        Ok(Reached { session: Box::new(session), place })
    }

    /// Connects and shakes hands. Where fingerprints alone say which key is the host's, they do
    /// not say of what kind it is: a server that shows another of its keys is asked for the rest.
    async fn meet(&self, hop: &Hop, way: &Way<'_>, mut trust: Trust) -> Result<Greeted, Fault> {
        let mut mismatch: Option<Fault> = None;
        loop {
            let shown = Arc::new(OnceLock::new());
            let fault = match self.greet(hop, way, (&trust, &shown)).await {
                Ok(greeted) => return Ok(greeted),
                Err(fault) => fault,
            };
            let missed = fault.cause == Cause::Standing(Standing::HostKeyMismatch);
            match (shown.get(), mismatch.take()) {
                (Some(shown), earlier) if missed && trust.pass_over(&shown.kind) => {
                    mismatch = Some(earlier.unwrap_or(fault));
                }
                // It has no key of a further kind.
                (None, Some(earlier))
                    if fault.cause == Cause::Standing(Standing::NoCommonAlgorithm) =>
                {
                    return Err(earlier);
                }
                (Some(_), Some(earlier)) if missed => return Err(earlier),
                (Some(_) | None, Some(_) | None) => return Err(fault),
            }
        }
    }

    async fn greet(
        &self,
        hop: &Hop,
        way: &Way<'_>,
        (trust, shown): (&Trust, &Arc<OnceLock<Shown>>),
    ) -> Result<Greeted, Fault> {
        self.progress.tell(hop, Waits::Connection);
        let (limit, wear) = (hop.timeouts.connect, self.etiquette.wear);
        match way {
            Way::Direct(resolved) => {
                let deadline = Instant::now() + limit.saturating_sub(resolved.took);
                let tcp = connect(hop, &resolved.addresses, deadline).await?;
                self.progress.tell(hop, Waits::Handshake);
                shake(tcp, hop, (trust, shown), wear).await
            }
            Way::Through(jump) => {
                let tunnel = timeout(limit, jump.tunnel(&hop.address, hop.port)).await;
                let tunnel = tunnel.unwrap_or_else(|_| Err(connect_timeout(hop)))?;
                self.progress.tell(hop, Waits::Handshake);
                shake(tunnel, hop, (trust, shown), wear).await
            }
        }
    }
}

/// The way to one hop.
enum Way<'a> {
    Direct(Resolved),
    Through(&'a Session),
}

async fn known_keys(hop: &Hop, lookup: &dyn Lookup) -> Result<Trust, Fault> {
    let mut text = hop.host_keys.known_hosts.clone().unwrap_or_default();
    if let Some((name, key)) = &hop.host_keys.config_map {
        match lookup.config_map(name, key).await {
            Ok(lines) => match std::str::from_utf8(&lines) {
                Ok(lines) => text.extend(["\n", lines]),
                Err(error) => {
                    let what = format!("key {key:?} of config map {name:?}");
                    let message = format!("{what} is no text of known_hosts lines: {error}");
                    return Err(Fault::new(Standing::HostKeyUnknown, message));
                }
            },
            Err(error @ LookupError::Unavailable(_)) => {
                return Err(Fault::new(Transient::HostUnreachable, error.to_string()));
            }
            Err(error) if error.is_denial() => {
                return Err(Fault::new(Standing::PolicyDenied, error.to_string()));
            }
            Err(error) => return Err(Fault::new(Standing::HostKeyUnknown, error.to_string())),
        }
    }
    Ok(Trust::new(&hop.address, hop.port, &text, &hop.host_keys.fingerprints))
}

/// Connects, trying every address within the one deadline.
async fn connect(
    hop: &Hop,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<TcpStream, Fault> {
    let mut failed: Option<Fault> = None;
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for &address in addresses {
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        let fault = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                tune(&tcp, hop);
                return Ok(tcp);
            }
            Ok(Err(error)) => fault::connecting(&error, &address.to_string()),
            Err(_) => connect_timeout(hop),
        };
        if failed.as_ref().is_none_or(|before| telling(&before.cause) < telling(&fault.cause)) {
            failed = Some(fault);
        }
    }
    Err(failed.unwrap_or_else(|| unresolved(hop, "the name has no address")))
}

/// Of several addresses, which one's fault says most: a refusal comes from the host itself, and
/// an address family that leads nowhere is common.
fn telling(cause: &Cause) -> u8 {
    match cause {
        Cause::Transient(Transient::ConnectionRefused) => 2,
        Cause::Transient(Transient::ConnectTimeout) => 1,
        Cause::Transient(_) | Cause::Standing(_) | Cause::Ours(_) => 0,
    }
}

fn connect_timeout(hop: &Hop) -> Fault {
    let limit = hop.timeouts.connect;
    let message = format!("no connection to {} port {} in {limit:?}", hop.address, hop.port);
    Fault::new(Transient::ConnectTimeout, message)
}

/// Options that only make faults known sooner; a system that lacks one works without it.
fn tune(tcp: &TcpStream, hop: &Hop) {
    use rustix::net::sockopt;
    let _ = tcp.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(tcp, true);
    let unacknowledged = u32::try_from(patience(hop).as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(tcp, unacknowledged);
}

/// How long a silent peer is borne.
fn patience(hop: &Hop) -> Duration {
    hop.keep_alive.interval * hop.keep_alive.missed.max(1)
}

/// A connection that shook hands and has not logged in.
struct Greeted {
    handle: Handle<Client>,
    ending: Arc<Ending>,
    switch: Arc<Switch>,
    guard: TripOnDrop,
    greeting: Arc<Greeting>,
    shown: Arc<OnceLock<Shown>>,
    banner: Arc<Banner>,
}

impl Greeted {
    fn into_session(self, below: Option<Box<Session>>) -> Session {
        self.guard.disarm();
        self.switch.admit();
        Session {
            handle: self.handle,
            ending: self.ending,
            switch: self.switch,
            server_version: self.greeting.version().map(|said| foreign(&said)).unwrap_or_default(),
            host_key: self.shown.get().map(|shown| shown.fingerprint.clone()).unwrap_or_default(),
            below,
        }
    }
}

/// Banner and key exchange. The guard ends the library's task if we give up or are dropped.
async fn shake<S>(
    stream: S,
    hop: &Hop,
    (trust, shown): (&Trust, &Arc<OnceLock<Shown>>),
    wear: Wear,
) -> Result<Greeted, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (switch, greeting) = (Arc::new(Switch::default()), Arc::new(Greeting::default()));
    let (ending, shown) = (Arc::new(Ending::default()), shown.clone());
    let guard = TripOnDrop::new(switch.clone());
    let socket = Socket::new(stream, switch.clone(), greeting.clone(), patience(hop));
    let config = Arc::new(config(hop, trust, wear));
    let banner = Arc::new(Banner::default());
    let client = Client::new(trust.clone(), shown.clone(), ending.clone(), banner.clone());
    let limit = hop.timeouts.handshake;
    match timeout(limit, client::connect_stream(config, socket, client)).await {
        Ok(Ok(handle)) => Ok(Greeted { handle, ending, switch, guard, greeting, shown, banner }),
        Ok(Err(Broken::Library(error))) => match ending.said().await {
            Some(said) => Err(said),
            None => Err(fault::handshake(&error, &greeting)),
        },
        Ok(Err(broken @ (Broken::Key(_) | Broken::Excess(_)))) => {
            Err(broken.fault(Stage::Handshake))
        }
        Err(_) => {
            let missing = if greeting.version().is_none() { "banner" } else { "key exchange" };
            let message = format!("{} sent no complete {missing} in {limit:?}", hop.address);
            Err(Fault::new(Transient::HandshakeTimeout, message))
        }
    }
}

async fn log_in(
    greeted: &mut Greeted,
    hop: &Hop,
    credentials: Credentials,
    (breaker, leave): (&Breaker, Leave),
) -> Result<(), Fault> {
    let limit = hop.timeouts.authenticate;
    let asked = auth::authenticate(&mut greeted.handle, hop, credentials, &greeted.banner);
    let answer = match timeout(limit, asked).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!("{} did not settle authentication in {limit:?}", hop.address);
            Err(Fault::new(Transient::AuthenticationTimeout, message))
        }
    };
    let Err(mut fault) = answer else {
        breaker.settle(leave, None);
        return Ok(());
    };
    if greeted.handle.is_closed() {
        // The library reports a connection that ended meanwhile as a plain refusal.
        let ended = greeted.ending.fault().await;
        let refused = matches!(ended.cause, Cause::Standing(Standing::AuthenticationRejected));
        fault = if refused {
            Fault::new(ended.cause, format!("{}; {}", fault.message, ended.message))
        } else {
            ended
        };
    }
    // A server that hangs up on our credentials has not said that it refuses them, but to go on
    // offering them would be punished alike.
    let hung_up = matches!(fault.cause, Cause::Transient(Transient::ConnectionLost));
    let rejected = fault.cause == Cause::Standing(Standing::AuthenticationRejected);
    let fault = greeted.banner.explain(fault);
    if hung_up || rejected {
        breaker.settle(leave, Some(&fault));
    }
    Err(fault)
}

fn config(hop: &Hop, trust: &Trust, wear: Wear) -> client::Config {
    let (keepalive_interval, keepalive_max) = keep_alive(hop);
    client::Config {
        limits: Limits {
            rekey_write_limit: wear.rekey,
            rekey_read_limit: wear.rekey,
            rekey_time_limit: REKEY_TIME,
        },
        keepalive_interval: Some(keepalive_interval),
        keepalive_max,
        channel_buffer_size: UNREAD,
        preferred: preferred(trust.algorithms(), trust.certificate_algorithms()),
        ..client::Config::default()
    }
}

/// Interval and count in the library's terms. It gives up one interval after the last one
/// allowed, and takes 0 for never: a single one is two halves.
fn keep_alive(hop: &Hop) -> (Duration, usize) {
    let interval = hop.keep_alive.interval;
    match usize::try_from(hop.keep_alive.missed).unwrap_or(usize::MAX) {
        0 | 1 => (interval / 2, 1),
        missed => (interval, missed - 1),
    }
}

/// AES-GCM first where the processor has AES: twice as fast there as ChaCha20.
fn preferred(keys: Vec<Algorithm>, certificates: Vec<Algorithm>) -> Preferred {
    const WITH_AES: &[cipher::Name] =
        &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];
    const WITHOUT: &[cipher::Name] =
        &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_256_CTR, cipher::AES_128_CTR];
    Preferred {
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Owned(certificates),
        cipher: Cow::Borrowed(if aes_in_hardware() { WITH_AES } else { WITHOUT }),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}

#[cfg(target_arch = "x86_64")]
fn aes_in_hardware() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn aes_in_hardware() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn aes_in_hardware() -> bool {
    false
}

#[cfg(test)]
mod tests;
