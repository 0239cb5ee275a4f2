//! Effects towards machines: a channel to run one constant line on, and the
//! verbs built on it. Not here: what to do (`core`), and where results are kept.

mod account;
pub mod contact;
mod direct;
pub mod hosts;
mod inputs;
pub mod local;
mod machine;
pub mod networks;
mod recall;
pub mod recorded;
mod shell;
mod shells;
mod shortage;
pub mod spools;
mod ssh;

use std::collections::BTreeMap;

pub use recall::Recall;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::core::action::{Action, Entry, Seen};
use crate::core::fault::Fault;
use crate::core::plan::Plan;
pub use crate::core::record::Stream;
use crate::journal::Saved;

/// A way to a machine: SSH, or `/bin/sh` on this one.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Runs `line` on a fresh channel through the account's login shell. The line is one of
    /// our constants: one line, shell-neutral, no data in it.
    ///
    /// # Errors
    /// The fault of the stage that failed: dial, handshake, authentication, channel, exec.
    async fn open(&self, line: &str) -> Result<ExecChannel, Fault>;

    /// Opens further channels on new connections, because another machine answers than was
    /// asked for, or an account that may not be used. False when that would be too soon after the last time, or does not apply.
    fn renew(&self) -> bool {
        false
    }

    /// True when another channel has to wait until one of those in use is given back.
    fn is_full(&self) -> bool {
        false
    }
}

/// One running exec. Dropping it closes the channel (and says nothing about the process).
#[derive(Debug)]
pub struct ExecChannel {
    /// Bounded; a full queue means the far side does not read.
    pub input: mpsc::Sender<Input>,
    /// Bounded; must be drained by the reader. Ends after `Closed`, `Detached` or `Lost`.
    pub events: mpsc::Receiver<Event>,
}

/// What is sent on a channel.
#[derive(Debug)]
pub enum Input {
    Bytes(Zeroizing<Vec<u8>>),
    Eof,
    /// A signal name of RFC 4254, 6.9, without SIG.
    Signal(&'static str),
    Close,
}

/// What arrives on a channel.
#[derive(Debug)]
pub enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    ExitStatus(u32),
    /// Signal name without SIG.
    ExitSignal(String),
    /// The server closed the channel in order: nothing of what it had to say is missing.
    Closed,
    /// The end was told, and the channel stayed open (a child may hold it) until we closed it:
    /// the last of the output may be missing.
    Detached,
    /// The connection ended under it; nobody knows what became of the process.
    Lost(Fault),
}

/// Takes a channel's events, and bounds what it keeps.
pub(crate) trait Sink: Send + Sync {
    /// Takes an event. Never waits.
    fn take(&mut self, event: Event);

    /// False when no more output should be read for a moment: what is taken all the same is
    /// kept.
    fn has_room(&self) -> bool;

    /// Waits until there is room. May be cancelled.
    fn room(&self) -> BoxFuture<'_, ()>;
}

/// What a check of a host learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The server's identification line (RFC 4253, 4.2).
    pub server_version: String,
    /// `SHA256:...` of the key it showed.
    pub host_key_fingerprint: String,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub stream: Stream,
    /// Offset of the first byte in its stream.
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// Known to have had more than is kept: its limit was reached, or a Direct channel did not
    /// come to an orderly end. For recorded output the record tells, and this is false.
    pub truncated: bool,
}

/// Values fetched for one launch and forgotten after it.
#[derive(Debug, Default)]
pub struct Material {
    pub env: Vec<(String, Zeroizing<Vec<u8>>)>,
    pub stdin: Option<Zeroizing<Vec<u8>>>,
    /// A script that the plan only names.
    pub script: Option<Zeroizing<Vec<u8>>>,
    /// What the script's own first line chooses to run it, where the plan names nothing.
    pub interpreter: Vec<String>,
}

