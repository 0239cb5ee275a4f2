//! The bounds of a status, in one place: whatever is known, however long a host or a tenant makes
//! it, a status can be stored.
//!
//! | what | at most |
//! |---|---|
//! | the whole status, as JSON | [`WHOLE`] bytes, for every stage within its own bounds |
//! | `stage` | as [`core::bounds`](crate::core::bounds) has it: never cut here, or what is known would be lost |
//! | `message`, and each condition's | [`MESSAGE_CHARS`](crate::core::bounds::MESSAGE_CHARS) characters, [`MESSAGE_BYTES`](crate::core::bounds::MESSAGE_BYTES) |
//! | `reason`, `evidence`, `signal`, everywhere | [`WORD_CHARS`](crate::core::bounds::WORD_CHARS) characters |
//! | `conditions` | [`CONDITIONS`] |
//! | `attempts` | the last [`HISTORY`] |
//! | `leftRunning` | the first [`PROCESSES`], a name [`COMMAND_CHARS`] characters |
//! | `output.location` | [`LOCATION_CHARS`] characters |
//! | a tail | `spec.output.tailBytes`, twice that as JSON, and half of what the rest leaves of the whole |
//!
//! JSON is counted as the API server writes it, which has six bytes for a control character.

use super::status::{OutputStatus, RemoteCommandStatus};
use crate::core::bounds::{COMMAND_CHARS, PROCESSES, json_bytes, message, word};
use crate::core::foreign::printable;
use crate::core::stage::HISTORY;

/// Bytes of a whole status: an object has 1.5 MiB in etcd, of which most is the spec's.
pub const WHOLE: usize = 256 * 1024;
/// Conditions; the schema takes no more.
pub const CONDITIONS: usize = 16;
/// Characters of a place where output is kept.
pub const LOCATION_CHARS: usize = 1024;

/// The status, cut to its bounds.
pub fn bounded(mut status: RemoteCommandStatus, tail_bytes: i32) -> RemoteCommandStatus {
    for text in [&mut status.reason, &mut status.evidence, &mut status.signal] {
        text.as_mut().map(word);
    }
    status.message.as_mut().map(message);
    if let Some(conditions) = &mut status.conditions {
        conditions.truncate(CONDITIONS);
        for condition in conditions {
            word(&mut condition.reason);
            message(&mut condition.message);
        }
    }
    if let Some(attempts) = &mut status.attempts {
        attempts.drain(..attempts.len().saturating_sub(HISTORY));
        for attempt in attempts {
            for text in [&mut attempt.reason, &mut attempt.evidence, &mut attempt.signal] {
                text.as_mut().map(word);
            }
        }
    }
    if let Some(found) = &mut status.left_running {
        found.truncate(PROCESSES);
        for process in found {
            process.command = printable(&process.command, COMMAND_CHARS);
        }
    }
    let output = status.output.take();
    let rest = WHOLE.saturating_sub(size(&status));
    status.output = output.map(|output| with_tails(output, tail_bytes, rest));
    status
}

/// How many bytes a status has as JSON.
pub fn size(status: &RemoteCommandStatus) -> usize {
    let text = serde_json::to_string(status).unwrap_or_default();
    // The quotes and escapes are there by now; what the API server escapes besides is not.
    let besides = |character| match character {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => json_bytes(character),
        other => other.len_utf8(),
    };
    text.chars().map(besides).fold(0, usize::saturating_add)
}

/// A text cut by one of the bounds of [`core::bounds`](crate::core::bounds).
pub fn shortened(text: &str, bound: fn(&mut String)) -> String {
    let mut text = text.to_owned();
    bound(&mut text);
    text
}

/// Room for the numbers and names of the output's fields.
const FIELDS: usize = 512;

/// Output with tails that fit into `room`, cut at the front and never within a character.
fn with_tails(mut output: OutputStatus, tail_bytes: i32, room: usize) -> OutputStatus {
    output.location = output.location.map(|place| printable(&place, LOCATION_CHARS));
    let place = output.location.as_deref().map_or(0, json_size);
    let each = room.saturating_sub(FIELDS).saturating_sub(place) / 2;
    let limit = usize::try_from(tail_bytes).unwrap_or_default();
    for stream in [&mut output.stdout, &mut output.stderr] {
        let tail = stream.tail.take().unwrap_or_default();
        let kept = end_of(&tail, limit, each.min(limit.saturating_mul(2)));
        stream.tail = Some(kept.to_owned());
    }
    output
}

fn json_size(text: &str) -> usize {
    text.chars().map(json_bytes).fold(0, usize::saturating_add)
}

fn end_of(text: &str, limit: usize, json: usize) -> &str {
    let mut written = 0_usize;
    let fits = |&(at, character): &(usize, char)| {
        written = written.saturating_add(json_bytes(character));
        text.len().saturating_sub(at) <= limit && written <= json
    };
    let first = text.char_indices().rev().take_while(fits).last();
    first.and_then(|(at, _)| text.get(at..)).unwrap_or_default()
}
