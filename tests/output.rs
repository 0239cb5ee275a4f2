//! Output on its way: lines, tails, the log and the thread that writes it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use remote_command::core::action::{Entry, Kind};
use remote_command::core::tail::Tail;
use remote_command::host::{Chunk, Stream};
use remote_command::output::budget::{Budget, LogLimits};
use remote_command::output::line::{End, LONGEST, Line, Lines, Record};
use remote_command::output::log::Head;
use remote_command::output::mark::Marks;
use remote_command::output::standard::Standard;
use remote_command::output::writer::{Account, Block, Last, Place, Shape, Writer, Written};
use tokio::sync::oneshot;

/// An owned record, to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Line(u64, Vec<u8>, End),
    Gap(u64, u64),
    Omitted(u64, u64),
    Truncated(u64),
}

fn own(record: Record<'_>) -> Told {
    match record {
        Record::Line(Line { offset, bytes, end }) => Told::Line(offset, bytes.to_vec(), end),
        Record::Gap { offset, bytes } => Told::Gap(offset, bytes),
        Record::Omitted { offset, bytes } => Told::Omitted(offset, bytes),
        Record::Truncated { offset } => Told::Truncated(offset),
    }
}

/// Cuts `stream` at `cuts` (taken modulo its length) and tells its records.
fn told(stream: &[u8], cuts: &[usize]) -> Vec<Told> {
    let mut told = Vec::new();
    let mut lines = Lines::at(0);
    for (offset, chunk) in chunks(stream, cuts) {
        lines.push(offset, chunk, &mut |record| told.push(own(record)));
    }
    lines.finish(stream.len() as u64, false, &mut |record| told.push(own(record)));
    assert_eq!(lines.told(), stream.len() as u64);
    told
}

fn chunks<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<(u64, &'a [u8])> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    at.extend([0, stream.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| (pair[0] as u64, &stream[pair[0]..pair[1]])).collect()
}

/// What the records say the stream was.
fn joined(told: &[Told]) -> Vec<u8> {
    let mut stream = Vec::new();
    for record in told {
        let Told::Line(offset, bytes, end) = record else { continue };
        assert_eq!(*offset, stream.len() as u64, "offsets go on without a hole");
        stream.extend_from_slice(bytes);
        if *end == End::Newline {
            stream.push(b'\n');
        }
    }
    stream
}

