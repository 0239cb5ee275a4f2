//! The status writer: the only one that writes `.status` of RemoteCommands.
//!
//! Supervisors hand it whole statuses; the latest for a UID replaces an earlier one that was
//! not sent yet. Terminal results go first, then stages somebody waits for, then what is only
//! to be shown. It acknowledges, and only an acknowledged stage is a saved one.
//!
//! A write that did not succeed for certain is never assumed lost or done: the object is read
//! anew and compared (see [`put`](super::put)). A try that panicked is one of those.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::{Client, Resource};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::bucket::Bucket;
use super::events::{Announcement, Announcer};
use super::fault::Failure;
use super::memory::{Author, Memory};
use super::put::{Answer, Known, put};
use super::registry::Key;
use crate::api::{RemoteCommand, RemoteCommandStatus, StageRecord};

/// Status writes under way at once.
const AT_ONCE: usize = 16;
/// Requests that may wait to be taken up.
const QUEUE: usize = 1024;
/// How long something that is only shown waits for something newer.
const SETTLE: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a save is tried that does not get through although the object can be read. Who
/// waits for it is deaf until then.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon something that was refused and is only shown is tried again; the pauses double.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
const LONGEST_AFTER_REFUSAL: Duration = Duration::from_secs(600);
/// How often it is logged that a write does not get through.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// How often a status was refused since the start, whatever it was.
pub static REFUSALS: AtomicU64 = AtomicU64::new(0);

/// How much a write matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A result.
    Terminal,
    /// A stage; an action waits for it.
    Stage,
    /// The same stage, told in other words.
    Shown,
}

/// One status to be written.
#[derive(Debug)]
pub struct Request {
    pub key: Key,
    /// The version it was made from.
    pub base: Arc<RemoteCommand>,
    /// The stage it was decided from, as it is stored.
    pub before: Option<StageRecord>,
    pub status: RemoteCommandStatus,
    pub urgency: Urgency,
}

/// What became of a request.
#[derive(Debug)]
pub enum Acknowledged {
    /// It is stored. What somebody else had written over ours meanwhile, in these fields, is
    /// not any more.
    Written(Vec<String>),
    /// Somebody else wrote another stage; this is what is stored.
    Overtaken(Arc<RemoteCommand>),
    /// The object, or the object of this UID, does not exist.
    Gone,
    /// It is not stored, and will not be for being repeated: why.
    Refused(String),
}

enum Message {
    Write(Box<Request>, Option<oneshot::Sender<Acknowledged>>),
    Forget(String),
    Flush(oneshot::Sender<()>),
}

/// A way to hand statuses to the writer.
#[derive(Clone)]
pub struct Writer {
    messages: mpsc::Sender<Message>,
    memory: Memory,
}

impl Writer {
    /// Starts the writer's task; it ends when all handles are dropped. `client` must not retry.
    pub fn start(client: Client, announcer: Announcer) -> Self {
        let put: Put = Arc::new(move |request, known, doubtful| {
            put(client.clone(), request, known, doubtful).boxed()
        });
        Self::start_with(put, Some(announcer))
    }

    fn start_with(put: Put, announcer: Option<Announcer>) -> Self {
        let (messages, inbox) = mpsc::channel(QUEUE);
        let memory = Memory::default();
        tokio::spawn(Task::new(put, inbox, memory.clone(), announcer).run());
        Self { messages, memory }
    }

    /// Who has written the status that `object` shows.
    pub fn author(&self, object: &RemoteCommand) -> Author {
        self.memory.author(object)
    }

    /// What was written is not what is stored any more.
    pub fn displaced(&self, uid: &str) {
        self.memory.forget(uid);
    }

    /// Writes a status and waits until it is known to be stored or overtaken.
    /// `None` when a later request for the object took its place, or the writer has ended.
    pub async fn save(&self, request: Request) -> Option<Acknowledged> {
        let (acknowledge, acknowledged) = oneshot::channel();
        let message = Message::Write(Box::new(request), Some(acknowledge));
        self.messages.send(message).await.ok()?;
        acknowledged.await.ok()
    }

    /// Writes a status some time.
    pub async fn show(&self, request: Request) {
        // A writer that has ended is part of a shutdown.
        let _ = self.messages.send(Message::Write(Box::new(request), None)).await;
    }

