//! What `run` keeps of a command between its own lives: a JSON file per namespace and name.
//!
//! The file takes the place of an object's status and uid. It is locked while a `run` is at
//! work, replaced atomically, and flushed to the disk before anything it says is acted upon.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::interval;

use super::documents::Key;
use super::origin::{self, Origin};
use crate::core::cut::Cut;
use crate::core::stage::Stage;
use crate::journal::{Journal, NotSaved};
use crate::lock::Locked;

/// How often it is noted that a `run` is at work.
const ATTENDED: Duration = Duration::from_secs(1);

/// Only its owner may read what was run where.
const PRIVATE: u32 = 0o600;

/// The file of one command, held by this process alone.
#[derive(Debug)]
pub struct Store {
    file: PathBuf,
    kept: Kept,
    /// What a run that begins now is made from.
    now: Option<Origin>,
    /// When a `run` was last known to be at work here before this one.
    left: Option<Timestamp>,
    /// Held until this is dropped, or the process is gone. Its time of change tells until when a
    /// `run` was at work.
    lock: Locked,
}

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    /// The key of the command's records on the host; made once.
    uid: String,
    /// The key of the digests in `origin`; made once.
    #[serde(default = "new_key")]
    key: String,
    /// What the run of the stage was made from; unknown of runs by earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    /// The last `--new-run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_run: Option<NewRun>,
    /// The run whose output has been written to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered: Option<i32>,
    /// How long that output was, by what the host said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<Length>,
    /// Where that output was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
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
    #[error(
        "cannot read what {} says; another version of this program wrote it and may know what is \
         under way: use that one, or another --state-directory",
        .0.display()
    )]
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
        // Before anything here is touched.
        let left = changed(&lock_file).max(changed(&file));
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
        let store = Self { file, kept, now: None, left, lock };
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

    /// The key of the digests of what commands are given.
    pub fn key(&self) -> &str {
        &self.kept.key
    }

    /// What the run of the stage was made from. Of a run by an earlier version the way of its
    /// attempt is known, and nothing else.
    pub fn origin(&self) -> Option<Origin> {
        let stage = &self.kept.stage;
        let kept = self.kept.origin.as_ref().filter(|origin| origin.run == stage.run);
        let own = stage.current.as_ref().filter(|attempt| attempt.entry.run == stage.run);
        let of_attempt = own.map(|attempt| Origin {
            run: stage.run,
            way: origin::way(&attempt.connection),
            ..Origin::default()
        });
        kept.cloned().or(of_attempt)
    }

    /// Tells what the files say now: a run of which nothing was launched is made from that, and
    /// is noted so together with its stage.
    pub fn is_made_from(&mut self, now: Origin) {
        self.now = Some(now);
    }

    /// When a `run` was last known to be at work before this one.
    pub fn left(&self) -> Option<Timestamp> {
        self.left
    }

    /// Notes now and then that a `run` is at work, for as long as it is polled. Kept as a file's
    /// time, which takes no room on a disk that is full.
    ///
    /// # Errors
    /// When the lock's file cannot be had a second time.
    pub fn attend(&self) -> io::Result<impl Future<Output = std::convert::Infallible> + use<>> {
        let lock = self.lock.try_clone()?;
        Ok(async move {
            let mut pace = interval(ATTENDED);
            loop {
                pace.tick().await;
                // Unnoted, this second counts as one without anybody at work; nothing worse.
                let _ = lock.set_modified(SystemTime::now());
            }
        })
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

    /// Where the output of the last run, written to its end, was cut.
    pub fn cut(&self) -> Option<Cut> {
        self.kept.cut.filter(|_| self.is_delivered())
    }

    /// Notes that the output of the last run, of this length, has been written to its end.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub fn note_delivered(&mut self, length: Option<Length>, cut: Option<Cut>) -> io::Result<()> {
        self.kept.delivered = Some(self.kept.stage.run);
        self.kept.length = length;
        self.kept.cut = cut;
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
        let mut part = File::options();
        let mut part = part.create(true).write(true).truncate(true).mode(PRIVATE).open(&beside)?;
        // One that was left behind keeps its mode.
        part.set_permissions(fs::Permissions::from_mode(PRIVATE))?;
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
        Self {
            uid: new_uid(),
            key: new_key(),
            origin: None,
            new_run: None,
            delivered: None,
            length: None,
            cut: None,
            swept: None,
            stage,
        }
    }
}

#[async_trait]
impl Journal for Store {
    async fn write(&mut self, _before: &Stage, stage: &Stage) -> Result<(), NotSaved> {
        let begins = self.kept.origin.as_ref().is_none_or(|origin| origin.run != stage.run);
        if begins || stage.has_launched_nothing() {
            let of_run = |now: &Origin| Origin { run: stage.run, ..now.clone() };
            self.kept.origin = self.now.as_ref().map(of_run);
        }
        // Nobody else writes: the lock is ours.
        self.kept.stage = stage.clone();
        self.replace().map_err(NotSaved::Failed)
    }
}

/// When a file was last changed; `None` for one that is not there.
fn changed(file: &Path) -> Option<Timestamp> {
    let changed = fs::metadata(file).and_then(|metadata| metadata.modified()).ok()?;
    Timestamp::try_from(changed).ok()
}

/// A random key of 256 bits, in hex.
fn new_key() -> String {
    let [high, low]: [u128; 2] = rand::rng().random();
    format!("{high:032x}{low:032x}")
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
