//! Runs what the documents tell a reader to type: every `sh` block, in order, on a playground
//! of its own making, and every manifest through the API server's validation.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PAGES: [&str; 5] = [
    "README.md",
    "docs/remotecommand.md",
    "docs/remotehost.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A checkout of its own below `target`, so that a playground which somebody has up stays as
/// it is. Builds are shared with this one; files that did not change keep their times.
fn checkout() -> PathBuf {
    let place = root().join("target/documents");
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).unwrap();
    for name in names.lines().filter(|name| root().join(name).is_file()) {
        let (from, to) = (root().join(name), place.join(name));
        if fs::read(&from).unwrap() != fs::read(&to).unwrap_or_default() || !to.exists() {
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&from, &to).unwrap();
        }
    }
    fs::create_dir_all(place.join("target")).unwrap();
    let release = place.join("target/release");
    if !release.is_symlink() {
        std::os::unix::fs::symlink(root().join("target/release"), release).unwrap();
    }
    place
}

/// The fenced blocks of one language, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a fence that ends").to_owned())
        .collect()
}

/// Runs text as a reader would paste it, and returns what it printed.
fn type_in(place: &Path, text: &str) -> String {
    let bin = place.join("target/playground/bin");
    let release = root().join("target/release");
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", text])
        .current_dir(place)
        .env("PATH", format!("{}:{}:{path}", bin.display(), release.display()))
        .env("KUBECONFIG", place.join("target/playground/kubeconfig"))
        .env("CARGO_TARGET_DIR", root().join("target"))
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "typed:\n{text}\n{}, and it printed:\n{told}", output.status);
    told
}

/// A playground that goes away with the test, however it ends.
struct Playground<'a>(&'a Path);

impl Drop for Playground<'_> {
    fn drop(&mut self) {
        let _ = Command::new("make")
            .arg("down")
            .current_dir(self.0)
            .env("CARGO_TARGET_DIR", root().join("target"))
            .output();
    }
}

fn dry_run(place: &Path, manifest: &str) {
    let mut apply = Command::new(place.join("target/playground/bin/kubectl"))
        .args(["apply", "--dry-run=server", "-f", "-"])
        .env("KUBECONFIG", place.join("target/playground/kubeconfig"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    apply.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    let output = apply.wait_with_output().unwrap();
    assert!(output.status.success(), "{manifest}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn nothing_is_left(folder: &Path) {
    assert!(!folder.exists(), "{} is left", folder.display());
}

/// One test, because the playground has one place.
#[test]
fn every_command_in_the_documents_works() {
    let place = checkout();
    let up = place.join("target/playground");
    // Of a run that was killed.
    drop(Playground(&place));

    let readme = blocks("README.md", "sh");
    let (first, rest) = readme.split_first().unwrap();
    let typed = first.lines().filter_map(|line| line.split('#').next()).map(str::trim);
    assert_eq!(typed.collect::<Vec<_>>(), ["make demo", "make test"]);
    let told = type_in(&place, "make demo");
    assert!(told.lines().any(|line| line == "demo: ok"), "{told}");

    // `make test` is what runs this.
    for block in rest {
        let _playground = Playground(&place);
        type_in(&place, block);
    }
    nothing_is_left(&up);

    let playground = Playground(&place);
    type_in(&place, "make up");
    for page in ["docs/remotehost.md", "docs/remotecommand.md"] {
        for block in blocks(page, "sh") {
            type_in(&place, &block);
        }
    }
    for page in PAGES {
        for manifest in blocks(page, "yaml") {
            dry_run(&place, &manifest);
        }
    }
    drop(playground);
    nothing_is_left(&up);
}

#[test]
fn no_document_has_commands_that_are_not_run() {
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        assert!(blocks(page, "sh").is_empty(), "{page} has a block that nothing runs");
    }
}

#[test]
fn every_make_target_a_document_names_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for page in PAGES {
        let text = fs::read_to_string(root().join(page)).unwrap().replace('\n', " ");
        for rest in text.split("`make ").skip(1) {
            let target = rest.split(['`', ' ']).next().unwrap();
            let known = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(known, "{page} names `make {target}`");
        }
    }
}
