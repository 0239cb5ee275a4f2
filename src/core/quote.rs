//! Quoting a word for a POSIX shell. Needed for our own few words only (a user name, a
//! path): what users pass travels as counted or framed bytes and is never quoted.

/// The word in single quotes, so that any POSIX shell reads it back byte for byte.
/// A single quote leaves the quotes, is escaped, and enters them again (POSIX.1-2024,
/// XCU 2.2.2).
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_when_they_must_be() {
        let table = [
            ("plain-1.2/x", "plain-1.2/x"),
            ("", "''"),
            ("a b", "'a b'"),
            ("$(id)", "'$(id)'"),
            ("it's", r"'it'\''s'"),
            ("a\nb", "'a\nb'"),
            ("!!", "'!!'"),
            ("~", "'~'"),
        ];
        for (word, quoted) in table {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let words = ["a b", "it's", "$(id)`id`", "\\n\\", "\"", "* ? [a]", "a\nb\n", "é\u{1}"];
        for word in words {
            let line = format!("printf %s {}", quote(word));
            let out = std::process::Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), word);
        }
    }
}
