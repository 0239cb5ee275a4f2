//! A private key, as OpenSSH, OpenSSL and PuTTY write it, and a sentence for each way in which a
//! text is none. No sentence quotes the text: who may name a Secret need not be allowed to read
//! it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::{self, Decode, Reader, SliceReader};
use pkcs8::{AlgorithmIdentifierRef, EncryptedPrivateKeyInfoRef};
use russh::keys::pkcs8::decode_pkcs8;
use russh::keys::ssh_key::{self, Algorithm};
use russh::keys::{PrivateKey, decode_secret_key};
use zeroize::Zeroizing;

use super::effort;
use super::pem::{Block, Undeciphered, Unreadable, begin, lines};

/// What is wrong with a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyFlaw {
    #[error("is encrypted, and the Secret has no key passphrase: add it, or write the key without")]
    NoPassphrase,
    #[error("cannot be decrypted: the passphrase is wrong, or the key is damaged")]
    WrongPassphrase,
    #[error("takes too much work or memory to decipher")]
    Effort,
    #[error(
        "is encrypted in a way that is not supported: ssh-keygen -p -f FILE writes it anew, in a \
         way that is"
    )]
    Cipher,
    #[error("is a public key: the private one belongs here, from the file without .pub")]
    PublicKey,
    #[error("is a certificate: that goes into ssh-certificate, and here goes its private key")]
    Certificate,
    #[error("is an X.509 certificate or a request for one, and not a private key")]
    X509,
    #[error("is a DSA key, which servers take no more: make one with ssh-keygen -t ed25519")]
    Dsa,
    #[error("is kept in a security key (FIDO), and nobody is here to touch that: use another key")]
    SecurityKey,
    #[error("is in a format of its own maker: ssh-keygen -i converts it")]
    OldFormat,
    #[error("cannot be read as a PuTTY key: puttygen FILE -O private-openssh -o NEW converts it")]
    Putty,
    #[error("cannot be read: its kind is not supported")]
    Kind,
    #[error("cannot be read: its line ends are lost, and it needs each line of the file as it was")]
    LineEnds,
    #[error("cannot be read: it is in base64 once more than a Secret wants")]
    TwiceEncoded,
    #[error("cannot be read: its end is missing")]
    CutOff,
    #[error("cannot be read: it is damaged")]
    Damaged,
    #[error("cannot be read: it has no line that begins a private key")]
    NoKey,
}

const OPENSSH: &str = "OPENSSH PRIVATE KEY";
const RSA: &str = "RSA PRIVATE KEY";
const EC: &str = "EC PRIVATE KEY";
const DSA: &str = "DSA PRIVATE KEY";
const PKCS8: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// Object identifiers (RFC 5958 wraps keys of any kind): DSA.
const DSA_OID: &str = "1.2.840.10040.4.1";

/// Reads a key. A passphrase that is not needed is not looked at.
///
/// # Errors
/// [`KeyFlaw`].
pub(super) fn read(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, KeyFlaw> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with("PuTTY-User-Key-File-") {
        return putty(start, passphrase);
    }
    let is_wanted = |label: &str| [OPENSSH, RSA, EC, DSA, PKCS8, ENCRYPTED].contains(&label);
    let block = match Block::first(text, is_wanted) {
        Ok(block) => block,
        Err(Unreadable::Nothing) => return Err(no_key(start)),
        Err(Unreadable::NoBase64) => return Err(KeyFlaw::Damaged),
        Err(Unreadable::CutOff) => return Err(KeyFlaw::CutOff),
    };
    if !effort::is_bearable(&block.bytes) {
        return Err(KeyFlaw::Effort);
    }
    let read = match block.label {
        OPENSSH => openssh(&block.bytes, passphrase),
        DSA => Err(KeyFlaw::Dsa),
        ENCRYPTED => encrypted_pkcs8(&block.bytes, passphrase),
        label => pem(label, &block, passphrase),
    };
    read.map_err(|flaw| match flaw {
        KeyFlaw::Damaged if !block.is_whole => KeyFlaw::CutOff,
        flaw => flaw,
    })
}

