//! Proving who we are: key, certificate or password, read at the moment of use.

use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode as _;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, ssh_key};
use russh::{MethodKind, MethodSet};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::banner::Banner;
use super::client::Client;
use super::fault::{Stage, classify};
use super::private_key::{self, KeyFlaw};
use crate::core::connection::Hop;
use crate::core::fault::{Fault, Ours, Standing, Transient};
use crate::core::foreign::foreign;
use crate::host::{Lookup, LookupError, SecretValues};

/// Most bytes of a password or passphrase. It is sent as often as a server asks for it.
const LONGEST_WORD: usize = 1024;
/// Most bytes of a key or certificate: an RSA key of 16,384 bits takes 13 kB.
const LONGEST_KEY: usize = 64 * 1024;
/// Most questions of a server (RFC 4256, 3.2) that are answered at once, and how many times.
const QUESTIONS: usize = 8;
const ROUNDS: usize = 3;

/// What one Secret offers, parsed. Lives only as long as the authentication.
pub(super) struct Credentials {
    key: Option<Arc<PrivateKey>>,
    certificate: Option<Certificate>,
    password: Option<Zeroizing<String>>,
    /// Of the Secret's content, to know a refused credential again.
    pub(super) digest: [u8; 32],
}

/// What is wrong with a Secret.
#[derive(Debug, thiserror::Error)]
enum Flaw {
    #[error("{0} is not text")]
    NotText(&'static str),
    #[error("{0} has more than {1} bytes")]
    Long(&'static str, usize),
    #[error("ssh-privatekey {0}")]
    Key(#[from] KeyFlaw),
    // A fault carries one message, so the library's words are in it.
    #[error("ssh-certificate cannot be read: {0}")]
    Certificate(String),
    #[error("ssh-certificate needs ssh-privatekey beside it")]
    NoKeyForCertificate,
    #[error("neither ssh-privatekey nor password is set")]
    Nothing,
}

impl Credentials {
    /// Reads the hop's Secret.
    ///
    /// # Errors
    /// `CredentialsInvalid` when it is missing, offers nothing, or cannot be read;
    /// `PolicyDenied` when it may not be read; `HostUnreachable` when the source of Secrets could not be asked.
    pub(super) async fn read(hop: &Hop, lookup: &dyn Lookup) -> Result<Self, Fault> {
        let secret = match lookup.secret(&hop.credentials).await {
            Ok(secret) => secret,
            Err(error @ LookupError::Unavailable(_)) => {
                return Err(Fault::new(Transient::HostUnreachable, error.to_string()));
            }
            Err(error) if error.is_denial() => {
                return Err(Fault::new(Standing::PolicyDenied, error.to_string()));
            }
            Err(error) => return Err(Fault::new(Standing::CredentialsInvalid, error.to_string())),
        };
        // Deciphering takes a while.
        let parsed = tokio::task::spawn_blocking(move || Self::parse(&secret)).await;
        let gone = |_| Fault::new(Ours::LibraryLimit, "reading the key was abandoned");
        parsed.map_err(gone)?.map_err(|flaw| {
            let flaw = foreign(&flaw.to_string());
            let message = format!("secret {:?}: {flaw}", foreign(&hop.credentials));
            Fault::new(Standing::CredentialsInvalid, message)
        })
    }

    fn parse(secret: &SecretValues) -> Result<Self, Flaw> {
        let passphrase = text(secret, "passphrase", LONGEST_WORD)?;
        let key = match text(secret, "ssh-privatekey", LONGEST_KEY)? {
            None => None,
            Some(pem) => {
                let words = passphrase.as_ref().map(|p| p.trim_end_matches(['\r', '\n']));
                Some(Arc::new(private_key::read(&pem, words.filter(|p| !p.is_empty()))?))
            }
        };
        let certificate = match text(secret, "ssh-certificate", LONGEST_KEY)? {
            None => None,
            Some(line) => Some(certificate(line.trim())?),
        };
        if certificate.is_some() && key.is_none() {
            return Err(Flaw::NoKeyForCertificate);
        }
        let password = text(secret, "password", LONGEST_WORD)?
            .map(|p| Zeroizing::new(p.trim_end_matches(['\r', '\n']).to_owned()));
        if key.is_none() && password.is_none() {
            return Err(Flaw::Nothing);
        }
        Ok(Self { key, certificate, password, digest: digest(secret) })
    }
}

/// The library's words, but for those that quote the Secret: who may name one in an object need
/// not be allowed to read it.
fn certificate(line: &str) -> Result<Certificate, Flaw> {
    let kind = line.split_whitespace().next().unwrap_or_default();
    if !kind.ends_with("-cert-v01@openssh.com") {
        let why = "its first word is no kind of certificate, as in the file KEY-cert.pub";
        return Err(Flaw::Certificate(why.to_owned()));
    }
    Certificate::from_openssh(line).map_err(|error| {
        Flaw::Certificate(match error {
            ssh_key::Error::AlgorithmUnsupported { .. } => "its kind is not supported".to_owned(),
            other => other.to_string(),
        })
    })
}

fn text(
    secret: &SecretValues,
    key: &'static str,
    longest: usize,
) -> Result<Option<Zeroizing<String>>, Flaw> {
    let Some(value) = secret.get(key).filter(|value| !value.is_empty()) else { return Ok(None) };
    if value.len() > longest {
        return Err(Flaw::Long(key, longest));
    }
    let text = std::str::from_utf8(value).map_err(|_| Flaw::NotText(key))?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

fn digest(secret: &SecretValues) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, value) in secret {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value.as_slice());
    }
    hash.finalize().into()
}

/// One attempt's answer.
enum Answer {
    Accepted,
    /// Methods the server would still take; empty also when the connection is gone.
    Refused(MethodSet),
}

/// Authenticates `hop.user`, with the certificate, the key, then the password.
///
/// # Errors
/// `AuthenticationRejected`, or the fault of the link.
pub(super) async fn authenticate(
    handle: &mut Handle<Client>,
    hop: &Hop,
    credentials: Credentials,
    banner: &Banner,
) -> Result<(), Fault> {
    let mut tried = Vec::new();
    let mut remaining = MethodSet::empty();
    if let Some(key) = credentials.key {
        let hash = rsa_hash(handle, &key).await?;
        if let Some(certificate) = credentials.certificate {
            tried.push("certificate");
            match with_certificate(handle, hop, certificate, (&key, hash)).await? {
                Answer::Accepted => return Ok(()),
                Answer::Refused(_) => {}
            }
        }
        tried.push("publickey");
        let key = PrivateKeyWithHashAlg::new(key, hash);
        match plain(handle.authenticate_publickey(&hop.user, key).await)? {
            Answer::Accepted => return Ok(()),
            Answer::Refused(methods) => remaining = methods,
        }
    }
    if let Some(password) = credentials.password {
        tried.push("password");
        if tried.len() == 1 || remaining.contains(&MethodKind::Password) {
            match plain(handle.authenticate_password(&hop.user, password.as_str()).await)? {
                Answer::Accepted => return Ok(()),
                Answer::Refused(methods) => remaining = methods,
            }
        }
        if remaining.contains(&MethodKind::KeyboardInteractive)
            && interactive(handle, &hop.user, &password, banner).await?
        {
            return Ok(());
        }
    }
    let tried = tried.join(", ");
    let (address, user) = (foreign(&hop.address), foreign(&hop.user));
    let message = format!("{address} did not accept user {user:?} (tried {tried})");
    Err(Fault::new(Standing::AuthenticationRejected, message))
}

fn plain(result: Result<AuthResult, russh::Error>) -> Result<Answer, Fault> {
    match result {
        Ok(AuthResult::Success) => Ok(Answer::Accepted),
        Ok(AuthResult::Failure { remaining_methods, .. }) => Ok(Answer::Refused(remaining_methods)),
        Err(error) => Err(classify(&error, Stage::Authenticate)),
    }
}

/// The hash for RSA signatures: what the server names, else SHA-512. Never SHA-1.
async fn rsa_hash(handle: &Handle<Client>, key: &PrivateKey) -> Result<Option<HashAlg>, Fault> {
    if !key.algorithm().is_rsa() {
        return Ok(None);
    }
    match handle.best_supported_rsa_hash().await {
        Ok(Some(Some(hash))) => Ok(Some(hash)),
        Ok(None) => Ok(Some(HashAlg::Sha512)),
        Ok(Some(None)) => {
            let message = "the server takes RSA keys with SHA-1 signatures only";
            Err(Fault::new(Standing::NoCommonAlgorithm, message))
        }
        Err(error) => Err(classify(&error, Stage::Authenticate)),
    }
}

/// Answers every hidden prompt with the password, for servers that offer nothing else. A server
/// may ask for ever, and as much as it likes: what is no login is not answered.
async fn interactive(
    handle: &mut Handle<Client>,
    user: &str,
    password: &Zeroizing<String>,
    banner: &Banner,
) -> Result<bool, Fault> {
    let failed = |error: russh::Error| classify(&error, Stage::Authenticate);
    let mut answer =
        handle.authenticate_keyboard_interactive_start(user, None).await.map_err(failed)?;
    for _ in 0..ROUNDS {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { instructions, prompts, .. } => {
                banner.hear(&instructions);
                prompts
            }
        };
        if prompts.len() > QUESTIONS {
            let count = prompts.len();
            let message = format!("the server asks {count} questions at once; that is no login");
            return Err(Fault::new(Standing::AuthenticationRejected, message));
        }
        let said = |echo: bool| if echo { String::new() } else { password.to_string() };
        let responses = prompts.iter().map(|prompt| said(prompt.echo)).collect();
        answer =
            handle.authenticate_keyboard_interactive_respond(responses).await.map_err(failed)?;
    }
    Ok(matches!(answer, KeyboardInteractiveAuthResponse::Success))
}