/// Streams with short lines, empty lines, long lines, multi-byte characters and bytes that
/// are no text.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-z€ä😀]{0,12}\n".prop_map(String::into_bytes),
        1 => Just(b"\n".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (0..3 * LONGEST).prop_map(|length| vec![b'x'; length]),
        1 => (LONGEST / 3 - 3..LONGEST / 3 + 3).prop_map(|times| "€".repeat(times).into_bytes()),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_chunking_gives_the_same_records_and_they_join_to_the_stream(
        stream in streams(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let records = told(&stream, &cuts);
        prop_assert_eq!(&records, &told(&stream, &[]));
        prop_assert_eq!(joined(&records), stream);
        for record in &records {
            if let Told::Line(_, bytes, _) = record {
                prop_assert!(bytes.len() <= LONGEST);
                prop_assert!(!bytes.contains(&b'\n'));
            }
        }
    }

    #[test]
    fn a_stream_taken_up_again_where_it_was_told_gives_the_rest(
        stream in streams(),
        cut in any::<usize>(),
    ) {
        let cut = cut % (stream.len() + 1);
        let mut first = Vec::new();
        let mut lines = Lines::at(0);
        lines.push(0, &stream[..cut], &mut |record| first.push(own(record)));
        let told_to = usize::try_from(lines.told()).unwrap();
        let mut lines = Lines::at(lines.told());
        lines.push(told_to as u64, &stream[told_to..], &mut |record| first.push(own(record)));
        lines.finish(stream.len() as u64, false, &mut |record| first.push(own(record)));
        prop_assert_eq!(first, told(&stream, &[]));
    }

    #[test]
    fn chunks_that_overlap_are_told_once(
        stream in streams(),
        starts in prop::collection::vec((any::<usize>(), any::<usize>()), 1..12),
    ) {
        let mut records = Vec::new();
        let mut lines = Lines::at(0);
        for (start, length) in starts {
            let start = start % (usize::try_from(lines.next()).unwrap() + 1);
            let end = (start + length % (2 * LONGEST)).min(stream.len());
            if start < end {
                let chunk = &stream[start..end];
                lines.push(start as u64, chunk, &mut |record| records.push(own(record)));
            }
        }
        lines.push(0, &stream, &mut |record| records.push(own(record)));
        lines.finish(stream.len() as u64, false, &mut |record| records.push(own(record)));
        prop_assert_eq!(records, told(&stream, &[]));
    }

    #[test]
    fn a_tail_is_the_end_of_the_stream_however_it_came(
        stream in streams(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        limit in 0..64_usize,
    ) {
        let mut tail = Tail::new(limit, 0);
        for (offset, chunk) in chunks(&stream, &cuts) {
            tail.push(offset, chunk);
        }
        let mut whole = Tail::new(limit, 0);
        whole.push(0, &stream);
        prop_assert_eq!(tail.end(), stream.len() as u64);
        prop_assert_eq!(tail.text(true), whole.text(true));
        prop_assert!(tail.text(false).len() <= limit);
        if let Ok(text) = String::from_utf8(stream) {
            prop_assert!(text.ends_with(&tail.text(false)), "no character is cut");
            prop_assert!(tail.text(false).len() + 4 > limit.min(text.len()), "no more is lost");
        }
    }
}

#[test]
fn a_gap_and_a_truncation_are_told() {
    let mut records = Vec::new();
    let mut lines = Lines::at(0);
    lines.push(0, b"one\ntw", &mut |record| records.push(own(record)));
    lines.push(100, b"x\n", &mut |record| records.push(own(record)));
    lines.finish(110, true, &mut |record| records.push(own(record)));
    let expected = [
        Told::Line(0, b"one".to_vec(), End::Newline),
        Told::Line(4, b"tw".to_vec(), End::Unterminated),
        Told::Gap(6, 94),
        Told::Line(100, b"x".to_vec(), End::Newline),
        Told::Gap(102, 8),
        Told::Truncated(110),
    ];
    assert_eq!(records, expected);
}

#[test]
fn what_is_left_out_is_told_in_one_record_when_the_stream_goes_on_or_ends() {
    let mut records = Vec::new();
    let mut lines = Lines::at(0);
    lines.push(0, b"one\ntw", &mut |record| records.push(own(record)));
    lines.omit(50);
    assert_eq!((lines.told(), lines.next()), (4, 50), "a restart begins before it");
    lines.omit(100);
    lines.omit(20);
    lines.push(100, b"x\ny", &mut |record| records.push(own(record)));
    lines.omit(200);
    lines.finish(210, true, &mut |record| records.push(own(record)));
    let expected = [
        Told::Line(0, b"one".to_vec(), End::Newline),
        Told::Omitted(4, 96),
        Told::Line(100, b"x".to_vec(), End::Newline),
        Told::Omitted(102, 98),
        Told::Gap(200, 10),
        Told::Truncated(210),
    ];
    assert_eq!(records, expected);
}

#[test]
fn much_output_goes_through_little_memory() {
    let piece: Vec<u8> = (0..256 * 1024).map(|n| if n % 97 == 96 { b'\n' } else { b'x' }).collect();
    let before = resident_kib();
    let (mut lines, mut tail, mut bytes) = (Lines::at(0), Tail::new(4096, 0), 0_u64);
    for n in 0..800 {
        let offset = n * piece.len() as u64;
        lines.push(offset, &piece, &mut |record| bytes = record.end());
        tail.push(offset, &piece);
    }
    assert!(bytes > 200_000_000 && tail.end() == 800 * piece.len() as u64);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 96 * 1024, "200 MB took {grown} KiB of memory");
}

/// Resident memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn entry() -> Entry {
    Entry {
        uid: "11111111-2222-3333-4444-555555555555".into(),
        run: 1,
        attempt: 1,
        kind: Kind::Command,
        token: "0123456789abcdef0123456789abcdef".into(),
        machine: String::new(),
        run_as: None,
    }
}

fn head(name: &str) -> Arc<Head> {
    Arc::new(Head {
        namespace: "default".into(),
        name: name.into(),
        uid: entry().uid,
        run: 1,
        attempt: 1,
        host: "db-1".into(),
        verify: false,
    })
}

