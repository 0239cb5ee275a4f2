//! Private keys as `ssh-keygen` and OpenSSL write them, in every form that OpenSSH reads.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use remote_command::core::fault::Standing;
use remote_command::host::hosts::Hosts;

use crate::sessions::{Secrets, Way, run};
use crate::start;
use crate::support::programs;
use crate::support::sshd::Sshd;

const WORDS: &str = "a b'c";
const MISSING: &str = "ssh-privatekey is encrypted, and the Secret has no key passphrase: add it, \
                       or write the key without";
const WRONG: &str =
    "ssh-privatekey cannot be decrypted: the passphrase is wrong, or the key is damaged";

/// Runs a program of a Debian package; gives what it printed.
fn output(program: &str, package: &str, arguments: &[&str], directory: &Path) -> Vec<u8> {
    let path = programs::debian(program, package).unwrap();
    let output = Command::new(path).args(arguments).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output.stdout
}

fn openssl(arguments: &[&str], directory: &Path) {
    output("openssl", "openssl", arguments, directory);
}

fn keygen(arguments: &[&str], directory: &Path) -> String {
    let printed = output("ssh-keygen", "openssh-client", arguments, directory);
    String::from_utf8(printed).unwrap()
}

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

fn allow(sshd: &Sshd, public: &str) {
    let file = sshd.directory().join("authorized_keys");
    let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    writeln!(file, "{}", public.trim()).unwrap();
}

