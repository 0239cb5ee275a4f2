//! Who logs in to a test server: the user who runs the tests, or a throw-away user
//! with a login shell of choice.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Result, block_until, keeper, programs};

#[derive(Clone, Debug)]
pub enum Login {
    /// Whoever runs this.
    Current,
    /// A new user with this login shell; needs root.
    Shell(PathBuf),
}

pub struct User {
    name: String,
    throw_away: bool,
}

impl User {
    /// Makes the user if one is wanted, and gives it these two directories.
    pub fn of(login: &Login, home: &Path, state: &Path) -> Result<User> {
        match login {
            Login::Current => Ok(User { name: current()?, throw_away: false }),
            Login::Shell(shell) => User::create(shell, home, state),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn create(shell: &Path, home: &Path, state: &Path) -> Result<User> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = shell.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("rc-test-{base}-{}-{number}", std::process::id());
        keeper::user(&name)?;
        let user = User { name, throw_away: true };
        let mut command = Command::new(programs::debian("useradd", "passwd")?);
        // A locked password ("!") is refused without PAM; "*" is merely one nobody knows.
        command.args(["--no-create-home", "--password", "*", "--home-dir"]).arg(home);
        command.arg("--shell").arg(shell).arg(&user.name);
        patiently(&mut command)?;
        let (uid, gid) = ids(&user.name)?;
        for owned in [home, state] {
            chown(owned, Some(uid), Some(gid))?;
        }
        Ok(user)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if !self.throw_away {
            return;
        }
        let Ok(userdel) = programs::debian("userdel", "passwd") else { return };
        // A connection that is just ending may still belong to the user; it is the
        // keeper's turn when this fails.
        let _ = patiently(Command::new(userdel).args(["--force", &self.name]));
    }
}

/// The user database has one lock; others who hold it make the command fail.
fn patiently(command: &mut Command) -> Result<()> {
    let mut message = String::new();
    let done = block_until(Duration::from_secs(20), || match command.output() {
        Ok(output) => {
            message = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            output.status.success()
        }
        Err(e) => {
            message = e.to_string();
            false
        }
    });
    if done { Ok(()) } else { Err(format!("{command:?}: {message}").into()) }
}

fn current() -> Result<String> {
    let output = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// Whether the password of whoever runs this is locked; only root can look, and only root's
/// sshd would care.
pub fn is_current_locked() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    let start = current().map(|name| format!("{name}:!")).unwrap_or_default();
    !start.is_empty() && shadow.lines().any(|line| line.starts_with(&start))
}

fn ids(name: &str) -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:")));
    let mut fields = line.ok_or("the new user is not in /etc/passwd")?.split(':').skip(2);
    let mut next = || fields.next().unwrap_or_default().parse::<u32>();
    Ok((next()?, next()?))
}
