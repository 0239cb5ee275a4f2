//! What the log of an attempt may take, and what is told of the rest.

use super::*;
use crate::follow::Advanced;
use crate::output::budget::LogLimits;

/// A host that keeps so many bytes of `yes`.
struct Yes(u64);

#[async_trait]
impl Host for Yes {
    async fn act(&self, _: &Plan, action: &Saved<Action>, _: Option<Material>) -> Seen {
        panic!("not asked for: {:?}", action.get())
    }

    async fn read(&self, _: &Entry, stream: Stream, offset: u64, max: u32) -> Result<Chunk, Fault> {
        let end = self.0.min(offset + u64::from(max));
        let bytes = (offset..end).map(|at| if at % 2 == 0 { b'y' } else { b'\n' }).collect();
        Ok(Chunk { stream, offset, bytes, truncated: false })
    }
}

/// What the log says of a stream: how many bytes of it were logged, and what was left out.
fn accounted(sink: &Sink) -> (u64, Vec<(u64, u64)>) {
    let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let (mut next, mut logged, mut omitted) = (0, 0, Vec::new());
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let offset = record["offset"].as_u64().unwrap();
        assert_eq!(offset, next, "offsets go on without a hole");
        let bytes = match record["kind"].as_str().unwrap() {
            "output" => record["text"].as_str().unwrap().len() as u64 + 1,
            "outputOmitted" => record["bytes"].as_u64().unwrap(),
            other => panic!("{other}"),
        };
        match record["kind"].as_str().unwrap() {
            "output" => logged += bytes,
            _ => omitted.push((offset, bytes)),
        }
        next = offset + bytes;
    }
    (logged, omitted)
}

#[tokio::test]
async fn what_comes_faster_than_the_rate_is_logged_later_and_none_of_it_is_left_out() {
    const BYTES: u64 = 30_000;
    let mut place = Desk::new();
    let limits = LogLimits { rate: 1 << 20, total: 0 };
    place.output.limits = limits;
    let host: Arc<dyn Host> = Arc::new(Yes(BYTES));
    let mut following = Following::new(place.output.clone());
    let begun = Instant::now();
    let seen = ended(usize::try_from(BYTES).unwrap(), true);
    following.observe(&source(), &seen, &host, None).await;
    let (took, length) = (begun.elapsed(), place.sink.0.lock().unwrap().len());
    assert!(following.is_delivered(), "after {took:?}");
    assert_eq!(accounted(&place.sink), (BYTES, Vec::new()));
    let most = limits.burst() as f64 + limits.rate as f64 * took.as_secs_f64();
    assert!(length as f64 <= most && length > 2 << 20, "{length} bytes of log in {took:?}");
}

#[tokio::test]
async fn beyond_the_limit_one_record_says_how_much_is_left_out() {
    const BYTES: u64 = 1 << 30;
    let mut place = Desk::new();
    place.output.limits = LogLimits { rate: 0, total: 100_000 };
    let host: Arc<dyn Host> = Arc::new(Yes(BYTES));
    let seen = ended(usize::try_from(BYTES).unwrap(), true);
    {
        // An operator that is killed before the end of it.
        let mut former = Following::new(place.output.clone());
        former.follow(&source(), &entry(), &host);
        let current = former.current.as_mut().unwrap();
        current.seen.stdout.bytes = BYTES / 2;
        while current.follow.written() < BYTES / 2 {
            current.advance().await;
        }
    }
    let mut following = Following::new(place.output.clone());
    following.observe(&source(), &seen, &host, None).await;
    assert!(following.is_delivered());
    let (logged, omitted) = accounted(&place.sink);
    let length = place.sink.0.lock().unwrap().len();
    assert!(length < 101_000 && logged > 400, "{length} bytes of log for {logged} of output");
    assert_eq!(omitted, [(logged, BYTES - logged)]);
    let tail = following.status(&stage(Place::Running)).unwrap().stdout.tail.unwrap();
    assert_eq!(tail, "y\n".repeat(50), "the tail is the end of all of it");
}

#[tokio::test]
async fn what_a_deletion_takes_away_before_it_could_be_logged_is_told_as_left_out() {
    const BYTES: u64 = 1 << 20;
    let mut place = Desk::new();
    place.output.limits = LogLimits { rate: 1000, total: 0 };
    let host: Arc<dyn Host> = Arc::new(Yes(BYTES));
    let mut following = Following::new(place.output.clone());
    following.follow(&source(), &entry(), &host);
    let current = following.current.as_mut().unwrap();
    current.seen.stdout.bytes = BYTES;
    let begun = Instant::now();
    while !matches!(
        current.follow.advance(host.as_ref(), &current.seen).await,
        Ok(Advanced::Throttled)
    ) {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    following.give_up().await;
    let (logged, omitted) = accounted(&place.sink);
    assert!(logged > 0 && following.is_delivered());
    assert_eq!(omitted, [(logged, BYTES - logged)]);
}

/// Guards against an error message that is left out because of what was written before it.
#[tokio::test]
async fn a_stream_that_talks_without_end_leaves_the_other_its_last_words() {
    let mut place = Desk::new();
    place.output.limits = LogLimits { rate: 1 << 20, total: 400_000 };
    let host: Arc<dyn Host> = Arc::new(Yes(1 << 20));
    let mut following = Following::new(place.output.clone());
    following.follow(&source(), &entry(), &host);
    let current = following.current.as_mut().unwrap();
    current.seen.stdout.bytes = 1 << 20;
    while current.follow.written() < 1 << 20 {
        current.advance().await;
    }
    current.seen.stderr.bytes = 20;
    current.finish(END_LIMIT).await;
    assert!(following.is_delivered());
    let log = String::from_utf8(place.sink.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("\"stream\":\"stderr\"").count(), 10, "all lines of it");
    assert!(log.len() < 400_000 && log.matches("outputOmitted").count() == 1);
}
