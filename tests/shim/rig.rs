//! A host in a directory: a shell of choice as `/bin/sh`, its own home and state directory.
//! When it goes, whatever was started in it goes too.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remote_command::core::action::{Action, Entry, Expect, Kind, Seen, StopReason};
use remote_command::core::plan::{Plan, Value};
use remote_command::core::record::{
    Claimed, EntrySeen, ExitRecord, HostRecord, Identity, ProcessIds, Tree,
};
use remote_command::host::local::Local;
use remote_command::host::recorded::{Recorded, Shells};
use remote_command::host::{Host, Material, Stream, Transport};
use remote_command::journal::Saved;
use remote_command::shim::Account;
use zeroize::Zeroizing;

use crate::support::place::Place;
use crate::support::processes::{Identity as Process, Signal, children};
use crate::support::{keeper, programs};

pub const LIMIT: Duration = Duration::from_secs(20);

/// The shells that must do. A missing one fails and names its Debian package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sh {
    Dash,
    Bash,
    Busybox,
    /// Debian's busybox-static: its shell runs its tools itself, whatever is on the path, and most
    /// of them in a process that keeps the shell's environment.
    BusyboxStatic,
}

impl Sh {
    fn program(self) -> PathBuf {
        match self {
            Sh::Dash => programs::debian("dash", "dash").unwrap(),
            Sh::Bash => programs::debian("bash", "bash").unwrap(),
            Sh::Busybox => programs::busybox("busybox").unwrap(),
            Sh::BusyboxStatic => programs::busybox("busybox-static").unwrap(),
        }
    }

    /// Whether its tools come with it.
    pub fn is_busybox(self) -> bool {
        matches!(self, Sh::Busybox | Sh::BusyboxStatic)
    }
}

/// Makes a module for each shell with each of the named tests in it.
#[macro_export]
macro_rules! under_every_shell {
    ($($name:ident)*) => {
        mod dash { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::rig::Sh::Dash).await; })* }
        mod bash { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::rig::Sh::Bash).await; })* }
        mod busybox { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::rig::Sh::Busybox).await; })* }
        mod busybox_static { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::rig::Sh::BusyboxStatic).await; })* }
    };
}

pub struct Rig {
    pub sh: Sh,
    pub place: Place,
    pub transport: Arc<dyn Transport>,
    pub account: Account,
}

