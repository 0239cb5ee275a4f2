//! What a user passes arrives byte for byte, and nothing of it is ever run by a shell.

use std::fs;

use remote_command::core::action::{Refusal, Seen};
use remote_command::core::plan::Value;
use remote_command::core::record::EntrySeen;
use remote_command::host::{Material, Stream};
use zeroize::Zeroizing;

use crate::rig::{Rig, Sh, text_of};
use crate::under_every_shell;

under_every_shell! {
    a_command_runs_and_its_end_is_on_record
    arguments_arrive_byte_for_byte
    environment_values_arrive_byte_for_byte
    standard_input_arrives_byte_for_byte_and_leaves_no_file
    a_script_arrives_byte_for_byte_and_needs_no_executable_bit
    text_that_looks_like_shell_is_never_run
    a_word_may_have_128_kib
    without_standard_input_there_is_an_empty_one
    the_command_gets_the_accounts_umask_directory_and_environment_and_nothing_of_ours
    a_variable_may_have_a_name_that_shells_treat_specially
    a_variable_that_this_shell_cannot_set_is_refused_before_the_program_starts
    arguments_that_are_together_too_long_are_refused_before_anything_starts
    a_working_directory_is_entered
}

/// Every byte a word can hold, in an order that breaks escapes.
fn awkward() -> String {
    let mut text =
        String::from(" '\"`$(id)\\n\\\\ \n\n+.-\t!*?[a]{b,c}~ # %s é\u{80}\u{ff}\u{10ffff}");
    text.extend((1..=255u8).map(char::from));
    text.push_str("\n\n");
    text
}

async fn a_command_runs_and_its_end_is_on_record(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]);
    let (code, out, err) = attempt.run().await;
    assert_eq!((code, out.as_slice(), err.as_slice()), (3, &b"out\n"[..], &b"err\n"[..]));
}

async fn arguments_arrive_byte_for_byte(sh: Sh) {
    let rig = Rig::new(sh);
    let awkward = awkward();
    let words = [awkward.as_str(), "", "-n", "--", "\n", "a\n", "end"];
    let mut argv = vec!["/usr/bin/printf", "%s\\0"];
    argv.extend(words);
    let (code, out, err) = rig.command(&argv).run().await;
    let expected: String = words.iter().flat_map(|word| [word, "\0"]).collect();
    assert_eq!(String::from_utf8_lossy(&out), expected, "{code} {err:?}");
}

async fn environment_values_arrive_byte_for_byte(sh: Sh) {
    let rig = Rig::new(sh);
    let raw: Vec<u8> = (1..=255).collect();
    let mut attempt = rig
        .command(&["/bin/cat", "/proc/self/environ"])
        .env("AWKWARD", &awkward())
        .env("EMPTY", "");
    attempt.prepare().await;
    let mut material = attempt.material();
    material.env.push(("RAW".into(), Zeroizing::new(raw.clone())));
    attempt.act_with(attempt.launch_action(), Some(material)).await;
    assert_eq!(attempt.finished().await.code(), 0);
    let out = attempt.output(Stream::Stdout).await;
    let environ: Vec<&[u8]> = out.split(|&byte| byte == 0).collect();
    assert!(environ.contains(&[b"RAW=", raw.as_slice()].concat().as_slice()));
    assert!(environ.contains(&[b"AWKWARD=", awkward().as_bytes()].concat().as_slice()));
    assert!(environ.contains(&&b"EMPTY="[..]));
}

async fn standard_input_arrives_byte_for_byte_and_leaves_no_file(sh: Sh) {
    let rig = Rig::new(sh);
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend((0..200_000).map(|i: u32| (i * 7 % 251) as u8));
    let mut attempt = rig.command(&["/bin/sh", "-c", "cat; ls $0", ""]);
    attempt.prepare().await;
    *attempt.plan.program.argv.last_mut().unwrap() = attempt.directory(&rig).display().to_string();
    let material = Material { stdin: Some(Zeroizing::new(bytes.clone())), ..Material::default() };
    attempt.act_with(attempt.launch_action(), Some(material)).await;
    assert_eq!(attempt.finished().await.code(), 0);
    let out = attempt.output(Stream::Stdout).await;
    assert!(out.starts_with(&bytes), "{} bytes came", out.len());
    let files = String::from_utf8_lossy(&out[bytes.len()..]).into_owned();
    assert!(files.contains("claim") && !files.contains("stdin"), "{files}");
}

