//! A real OpenSSH server on a loopback port, with keys, configuration and records in
//! a directory of its own, and the faults a server can have.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::login::{self, Login, User};
use super::place::Place;
use super::plane::free_ports;
use super::processes::{self, Identity, Signal};
use super::program::{Program, Running};
use super::wire::Wire;
use super::{Result, block_until, keeper, programs};

const READY_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ed25519,
    Ecdsa,
    Rsa,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ed25519 => "ed25519",
            Kind::Ecdsa => "ecdsa",
            Kind::Rsa => "rsa",
        }
    }
}

/// How a server is to be; the default suits most tests.
#[derive(Clone, Debug)]
pub struct Options {
    pub login: Login,
    pub host_keys: Vec<Kind>,
    pub max_sessions: u32,
    /// Variables of every session, beside the one that says where records go.
    pub environment: Vec<(String, String)>,
    /// XDG_STATE_HOME of every session, if not a directory beside the configuration.
    pub state: Option<PathBuf>,
    /// Listens inside the namespace of this wire instead of on loopback.
    pub wire: Option<Arc<Wire>>,
    /// More lines of sshd_config, before all others: sshd takes the first of its kind.
    pub lines: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            login: Login::Current,
            host_keys: vec![Kind::Ed25519],
            max_sessions: 100,
            environment: Vec::new(),
            state: None,
            wire: None,
            lines: Vec::new(),
        }
    }
}

/// What a server consists of, as files in one directory; nothing of it runs.
#[derive(Clone, Debug)]
pub struct Recipe {
    directory: PathBuf,
    state: PathBuf,
    wire: Option<Arc<Wire>>,
    port: u16,
}

impl Recipe {
    /// Takes port and keys from the directory, or makes them.
    pub fn open(directory: &Path, options: &Options) -> Result<Recipe> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let file = directory.join("port");
        let port = match fs::read_to_string(&file).ok().and_then(|t| t.trim().parse().ok()) {
            Some(port) => port,
            None => free_ports::<1>()?[0],
        };
        fs::write(file, format!("{port}\n"))?;
        let state = options.state.clone().unwrap_or_else(|| directory.join("state"));
        let recipe = Recipe { directory, state, wire: options.wire.clone(), port };
        for &kind in &options.host_keys {
            recipe.key("host", kind)?;
        }
        OpenOptions::new().create(true).append(true).open(recipe.authorized_keys())?;
        fs::create_dir_all(recipe.state())?;
        fs::create_dir_all(recipe.home())?;
        recipe.configure(options)?;
        Ok(recipe)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> Ipv4Addr {
        self.wire.as_ref().map_or(Ipv4Addr::LOCALHOST, |wire| wire.address())
    }

    /// XDG_STATE_HOME of every session: records on the host go below it.
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// HOME of every session: the start-up files of whoever runs this stay out of it,
    /// and nothing is written to a home that is not ours.
    pub fn home(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// What every process that a session started carries in its environment.
    pub fn mark(&self) -> String {
        format!("XDG_STATE_HOME={}", self.state().display())
    }

    /// A private key that may log in, in OpenSSH's format.
    pub fn private_key(&self, kind: Kind) -> Result<String> {
        let file = self.directory.join(format!("client_{}", kind.name()));
        if !file.exists() {
            let public = self.key("client", kind)?;
            let mut authorized = OpenOptions::new().append(true).open(self.authorized_keys())?;
            authorized.write_all(public.as_bytes())?;
        }
        Ok(fs::read_to_string(file)?)
    }

    /// A line of known_hosts for this server as it is reached through `port`.
    pub fn known_hosts_line(&self, kind: Kind, port: u16) -> Result<String> {
        let public = self.key("host", kind)?;
        let mut words = public.split_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(format!("[{}]:{port} {kind} {key}\n", self.address()))
    }

    pub fn program(&self) -> Result<Program> {
        self.make_run_directory()?;
        let sshd = programs::debian("sshd", "openssh-server")?;
        let log = self.directory.join("sshd.log");
        let program = match &self.wire {
            None => Program::new(sshd, log),
            // It becomes sshd in place, so the pid stays.
            Some(wire) => Program::new(programs::debian("ip", "iproute2")?, log)
                .args(["netns", "exec", wire.namespace()])
                .arg(sshd),
        };
        Ok(program.args(["-D", "-e", "-f"]).arg(self.directory.join("sshd_config")))
    }

    /// Debian's sshd insists on it; only its service unit would make it.
    fn make_run_directory(&self) -> Result<()> {
        let run = Path::new("/run/sshd");
        if rustix::process::geteuid().is_root() && !run.exists() {
            fs::DirBuilder::new().mode(0o755).recursive(true).create(run)?;
        }
        Ok(())
    }

    /// True when the server shows its banner.
    pub fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect((self.address(), self.port)) else {
            return false;
        };
        let mut start = [0; 4];
        stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && stream.read_exact(&mut start).is_ok()
            && &start == b"SSH-"
    }

