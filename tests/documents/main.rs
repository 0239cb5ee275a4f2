//! Runs what the documents tell a reader to type: every `sh` block, in order, on a playground
//! of its own making, and every manifest through the API server's validation.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod copy;
mod fields;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use copy::{Copy, root};

const PAGES: [&str; 6] = [
    "README.md",
    "docs/remotecommand.md",
    "docs/remotehost.md",
    "docs/security.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
];

/// Commands within a sentence, and who runs them; nobody's are typed below.
const WITHIN_SENTENCES: [(&str, &str); 17] = [
    ("make", "it lists the targets, which are looked up below"),
    ("make up", "typed below, from README.md"),
    ("make demo", "typed below, from README.md"),
    ("make test", "it is what runs this"),
    ("make test-tools", "the first thing `make test` does"),
    ("make generate", "tests/api compares what it would write"),
    ("cargo test --lib", "a part of `make test`"),
    ("cargo test --test NAME", "a part of `make test`"),
    (
        "cargo test --test shim --test step keep_ -- --ignored",
        "at a release; what it writes is what tests/shim and tests/step read",
    ),
    ("cargo test --test exploration -- --nocapture", "a part of `make test`"),
    ("kubectl explain remotecommand.spec --recursive", ""),
    ("kubectl explain remotehost.status", ""),
    ("kubectl replace --force", "named as something to beware of"),
    ("remote-command run", "tests/cli"),
    ("ssh-keyscan HOST", "OpenSSH's own"),
    ("ssh-keygen -l", "OpenSSH's own"),
    ("sudo -n", "what the operator does: tests/shim"),
];

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The fenced blocks of one language, in order.
fn blocks(name: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page(name)
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a fence that ends").to_owned())
        .collect()
}

/// What stands in `backticks` outside of blocks.
fn spans(name: &str) -> Vec<String> {
    let text = page(name);
    let sentences: String = text.split("```").step_by(2).collect();
    let spans = sentences.split('`').skip(1).step_by(2);
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// A playground that goes away with the test, however it ends.
struct Playground<'a>(&'a Copy);

impl Drop for Playground<'_> {
    fn drop(&mut self) {
        let _ = self.0.command("make").arg("down").output();
    }
}

