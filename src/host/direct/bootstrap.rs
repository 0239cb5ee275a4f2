//! How a Direct command's words reach the far side without a shell parsing them.
//!
//! The login shell sees one constant line, which reads the user to become and a nonce, and
//! prints its [`answer`] on both streams: what comes before it is noise of the login. The answer is
//! not in what was sent, so that a forced command like `tee` does not give it by giving back what it
//! reads. The values follow on standard input only then, each as a count of lines and those lines,
//! and become variables and positional parameters. So where the answer never came, nothing of the
//! command was ever sent. The nonce again marks their end: a connection that breaks before it
//! runs nothing. What is left of standard input is the command's own.
//!
//! The shell then becomes the command, so that the server itself tells by which signal it
//! ended. The last thing that it says before is a mark on stdout: only behind that is an end the
//! command's. What cannot be started, or not be given to it, is found out before, and told by
//! another mark; a shell that could not go on (no process to fork) says none.

use zeroize::Zeroizing;

use crate::core::action::Kind;
use crate::core::plan::{Direct, Plan};
use crate::core::record::StartFailure;
use crate::host::Material;
use crate::host::inputs::{script_of, words};
use crate::shim::wire::is_large;

/// The line a login shell is given. No `'`, `!` or line feed inside the quotes, and no
/// backslash before a quote: sh, fish and tcsh then agree on what it means.
///
/// The first part reads the user to become, behind a `#`: to another shell in its place that line is a
/// comment, and where a start-up file took it, the next one is no user. The second part, run as that user, reads the
/// nonce and prints it, and then reads the script's presence and text, whether it is large,
/// directory, environment, words and the end mark, and looks whether there is something to
/// start and the host takes it, as the recorded way does.
///
/// A variable is set at once and compared: command makes of what would end a shell a status.
/// Those whose names begin as ours do are kept for the end among the words.
///
/// The script is a here-document, because the last part of a pipe is not the shell itself; so
/// it always ends with a line feed. Shells that keep those in files may have no room for one:
/// then a pipe has to do, and the end by a signal is what the shell says of it.
const LINE: &str = concat!(
    "exec /bin/sh -c '",
    r#"IFS= read -r u || exit 125; case $u in [#]*) u=${u#?} ;; "#,
    r#"*) echo "remote-command: a start-up file has read what was meant for us" >&2; exit 125 ;; esac; "#,
    r#"if [ -n "$u" ]; then exec sudo -n -u "$u" -- /bin/sh -c "$1"; fi; "#,
    r#"exec /bin/sh -c "$1""#,
    "' sh '",
    r#"rcmd_n=$(printf "\n\001x"); rcmd_n=${rcmd_n%x}; rcmd_q=${rcmd_n#?}; rcmd_n=${rcmd_n%?}; "#,
    r#"rcmd_line() { IFS= read -r rcmd_l || exit 125; }; "#,
    r#"rcmd_get() { rcmd_line; rcmd_c=$rcmd_l; rcmd_line; rcmd_v=$rcmd_l; "#,
    r#"while [ "$rcmd_c" -gt 1 ]; do rcmd_line; "#,
    r#"rcmd_v=$rcmd_v$rcmd_n$rcmd_l; rcmd_c=$((rcmd_c-1)); done; }; "#,
    r#"rcmd_line; rcmd_k=$rcmd_l; "#,
    r#"printf "\n%s.\n" "$rcmd_k"; printf "\n%s.\n" "$rcmd_k" >&2; "#,
    r#"rcmd_say() { echo "$rcmd_q$rcmd_k $1"; }; "#,
    r#"rcmd_line; rcmd_x=$rcmd_l; rcmd_get; rcmd_s=$rcmd_v; rcmd_line; rcmd_z=$rcmd_l; "#,
    r#"rcmd_get; rcmd_d=$rcmd_v; "#,
    r#"rcmd_put() { [ "$rcmd_e" = OPTIND ] || unset -v "$rcmd_e"; command export "$rcmd_v"; }; "#,
    r#"rcmd_line; rcmd_i=$rcmd_l; rcmd_o=; set --; "#,
    r#"while [ "$rcmd_i" -gt 0 ]; do rcmd_get; rcmd_i=$((rcmd_i-1)); rcmd_e=${rcmd_v%%=*}; "#,
    r#"case ${ZSH_VERSION:+z}$rcmd_e in rcmd_* | zrcmd_*) set -- "$@" "$rcmd_v"; continue ;; "#,
    r#"zUID | zEUID | zGID | zEGID | zUSERNAME) rcmd_o=$rcmd_e; continue ;; esac; "#,
    r#"if command eval rcmd_put 2>/dev/null && eval "rcmd_t=\$$rcmd_e" && "#,
    r#"[ "$rcmd_t" = "${rcmd_v#*=}" ]; then :; else rcmd_o=$rcmd_e; fi; done; "#,
    r#"rcmd_line; rcmd_i=$rcmd_l; rcmd_p=; set -- "$@" ""; "#,
    r#"while [ "$rcmd_i" -gt 0 ]; do rcmd_get; set -- "$@" "$rcmd_v"; "#,
    r#"rcmd_p=${rcmd_p:-$rcmd_v}; rcmd_i=$((rcmd_i-1)); done; "#,
    r#"rcmd_line; [ "$rcmd_l" = "$rcmd_k" ] || exit 125; "#,
    r#"if [ -n "$rcmd_o" ]; then rcmd_say "environment $rcmd_o"; exit 125; fi; "#,
    r#"rcmd_no() { rcmd_say "$1"; "#,
    r#"printf "remote-command: %s\n" "$2" >&2; exit "$3"; }; "#,
    r#"if [ -n "$rcmd_d" ]; then case $rcmd_d in /*) ;; *) rcmd_d=./$rcmd_d ;; esac; "#,
    r#"if [ -d "$rcmd_d" ]; then cd -- "$rcmd_d" || "#,
    r#"rcmd_no denied "working directory $rcmd_d may not be entered" 126; "#,
    r#"elif [ -e "$rcmd_d" ]; then "#,
    r#"rcmd_no notfound "working directory $rcmd_d is not a directory" 127; "#,
    r#"else rcmd_no notfound "working directory $rcmd_d cannot be found" 127; fi; fi; "#,
    r#"rcmd_b=notfound; rcmd_try() { if [ -f "$1" ] && [ -x "$1" ]; then rcmd_b=ran; "#,
    r#"elif [ -e "$1" ]; then rcmd_b=denied; fi; }; "#,
    r#"case $rcmd_p in */*) rcmd_try "$rcmd_p" ;; *) rcmd_r=$PATH:; "#,
    r#"until [ -z "$rcmd_r" ] || [ "$rcmd_b" = ran ]; do "#,
    r#"rcmd_l=${rcmd_r%%:*}; rcmd_r=${rcmd_r#*:}; rcmd_try "${rcmd_l:-.}/$rcmd_p"; done ;; esac; "#,
    r#"case $rcmd_b in notfound) rcmd_no notfound "$rcmd_p: no such program" 127 ;; "#,
    r#"denied) rcmd_no denied "$rcmd_p may not be executed" 126 ;; esac; "#,
    r#"if [ "$rcmd_z" = 1 ]; then (exec 2>/dev/null; while [ -n "$1" ]; do export "$1"; shift; done; shift; "#,
    r#"exec /bin/sh -c : "$@"); "#,
    r#"if [ $? = 126 ]; then rcmd_say toolong; exit 125; fi; fi; "#,
    r#"rcmd_go() { rcmd_say ran; while [ -n "$1" ]; do export "$1"; shift; done; shift; exec "$@"; }; "#,
    r#"if [ "$rcmd_x" = 0 ]; then rcmd_go "$@"; fi; "#,
    r#"rcmd_t=${rcmd_s%"$rcmd_n"}; "#,
    r#"if { eval "command exec 3<<rcmd$rcmd_n\$rcmd_t${rcmd_n}rcmd$rcmd_n"; } 2>/dev/null; "#,
    r#"then rcmd_go "$@" /dev/fd/3; fi; "#,
    r#"{ printf %s "$rcmd_s" | { exec 3<&0 0<&4 4<&-; rcmd_go "$@" /dev/fd/3; }; } 4<&0"#,
    "'",
);

