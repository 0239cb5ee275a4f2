//! Requests to a helper shell, and the meaning of its report lines.
//!
//! A request is a line of words that need no quoting, and for a launch the inputs behind
//! it. A report is lines that begin with the shell's nonce, up to `end`. Here they become
//! the core's types; anything unexpected is a [`Flaw`], never a guess.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::core::action::{Entry, Expect, Kind, StopReason};
use crate::core::foreign::foreign;
use crate::core::record::{
    Claimed, EntrySeen, HostRecord, Identity, Life, OutputSeen, ProcessId, ProcessIds, Stream,
    StreamSeen, Survivor, Tree, number, parse_exit, pid,
};

/// Most survivors that are named: they are kept in status, and named in messages.
const SURVIVORS: usize = 32;
/// Most characters of a survivor's command name. Linux has 15.
const LONGEST_COMMAND: usize = 64;

/// A report that says something the protocol does not allow, or a value it cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("unexpected report line {0:?}")]
    Line(String),
    #[error("the report lacks {0}")]
    Missing(&'static str),
    #[error("{0:?} cannot name an entry")]
    Name(String),
}

/// A request's line, less the nonce: `verb call uid run-attempt token words...`.
///
/// # Errors
/// [`Flaw::Name`] when a part of the entry's name is not made of `A-Za-z0-9._-`.
pub fn request(verb: &str, call: &str, entry: &Entry, words: &str) -> Result<String, Flaw> {
    let Entry { uid, run, attempt, kind, token, machine: _, run_as: _ } = entry;
    let suffix = match kind {
        Kind::Command => "",
        Kind::Verify => "v",
    };
    let (uid, token) = (name(uid)?, name(token)?);
    Ok(format!("{verb} {call} {uid} {run}-{attempt}{suffix} {token} {words}"))
}

/// The line that sweeps all entries of an object.
///
/// # Errors
/// As for [`request`].
pub fn sweep(call: &str, uid: &str) -> Result<String, Flaw> {
    Ok(format!("sweep {call} {} - -", name(uid)?))
}

fn name(text: &str) -> Result<&str, Flaw> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let usable = !text.is_empty() && text.len() <= 128 && text.chars().all(fits);
    if usable && !text.starts_with(['.', '-']) { Ok(text) } else { Err(Flaw::Name(foreign(text))) }
}

/// The words of a Launch. `own_channel` is for a host that cannot fork into a new session:
/// the shell itself becomes the supervisor.
pub fn launch_words(expect: &Expect, inputs: &Inputs, own_channel: bool) -> String {
    let Expect { boot, store, latest_uptime_ms } = expect;
    let (limit, deadline, grace) =
        (inputs.output_limit, seconds(inputs.deadline), seconds(inputs.grace));
    let place = if own_channel { "channel" } else { "helper" };
    format!("{} {} {latest_uptime_ms} {limit} {deadline} {grace} {place}", dash(boot), dash(store))
}

/// The words of a Terminate (with the grace after which the host itself sends KILL) or a Kill.
pub fn stop_words(
    reason: StopReason,
    grace: Option<Duration>,
    processes: Option<&ProcessIds>,
) -> String {
    let grace = grace.map_or("-".to_owned(), |grace| seconds(grace).to_string());
    let known = processes.filter(|p| !p.boot.is_empty()).map_or("-".to_owned(), |p| {
        let (s, c) = (&p.supervisor, &p.command);
        format!("{} {} {} {} {}", p.boot, s.pid, s.start, c.pid, c.start)
    });
    format!("{} {grace} {known}", stop_word(reason))
}

/// The words of a Revoke.
pub fn revoke_words(boot: &str, store: &str) -> String {
    format!("{} {}", dash(boot), dash(store))
}

/// The words of a read.
pub fn read_words(stream: Stream, offset: u64, max: u32) -> String {
    let stream = match stream {
        Stream::Stdout => "out",
        Stream::Stderr => "err",
    };
    format!("{stream} {offset} {max}")
}