    fn authorized_keys(&self) -> PathBuf {
        self.directory.join("authorized_keys")
    }

    /// Makes the key pair unless it is there; gives the public line.
    fn key(&self, whose: &str, kind: Kind) -> Result<String> {
        let file = self.directory.join(format!("{whose}_{}", kind.name()));
        if !file.exists() {
            let program = programs::debian("ssh-keygen", "openssh-client")?;
            let output = Command::new(program)
                .args(["-q", "-N", "", "-C", "", "-t", kind.name(), "-f"])
                .arg(&file)
                .output()?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
            }
        }
        Ok(fs::read_to_string(file.with_extension("pub"))?)
    }

    fn configure(&self, options: &Options) -> Result<()> {
        // Newer servers punish an address for its failures; all of ours come from one.
        let punish = "PerSourcePenalties no";
        let mut lines = options.lines.clone();
        lines.push(punish.to_owned());
        lines.extend(self.lines(options));
        fs::write(self.directory.join("sshd_config"), lines.join("\n") + "\n")?;
        if self.check().is_err() {
            lines.retain(|line| line != punish);
            fs::write(self.directory.join("sshd_config"), lines.join("\n") + "\n")?;
            self.check()?;
        }
        Ok(())
    }

    fn lines(&self, options: &Options) -> Vec<String> {
        let mut lines: Vec<String> = [
            "PidFile none",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "LogLevel VERBOSE",
            "UseDNS no",
            "PrintMotd no",
            "PrintLastLog no",
        ]
        .map(str::to_owned)
        .to_vec();
        // Without PAM sshd refuses an account whose password is locked, also with a key. With
        // it, everybody's start-up time would depend on what is configured on this machine.
        let locked = matches!(options.login, Login::Current) && login::is_current_locked();
        lines.push(format!("UsePAM {}", if locked { "yes" } else { "no" }));
        // Of these the last one counts in some versions.
        if !options.lines.iter().any(|line| line.starts_with("MaxStartups ")) {
            lines.push("MaxStartups 1000:30:2000".to_owned());
        }
        lines.push(format!("ListenAddress {}", self.address()));
        lines.push(format!("Port {}", self.port));
        lines.push(format!("MaxSessions {}", options.max_sessions));
        // A percent sign would begin a token of sshd's.
        let authorized = self.authorized_keys().display().to_string().replace('%', "%%");
        lines.push(format!("AuthorizedKeysFile \"{authorized}\""));
        for kind in &options.host_keys {
            let key = self.directory.join(format!("host_{}", kind.name()));
            lines.push(format!("HostKey \"{}\"", key.display()));
        }
        // Only the first SetEnv counts, so all variables are in one.
        let mut set = format!("SetEnv \"HOME={}\" \"{}\"", self.home().display(), self.mark());
        for (name, value) in &options.environment {
            set.push_str(&format!(" \"{name}={value}\""));
        }
        lines.push(set);
        lines
    }

    fn check(&self) -> Result<()> {
        let sshd = programs::debian("sshd", "openssh-server")?;
        let file = self.directory.join("sshd_config");
        self.make_run_directory()?;
        let output = Command::new(sshd).arg("-t").arg("-f").arg(file).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("sshd: {}", String::from_utf8_lossy(&output.stderr).trim_end()).into())
    }
}

/// A server that runs, and stops when it is dropped, with all that it started.
pub struct Sshd {
    listener: Mutex<Option<Running>>,
    recipe: Recipe,
    // After the processes of its sessions: a user with processes cannot be removed.
    user: User,
    place: Place,
}