/// What a shell that runs our line answers to this nonce, on each stream.
pub(super) fn answer(nonce: &str) -> String {
    format!("\n{nonce}.\n")
}

/// The longest mark: a variable's name is in it.
const LONGEST_MARK: usize = 1024;

/// What stdout begins with, behind the nonce: never text by chance, and the command does not know
/// the nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The command begins, or is found not to be there or not to be allowed.
    Begun(StartFailure),
    /// The shell cannot set this variable to its value. Nothing begins.
    Environment(String),
    /// Arguments and variables are together too long. Nothing begins.
    TooLong,
}

/// The mark that `first` begins with and its length; `None` while it may become one.
///
/// # Errors
/// When it is none, nor ever will be.
pub(super) fn mark(nonce: &str, first: &[u8]) -> Result<Option<(Mark, usize)>, NoMark> {
    let before = format!("\u{1}{nonce} ").into_bytes();
    let Some(rest) = first.strip_prefix(before.as_slice()) else {
        return if before.starts_with(first) { Ok(None) } else { Err(NoMark) };
    };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return if rest.len() < LONGEST_MARK { Ok(None) } else { Err(NoMark) };
    };
    let word = String::from_utf8_lossy(rest.get(..end).unwrap_or_default());
    let mark = match word.as_ref() {
        "ran" => Mark::Begun(StartFailure::None),
        "notfound" => Mark::Begun(StartFailure::CommandNotFound),
        "denied" => Mark::Begun(StartFailure::PermissionDenied),
        "toolong" => Mark::TooLong,
        word => Mark::Environment(word.strip_prefix("environment ").ok_or(NoMark)?.to_owned()),
    };
    Ok(Some((mark, before.len() + end + 1)))
}