fn dash(word: &str) -> &str {
    if word.is_empty() { "-" } else { word }
}

/// Whole seconds, rounded up and at least one: the host's clock is the longer one.
fn seconds(duration: Duration) -> u64 {
    let more = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(more).max(1)
}

/// What one launch is given, byte for byte.
#[derive(Debug)]
pub struct Inputs {
    pub argv: Vec<Vec<u8>>,
    pub env: Vec<(String, Zeroizing<Vec<u8>>)>,
    pub working_directory: Vec<u8>,
    pub script: Option<Zeroizing<Vec<u8>>>,
    pub stdin: Option<Zeroizing<Vec<u8>>>,
    pub output_limit: u64,
    pub deadline: Duration,
    pub grace: Duration,
}

impl Inputs {
    /// The inputs as they follow the request's line: a line of counts and whether words and
    /// variables are so long that the host may not take them, the words, the script's
    /// and stdin's bytes, and the call as the end mark.
    pub fn bytes(&self, call: &str) -> Zeroizing<Vec<u8>> {
        let mut length: usize = 0;
        self.pieces(call, &mut |piece| length = length.saturating_add(piece.len()));
        // It never grows: growing would leave a copy behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        self.pieces(call, &mut |piece| bytes.extend_from_slice(piece));
        bytes
    }

    fn pieces(&self, call: &str, take: &mut dyn FnMut(&[u8])) {
        let count = |part: Option<usize>| part.map_or("-".to_owned(), |length| length.to_string());
        let script = count(self.script.as_ref().map(|s| s.len()));
        let stdin = count(self.stdin.as_ref().map(|s| s.len()));
        let (words, variables) = (self.argv.len(), self.env.len());
        let large = u8::from(is_large(&self.argv, &self.env));
        take(format!("{words} {variables} {script} {stdin} {large}\n").as_bytes());
        word_pieces(&self.working_directory, take);
        for (name, value) in &self.env {
            word_pieces(name.as_bytes(), take);
            word_pieces(value, take);
        }
        for word in &self.argv {
            word_pieces(word, take);
        }
        take(self.script.as_ref().map_or(&[], |s| s.as_slice()));
        take(self.stdin.as_ref().map_or(&[], |s| s.as_slice()));
        take(format!("{call}\n").as_bytes());
    }
}

/// Whether arguments and variables are so long that a host may not take them: the least that
/// Linux lets a program have is 128 KiB (execve(2)), and the account has variables of its own.
pub fn is_large(argv: &[impl AsRef<[u8]>], env: &[(String, Zeroizing<Vec<u8>>)]) -> bool {
    /// What each string takes besides: its end and a pointer.
    const EACH: usize = 9;
    let words = argv.iter().map(|word| word.as_ref().len() + EACH);
    let variables = env.iter().map(|(name, value)| name.len() + 1 + value.len() + EACH);
    words.chain(variables).sum::<usize>() > 64 * 1024
}

/// Appends one value as lines: `+` before a line that goes on, `.` before the last.
pub fn put_word(to: &mut Vec<u8>, word: &[u8]) {
    word_pieces(word, &mut |piece| to.extend_from_slice(piece));
}

fn word_pieces(word: &[u8], take: &mut dyn FnMut(&[u8])) {
    let mut lines = word.split(|&byte| byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        take(if lines.peek().is_some() { b"+" } else { b"." });
        take(line);
        take(b"\n");
    }
}

/// What a report's line asks of its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another line follows.
    Line,
    /// So many raw bytes follow, and then another line.
    Bytes(u64),
    /// The report is complete.
    End,
}

/// Why a launch was turned away by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not as it was prepared, or what was sent could not be kept there.
    Changed,
    /// Its shell cannot set a variable.
    Environment,
    /// Arguments and variables are together too long.
    TooLong,
    /// What it needs besides itself could not be started.
    Processes,
}