/// The line of an Ed25519 key that OpenSSL made: its last bytes, in OpenSSH's frame.
fn ed25519_line(directory: &Path, name: &str) -> String {
    openssl(&["pkey", "-in", name, "-pubout", "-outform", "DER", "-out", "pub.der"], directory);
    let der = std::fs::read(directory.join("pub.der")).unwrap();
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend_from_slice(der.last_chunk::<32>().unwrap());
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

/// How the login with this Secret ends: logged in, or what is wrong with the Secret.
async fn told(sshd: &Sshd, key: &str, passphrase: &str) -> String {
    let hosts = Hosts::new();
    let secrets = Secrets::of(&[("ssh-privatekey", key), ("passphrase", passphrase)]);
    let transport = hosts.transport("default", &Way::to(sshd).connection(), secrets);
    let end = run(transport.as_ref(), "true").await;
    let told = match end.lost {
        None => format!("logged in, {:?}", end.status),
        Some(fault) => {
            assert_eq!(fault.cause, Standing::CredentialsInvalid.into(), "{fault:?}");
            fault.message.split_once(": ").unwrap().1.to_owned()
        }
    };
    hosts.shutdown().await;
    told
}

/// A key that is encrypted logs in with its passphrase, and says what is wrong with another.
async fn needs_its_passphrase(sshd: &Sshd, what: &str, key: &str) {
    assert_eq!(told(sshd, key, &format!("{WORDS}\n")).await, "logged in, Some(0)", "{what}\n{key}");
    assert_eq!(told(sshd, key, "").await, MISSING, "{what}\n{key}");
    assert_eq!(told(sshd, key, "wrong").await, WRONG, "{what}\n{key}");
}

/// One that is not logs in with any.
async fn needs_none(sshd: &Sshd, what: &str, key: &str) {
    for passphrase in ["", "not needed"] {
        assert_eq!(told(sshd, key, passphrase).await, "logged in, Some(0)", "{what}\n{key}");
    }
}

#[tokio::test]
async fn keys_in_the_older_forms_of_openssl_log_in() {
    let sshd = start(&[]);
    let at = sshd.directory();
    openssl(&["genrsa", "-out", "rsa", "2048"], at);
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", "ec"], at);
    std::fs::write(at.join("words"), WORDS).unwrap();
    for (kind, file) in [("rsa", "rsa"), ("ec", "ec")] {
        // OpenSSH wants nobody else to be able to read it.
        output("chmod", "coreutils", &["600", file], at);
        allow(&sshd, &keygen(&["-y", "-f", file], at));
        let traditional = if kind == "rsa" { &["-traditional"][..] } else { &[] };
        openssl(&[&[kind, "-in", file, "-out", "plain"], traditional].concat(), at);
        let plain = read(at, "plain");
        assert!(plain.contains(&format!("BEGIN {} PRIVATE KEY", kind.to_uppercase())), "{plain}");
        needs_none(&sshd, kind, &plain).await;
        for cipher in ["-aes128", "-aes192", "-aes256", "-des3"] {
            let more = ["-in", file, "-out", "out", cipher, "-passout", "file:words"];
            openssl(&[&[kind], &more[..], traditional].concat(), at);
            let key = read(at, "out");
            assert!(key.contains("DEK-Info: "), "{key}");
            needs_its_passphrase(&sshd, &format!("{kind} {cipher}"), &key).await;
        }
    }
    // What OpenSSL prints before an elliptic key, and the one among other things.
    let ec = read(at, "ec");
    assert!(ec.contains("BEGIN EC PARAMETERS"), "{ec}");
    needs_none(&sshd, "EC PARAMETERS", &ec).await;
}

#[tokio::test]
async fn keys_in_pkcs8_log_in() {
    let sshd = start(&[]);
    let at = sshd.directory();
    std::fs::write(at.join("words"), WORDS).unwrap();
    let kinds: [(&str, &[&str]); 4] = [
        ("RSA", &["-pkeyopt", "rsa_keygen_bits:3072"]),
        ("EC", &["-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("EC", &["-pkeyopt", "ec_paramgen_curve:P-521"]),
        ("ED25519", &[]),
    ];
    for (kind, options) in kinds {
        openssl(&[&["genpkey", "-algorithm", kind, "-out", "plain"], options].concat(), at);
        output("chmod", "coreutils", &["600", "plain"], at);
        let public = match kind {
            "ED25519" => ed25519_line(at, "plain"),
            _ => keygen(&["-y", "-f", "plain"], at),
        };
        allow(&sshd, &public);
        needs_none(&sshd, kind, &read(at, "plain")).await;
        let schemes: [&[&str]; 6] = [
            &["-v2", "aes-256-cbc"],
            &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
            &["-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512"],
            &["-v2", "des3", "-v2prf", "hmacWithSHA256"],
            &["-v2", "des3", "-v2prf", "hmacWithSHA1"],
            &["-scrypt"],
        ];
        // One kind in all schemes, the others in the usual one.
        let count = if kind == "EC" { schemes.len() } else { 1 };
        for scheme in &schemes[..count] {
            let more = ["-topk8", "-in", "plain", "-out", "out", "-passout", "file:words"];
            openssl(&[&["pkcs8"], &more[..], scheme].concat(), at);
            needs_its_passphrase(&sshd, &format!("{kind} {scheme:?}"), &read(at, "out")).await;
        }
    }
}

#[tokio::test]
async fn keys_in_every_form_of_ssh_keygen_log_in() {
    let sshd = start(&[]);
    let at = sshd.directory();
    for (kind, bits, forms) in [
        ("rsa", "2048", &["RFC4716", "PEM", "PKCS8"][..]),
        ("ecdsa", "256", &["RFC4716", "PEM", "PKCS8"]),
        // PEM and PKCS8 mean OpenSSH's own form here.
        ("ed25519", "256", &["RFC4716"]),
    ] {
        keygen(&["-q", "-N", "", "-t", kind, "-b", bits, "-f", kind], at);
        allow(&sshd, &read(at, &format!("{kind}.pub")));
        for form in forms {
            let change = ["-q", "-p", "-m", form, "-f", kind];
            keygen(&[&change[..], &["-P", "", "-N", WORDS]].concat(), at);
            needs_its_passphrase(&sshd, &format!("{kind} {form}"), &read(at, kind)).await;
            keygen(&[&change[..], &["-P", WORDS, "-N", ""]].concat(), at);
            needs_none(&sshd, &format!("{kind} {form}"), &read(at, kind)).await;
        }
    }
    let ciphers = [
        "aes128-cbc",
        "aes192-ctr",
        "aes256-ctr",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
    ];
    let (mut before, file) = ("", "ed25519");
    for cipher in ciphers {
        keygen(&["-q", "-p", "-Z", cipher, "-P", before, "-N", WORDS, "-f", file], at);
        needs_its_passphrase(&sshd, cipher, &read(at, file)).await;
        before = WORDS;
    }
}

/// What editors, mail and clipboards do to a file.
#[tokio::test]
async fn a_key_logs_in_whatever_became_of_its_line_ends_and_surroundings() {
    let sshd = start(&[]);
    let at = sshd.directory();
    keygen(&["-q", "-N", "", "-t", "ecdsa", "-m", "PEM", "-f", "plain"], at);
    allow(&sshd, &read(at, "plain.pub"));
    keygen(&["-q", "-N", WORDS, "-t", "ecdsa", "-m", "PEM", "-f", "pem"], at);
    allow(&sshd, &read(at, "pem.pub"));
    keygen(&["-q", "-N", WORDS, "-t", "ed25519", "-f", "own"], at);
    allow(&sshd, &read(at, "own.pub"));
    for name in ["plain", "pem", "own"] {
        let key = read(at, name);
        for changed in [
            key.replace('\n', "\r\n"),
            key.trim_end().to_owned(),
            format!("\u{feff}{key}"),
            format!("the key of {name}:\n\n{key}\nand what follows it\n"),
            key.lines().map(|line| format!("  {line} \n")).collect(),
        ] {
            match name {
                "plain" => needs_none(&sshd, name, &changed).await,
                _ => needs_its_passphrase(&sshd, name, &changed).await,
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_private_key_is_told_by_what_it_is() {
    let sshd = start(&[]);
    let at = sshd.directory();
    keygen(&["-q", "-N", "", "-t", "ed25519", "-f", "own"], at);
    keygen(&["-q", "-s", "own", "-I", "id", "-n", "x", "own.pub"], at);
    let one = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"];
    openssl(&[&one[..], &["-keyout", "key", "-out", "certificate"]].concat(), at);
    openssl(&["dsaparam", "-genkey", "-out", "dsa", "1024"], at);
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", "dsa", "-out", "dsa8"], at);
    openssl(&["ecparam", "-name", "secp256k1", "-genkey", "-noout", "-out", "koblitz"], at);
    openssl(&["genpkey", "-algorithm", "ED448", "-out", "ed448"], at);
    openssl(&["pkey", "-in", "ed448", "-pubout", "-out", "public"], at);
    openssl(&["genpkey", "-algorithm", "RSA-PSS", "-out", "pss"], at);
    std::fs::write(at.join("words"), WORDS).unwrap();
    let with = ["-in", "key", "-out", "old", "-passout", "file:words", "-v1", "PBE-SHA1-3DES"];
    openssl(&[&["pkcs8", "-topk8"], &with[..]].concat(), at);
    let (own, key) = (read(at, "own"), read(at, "key"));
    let dsa = "is a DSA key, which servers take no more";
    let kind = "cannot be read: its kind is not supported";
    let table = [
        (read(at, "own.pub"), "is a public key: the private one belongs here"),
        (read(at, "public"), "is a public key: the private one belongs here"),
        (read(at, "own-cert.pub"), "is a certificate: that goes into ssh-certificate"),
        (read(at, "certificate"), "is an X.509 certificate or a request for one"),
        (read(at, "dsa"), dsa),
        (read(at, "dsa8"), dsa),
        (read(at, "koblitz"), kind),
        (read(at, "ed448"), kind),
        (read(at, "pss"), kind),
        (read(at, "old"), "is encrypted in a way that is not supported: ssh-keygen -p -f FILE"),
        (own.replace('\n', " "), "cannot be read: its line ends are lost"),
        (own.replace('\n', "\\n"), "cannot be read: its line ends are lost"),
        (STANDARD.encode(&own), "cannot be read: it is in base64 once more than a Secret wants"),
        (own[..200].to_owned(), "cannot be read: its end is missing"),
        (key[..900].to_owned(), "cannot be read: its end is missing"),
        (own.replacen("AAAA", "A?AA", 1), "cannot be read: it is damaged"),
        (key.replacen("MII", "MIA", 1), "cannot be read: it is damaged"),
        ("hunter2".to_owned(), "cannot be read: it has no line that begins a private key"),
    ];
    for (text, sentence) in table {
        let told = told(&sshd, &text, WORDS).await;
        let told = told.strip_prefix("ssh-privatekey ").unwrap_or(&told);
        assert!(told.starts_with(sentence), "{told}\n{sentence}\n{text}");
    }
}