/// What came is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mark")]
pub(super) struct NoMark;

/// What is sent to run one attempt.
pub(super) struct Request {
    pub(super) line: String,
    /// Sent on standard input at once: who is to run it, and the nonce.
    pub(super) head: Vec<u8>,
    /// Sent when the nonce has come back, followed by the end of standard input.
    pub(super) input: Zeroizing<Vec<u8>>,
    /// What is echoed on both streams; `None` where the words are the line.
    pub(super) nonce: Option<String>,
}

/// The request for a plan's command or its verify.
///
/// # Errors
/// A sentence on what cannot be carried out; nothing was sent.
pub(super) fn request(
    plan: &Plan,
    direct: &Direct,
    kind: Kind,
    material: Material,
) -> Result<Request, String> {
    let program = &plan.program;
    let (argv, script) = match (kind, &plan.verify) {
        (Kind::Command, _) => {
            let script = script_of(program, material.script).map_err(|error| error.to_string())?;
            (words(program, &material.interpreter), script)
        }
        (Kind::Verify, Some(verify)) => (verify.command.as_slice(), None),
        (Kind::Verify, None) => return Err("there is no verify command".to_owned()),
    };
    if argv.first().is_none_or(|word| word.is_empty() || word.starts_with('-')) {
        return Err("the command has no program's name as its first word".to_owned());
    }
    let stdin = match kind {
        Kind::Command => material.stdin.unwrap_or_default(),
        Kind::Verify => Zeroizing::default(),
    };
    if direct.is_plain() {
        return plain(argv, stdin);
    }
    let nonce: String = format!("{:032x}", rand::random::<u128>());
    let mut head = Vec::new();
    line(&mut head, format!("#{}", program.run_as.as_deref().unwrap_or("")).as_bytes())?;
    line(&mut head, nonce.as_bytes())?;
    let script = script.as_ref();
    let room = room(plan, argv, &material.env) + script.map_or(0, |s| s.len()) + stdin.len();
    // It never grows: growing would leave a copy behind that nobody wipes.
    let mut input = Zeroizing::new(Vec::with_capacity(room));
    line(&mut input, if script.is_some() { b"1" } else { b"0" })?;
    value(&mut input, script.map_or(&[], |s| s.as_slice()))?;
    line(&mut input, if is_large(argv, &material.env) { b"1" } else { b"0" })?;
    value(&mut input, program.working_directory.as_deref().unwrap_or("").as_bytes())?;
    line(&mut input, material.env.len().to_string().as_bytes())?;
    for (name, content) in &material.env {
        let mut pair = Zeroizing::new(Vec::with_capacity(name.len() + 1 + content.len()));
        pair.extend_from_slice(name.as_bytes());
        pair.push(b'=');
        pair.extend_from_slice(content);
        value(&mut input, &pair)?;
    }
    line(&mut input, argv.len().to_string().as_bytes())?;
    for word in argv {
        value(&mut input, word.as_bytes())?;
    }
    line(&mut input, nonce.as_bytes())?;
    input.extend_from_slice(&stdin);
    Ok(Request { line: LINE.to_owned(), head, input, nonce: Some(nonce) })
}