/// Most bytes kept of [`Report::said`].
pub const MOST_SAID: usize = 300;

/// One report, gathered line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Who answered.
    pub identity: Option<Identity>,
    /// In a first report: whether the host can fork a supervisor into a session of its own.
    pub forks: Option<bool>,
    /// Why nothing can be done on this host.
    pub unusable: Option<String>,
    /// Why a launch was turned away; nothing started by it.
    pub refused: Option<(Refused, String)>,
    /// The supervisor of a launch is gone, and nobody who could have claimed or could yet is left.
    pub unstarted: bool,
    /// What shells had to say before a claim: [`MOST_SAID`] bytes at most.
    pub said: Vec<u8>,
    /// The verb could not be carried out.
    pub fault: Option<String>,
    /// The word of a supervisor that took over this very channel: it claimed, or lost.
    pub taken: bool,
    /// The shell ends after this report.
    pub over: bool,
    pub swept: bool,
    entry: Option<String>,
    claim: Option<String>,
    exit: Option<String>,
    stop: Option<StopReason>,
    tree: Option<String>,
    left: Vec<Survivor>,
    /// How many survivors share the last place in `left`.
    unnamed: u32,
    output: OutputSeen,
}

impl Report {
    /// Takes one line, without the nonce.
    ///
    /// # Errors
    /// [`Flaw::Line`] for a line that no report has.
    pub fn take(&mut self, line: &str) -> Result<Next, Flaw> {
        let flaw = || Flaw::Line(foreign(line));
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "at" => self.identity = Some(identity(rest).ok_or_else(flaw)?),
            "hello" => self.forks = Some(rest == "1"),
            "unusable" => {
                self.unusable = Some(foreign(rest));
                return Ok(Next::End);
            }
            "refused" => self.refused = Some(refused(rest).ok_or_else(flaw)?),
            "unstarted" => self.unstarted = true,
            "said" => {
                let room = MOST_SAID.saturating_sub(self.said.len());
                self.said.extend(rest.bytes().chain([b' ']).take(room));
            }
            "fault" => self.fault = Some(foreign(rest)),
            "claimed" | "lost" => {
                self.taken = true;
                return Ok(Next::End);
            }
            "over" => self.over = true,
            "swept" => self.swept = true,
            "entry" => self.entry = Some(rest.to_owned()),
            "claim" => self.claim = Some(rest.to_owned()),
            "exit" => self.exit = Some(rest.to_owned()),
            "stop" => self.stop = Some(stop_reason(rest).ok_or_else(flaw)?),
            "tree" => self.tree = Some(rest.to_owned()),
            "left" => self.take_left(survivor(rest).ok_or_else(flaw)?),
            "output" => self.take_output(rest).ok_or_else(flaw)?,
            "bytes" => return Ok(Next::Bytes(number(rest).ok_or_else(flaw)?)),
            "end" => return Ok(Next::End),
            _ => return Err(flaw()),
        }
        Ok(Next::Line)
    }

    /// Keeps the first few; the last of them tells how many more there are.
    fn take_left(&mut self, mut found: Survivor) {
        if let Some(last) = self.left.last_mut().filter(|_| self.unnamed > 0) {
            self.unnamed = self.unnamed.saturating_add(1);
            last.command = format!("and {} more", self.unnamed);
            return;
        }
        if self.left.len() + 1 == SURVIVORS {
            (self.unnamed, found.command) = (1, "and 1 more".to_owned());
        }
        found.command = found.command.chars().take(LONGEST_COMMAND).collect();
        self.left.push(found);
    }

    fn take_output(&mut self, rest: &str) -> Option<()> {
        let mut words = rest.split(' ');
        let stream = words.next()?;
        let seen = StreamSeen {
            bytes: number(words.next()?)?,
            truncated: words.next()? == "1",
            ended: words.next()? == "1",
        };
        match stream {
            "out" => self.output.stdout = seen,
            "err" => self.output.stderr = seen,
            _ => return None,
        }
        Some(())
    }

    /// The record the report is of.
    ///
    /// # Errors
    /// [`Flaw`] when a part is missing or damaged.
    pub fn record(&self, token: &str) -> Result<HostRecord, Flaw> {
        let identity = self.identity.as_ref().ok_or(Flaw::Missing("who answered"))?;
        let entry = match self.entry.as_deref() {
            Some("wiped") => EntrySeen::Wiped,
            Some("unclaimed") => EntrySeen::Unclaimed,
            Some("revoked") => EntrySeen::Revoked,
            Some("claimed") => EntrySeen::Claimed(self.claimed(token)?),
            Some(other) => return Err(flaw("entry", other)),
            None => return Err(Flaw::Missing("the entry")),
        };
        let tree = match self.tree.as_deref() {
            None | Some("unsearched") => Tree::Unsearched,
            Some("empty") => Tree::Empty,
            // All of them ended between the scan and the look at their names.
            Some("alive") if self.left.is_empty() => Tree::Unsearched,
            Some("alive") => Tree::Alive(self.left.clone()),
            Some("cannot") => Tree::CannotTell,
            Some(other) => return Err(flaw("tree", other)),
        };
        let Identity { boot, store, uptime_ms, .. } = identity.clone();
        Ok(HostRecord { boot, store, uptime_ms, entry, tree, output: self.output.clone() })
    }

    fn claimed(&self, token: &str) -> Result<Claimed, Flaw> {
        let line = self.claim.as_deref().ok_or(Flaw::Missing("the claim"))?;
        let (processes, claimed_uptime_ms, [supervisor, command, watch]) =
            claim(line).ok_or_else(|| flaw("claim", line))?;
        let exit = match &self.exit {
            None => None,
            Some(text) => Some(parse_exit(text, token).ok_or_else(|| flaw("exit", text))?),
        };
        let stop = self.stop;
        Ok(Claimed { processes, supervisor, command, watch, exit, stop, claimed_uptime_ms })
    }
}

