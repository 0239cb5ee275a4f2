//! What a server says to its users before it lets them in, or turns them away: banners (RFC 4252,
//! 5.4) and instructions (RFC 4256, 3.2). Who is turned away is told the last of it, as any client
//! shows it.

use std::sync::{Mutex, PoisonError};

use super::fault::DISCONNECTED;
use crate::core::fault::{Cause, Fault, Transient};
use crate::core::foreign::foreign;
use crate::host::account;

/// Most bytes kept of one banner.
const KEPT: usize = 4096;

/// The last words of a server that has not let us in.
#[derive(Debug, Default)]
pub(super) struct Banner(Mutex<String>);

impl Banner {
    /// Keeps the beginning of what was said, in place of what was said before.
    pub(super) fn hear(&self, said: &str) {
        if said.trim().is_empty() {
            return;
        }
        let kept = said.get(..said.floor_char_boundary(KEPT)).unwrap_or_default();
        kept.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The fault of a login, with the server's own words. One that accepted the credentials and
    /// then hung up because the account may not be used says so in them.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        let said = self.last();
        let parting = fault.message.strip_prefix(DISCONNECTED).unwrap_or_default();
        if fault.cause == Cause::Transient(Transient::ConnectionLost)
            && let Some(told) = account::complaint([said.as_bytes(), parting.as_bytes()])
        {
            return account::unusable(&told);
        }
        match foreign(&said.split_whitespace().collect::<Vec<_>>().join(" ")) {
            words if words.is_empty() => fault,
            words => Fault::new(fault.cause, format!("{}; it had said: {words}", fault.message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fault::Standing;

    #[test]
    fn what_a_server_said_of_an_account_is_believed_of_one_that_hung_up_only() {
        let hung_up = || Fault::new(Transient::ConnectionLost, "the server closed the connection");
        let rejected = || Fault::new(Standing::AuthenticationRejected, "did not accept");
        let banner = Banner::default();
        assert_eq!(banner.explain(hung_up()), hung_up());
        banner.hear("Authorized users only\n");
        banner.hear("System is booting up.\r\nPlease come back later.\u{1b}[2J\n");
        banner.hear(" \n");
        let told = banner.explain(hung_up());
        assert_eq!(told.cause, Standing::HostUnusable.into());
        assert!(told.message.contains("System is booting up."), "{}", told.message);
        let told = banner.explain(rejected());
        assert_eq!(told.cause, Standing::AuthenticationRejected.into());
        let words = "; it had said: System is booting up. Please come back later.\u{fffd}[2J";
        assert!(told.message.ends_with(words), "{}", told.message);
        let parting = format!("{DISCONNECTED}Your account has expired; ask");
        let told = Banner::default().explain(Fault::new(Transient::ConnectionLost, parting));
        assert_eq!(told.cause, Standing::HostUnusable.into());
    }

    #[test]
    fn a_long_banner_is_cut_and_stays_text() {
        let banner = Banner::default();
        banner.hear(&"\u{e4}".repeat(KEPT));
        let told = banner.explain(Fault::new(Transient::ConnectionLost, "closed"));
        assert!(told.message.chars().count() < 400, "{}", told.message);
    }
}
