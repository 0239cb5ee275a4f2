//! How a Direct command's words reach the far side without a shell parsing them.
//!
//! The login shell sees one constant line. The values follow on standard input, each as a
//! count of lines and those lines, and become variables and positional parameters; what is
//! left of standard input is the command's own. Before the command takes over, a nonce is
//! printed on both streams: what comes before it is noise of the login, and where it never
//! comes the command never started.

use zeroize::Zeroizing;

use crate::core::action::Kind;
use crate::core::plan::{Direct, Plan};
use crate::host::Material;

/// The line a login shell is given. No `'`, `!` or line feed inside the quotes, and no
/// backslash before a quote: sh, fish and tcsh then agree on what it means.
///
/// The first part reads the user to become; the second part, run as that user, reads the
/// nonce, the script's presence and text, directory, words and environment.
const LINE: &str = concat!(
    "exec /bin/sh -c '",
    r#"IFS= read -r u; "#,
    r#"if [ -n "$u" ]; then exec sudo -n -u "$u" -- /bin/sh -c "$1"; fi; "#,
    r#"exec /bin/sh -c "$1""#,
    "' sh '",
    r#"rcmd_n=$(printf "\nx"); rcmd_n=${rcmd_n%x}; "#,
    r#"rcmd_get() { IFS= read -r rcmd_c; IFS= read -r rcmd_v; "#,
    r#"while [ "$rcmd_c" -gt 1 ]; do IFS= read -r rcmd_l; "#,
    r#"rcmd_v=$rcmd_v$rcmd_n$rcmd_l; rcmd_c=$((rcmd_c-1)); done; }; "#,
    r#"IFS= read -r rcmd_k; "#,
    r#"IFS= read -r rcmd_x; rcmd_get; rcmd_s=$rcmd_v; "#,
    r#"rcmd_get; rcmd_d=$rcmd_v; "#,
    r#"IFS= read -r rcmd_i; set --; "#,
    r#"while [ "$rcmd_i" -gt 0 ]; do rcmd_get; set -- "$@" "$rcmd_v"; rcmd_i=$((rcmd_i-1)); done; "#,
    r#"IFS= read -r rcmd_i; "#,
    r#"while [ "$rcmd_i" -gt 0 ]; do rcmd_get; export "$rcmd_v"; rcmd_i=$((rcmd_i-1)); done; "#,
    r#"printf "\n%s\n" "$rcmd_k"; printf "\n%s\n" "$rcmd_k" >&2; "#,
    r#"if [ -n "$rcmd_d" ]; then cd -- "$rcmd_d" || exit 127; fi; "#,
    r#"if [ "$rcmd_x" = 0 ]; then exec "$@"; fi; "#,
    r#"{ printf %s "$rcmd_s" | { exec "$@" /dev/fd/3 3<&0 0<&4 4<&-; }; } 4<&0"#,
    "'",
);

/// What is sent to run one attempt.
pub(super) struct Request {
    pub(super) line: String,
    /// Sent on standard input, followed by its end.
    pub(super) input: Zeroizing<Vec<u8>>,
    /// What announces the command on both streams; `None` where the words are the line.
    pub(super) nonce: Option<String>,
}

/// The request for a plan's command or its verify.
///
/// # Errors
/// A sentence on what cannot be carried out; nothing was sent.
pub(super) fn request(
    plan: &Plan,
    direct: &Direct,
    kind: Kind,
    material: Material,
) -> Result<Request, String> {
    let argv = match (kind, &plan.verify) {
        (Kind::Command, _) => &plan.program.argv,
        (Kind::Verify, Some(verify)) => &verify.command,
        (Kind::Verify, None) => return Err("there is no verify command".to_owned()),
    };
    if argv.first().is_none_or(|word| word.is_empty() || word.starts_with('-')) {
        return Err("the command has no program's name as its first word".to_owned());
    }
    let stdin = match kind {
        Kind::Command => material.stdin.unwrap_or_default(),
        Kind::Verify => Zeroizing::default(),
    };
    if direct.no_shell || direct.forced_command {
        return plain(argv, stdin);
    }
    let nonce: String = format!("{:032x}", rand::random::<u128>());
    let mut input = Zeroizing::new(Vec::with_capacity(4096 + stdin.len()));
    line(&mut input, plan.program.run_as.as_deref().unwrap_or("").as_bytes())?;
    line(&mut input, nonce.as_bytes())?;
    let script = plan.program.script.as_ref().filter(|_| kind == Kind::Command);
    line(&mut input, if script.is_some() { b"1" } else { b"0" })?;
    value(&mut input, script.map_or("", String::as_str).as_bytes())?;
    value(&mut input, plan.program.working_directory.as_deref().unwrap_or("").as_bytes())?;
    line(&mut input, argv.len().to_string().as_bytes())?;
    for word in argv {
        value(&mut input, word.as_bytes())?;
    }
    line(&mut input, material.env.len().to_string().as_bytes())?;
    for (name, content) in &material.env {
        let mut pair = Zeroizing::new(Vec::with_capacity(name.len() + 1 + content.len()));
        pair.extend_from_slice(name.as_bytes());
        pair.push(b'=');
        pair.extend_from_slice(content);
        value(&mut input, &pair)?;
    }
    input.extend_from_slice(&stdin);
    Ok(Request { line: LINE.to_owned(), input, nonce: Some(nonce) })
}

/// The words as they are: for devices without a shell, and for accounts with a forced command.
fn plain(argv: &[String], stdin: Zeroizing<Vec<u8>>) -> Result<Request, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if let Some(word) = argv.iter().find(|word| word.is_empty() || !word.chars().all(harmless)) {
        return Err(format!(
            "{word:?} cannot be sent as it is; allowed are A-Z a-z 0-9 _@%+=:,./-"
        ));
    }
    Ok(Request { line: argv.join(" "), input: stdin, nonce: None })
}

/// One line that holds no line feed.
fn line(input: &mut Vec<u8>, text: &[u8]) -> Result<(), String> {
    if text.contains(&b'\n') || text.contains(&0) {
        return Err("a name holds a line feed or a NUL".to_owned());
    }
    input.extend_from_slice(text);
    input.push(b'\n');
    Ok(())
}

/// The count of lines, and the lines.
fn value(input: &mut Vec<u8>, text: &[u8]) -> Result<(), String> {
    if text.contains(&0) {
        return Err("a word, a value or the script holds a NUL".to_owned());
    }
    let lines = text.split(|byte| *byte == b'\n').count();
    input.extend_from_slice(lines.to_string().as_bytes());
    input.push(b'\n');
    input.extend_from_slice(text);
    input.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_login_shell_reads_the_line_alike() {
        assert!(!LINE.contains(['!', '\n']));
        assert!(!LINE.contains("\\'") && !LINE.contains("\\\\"));
        assert_eq!(LINE.matches('\'').count(), 4);
    }

    #[test]
    fn values_keep_their_lines() {
        let mut input = Vec::new();
        value(&mut input, b"one\n\ntwo ").unwrap();
        value(&mut input, b"").unwrap();
        assert_eq!(input, b"3\none\n\ntwo \n1\n\n");
        assert!(value(&mut input, b"a\0b").is_err());
    }
}
