//! Who this operator is, the same after a restart, and never two at once.
//!
//! The identity is kept in the state directory together with a lock that the kernel gives up
//! when its process ends, however it ends. So an operator that was killed and started again
//! with the same directory knows that its former life is over, and need not wait for its own
//! Lease to run out.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::lock::Locked;

/// How long a lock is tried that somebody else has: a process that was killed has its files until
/// the kernel has taken back its memory, which takes seconds where there was much of it.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two tries. The kernel wakes only who blocks in flock(2), and that could not be ended.
const PAUSE: Duration = Duration::from_millis(100);

/// An identity that nobody else has while this value lives.
#[derive(Debug)]
pub struct Identity {
    name: String,
    _file: Locked,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum NoIdentity {
    #[error("another operator uses the state directory {0:?}; give each its own")]
    Taken(PathBuf),
    #[error("the state directory {0:?} cannot be used; give another with --state-directory")]
    Unusable(PathBuf, #[source] io::Error),
}

impl Identity {
    /// Takes the identity that is kept in `directory`, or makes one; `given` replaces it. Waits
    /// for the end of a process that has it and may have been killed a moment ago.
    ///
    /// # Errors
    /// [`NoIdentity`]; `Taken` after 15 s.
    pub async fn take(directory: &Path, given: Option<&str>) -> Result<Self, NoIdentity> {
        let limit = Instant::now() + PATIENCE;
        loop {
            match Self::try_take(directory, given) {
                Err(NoIdentity::Taken(_)) if Instant::now() < limit => sleep(PAUSE).await,
                taken => return taken,
            }
        }
    }

    fn try_take(directory: &Path, given: Option<&str>) -> Result<Self, NoIdentity> {
        let unusable = |error| NoIdentity::Unusable(directory.to_owned(), error);
        let mut file = match Locked::take(open(directory).map_err(unusable)?) {
            Ok(file) => file,
            Err(TryLockError::WouldBlock) => return Err(NoIdentity::Taken(directory.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        };
        let name = settle(&mut file, given).map_err(unusable)?;
        Ok(Self { name, _file: file })
    }

    /// The identity as it stands in the Lease.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn open(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let path = directory.join("identity");
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn settle(file: &mut File, given: Option<&str>) -> io::Result<String> {
    let mut kept = String::new();
    file.read_to_string(&mut kept)?;
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let kept = kept.trim();
    if !kept.is_empty() {
        return Ok(kept.to_owned());
    }
    let name = format!("{}-{:08x}", host_name(), rand::random::<u32>());
    writeln!(file, "{name}")?;
    file.sync_all()?;
    Ok(name)
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "operator".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_identity_outlives_its_process_and_is_held_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::take(directory.path(), None).await.unwrap();
        let begun = Instant::now();
        let second = Identity::take(directory.path(), None).await;
        assert!(matches!(second, Err(NoIdentity::Taken(_))));
        assert!(begun.elapsed() < PATIENCE * 2, "{:?}", begun.elapsed());
        let name = first.name().to_owned();
        drop(first);
        assert_eq!(Identity::take(directory.path(), None).await.unwrap().name(), name);
    }

    /// Guards against an operator that ends at once because the one before it, which held much
    /// memory, was killed and is not gone yet.
    #[tokio::test(start_paused = true)]
    async fn an_identity_is_waited_for_while_the_process_before_is_taken_apart() {
        let directory = tempfile::tempdir().unwrap();
        let dying = Identity::take(directory.path(), None).await.unwrap();
        let name = dying.name().to_owned();
        tokio::spawn(async move {
            sleep(Duration::from_secs(5)).await;
            drop(dying);
        });
        assert_eq!(Identity::take(directory.path(), None).await.unwrap().name(), name);
    }
}
