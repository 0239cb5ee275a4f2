//! What no installed tool is needed for; the keys that tools write are tried against a real
//! server.

use super::*;

/// One key as `puttygen` writes it: in its format 3, and with the passphrase `words` in 3 and 2.
const PUTTY: [&str; 3] = [
    "PuTTY-User-Key-File-3: ssh-ed25519\n\
     Encryption: none\n\
     Comment: ed25519-key-20261201\n\
     Public-Lines: 2\n\
     AAAAC3NzaC1lZDI1NTE5AAAAICqxP2DMP4UXQppdpOVl0Pj5gWLSD5WrmZt56YzO\n\
     A4wS\n\
     Private-Lines: 1\n\
     AAAAIOOIP72i/OARkIXkWAOtsbqMiLtLPF0iBd6OaQJGYM5j\n\
     Private-MAC: c758f79ddee0f3f8ce92399144945743d4e2eb6f50a6789e3b8f7076d6db2967\n",
    "PuTTY-User-Key-File-3: ssh-ed25519\n\
     Encryption: aes256-cbc\n\
     Comment: ed25519-key-20261201\n\
     Public-Lines: 2\n\
     AAAAC3NzaC1lZDI1NTE5AAAAICqxP2DMP4UXQppdpOVl0Pj5gWLSD5WrmZt56YzO\n\
     A4wS\n\
     Key-Derivation: Argon2id\n\
     Argon2-Memory: 1024\n\
     Argon2-Passes: 3\n\
     Argon2-Parallelism: 1\n\
     Argon2-Salt: 745aafb7b387dd62fdbfd85830dc7145\n\
     Private-Lines: 1\n\
     IgmN1T6c7DPQlWdd2UmAksXnxql9mGd260wQ5+kdPlvYviVxHKWgJmDiWs8BUIvQ\n\
     Private-MAC: f31733f2a80bc36506cab70a7b96929eebbb8355bf4d08dc7ab616c93fcd3789\n",
    "PuTTY-User-Key-File-2: ssh-ed25519\n\
     Encryption: aes256-cbc\n\
     Comment: ed25519-key-20261201\n\
     Public-Lines: 2\n\
     AAAAC3NzaC1lZDI1NTE5AAAAICqxP2DMP4UXQppdpOVl0Pj5gWLSD5WrmZt56YzO\n\
     A4wS\n\
     Private-Lines: 1\n\
     bfo7tmaGWcfsks+c3Sp+I9a16uVhF+DlKWYm2N0GCvK5dnSlBQBkl4jJbaWxvXvp\n\
     Private-MAC: 982faa84253d1bbedee0ad290de0639bdd7595e8\n",
];

#[test]
fn what_putty_wrote_is_read_and_its_passphrase_asked_for() {
    let [plain, encrypted @ ..] = PUTTY;
    let fingerprint = |key: PrivateKey| key.fingerprint(ssh_key::HashAlg::Sha256);
    let same = fingerprint(read(plain, Some("not needed")).unwrap());
    for key in encrypted {
        for key in [key, &key.replace('\n', "\r\n")] {
            assert_eq!(fingerprint(read(key, Some("words")).unwrap()), same);
            assert_eq!(read(key, None).err(), Some(KeyFlaw::NoPassphrase));
            assert_eq!(read(key, Some("other")).err(), Some(KeyFlaw::WrongPassphrase));
        }
    }
    let damaged = plain.replacen("AAAAI", "AAAAJ", 1);
    assert_eq!(read(&damaged, None).err(), Some(KeyFlaw::Putty));
}

#[test]
fn a_text_that_is_no_private_key_is_told_apart_from_others() {
    let table = [
        ("ssh-ed25519 AAAA me", KeyFlaw::PublicKey),
        ("  ecdsa-sha2-nistp256 AAAA", KeyFlaw::PublicKey),
        ("-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----", KeyFlaw::PublicKey),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", KeyFlaw::PublicKey),
        ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nAAAA\n", KeyFlaw::OldFormat),
        ("SSH PRIVATE KEY FILE FORMAT 1.1\n\0", KeyFlaw::OldFormat),
        ("ssh-rsa-cert-v01@openssh.com AAAA", KeyFlaw::Certificate),
        ("-----BEGIN CERTIFICATE-----\nAAAA", KeyFlaw::X509),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA", KeyFlaw::X509),
        ("-----BEGIN ANY PRIVATE KEY-----\nAAAA", KeyFlaw::Kind),
        ("-----BEGIN MESSAGE-----\nAAAA", KeyFlaw::NoKey),
        ("-----BEGIN OPENSSH PRIVATE KEY----- AAAA -----END", KeyFlaw::LineEnds),
        ("-----BEGIN PRIVATE KEY----- AA -----END PRIVATE KEY-----", KeyFlaw::LineEnds),
        ("LS0tLS1CRUdJTiBPUEVOU1NIIFBSSVZBVEUgS0VZ", KeyFlaw::TwiceEncoded),
        ("", KeyFlaw::NoKey),
        ("secret", KeyFlaw::NoKey),
        ("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----", KeyFlaw::Dsa),
        ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", KeyFlaw::Damaged),
        ("-----BEGIN PRIVATE KEY-----\nAAAA", KeyFlaw::CutOff),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", KeyFlaw::Putty),
        ("PuTTY-User-Key-File-1: ssh-dss\n", KeyFlaw::Putty),
        ("PuTTY-User-Key-File-3: x\nEncryption: aes256-cbc\n", KeyFlaw::NoPassphrase),
    ];
    for (text, flaw) in table {
        assert_eq!(read(text, None).err(), Some(flaw), "{text}");
    }
}

/// Guards against a Secret that asks for more work than anybody should do for it, however its
/// key is wrapped.
#[test]
fn a_key_that_costs_too_much_is_not_tried() {
    let mut bytes = b"openssh-key-v1\0".to_vec();
    let options = [&[0, 0, 0, 4][..], b"salt", &u32::MAX.to_be_bytes()].concat();
    for string in [&b"aes256-ctr"[..], b"bcrypt", &options] {
        bytes.extend(u32::try_from(string.len()).unwrap().to_be_bytes());
        bytes.extend(string);
    }
    let text = STANDARD.encode(bytes);
    let key = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n");
    let hidden = format!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{key}");
    let putty = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: aes256-cbc\n\
                 Key-Derivation: Argon2id\nArgon2-Memory: 16777216\nArgon2-Passes: 1\n";
    for text in [&key, &hidden, &key.replace('\n', "\r\n"), putty, &format!("\u{feff}{putty}")] {
        assert_eq!(read(text, Some("words")).err(), Some(KeyFlaw::Effort), "{text}");
    }
}
