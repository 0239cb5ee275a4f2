//! What `run` keeps of a command between its own lives: a JSON file per namespace and name.
//!
//! The file takes the place of an object's status and uid. It is locked while a `run` is at
//! work, replaced atomically, and flushed to the disk before anything it says is acted upon.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::documents::Key;
use crate::core::stage::Stage;
use crate::journal::{Journal, NotSaved};
use crate::lock::Locked;

/// The file of one command, held by this process alone.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    kept: Kept,
    /// Held until this is dropped, or the process is gone.
    _lock: Locked,
}

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    /// The key of the command's records on the host; made once.
    uid: String,
    /// The last `--new-run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_run: Option<NewRun>,
    /// The run whose output has been written to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered: Option<i32>,
    /// How long that output was, by what the host said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<Length>,
    /// The run after which the host was left clean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    swept: Option<i32>,
    stage: Stage,
}

/// Bytes of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Length {
    pub stdout: u64,
    pub stderr: u64,
}

/// A run that was asked for on the command line: what `spec.rerunToken` is in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewRun {
    token: String,
    /// The `spec.rerunToken` it stands above; another one in the file is a newer wish.
    over: String,
}

/// Why the file of a command could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another `remote-command run` of it is at work (it holds {})", .0.display())]
    Busy(PathBuf),
    #[error("cannot use {}", .0.display())]
    Unusable(PathBuf, #[source] io::Error),
    #[error("cannot read what {} says; it was written by another version of this program", .0.display())]
    Unreadable(PathBuf, #[source] serde_json::Error),
}

impl Store {
    /// Takes the file of `key` below `directory`, making it where there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(directory: &Path, (namespace, name): &Key) -> Result<Self, StoreError> {
        let directory = directory.join(namespace);
        let file = directory.join(format!("{name}.json"));
        let unusable = |error| StoreError::Unusable(file.clone(), error);
        // What was run where is nobody else's business.
        let private = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        private.map_err(|error| StoreError::Unusable(directory.clone(), error))?;
        let lock_file = directory.join(format!("{name}.lock"));
        let lock = File::options().create(true).append(true).open(&lock_file).map_err(unusable)?;
        let lock = match Locked::take(lock) {
            Ok(lock) => lock,
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy(lock_file)),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        };
        let kept = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| StoreError::Unreadable(file.clone(), error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::new(),
            Err(error) => return Err(unusable(error)),
        };
        let store = Self { file, kept, _lock: lock };
        // The uid must not be another one after a crash: records on the host go by it.
        store.replace().map_err(|error| StoreError::Unusable(store.file.clone(), error))?;
        Ok(store)
    }

    /// The key of the command's records on the host.
    pub fn uid(&self) -> &str {
        &self.kept.uid
    }

    /// The stage as it was last saved.
    pub fn stage(&self) -> &Stage {
        &self.kept.stage
    }

    /// The rerun token that counts, given the one in the command's spec.
    pub fn rerun_token(&self, of_spec: &str) -> String {
        match &self.kept.new_run {
            Some(new_run) if new_run.over == of_spec => new_run.token.clone(),
            _ => of_spec.to_owned(),
        }
    }

    /// Asks for one more run than `of_spec` does.
    ///
    /// # Errors
    /// When the wish could not be made durable.
    pub fn ask_for_new_run(&mut self, of_spec: &str) -> Result<(), StoreError> {
        let token = format!("new-run-{}", new_uid());
        self.kept.new_run = Some(NewRun { token, over: of_spec.to_owned() });
        self.replace().map_err(|error| StoreError::Unusable(self.file.clone(), error))
    }

    /// True when the output of the last run has been written to its end.
    pub fn is_delivered(&self) -> bool {
        self.kept.delivered == Some(self.kept.stage.run)
    }

    /// How long the output of the last run was, where it was written to its end and that is
    /// known.
    pub fn delivered_length(&self) -> Option<Length> {
        self.kept.length.filter(|_| self.is_delivered())
    }

    /// Notes that the output of the last run, of this length, has been written to its end.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub fn note_delivered(&mut self, length: Option<Length>) -> io::Result<()> {
        self.kept.delivered = Some(self.kept.stage.run);
        self.kept.length = length;
        self.replace()
    }

    /// True when nothing is left on the host of the last run.
    pub fn is_swept(&self) -> bool {
        self.kept.swept == Some(self.kept.stage.run)
    }

    /// Notes that nothing is left on the host of the last run.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub fn note_swept(&mut self) -> io::Result<()> {
        self.kept.swept = Some(self.kept.stage.run);
        self.replace()
    }

    /// Replaces the file, durably.
    fn replace(&self) -> io::Result<()> {
        let beside = self.file.with_extension("json.part");
        let mut part = File::create(&beside)?;
        part.write_all(&serde_json::to_vec_pretty(&self.kept)?)?;
        part.sync_all()?;
        fs::rename(&beside, &self.file)?;
        let directory = self.file.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Kept {
    fn new() -> Self {
        let stage = Stage::default();
        Self { uid: new_uid(), new_run: None, delivered: None, length: None, swept: None, stage }
    }
}

#[async_trait]
impl Journal for Store {
    async fn write(&mut self, _before: &Stage, stage: &Stage) -> Result<(), NotSaved> {
        // Nobody else writes: the lock is ours.
        self.kept.stage = stage.clone();
        self.replace().map_err(NotSaved::Failed)
    }
}

/// A random UUID (RFC 9562, version 4).
fn new_uid() -> String {
    let bits: u128 = rand::rng().random();
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    let mut uid = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if [8, 12, 16, 20].contains(&at) {
            uid.push('-');
        }
        uid.push(digit);
    }
    uid
}

