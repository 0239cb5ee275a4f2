//! The text around a private key (RFC 7468), and the older way to encipher what is in it
//! (RFC 1421 headers, as OpenSSL and `ssh-keygen -m PEM` write them).

use aes::{Aes128, Aes192, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::TdesEde3;
use zeroize::Zeroizing;

/// Bytes of the salt: the first of the initialization vector.
const SALT: usize = 8;

/// One block between its first line and its last. Text around it is passed over, and so are
/// blanks beside its lines.
pub(super) struct Block<'a> {
    /// What stands behind `BEGIN`.
    pub(super) label: &'a str,
    /// Its content, or the ciphertext of it.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// False when the last line is missing.
    pub(super) is_whole: bool,
    /// The value of `DEK-Info`, where `Proc-Type` says that the content is enciphered.
    cipher: Option<&'a str>,
}

/// Why a block cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// There is none of the wanted kind.
    Nothing,
    /// What is between its lines is no base64.
    NoBase64,
    /// The same, and its last line is missing.
    CutOff,
}

/// Why a block cannot be deciphered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undeciphered {
    NoPassphrase,
    /// The passphrase is another, or the block is damaged: nobody can tell.
    Wrong,
    /// It is enciphered in a way that is not known here.
    Cipher,
}

/// The label in a first line of a block.
pub(super) fn begin(line: &str) -> Option<&str> {
    let label = trimmed(line).strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
    (!label.contains("-----")).then_some(label)
}

fn trimmed(line: &str) -> &str {
    line.trim_start_matches('\u{feff}').trim()
}

/// The lines of a text, however they end.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r'])
}