/// A block at the front of a stream, and where its place comes back.
fn block(place: Place, bytes: &[u8], last: bool) -> (Block, oneshot::Receiver<Written>) {
    let (written, back) = oneshot::channel();
    let (stream, offset) = (Stream::Stdout, place.next());
    let chunk = Chunk { stream, offset, bytes: bytes.to_vec(), truncated: false };
    let end = place.next() + bytes.len() as u64;
    let last = last.then_some(Last { end, truncated: false });
    (Block { chunk, last, place, written }, back)
}

fn log_place(marks: Option<&Marks>) -> Place {
    bounded_place(marks, LogLimits::default())
}

fn bounded_place(marks: Option<&Marks>, limits: LogLimits) -> Place {
    let mark = marks.map(|marks| marks.of(&entry(), Stream::Stdout));
    let offset = mark.as_ref().map_or(0, |mark| mark.read());
    let logged = mark.as_ref().map_or(0, |mark| mark.logged());
    let account = Account { budget: Arc::new(Budget::new(limits, logged)), logged };
    Place { shape: Shape::Log { head: head("a"), lines: Lines::at(offset), account }, mark }
}

/// Memory that can be read while it is written to, and that fails when told to.
#[derive(Clone, Default)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Bytes after which writing fails.
    room: Option<usize>,
}

