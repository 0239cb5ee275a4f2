//! Which host keys are accepted. Pure: text, names and keys in, a verdict out.
//!
//! Sources are OpenSSH's known_hosts text (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) and SHA256
//! fingerprints. There is no accepting on first use. Host certificates are accepted when a
//! `@cert-authority` line of the host's names their authority.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey};
use sha1::Sha1;

use crate::core::fault::{Fault, Standing};

/// What is known of one host's keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// The host as people know it: `host` or `[host]:port`.
    name: String,
    /// The bare host name or address, which certificates name as principal.
    host: String,
    keys: Vec<PublicKey>,
    authorities: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    fingerprints: Vec<String>,
    /// Kinds of key that are not asked for again: the server has shown a wrong one.
    passed_over: Vec<Algorithm>,
    /// Lines that could not be read; told when the key turns out to be unknown.
    unreadable: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    None,
    Authority,
    Revoked,
}

struct Line<'a> {
    marker: Marker,
    hosts: &'a str,
    key: PublicKey,
}

/// Why a certificate does not make its key this host's.
#[derive(Debug, thiserror::Error)]
enum Uncertified {
    #[error("not a host certificate")]
    OfNoHost,
    #[error("signed with SHA-1")]
    Sha1,
    #[error("it has critical options")]
    CriticalOptions,
    #[error("it names other hosts")]
    OtherHosts,
    #[error("unknown authority, bad signature, or out of its time")]
    Invalid,
}

impl Trust {
    /// Reads the lines of `known_hosts` that speak of this host, and the fingerprints.
    pub(super) fn new(host: &str, port: u16, known_hosts: &str, fingerprints: &[String]) -> Self {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host.clone() } else { format!("[{host}]:{port}") };
        let mut trust = Self { name, host, ..Self::default() };
        trust.fingerprints =
            fingerprints.iter().map(|f| f.trim().trim_end_matches('=').to_owned()).collect();
        let (exact, bare) = trust.read(known_hosts);
        trust.keys = if exact.is_empty() { bare } else { exact };
        trust
    }

    /// Keys listed for the exact name, and those for the bare host. The latter stand in where
    /// the former are missing, as in OpenSSH's client (sshconnect.c, check_host_key).
    fn read(&mut self, text: &str) -> (Vec<PublicKey>, Vec<PublicKey>) {
        let (mut exact, mut bare) = (Vec::new(), Vec::new());
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let Some(line) = parse(line) else {
                self.unreadable += 1;
                continue;
            };
            let names_it = matches(line.hosts, &self.name);
            let names_host = matches(line.hosts, &self.host);
            match line.marker {
                Marker::Revoked if names_it || names_host => self.revoked.push(line.key),
                Marker::Authority if names_it || names_host => self.authorities.push(line.key),
                Marker::None if names_it => exact.push(line.key),
                Marker::None if names_host => bare.push(line.key),
                Marker::None | Marker::Authority | Marker::Revoked => {}
            }
        }
        (exact, bare)
    }

    /// Host key algorithms to ask for, those of known keys first: a server with several keys
    /// must show the one that is pinned. SHA-1 signatures are never asked for.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let passed_over = |kind: &Algorithm| self.passed_over.iter().any(|p| same_kind(p, kind));
        let (mut first, last): (Vec<_>, Vec<_>) = ALGORITHMS
            .iter()
            .filter(|kind| !passed_over(kind))
            .cloned()
            .partition(|a| self.keys.iter().any(|key| same_kind(&key.algorithm(), a)));
        first.extend(last);
        first
    }

    /// Asks no more for keys of this kind. False when that leads nowhere: the known keys say of
    /// what kind they are, which fingerprints do not, or no kind is left.
    pub(super) fn pass_over(&mut self, kind: &Algorithm) -> bool {
        if !self.keys.is_empty() || !self.authorities.is_empty() || self.fingerprints.is_empty() {
            return false;
        }
        self.passed_over.push(kind.clone());
        !self.algorithms().is_empty()
    }

    /// Certificate algorithms to ask for; none where no authority is known.
    pub(super) fn certificate_algorithms(&self) -> Vec<Algorithm> {
        if self.authorities.is_empty() { Vec::new() } else { ALGORITHMS.to_vec() }
    }

    /// Whether `key` is this host's.
    ///
    /// # Errors
    /// `HostKeyRevoked`, `HostKeyMismatch` (another key of this kind is known) or
    /// `HostKeyUnknown`.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), Fault> {
        let shown = fingerprint(key);
        if self.revoked.iter().any(|known| known.key_data() == key.key_data()) {
            let message = format!("the key {shown} of {} is marked as revoked", self.name);
            return Err(Fault::new(Standing::HostKeyRevoked, message));
        }
        let known = self.keys.iter().any(|known| known.key_data() == key.key_data());
        if known || self.fingerprints.contains(&shown) {
            return Ok(());
        }
        let kind = key.algorithm();
        let other = self.keys.iter().any(|known| same_kind(&known.algorithm(), &kind));
        if other || !self.fingerprints.is_empty() {
            let message =
                format!("{} showed the key {shown}, which is not the known one", self.name);
            return Err(Fault::new(Standing::HostKeyMismatch, message));
        }
        let unread = match self.unreadable {
            0 => String::new(),
            count => format!(" ({count} lines of knownHosts could not be read)"),
        };
        let message = format!("no {kind} key of {} is known{unread}; it showed {shown}", self.name);
        Err(Fault::new(Standing::HostKeyUnknown, message))
    }

    /// Whether `certificate` makes its key this host's, at `now` (seconds since 1970). A
    /// certificate that does not is no worse than its bare key.
    ///
    /// # Errors
    /// As [`Trust::check`].
    pub(super) fn check_certificate(
        &self,
        certificate: &Certificate,
        now: u64,
    ) -> Result<(), Fault> {
        let authority = PublicKey::from(certificate.signature_key().clone());
        let key = PublicKey::from(certificate.public_key().clone());
        for revoked in &self.revoked {
            if [authority.key_data(), key.key_data()].contains(&revoked.key_data()) {
                let message =
                    format!("the certificate of {} or its authority is revoked", self.name);
                return Err(Fault::new(Standing::HostKeyRevoked, message));
            }
        }
        let Err(flaw) = self.certified(certificate, now) else { return Ok(()) };
        self.check(&key).map_err(|fault| {
            Fault::new(fault.cause, format!("{} (its certificate: {flaw})", fault.message))
        })
    }

    /// OpenSSH's rules for host certificates (sshkey.c, sshkey_cert_check_host).
    fn certified(&self, certificate: &Certificate, now: u64) -> Result<(), Uncertified> {
        if certificate.cert_type() != CertType::Host {
            return Err(Uncertified::OfNoHost);
        }
        if certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
            return Err(Uncertified::Sha1);
        }
        if certificate.critical_options().iter().next().is_some() {
            return Err(Uncertified::CriticalOptions);
        }
        let named = |pattern: &String| glob(&pattern.to_ascii_lowercase(), &self.host);
        if !certificate.valid_principals().iter().any(named) {
            return Err(Uncertified::OtherHosts);
        }
        let authorities: Vec<_> =
            self.authorities.iter().map(|key| key.fingerprint(HashAlg::Sha256)).collect();
        certificate.validate_at(now, &authorities).map_err(|_| Uncertified::Invalid)
    }
}