/// OpenSSH's own (its PROTOCOL.key).
fn openssh(bytes: &[u8], passphrase: Option<&str>) -> Result<PrivateKey, KeyFlaw> {
    let key = PrivateKey::from_bytes(bytes).map_err(|error| openssh_flaw(&error))?;
    usable_kind(&key.algorithm())?;
    if !key.is_encrypted() {
        return Ok(key);
    }
    if matches!(key.cipher(), ssh_key::Cipher::TdesCbc) {
        return Err(KeyFlaw::Cipher);
    }
    let words = passphrase.ok_or(KeyFlaw::NoPassphrase)?;
    key.decrypt(words).map_err(|_| KeyFlaw::WrongPassphrase)
}

fn openssh_flaw(error: &ssh_key::Error) -> KeyFlaw {
    match error {
        ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
            KeyFlaw::Kind
        }
        _ => KeyFlaw::Damaged,
    }
}

fn usable_kind(algorithm: &Algorithm) -> Result<(), KeyFlaw> {
    match algorithm {
        Algorithm::Dsa => Err(KeyFlaw::Dsa),
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Err(KeyFlaw::SecurityKey),
        Algorithm::Other(_) => Err(KeyFlaw::Kind),
        _ => Ok(()),
    }
}

/// PKCS#1, SEC1 and plain PKCS#8.
fn pem(label: &str, block: &Block<'_>, passphrase: Option<&str>) -> Result<PrivateKey, KeyFlaw> {
    let bytes = block.deciphered(passphrase).map_err(|why| match why {
        Undeciphered::NoPassphrase => KeyFlaw::NoPassphrase,
        Undeciphered::Wrong => KeyFlaw::WrongPassphrase,
        Undeciphered::Cipher => KeyFlaw::Cipher,
    })?;
    let key = if label == RSA { pkcs1(&bytes) } else { pkcs8(&bytes) };
    key.map_err(|flaw| match flaw {
        // With the wrong passphrase the padding is right now and then.
        KeyFlaw::Damaged if block.is_enciphered() => KeyFlaw::WrongPassphrase,
        flaw => flaw,
    })
}

fn pkcs1(bytes: &[u8]) -> Result<PrivateKey, KeyFlaw> {
    let (head, tail) = ("-----BEGIN RSA PRIVATE KEY-----\n", "\n-----END RSA PRIVATE KEY-----\n");
    let room = head.len() + bytes.len().div_ceil(3) * 4 + tail.len();
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(head);
    STANDARD.encode_string(bytes, &mut text);
    text.push_str(tail);
    decode_secret_key(&text, None).map_err(|error| pkcs8_flaw(&error, bytes))
}

fn pkcs8(bytes: &[u8]) -> Result<PrivateKey, KeyFlaw> {
    decode_pkcs8(bytes, None).map_err(|error| pkcs8_flaw(&error, bytes))
}

fn pkcs8_flaw(error: &russh::keys::Error, bytes: &[u8]) -> KeyFlaw {
    use russh::keys::Error;
    match error {
        Error::UnknownAlgorithm(kind) if kind.to_string() == DSA_OID => KeyFlaw::Dsa,
        Error::UnknownAlgorithm(_) | Error::UnsupportedKeyType { .. } => KeyFlaw::Kind,
        // An RSA-PSS key, for one, is whole, and of a kind that the library has no words for.
        _ if pkcs8::PrivateKeyInfoRef::try_from(bytes).is_ok() => KeyFlaw::Kind,
        _ => KeyFlaw::Damaged,
    }
}