async fn a_script_arrives_byte_for_byte_and_needs_no_executable_bit(sh: Sh) {
    let rig = Rig::new(sh);
    let text = format!("cat \"$0\"; exit 7\n{}", awkward());
    let mut attempt = rig.script(&text);
    let (code, out, _) = attempt.run().await;
    assert_eq!((code, String::from_utf8_lossy(&out).as_ref()), (7, text.as_str()));
    let left: Vec<_> = fs::read_dir(attempt.directory(&rig)).unwrap().flatten().collect();
    assert!(!left.iter().any(|file| file.file_name().to_string_lossy().contains("script")));
}

async fn text_that_looks_like_shell_is_never_run(sh: Sh) {
    let rig = Rig::new(sh);
    let mark = rig.place.join("ran");
    let evil = format!("'; touch {0}; $(touch {0}) `touch {0}` \n touch {0}\n", mark.display());
    let mut attempt = rig
        .command(&["/bin/echo", &evil, &format!("$(touch {})", mark.display())])
        .env("EVIL", &evil)
        .env("IFS", &evil);
    attempt.plan.program.stdin = Some(Value::Literal(evil.clone()));
    let (code, _, err) = attempt.run().await;
    assert_eq!((code, err.as_slice()), (0, &b""[..]));
    attempt.plan.program.working_directory = Some(evil.clone());
    attempt.entry = crate::rig::entry();
    assert_eq!(attempt.run().await.0, 127);
    assert!(!mark.exists());
}

async fn a_word_may_have_128_kib(sh: Sh) {
    let rig = Rig::new(sh);
    let word = "x".repeat(128 * 1024 - 16);
    let mut attempt = rig.command(&["/bin/sh", "-c", "printf '%s %s' ${#1} ${#BIG}", "sh", &word]);
    attempt = attempt.env("BIG", &word);
    let (code, out, err) = attempt.run().await;
    let expected = format!("{0} {0}", word.len());
    assert_eq!(String::from_utf8_lossy(&out), expected, "{code} {err:?}");
}

async fn without_standard_input_there_is_an_empty_one(sh: Sh) {
    let rig = Rig::new(sh);
    let (code, out, _) = rig.command(&["/bin/cat"]).run().await;
    assert_eq!((code, out.len()), (0, 0));
}

async fn the_command_gets_the_accounts_umask_directory_and_environment_and_nothing_of_ours(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "umask; pwd; tr '\\0' '\\n' </proc/self/environ; ls -l /proc/self/fd";
    let (_, out, err) = rig.command(&["/bin/dash", "-c", text]).run().await;
    let out = String::from_utf8(out).unwrap();
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("0022"), "{err:?}");
    assert_eq!(lines.next().unwrap(), std::env::current_dir().unwrap().to_str().unwrap());
    assert!(out.contains("\nREMOTE_COMMAND_RUN="), "{out}");
    assert!(!out.contains("rc_") && !out.contains("REMOTE_COMMAND_PROGRAM"), "{out}");
    assert!(out.contains(&format!("\nHOME={}\n", rig.place.join("home").display())), "{out}");
    // The supervisor's own files have numbers from 4 to 8; 3 is what ls itself opens.
    for number in 4..=9 {
        assert!(!out.contains(&format!(" {number} -> ")), "{out}");
    }
}