/// `SHA256:...` as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

const ALGORITHMS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

fn same_kind(one: &Algorithm, other: &Algorithm) -> bool {
    match (one, other) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        (one, other) => one == other,
    }
}

fn parse(line: &str) -> Option<Line<'_>> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    let (marker, hosts) = match first {
        "@cert-authority" => (Marker::Authority, words.next()?),
        "@revoked" => (Marker::Revoked, words.next()?),
        unknown if unknown.starts_with('@') => return None,
        hosts => (Marker::None, hosts),
    };
    let (kind, blob) = (words.next()?, words.next()?);
    let key = PublicKey::from_openssh(&format!("{kind} {blob}")).ok()?;
    Some(Line { marker, hosts, key })
}

/// Whether a line's host field speaks of `name`: one hashed name, or a comma list of patterns
/// in which a matching `!pattern` excludes the host.
fn matches(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return hashed_name(hashed, name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(excluded) if glob(excluded, name) => return false,
            Some(_) => {}
            None => found |= glob(&pattern, name),
        }
    }
    found
}

/// HMAC-SHA1 of the name under the line's salt (OpenSSH hostfile.c, host_hash).
fn hashed_name(hashed: &str, name: &str) -> Option<bool> {
    use base64::Engine;
    let (salt, hash) = hashed.split_once('|')?;
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(&decode(salt)?).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&decode(hash)?).is_ok())
}

