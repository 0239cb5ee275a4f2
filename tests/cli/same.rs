//! The same name with something else behind it: no result is told for what was never run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::bench::{Bench, Running, counting, host, host_with, let_go, manifest, script, starts};
use crate::support::sshd::{Kind, Options, Sshd};

fn report(told: &crate::bench::Told) -> Value {
    serde_json::from_str(&told.out).unwrap()
}

/// Guards against the success of a machine that was never touched.
#[test]
fn another_machine_is_not_told_the_result_of_the_first() {
    let (one, other) =
        (Sshd::start(Options::default()).unwrap(), Sshd::start(Options::default()).unwrap());
    let bench = Bench::remote();
    let on = |sshd: &Sshd| host(sshd, &sshd.known_hosts_line().unwrap());
    let command = counting(&bench);
    let_go(&bench);
    assert_eq!(bench.run(&format!("{}{command}", on(&one)), &[]).code(), 7);
    let moved = format!("{}{command}", on(&other));
    let refused = bench.run(&moved, &[]);
    assert_eq!((refused.code(), starts(&bench)), (225, 1), "{refused:?}");
    for part in [
        "its host was changed (from ",
        &format!(":{} to ", one.port()),
        &format!(":{})", other.port()),
        "--new-run runs it as it is now, and another metadata.name",
        "Failed/NonZeroExit",
        "command.yaml",
    ] {
        assert!(refused.err.contains(part), "{part:?} is not in {}", refused.err);
    }
    let new = bench.run(&moved, &["--new-run", "-o", "json"]);
    assert_eq!((new.code(), starts(&bench)), (7, 2), "{new:?}");
    let address = report(&new)["commands"][0]["host"]["address"].clone();
    assert!(address.as_str().unwrap().ends_with(&format!(":{}", other.port())), "{address}");
    assert_eq!(report(&new)["commands"][0]["started"], "Now");
    // And back again: that is a change, too.
    assert_eq!(bench.run(&format!("{}{command}", on(&one)), &[]).code(), 225);
}

#[test]
fn a_user_and_a_jump_host_are_part_of_the_machine_and_keys_and_limits_are_not() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let known = sshd.known_hosts_line().unwrap();
    let (right, command) = (host(&sshd, &known), script("a", "echo done"));
    let user = format!("user: {}\n", sshd.user());
    assert_eq!(bench.run(&format!("{right}{command}"), &[]).code(), 0);
    let jump = right.replace("{name: host}", "{name: jump}");
    let jump = jump.split("---\napiVersion: v1").next().unwrap();
    for changed in [
        right.replace(&user, "user: nobody-of-that-name\n"),
        format!("{jump}{}", right.replace(&user, &format!("{user}  viaRef: {{name: jump}}\n"))),
    ] {
        let told = bench.run(&format!("{changed}{command}"), &[]);
        assert_eq!(told.code(), 225, "{told:?}");
        assert!(told.err.contains("its host was changed"), "{told:?}");
    }
    let ed25519 = sshd.private_key(Kind::Ed25519).unwrap();
    for mended in [
        right.replace(&user, &format!("{user}  keepAlive: {{interval: 5s}}\n")),
        right.replace(&user, &format!("{user}  timeouts: {{connect: 5s}}\n")),
        right.replace(&user, &format!("{user}  sessionsPerConnection: 3\n")),
        right.replace("{name: key}", "{name: another}"),
        host_with(&sshd, sshd.port(), &format!("{known}# more\n"), &format!("{ed25519}\n")),
    ] {
        assert_ne!(mended, right);
        let told = bench.run(&format!("{mended}{command}"), &[]);
        assert_eq!(told.code(), 0, "{told:?}");
        assert!(told.err.contains("it had ended before; nothing was started"), "{told:?}");
    }
}