impl Sshd {
    pub fn start(options: Options) -> Result<Sshd> {
        let mut last = None;
        // Another process may take the port between the choice and the start.
        for _ in 0..3 {
            match Self::try_start(&options) {
                Ok(sshd) => return Ok(sshd),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| "not tried".into()))
    }

    fn try_start(options: &Options) -> Result<Sshd> {
        let place = Place::new("sshd")?;
        let recipe = Recipe::open(place.path(), options)?;
        keeper::marked(&recipe.mark())?;
        let user = User::of(&options.login, &recipe.home(), &recipe.state())?;
        let sshd = Sshd { listener: Mutex::new(None), recipe, user, place };
        sshd.go_on()?;
        Ok(sshd)
    }

    /// Starts listening on the same port, after [`Sshd::stop`]. The connections that asked
    /// whether it listens have ended when it returns, and are in the log.
    pub fn go_on(&self) -> Result<()> {
        let mut listener = self.recipe.program()?.start()?;
        keeper::family(listener.identity())?;
        let answered = block_until(READY_LIMIT, || self.recipe.answers() || listener.has_ended());
        if !answered || listener.has_ended() {
            return Err(format!("sshd did not start:\n{}", listener.program().last_words()).into());
        }
        if !block_until(READY_LIMIT, || processes::children(listener.pid()).is_empty()) {
            return Err("sshd holds on to a connection that has ended".into());
        }
        *self.listener() = Some(listener);
        Ok(())
    }

    /// Ends the listener and every connection. What the commands started lives on.
    pub fn stop(&self) {
        let Some(mut listener) = self.listener().take() else { return };
        // It must not accept while its connections are being ended.
        listener.signal(Signal::STOP);
        for process in servers_below(listener.pid()) {
            process.signal(Signal::KILL);
        }
        listener.kill();
    }

    pub fn port(&self) -> u16 {
        self.recipe.port
    }

    pub fn address(&self) -> Ipv4Addr {
        self.recipe.address()
    }

    pub fn user(&self) -> &str {
        self.user.name()
    }

    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    pub fn directory(&self) -> &Path {
        self.place.path()
    }

    /// XDG_STATE_HOME of every session: records on the host go below it.
    pub fn state(&self) -> PathBuf {
        self.recipe.state()
    }

    /// HOME of every session.
    pub fn home(&self) -> PathBuf {
        self.recipe.home()
    }

    pub fn private_key(&self, kind: Kind) -> Result<String> {
        self.recipe.private_key(kind)
    }

    /// Its ed25519 line of known_hosts.
    pub fn known_hosts_line(&self) -> Result<String> {
        self.recipe.known_hosts_line(Kind::Ed25519, self.port())
    }

    /// The connections that are open now.
    pub fn sessions(&self) -> Vec<Identity> {
        let pid = self.listener().as_ref().map(Running::pid);
        pid.map(processes::children).unwrap_or_default()
    }

    /// Every process that sessions of this server started and that is still alive.
    pub fn commands(&self) -> Vec<Identity> {
        processes::marked(&self.recipe.mark())
    }

    /// Kills the server's side of every connection; the commands live on.
    pub fn kill_sessions(&self) {
        self.signal_servers(Signal::KILL);
    }

    /// The server and its connections fall silent without closing anything.
    pub fn freeze(&self) {
        if let Some(listener) = self.listener().as_ref() {
            listener.signal(Signal::STOP);
        }
        self.signal_servers(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal_servers(Signal::CONT);
        if let Some(listener) = self.listener().as_ref() {
            listener.signal(Signal::CONT);
        }
    }

    fn signal_servers(&self, signal: Signal) {
        let pid = self.listener().as_ref().map(Running::pid);
        for process in pid.map(servers_below).unwrap_or_default() {
            process.signal(signal);
        }
    }

    fn listener(&self) -> MutexGuard<'_, Option<Running>> {
        self.listener.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The server's own processes, without the commands they started.
fn servers_below(listener: u32) -> Vec<Identity> {
    let mut found = processes::descendants(listener);
    found.retain(|process| processes::name(process.pid).starts_with("sshd"));
    found
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
        processes::kill_marked(&self.recipe.mark());
    }
}