fn flaw(key: &str, rest: &str) -> Flaw {
    Flaw::Line(foreign(&format!("{key} {rest}")))
}

/// A word that stands for a machine, a boot or a store: shown in messages and sent back to the
/// host, so that it has nothing but ASCII that is seen, and not much of it. `-` is none.
fn identity_word(word: &str) -> Option<String> {
    let fits = word.len() <= LONGEST_IDENTITY && word.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| if word == "-" { String::new() } else { word.to_owned() })
}

/// A boot identity is the longest: a boot id, a namespace's name and a start time.
const LONGEST_IDENTITY: usize = 255;

fn refused(rest: &str) -> Option<(Refused, String)> {
    let (kind, message) = rest.split_once(' ')?;
    let kind = match kind {
        "changed" => Refused::Changed,
        "environment" => Refused::Environment,
        "toolong" => Refused::TooLong,
        "processes" => Refused::Processes,
        _ => return None,
    };
    Some((kind, foreign(message)))
}

fn identity(rest: &str) -> Option<Identity> {
    let words: Vec<&str> = rest.split(' ').collect();
    let [machine, boot, store, uptime, can] = words.as_slice() else { return None };
    Some(Identity {
        machine: identity_word(machine).filter(|machine| !machine.is_empty())?,
        boot: identity_word(boot)?,
        store: identity_word(store)?,
        uptime_ms: number(uptime)?,
        can_tell: *can == "1",
    })
}

