//! A checkout of its own below `target`, with a build directory of its own: what is typed there
//! touches neither a playground that somebody has up nor what they have built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub struct Copy(PathBuf);

impl Copy {
    /// Brings the copy up to date. Files that did not change keep their times, so that little
    /// is built again.
    pub fn take() -> Self {
        let place = root().join("target/documents");
        let (wanted, present) = (files_of(&root()), files_of(&place));
        for gone in present.difference(&wanted) {
            fs::remove_file(place.join(gone)).unwrap();
        }
        for name in &wanted {
            let (from, to) = (root().join(name), place.join(name));
            let now = fs::read(&from).unwrap();
            if fs::read(&to).ok() != Some(now) {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(&from, &to).unwrap();
            }
        }
        // Copies that were taken before they had builds of their own link to the checkout's.
        let release = place.join("target/release");
        if release.is_symlink() {
            fs::remove_file(release).unwrap();
        }
        Self(place)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A program that runs here as if the reader had just opened a terminal.
    pub fn command(&self, program: &str) -> Command {
        let (bin, release) = (self.join("target/playground/bin"), self.join("target/release"));
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(program);
        command.current_dir(&self.0).stdin(Stdio::null());
        command.env("PATH", format!("{}:{}:{path}", bin.display(), release.display()));
        command.env("KUBECONFIG", self.join("target/playground/kubeconfig"));
        for name in ["CARGO_TARGET_DIR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs text as a reader would paste it, and returns what it printed.
    pub fn type_in(&self, text: &str) -> String {
        let args = ["-euo", "pipefail", "-c", text];
        let output = self.command("bash").args(args).output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let status = output.status;
        assert!(status.success(), "typed:\n{text}\n{status}, and it printed:\n{out}{err}");
        format!("{out}{err}")
    }
}

/// The files of a checkout, relative to it, without what is built and what git keeps.
fn files_of(checkout: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(checkout.join(&folder)) else { continue };
        for entry in entries.map(Result::unwrap) {
            let name = folder.join(entry.file_name());
            let (target, git) = (Path::new("target"), Path::new(".git"));
            match entry.file_type().unwrap() {
                _ if name == target || name == git => {}
                kind if kind.is_dir() => folders.push(name),
                kind if kind.is_file() => drop(found.insert(name)),
                _ => {}
            }
        }
    }
    found
}
