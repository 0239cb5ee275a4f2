//! Starts the real parts for the tests and the playground: etcd, the API server,
//! OpenSSH, and a link between them that can be cut. It is not a set of mocks, and
//! it knows nothing of the operator.
//!
//! Whatever is started here ends with the process that started it, however that
//! process ends: see [`keeper`].

#![allow(dead_code, reason = "every test binary uses a part of this")]
#![allow(clippy::indexing_slicing, reason = "a panic here is a failed test, as it should be")]

pub mod keeper;
pub mod link;
pub mod login;
pub mod pki;
pub mod place;
pub mod plane;
pub mod processes;
pub mod program;
pub mod programs;
pub mod sshd;
pub mod wire;

use std::time::{Duration, Instant};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Waits until `condition` holds, asking at growing intervals of 10 to 200 ms.
pub async fn until(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> Result<()> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(10);
    while !condition().await {
        if began.elapsed() >= limit {
            return Err(format!("not within {limit:?}: {what}").into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(200));
    }
    Ok(())
}

/// The same for code that may block its thread.
pub fn block_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    while !condition() {
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
    true
}