fn claim(rest: &str) -> Option<(ProcessIds, u64, [Life; 3])> {
    let words: Vec<&str> = rest.split(' ').collect();
    let [s, s_start, c, c_start, uptime, boot, s_life, c_life, w_life] = words.as_slice() else {
        return None;
    };
    let process = |id: &str, start: &str| Some(ProcessId { pid: pid(id)?, start: number(start)? });
    let processes = ProcessIds {
        boot: identity_word(boot)?,
        supervisor: process(s, s_start)?,
        command: process(c, c_start)?,
    };
    Some((processes, number(uptime)?, [life(s_life)?, life(c_life)?, life(w_life)?]))
}

fn life(word: &str) -> Option<Life> {
    match word {
        "alive" => Some(Life::Alive),
        "gone" => Some(Life::Gone),
        "cannot" => Some(Life::CannotTell),
        _ => None,
    }
}

fn survivor(rest: &str) -> Option<Survivor> {
    let (id, rest) = rest.split_once(' ')?;
    let (uid, command) = rest.split_once(' ').unwrap_or((rest, ""));
    let uid = number(uid)?.try_into().ok()?;
    Some(Survivor { pid: pid(id)?, uid, command: foreign(command) })
}

fn stop_word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Cancelled => "Cancelled",
        StopReason::ExecutionTimeout => "ExecutionTimeout",
        StopReason::IdleTimeout => "IdleTimeout",
        StopReason::Deleted => "Deleted",
        StopReason::Fenced => "Fenced",
    }
}

