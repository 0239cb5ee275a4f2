//! What other users of the host see of a run: the arguments of every process.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use remote_command::core::action::{Refusal, Seen, StopReason};
use remote_command::core::fault::Fault;
use remote_command::core::plan::Value;
use remote_command::core::record::{EntrySeen, Tree};
use remote_command::host::{ExecChannel, Input, Transport};
use tokio::sync::mpsc;

use crate::rig::{LIMIT, Rig, Sh, is_alive, record};
use crate::stop::pids_in;
use crate::support::{programs, until};
use crate::under_every_shell;

under_every_shell! {
    no_argument_of_any_process_tells_other_users_token_marker_nonce_or_value
    an_entry_is_of_its_whole_token_and_not_of_the_half_that_can_be_seen
}

/// Reads what there is to read of all processes over and over, as a user who is nobody, and writes
/// each new word down.
const WATCH: &str = r#"$| = 1; print "watching\n"; my %seen;
    until (-e $ARGV[0]) {
        opendir my $all, '/proc';
        for my $pid (grep /^\d+$/, readdir $all) {
            for my $name ('cmdline', 'cgroup', 'environ') {
                open my $file, '<', "/proc/$pid/$name" or next;
                sysread $file, my $text, 1 << 20 or next;
                $seen{$_}++ or print "$_\n" for split /\0/, $text;
            }
        }
    }"#;

struct Watcher {
    child: Child,
    words: PathBuf,
    stop: PathBuf,
}

impl Watcher {
    async fn start(rig: &Rig) -> Watcher {
        let (words, stop) = (rig.place.join("words"), rig.place.join("enough"));
        let child = Command::new(programs::debian("setpriv", "util-linux").unwrap())
            .args(["--reuid", "65533", "--regid", "65533", "--clear-groups"])
            .arg(programs::debian("perl", "perl-base").unwrap())
            .args(["-e", WATCH])
            .arg(&stop)
            .stdout(fs::File::create(&words).unwrap())
            .spawn()
            .unwrap();
        let watcher = Watcher { child, words, stop };
        until(LIMIT, "it watches", async || !watcher.words().is_empty()).await.unwrap();
        watcher
    }

    fn words(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.words).unwrap()).into_owned()
    }

    fn end(mut self) -> String {
        fs::write(&self.stop, "").unwrap();
        assert!(self.child.wait().unwrap().success());
        self.words()
    }
}

/// Notes the first line that each channel is sent: its nonce.
struct Noting {
    inner: Arc<dyn Transport>,
    nonces: Mutex<Vec<String>>,
}

struct Noted(Arc<Noting>);

#[async_trait]
impl Transport for Noted {
    async fn open(&self, line: &str) -> Result<ExecChannel, Fault> {
        let ExecChannel { input: into, events } = self.0.inner.open(line).await?;
        let (input, mut inputs) = mpsc::channel(16);
        let noting = self.0.clone();
        tokio::spawn(async move {
            let mut first = true;
            while let Some(said) = inputs.recv().await {
                if let (true, Input::Bytes(bytes)) = (first, &said) {
                    let nonce = String::from_utf8_lossy(bytes).trim().to_owned();
                    noting.nonces.lock().unwrap().push(nonce);
                    first = false;
                }
                let _ = into.send(said).await;
            }
        });
        Ok(ExecChannel { input, events })
    }
}

