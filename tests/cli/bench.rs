//! Where a `run` happens, what it is given, and what it tells.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::support::sshd::{Kind, Sshd};
use crate::support::{block_until, processes};

pub const LIMIT: Duration = Duration::from_secs(60);

/// A directory in which everything happens: files, state, and the host's records.
pub struct Bench {
    pub directory: TempDir,
    /// What `run` is given besides the files.
    pub manner: Vec<String>,
}

impl Bench {
    /// Commands run on this machine.
    pub fn local() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), manner: vec!["--local".to_owned()] }
    }

    /// Commands run over SSH, as their files say.
    pub fn remote() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), manner: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A file of what `run` keeps between its own lives.
    pub fn kept(&self, name: &str) -> PathBuf {
        self.state().join("remote-command/run").join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `remote-command run` on `text`.
    pub fn command(&self, text: &str, args: &[&str]) -> Command {
        let file = self.write("command.yaml", text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_remote-command"));
        command.arg("run").args(["-f".as_ref(), file.as_os_str()]).args(&self.manner).args(args);
        command.env("XDG_STATE_HOME", self.state()).env("HOME", self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, text: &str, args: &[&str]) -> Told {
        Running(self.command(text, args).spawn().unwrap()).told()
    }

    /// What the only mark of a stdout says. A mark that is being replaced has a `.part.`
    /// beside it, which says nothing yet.
    pub fn offset_written(&self) -> u64 {
        let marks = self.state().join("remote-command/run/@output");
        let files = fs::read_dir(marks).into_iter().flatten().flatten();
        let stdout = files.map(|file| file.path()).find(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.ends_with(".stdout") && !name.contains(".part.")
        });
        let text = stdout.and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let mark: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        mark["offset"].as_u64().unwrap_or_default()
    }

    /// Everything that was started for commands of this bench on this machine.
    pub fn processes(&self) -> Vec<processes::Identity> {
        processes::marked(&format!("XDG_STATE_HOME={}", self.state().display()))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        processes::kill_marked(&format!("XDG_STATE_HOME={}", self.state().display()));
    }
}

/// A `run` under way, ended with the test.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    /// Reads stdout until a line comes that is `last`.
    pub fn read_to(&mut self, last: &str) -> String {
        let mut read = String::new();
        // Byte by byte: what follows the line must stay for the next reader.
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut lines = BufReader::with_capacity(1, stdout);
        while !read.ends_with(&format!("{last}\n")) {
            assert_ne!(lines.read_line(&mut read).unwrap(), 0, "{last:?} never came: {read:?}");
        }
        read
    }

    /// Waits for its end, at most as long as any test may take.
    pub fn told(mut self) -> Told {
        let (mut stdout, mut stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let out = std::thread::spawn(move || drain(stdout.as_mut()));
        let err = std::thread::spawn(move || drain(stderr.as_mut()));
        let mut status = None;
        let ended = block_until(LIMIT, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            self.0.kill().unwrap();
        }
        let (out, err) = (out.join().unwrap(), err.join().unwrap());
        let Some(status) = status else { panic!("it did not end; it told: {err}") };
        Told { status, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn drain(from: Option<&mut impl Read>) -> String {
    let mut bytes = Vec::new();
    from.map(|from| from.read_to_end(&mut bytes).unwrap());
    String::from_utf8(bytes).unwrap()
}

/// What a `run` said and how it ended.
#[derive(Debug)]
pub struct Told {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Told {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The last line on stderr.
    pub fn last(&self) -> &str {
        self.err.lines().last().unwrap_or_default()
    }
}

/// A RemoteCommand with the given lines of spec.
pub fn manifest(name: &str, spec: &str) -> String {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: remotecommand.dev/v1alpha1\nkind: RemoteCommand\n\
         metadata: {{name: {name}}}\nspec:\n  hostRef: {{name: host}}\n{indented}"
    )
}

/// A RemoteCommand with a script.
pub fn script(name: &str, script: &str) -> String {
    let indented: String = script.lines().map(|line| format!("  {line}\n")).collect();
    manifest(name, &format!("script: |\n{indented}"))
}

/// Notes each start, counts to three, and counts on to ten once it is let go.
pub fn counting(bench: &Bench) -> String {
    let (starts, go) = (bench.path("starts"), bench.path("go"));
    let body = format!(
        "echo started >> {}\nfor n in 1 2 3; do echo $n; done\n\
         until [ -e {} ]; do sleep 0.1; done\n\
         for n in 4 5 6 7 8 9 10; do echo $n; done\nexit 7",
        starts.display(),
        go.display()
    );
    script("counting", &body)
}

/// Lets every `counting` of this bench count on.
pub fn let_go(bench: &Bench) {
    bench.write("go", "");
}

pub const ONE_TO_THREE: &str = "1\n2\n3\n";
pub const ONE_TO_TEN: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

pub fn starts(bench: &Bench) -> usize {
    fs::read_to_string(bench.path("starts")).unwrap_or_default().lines().count()
}

/// A RemoteHost called `host` and its Secret.
pub fn host(sshd: &Sshd, known_hosts: &str) -> String {
    host_at(sshd, sshd.port(), known_hosts)
}

/// The same, reached through another port.
pub fn host_at(sshd: &Sshd, port: u16, known_hosts: &str) -> String {
    host_with(sshd, port, known_hosts, &sshd.private_key(Kind::Ed25519).unwrap())
}

/// The same with a private key.
pub fn host_with(sshd: &Sshd, port: u16, known_hosts: &str, key: &str) -> String {
    let indent =
        |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
    format!(
        "---\napiVersion: remotecommand.dev/v1alpha1\nkind: RemoteHost\n\
         metadata: {{name: host}}\nspec:\n  address: {}\n  port: {}\n  user: {}\n  hostKeys:\n    \
         knownHosts: |\n{}  credentials: {{secretRef: {{name: key}}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData:\n  \
         ssh-privatekey: |\n{}",
        sshd.address(),
        port,
        sshd.user(),
        indent(known_hosts),
        indent(key),
    )
}
