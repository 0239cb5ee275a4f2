//! Scripts in the files of a `run`: who runs them, and where they come from.

use crate::bench::{Bench, manifest, script};

const FROM_MAP: &str = "scriptFrom: {configMapKeyRef: {name: s, key: k}}";
const FROM_SECRET: &str = "scriptFrom: {secretKeyRef: {name: s, key: k}}";

/// A ConfigMap or a Secret that holds the text.
fn kept(kind: &str, text: &str) -> String {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: s}}\n{field}:\n  k: |\n{indented}"
    )
}

#[test]
fn a_scripts_own_first_line_chooses_wherever_it_is_written() {
    let python = "#!/usr/bin/env python3\nimport sys\nprint(len(sys.argv))";
    for (name, text) in [
        ("written", script("written", python)),
        ("map", format!("{}{}", manifest("map", FROM_MAP), kept("ConfigMap", python))),
        ("secret", format!("{}{}", manifest("secret", FROM_SECRET), kept("Secret", python))),
    ] {
        let told = Bench::local().run(&text, &[]);
        assert_eq!((told.code(), told.out.as_str()), (0, "1\n"), "{name}: {told:?}");
    }
    let nobody = script("nobody", "#!/no/such/interpreter -x\necho never");
    let told = Bench::local().run(&nobody, &[]);
    assert_eq!((told.code(), told.out.as_str()), (127, ""), "{told:?}");
    assert!(told.err.contains("/no/such/interpreter: no such program"), "{told:?}");
}

/// Guards against a file that YAML is too large for.
#[test]
fn a_script_of_1_mib_in_a_file_runs_and_a_longer_one_is_refused() {
    let line = "x".repeat(125);
    let text = |lines: usize| {
        let lines: String = (0..lines).map(|_| format!("# {line}\n")).collect();
        format!("wc -c <\"$0\"\n{lines}")
    };
    for kind in ["ConfigMap", "Secret"] {
        let from = if kind == "Secret" { FROM_SECRET } else { FROM_MAP };
        let documents = |lines| format!("{}{}", manifest("a", from), kept(kind, &text(lines)));
        let told = Bench::local().run(&documents(8191), &[]);
        assert_eq!((told.code(), told.out.trim()), (0, "1048460"), "{}", told.err);
        let told = Bench::local().run(&documents(8192), &[]);
        let sentence = "cannot be run as a script: it has 1048588 bytes; a script has at most";
        assert!(told.code() == 225 && told.err.contains(sentence), "{}", told.err);
    }
}

#[test]
fn another_script_under_the_same_name_is_not_quietly_taken_for_the_same() {
    let bench = Bench::local();
    let documents = |text: &str| format!("{}{}", manifest("a", FROM_MAP), kept("ConfigMap", text));
    let told = bench.run(&documents("echo one"), &[]);
    assert_eq!((told.code(), told.out.as_str()), (0, "one\n"), "{told:?}");
    let told = bench.run(&documents("echo two"), &[]);
    assert_eq!(told.code(), 225, "{told:?}");
    assert!(told.err.contains("the value of its script was changed"), "{told:?}");
    let told = bench.run(&documents("echo two"), &["--new-run"]);
    assert_eq!((told.code(), told.out.as_str()), (0, "two\n"), "{told:?}");
}

#[test]
fn what_is_no_script_is_refused_before_anything_starts() {
    let map = |fields: &str| {
        let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\n";
        format!("{}{map}{fields}", manifest("a", FROM_MAP))
    };
    for (text, sentence) in [
        (manifest("a", "script: \"#!/bin/sh\\r\\necho\\r\\n\""), "its first line holds a carriage"),
        (manifest("a", FROM_MAP), "config map \"s\" or its key \"k\" does not exist"),
        (manifest("a", FROM_SECRET), "secret \"s\" does not exist"),
        (map("binaryData: {k: ZWNobwo=}\n"), "is in binaryData; text goes into data"),
        (map("data: {k: ''}\n"), "cannot be run as a script: it is empty"),
        (map("data: {k: \"a\\0b\"}\n"), "it holds a NUL byte, which no script can have"),
        (manifest("a", "scriptFrom: {}"), "exactly one of secretKeyRef and configMapKeyRef is"),
        (
            manifest("a", &format!("script: x\n{FROM_MAP}")),
            "exactly one of spec.command, spec.script and spec.scriptFrom is required",
        ),
    ] {
        let told = Bench::local().run(&text, &[]);
        assert_eq!(told.code(), 225, "{told:?}");
        assert!(told.err.contains(sentence), "{sentence:?} is not in {}", told.err);
    }
}
