//! What a host says of an account that may not be used, or not now: an expired password, a login
//! that is closed. It is told in place of a shell, so that it looks like a forced command; but
//! looking again runs nothing of anybody's, and shows when it was mended.
//!
//! Only whole sentences count, and only at the beginning of a line: a forced command may well
//! speak of accounts, and must not be run each minute for it.

use std::time::Duration;

use crate::core::fault::{Fault, Standing};
use crate::core::foreign::foreign;

/// How long what an account was found to be is believed: shorter than the minute after which it
/// is looked at again.
pub(super) const REST: Duration = Duration::from_secs(50);

/// How long the echo of a nonce is still waited for when another shell seems to have taken it for
/// a command: a shell that traces what it does (`set -x`) shows it, too.
pub(super) const MISREAD_GRACE: Duration = Duration::from_secs(1);

/// How long the last words of a shell are waited for whose input was ended.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the sentences begin, in lower case.
const SENTENCES: [&str; 33] = [
    // nologin of util-linux, shadow and the BSDs; of busybox.
    "this account is currently not available",
    "this account is not available",
    // sshd, where the password has to be changed (session.c).
    "warning: your password has expired",
    "password change required but no tty available",
    // pam_unix.
    "your account has expired",
    "you are required to change your password immediately",
    "you must change your password",
    // shadow (libmisc/age.c).
    "your login has expired",
    "your password has expired",
    "your password is inactive",
    // pam_faillock, pam_tally and pam_tally2.
    "the account is locked due to",
    "account locked due to",
    "account temporary locked",
    "account temporarily locked",
    "account is temporarily locked",
    // pam_sss, pam_krb5, pam_winbind, pam_ldap.
    "password expired. change your password now",
    "password expired. you must change it now",
    "your account has been locked",
    "your account is locked",
    "your account has been disabled",
    "your account is disabled",
    "user account has expired",
    "user account is locked",
    "user password has expired",
    "this account has expired",
    "this account has been locked",
    "this account is locked",
    "this account is disabled",
    // pam_nologin and sshd (nologin(5)), in the words of systemd, shutdown and Debian's boot.
    "system is booting up",
    "system is going down",
    "the system is going down",
    "system bootup in progress",
    "no logins: system going down",
];

/// What was said of the account, as it may be shown; `None` where nothing was.
pub(super) fn complaint<'a>(said: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let texts: Vec<_> = said.into_iter().map(String::from_utf8_lossy).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    let telling: Vec<_> = lines.filter(|line| is_told_by(line)).collect();
    (!telling.is_empty()).then(|| foreign(&telling.join(" ")))
}

fn is_told_by(line: &str) -> bool {
    let start: String = line.chars().take(80).collect::<String>().to_lowercase();
    // Quotation of a terminal's bell and the like is no part of a sentence.
    let start = start.trim_start_matches(|c: char| !c.is_alphanumeric());
    SENTENCES.iter().any(|sentence| start.starts_with(sentence))
}

/// The fault, in words: what is known, what was said, and what to do.
pub(super) fn unusable(complaint: &str) -> Fault {
    let message = format!(
        "the host does not let this account run anything; it said: {complaint} (mend the account \
         there: its password, expiry, login shell, or nologin; it is looked at again each minute)"
    );
    Fault::new(Standing::HostUnusable, message)
}

/// The fault where another shell answers, which a start-up file of the login shell put in its
/// place: it complains of our nonce, which a forced command would not take for a command.
pub(super) fn misread(said: &str) -> Fault {
    let message = format!(
        "another shell than the login shell answers, and takes for a command what is meant for \
         ours; it said: {said} (look at the start-up files of the login shell, like .bashrc: they \
         may start another shell on a terminal only; it is looked at again each minute)"
    );
    Fault::new(Standing::HostUnusable, message)
}

/// The fault where the account runs something else than a shell, which ended in this way and said
/// this. Nobody can tell it from a start-up file that ends the login shell.
pub(super) fn foreign_command(status: &str, words: &str) -> Fault {
    let message = format!(
        "the account ran something else than our shell ({status}): a forced command, or a start-up \
         file that ends its login shell. As a look runs that, the next one is when the RemoteHost \
         (with an inline host, the command) or its annotation remotecommand.dev/check changes, or \
         in an hour{words}"
    );
    Fault::new(Standing::ForcedCommand, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_account_is_understood_in_the_words_of_those_who_say_it() {
        for said in [
            "This account is currently not available.\n",
            "This account is not available",
            "motd\r\nWelcome!\r\nYour account has expired; please contact your system administrator.",
            "You are required to change your password immediately (administrator enforced).\n\
             WARNING: Your password has expired.\nPassword change required but no TTY available.\n",
            "Your password has expired.  Choose a new password.",
            "The account is locked due to 3 failed logins.\n(10 minutes left to unlock)\n",
            "\"System is booting up. Unprivileged users are not permitted to log in yet. Please \
             come back later. For technical details, see pam_nologin(8).\"\n",
            "\n  System is going down. Unprivileged users are not permitted to log in anymore.",
        ] {
            assert!(complaint([said.as_bytes()]).is_some(), "{said}");
        }
        let said: [&[u8]; 2] = [b"Welcome\n", b"noise\nYour account has expired;\x1b[2J\nmore\n"];
        let told = complaint(said).unwrap();
        assert_eq!(told, "Your account has expired;\u{fffd}[2J");
    }

    /// Guards against a forced command that is run each minute.
    #[test]
    fn a_forced_command_that_speaks_of_accounts_is_not_taken_for_one() {
        for said in [
            "",
            "backup done\n",
            "bob: account locked\n",
            "checking: your password has expired? no\n",
            "Locked accounts: this account is not available: 3\n",
            "Your password will expire in 3 days.\n",
            "This service allows sftp connections only.\n",
        ] {
            assert_eq!(complaint([said.as_bytes()]), None, "{said}");
        }
    }
}
