//! The first exchange with a helper shell, and what it is that answers in its place.

use std::time::Duration;

use tokio::time::timeout;

use super::{Ended, Shell, excerpt};
use crate::core::fault::{Fault, Standing};
use crate::host::Input;
use crate::host::account::{self, LAST_WORDS, MISREAD_GRACE};
use crate::shim::GREETING;

impl Shell {
    /// Waits for the echo of the first exchange; false when nothing came yet that tells. May be
    /// cancelled, and asked again.
    ///
    /// # Errors
    /// The transport's fault; `ForcedCommand` when something else than our shell answered or
    /// ended; `HostUnusable` when there is no shell, when another one answers, or when the host
    /// says why it gives none.
    pub(in crate::host) async fn greeted(&mut self, limit: Duration) -> Result<bool, Fault> {
        match timeout(limit, self.await_greeting()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(Ended::Fault(fault))) => Err(fault),
            Ok(Err(Ended::InOrder)) => Err(self.not_greeted()),
            Err(_) if self.noise.is_empty() && self.read.is_empty() => Ok(false),
            // It is given up in any case; its last words may tell what it is.
            Err(_) => match self.sounded_out().await {
                Ok(true) => Ok(true),
                Ok(false) => Err(self.not_greeted()),
                Err(fault) => Err(fault),
            },
        }
    }

    /// Ends its input and waits a moment longer: a shell that reads commands from there, and may
    /// wait for all of them before it runs the first, then complains and ends. A command that is
    /// at work goes on. False when it still says nothing that tells.
    ///
    /// # Errors
    /// As for [`Shell::greeted`].
    pub(in crate::host) async fn sounded_out(&mut self) -> Result<bool, Fault> {
        if !self.ended_input {
            self.ended_input = true;
            let _ = self.channel.input.try_send(Input::Eof);
        }
        match timeout(LAST_WORDS, self.await_greeting()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(Ended::Fault(fault))) => Err(fault),
            Ok(Err(Ended::InOrder)) => Err(self.not_greeted()),
            Err(_) => Ok(false),
        }
    }

    /// Whether its input was ended: nothing can be asked of it, whatever it says.
    pub(in crate::host) fn has_no_input(&self) -> bool {
        self.ended_input
    }

    /// What it said that was no report, to be put behind a sentence.
    pub(in crate::host) fn words(&self) -> String {
        let quoted = |stream: &str, said: &[u8]| match excerpt(said) {
            said if said.is_empty() => String::new(),
            said => format!("; it said on {stream}: {said}"),
        };
        quoted("stdout", &self.noise) + &quoted("stderr", &self.stderr)
    }

    /// Whether another shell complains of the nonce as of a command that it does not know.
    fn is_misread(&self) -> bool {
        let nonce = self.nonce.as_bytes();
        self.stderr.windows(nonce.len()).any(|part| part == nonce)
    }

    pub(super) async fn await_greeting(&mut self) -> Result<(), Ended> {
        let expected = format!("{GREETING}{}", self.nonce);
        let mut searched = 0;
        loop {
            while let Some(line) = self.line_at_hand(&mut searched)? {
                if line.ends_with(expected.as_bytes()) {
                    return Ok(());
                }
                self.note(&line);
            }
            if !self.is_misread() {
                self.next_event().await?;
            } else if let Ok(event) = timeout(MISREAD_GRACE, self.next_event()).await {
                event?;
            } else {
                return Err(Ended::InOrder);
            }
        }
    }

    fn not_greeted(&mut self) -> Fault {
        let rest: Vec<u8> = self.read.drain(..).collect();
        self.note(&rest);
        if self.noise.is_empty()
            && let Some(fault) = self.shortage()
        {
            return fault;
        }
        if self.is_misread() {
            return account::misread(&excerpt(&self.stderr));
        }
        let said = [self.noise.as_slice(), self.stderr.as_slice()];
        let failed = self.status.as_deref().is_some_and(|status| status != "status 0");
        if let Some(complaint) = account::complaint(said).filter(|_| failed) {
            return account::unusable(&complaint);
        }
        let status = self.status.clone().unwrap_or_else(|| "no status".into());
        let no_shell = status == "status 126" || status == "status 127";
        if no_shell && self.noise.is_empty() {
            let message = format!("no usable shell: {status}: {}", excerpt(&self.stderr));
            return Fault::new(Standing::HostUnusable, message);
        }
        let words = self.words();
        account::foreign_command(&status, &words)
    }
}