    /// Drops what is remembered of an object that is no longer supervised, once what is under
    /// way for it is done.
    pub async fn forget(&self, uid: String) {
        let _ = self.messages.send(Message::Forget(uid)).await;
    }

    /// Waits until the writer's task has ended although there are handles: by a panic.
    pub async fn ended(&self) {
        self.messages.closed().await;
    }

    /// Waits until nothing is left to be written.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.messages.send(Message::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

/// Makes one try, as [`put`] does with a client.
type Put =
    Arc<dyn for<'a> Fn(&'a Request, Option<Known>, bool) -> BoxFuture<'a, Answer> + Send + Sync>;

/// A request with its place in the queue.
struct Pending {
    request: Box<Request>,
    acknowledge: Option<oneshot::Sender<Acknowledged>>,
    /// Order of arrival.
    number: u64,
    begun: Instant,
    not_before: Instant,
    pause: Duration,
    /// Pause after the next refusal.
    refused: Duration,
    /// When it was last logged that it does not get through.
    logged: Option<Instant>,
    /// An earlier try may have been stored: read before writing.
    doubtful: bool,
}

/// What a finished try tells.
struct Tried {
    pending: Pending,
    answer: Answer,
}

/// Makes a try. After a panic nobody knows what was stored, and the request is still there to
/// be tried again: without it, its object would stay busy for ever.
async fn attempt(put: Put, pending: Pending, known: Option<Known>) -> Tried {
    let tried = async { put(&pending.request, known, pending.doubtful).await };
    let answer = AssertUnwindSafe(tried).catch_unwind().await.unwrap_or_else(|_| {
        Answer::Uncertain(Failure::Doubtful("the status write panicked".to_owned()))
    });
    Tried { pending, answer }
}