impl Write for Memory {
    fn write(&mut self, new: &[u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.lock().unwrap();
        let room = self.room.map_or(new.len(), |room| room.saturating_sub(bytes.len()));
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = room.min(new.len());
        bytes.extend_from_slice(&new[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn log_lines_give_the_exact_stream_back() {
    let stream = [b"one\n\xff\xfe\ntwo".as_slice(), &vec![b'l'; 40_000], b"\n"].concat();
    let memory = Memory::default();
    let writer = Writer::start(memory.clone(), io::sink()).unwrap();
    let (block, back) = block(log_place(None), &stream, true);
    writer.offer(block).unwrap();
    assert!(back.blocking_recv().unwrap().failed.is_none());
    let text = String::from_utf8(memory.bytes.lock().unwrap().clone()).unwrap();
    let mut again = Vec::new();
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["offset"], again.len());
        match record["base64"].as_str() {
            Some(exact) => again.extend(STANDARD.decode(exact).unwrap()),
            None => again.extend_from_slice(record["text"].as_str().unwrap().as_bytes()),
        }
        if record.get("partial").is_none() && record.get("unterminated").is_none() {
            again.push(b'\n');
        }
    }
    assert_eq!(again, stream);
}

/// Guards against 230 bytes of log for every byte of output, and for all of it.
#[test]
fn a_log_ends_within_its_limit_and_a_restart_gives_it_no_more() {
    const LIMIT: usize = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let marks = Marks::open(directory.path()).unwrap();
    let memory = Memory::default();
    let writer = Writer::start(memory.clone(), io::sink()).unwrap();
    let limits = LogLimits { rate: 0, total: LIMIT as u64 };
    let stream = "y\n".repeat(100_000);
    let (first, back) = block(bounded_place(Some(&marks), limits), stream.as_bytes(), false);
    writer.offer(first).unwrap();
    let place = back.blocking_recv().unwrap().place;
    let length = memory.bytes.lock().unwrap().len();
    // The rest is for the other stream.
    let own = LIMIT - LIMIT / 8;
    assert!((own..own + 400).contains(&length), "{length} bytes of log");
    assert_eq!(place.logged(), length as u64);
    let at = place.next();
    assert!(at > 0 && at < 2 * LIMIT as u64 / 100, "goes on at {at}");

    let again = bounded_place(Some(&marks), limits);
    assert_eq!((again.next(), again.logged()), (at, length as u64), "the mark has both");
    let (second, back) = block(again, &stream.as_bytes()[usize::try_from(at).unwrap()..], true);
    writer.offer(second).unwrap();
    assert!(back.blocking_recv().unwrap().failed.is_none());
    let text = String::from_utf8(memory.bytes.lock().unwrap().clone()).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["kind"], "outputOmitted");
    assert_eq!((&last["offset"], &last["bytes"]), (&at.into(), &(200_000 - at).into()));
    assert!(text.lines().count() as u64 == at / 2 + 1 && text.len() < LIMIT + 800);
}

#[test]
fn a_mark_says_where_to_go_on_and_only_for_its_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let marks = Marks::open(directory.path()).unwrap();
    let writer = Writer::start(io::sink(), io::sink()).unwrap();
    let (block, back) = block(log_place(Some(&marks)), b"one\ntwo\nthr", false);
    writer.offer(block).unwrap();
    assert!(back.blocking_recv().unwrap().failed.is_none());
    assert_eq!(marks.of(&entry(), Stream::Stdout).read(), 8, "the begun line is told again");
    let other = Entry { token: "f".repeat(32), ..entry() };
    assert_eq!(marks.of(&other, Stream::Stdout).read(), 0);
    assert_eq!(marks.of(&entry(), Stream::Stderr).read(), 0);
    marks.forget(&entry().uid);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn marks_of_objects_that_are_not_there_any_more_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let marks = Marks::open(directory.path()).unwrap();
    let (here, mut gone) = (entry(), entry());
    gone.uid = "gone".to_owned();
    for entry in [&here, &gone] {
        for stream in [Stream::Stdout, Stream::Stderr] {
            marks.of(entry, stream).write(7, 0).unwrap();
        }
    }
    marks.keep(&HashSet::from([here.uid.clone()])).unwrap();
    assert_eq!(marks.of(&here, Stream::Stdout).find(), Some(7));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn what_could_not_be_written_is_not_marked_and_can_be_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let marks = Marks::open(directory.path()).unwrap();
    let full = Memory { room: Some(50_000), ..Memory::default() };
    let writer = Writer::start(full.clone(), io::sink()).unwrap();
    let stream = "a line of output\n".repeat(2000);
    let (block, back) = block(log_place(Some(&marks)), stream.as_bytes(), true);
    writer.offer(block).unwrap();
    let Written { place, failed } = back.blocking_recv().unwrap();
    assert_eq!(failed.unwrap().kind(), io::ErrorKind::StorageFull);
    let marked = marks.of(&entry(), Stream::Stdout).read();
    assert!(marked > 0 && marked == place.next(), "goes on at {}", place.next());
    let written = String::from_utf8(full.bytes.lock().unwrap().clone()).unwrap();
    let whole = written.lines().filter(|line| line.ends_with('}')).count() as u64;
    assert!(marked <= whole * 17, "{marked} is marked and {whole} lines were written");
}

/// Re-runs the calling test in a mount namespace of its own, which takes its mounts along. True
/// in there.
fn in_a_mount_namespace(test: &str) -> bool {
    if std::env::var_os("REMOTE_COMMAND_MOUNTS").is_some() {
        return true;
    }
    let mut again = Command::new("unshare");
    again.arg("--mount").arg(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env("REMOTE_COMMAND_MOUNTS", "1");
    assert!(again.status().unwrap().success(), "in its own mount namespace");
    false
}

/// Guards against a record that is glued to the piece which a full disk left of another.
#[test]
fn after_a_full_disk_every_line_is_a_record_or_a_piece_of_one() {
    if !in_a_mount_namespace("after_a_full_disk_every_line_is_a_record_or_a_piece_of_one") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=128k", "none"];
    assert!(Command::new("mount").args(mount).arg(directory.path()).status().unwrap().success());
    let (log, ballast) = (directory.path().join("log"), directory.path().join("ballast"));
    std::fs::write(&ballast, vec![0; 64 * 1024]).unwrap();
    let file = File::options().append(true).create(true).open(&log).unwrap();
    let writer = Writer::start(Standard::from(file), io::sink()).unwrap();

    let stream = "a line of output\n".repeat(300);
    let (first, back) = block(log_place(None), stream.as_bytes(), true);
    writer.offer(first).unwrap();
    let Written { place, failed } = back.blocking_recv().unwrap();
    assert_eq!(failed.unwrap().kind(), io::ErrorKind::StorageFull);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.ends_with('\n'), "the disk was full within a record");
    std::fs::remove_file(&ballast).unwrap();
    let rest = &stream[usize::try_from(place.next()).unwrap()..];
    let (second, back) = block(place, rest.as_bytes(), true);
    writer.offer(second).unwrap();
    assert!(back.blocking_recv().unwrap().failed.is_none());

    let text = std::fs::read_to_string(&log).unwrap();
    let records: Vec<serde_json::Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let begun = |line: &str| line.matches("{\"kind\"").count();
    assert!(text.lines().all(|line| begun(line) == 1), "a record follows the torn piece at once");
    assert_eq!(text.lines().count(), records.len() + 1, "one torn piece");
    let mut offsets: Vec<u64> = records.iter().map(|r| r["offset"].as_u64().unwrap()).collect();
    offsets.dedup();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets, (0..300).map(|n| n * 17).collect::<Vec<_>>());
}

