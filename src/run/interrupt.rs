//! Ctrl-C and SIGTERM, counted, and a terminal that goes.

use std::fs;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

/// Signals this close together are one: timeout(1) and a terminal that goes tell a process
/// and then its whole group.
const AT_ONCE: Duration = Duration::from_millis(300);

/// What the person at the keyboard wants by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The commands' ends.
    Results,
    /// The commands to be cancelled.
    Cancel,
    /// To be gone, and the commands to be left running.
    Leave,
}

/// Listens from here on; the signals do not end this process any more.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn listen(detach: bool) -> io::Result<watch::Receiver<Wanted>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // What nohup(1) set to be ignored stays so.
    let mut hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
    let (tell, wanted) = watch::channel(Wanted::Results);
    tokio::spawn(async move {
        let mut heard: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = gone(&mut hangup) => {
                    heard = Some(Instant::now());
                    tell.send_replace(Wanted::Leave);
                    continue;
                }
                () = tell.closed() => return,
            }
            if heard.is_none_or(|at| at.elapsed() >= AT_ONCE) {
                heard = Some(Instant::now());
                tell.send_modify(|wanted| *wanted = after(*wanted, detach));
            }
        }
    });
    Ok(wanted)
}

/// Waits until the terminal goes: nobody is there any more who would want the command ended.
async fn gone(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

fn after(wanted: Wanted, detach: bool) -> Wanted {
    match wanted {
        Wanted::Results if !detach => Wanted::Cancel,
        Wanted::Results | Wanted::Cancel | Wanted::Leave => Wanted::Leave,
    }
}
