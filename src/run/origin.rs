//! What a run is made from besides its spec: the file, the machine, and the values that the spec
//! only names. A name that was run before with another of these is not the same command.

use std::collections::BTreeMap;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::reach::LOCAL;
use crate::core::connection::{Connection, Hop};
use crate::core::foreign::foreign;
use crate::host::Material;

/// What the machine that this program runs on is called.
pub const THIS_MACHINE: &str = "this machine";

/// What one run is, or was, made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Origin {
    /// The run's number.
    pub run: i32,
    /// The file of its RemoteCommand, by its absolute path; or `stdin`.
    pub file: String,
    /// The machines in dialling order, as `user@address:port`. None: this machine.
    pub way: Vec<String>,
    /// A digest of each value that it is given, by what it is given as. The key of the digests
    /// is kept beside them, so that equal values in two commands do not show.
    pub inputs: BTreeMap<String, String>,
}

/// What is another in the files than it was for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The spec.
    Command,
    /// The machine, or the way there.
    Host { was: String, is: String },
    /// The value of this input.
    Input(String),
}

impl Origin {
    /// From the files as they are: of no run yet.
    pub fn new(file: &str, connection: &str, inputs: BTreeMap<String, String>) -> Self {
        Self { run: 0, file: file.to_owned(), way: way(connection), inputs }
    }

    /// What is another in `now`. What is not known of a run is not held against it.
    pub fn change(&self, now: &Self) -> Option<Change> {
        if self.way != now.way {
            let (was, is) = (self.machine(), now.machine());
            return Some(Change::Host { was, is });
        }
        let other = |(name, digest): &(&String, &String)| now.inputs.get(*name) != Some(*digest);
        let input = self.inputs.iter().find(other);
        input.map(|(name, _)| Change::Input(name.clone()))
    }

    /// The machine, for people.
    pub fn machine(&self) -> String {
        let mut way = self.way.iter().rev();
        let Some(target) = way.next() else { return THIS_MACHINE.to_owned() };
        let jumps: Vec<&str> = way.map(String::as_str).collect();
        let via = if jumps.is_empty() { String::new() } else { " via ".to_owned() };
        foreign(&format!("{target}{via}{}", jumps.join(", ")))
    }

    /// The file, for people.
    pub fn shown_file(&self) -> String {
        if self.file.is_empty() {
            "a file that is not known".to_owned()
        } else {
            foreign(&self.file)
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command => write!(f, "it was changed"),
            Self::Host { was, is } => write!(f, "its host was changed (from {was} to {is})"),
            Self::Input(name) => write!(f, "the value of its {} was changed", foreign(name)),
        }
    }
}

/// Where the connection text leads, hop by hop; none for this machine.
pub fn way(connection: &str) -> Vec<String> {
    hops(connection).iter().map(Hop::place).collect()
}

/// The machines that a connection text names.
pub fn hops(connection: &str) -> Vec<Hop> {
    if connection == LOCAL {
        return Vec::new();
    }
    serde_json::from_str::<Connection>(connection).map(|way| way.hops).unwrap_or_default()
}

/// The digests of everything a launch is given, under `key`.
pub fn digests(key: &str, material: &Material) -> BTreeMap<String, String> {
    let env = material.env.iter().map(|(name, value)| (format!("variable {name}"), value));
    let stdin = material.stdin.iter().map(|value| ("stdin".to_owned(), value));
    let script = material.script.iter().map(|value| ("script".to_owned(), value));
    env.chain(stdin)
        .chain(script)
        .map(|(name, value)| (name.clone(), digest(key, &name, value)))
        .collect()
}

/// HMAC-SHA-256 (RFC 2104) of a value and what it is given as, in lower-case hex.
fn digest(key: &str, name: &str, value: &[u8]) -> String {
    // Any length of key is a key.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(&(name.len() as u64).to_be_bytes());
    mac.update(name.as_bytes());
    mac.update(value);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn material(value: &str, stdin: &str) -> Material {
        let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        let env = vec![("A".to_owned(), bytes(value))];
        Material { env, stdin: Some(bytes(stdin)), ..Material::default() }
    }

    /// Guards against a script in a ConfigMap that is another and runs as if it were the same.
    #[test]
    fn another_script_from_elsewhere_is_a_change() {
        let with = |script: &str| {
            let script = Some(Zeroizing::new(script.as_bytes().to_vec()));
            digests("key", &Material { script, ..material("1", "2") })
        };
        let was = origin(&[], with("echo one"));
        assert_eq!(was.change(&origin(&[], with("echo one"))), None);
        let told = was.change(&origin(&[], with("echo two"))).unwrap().to_string();
        assert_eq!(told, "the value of its script was changed");
    }

    fn origin(way: &[&str], inputs: BTreeMap<String, String>) -> Origin {
        let way = way.iter().map(|&machine| machine.to_owned()).collect();
        Origin { run: 1, file: "/f.yaml".to_owned(), way, inputs }
    }

    #[test]
    fn another_value_machine_or_way_is_a_change_and_another_file_is_none() {
        let inputs = || digests("key", &material("1", "2"));
        let was = origin(&["u@jump:22", "u@a:22"], inputs());
        let moved = Origin { file: "/elsewhere.yaml".to_owned(), ..was.clone() };
        assert_eq!(was.change(&moved), None);
        let change = |way: &[&str], inputs| was.change(&origin(way, inputs)).map(|c| c.to_string());
        for way in [&["u@a:22"][..], &["u@jump:22", "v@a:22"], &["u@jump:2", "u@a:22"], &[]] {
            let told = change(way, inputs()).unwrap();
            assert!(
                told.starts_with("its host was changed (from u@a:22 via u@jump:22 to "),
                "{told}"
            );
        }
        let given = |value, stdin| digests("key", &material(value, stdin));
        let way = ["u@jump:22", "u@a:22"];
        let told = change(&way, given("x", "2"));
        assert_eq!(told.unwrap(), "the value of its variable A was changed");
        let told = change(&way, given("1", "x"));
        assert_eq!(told.unwrap(), "the value of its stdin was changed");
    }

    #[test]
    fn a_digest_says_nothing_without_its_key_and_nothing_of_equal_values() {
        let (one, other) =
            (digests("key", &material("1", "1")), digests("yek", &material("1", "1")));
        assert_ne!(one["variable A"], other["variable A"]);
        assert_ne!(one["variable A"], one["stdin"]);
        assert_eq!(one["stdin"].len(), 64);
    }
}
