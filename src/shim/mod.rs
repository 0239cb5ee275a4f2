//! The POSIX sh program that keeps the record on the host, and how it is called.
//!
//! [`bootstrap`] is the only thing a login shell ever sees. It echoes a nonce (the first
//! exchange, which does nothing), then takes one line, the [`loader`], which takes the
//! program as counted bytes. Data never shares a stream with text that a shell would run.
//! The requests and answers are in [`wire`]. Knows nothing of SSH.

pub mod wire;

use std::sync::LazyLock;

use crate::core::quote::quote;

/// What the host says before the nonce.
pub const GREETING: &str = "remote-command ";

/// Read by helper shells and supervisors alike.
static RUN: LazyLock<String> = LazyLock::new(|| {
    [
        include_str!("process.sh"),
        include_str!("stop.sh"),
        include_str!("drain.sh"),
        include_str!("supervise.sh"),
    ]
    .map(without_comments)
    .concat()
});

/// Read by helper shells only.
static SERVE: LazyLock<String> = LazyLock::new(|| {
    [include_str!("store.sh"), include_str!("verbs.sh")].map(without_comments).concat()
});

fn without_comments(text: &str) -> String {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// What differs from one account to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The shell that runs the program: `/bin/sh`.
    pub shell: String,
    /// Where procfs is mounted: `/proc`. A host without it cannot tell losses from silence.
    pub procfs: String,
    /// Where records are kept, an absolute path; `None` for the defaults.
    pub state_directory: Option<String>,
}

impl Default for Account {
    fn default() -> Self {
        Self { shell: "/bin/sh".into(), procfs: "/proc".into(), state_directory: None }
    }
}

/// The constant line: one line, no single quote within the quotes, nothing that fish or
/// tcsh expand between single quotes.
pub fn bootstrap(shell: &str) -> String {
    format!(
        "exec {shell} -c 'IFS= read -r rc_nonce && echo \"{GREETING}$rc_nonce\" && \
         IFS= read -r rc_l && eval \"$rc_l\"'"
    )
}

/// The line that becomes another user, for whom the bootstrap begins again.
pub fn become_user(shell: &str, user: &str) -> String {
    let inner = bootstrap(shell);
    let inner = inner.strip_prefix("exec ").unwrap_or(&inner);
    format!("exec sudo -n -u {} {inner}\n", quote(user))
}

/// The line that takes the program, and the program and first words behind it.
pub fn loader(account: &Account, run_as: Option<&str>) -> Vec<u8> {
    let (run, serve): (&str, &str) = (&RUN, &SERVE);
    let mut text = format!(
        "rc_sh={}; rc_proc={}; rc_load() {{ rc_w=; while [ ${{#rc_w}} -lt $1 ]; do \
         rc_l=$(dd bs=$(($1 - ${{#rc_w}})) count=1 2>/dev/null; echo .); rc_l=${{rc_l%.}}; \
         [ \"$rc_l\" ] || {{ ( (exit 0); : ); exit 1; }}; rc_w=$rc_w$rc_l; done; }}; rc_load {}; rc_run=$rc_w; \
         rc_load {}; eval \"$rc_run$rc_w\"; rc_hello {}\n{run}{serve}",
        quote(&account.shell),
        quote(&account.procfs),
        run.len(),
        serve.len(),
        if run_as.is_some() { "user" } else { "-" },
    )
    .into_bytes();
    wire::put_word(&mut text, account.state_directory.as_deref().unwrap_or_default().as_bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_is_one_line_that_every_login_shell_passes_on() {
        let line = bootstrap("/bin/sh");
        assert_eq!(line.matches('\'').count(), 2, "{line}");
        for bad in ['\n', '!', '\\', '^'] {
            assert!(!line.contains(bad), "{line} holds {bad:?}");
        }
    }

    #[test]
    fn the_program_is_ascii_so_that_bytes_and_characters_count_alike() {
        assert!(RUN.is_ascii() && SERVE.is_ascii());
    }

    #[test]
    fn the_documents_name_every_program_that_the_record_asks_for() {
        let asked = include_str!("store.sh").split_once("for rc_l in ").unwrap().1;
        let asked = asked.split_once(';').unwrap().0;
        assert!(asked.starts_with("cat dd "), "{asked}");
        let page = include_str!("../../docs/remotehost.md");
        assert!(page.contains(&format!("POSIX `sh` with `{asked}`")), "{asked}");
    }

    #[test]
    fn what_a_supervisor_is_given_fits_into_one_environment_string() {
        assert!(RUN.len() < 32 * 1024, "{}", RUN.len());
    }
}