/// Guards against an attempt that is asked about with a key that was mended since.
#[test]
fn a_mended_inline_host_is_used_for_what_is_under_way() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let known = sshd.known_hosts_line().unwrap();
    let inline = |known: &str| {
        let secret = host(&sshd, known);
        let secret = secret.split("\n---\n").find(|text| text.contains("kind: Secret")).unwrap();
        let host = format!(
            "host:\n    address: {}\n    port: {}\n    user: {}\n    hostKeys: {{knownHosts: '{}'}}\n    \
             credentials: {{secretRef: {{name: key}}}}",
            sshd.address(),
            sshd.port(),
            sshd.user(),
            known.trim()
        );
        format!("---\n{secret}{}", counting(&bench).replace("hostRef: {name: host}", &host))
    };
    let mut first = Running::start(&mut bench.command(&inline(&known), &[]));
    first.read_to("3");
    first.signal(nix::sys::signal::Signal::SIGKILL);
    drop(first);
    let wrong = known.replacen('[', "[127.0.0.9", 1);
    let away = bench.command(&inline(&wrong), &["--detach-on-interrupt"]);
    let mut away = Running::start(&mut { away });
    let told_of = std::io::BufReader::new(away.0.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(told_of).map(|line| line.unwrap());
    assert!(lines.any(|line| line.contains("Reattaching")), "the files as they are now");
    drop(away);
    let_go(&bench);
    let told = bench.run(&inline(&known), &[]);
    assert_eq!((told.code(), starts(&bench)), (7, 1), "{told:?}");
}

#[test]
fn another_value_behind_a_name_is_not_told_the_result_of_the_first() {
    let bench = Bench::local();
    let text = |value: &str, token: &str, input: &str| {
        let values = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{k: {value}, i: {input}}}\n\
             ---\napiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{k: {token}}}\n"
        );
        let from = |kind: &str, name: &str, key: &str| {
            format!("valueFrom: {{{kind}KeyRef: {{name: {name}, key: {key}}}}}")
        };
        let spec = format!(
            "command: [sh, -c, 'echo $A; cat']\nenv:\n- {{name: A, {}}}\n- {{name: TOKEN, {}}}\n\
             stdin: {{{}}}",
            from("configMap", "m", "k"),
            from("secret", "s", "k"),
            from("configMap", "m", "i")
        );
        format!("{values}{}", manifest("a", &spec))
    };
    let first = bench.run(&text("one", "hush", "in"), &[]);
    assert_eq!((first.code(), first.out.as_str()), (0, "one\nin"), "{first:?}");
    for (changed, named) in [
        (text("two", "hush", "in"), "the value of its variable A was changed since it was run"),
        (text("one", "loud", "in"), "the value of its variable TOKEN was changed since"),
        (text("one", "hush", "out"), "the value of its stdin was changed since it was run"),
    ] {
        let told = bench.run(&changed, &[]);
        assert_eq!((told.code(), told.out.as_str()), (225, ""), "{told:?}");
        assert!(told.err.contains(named), "{named:?} is not in {}", told.err);
        assert!(!told.err.contains("loud"), "{}", told.err);
    }
    let same = bench.run(&text("one", "hush", "in"), &[]);
    assert_eq!(same.code(), 0, "{same:?}");
    let new = bench.run(&text("two", "hush", "in"), &["--new-run"]);
    assert_eq!((new.code(), new.out.as_str()), (0, "two\nin"), "{new:?}");
    assert_eq!(bench.run(&text("two", "hush", "in"), &[]).code(), 0);

    let state = bench.kept("@local/default/a.json");
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&state).unwrap();
    assert!(!kept.contains("hush") && kept.contains("variable TOKEN"), "{kept}");
}

