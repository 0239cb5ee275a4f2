//! Help, versions, completion and definitions.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn typed(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remote-command"));
    command.args(args).env("COLUMNS", "100").env_remove("REMOTE_COMMAND_LOG");
    command.output().unwrap()
}

#[test]
fn the_help_says_what_there_is() {
    for subcommand in ["", "operator", "run", "crds", "completion"] {
        let args: Vec<&str> =
            [subcommand, "--help"].into_iter().filter(|a| !a.is_empty()).collect();
        let output = typed(&args);
        assert!(output.status.success());
        let name = format!("help_{}", if subcommand.is_empty() { "top" } else { subcommand });
        insta::assert_snapshot!(name, String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn version_and_mistakes_have_their_codes() {
    let version = typed(&["--version"]);
    assert!(version.status.success());
    let text = String::from_utf8(version.stdout).unwrap();
    assert!(
        text.starts_with("remote-command ") && text.contains("remotecommand.dev/v1alpha1"),
        "{text}"
    );
    for mistake in [
        &["walk"][..],
        &["run"],
        &["run", "--parallel", "0", "-f", "x"],
        &["operator", "--retry-period", "10s"],
        &[],
    ] {
        assert_eq!(typed(mistake).status.code(), Some(225), "{mistake:?}");
    }
    let missing = typed(&["run", "-f", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(225));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("/no/such/file: cannot be read"));
}

#[test]
fn an_operator_does_not_take_nothing_for_a_name_as_an_empty_variable_would_have_it() {
    let state = tempfile::tempdir().unwrap();
    for name in ["NAMESPACE", "IDENTITY", "LEASE_NAME", "LEASE_NAMESPACE"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remote-command"));
        command.args(["operator", "--listen", "127.0.0.1:0", "--state-directory"]);
        command.arg(state.path()).env("KUBECONFIG", "/no/such/file");
        let output = command.env(format!("REMOTE_COMMAND_{name}"), "").output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(225), "{name}: {told}");
        let option = format!("--{}", name.to_lowercase().replace('_', "-"));
        assert!(told.contains("a value is required") && told.contains(&option), "{told}");
    }
}

#[test]
fn completion_scripts_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let script = typed(&["completion", shell]);
        assert!(script.status.success());
        assert!(String::from_utf8(script.stdout.clone()).unwrap().contains("remote-command"));
        if shell == "bash" {
            let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            bash.stdin.take().unwrap().write_all(&script.stdout).unwrap();
            assert!(bash.wait().unwrap().success(), "bash -n");
        }
    }
}

#[test]
fn definitions_are_printed_or_written_to_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crds");
    assert!(typed(&["crds", "--output-dir", path.to_str().unwrap()]).status.success());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    let printed = String::from_utf8(typed(&["crds"]).stdout).unwrap();
    assert_eq!(printed.matches("kind: CustomResourceDefinition").count(), 2);
}

#[test]
fn a_reader_that_is_gone_is_no_reason_to_panic() {
    for words in [&["completion", "bash"][..], &["crds"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_remote-command"));
        let output = command.args(words).stdout(writer).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(228), "{told}");
        assert!(told.contains("Broken pipe") && !told.contains("panicked"), "{told}");
    }
}
