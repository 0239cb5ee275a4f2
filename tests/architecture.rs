//! The house rules that a compiler does not know: what `core` may import, how long a file
//! may be, where foreign errors are classified, what a file may be called.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of a source file before its tests.
fn without_tests(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect()
}

/// Applies a complaint to every source file below `folder`; fails with all it found.
fn no_file_below(folder: &str, complain: impl Fn(&Path, &[&str]) -> Vec<String>) {
    let mut offences = Vec::new();
    for path in rust_files(&root().join(folder)) {
        let text = fs::read_to_string(&path).unwrap();
        let short = path.strip_prefix(root()).unwrap();
        let found = complain(&path, &without_tests(&text));
        offences.extend(found.into_iter().map(|what| format!("{}: {what}", short.display())));
    }
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

fn when(offends: bool, what: impl Into<String>) -> Vec<String> {
    if offends { vec![what.into()] } else { Vec::new() }
}

#[test]
fn core_imports_only_itself_std_serde_schemars_and_a_time_type() {
    let allowed = ["std::", "serde::", "schemars::", "jiff::", "crate::core", "super::", "self::"];
    no_file_below("src/core", |_, lines| {
        lines
            .iter()
            .map(|line| line.trim_start().trim_start_matches("pub "))
            .filter_map(|line| line.strip_prefix("use "))
            .filter(|import| !allowed.iter().any(|start| import.starts_with(start)))
            .map(|import| format!("imports {import}"))
            .collect()
    });
}

#[test]
fn core_names_no_effect_by_its_full_path() {
    no_file_below("src/core", |_, lines| {
        lines
            .iter()
            .filter(|line| !line.trim_start().starts_with("//"))
            .filter(|line| names_an_effect(line))
            .map(|line| format!("names an effect: {}", line.trim()))
            .collect()
    });
}

/// A path out of `core`, or to what does something, waits, reads a clock or rolls dice.
fn names_an_effect(line: &str) -> bool {
    let crates =
        ["tokio::", "kube::", "k8s_openapi::", "russh::", "rustix::", "rand::", "tracing::"];
    let parts =
        ["std::fs", "std::net", "std::process", "std::env", "std::thread", "std::io", "std::os"];
    let clocks = ["std::time::Instant", "SystemTime", "Instant::now", "::now(", "Zoned"];
    let ours = line.split("crate::").skip(1).any(|path| !path.starts_with("core"));
    let named = |name: &&str| line.contains(*name);
    ours || crates.iter().any(named) || parts.iter().chain(&clocks).any(named)
}

#[test]
fn a_path_out_of_core_is_an_effect_and_core_itself_is_none() {
    for line in [
        "crate::host::Host::act(host)",
        "tracing::info!(\"x\")",
        "let home = std::env::var(\"HOME\");",
        "std::thread::sleep(pace)",
        "let at = jiff::Zoned::now();",
        "let at = Timestamp::now();",
    ] {
        assert!(names_an_effect(line), "{line}");
    }
    for line in ["use crate::core::plan::Plan;", "let at = self.now.at;", "std::mem::take(x)"] {
        assert!(!names_an_effect(line), "{line}");
    }
}

#[test]
fn no_source_file_is_longer_than_500_lines_without_its_tests() {
    no_file_below("src", |_, lines| when(lines.len() > 500, format!("{} lines", lines.len())));
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    no_file_below("src", |_, lines| {
        let opens = lines.first().is_some_and(|line| line.starts_with("//!"));
        when(!opens, "does not open with a module comment")
    });
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let empty = [
        "manager", "helper", "helpers", "util", "utils", "common", "handler", "data", "info",
        "misc",
    ];
    no_file_below("src", |path, _| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        when(empty.contains(&stem.as_str()), format!("is called {stem}"))
    });
}

#[test]
fn foreign_errors_are_classified_in_one_file_each() {
    let homes = [("russh::Error::", "host/ssh/fault.rs"), ("kube::Error::", "operator/fault.rs")];
    no_file_below("src", |path, lines| {
        homes
            .iter()
            .filter(|(_, home)| !path.ends_with(home))
            .filter(|(variant, _)| lines.iter().any(|line| line.contains(variant)))
            .map(|(variant, home)| format!("matches {variant}…, which belongs to {home}"))
            .collect()
    });
}

#[test]
fn the_layers_stand_on_each_other_one_way() {
    // Who must not know whom.
    let above =
        [("src/shim", "crate::host"), ("src/run", "crate::cli"), ("src/operator", "crate::cli")];
    for (layer, other) in above {
        no_file_below(layer, |_, lines| {
            when(lines.iter().any(|line| line.contains(other)), format!("knows {other}"))
        });
    }
}