/// The most bytes that everything but the script and stdin takes.
fn room(plan: &Plan, argv: &[String], env: &[(String, Zeroizing<Vec<u8>>)]) -> usize {
    /// Of a count in words, and the line feeds after it and after what it counts.
    const FRAME: usize = 22;
    /// The counts of words and variables, whether there is a script and its frame, the end mark.
    const FIXED: usize = 8 * FRAME;
    let directory = plan.program.working_directory.as_ref().map_or(0, String::len) + FRAME;
    let words: usize = argv.iter().map(|word| word.len() + FRAME).sum();
    let pair = |(name, value): &(String, Zeroizing<Vec<u8>>)| name.len() + 1 + value.len() + FRAME;
    FIXED + directory + words + env.iter().map(pair).sum::<usize>()
}

/// The words as they are: for devices without a shell, and for accounts with a forced command.
fn plain(argv: &[String], stdin: Zeroizing<Vec<u8>>) -> Result<Request, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if let Some(word) = argv.iter().find(|word| word.is_empty() || !word.chars().all(harmless)) {
        return Err(format!(
            "{word:?} cannot be sent as it is; allowed are A-Z a-z 0-9 _@%+=:,./-"
        ));
    }
    Ok(Request { line: argv.join(" "), head: Vec::new(), input: stdin, nonce: None })
}

/// One line that holds no line feed.
fn line(input: &mut Vec<u8>, text: &[u8]) -> Result<(), String> {
    if text.contains(&b'\n') || text.contains(&0) {
        return Err("a name holds a line feed or a NUL".to_owned());
    }
    input.extend_from_slice(text);
    input.push(b'\n');
    Ok(())
}

