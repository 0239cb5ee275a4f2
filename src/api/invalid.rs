//! What is wrong with a spec, in sentences that say what to write, and the checks that the API
//! server cannot make or that nobody makes where there is no API server.

use std::time;

use super::duration::{Duration, InvalidDuration};
use super::quantity::InvalidQuantity;
use crate::core::plan::{TEXT_BYTES, WORD_BYTES};

/// Why a spec cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A rule of the contract, as a sentence.
    #[error("{0}")]
    Rule(&'static str),
    /// A duration that is none, or out of bounds.
    #[error("{field} is {source}")]
    Duration { field: &'static str, source: InvalidDuration },
    /// A duration that would hurt others.
    #[error("{field} is {found:?}: {sentence}")]
    OutOfBounds { field: &'static str, found: String, sentence: &'static str },
    /// A size that is none, or out of bounds.
    #[error("spec.output.sizeLimit is {0}")]
    Size(#[from] InvalidQuantity),
    /// A number out of bounds.
    #[error("{field} is {found}; it is at least {least} and at most {most}")]
    Number { field: &'static str, found: i32, least: i32, most: i32 },
    /// More bytes than one argument or variable can have.
    #[error("{field} has {bytes} bytes; an argument or variable has at most {WORD_BYTES}")]
    LongWord { field: String, bytes: usize },
    /// More bytes than a text written in a spec can have.
    #[error(
        "{field} has {bytes} bytes; it has at most {TEXT_BYTES}: put more into a ConfigMap or a \
         Secret, and name that in {instead}"
    )]
    LongText { field: &'static str, bytes: usize, instead: &'static str },
    /// A NUL byte where the host's kernel would cut the text.
    #[error("{field} holds a NUL byte, which no argument, variable or path can have")]
    Nul { field: String },
    /// A word for a device without a shell, or an account with a forced command, that is more
    /// than plain characters.
    #[error(
        "{field} needs a shell to quote it; with spec.direct.shell None or forcedCommand a word \
         has letters, digits and _@%+=:,./- only"
    )]
    NeedsShell { field: String },
    /// A variable's name that a shell would read as something else.
    #[error(
        "{field} is no name of a variable: it has letters, digits and underscores, and does not \
         begin with a digit"
    )]
    VariableName { field: String },
}

/// How long a duration is.
pub(super) fn duration(
    field: &'static str,
    written: &Duration,
) -> Result<time::Duration, InvalidSpec> {
    written.get().map_err(|source| InvalidSpec::Duration { field, source })
}

/// A number within its bounds.
pub(super) fn number(
    field: &'static str,
    found: i32,
    bounds: std::ops::RangeInclusive<i32>,
) -> Result<u32, InvalidSpec> {
    let (least, most) = (*bounds.start(), *bounds.end());
    let wrong = InvalidSpec::Number { field, found, least, most };
    if bounds.contains(&found) { u32::try_from(found).map_err(|_| wrong) } else { Err(wrong) }
}

pub(super) fn rule(holds: bool, sentence: &'static str) -> Result<(), InvalidSpec> {
    if holds { Ok(()) } else { Err(InvalidSpec::Rule(sentence)) }
}

pub(super) fn no_nul(field: &str, text: &str) -> Result<(), InvalidSpec> {
    if text.contains('\0') { Err(InvalidSpec::Nul { field: field.to_owned() }) } else { Ok(()) }
}

/// Words as the kernel takes them: bounded in bytes, where the API server counts characters.
pub(super) fn words(field: &str, words: &[String]) -> Result<(), InvalidSpec> {
    for (number, word) in words.iter().enumerate() {
        let field = format!("{field}[{number}]");
        no_nul(&field, word)?;
        if word.len() > WORD_BYTES {
            return Err(InvalidSpec::LongWord { field, bytes: word.len() });
        }
    }
    if words.first().is_none_or(String::is_empty) {
        return Err(InvalidSpec::Rule(super::sentences::PROGRAM_NAMED));
    }
    Ok(())
}

/// Words that are sent as they are, which nobody quotes.
pub(super) fn bare_words(field: &str, words: &[String]) -> Result<(), InvalidSpec> {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    match words.iter().position(|word| word.is_empty() || !word.chars().all(bare)) {
        Some(number) => Err(InvalidSpec::NeedsShell { field: format!("{field}[{number}]") }),
        None => Ok(()),
    }
}

/// A variable as the kernel takes it: `NAME=value`.
pub(super) fn variable(number: usize, name: &str, value: &str) -> Result<(), InvalidSpec> {
    let field = format!("spec.env[{number}]");
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(InvalidSpec::VariableName { field });
    }
    no_nul(&field, value)?;
    let bytes = name.len() + 1 + value.len();
    if bytes > WORD_BYTES { Err(InvalidSpec::LongWord { field, bytes }) } else { Ok(()) }
}

/// A text that is written in the spec `instead` of being read from elsewhere.
pub(super) fn text(
    field: &'static str,
    text: &str,
    instead: &'static str,
) -> Result<(), InvalidSpec> {
    let bytes = text.len();
    let wrong = InvalidSpec::LongText { field, bytes, instead };
    if bytes > TEXT_BYTES { Err(wrong) } else { Ok(()) }
}
