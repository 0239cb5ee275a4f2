//! What is heard of a host from those who use it.

use tokio::sync::watch;

use super::host_status::Verdict;
use crate::host::HostFacts;
use crate::host::contact::Contact;

/// Why a wait ended.
pub enum Woken {
    /// It is time to check.
    Due,
    /// Somebody has made a connection.
    Used(HostFacts),
}

impl Woken {
    /// A connection to the host as it is known.
    pub fn says_nothing_new(&self, verdict: &Verdict) -> bool {
        matches!((self, verdict), (Woken::Used(facts), Verdict::Ready(known)) if facts == known)
    }
}

/// What is heard of a host from those who use it.
pub struct Listener {
    contact: watch::Receiver<Contact>,
    tries: u64,
    doubts: u64,
}

impl Listener {
    /// Hears what happens from now on.
    pub fn new(contact: watch::Receiver<Contact>) -> Self {
        let mut listener = Self { contact, tries: 0, doubts: 0 };
        listener.forget();
        listener
    }

    /// Takes what has happened up to now as known.
    pub fn forget(&mut self) {
        let now = self.contact.borrow_and_update();
        (self.tries, self.doubts) = (now.tries, now.doubts);
    }

    /// Waits for a contact that says something which `verdict` does not.
    pub async fn learned(&mut self, verdict: &Verdict) -> Woken {
        while self.contact.changed().await.is_ok() {
            let now = self.contact.borrow_and_update().clone();
            let (tried, doubted) = (now.tries != self.tries, now.doubts != self.doubts);
            (self.tries, self.doubts) = (now.tries, now.doubts);
            match (now.last.filter(|_| tried), verdict) {
                (None, Verdict::Ready(_)) if doubted => return Woken::Due,
                (Some(Ok(facts)), Verdict::Ready(_) | Verdict::Faulty(_)) => {
                    return Woken::Used(facts);
                }
                (Some(Err(_)), Verdict::Ready(_)) => return Woken::Due,
                (Some(Err(fault)), Verdict::Faulty(known)) if fault.cause != known.cause => {
                    return Woken::Due;
                }
                // Nothing is learned of a host that could not even be tried.
                (None, Verdict::Ready(_) | Verdict::Faulty(_))
                | (Some(Err(_)), Verdict::Faulty(_))
                | (_, Verdict::Held { .. }) => {}
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::core::fault::{Fault, Transient};

    #[test]
    fn a_connection_that_was_made_is_as_good_as_a_check_and_one_that_failed_is_a_reason() {
        let facts = |key: &str| HostFacts {
            server_version: "SSH-2.0-x".to_owned(),
            host_key_fingerprint: key.to_owned(),
        };
        let refused = Fault::new(Transient::ConnectionRefused, "refused");
        let (faulty, ready) = (Verdict::Faulty(refused.clone()), Verdict::Ready(facts("a")));
        let heard = |change: &dyn Fn(&mut Contact), verdict: &Verdict| {
            let (noted, contact) = watch::channel(Contact::default());
            let mut listener = Listener::new(contact);
            noted.send_modify(|contact| change(contact));
            listener.learned(verdict).now_or_never()
        };
        let woken = |last: Result<HostFacts, Fault>, verdict: &Verdict| {
            let change = |contact: &mut Contact| {
                contact.tries += 1;
                contact.last = Some(last.clone());
            };
            heard(&change, verdict)
        };
        assert!(matches!(woken(Ok(facts("a")), &faulty), Some(Woken::Used(_))));
        assert!(matches!(woken(Err(refused.clone()), &ready), Some(Woken::Due)));
        assert!(woken(Err(refused), &faulty).is_none(), "it is known to be refused");
        let doubt = |contact: &mut Contact| contact.doubts += 1;
        assert!(matches!(heard(&doubt, &ready), Some(Woken::Due)));
        assert!(heard(&doubt, &faulty).is_none(), "it is known to be refused");
        let same = woken(Ok(facts("a")), &ready).unwrap();
        let other = woken(Ok(facts("b")), &ready).unwrap();
        assert!(same.says_nothing_new(&ready) && !other.says_nothing_new(&ready));
    }
}
