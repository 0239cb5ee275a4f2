//! Where the programs are that the real parts consist of. The scripts beside the
//! playground get them; nothing is skipped when one is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Result;

/// The root of the repository: where a test was built.
#[cfg(test)]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The root of the repository: where `make` is, which starts the playground. A path that was
/// built in could be that of another checkout which builds into the same directory.
#[cfg(not(test))]
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| std::env::current_dir().unwrap_or_default())
}

/// A program of the control plane. The first call may build all of them, for minutes.
pub fn control_plane(name: &str) -> Result<PathBuf> {
    let path = control_plane_directory()?.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is missing: run playground/programs/get", path.display()).into())
    }
}

pub fn control_plane_directory() -> Result<&'static Path> {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = DIRECTORY.get_or_init(|| {
        let output = Command::new(root().join("playground/programs/get"))
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("playground/programs/get: {e}"))?;
        if !output.status.success() {
            return Err("playground/programs/get failed; its message is above".to_owned());
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
    });
    Ok(found.as_ref().map_err(Clone::clone)?)
}

/// A program of a Debian package: found, or installed when we may, or a failure that
/// names the command to type.
pub fn debian(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    let status = Command::new(root().join("playground/programs/need"))
        .arg(format!("{name}={package}"))
        .status()?;
    let found = status.success().then(|| find(name)).flatten();
    found.ok_or_else(|| format!("{name} is missing: sudo apt-get install --yes {package}").into())
}

/// The busybox of a Debian package, `busybox` or `busybox-static`, whichever is installed.
pub fn busybox(package: &str) -> Result<PathBuf> {
    let script = root().join("playground/programs/busybox");
    let output = Command::new(script).arg(package).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{package} is missing: playground/programs/busybox {package}").into());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live where the path of a normal user does not look.
    let servers = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(servers)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