/// `*` and `?`, as OpenSSH's match.c has them. Linear in both, with one place to go back to.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(c) if Some(c) == text.get(t) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::certificate::Builder;

    fn private() -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
    }

    fn line(key: &PrivateKey) -> String {
        key.public_key().to_openssh().unwrap()
    }

    fn verdict(known_hosts: &str, host: &str, port: u16, key: &PrivateKey) -> &'static str {
        let trust = Trust::new(host, port, known_hosts, &[]);
        match trust.check(key.public_key()) {
            Ok(()) => "ok",
            Err(fault) => fault.reason(),
        }
    }

    #[test]
    fn a_line_speaks_of_the_hosts_its_patterns_name() {
        let key = private();
        let cases = [
            ("db.example", "db.example", 22, true),
            ("DB.Example", "db.example", 22, true),
            ("db.example", "DB.EXAMPLE", 22, true),
            ("a,db.example,b", "db.example", 22, true),
            ("*.example", "db.example", 22, true),
            ("d?.example", "db.example", 22, true),
            ("*", "db.example", 22, true),
            ("*a*b*", "xxaxxbxx", 22, true),
            ("*a*b", "xxaxxbxx", 22, false),
            ("*.example,!db.example", "db.example", 22, false),
            ("!db.example,*.example", "db.example", 22, false),
            ("!web.example,*.example", "db.example", 22, true),
            ("!web.example", "db.example", 22, false),
            ("example", "db.example", 22, false),
            ("[db.example]:2222", "db.example", 2222, true),
            ("[db.example]:2222", "db.example", 22, false),
            ("[db.example]:2222", "db.example", 2223, false),
            ("[*.example]:2222", "db.example", 2222, true),
            ("db.example", "db.example", 2222, true),
            ("192.0.2.7", "192.0.2.7", 22, true),
            ("2001:db8::7", "2001:db8::7", 22, true),
            ("[2001:db8::7]:2222", "2001:db8::7", 2222, true),
        ];
        for (patterns, host, port, known) in cases {
            let text = format!("# comment\n\n  {patterns}\t{} with a comment\n", line(&key));
            let wanted = if known { "ok" } else { "HostKeyUnknown" };
            assert_eq!(verdict(&text, host, port, &key), wanted, "{patterns} {host} {port}");
        }
    }

    #[test]
    fn the_keys_of_the_exact_port_stand_before_those_of_the_bare_name() {
        let (bare, exact) = (private(), private());
        let text = format!("db {}\n[db]:2222 {}\n", line(&bare), line(&exact));
        assert_eq!(verdict(&text, "db", 2222, &exact), "ok");
        assert_eq!(verdict(&text, "db", 2222, &bare), "HostKeyMismatch");
        assert_eq!(verdict(&text, "db", 22, &bare), "ok");
    }

    #[test]
    fn hashed_names_are_found() {
        use base64::Engine;
        let key = private();
        let hashed = |name: &str| {
            let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(b"salt").unwrap();
            mac.update(name.as_bytes());
            let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
            format!(
                "|1|{}|{} {}",
                encode(b"salt"),
                encode(&mac.finalize().into_bytes()),
                line(&key)
            )
        };
        assert_eq!(verdict(&hashed("db.example"), "db.example", 22, &key), "ok");
        assert_eq!(verdict(&hashed("[db.example]:2222"), "db.example", 2222, &key), "ok");
        assert_eq!(verdict(&hashed("db.example"), "other", 22, &key), "HostKeyUnknown");
        assert_eq!(verdict("|1|no|base64 x y", "db", 22, &key), "HostKeyUnknown");
    }

    #[test]
    fn another_key_of_the_kind_is_a_mismatch_and_another_kind_is_unknown() {
        let (known, shown) = (private(), private());
        let text = format!("db {}", line(&known));
        assert_eq!(verdict(&text, "db", 22, &shown), "HostKeyMismatch");
        let curve = EcdsaCurve::NistP256;
        let ecdsa = PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve }).unwrap();
        assert_eq!(verdict(&text, "db", 22, &ecdsa), "HostKeyUnknown");
        let second = format!("{text}\ndb {}", line(&shown));
        assert_eq!(verdict(&second, "db", 22, &shown), "ok");
        assert_eq!(verdict(&second, "db", 22, &known), "ok");
    }

    #[test]
    fn a_revoked_key_is_refused_however_else_it_is_known() {
        let key = private();
        let text = format!("db {0}\n@revoked * {0}", line(&key));
        assert_eq!(verdict(&text, "db", 22, &key), "HostKeyRevoked");
        let elsewhere = format!("db {0}\n@revoked web {0}", line(&key));
        assert_eq!(verdict(&elsewhere, "db", 22, &key), "ok");
        let pins = [fingerprint(key.public_key())];
        let trust = Trust::new("db", 22, &text, &pins);
        assert_eq!(trust.check(key.public_key()).unwrap_err().reason(), "HostKeyRevoked");
    }

    #[test]
    fn a_fingerprint_pins_exactly_its_key() {
        let (key, other) = (private(), private());
        let pins = [format!(" {} ", fingerprint(key.public_key()))];
        let trust = Trust::new("db", 22, "", &pins);
        assert!(trust.check(key.public_key()).is_ok());
        assert_eq!(trust.check(other.public_key()).unwrap_err().reason(), "HostKeyMismatch");
    }

    #[test]
    fn unreadable_lines_are_told_and_markers_are_no_hosts() {
        let key = private();
        let text = format!("db ssh-dss AAAA\n{}\n@unknown db {}\n", line(&key), line(&key));
        let fault = Trust::new("db", 22, &text, &[]).check(key.public_key()).unwrap_err();
        assert_eq!(fault.reason(), "HostKeyUnknown");
        assert!(fault.message.contains("3 lines"), "{}", fault.message);
        let authority = format!("@cert-authority db {}", line(&key));
        assert_eq!(verdict(&authority, "db", 22, &key), "HostKeyUnknown");
    }

    #[test]
    fn known_kinds_are_asked_for_first_and_sha1_never() {
        let curve = EcdsaCurve::NistP384;
        let known = PrivateKey::random(&mut rand::rng(), Algorithm::Ecdsa { curve }).unwrap();
        let trust = Trust::new("db", 22, &format!("db {}", line(&known)), &[]);
        let order = trust.algorithms();
        assert_eq!(order.first(), Some(&known.algorithm()));
        assert_eq!(order.len(), ALGORITHMS.len());
        assert!(!order.contains(&Algorithm::Rsa { hash: None }));
        assert!(trust.certificate_algorithms().is_empty());
    }

    struct Issue {
        cert_type: CertType,
        principal: &'static str,
        valid: (u64, u64),
        critical: bool,
    }

    fn issue(authority: &PrivateKey, key: &PrivateKey, issue: &Issue) -> Certificate {
        let (from, to) = issue.valid;
        let public = key.public_key().key_data().clone();
        let mut builder = Builder::new(vec![7; 16], public, from, to).unwrap();
        builder.cert_type(issue.cert_type).unwrap();
        builder.valid_principal(issue.principal).unwrap();
        if issue.critical {
            builder.critical_option("force-command", "x").unwrap();
        }
        builder.sign(authority).unwrap()
    }

    #[test]
    fn a_host_certificate_counts_only_when_everything_about_it_is_right() {
        let (authority, other, key) = (private(), private(), private());
        let good = || Issue {
            cert_type: CertType::Host,
            principal: "db",
            valid: (100, 200),
            critical: false,
        };
        let text = format!("@cert-authority db {}", line(&authority));
        let trust = Trust::new("db", 22, &text, &[]);
        assert_eq!(trust.certificate_algorithms().len(), ALGORITHMS.len());
        let check = |by: &PrivateKey, how: Issue, now| {
            let verdict = trust.check_certificate(&issue(by, &key, &how), now);
            verdict.map_err(|fault| fault.reason())
        };
        assert_eq!(check(&authority, good(), 150), Ok(()));
        assert_eq!(check(&authority, Issue { principal: "*", ..good() }, 150), Ok(()));
        let wrong = [
            check(&other, good(), 150),
            check(&authority, good(), 99),
            check(&authority, good(), 200),
            check(&authority, Issue { principal: "web", ..good() }, 150),
            check(&authority, Issue { cert_type: CertType::User, ..good() }, 150),
            check(&authority, Issue { critical: true, ..good() }, 150),
        ];
        assert_eq!(wrong, [Err("HostKeyUnknown"); 6]);
        let revoked = format!("{text}\n@revoked * {}", line(&authority));
        let refused = Trust::new("db", 22, &revoked, &[])
            .check_certificate(&issue(&authority, &key, &good()), 150);
        assert_eq!(refused.unwrap_err().reason(), "HostKeyRevoked");
        // A key that is known by itself needs no certificate.
        let known = Trust::new("db", 22, &format!("db {}", line(&key)), &[]);
        assert!(known.check_certificate(&issue(&other, &key, &good()), 150).is_ok());
    }
}