impl Rig {
    pub fn new(sh: Sh) -> Rig {
        let place = Place::new("shim").unwrap();
        let bin = place.join("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(place.join("home")).unwrap();
        fs::create_dir(place.join("state")).unwrap();
        if sh.is_busybox() {
            // Where other users can get to it.
            let busybox = bin.join("busybox");
            // By another process: while this one had it open for writing, nobody could run it.
            assert!(Command::new("cp").arg(sh.program()).arg(&busybox).status().unwrap().success());
            let list = Command::new(&busybox).arg("--list").output().unwrap();
            let list = String::from_utf8(list.stdout).unwrap();
            for applet in list.lines().filter(|applet| *applet != "busybox") {
                symlink(&busybox, bin.join(applet)).unwrap();
            }
        } else {
            symlink(sh.program(), bin.join("sh")).unwrap();
        }
        let account = Account {
            shell: bin.join("sh").display().to_string(),
            state_directory: Some(place.join("state").display().to_string()),
            ..Account::default()
        };
        let transport = Arc::new(Rig::local(&place));
        keeper::marked(&mark(&place)).unwrap();
        Rig { sh, place, transport, account }
    }

    pub fn local(place: &Place) -> Local {
        Rig::local_with(place, "bin/sh")
    }

    pub fn local_with(place: &Place, login: &str) -> Local {
        let bin = place.join("bin").display().to_string();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
        Local::new(place.join(login))
            .env("HOME", &place.join("home").display().to_string())
            .env("PATH", &path)
            .env("RIG", &place.path().display().to_string())
    }

    pub fn shells(&self) -> Arc<Shells> {
        Arc::new(Shells::new(self.transport.clone(), self.account.clone()))
    }

    /// A command as a new operator would see it.
    pub fn command(&self, argv: &[&str]) -> Attempt {
        self.attempt(plan(argv))
    }

    /// A script for the rig's own shell.
    pub fn script(&self, text: &str) -> Attempt {
        let mut plan = plan(&[&self.account.shell]);
        plan.program.script = Some(Value::Literal(text.to_owned()));
        self.attempt(plan)
    }

    pub fn attempt(&self, plan: Plan) -> Attempt {
        let entry = Entry { run_as: plan.program.run_as.clone(), ..entry() };
        Attempt { host: Recorded::new(self.shells()), entry, identity: None, plan }
    }

    /// Whatever runs in it, helper shells included.
    pub fn processes(&self) -> Vec<Process> {
        marked_processes(&mark(&self.place))
    }

    /// Helper shells, and supervisors that have a channel of their own.
    pub fn channels(&self) -> Vec<Process> {
        let mine = children(std::process::id());
        self.processes().into_iter().filter(|process| mine.contains(process)).collect()
    }

    pub fn store(&self) -> PathBuf {
        let machine = fs::read_to_string("/etc/machine-id").unwrap();
        self.place.join("state/remote-command").join(machine.trim())
    }

    /// A program that comes before all others on the rig's path.
    pub fn program(&self, name: &str, text: &str) {
        let path = self.place.join("bin").join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A rig that sees mounts which nobody else sees.
pub struct Mounted {
    pub rig: Rig,
    holder: Process,
    mounted: Child,
}

impl Mounted {
    /// Runs `mounts` where the rig will be, with $1 as the rig's directory. Needs root.
    pub async fn new(sh: Sh, mounts: &str) -> Mounted {
        Mounted::entered_by(sh, mounts, "").await
    }

    /// The same, where the login's shell is started by way of `through`.
    pub async fn entered_by(sh: Sh, mounts: &str, through: &str) -> Mounted {
        let mut rig = Rig::new(sh);
        let root = rig.place.path().display().to_string();
        let script = format!(
            "set -e; {mounts}; echo $$ >$1/holder.part; mv $1/holder.part $1/holder; exec sleep 600"
        );
        // The mount goes with its last process.
        let mounted = Command::new(programs::debian("unshare", "util-linux").unwrap())
            .args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script, "sh", &root])
            .env("RIG", &root)
            .spawn()
            .unwrap();
        let pid = text_of(&rig.place.join("holder")).await.trim().parse().unwrap();
        let shell = rig.place.join("bin/sh").display().to_string();
        let login = format!("#!/bin/dash\nexec nsenter -t {pid} -m {through} {shell} \"$@\"\n");
        rig.program("login", &login);
        rig.transport = Arc::new(Rig::local_with(&rig.place, "bin/login"));
        Mounted { rig, holder: Process::of(pid).unwrap(), mounted }
    }

    /// One whose state directory is a small disk.
    pub async fn small_disk(sh: Sh) -> Mounted {
        Mounted::new(sh, "mount -t tmpfs -o size=128k,mode=700 none $1/state").await
    }

    /// Runs a script where the mounts can be seen, with $1 as the state directory.
    pub fn run(&self, script: &str) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.holder.pid.to_string(), "-m", "/bin/sh", "-c", script, "sh"])
            .arg(self.rig.place.join("state"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn fill(&self) {
        self.run("dd if=/dev/zero of=$1/filler bs=4096 count=100; dd if=/dev/zero of=$1/filler2 bs=1 count=5000");
    }

    pub fn free(&self) {
        self.run("rm -f $1/filler $1/filler2");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.mounted.kill();
        let _ = self.mounted.wait();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for process in marked_processes(&mark(&self.place)) {
            process.signal(Signal::KILL);
        }
    }
}

fn mark(place: &Place) -> String {
    format!("RIG={}", place.path().display())
}

fn marked_processes(mark: &str) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
            found.extend(Process::of(pid));
        }
    }
    found
}

/// A fresh entry of an object of its own.
pub fn entry() -> Entry {
    Entry {
        uid: format!("{:032x}", rand::random::<u128>()),
        run: 1,
        attempt: 1,
        kind: Kind::Command,
        token: format!("{:032x}", rand::random::<u128>()),
        machine: String::new(),
        run_as: None,
    }
}

pub fn plan(argv: &[&str]) -> Plan {
    let mut plan = Plan::plain("unused", "here", argv);
    plan.limits.execution = Duration::from_secs(600);
    plan.limits.termination = Duration::from_secs(30);
    plan
}

/// One attempt and the operator's side of it.
pub struct Attempt {
    pub host: Recorded,
    pub plan: Plan,
    pub entry: Entry,
    pub identity: Option<Identity>,
}