#[test]
fn of_plain_output_that_failed_midway_only_the_rest_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let marks = Marks::open(directory.path()).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (full, mark) =
        (Memory { room: Some(30_000), ..Memory::default() }, marks.of(&entry(), Stream::Stdout));
    let writer = Writer::start(full.clone(), io::sink()).unwrap();
    let place = Place { shape: Shape::Plain { next: 0 }, mark: Some(mark.clone()) };
    let (first, back) = block(place, &bytes, true);
    writer.offer(first).unwrap();
    let Written { place, failed } = back.blocking_recv().unwrap();
    assert_eq!(failed.unwrap().kind(), io::ErrorKind::StorageFull);
    assert_eq!((place.next(), mark.read()), (30_000, 30_000));
}

/// The descriptor is shared: a terminal's other user, or node.js at the other end of a pipe,
/// may have made it so.
#[test]
fn a_full_non_blocking_pipe_is_waited_for() {
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let out = Standard::from(File::from(OwnedFd::from(near)));
    let writer = Writer::start(out, io::sink()).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let place = Place { shape: Shape::Plain { next: 0 }, mark: None };
    let (first, back) = block(place, &bytes, true);
    writer.offer(first).unwrap();
    drop(writer);
    let mut read = Vec::new();
    far.read_to_end(&mut read).unwrap();
    assert!(read == bytes, "{} of {} bytes came", read.len(), bytes.len());
    assert!(back.blocking_recv().unwrap().failed.is_none());
}

#[test]
fn a_stuck_reader_stops_nobody_and_gets_everything_later() {
    let (reader, pipe) = io::pipe().unwrap();
    let writer = Writer::start(pipe, io::sink()).unwrap();
    let stream = "a line of output\n".repeat(2000);
    let mut offered = Vec::new();
    // Each stream hands over one block; none of them waits, and a full queue says so.
    let refused = (0..1000)
        .find_map(|_| {
            let (block, back) = block(log_place(None), stream.as_bytes(), true);
            offered.push(back);
            writer.offer(block).err()
        })
        .unwrap();
    assert_eq!(refused.place.next(), 0, "a refused block comes back with its place");
    drop(refused);
    offered.pop();
    assert!(offered.len() <= 66, "{} blocks are held", offered.len());
    drop(writer);
    let lines = BufReader::new(reader).lines().count();
    assert_eq!(lines, offered.len() * 2000);
}

#[test]
fn plain_output_is_byte_exact_and_marked() {
    let directory = tempfile::tempdir().unwrap();
    let marks = Marks::open(directory.path()).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let memory = Memory::default();
    let writer = Writer::start(memory.clone(), io::sink()).unwrap();
    let mark = marks.of(&entry(), Stream::Stdout);
    let place = Place { shape: Shape::Plain { next: 0 }, mark: Some(mark.clone()) };
    let (block, back) = block(place, &bytes, true);
    writer.offer(block).unwrap();
    assert!(back.blocking_recv().unwrap().failed.is_none());
    assert_eq!(*memory.bytes.lock().unwrap(), bytes);
    assert_eq!(mark.read(), 200_000);
}

#[test]
fn a_line_torn_by_a_crash_is_ended_before_anything_follows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for (before, after) in [("", ""), ("{\"whole\":1}\n", "{\"whole\":1}\n"), ("{\"to", "{\"to\n")]
    {
        std::fs::write(&path, before).unwrap();
        let log = File::options().append(true).open(&path).unwrap();
        Standard::from(log).end_torn_line().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
    }
    let (mut reader, pipe) = io::pipe().unwrap();
    let mut pipe = Standard::from(File::from(OwnedFd::from(pipe)));
    pipe.end_torn_line().unwrap();
    drop(pipe);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read.is_empty(), "a pipe has no past");
}
