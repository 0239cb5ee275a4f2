//! Why a Direct command never began, from what the account's shell said in place of our marks.

use super::{End, Mark, State};
use crate::core::fault::{Fault, Standing, Transient};
use crate::core::foreign::{foreign, foreign_bytes};
use crate::host::{account, shortage};

impl State {
    /// Why nothing of the command was sent.
    pub(super) fn why_not(&self, end: &End) -> Fault {
        if let End::Lost(fault) = end {
            return fault.clone();
        }
        let noise = [&self.stderr.noise, &self.stdout.noise];
        if let Some(said) = noise.into_iter().find(|noise| shortage::lacks_processes(noise)) {
            return shortage::fault(said);
        }
        if let Some(fault) = self.misread() {
            return fault;
        }
        let failed = self.foreign && self.failed;
        let said = [self.stdout.noise.as_slice(), self.stderr.noise.as_slice()];
        if let Some(complaint) = account::complaint(said).filter(|_| failed) {
            return account::unusable(&complaint);
        }
        if self.foreign && self.unusable == Standing::ForcedCommand {
            return account::foreign_command(&self.ended_with, &self.said());
        }
        let words = [self.stderr.words(), self.stdout.words()];
        let said = words.into_iter().find(|words| !words.is_empty());
        let said = said.unwrap_or_else(|| "nothing".to_owned());
        let message = format!("the account's shell did not run our command; it said: {said}");
        if self.foreign {
            Fault::new(self.unusable, message)
        } else {
            Fault::new(Transient::ConnectionLost, message)
        }
    }

    /// The last words on each stream, to be put behind a sentence.
    pub(super) fn said(&self) -> String {
        let said = |stream: &str, words: String| {
            if words.is_empty() { words } else { format!("; it said on {stream}: {words}") }
        };
        said("stdout", self.stdout.words()) + &said("stderr", self.stderr.words())
    }

    /// The fault, where another shell takes the nonce for a command and complains of it.
    pub(super) fn misread(&self) -> Option<Fault> {
        let nonce = self.stderr.nonce.trim_ascii().strip_suffix(b".")?;
        let mut lines = self.stderr.noise.split(|byte| *byte == b'\n');
        // The nonce alone is what was sent, given back.
        let holds = |line: &&[u8]| line.windows(nonce.len()).any(|part| part == nonce);
        let told = lines.find(|line| holds(line) && line.trim_ascii() != nonce)?;
        Some(account::misread(&foreign_bytes(told)))
    }
}

/// Why the account's shell ended, in order, before it became the command: no exit status tells.
pub(super) fn why_unbegun(mark: Option<&Mark>, said: &[u8]) -> Fault {
    match mark {
        Some(Mark::Environment(name)) => {
            let name = foreign(name);
            let message = format!("the host's shell cannot set the variable {name} to this value");
            Fault::new(Standing::EnvironmentRefused, message)
        }
        Some(Mark::TooLong) => {
            let message = "arguments and variables are together too long for this host";
            Fault::new(Standing::ArgumentsTooLong, message)
        }
        Some(Mark::Begun(_)) | None if shortage::lacks_processes(said) => shortage::fault(said),
        Some(Mark::Begun(_)) | None => {
            let said = foreign_bytes(said);
            let message =
                format!("the account's shell ended before it became the command; it said: {said}");
            Fault::new(Standing::HostUnusable, message)
        }
    }
}