#[test]
fn only_tests_make_a_saved_action_without_saving_it() {
    no_file_below("src", |path, lines| {
        let home = path.ends_with("journal.rs") || path.ends_with("tests.rs");
        let used = lines.iter().any(|line| line.contains("for_test"));
        when(used && !home, "makes an action executable")
    });
}

#[test]
fn only_the_step_saves_what_was_decided() {
    no_file_below("src", |path, lines| {
        let home = path.ends_with("step.rs") || path.ends_with("journal.rs");
        let imports = |line: &&str| line.contains("journal::") && line.contains("save");
        let used = lines.iter().any(imports);
        when(used && !home, "makes an action executable that decide did not choose")
    });
}

#[test]
fn anyhow_stays_in_main() {
    no_file_below("src", |path, lines| {
        let used = !path.ends_with("main.rs") && lines.iter().any(|line| line.contains("anyhow"));
        when(used, "uses anyhow")
    });
}

/// What a collector takes for the event's own words, whoever wrote it.
#[test]
fn no_event_has_a_field_that_is_called_message() {
    no_file_below("src", |_, lines| {
        let text = lines.join("\n");
        let fields = event_arguments(&text).into_iter().flat_map(split_arguments);
        fields
            .filter(|field| is_called_message(field))
            .map(|field| format!("logs {}", field.trim()))
            .collect()
    });
}

#[test]
fn a_field_is_called_message_however_it_is_written() {
    let offences = |text: &str| {
        let fields = event_arguments(text).into_iter().flat_map(split_arguments);
        fields.filter(|field| is_called_message(field)).count()
    };
    for text in [
        "warn!(name, message, \"x\");",
        "tracing::info!(%message, \"x\")",
        "warn!(a = f(b, c), ?fault.message, \"x\")",
        "error!(\n    why = 1,\n    message = %said,\n    \"x\"\n)",
        "let span = info_span!(\"of\", message = 1);",
        "event!(Level::INFO, fault.message, \"(\")",
    ] {
        assert_eq!(offences(text), 1, "{text}");
    }
    for text in [
        "warn!(why = fault.message, \"message, message = {message}\");",
        "info!(\"{message}\")",
        "let x = format!(\"{}\", message);",
        "debug!(why = say(a, message), \"x\")",
    ] {
        assert_eq!(offences(text), 0, "{text}");
    }
}

/// What stands between the parentheses of each macro that logs.
fn event_arguments(text: &str) -> Vec<&str> {
    let macros = ["trace!(", "debug!(", "info!(", "warn!(", "error!(", "event!(", "span!("];
    let begins = macros.iter().flat_map(|name| {
        text.match_indices(name).map(|(at, name)| at + name.len()).collect::<Vec<_>>()
    });
    begins.filter_map(|begin| text.get(begin..)).map(|rest| before_depth(rest, ')')).collect()
}

fn split_arguments(mut arguments: &str) -> Vec<&str> {
    let mut found = Vec::new();
    while !arguments.is_empty() {
        let argument = before_depth(arguments, ',');
        found.push(argument);
        arguments = arguments.get(argument.len() + 1..).unwrap_or_default();
    }
    found
}

/// `text` up to the first `end` that is in no string and between no parentheses.
fn before_depth(text: &str, end: char) -> &str {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            _ if character == end && depth == 0 => return &text[..at],
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    text
}

/// `message`, `%fault.message`, `message = ...`.
fn is_called_message(field: &str) -> bool {
    let field = field.trim();
    let name = field.split('=').next().unwrap_or_default();
    let name = name.trim().trim_start_matches(['%', '?']);
    let last = name.rsplit('.').next().unwrap_or_default();
    last == "message"
}

#[test]
fn kube_and_russh_are_pinned_exactly() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in ["kube", "russh"] {
        let line = manifest.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap();
        assert!(line.contains("version = \"="), "{line}");
    }
}

#[test]
fn the_architecture_page_and_the_makefile_stay_short() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(page.lines().count() <= 200, "ARCHITECTURE.md has {} lines", page.lines().count());
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets = makefile.lines().filter(|line| line.starts_with(".PHONY: ")).count();
    assert!(targets <= 15, "the Makefile has {targets} targets");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let pages = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/remotecommand.md",
        "docs/remotehost.md",
    ];
    let mut broken = Vec::new();
    for name in pages {
        let page = root().join(name);
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let lives_elsewhere = link.starts_with("http") || file.is_empty();
            if !lives_elsewhere && !page.parent().unwrap().join(file).exists() {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}