async fn a_variable_may_have_a_name_that_shells_treat_specially(sh: Sh) {
    let rig = Rig::new(sh);
    let names = ["IFS", "RANDOM", "SECONDS", "LINENO", "LC_ALL", "CDPATH", "ENV", "rc_w", "rc_dir"];
    let mut attempt = rig.command(&["/usr/bin/env"]);
    for name in names {
        attempt = attempt.env(name, "no number");
    }
    let (code, out, err) = attempt.run().await;
    let out = String::from_utf8(out).unwrap();
    assert_eq!((code, String::from_utf8_lossy(&err).as_ref()), (0, ""));
    for name in names {
        assert!(out.lines().any(|line| line == format!("{name}=no number")), "{name}: {out}");
    }
}

async fn a_variable_that_this_shell_cannot_set_is_refused_before_the_program_starts(sh: Sh) {
    let rig = Rig::new(sh);
    let names = [("OPTIND", "x"), ("UID", "77"), ("PPID", "1"), ("SHELLOPTS", "x"), ("_", "x")];
    for (name, value) in names {
        let refused = sh == Sh::Bash || (name, sh) == ("OPTIND", Sh::Dash);
        let mut attempt = rig.command(&["/usr/bin/env"]).env(name, value);
        attempt.prepare().await;
        let seen = attempt.act(attempt.launch_action()).await;
        if refused {
            let Seen::Refused { why: Refusal::Unable(fault), .. } = seen else {
                panic!("{name}: {seen:?}")
            };
            assert_eq!(fault.reason(), "EnvironmentRefused");
            assert!(fault.message.contains(name), "{}", fault.message);
            assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked, "nothing was claimed");
        } else {
            assert_eq!(attempt.finished().await.code(), 0);
            let out = attempt.output(Stream::Stdout).await;
            assert!(String::from_utf8_lossy(&out).contains(&format!("{name}={value}\n")), "{name}");
        }
    }
    let mut attempt = rig.command(&["/usr/bin/env"]).env("OPTIND", "2").env("rc_put_env", "mine");
    let (code, out, _) = attempt.run().await;
    let out = String::from_utf8(out).unwrap();
    assert!(code == 0 && out.contains("OPTIND=2\n") && out.contains("rc_put_env=mine\n"), "{out}");
}

async fn arguments_that_are_together_too_long_are_refused_before_anything_starts(sh: Sh) {
    let rig = Rig::new(sh);
    for (count, fits) in [(12, true), (22, false)] {
        let mut attempt = rig.command(&["/bin/true"]);
        for number in 0..count {
            attempt = attempt.env(&format!("V{number}"), &"x".repeat(120_000));
        }
        attempt.prepare().await;
        let seen = attempt.act(attempt.launch_action()).await;
        if fits {
            assert_eq!(attempt.finished().await.code(), 0);
            continue;
        }
        let Seen::Refused { why: Refusal::Unable(fault), .. } = seen else { panic!("{seen:?}") };
        assert_eq!(fault.reason(), "ArgumentsTooLong");
        assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked, "nothing was claimed");
    }
}

async fn a_working_directory_is_entered(sh: Sh) {
    let rig = Rig::new(sh);
    let directory = rig.place.join("a directory\nof two lines");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("program"), "#!/bin/sh\npwd >here\necho >>here\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.join("program"), executable).unwrap();
    let mut attempt = rig.command(&["./program"]);
    attempt.plan.program.working_directory = Some(directory.display().to_string());
    let seen = attempt.launch().await;
    assert!(seen.exit.is_none() || attempt.finished().await.code() == 0);
    let here = text_of(&directory.join("here")).await;
    assert_eq!(here.trim_end(), directory.to_str().unwrap());
}

#[tokio::test]
async fn a_value_that_no_process_can_be_given_is_refused_before_anything_is_sent() {
    let rig = Rig::new(Sh::Dash);
    for broken in [rig.command(&["/bin/true", "a\0b"]), rig.command(&["/bin/true"]).env("a b", "")]
    {
        let mut attempt = broken;
        attempt.prepare().await;
        let seen = attempt.act(attempt.launch_action()).await;
        assert!(matches!(seen, Seen::Refused { .. }), "{seen:?}");
    }
}