/// Signs with a key of ours in place of an agent: the library offers RSA certificates with
/// SHA-1 only, unless a signer brings its own hash.
struct OwnKey<'a>(&'a PrivateKey);

#[derive(Debug, thiserror::Error)]
enum SignFailed {
    #[error("the key could not sign")]
    Key,
    #[error("the connection ended")]
    Gone(#[from] russh::SendError),
}

impl russh::Signer for OwnKey<'_> {
    type Error = SignFailed;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignFailed> {
        let signature = match self.0.key_data() {
            KeypairData::Rsa(rsa) => (rsa, hash).try_sign(&to_sign),
            _ => self.0.try_sign(&to_sign),
        }
        .map_err(|_| SignFailed::Key)?;
        let blob: Vec<u8> = Vec::try_from(signature).map_err(|_| SignFailed::Key)?;
        blob.encode(&mut to_sign).map_err(|_| SignFailed::Key)?;
        Ok(to_sign)
    }
}

async fn with_certificate(
    handle: &mut Handle<Client>,
    hop: &Hop,
    certificate: Certificate,
    (key, hash): (&PrivateKey, Option<HashAlg>),
) -> Result<Answer, Fault> {
    let mut signer = OwnKey(key);
    let asked = handle.authenticate_certificate_with(&hop.user, certificate, hash, &mut signer);
    match asked.await {
        Ok(result) => plain(Ok(result)),
        Err(SignFailed::Key) => {
            let message = "the private key does not fit its certificate";
            Err(Fault::new(Standing::CredentialsInvalid, message))
        }
        Err(SignFailed::Gone(_)) => {
            Err(Fault::new(Transient::ConnectionLost, "the server closed the connection"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_secret_is_told_without_its_words() {
        let ppk = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nXXSECRETXX\n";
        let pem = "-----BEGIN RSA PRIVATE KEY-----\nXXSECRETXX\n-----END RSA PRIVATE KEY-----\n";
        for (key, value) in [
            ("ssh-privatekey", ppk),
            ("ssh-privatekey", &ppk.replace("ssh-ed25519", "XXSECRETXX")),
            ("ssh-privatekey", &ppk.replace("none", "XXSECRETXX")),
            ("ssh-privatekey", pem),
            ("ssh-privatekey", "XXSECRETXX"),
            ("ssh-certificate", "XXSECRETXX-cert-v01@openssh.com AAAA"),
            ("ssh-certificate", "ssh-ed25519-cert-v01@openssh.com XXSECRETXX"),
        ] {
            let secret = SecretValues::from([(key.to_owned(), value.as_bytes().to_vec().into())]);
            let Err(flaw) = Credentials::parse(&secret) else { panic!("{value} was taken") };
            let told = flaw.to_string();
            assert!(told.contains("cannot be read") && !told.contains("XXSECRETXX"), "{told}");
        }
    }
}