fn dry_run(copy: &Copy, manifest: &str) {
    let mut apply = copy
        .command("kubectl")
        .args(["apply", "--dry-run=server", "-f", "-"])
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

/// When each program of the checkout itself was built.
fn built() -> Vec<Option<SystemTime>> {
    let programs = ["remote-command", "examples/playground"];
    let time = |name| fs::metadata(root().join("target/release").join(name)).ok()?.modified().ok();
    programs.map(time).to_vec()
}

/// One test, because the playground has one place.
#[test]
fn every_command_in_the_documents_works() {
    let (copy, before) = (Copy::take(), built());
    let up = copy.join("target/playground");
    // Of a run that was killed.
    drop(Playground(&copy));

    let readme = blocks("README.md", "sh");
    let (first, rest) = readme.split_first().unwrap();
    let typed = first.lines().filter_map(|line| line.split('#').next()).map(str::trim);
    assert_eq!(typed.collect::<Vec<_>>(), ["make demo", "make test"]);
    let told = copy.type_in("make demo");
    assert!(told.lines().any(|line| line == "demo: ok"), "{told}");

    // `make test` is what runs this.
    for block in rest {
        let _playground = Playground(&copy);
        copy.type_in(block);
    }
    nothing_is_left(&up);

    let playground = Playground(&copy);
    copy.type_in("make up");
    for page in ["docs/remotehost.md", "docs/security.md", "docs/remotecommand.md"] {
        for block in blocks(page, "sh") {
            copy.type_in(&block);
        }
    }
    for (command, _) in WITHIN_SENTENCES.iter().filter(|(_, by)| by.is_empty()) {
        copy.type_in(command);
    }
    for page in PAGES {
        for manifest in blocks(page, "yaml") {
            dry_run(&copy, &manifest);
        }
    }
    drop(playground);
    nothing_is_left(&up);
    assert_eq!(built(), before, "what the checkout itself has built is another's now");
    let playground = copy.join("target/release/examples/playground");
    serves_the_checkout_it_is_started_in(&playground);
    says_at_once_that_a_part_has_ended(&playground);
}

/// Somebody else listens where etcd was to.
fn says_at_once_that_a_part_has_ended(playground: &Path) {
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("playground"), other.path().join("playground")).unwrap();
    fs::create_dir_all(other.path().join("target/playground")).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    fs::write(other.path().join("target/playground/ports"), format!("{port} 1 2\n")).unwrap();
    let began = Instant::now();
    let play =
        |word| Command::new(playground).arg(word).current_dir(other.path()).output().unwrap();
    let (up, took, down) = (play("up"), began.elapsed(), play("down"));
    let told = String::from_utf8(up.stderr).unwrap();
    assert!(told.contains("etcd ended:") && told.contains("address already in use"), "{told}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(down.status.success());
    nothing_is_left(&other.path().join("target/playground"));
}

/// A build directory that several checkouts share holds one playground for all of them.
fn serves_the_checkout_it_is_started_in(playground: &Path) {
    let other = tempfile::tempdir().unwrap();
    let down = || Command::new(playground).arg("down").current_dir(other.path()).output().unwrap();
    assert!(!down().status.success(), "it went to another checkout");
    fs::create_dir_all(other.path().join("playground/programs")).unwrap();
    fs::write(other.path().join("playground/programs/get"), "").unwrap();
    fs::create_dir_all(other.path().join("target/playground")).unwrap();
    assert_eq!(String::from_utf8(down().stdout).unwrap(), "the playground is down\n");
    nothing_is_left(&other.path().join("target/playground"));
}

#[test]
fn no_document_has_commands_that_are_not_run() {
    for page in ["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        assert!(blocks(page, "sh").is_empty(), "{page} has a block that nothing runs");
    }
    let programs =
        ["make", "cargo", "kubectl", "remote-command", "ssh-keyscan", "ssh-keygen", "sudo"];
    let is_command = |text: &str| programs.iter().any(|p| text.split(' ').next() == Some(*p));
    for page in PAGES {
        for span in spans(page).into_iter().filter(|span| is_command(span)) {
            let known = WITHIN_SENTENCES.iter().any(|(command, _)| *command == span);
            assert!(known, "{page} has `{span}`: say in this test who runs it");
        }
        let texts = blocks(page, "text");
        let hidden =
            texts.iter().flat_map(|text| text.lines()).find(|line| is_command(line.trim()));
        assert_eq!(hidden, None, "a command in a block of {page} that is not run");
    }
}

#[test]
fn every_make_target_a_document_names_exists() {
    let makefile = page("Makefile");
    for name in PAGES {
        let spans = spans(name);
        for target in spans.iter().filter_map(|span| span.strip_prefix("make ")) {
            let known = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(known, "{name} names `make {target}`");
        }
    }
}

/// Nothing of a playground was ever made there, so there is nothing to build first.
#[test]
fn in_a_fresh_clone_make_down_has_nothing_to_do() {
    let clone = tempfile::tempdir().unwrap();
    fs::copy(root().join("Makefile"), clone.path().join("Makefile")).unwrap();
    let mut make = Command::new("make");
    make.arg("down").current_dir(clone.path()).env_remove("CARGO_TARGET_DIR");
    let output = make.env("PATH", "/usr/bin:/bin").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("no playground is up"), "{output:?}");
}

#[test]
fn without_root_make_test_says_that_it_needs_it() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let clone = tempfile::tempdir().unwrap();
    fs::set_permissions(clone.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(root().join("Makefile"), clone.path().join("Makefile")).unwrap();
    let mut make = Command::new("make");
    let nobody = make.arg("test").current_dir(clone.path()).uid(65_534).gid(65_534);
    let output = nobody.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with("make test needs root: "), "{told}");
}