#[test]
fn a_changed_value_while_its_run_is_not_over_is_refused_even_with_a_new_run() {
    let bench = Bench::local();
    let value = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{k: {value}}}\n{}  env:\n  \
             - {{name: A, valueFrom: {{configMapKeyRef: {{name: m, key: k}}}}}}\n",
            counting(&bench)
        )
    };
    let mut first = Running::start(&mut bench.command(&value("one"), &[]));
    first.read_to("3");
    first.signal(nix::sys::signal::Signal::SIGKILL);
    drop(first);
    for more in [&[][..], &["--new-run"], &["--only-unfinished"]] {
        let told = bench.run(&value("two"), more);
        assert_eq!(told.code(), 225, "{told:?}");
        assert!(told.err.contains("variable A was changed while its run is not over"), "{told:?}");
    }
    let_go(&bench);
    assert_eq!((bench.run(&value("one"), &[]).code(), starts(&bench)), (7, 1));
}

/// All projects of a login share the names, unless they have a state directory each.
#[test]
fn an_earlier_end_is_told_with_its_time_its_machine_and_its_file() {
    let bench = Bench::local();
    let text = script("a", "echo here");
    assert_eq!(bench.run(&text, &[]).code(), 0);
    let other = bench.write("other.yaml", &text);
    let from = |file: &std::path::Path, more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_remote-command"));
        command.args(["run", "--local", "-f"]).arg(file).args(more);
        command.env("XDG_STATE_HOME", bench.state()).env("HOME", bench.directory.path());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        Running::start(&mut command).told()
    };
    let told = from(&other, &["-o", "json"]);
    assert_eq!(told.code(), 0, "{told:?}");
    let first = bench.path("command.yaml").display().to_string();
    let sentence = format!("Z on this machine, started from {first})");
    assert!(told.err.contains(&sentence), "{sentence:?} is not in {}", told.err);
    let command = &report(&told)["commands"][0];
    assert_eq!(
        (&command["started"], &command["endedBefore"]["file"], &command["host"]["name"]),
        (&"Earlier".into(), &first.clone().into(), &"this machine".into())
    );
    assert!(command["endedBefore"]["time"].is_string(), "{command}");

    let other = bench.write("other.yaml", &script("a", "echo there"));
    let told = from(&other, &[]);
    assert_eq!(told.code(), 225, "{told:?}");
    assert!(told.err.contains(&format!("started from another file, {first}")), "{told:?}");
}

#[test]
fn the_state_of_an_earlier_version_is_gone_on_from() {
    let (sshd, elsewhere) =
        (Sshd::start(Options::default()).unwrap(), Sshd::start(Options::default()).unwrap());
    let bench = Bench::remote();
    let on = |sshd: &Sshd| {
        format!("{}{}", host(sshd, &sshd.known_hosts_line().unwrap()), counting(&bench))
    };
    let mut first = Running::start(&mut bench.command(&on(&sshd), &[]));
    first.read_to("3");
    first.signal(nix::sys::signal::Signal::SIGKILL);
    drop(first);
    let state = bench.kept("default/counting.json");
    let mut kept: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    for new in ["key", "origin"] {
        assert!(kept.as_object_mut().unwrap().remove(new).is_some(), "{new}");
    }
    assert!(kept["stage"].as_object_mut().unwrap().remove("sat").is_some());
    fs::write(&state, kept.to_string()).unwrap();
    let told = bench.run(&on(&elsewhere), &[]);
    assert_eq!(told.code(), 225, "{told:?}");
    let_go(&bench);
    let told = bench.run(&on(&sshd), &[]);
    assert_eq!((told.code(), starts(&bench)), (7, 1), "{told:?}");
}

/// Guards against a wish for a new run that outlives the command line that was refused.
#[test]
fn a_command_line_that_is_refused_asks_for_nothing() {
    let bench = Bench::local();
    let (ended, held) = (script("ended", "echo once"), counting(&bench));
    assert_eq!(bench.run(&ended, &[]).code(), 0);
    let mut holder = Running::start(&mut bench.command(&held, &[]));
    holder.read_to("3");
    let both = format!("{ended}{held}");
    assert_eq!(bench.run(&both, &["--new-run"]).code(), 227);
    let told = bench.run(&ended, &[]);
    assert_eq!((told.code(), told.out.as_str()), (0, ""), "{told:?}");
}