struct Task {
    put: Put,
    inbox: mpsc::Receiver<Message>,
    pending: HashMap<String, Pending>,
    under_way: JoinSet<Tried>,
    /// Of objects that are supervised.
    memory: Memory,
    announcer: Option<Announcer>,
    /// UIDs to be forgotten once what is under way for them is done.
    leaving: HashSet<String>,
    bucket: Bucket,
    number: u64,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Task {
    fn new(
        put: Put,
        inbox: mpsc::Receiver<Message>,
        memory: Memory,
        announcer: Option<Announcer>,
    ) -> Self {
        Self {
            put,
            inbox,
            pending: HashMap::new(),
            under_way: JoinSet::new(),
            memory,
            announcer,
            leaving: HashSet::new(),
            bucket: Bucket::new(50, 100),
            number: 0,
            flushes: Vec::new(),
        }
    }

    async fn run(mut self) {
        loop {
            let wake = self.send_what_is_due();
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                Some(tried) = self.under_way.join_next() => match tried {
                    Ok(tried) => self.settle(tried),
                    // Not by a panic: `attempt` gives an answer for those, too.
                    Err(failure) => warn!(%failure, "a status write was cut off"),
                },
                () = sleep_until(wake) => {}
            }
            if self.pending.is_empty() && self.memory.is_idle() {
                for done in self.flushes.drain(..) {
                    let _ = done.send(());
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Write(request, acknowledge) => self.queue(request, acknowledge),
            Message::Forget(uid) => {
                self.memory.forget(&uid);
                if self.memory.is_busy(&uid) || self.pending.contains_key(&uid) {
                    self.leaving.insert(uid);
                }
            }
            Message::Flush(done) => self.flushes.push(done),
        }
    }

    fn queue(&mut self, request: Box<Request>, acknowledge: Option<oneshot::Sender<Acknowledged>>) {
        let uid = request.key.uid.clone();
        self.leaving.remove(&uid);
        let idle = !self.memory.is_busy(&uid) && !self.pending.contains_key(&uid);
        if idle && self.memory.has(&uid, &request.status) {
            acknowledge.map(|done| done.send(Acknowledged::Written(Vec::new())));
            return;
        }
        let settle = if request.urgency == Urgency::Shown { SETTLE } else { Duration::ZERO };
        self.number += 1;
        let pending = Pending {
            request,
            acknowledge,
            number: self.number,
            begun: Instant::now(),
            not_before: Instant::now() + settle,
            pause: FIRST_PAUSE,
            refused: AFTER_REFUSAL,
            logged: None,
            doubtful: false,
        };
        self.pending.insert(uid, pending);
    }

    /// Starts the tries that are due; tells when to look again.
    fn send_what_is_due(&mut self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        while self.under_way.len() < AT_ONCE {
            let free = self.pending.iter().filter(|(uid, _)| !self.memory.is_busy(uid));
            let now = Instant::now();
            let due = free.clone().filter(|(_, p)| p.not_before <= now);
            let Some((uid, _)) = due.min_by_key(|(_, p)| (p.request.urgency, p.number)) else {
                return free.map(|(_, p)| p.not_before).min().unwrap_or(far);
            };
            if let Err(ready) = self.bucket.take(now) {
                return ready;
            }
            let uid = uid.clone();
            let Some(pending) = self.pending.remove(&uid) else { return far };
            let known = self.memory.stored(&uid);
            self.memory.begin(&uid);
            self.under_way.spawn(attempt(Arc::clone(&self.put), pending, known));
        }
        far
    }

    fn settle(&mut self, tried: Tried) {
        let Tried { mut pending, answer } = tried;
        let uid = pending.request.key.uid.clone();
        let (result, stored) = match answer {
            Answer::Written(mut known) => {
                let displaced = std::mem::take(&mut known.displaced);
                (Acknowledged::Written(displaced), Some(*known))
            }
            Answer::Overtaken(object) => (Acknowledged::Overtaken(object), None),
            Answer::Gone => (Acknowledged::Gone, None),
            Answer::Refused(message) => {
                REFUSALS.fetch_add(1, Ordering::Relaxed);
                if pending.acknowledge.is_none() {
                    let pause = pending.refused;
                    pending.refused = pause.saturating_mul(2).min(LONGEST_AFTER_REFUSAL);
                    self.announce_refusal(&pending, &message);
                    return self.put_back(pending, &message, pause);
                }
                (Acknowledged::Refused(message), None)
            }
            Answer::Unstored(failure)
                if pending.acknowledge.is_some() && pending.begun.elapsed() >= PATIENCE =>
            {
                (Acknowledged::Refused(failure.to_string()), None)
            }
            Answer::Uncertain(failure) | Answer::Unstored(failure) => {
                let pause = pending.pause;
                return self.put_back(pending, &failure.to_string(), pause);
            }
        };
        self.memory.settle(&uid, stored);
        if !self.pending.contains_key(&uid) && self.leaving.remove(&uid) {
            self.memory.forget(&uid);
        }
        pending.acknowledge.map(|done| done.send(result));
    }

    /// To be tried again after `pause`, unless there is something newer for the object, which
    /// says all that this one would have said.
    fn put_back(&mut self, mut pending: Pending, why: &str, pause: Duration) {
        let key = &pending.request.key;
        if pending.logged.is_none_or(|logged| logged.elapsed() >= LOG_PERIOD) {
            let (pause, namespace, name) = (pause.as_secs_f32(), &key.namespace, &key.name);
            warn!(namespace, name, why, pause, "status not written yet");
            pending.logged = Some(Instant::now());
        }
        // What is stored is not known any more: it may be what was tried.
        self.memory.settle(&key.uid, None);
        pending.doubtful = true;
        pending.not_before = Instant::now() + pause;
        pending.pause = pending.pause.saturating_mul(2).min(LONGEST_PAUSE);
        self.pending.entry(pending.request.key.uid.clone()).or_insert(pending);
    }

    /// Tells people once of a status that is only shown and was refused; of a save that was
    /// refused the supervisor tells, which knows what does not happen for it.
    fn announce_refusal(&self, pending: &Pending, why: &str) {
        let Some(announcer) = self.announcer.as_ref().filter(|_| pending.logged.is_none()) else {
            return;
        };
        let note =
            format!("its status is not up to date, because the API server refuses it: {why}");
        let (warning, reason) = (true, "StatusRefused".to_owned());
        let announcement = Announcement { warning, reason, action: "Showing", note };
        announcer.tell(pending.request.base.object_ref(&()), announcement);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn request() -> Request {
        let object = serde_json::json!({
            "metadata": {"namespace": "ns", "name": "a", "uid": "a", "resourceVersion": "1"},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]},
        });
        Request {
            key: Key { uid: "a".to_owned(), namespace: "ns".to_owned(), name: "a".to_owned() },
            base: Arc::new(serde_json::from_value(object).unwrap()),
            before: None,
            status: RemoteCommandStatus::default(),
            urgency: Urgency::Terminal,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_panics_is_tried_again_and_reads_first() {
        let tries = Arc::new(AtomicU32::new(0));
        let made = Arc::clone(&tries);
        let begun = Instant::now();
        let put: Put = Arc::new(move |_, _, doubtful| {
            let number = made.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(number > 1, "the first two tries panic");
                assert!(doubtful, "they may have stored it");
                Answer::Gone
            }
            .boxed()
        });
        let writer = Writer::start_with(put, None);
        let saved = tokio::time::timeout(LIMIT, writer.save(request())).await.unwrap();
        assert!(matches!(saved, Some(Acknowledged::Gone)), "{saved:?}");
        assert_eq!(tries.load(Ordering::SeqCst), 3);
        assert!(begun.elapsed() >= FIRST_PAUSE * 3, "{:?}", begun.elapsed());
        tokio::time::timeout(LIMIT, writer.flush()).await.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_task_is_noticed_by_those_who_write() {
        let (messages, inbox) = mpsc::channel(QUEUE);
        let writer = Writer { messages, memory: Memory::default() };
        assert!(writer.ended().now_or_never().is_none());
        let task = tokio::spawn(async move {
            let _inbox = inbox;
            panic!("while it settles a try");
        });
        assert!(task.await.is_err());
        tokio::time::timeout(LIMIT, writer.ended()).await.unwrap();
    }

    /// A writer all of whose tries end in this way.
    fn writer(answer: fn() -> Answer) -> (Writer, Arc<AtomicU32>) {
        let tries = Arc::new(AtomicU32::new(0));
        let made = Arc::clone(&tries);
        let put: Put = Arc::new(move |_, _, _| {
            made.fetch_add(1, Ordering::SeqCst);
            async move { answer() }.boxed()
        });
        let writer = Writer::start_with(put, None);
        (writer, tries)
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_refused_status_is_told_at_once() {
        let (writer, tries) = writer(|| Answer::Refused("too large".to_owned()));
        let saved = tokio::time::timeout(LIMIT, writer.save(request())).await.unwrap();
        assert!(matches!(saved, Some(Acknowledged::Refused(_))), "{saved:?}");
        assert_eq!(tries.load(Ordering::SeqCst), 1, "nothing is repeated unchanged");
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_does_not_get_through_is_given_back_after_a_while() {
        let broken = || Answer::Unstored(Failure::Doubtful("webhook".to_owned()));
        let (writer, _) = writer(broken);
        let begun = Instant::now();
        let saved = tokio::time::timeout(LIMIT * 2, writer.save(request())).await.unwrap();
        assert!(matches!(saved, Some(Acknowledged::Refused(_))), "{saved:?}");
        assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_is_remembered_while_its_object_is_supervised_and_no_longer() {
        let remembered = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&remembered);
        let put: Put = Arc::new(move |request: &Request, known, _| {
            noted.lock().unwrap().push(known.is_some());
            let (resource_version, status) = ("2".to_owned(), request.status.clone());
            let displaced = Vec::new();
            ready(Answer::Written(Box::new(Known { resource_version, status, displaced }))).boxed()
        });
        let writer = Writer::start_with(put, None);
        let saying = |message: &str| {
            let mut request = request();
            request.status.message = Some(message.to_owned());
            request
        };
        writer.save(saying("it runs")).await.unwrap();
        writer.save(saying("it has ended")).await.unwrap();
        writer.forget("a".to_owned()).await;
        writer.save(saying("it runs again")).await.unwrap();
        writer.show(saying("and has ended again")).await;
        writer.forget("a".to_owned()).await;
        tokio::time::timeout(LIMIT, writer.flush()).await.unwrap();
        writer.save(saying("once more")).await.unwrap();
        assert_eq!(*remembered.lock().unwrap(), [false, true, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_tried_again_ever_more_rarely_after_a_refusal() {
        let (writer, tries) = writer(|| Answer::Refused("not now".to_owned()));
        writer.show(request()).await;
        tokio::time::sleep(AFTER_REFUSAL + LONGEST_PAUSE).await;
        assert_eq!(tries.load(Ordering::SeqCst), 2);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let made = tries.load(Ordering::SeqCst);
        assert!((8..14).contains(&made), "{made} in an hour");
    }
}