async fn no_argument_of_any_process_tells_other_users_token_marker_nonce_or_value(sh: Sh) {
    let mut rig = Rig::new(sh);
    let noting = Arc::new(Noting { inner: rig.transport.clone(), nonces: Mutex::default() });
    rig.transport = Arc::new(Noted(noting.clone()));
    let watcher = Watcher::start(&rig).await;
    let (mut hidden, mut halves) = (Vec::new(), Vec::new());
    for ends_by_itself in [true, false, true] {
        let pids = rig.place.join(&format!("pids{}", hidden.len()));
        let text = "cat >/dev/null; echo $$ >>$PIDS; [ $ENDS = true ] || sleep 300; sleep 0.5";
        let mut attempt = rig
            .script(text)
            .env("PIDS", pids.to_str().unwrap())
            .env("ENDS", &ends_by_itself.to_string())
            .env("SECRET", "value-of-a-variable");
        attempt.plan.program.stdin = Some(Value::Literal("value-of-stdin".to_owned()));
        attempt.launch().await;
        pids_in(&pids, 1).await;
        attempt.probe().await;
        if !ends_by_itself {
            attempt.terminate(StopReason::Cancelled).await;
            assert_eq!(attempt.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
        }
        attempt.finished().await;
        attempt.probe().await;
        attempt.sweep().await;
        let (half, other) = attempt.entry.token.split_at(16);
        halves.push(half.to_owned());
        hidden.push(other.to_owned());
    }
    let mut revoked = rig.command(&["/bin/true"]);
    revoked.prepare().await;
    revoked.revoke().await;
    hidden.push(revoked.entry.token[16..].to_owned());
    hidden.extend(noting.nonces.lock().unwrap().drain(..));
    hidden.extend(["value-of-a-variable", "value-of-stdin"].map(String::from));
    let words = watcher.end();
    for half in halves {
        assert!(words.contains(&half), "the watcher saw nothing of the run: {words}");
    }
    for word in hidden {
        let told: Vec<&str> = words.lines().filter(|line| line.contains(&word)).collect();
        assert!(told.is_empty(), "{word} in {told:?}");
    }
}

async fn an_entry_is_of_its_whole_token_and_not_of_the_half_that_can_be_seen(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sleep", "300"]);
    attempt.prepare().await;
    let mut other = rig.attempt(attempt.plan.clone());
    (other.entry, other.identity) = (attempt.entry.clone(), attempt.identity.clone());
    other.entry.token.replace_range(16.., &"f".repeat(16));
    assert_eq!(other.probe().await.entry, EntrySeen::Wiped);
    assert_eq!(other.revoke().await.entry, EntrySeen::Wiped);
    let seen = record(other.act(other.launch_action()).await);
    assert_eq!(seen.entry, EntrySeen::Wiped);
    let claim = attempt.launch().await;
    assert_eq!(other.kill(StopReason::Cancelled, None).await.entry, EntrySeen::Wiped);
    assert!(is_alive(claim.processes.command.pid));
    attempt.kill(StopReason::Cancelled, None).await;
}

// Not where the shell counts bytes itself: nothing can step in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_is_gone_before_it_is_read_is_a_refusal() {
    for sh in [Sh::Dash, Sh::Bash, Sh::Busybox] {
        for (input, step) in [("stdin", STDIN_GOES), ("script", SCRIPT_GOES)] {
            let rig = Rig::new(sh);
            let file = format!("{}/*/*/{input}.*", rig.store().display());
            rig.program(step.0, &step.1.replace("FILE", &file));
            let mut attempt = rig.script("cat");
            attempt.plan.program.stdin = Some(Value::Literal("input".to_owned()));
            attempt.prepare().await;
            let seen = attempt.act(attempt.launch_action()).await;
            let Seen::Refused { why: Refusal::HostChanged(why), .. } = &seen else {
                panic!("{seen:?}")
            };
            assert!(why.contains(&format!("{input} was taken away")), "{sh:?}: {why}");
            assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked);
        }
    }
}

/// Goes when all of its five bytes were counted.
const STDIN_GOES: (&str, &str) =
    ("wc", "#!/bin/dash\nn=$(/usr/bin/wc -c)\n[ $n != 5 ] || /bin/rm -f FILE\necho $n\n");

/// Goes when the pipes are made, which is after all inputs were written.
const SCRIPT_GOES: (&str, &str) =
    ("mkfifo", "#!/bin/dash\n/bin/rm -f FILE\nexec /usr/bin/mkfifo \"$@\"\n");