impl<'a> Block<'a> {
    /// The first block whose label `is_wanted`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(super) fn first(
        text: &'a str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Self, Unreadable> {
        let mut lines = lines(text).map(trimmed);
        let label = lines.by_ref().find_map(|line| begin(line).filter(|label| is_wanted(label)));
        let label = label.ok_or(Unreadable::Nothing)?;
        let (mut is_whole, mut cipher, mut is_enciphered) = (false, None, false);
        // It never grows: growing would leave a copy behind that nobody wipes.
        let mut base64 = Zeroizing::new(String::with_capacity(text.len()));
        for line in lines {
            if line.starts_with("-----END ") {
                is_whole = true;
                break;
            }
            match line.split_once(':') {
                Some(("Proc-Type", kind)) => is_enciphered = kind.trim().ends_with("ENCRYPTED"),
                Some(("DEK-Info", words)) => cipher = Some(words.trim()),
                Some(_) => {}
                None => base64.push_str(line),
            }
        }
        let flaw = if is_whole { Unreadable::NoBase64 } else { Unreadable::CutOff };
        let bytes = STANDARD.decode(base64.as_bytes()).map_err(|_| flaw)?;
        let cipher = if is_enciphered { Some(cipher.unwrap_or_default()) } else { None };
        Ok(Self { label, bytes: Zeroizing::new(bytes), is_whole, cipher })
    }

    /// Whether a passphrase is needed for what is between its lines.
    pub(super) fn is_enciphered(&self) -> bool {
        self.cipher.is_some()
    }

    /// What is in it, deciphered where it has to be.
    ///
    /// # Errors
    /// [`Undeciphered`].
    pub(super) fn deciphered(
        &self,
        passphrase: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, Undeciphered> {
        let Some(words) = self.cipher else { return Ok(self.bytes.clone()) };
        let (cipher, vector) = words.split_once(',').ok_or(Undeciphered::Cipher)?;
        let vector = unhex(vector.trim()).ok_or(Undeciphered::Cipher)?;
        // Nobody is asked for a passphrase that does not help.
        let with = match cipher.trim() {
            "AES-128-CBC" => Self::with::<Aes128>,
            "AES-192-CBC" => Self::with::<Aes192>,
            "AES-256-CBC" => Self::with::<Aes256>,
            "DES-EDE3-CBC" => Self::with::<TdesEde3>,
            _ => return Err(Undeciphered::Cipher),
        };
        let words = passphrase.ok_or(Undeciphered::NoPassphrase)?.as_bytes();
        with(self, (words, vector.as_slice()))
    }

    fn with<C: BlockCipherDecrypt + KeyInit>(
        &self,
        (passphrase, vector): (&[u8], &[u8]),
    ) -> Result<Zeroizing<Vec<u8>>, Undeciphered> {
        let salt = vector.get(..SALT).ok_or(Undeciphered::Cipher)?;
        let key = derived(passphrase, salt, C::key_size());
        let decryptor = Decryptor::<C>::new_from_slices(&key, vector);
        let decryptor = decryptor.map_err(|_| Undeciphered::Cipher)?;
        let mut bytes = self.bytes.clone();
        let plain = decryptor.decrypt_padded::<Pkcs7>(&mut bytes);
        let length = plain.map_err(|_| Undeciphered::Wrong)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// `EVP_BytesToKey` of OpenSSL with MD5 and one round.
fn derived(passphrase: &[u8], salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    const DIGEST: usize = 16;
    let mut key = Zeroizing::new(Vec::with_capacity(length + DIGEST));
    let mut last = None;
    while key.len() < length {
        let mut hash = md5::Context::new();
        if let Some(last) = last {
            hash.consume::<[u8; DIGEST]>(last);
        }
        hash.consume(passphrase);
        hash.consume(salt);
        let digest = hash.finalize().0;
        key.extend_from_slice(&digest);
        last = Some(digest);
    }
    key.truncate(length);
    key
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let pairs = digits?;
    let (pairs, rest) = pairs.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Result<Block<'_>, Unreadable> {
        Block::first(text, |label| label.ends_with("KEY"))
    }

    #[test]
    fn a_block_is_found_however_its_lines_end_and_whatever_stands_around_it() {
        let plain = "-----BEGIN A KEY-----\naGVs\nbG8=\n-----END A KEY-----\n";
        let around =
            format!("Bag Attributes: x\n-----BEGIN B-----\nAA==\n-----END B-----\n{plain}y");
        for text in [
            plain,
            &plain.replace('\n', "\r\n"),
            &plain.replace('\n', "\r"),
            &plain.replace('\n', " \n  "),
            plain.trim_end(),
            &format!("\u{feff}{plain}"),
            &around,
        ] {
            let block = first(text).unwrap_or_else(|_| panic!("{text:?}"));
            assert_eq!((block.label, block.bytes.as_slice()), ("A KEY", &b"hello"[..]), "{text:?}");
            assert!(block.is_whole && !block.is_enciphered());
        }
        assert!(!first(&plain[..26]).unwrap().is_whole);
        assert!(matches!(first(&plain[..29]), Err(Unreadable::CutOff)));
        assert!(matches!(first("no key"), Err(Unreadable::Nothing)));
        assert!(matches!(
            first("-----BEGIN A KEY-----\n?\n-----END A KEY-----"),
            Err(Unreadable::NoBase64)
        ));
    }

    #[test]
    fn what_a_block_is_enciphered_with_is_known_or_said_not_to_be() {
        let with = |cipher: &str| {
            format!(
                "-----BEGIN A KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: {cipher}\n\naGVs\n\
                 -----END A KEY-----\n"
            )
        };
        let vector = "00112233445566778899aabbccddeeff";
        for cipher in ["AES-128-CBC", "AES-192-CBC", "AES-256-CBC"] {
            let text = with(&format!("{cipher},{vector}"));
            let block = first(&text).unwrap();
            assert_eq!(block.deciphered(None), Err(Undeciphered::NoPassphrase), "{cipher}");
            assert_eq!(block.deciphered(Some("x")), Err(Undeciphered::Wrong), "{cipher}");
        }
        for words in ["", ",", "AES-128-CBC", "AES-128-CBC,0011", "AES-128-CBC,xx", "X-CBC,00"] {
            let text = with(words);
            let told = first(&text).unwrap().deciphered(Some("x"));
            assert_eq!(told, Err(Undeciphered::Cipher), "{words}");
        }
    }
}
