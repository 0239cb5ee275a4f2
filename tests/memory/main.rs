//! What the program's memory does while hosts send as much as they can: the program itself is
//! run and measured, against real and hostile SSH servers.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod hostile;
#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hostile::{ATTACKS, Attack, Hostile};
use russh::keys::{Algorithm, PrivateKey};
use support::sshd::{Kind, Options, Sshd};
use tempfile::TempDir;

/// What the whole program may take, however many hosts attack it.
const MOST: u64 = 256 << 20;
/// By how much the output of one command may make it grow.
const GROWTH: u64 = 16 << 20;
const HOSTS: usize = 10;

/// A `run` under way, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(directory: &Path, text: &str, stdout: Stdio) -> Self {
        let file = directory.join("all.yaml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_remote-command"));
        command.arg("run").arg("-f").arg(file).args(["--parallel", "64", "--new-run"]);
        command.env("XDG_STATE_HOME", directory).env("HOME", directory).env("TMPDIR", directory);
        let err = File::create(directory.join("stderr")).unwrap();
        Self(command.stdin(Stdio::null()).stdout(stdout).stderr(err).spawn().unwrap())
    }

    /// The most memory it has had, in bytes; `None` when it has ended.
    fn peak(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
    }

    /// Looks on until it ends or `enough`, for a while at most; what it had at most meanwhile.
    async fn watch(
        &mut self,
        limit: Duration,
        enough: impl Fn() -> bool,
    ) -> (u64, Option<ExitStatus>) {
        let (began, mut most) = (Instant::now(), 0);
        while began.elapsed() < limit && !enough() {
            most = most.max(self.peak().unwrap_or_default());
            assert!(most < 2 << 30, "no need to wait for more");
            if let Some(status) = self.0.try_wait().unwrap() {
                return (most, Some(status));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (most, None)
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

fn host(name: &str, (port, user): (u16, &str), known_hosts: &str) -> String {
    format!(
        "---\napiVersion: remotecommand.dev/v1alpha1\nkind: RemoteHost\n\
         metadata: {{name: {name}}}\nspec:\n  address: 127.0.0.1\n  port: {port}\n  user: {user}\n  \
         hostKeys:\n    knownHosts: |\n{}  credentials: {{secretRef: {{name: key}}}}\n",
        indented(known_hosts)
    )
}

fn secret(key: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData:\n  password: {}\n  \
         ssh-privatekey: |\n{}",
        "p".repeat(1024),
        indented(key)
    )
}

fn command(name: &str, host: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: remotecommand.dev/v1alpha1\nkind: RemoteCommand\n\
         metadata: {{name: {name}}}\nspec: {{hostRef: {{name: {host}}}, {spec}}}\n"
    )
}

/// Runs commands on ten hosts, each of which attacks every connection in a way of `attacks`.
async fn attacked(seed: u64, attacks: &'static [Attack], seconds: u64) -> u64 {
    let directory = TempDir::new().unwrap();
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let mut text = secret(&key.to_openssh(Default::default()).unwrap());
    let mut hosts = Vec::new();
    for number in 0..HOSTS {
        let hostile = Hostile::start(seed + number as u64, attacks).await;
        let name = format!("host-{number}");
        text += &host(&name, (hostile.port, "root"), &hostile.known_hosts);
        let limits =
            "timeouts: {queue: 1m, execution: 1m}, retry: {backoff: {initial: 100ms, max: 200ms}}";
        for way in 0..6 {
            let spec = match way {
                0 | 1 => {
                    format!("command: [show], execution: Direct, direct: {{shell: None}}, {limits}")
                }
                2 => format!("command: [show], runAs: \"user{way}\", {limits}"),
                _ => format!("command: [show], {limits}"),
            };
            write!(text, "{}", command(&format!("{name}-{way}"), &name, &spec)).unwrap();
        }
        hosts.push(hostile);
    }
    let mut running = Running::start(directory.path(), &text, Stdio::null());
    let begun = || -> usize {
        let all = hosts.iter().flat_map(|host| host.begun.iter());
        all.map(|count| count.load(Ordering::SeqCst)).sum()
    };
    // A busy machine takes a while to come to the point.
    let (_, early) = running.watch(Duration::from_secs(120), || begun() >= HOSTS).await;
    let (most, _) = running.watch(Duration::from_secs(seconds), || false).await;
    for (attack, at) in ATTACKS.iter().zip(0..) {
        let begun: usize = hosts.iter().map(|host| host.begun[at].load(Ordering::SeqCst)).sum();
        if begun > 0 {
            println!("{attack:?} was begun {begun} times");
        }
    }
    println!("seed {seed}: {} attacks, at most {} MiB", begun(), most >> 20);
    let told = fs::read_to_string(directory.path().join("stderr")).unwrap();
    let end = told.lines().rev().take(9).collect::<Vec<_>>().join("\n");
    assert!(begun() >= HOSTS && early.is_none(), "not every host was spoken to: {end}");
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_hosts_that_attack_in_every_way_do_not_take_the_memory() {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random_range(0..1_000_000),
    };
    println!("SEED={seed}");
    let most = attacked(seed, &ATTACKS, 15).await;
    assert!(most > 0 && most < MOST, "SEED={seed}: {} MiB", most >> 20);
}

/// One way of all hosts at a time: the dice seldom let ten do the same.
#[tokio::test(flavor = "multi_thread")]
async fn nor_do_ten_that_do_the_worst_together() {
    for attacks in [
        &[Attack::Survivors][..],
        &[Attack::Chatter],
        &[Attack::Flood],
        &[Attack::Signals],
        &[Attack::Channels],
        &[Attack::Questions],
    ] {
        let most = attacked(1, attacks, 6).await;
        assert!(most > 0 && most < MOST, "{attacks:?}: {} MiB", most >> 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_arrives_whole_and_memory_stays_flat() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let directory = TempDir::new().unwrap();
    let at = (sshd.port(), sshd.user());
    let base = secret(&sshd.private_key(Kind::Ed25519).unwrap())
        + &host("host", at, &sshd.known_hosts_line().unwrap());
    let mut peaks = Vec::new();
    for bytes in [1_000_u64, 50_000_000, 300_000_000] {
        let spec = format!("command: [head, -c, \"{bytes}\", /dev/zero], execution: Direct");
        let out = directory.path().join("out");
        let began = Instant::now();
        let text = base.clone() + &command("flood", "host", &spec);
        let mut running =
            Running::start(directory.path(), &text, File::create(&out).unwrap().into());
        let (most, status) = running.watch(Duration::from_secs(60), || false).await;
        let told = fs::read_to_string(directory.path().join("stderr")).unwrap();
        let Some(status) = status else { panic!("it did not end: {told}") };
        println!("{bytes} bytes in {:?}, at most {} KiB", began.elapsed(), most >> 10);
        assert_eq!(status.code(), Some(0), "{told}");
        assert_eq!(fs::metadata(&out).unwrap().len(), bytes, "{told}");
        peaks.push(most);
    }
    assert!(peaks[1] < peaks[0] + GROWTH && peaks[2] < peaks[0] + GROWTH, "{peaks:?}");
}
