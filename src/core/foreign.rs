//! Text that somebody else wrote: a host, a tenant, a file. It may be shown as part of our own
//! sentences only after it went through here, where it loses whatever could pass for more than
//! text: line ends, terminal sequences, controls of direction, length.
//!
//! Not for a command's output, which is kept byte for byte.

use std::borrow::Cow;

/// The most characters of foreign text that are shown in one place.
pub const FOREIGN_CHARS: usize = 300;

/// Foreign text as it may be shown: at most [`FOREIGN_CHARS`] characters, each printable, with
/// no white space at its ends; `…` marks what was cut off. What is not printable becomes U+FFFD.
pub fn foreign(text: &str) -> String {
    printable(text, FOREIGN_CHARS)
}

/// The same of bytes that need not be UTF-8.
pub fn foreign_bytes(bytes: &[u8]) -> String {
    // No character takes more than four bytes; one more shows that something was cut off.
    let most = bytes.len().min(4 * (FOREIGN_CHARS + 1));
    foreign(&String::from_utf8_lossy(bytes.get(..most).unwrap_or(bytes)))
}

/// A line as it may go to a terminal or a log, whatever is in it: printable characters only, as
/// many as there are.
pub fn line(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(shown).collect())
    }
}

/// At most `most` printable characters of `text`, with no white space at its ends; `…` marks
/// what was cut off.
pub fn printable(text: &str, most: usize) -> String {
    let mut left = text.trim().chars();
    let mut kept: String = left.by_ref().take(most).map(shown).collect();
    if left.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

fn shown(character: char) -> char {
    if is_printable(character) { character } else { char::REPLACEMENT_CHARACTER }
}

/// Whether it takes a place on a line and does nothing else. By the Unicode tables that Rust's
/// `Debug` of a string goes by: no control (Cc), format (Cf: the controls of direction, zero
/// width), line or paragraph end (Zl, Zp), odd space (Zs), private or unassigned character.
fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        // Accents of the character before are escaped only where a string begins with them.
        _ => {
            let text: String = ['a', character].iter().collect();
            text.escape_debug().count() == 2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_pass_for_more_than_text_is_replaced() {
        let bad = "a\nb\rc\u{1b}[31md\0e\u{202e}f\u{2066}g\u{200b}h\u{85}i\u{9b}j\u{2028}k\tl";
        assert_eq!(
            foreign(bad),
            "a\u{fffd}b\u{fffd}c\u{fffd}[31md\u{fffd}e\u{fffd}f\u{fffd}g\
            \u{fffd}h\u{fffd}i\u{fffd}j\u{fffd}k\u{fffd}l"
        );
        assert_eq!(foreign("\u{e000}\u{feff}\u{ad}x\u{a0}y"), "\u{fffd}\u{fffd}\u{fffd}x\u{fffd}y");
    }

    #[test]
    fn what_is_text_stays_as_it_is() {
        for text in ["", "it's \"C:\\dir\"", "größer, 日本語, e\u{301}, 🙂", "a  b"] {
            assert_eq!(foreign(text), text);
        }
        assert_eq!(foreign("\r\n said \n"), "said");
        assert_eq!(foreign_bytes(b"\xffx\xc3\xa4"), "\u{fffd}xä");
    }

    #[test]
    fn a_line_of_ours_keeps_its_length_and_loses_what_is_no_text() {
        let whole = "  ä ".repeat(1000);
        assert!(matches!(line(&whole), Cow::Borrowed(text) if text == whole));
        assert_eq!(line("a\nremote-command: b\u{1b}[2J"), "a\u{fffd}remote-command: b\u{fffd}[2J");
    }

    #[test]
    fn what_is_long_is_cut_and_the_cut_is_seen() {
        let whole = "ä".repeat(FOREIGN_CHARS);
        assert_eq!(foreign(&whole), whole);
        let cut = foreign(&format!("{whole}ä"));
        assert_eq!((cut.chars().count(), cut.ends_with("ä…")), (FOREIGN_CHARS, true));
        let bytes = "ä".repeat(1 << 20).into_bytes();
        assert_eq!(foreign_bytes(&bytes), cut);
    }
}