/// Where the files are unless another directory is named: see the XDG Base Directory
/// Specification.
pub fn default_directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("remote-command").join("run"))
}

#[cfg(test)]
mod tests {
    use super::{Store, StoreError, new_uid};
    use crate::core::stage::Stage;
    use crate::journal::Journal;

    fn key() -> (String, String) {
        ("default".to_owned(), "hello".to_owned())
    }

    #[tokio::test]
    async fn what_was_saved_is_there_again_under_the_same_uid() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path(), &key()).unwrap();
        let uid = store.uid().to_owned();
        let stage = Stage { revision: 7, run: 2, ..Stage::default() };
        store.write(&Stage::default(), &stage).await.unwrap();
        drop(store);
        let store = Store::open(directory.path(), &key()).unwrap();
        assert_eq!((store.uid(), store.stage()), (uid.as_str(), &stage));
        let other = ("default".to_owned(), "other".to_owned());
        assert_ne!(Store::open(directory.path(), &other).unwrap().uid(), uid);
    }

    #[test]
    fn two_at_once_are_one_too_many() {
        let directory = tempfile::tempdir().unwrap();
        let first = Store::open(directory.path(), &key()).unwrap();
        let second = Store::open(directory.path(), &key());
        assert!(matches!(second, Err(StoreError::Busy(_))));
        drop(first);
        Store::open(directory.path(), &key()).unwrap();
    }

    #[test]
    fn a_new_run_is_asked_for_once_and_a_newer_token_in_the_file_counts_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path(), &key()).unwrap();
        assert_eq!(store.rerun_token("a"), "a");
        store.ask_for_new_run("a").unwrap();
        let token = store.rerun_token("a");
        assert_ne!(token, "a");
        drop(store);
        let store = Store::open(directory.path(), &key()).unwrap();
        assert_eq!(store.rerun_token("a"), token);
        assert_eq!(store.rerun_token("b"), "b");
    }

    #[test]
    fn a_file_of_another_version_is_not_guessed_at() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("default")).unwrap();
        std::fs::write(directory.path().join("default/hello.json"), r#"{"uid":"u"}"#).unwrap();
        let refused = Store::open(directory.path(), &key());
        assert!(matches!(refused, Err(StoreError::Unreadable(..))));
    }

    #[test]
    fn uids_are_random_uuids() {
        let uid = new_uid();
        assert_ne!(uid, new_uid());
        assert_eq!((uid.len(), uid.as_bytes()[14]), (36, b'4'));
        assert!(matches!(uid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{uid}");
    }
}
