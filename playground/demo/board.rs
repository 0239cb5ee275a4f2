//! What was seen so far: each object's phase and reason, each line of output. It
//! prints what is new, and others wait on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;

use crate::remote_host;
use crate::support::{Result, until};

use super::example::Example;
use super::stream::Stream;

const END_LIMIT: Duration = Duration::from_secs(75);

type Key = (String, String);

pub struct Board {
    began: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    objects: BTreeMap<Key, Shown>,
    /// Every `Phase/Reason` that an object showed.
    shown: BTreeSet<(Key, String)>,
    output: BTreeMap<Key, Output>,
}

/// What the log told of one object: its streams, those of its checks apart.
#[derive(Default)]
struct Output(BTreeMap<(String, bool), Stream>);

#[derive(Clone, Default, PartialEq)]
struct Shown {
    phase: String,
    reason: String,
    gone: bool,
}

impl Board {
    pub fn new(began: Instant) -> Board {
        Board { began, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn tell(&self, name: &str, text: &str) {
        println!("{:6.1}s  {name:<22} {text}", self.began.elapsed().as_secs_f64());
    }

    /// Something that the demo itself does.
    pub fn act(&self, name: &str, text: &str) {
        self.tell(name, &format!("* {text}"));
    }

    pub fn phase(&self, example: &Example) -> String {
        self.seen().objects.get(&example.key()).map(|o| o.phase.clone()).unwrap_or_default()
    }

    /// The lines of its standard output as they came, over all its attempts.
    pub fn lines(&self, example: &Example) -> Vec<String> {
        let seen = self.seen();
        let output = seen.output.get(&example.key());
        let stdout = output.and_then(|output| output.0.get(&("stdout".to_owned(), false)));
        stdout.map(|stream| stream.lines().to_vec()).unwrap_or_default()
    }

    /// What is wrong with its output, if anything is: a hole, another order.
    pub fn complaint(&self, example: &Example) -> Option<String> {
        let seen = self.seen();
        let streams = seen.output.get(&example.key())?.0.values();
        streams.filter_map(Stream::complaint).next().map(str::to_owned)
    }

    /// Whether it was ever seen to show this `Phase/Reason`.
    pub fn has_shown(&self, example: &Example, state: &str) -> bool {
        self.seen().shown.contains(&(example.key(), state.to_owned()))
    }

    /// Waits until it has ended: `Phase/Reason`, or `gone`.
    pub async fn ended(&self, example: &Example) -> Result<String> {
        let mut end = None;
        until(END_LIMIT, "its end", async || {
            end = self.end_of(example);
            end.is_some()
        })
        .await?;
        Ok(end.unwrap_or_default())
    }

    /// Waits for the last line of output that an example promises: the log may be read a
    /// little later than the status.
    pub async fn told(&self, example: &Example) -> Result<()> {
        let Some(wanted) = &example.last_line else { return Ok(()) };
        until(Duration::from_secs(10), "its last line is told", async || {
            self.lines(example).last() == Some(wanted)
        })
        .await
    }

    /// What it shows at the moment.
    pub fn last(&self, example: &Example) -> String {
        match self.seen().objects.get(&example.key()) {
            Some(shown) if shown.gone => "gone".to_owned(),
            Some(shown) => format!("{}/{}", shown.phase, shown.reason),
            None => "nothing".to_owned(),
        }
    }

    fn end_of(&self, example: &Example) -> Option<String> {
        let last = self.last(example);
        let phase = last.split('/').next()?;
        // One that is to be deleted may show an end of its own before it is gone.
        let over = match example.expected.as_str() {
            "gone" => phase == "gone",
            _ => ["Succeeded", "Failed", "Unknown", "gone"].contains(&phase),
        };
        over.then_some(last)
    }

    fn show(&self, object: &DynamicObject, gone: bool) {
        let key = (object.namespace().unwrap_or_default(), object.name_any());
        let text = |name: &str| {
            let value = object.data.pointer(&format!("/status/{name}"));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let shown = Shown { phase: text("phase"), reason: text("reason"), gone };
        let state = format!("{}/{}", shown.phase, shown.reason);
        self.seen().shown.insert((key.clone(), state.clone()));
        let before = self.seen().objects.insert(key.clone(), shown.clone());
        if before.as_ref() == Some(&shown) {
            return;
        }
        if gone {
            self.tell(&key.1, "gone");
        } else if !shown.phase.is_empty() {
            self.tell(&key.1, &format!("{state:<26} {}", text("message")));
        }
    }

    /// Takes one line of the operator's log.
    fn read(&self, line: &str) {
        let Ok(record) = serde_json::from_str::<Value>(line) else { return };
        let word = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        if !word("kind").starts_with("output") {
            return;
        }
        let name = word("name");
        let which = (word("stream"), record.get("verify").is_some());
        let mut seen = self.seen();
        let output = seen.output.entry((word("namespace"), name.clone())).or_default();
        let is_new = output.0.entry(which).or_default().take(&record);
        drop(seen);
        if is_new {
            self.tell(&name, &format!("| {}", word("text")));
        }
    }
}

impl Example {
    fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }
}

/// Follows every RemoteCommand of the cluster, for ever.
pub async fn watch_objects(board: Arc<Board>, client: kube::Client) {
    let api: Api<DynamicObject> = Api::all_with(client, &remote_host::resource("RemoteCommand"));
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    // After a lost connection the watcher begins again; what went away meanwhile is
    // what the new list lacks.
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.insert((object.namespace().unwrap_or_default(), object.name_any()));
                board.show(&object, false);
            }
            Ok(Event::Apply(object)) => board.show(&object, false),
            Ok(Event::Delete(object)) => board.show(&object, true),
            Ok(Event::InitDone) => {
                let mut seen = board.seen();
                let lacking = seen.objects.iter_mut().filter(|(key, _)| !listed.contains(*key));
                lacking.for_each(|(_, shown)| shown.gone = true);
            }
            // It tries again by itself.
            Err(_) => {}
        }
    }
}

/// Follows the operator's log, for ever.
pub async fn watch_output(board: Arc<Board>, log: PathBuf) {
    let mut offset = 0;
    let mut rest = Vec::new();
    loop {
        if let Ok(mut file) = std::fs::File::open(&log)
            && file.seek(SeekFrom::Start(offset)).is_ok()
            && let Ok(count) = file.read_to_end(&mut rest)
        {
            offset += count as u64;
        }
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            board.read(&String::from_utf8_lossy(&line));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