impl Attempt {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.plan.program.env.push((name.to_owned(), Value::Literal(value.to_owned())));
        self
    }

    pub async fn act(&self, action: Action) -> Seen {
        let launch = matches!(action, Action::Launch { .. });
        self.act_with(action, launch.then(|| self.material())).await
    }

    /// The literal values of the plan, as the step fetches them.
    pub fn material(&self) -> Material {
        let literal = |value: &Value| {
            let Value::Literal(text) = value else { panic!("{value:?}") };
            Zeroizing::new(text.clone().into_bytes())
        };
        let program = &self.plan.program;
        let env = program.env.iter().map(|(name, value)| (name.clone(), literal(value)));
        let stdin = program.stdin.as_ref().map(literal);
        Material { env: env.collect(), stdin, ..Material::default() }
    }

    pub async fn act_with(&self, action: Action, material: Option<Material>) -> Seen {
        self.host.act(&self.plan, &Saved::for_test(action), material).await
    }

    pub async fn prepare(&mut self) -> &Identity {
        let entry = self.entry.clone();
        let seen = self.act(Action::Prepare { entry }).await;
        let Seen::Prepared { identity, .. } = seen else { panic!("{seen:?}") };
        self.entry.machine.clone_from(&identity.machine);
        self.identity.insert(identity)
    }

    pub fn expect(&self) -> Expect {
        let identity = self.identity.as_ref().unwrap();
        Expect {
            boot: identity.boot.clone(),
            store: identity.store.clone(),
            latest_uptime_ms: identity.uptime_ms + 600_000,
        }
    }

    pub fn launch_action(&self) -> Action {
        Action::Launch { entry: self.entry.clone(), expect: self.expect() }
    }

    /// Launches and insists on a claim.
    pub async fn launch(&mut self) -> Claimed {
        self.prepare().await;
        claimed(self.act(self.launch_action()).await)
    }

    pub async fn probe(&self) -> HostRecord {
        record(self.act(Action::Probe { entry: self.entry.clone() }).await)
    }

    pub async fn terminate(&self, reason: StopReason) -> HostRecord {
        let entry = self.entry.clone();
        let grace_ms = u64::try_from(self.plan.limits.termination.as_millis()).unwrap();
        record(self.act(Action::Terminate { entry, reason, processes: None, grace_ms }).await)
    }

    pub async fn kill(&self, reason: StopReason, processes: Option<ProcessIds>) -> HostRecord {
        let entry = self.entry.clone();
        record(self.act(Action::Kill { entry, reason, processes }).await)
    }

    pub async fn revoke(&self) -> HostRecord {
        let Expect { boot, store, .. } = self.expect();
        record(self.act(Action::Revoke { entry: self.entry.clone(), boot, store }).await)
    }

    pub async fn sweep(&self) {
        let (uid, machine) = (self.entry.uid.clone(), self.entry.machine.clone());
        let (store, run_as) = (self.expect().store, self.entry.run_as.clone());
        let seen = self.act(Action::Sweep { uid, machine, store, run_as }).await;
        assert!(matches!(seen, Seen::Swept { .. }), "{seen:?}");
    }

    /// Probes until the condition holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&HostRecord) -> bool) -> HostRecord {
        let began = Instant::now();
        loop {
            let record = self.probe().await;
            if holds(&record) {
                return record;
            }
            assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}: {record:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The exit record, once both streams have ended as well.
    pub async fn finished(&self) -> ExitRecord {
        let record = self
            .until("exit record and end of output", |record| {
                exit_of(record).is_some()
                    && record.output.stdout.ended
                    && record.output.stderr.ended
            })
            .await;
        exit_of(&record).unwrap()
    }

    /// Launches, waits for the end, and gives code, stdout and stderr.
    pub async fn run(&mut self) -> (i32, Vec<u8>, Vec<u8>) {
        self.launch().await;
        let exit = self.finished().await;
        (exit.code(), self.output(Stream::Stdout).await, self.output(Stream::Stderr).await)
    }

    pub async fn output(&self, stream: Stream) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let offset = all.len() as u64;
            let chunk = self.host.read(&self.entry, stream, offset, 1 << 20).await.unwrap();
            if chunk.bytes.is_empty() {
                return all;
            }
            all.extend(chunk.bytes);
        }
    }

    pub fn directory(&self, rig: &Rig) -> PathBuf {
        let Entry { uid, run, attempt, token, .. } = &self.entry;
        // Half of the token is all that other users may see.
        rig.store().join(uid).join(format!("{run}-{attempt}-{}", &token[..token.len() / 2]))
    }
}

pub fn record(seen: Seen) -> HostRecord {
    let Seen::Host { record, .. } = seen else { panic!("{seen:?}") };
    record
}

pub fn claimed(seen: Seen) -> Claimed {
    claim_of(&record(seen))
}

pub fn claim_of(record: &HostRecord) -> Claimed {
    let EntrySeen::Claimed(claimed) = &record.entry else { panic!("{record:?}") };
    claimed.clone()
}

pub fn exit_of(record: &HostRecord) -> Option<ExitRecord> {
    match &record.entry {
        EntrySeen::Claimed(claimed) => claimed.exit.clone(),
        _ => None,
    }
}

/// Pids of the living tree that the record names.
pub fn alive(record: &HostRecord) -> Vec<u32> {
    match &record.tree {
        Tree::Alive(survivors) => survivors.iter().map(|s| s.pid).collect(),
        _ => Vec::new(),
    }
}

pub fn is_alive(pid: u32) -> bool {
    Process::of(pid).is_some_and(Process::is_alive)
}

/// Waits until the file has text, and gives it.
pub async fn text_of(file: &Path) -> String {
    let began = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(file)
            && text.ends_with('\n')
        {
            return text;
        }
        assert!(began.elapsed() < LIMIT, "{} has no text", file.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
