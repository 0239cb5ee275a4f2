//! What it would take to decipher a private key, before it is tried.
//!
//! Whoever made the key chose how much work and memory its passphrase costs, and the libraries
//! have no bound for that: a Secret could ask for gigabytes, or for hours.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;

/// Rounds of bcrypt, some milliseconds each. `ssh-keygen` makes 24.
const BCRYPT_ROUNDS: u64 = 512;
/// Rounds of PBKDF2. OpenSSL makes 2,048 of them.
const PBKDF2_ROUNDS: u64 = 4_000_000;
/// Bytes of memory for scrypt or Argon2. OpenSSL takes 16 MiB, PuTTY 8 MiB.
const MEMORY: u64 = 64 << 20;
/// Bytes of memory times how often they are gone over. PuTTY does that some 20 times.
const WORK: u64 = 4 << 30;

/// Whether deciphering a key in OpenSSH's own form or in PKCS#8 stays within bounds. What is
/// neither does.
pub(super) fn is_bearable(bytes: &[u8]) -> bool {
    let rounds = bcrypt_rounds(bytes);
    rounds.is_none_or(|rounds| u64::from(rounds) <= BCRYPT_ROUNDS) && of_pkcs8(bytes)
}

/// The same of a file of PuTTY's, version 3 (its manual, appendix C).
pub(super) fn is_putty_bearable(text: &str) -> bool {
    let number = |name: &str| {
        let values = text.lines().filter_map(|line| line.trim().strip_prefix(name));
        values.map(|value| value.trim().parse().unwrap_or(u64::MAX)).max().unwrap_or(0)
    };
    let memory = number("Argon2-Memory:").saturating_mul(1024);
    is_memory_bearable(memory, number("Argon2-Passes:")) && number("Argon2-Parallelism:") <= 16
}

fn is_memory_bearable(memory: u64, passes: u64) -> bool {
    memory <= MEMORY && memory.saturating_mul(passes) <= WORK && passes <= WORK
}

/// Of OpenSSH's own form (its PROTOCOL.key): magic, cipher, kdf, and the kdf's salt and rounds.
fn bcrypt_rounds(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let _cipher = string(&mut rest)?;
    let kdf = string(&mut rest)?;
    let mut options = string(&mut rest)?;
    let _salt = (kdf == b"bcrypt").then(|| string(&mut options))??;
    options.first_chunk().map(|rounds| u32::from_be_bytes(*rounds))
}

/// One string (RFC 4251, 5).
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, more) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (string, more) = more.split_at_checked(length)?;
    *rest = more;
    Some(string)
}

/// Of an encrypted PKCS#8 key (RFC 5958; RFC 8018 and 7914 for the work).
fn of_pkcs8(bytes: &[u8]) -> bool {
    let Ok(key) = EncryptedPrivateKeyInfoRef::try_from(bytes) else { return true };
    match key.encryption_algorithm {
        EncryptionScheme::Pbes2(scheme) => match scheme.kdf {
            Kdf::Pbkdf2(work) => u64::from(work.iteration_count) <= PBKDF2_ROUNDS,
            Kdf::Scrypt(work) => {
                let memory = work.cost_parameter.saturating_mul(u64::from(work.block_size) * 128);
                is_memory_bearable(memory, work.parallelization.into())
            }
            // None that this library can carry out.
            _ => true,
        },
        // Its number of rounds has 16 bits.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openssh(rounds: u32) -> Vec<u8> {
        let mut bytes = b"openssh-key-v1\0".to_vec();
        let options = [&[0, 0, 0, 4][..], b"salt", &rounds.to_be_bytes()].concat();
        for string in [&b"aes256-ctr"[..], b"bcrypt", &options] {
            bytes.extend(u32::try_from(string.len()).unwrap().to_be_bytes());
            bytes.extend(string);
        }
        bytes
    }

    fn putty(memory: &str, passes: u64) -> String {
        format!(
            "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: aes256-cbc\nComment: x\n\
             Key-Derivation: Argon2id\nArgon2-Memory: {memory}\nArgon2-Passes: {passes}\n\
             Argon2-Parallelism: 1\n"
        )
    }

    /// Made with `openssl pkcs8 -topk8 -scrypt` and its options; only the parameters matter.
    fn scrypt(cost: u64, block: u8) -> Vec<u8> {
        let part = |tag: u8, content: &[u8]| {
            let mut part = vec![tag, u8::try_from(content.len()).unwrap()];
            part.extend(content);
            part
        };
        let number = |bytes: &[u8]| {
            let skip = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
            part(2, &[&[0][..], &bytes[skip..]].concat()[usize::from(bytes[skip] < 128)..])
        };
        let oid = |bytes: &[u8]| part(6, bytes);
        let words =
            [part(4, b"saltsalt"), number(&cost.to_be_bytes()), number(&[block]), number(&[1])];
        let scrypt = [oid(&[43, 6, 1, 4, 1, 218, 71, 4, 11]), part(48, &words.concat())].concat();
        let aes = [oid(&[96, 134, 72, 1, 101, 3, 4, 1, 42]), part(4, &[7; 16])].concat();
        let scheme = part(48, &[part(48, &scrypt), part(48, &aes)].concat());
        let pbes2 = [oid(&[42, 134, 72, 134, 247, 13, 1, 5, 13]), scheme].concat();
        part(48, &[part(48, &pbes2), part(4, &[9; 16])].concat())
    }

    #[test]
    fn a_key_that_costs_what_tools_ask_for_is_bearable() {
        for key in [openssh(16), openssh(100), scrypt(16_384, 8), Vec::new(), vec![b'x'; 9]] {
            assert!(is_bearable(&key), "{key:?}");
        }
        assert!(is_putty_bearable(&putty("8192", 21)));
    }

    #[test]
    fn a_key_that_costs_gigabytes_or_hours_is_not_tried() {
        for key in [openssh(u32::MAX), openssh(100_000), scrypt(1 << 24, 8), scrypt(1 << 40, 255)] {
            assert!(!is_bearable(&key), "{key:?}");
        }
        for key in [putty("8192", 10_000_000), putty("16777216", 1), putty("x", 1)] {
            assert!(!is_putty_bearable(&key), "{key}");
        }
    }
}