fn stop_reason(word: &str) -> Option<StopReason> {
    let all = [
        StopReason::Cancelled,
        StopReason::ExecutionTimeout,
        StopReason::IdleTimeout,
        StopReason::Deleted,
        StopReason::Fenced,
    ];
    all.into_iter().find(|reason| stop_word(*reason) == word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::record::LARGEST;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn report(lines: &[&str]) -> Result<Report, Flaw> {
        let mut report = Report::default();
        for line in lines {
            report.take(line)?;
        }
        Ok(report)
    }

    #[test]
    fn a_word_of_several_lines_is_framed_line_by_line() {
        let table: [(&str, &str); 5] = [
            ("", ".\n"),
            ("one", ".one\n"),
            ("one\n", "+one\n.\n"),
            (".\n+", "+.\n.+\n"),
            ("\n\n", "+\n+\n.\n"),
        ];
        for (word, framed) in table {
            let mut bytes = Vec::new();
            put_word(&mut bytes, word.as_bytes());
            assert_eq!(String::from_utf8(bytes).unwrap(), framed);
        }
    }

    /// Guards against copies of secrets in freed memory.
    #[test]
    fn the_inputs_of_a_launch_are_written_into_memory_that_never_grows() {
        let secret = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let inputs = Inputs {
            argv: vec![b"sh".to_vec(), b"one\ntwo".to_vec()],
            env: vec![("TOKEN".to_owned(), secret(&"s3cret\n".repeat(1000)))],
            working_directory: b"/srv".to_vec(),
            script: Some(Zeroizing::new(b"echo \"$1\"\n".to_vec())),
            stdin: Some(secret(&"more".repeat(1000))),
            output_limit: 1,
            deadline: Duration::from_secs(1),
            grace: Duration::from_secs(1),
        };
        let bytes = inputs.bytes("call");
        assert!(bytes.starts_with(b"2 1 10 4000 0\n./srv\n.TOKEN\n+s3cret\n"));
        assert!(bytes.ends_with(b"moremorecall\n"));
        assert_eq!(bytes.capacity(), bytes.len());
    }

    #[test]
    fn an_entry_is_named_by_harmless_words_only() {
        let entry = |uid: &str| Entry {
            uid: uid.to_owned(),
            run: 1,
            attempt: 2,
            kind: Kind::Verify,
            token: TOKEN.to_owned(),
            machine: String::new(),
            run_as: None,
        };
        let line = request("probe", "c", &entry("u-1"), "").unwrap();
        assert_eq!(line, format!("probe c u-1 1-2v {TOKEN} "));
        for uid in ["", "../x", "a b", "a/b", "-x", "*", "a\nb"] {
            assert!(request("probe", "c", &entry(uid), "").is_err(), "{uid:?}");
        }
    }

    #[test]
    fn a_record_needs_all_of_its_parts() {
        let exit = format!("exit {TOKEN} 3 - ran 90 - {TOKEN} 3 .");
        let at = "at m boot store 100 1";
        let whole =
            ["entry claimed", "claim 7 70 8 80 60 boot gone gone gone", &exit, "tree empty"];
        let record = report(&[&[at], &whole[..]].concat()).unwrap().record(TOKEN).unwrap();
        let EntrySeen::Claimed(claimed) = record.entry else { panic!("{record:?}") };
        assert_eq!(claimed.exit.unwrap().code(), 3);
        assert_eq!((claimed.processes.command.pid, claimed.claimed_uptime_ms), (8, 60));
        assert_eq!((record.uptime_ms, record.tree), (100, Tree::Empty));
        assert!(report(&whole).unwrap().record(TOKEN).is_err());
        assert!(report(&[at]).unwrap().record(TOKEN).is_err());
        assert!(report(&[at, "entry claimed"]).unwrap().record(TOKEN).is_err());
        // An exit of another entry is damage, not an end.
        let other = report(&[&[at], &whole[..]].concat()).unwrap().record(&"f".repeat(32));
        assert!(other.is_err());
    }

    #[test]
    fn lines_that_no_report_has_are_flaws() {
        for line in [
            "",
            "hurrah",
            "at m b",
            "refused",
            "refused why not",
            "stop Tired",
            "claim x",
            "output xxx 1 0 0",
            "bytes -",
        ] {
            let taken = report(&[line]).and_then(|report| report.record(TOKEN));
            assert!(taken.is_err(), "{line:?}");
        }
    }

    #[test]
    fn what_a_host_says_of_itself_is_foreign_text() {
        let foul = "\u{1b}]0;x\u{7}\u{202e}a\0b";
        let left = format!("left 7 0 {foul}{}", "y".repeat(20_000));
        let said = [&format!("refused changed {foul}") as &str, &left];
        let report = report(&said).unwrap();
        let shown = [report.refused.clone().unwrap().1, report.left[0].command.clone()];
        for text in &shown {
            let plain = |c: char| c == '\u{fffd}' || c.is_ascii_graphic() || c == '…';
            assert!(text.chars().all(plain) && text.chars().count() <= 300, "{text:?}");
        }
        for line in [
            format!("at {foul} boot store 1 1"),
            format!("at m {} store 1 1", "b".repeat(300)),
            "at m boot store 18446744073709551615 1".to_owned(),
            "output out 18446744073709551615 0 0".to_owned(),
            "bytes 18446744073709551615".to_owned(),
        ] {
            let refused = super::Report::default().take(&line).unwrap_err().to_string();
            assert!(!refused.contains(['\u{1b}', '\u{202e}', '\0']) && refused.len() < 1500);
        }
    }

    #[test]
    fn however_many_processes_a_host_names_a_few_are_kept_and_the_rest_counted() {
        let line = |pid| format!("left {pid} 0 {}", "x".repeat(20_000));
        let lines: Vec<String> = (1..=5000).map(line).collect();
        let mut report = Report::default();
        for line in &lines {
            assert_eq!(report.take(line), Ok(Next::Line));
        }
        assert_eq!(report.left.len(), SURVIVORS);
        assert_eq!(report.left[30].command, "x".repeat(LONGEST_COMMAND));
        assert_eq!((report.left[31].pid, report.left[31].command.as_str()), (32, "and 4969 more"));
        let mut report = Report::default();
        for line in lines.iter().take(SURVIVORS - 1) {
            report.take(line).unwrap();
        }
        assert!(report.left.iter().all(|left| left.command.starts_with('x')));
    }

    /// Numbers that a field of 64 bits, signed or not, or a sum of two of them cannot hold, and
    /// what only some parsers take for a number.
    fn no_number() -> impl Strategy<Value = String> {
        let beyond = (0..u128::from(u64::MAX)).prop_map(|more| u128::from(LARGEST) + 1 + more);
        let edges = [LARGEST + 1, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX].map(|n| n.to_string());
        prop_oneof![
            beyond.prop_map(|number| number.to_string()),
            proptest::sample::select(edges.to_vec()),
            "[+-][0-9]{1,20}",
            "[1-9][0-9]{16,60}",
            "[0-9]{0,3}[a-z_.,xe][0-9]{0,3}",
            Just(String::new()),
        ]
    }

    /// The lines of a report that have numbers, each with one of them left open.
    const NUMBERED: [&str; 12] = [
        "at m boot store # 1",
        "claim # 70 8 80 60 boot gone gone gone",
        "claim 7 # 8 80 60 boot gone gone gone",
        "claim 7 70 # 80 60 boot gone gone gone",
        "claim 7 70 8 # 60 boot gone gone gone",
        "claim 7 70 8 80 # boot gone gone gone",
        "exit TOKEN # - ran 90 - TOKEN # .",
        "exit TOKEN 3 - ran # - TOKEN 3 .",
        "left # 0 sh",
        "left 7 # sh",
        "output out # 0 0",
        "bytes #",
    ];

    fn with_number(line: &str, number: &str) -> Result<HostRecord, Flaw> {
        let line = line.replace("TOKEN", TOKEN).replace('#', number);
        let claim = "claim 7 70 8 80 60 boot gone gone gone";
        report(&["at m boot store 100 1", "entry claimed", claim, "tree alive", &line])?
            .record(TOKEN)
    }

    proptest! {
        #[test]
        fn a_number_that_cannot_be_is_refused_wherever_a_report_has_one(
            line in proptest::sample::select(NUMBERED.to_vec()),
            number in no_number(),
        ) {
            prop_assert!(with_number(line, &number).is_err(), "{line} {number}");
        }

        /// What is let through does not overflow where it is reckoned with.
        #[test]
        fn no_sum_of_what_is_believed_overflows(one in 0..=LARGEST, other in 0..=LARGEST) {
            let line = format!("exit {TOKEN} 3 - ran {one} - {TOKEN} 3 .");
            let mut record = with_number(&line, "").unwrap();
            record.uptime_ms = other;
            let EntrySeen::Claimed(claimed) = &record.entry else { panic!("{record:?}") };
            let over = record.output_is_over(claimed.exit.as_ref().unwrap());
            prop_assert_eq!(over, one == 0 || other >= one + 2_000);
            prop_assert!(i64::try_from(one + other).is_ok());
        }
    }

    #[test]
    fn a_number_at_its_bound_is_believed_and_one_beyond_is_not() {
        let (largest, beyond) = (LARGEST.to_string(), (LARGEST + 1).to_string());
        for line in NUMBERED {
            let most = match line {
                "claim # 70 8 80 60 boot gone gone gone"
                | "claim 7 70 # 80 60 boot gone gone gone"
                | "left # 0 sh" => "2147483647",
                "left 7 # sh" => "4294967295",
                "exit TOKEN # - ran 90 - TOKEN # ." => "255",
                _ => &largest,
            };
            assert!(with_number(line, most).is_ok(), "{line} {most}");
            let more = (most.parse::<u64>().unwrap() + 1).to_string();
            assert!(with_number(line, &more).is_err() && with_number(line, &beyond).is_err());
        }
        for line in ["claim # 70 8 80 60 boot gone gone gone", "left # 0 sh"] {
            assert!(with_number(line, "0").is_err(), "{line}");
        }
    }

    #[test]
    fn time_limits_are_rounded_up_to_whole_seconds() {
        for (millis, whole) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (30_000, 30)] {
            assert_eq!(seconds(Duration::from_millis(millis)), whole);
        }
    }
}
