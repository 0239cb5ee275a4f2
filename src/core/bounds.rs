//! The bounds of a stage: it is kept in an object, which has room for so much only, and one that
//! does not fit could not be saved, so that nothing would ever become of its command.
//!
//! | what | at most |
//! |---|---|
//! | a message | [`MESSAGE_CHARS`] characters, [`MESSAGE_BYTES`] as stored |
//! | a reason, a signal | [`WORD_CHARS`] characters |
//! | processes of one list | [`PROCESSES`], each command's name [`COMMAND_CHARS`] characters |
//! | what deletion leaves behind | [`ABANDONED`] sentences of [`SENTENCE_BYTES`] as stored |
//! | ended attempts | [`HISTORY`](super::stage::HISTORY) |
//! | earlier stores | 8, and all ways to hosts [`WAYS_BYTES`] as stored |
//! | one way to a host | [`WAYS_BYTES`] as stored; a longer one is refused before anything starts |
//!
//! "As stored" counts what the text takes as part of a JSON text that is itself a string in
//! JSON ([`stored_bytes`]). What a host says of itself (machine, boot, store) is compared with
//! what it says later and never cut: it is bounded where it is parsed.

use super::attempt::Place;
use super::foreign::printable;
pub use super::phase::MESSAGE_CHARS;
use super::record::Survivor;
use super::stage::{Stage, WaitingOn};

/// Bytes of a message as stored.
pub const MESSAGE_BYTES: usize = 2304;
/// Characters of a word: a reason, a signal.
pub const WORD_CHARS: usize = 64;
/// How many processes are listed.
pub const PROCESSES: usize = 32;
/// Characters of a process's name; Linux has 15.
pub const COMMAND_CHARS: usize = 32;
/// Sentences about what stays on hosts.
pub const ABANDONED: usize = 32;
/// Bytes of such a sentence as stored.
pub const SENTENCE_BYTES: usize = 384;
/// Bytes of all ways to hosts as stored.
pub const WAYS_BYTES: usize = 112 * 1024;

/// Cuts whatever is longer than its bound. A stage that is within them stays as it is.
pub fn bound(stage: &mut Stage) {
    if let Some(waiting) = &mut stage.waiting {
        message(&mut waiting.message);
        if let WaitingOn::Hold(_, reason) = &mut waiting.on {
            word(reason);
        }
    }
    if let Some(attempt) = &mut stage.current {
        processes(&mut attempt.left_running);
        if let Some(uncertain) = &mut attempt.uncertain {
            message(&mut uncertain.message);
        }
        match &mut attempt.place {
            Place::Stopping(stop) | Place::Fencing { stop, .. } => processes(&mut stop.survivors),
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Lost(_)
            | Place::Ended(_) => {}
        }
    }
    if let Some(outcome) = &mut stage.outcome {
        message(&mut outcome.message);
        outcome.signal.as_mut().map(word);
    }
    for past in &mut stage.attempts {
        word(&mut past.reason);
        past.signal.as_mut().map(word);
    }
    bound_deletion(stage);
}

fn bound_deletion(stage: &mut Stage) {
    let Some(deleting) = &mut stage.deleting else { return };
    if let Some(shown) = &mut deleting.shown {
        word(&mut shown.reason);
        message(&mut shown.message);
    }
    if let Some(blocked) = &mut deleting.blocked {
        message(&mut blocked.message);
    }
    deleting.abandoned.truncate(ABANDONED);
    for sentence in &mut deleting.abandoned {
        cut(sentence, MESSAGE_CHARS, SENTENCE_BYTES);
    }
}

/// Cuts a message for people.
pub fn message(text: &mut String) {
    cut(text, MESSAGE_CHARS, MESSAGE_BYTES);
}

/// Cuts a word.
pub fn word(text: &mut String) {
    cut(text, WORD_CHARS, MESSAGE_BYTES);
}

/// Cuts a list of processes, whose names are the host's.
pub fn processes(found: &mut Vec<Survivor>) {
    found.truncate(PROCESSES);
    for process in found {
        process.command = printable(&process.command, COMMAND_CHARS);
    }
}

/// Cuts `text`, whoever wrote parts of it, to so many printable characters and bytes as stored;
/// the end shows that it was.
fn cut(text: &mut String, chars: usize, bytes: usize) {
    *text = printable(text, chars);
    let mut written = 0_usize;
    let mut last = 0;
    // Room for the mark at the end.
    let (most_chars, most_bytes) = (chars.saturating_sub(1), bytes.saturating_sub(3));
    for (count, (at, character)) in text.char_indices().enumerate() {
        if count <= most_chars && written <= most_bytes {
            last = at;
        }
        written = written.saturating_add(stored_char(character));
        if count >= chars || written > bytes {
            text.truncate(last);
            text.push('…');
            return;
        }
    }
}

/// How many bytes a text takes as stored: as a string of a JSON text that is a string of JSON,
/// the outer one written as the API server does.
pub fn stored_bytes(text: &str) -> usize {
    text.chars().map(stored_char).fold(0, usize::saturating_add)
}

fn stored_char(character: char) -> usize {
    match character {
        // `"` becomes `\"` and then `\\\"`.
        '"' | '\\' => 4,
        // `\n` becomes `\\n`.
        '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 3,
        '\0'..='\u{1f}' => 7,
        other => json_bytes(other),
    }
}

/// How many bytes a character has in a JSON string (RFC 8259, section 7) as the API server
/// writes it.
pub fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        // Go, and so the API server, writes these as six characters of ASCII.
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(mut text: String, chars: usize, bytes: usize) -> String {
        cut(&mut text, chars, bytes);
        text
    }

    #[test]
    fn what_fits_stays_and_what_does_not_is_cut_by_characters_and_by_bytes() {
        assert_eq!(after("äöü".to_owned(), 3, 6), "äöü");
        assert_eq!(after("äöü!".to_owned(), 3, 100), "äö…");
        assert_eq!(after("<".repeat(100), 1000, 21), "<<<…");
        assert_eq!(after("a\u{1}\nb".to_owned(), 1000, 1000), "a\u{fffd}\u{fffd}b");
        for text in ["\"".repeat(9999), "\u{2028}".repeat(9999), "x".repeat(9999)] {
            let once = after(text, MESSAGE_CHARS, MESSAGE_BYTES);
            assert!(once.chars().count() <= MESSAGE_CHARS && stored_bytes(&once) <= MESSAGE_BYTES);
            assert_eq!(after(once.clone(), MESSAGE_CHARS, MESSAGE_BYTES), once);
        }
    }

    #[test]
    fn bytes_as_stored_are_those_of_json_in_json() {
        for text in ["plain", "a\"b\\c\nd\te\u{1}f", "größer", "{\"hops\":[{\"a\":\"x\\n\"}]}"] {
            let once = serde_json::to_string(text).unwrap();
            let inner = once[1..once.len() - 1].to_owned();
            let twice = serde_json::to_string(&inner).unwrap();
            assert_eq!(stored_bytes(text), twice.len() - 2, "{text:?}");
        }
    }
}