/// The count of lines, and the lines.
fn value(input: &mut Vec<u8>, text: &[u8]) -> Result<(), String> {
    if text.contains(&0) {
        return Err("a word, a value or the script holds a NUL".to_owned());
    }
    let lines = text.split(|byte| *byte == b'\n').count();
    input.extend_from_slice(lines.to_string().as_bytes());
    input.push(b'\n');
    input.extend_from_slice(text);
    input.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::core::plan::Value;

    fn plan(argv: &[&str]) -> Plan {
        Plan::plain("uid", "local", argv)
    }

    #[test]
    fn every_login_shell_reads_the_line_alike() {
        assert!(!LINE.contains(['!', '\n']));
        assert!(!LINE.contains("\\'") && !LINE.contains("\\\\"));
        assert_eq!(LINE.matches('\'').count(), 4);
    }

    /// What a shell says that is given `input` and then the end of its input.
    fn said(shell: &str, input: &[u8]) -> String {
        let line = LINE.replace("/bin/sh", shell);
        let mut child = Command::new(shell)
            .args(["-c", &line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It may have ended before it took everything.
        let _ = child.stdin.take().unwrap().write_all(input);
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_connection_that_breaks_at_any_byte_before_the_end_mark_runs_nothing() {
        let argv = ["/bin/sh", "-c", "printf 'it ran %s %s' \"$1\" \"$V\"", "sh", "one\ntwo"];
        breaks_anywhere(&plan(&argv), "it ran one\ntwo x\n");
        let mut plan = plan(&["/bin/sh", "-u"]);
        plan.program.script =
            Some(Value::Literal("printf 'it ran '\nprintf %s \"$V\"\n".to_owned()));
        breaks_anywhere(&plan, "it ran x\n");
    }

    /// Guards against an exit code for a variable that cannot be set, and against names that are
    /// the bootstrap's own.
    #[test]
    fn a_variable_that_the_shell_cannot_set_is_told_and_any_other_arrives() {
        let cases = [
            ("dash", "OPTIND", "x", false),
            ("dash", "UID", "7", true),
            ("dash", "_", "x", true),
            ("bash", "OPTIND", "x", false),
            ("bash", "UID", "7", false),
            ("bash", "SHELLOPTS", "x", false),
            ("bash", "_", "x", false),
            ("dash", "IFS", "1 0", true),
            ("bash", "IFS", "1 0", true),
            ("bash", "RANDOM", "no", true),
            ("dash", "rcmd_k", "mine", true),
            ("bash", "rcmd_put", "mine", true),
            ("dash", "OPTIND", "2", true),
        ];
        for (shell, name, content, arrives) in cases {
            let direct = Direct { no_shell: false, forced_command: false, may_overlap: false };
            let secret = Zeroizing::new(content.as_bytes().to_vec());
            let env = vec![(name.to_owned(), secret), ("LAST".to_owned(), Zeroizing::default())];
            let material = Material { env, ..Material::default() };
            let plan = plan(&["/usr/bin/env"]);
            let request = request(&plan, &direct, Kind::Command, material).unwrap();
            let nonce = request.nonce.unwrap();
            let said = said(shell, &[request.head.as_slice(), request.input.as_slice()].concat());
            let told = format!("{}\u{1}{nonce} environment {name}\n", answer(&nonce));
            assert_eq!(said == told, !arrives, "{shell} {name}: {said}");
            let line = format!("\n{name}={content}\n");
            assert_eq!(said.contains(&line), arrives, "{shell} {name}: {said}");
        }
    }

    fn breaks_anywhere(plan: &Plan, written: &str) {
        let direct = Direct { no_shell: false, forced_command: false, may_overlap: false };
        let env = vec![("V".to_owned(), Zeroizing::new(b"x\n".to_vec()))];
        let material = Material { env, ..Material::default() };
        let request = request(plan, &direct, Kind::Command, material).unwrap();
        let all = [request.head.as_slice(), request.input.as_slice()].concat();
        let nonce = request.nonce.unwrap();
        for shell in ["sh", "dash", "bash"] {
            let whole = said(shell, &all);
            assert_eq!(whole, format!("{}\u{1}{nonce} ran\n{written}", answer(&nonce)), "{shell}");
            for cut in 0..all.len() {
                let some = said(shell, &all[..cut]);
                assert!(!some.contains("it ran"), "{shell}, {cut} of {} bytes", all.len());
                // And what is echoed is only what had come.
                assert_eq!(some.contains(&nonce), cut >= request.head.len(), "{shell}, {cut}");
            }
        }
    }

    /// Guards against copies of secrets in freed memory.
    #[test]
    fn what_is_sent_is_written_into_memory_that_never_grows() {
        for words in [0, 1, 10_000] {
            let mut plan = plan(&vec!["w"; words + 1]);
            plan.program.script = Some(Value::Literal("echo\n".repeat(words)));
            plan.program.working_directory = Some("/srv".to_owned());
            let secret = |text: &str| Zeroizing::new(text.repeat(words).into_bytes());
            let env: Vec<_> = (0..words).map(|n| (format!("V{n}"), secret("\n"))).take(3).collect();
            let stdin = secret("more");
            let sized = room(&plan, &plan.program.argv, &env) + 5 * words + stdin.len();
            let direct = Direct { no_shell: false, forced_command: false, may_overlap: false };
            let material = Material { env, stdin: Some(stdin), ..Material::default() };
            let request = request(&plan, &direct, Kind::Command, material).unwrap();
            assert_eq!(request.input.capacity(), sized, "{words} words");
        }
    }

    #[test]
    fn values_keep_their_lines() {
        let mut input = Vec::new();
        value(&mut input, b"one\n\ntwo ").unwrap();
        value(&mut input, b"").unwrap();
        assert_eq!(input, b"3\none\n\ntwo \n1\n\n");
        assert!(value(&mut input, b"a\0b").is_err());
    }
}