fn encrypted_pkcs8(bytes: &[u8], passphrase: Option<&str>) -> Result<PrivateKey, KeyFlaw> {
    // The library reads no further than to a scheme that it does not know.
    let unread = |_| if names_a_scheme(bytes) { KeyFlaw::Cipher } else { KeyFlaw::Damaged };
    let key = EncryptedPrivateKeyInfoRef::try_from(bytes).map_err(unread)?;
    let words = passphrase.ok_or(KeyFlaw::NoPassphrase)?;
    let plain = key.decrypt(words).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(
            pkcs8::pkcs5::Error::NoPbes1CryptSupport
            | pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }
            | pkcs8::pkcs5::Error::AlgorithmParametersInvalid { .. },
        ) => KeyFlaw::Cipher,
        _ => KeyFlaw::WrongPassphrase,
    })?;
    pkcs8(plain.as_bytes()).map_err(|flaw| match flaw {
        KeyFlaw::Damaged => KeyFlaw::WrongPassphrase,
        flaw => flaw,
    })
}

/// Whether this is an encrypted key in the outer form of RFC 5958, whatever encrypts it.
fn names_a_scheme(bytes: &[u8]) -> bool {
    let Ok(mut reader) = SliceReader::new(bytes) else { return false };
    let parts = reader.sequence(|inner| {
        AlgorithmIdentifierRef::decode(inner)?;
        <&OctetStringRef>::decode(inner)?;
        Ok::<_, der::Error>(())
    });
    parts.is_ok()
}

fn putty(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, KeyFlaw> {
    use ssh_key::Error;
    if !effort::is_putty_bearable(text) {
        return Err(KeyFlaw::Effort);
    }
    let is_encrypted = text.lines().any(|line| line.trim_end() == "Encryption: aes256-cbc");
    if is_encrypted && passphrase.is_none() {
        return Err(KeyFlaw::NoPassphrase);
    }
    let words = passphrase.map(ToOwned::to_owned);
    let key = PrivateKey::from_ppk(text, words).map_err(|error| match error {
        // The library has no other name for it.
        Error::Ppk(why) if is_encrypted && why.to_string() == "incorrect MAC" => {
            KeyFlaw::WrongPassphrase
        }
        Error::AlgorithmUnsupported { algorithm: Algorithm::Dsa } => KeyFlaw::Dsa,
        _ => KeyFlaw::Putty,
    })?;
    usable_kind(&key.algorithm())?;
    Ok(key)
}

/// What a text is that holds no private key.
fn no_key(text: &str) -> KeyFlaw {
    const PUBLIC: [&str; 5] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-"];
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    if PUBLIC.iter().any(|start| kind.starts_with(start)) {
        let is_certificate = kind.ends_with("-cert-v01@openssh.com");
        return if is_certificate { KeyFlaw::Certificate } else { KeyFlaw::PublicKey };
    }
    if text.starts_with("SSH PRIVATE KEY FILE FORMAT") {
        return KeyFlaw::OldFormat;
    }
    if let Some(label) = lines(text).find_map(begin) {
        return match label {
            label if label.ends_with("PUBLIC KEY") => KeyFlaw::PublicKey,
            label if label.contains("CERTIFICATE") => KeyFlaw::X509,
            label if label.ends_with("PRIVATE KEY") => KeyFlaw::Kind,
            _ => KeyFlaw::NoKey,
        };
    }
    let first = lines(text).map(str::trim).find_map(|line| line.strip_prefix("---- BEGIN "));
    match first {
        Some(label) if label.contains("PUBLIC KEY") => KeyFlaw::PublicKey,
        Some(_) => KeyFlaw::OldFormat,
        None if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY") => KeyFlaw::LineEnds,
        None if is_twice_encoded(text) => KeyFlaw::TwiceEncoded,
        None => KeyFlaw::NoKey,
    }
}

fn is_twice_encoded(text: &str) -> bool {
    // Four characters of base64 are three bytes: so many hold the beginning.
    let some: String = text.chars().filter(|c| !c.is_whitespace()).take(64).collect();
    let some = Zeroizing::new(some);
    let decoded = STANDARD.decode(some.as_bytes()).map(Zeroizing::new).unwrap_or_default();
    decoded.starts_with(b"-----BEGIN ") || decoded.starts_with(b"PuTTY-User-Key")
}

#[cfg(test)]
mod tests;