/// Where Secrets and ConfigMaps of one namespace are looked up, by name, at the moment of use.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// The Secret's keys and values.
    ///
    /// # Errors
    /// [`LookupError`]; a source that is down is not the same as a missing object.
    async fn secret(&self, name: &str) -> Result<SecretValues, LookupError>;

    /// One key of a ConfigMap, from its `data` or `binaryData`.
    ///
    /// # Errors
    /// As for [`Lookup::secret`].
    async fn config_map(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError>;

    /// One key of a ConfigMap, from its `data` only. The default is for sources that keep
    /// nothing else.
    ///
    /// # Errors
    /// As for [`Lookup::secret`], and [`LookupError::Binary`].
    async fn config_map_text(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
        self.config_map(name, key).await
    }
}

/// A Secret's content, wiped when dropped.
pub type SecretValues = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Why something referred to could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("secret {0:?} does not exist")]
    SecretNotFound(String),
    #[error("secret {0:?} has no key {1:?}")]
    SecretKeyNotFound(String, String),
    #[error("config map {0:?} or its key {1:?} does not exist")]
    ConfigMapNotFound(String, String),
    #[error("key {1:?} of config map {0:?} is in binaryData; text goes into data")]
    Binary(String, String),
    /// It may be there; whoever gives out the rights has to let us read it.
    #[error("{0} may not be read: {1}")]
    Denied(String, String),
    /// It is there, and this operator reads only Secrets that carry a label: the Secret, the label.
    #[error(
        "secret {0:?} does not carry the label {1}, and this operator reads no other secrets \
         (--secret-label); whoever may change the secret can label it"
    )]
    Unlabelled(String, String),
    /// The API server could not be asked; says nothing about the object.
    #[error("the source of secrets could not be asked: {0}")]
    Unavailable(String),
}

impl LookupError {
    /// Whether the object is there and this process may not read it.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Denied(..) | Self::Unlabelled(..) => true,
            Self::SecretNotFound(_)
            | Self::SecretKeyNotFound(..)
            | Self::ConfigMapNotFound(..)
            | Self::Binary(..)
            | Self::Unavailable(_) => false,
        }
    }
}

/// The verbs on one machine, for one object's plan.
#[async_trait]
pub trait Host: Send + Sync {
    /// Performs a saved action and tells what was seen. `material` is given for a Launch only.
    /// A fault is a `Seen::Unreachable`, or for a Launch that was not sent a `Seen::Refused`.
    ///
    /// Always ends. For a recorded command each exchange with the host waits at most six reply
    /// limits for a helper shell, while others are being opened; then for the limits of making a
    /// connection and a channel; and a reply limit at most for each step of a shell: its
    /// greeting, its program, the answer, and the last again where a shell dies meanwhile. A
    /// Launch makes up to three exchanges. For a Direct command it is the limits of the
    /// connection and the channel, and of the command's beginning or of a kill.
    async fn act(&self, plan: &Plan, action: &Saved<Action>, material: Option<Material>) -> Seen;

    /// The same while `recall` is not said. `None` when it was, and nothing that starts or ends
    /// anything was sent; a Launch then is `Seen::Refused`, because it is never sent again. What
    /// was sent is waited for.
    async fn act_unless(
        &self,
        plan: &Plan,
        action: (&Saved<Action>, Option<Material>),
        recall: &Recall,
    ) -> Option<Seen> {
        let acting = self.act(plan, action.0, action.1);
        if recall::may_be_torn(action.0.get()) {
            return recall.unless(acting).await;
        }
        Some(acting.await)
    }

    /// What is waited for while a connection to it is being made, in words; `None` while none is.
    fn waits_for(&self) -> Option<String> {
        None
    }

    /// Reads output from `offset`, at most `max` bytes. An empty chunk means nothing new.
    ///
    /// # Errors
    /// The transport's fault; a wiped entry reads as empty.
    async fn read(
        &self,
        entry: &Entry,
        stream: Stream,
        offset: u64,
        max: u32,
    ) -> Result<Chunk, Fault>;

    /// Nobody asks again for output below this offset: it was written, or is not wanted. What
    /// only this process keeps is given back; a host's record keeps it all the same.
    fn release(&self, _entry: &Entry, _stream: Stream, _below: u64) {}
}
