//! Commands of the build before this one: launched by its own program, whose text is kept beside
//! this file, and followed, stopped and swept by today's. CONTRIBUTING.md says how it is renewed.

use remote_command::shim::{Account, loader};

/// Stands for the account's shell, and for its state directory, in the kept text.
const SHELL: &str = "/the/shell";
const STATE: &str = "/the/state";

/// Not a test: writes the text of this very build, to be the one before the next.
#[test]
#[ignore = "by hand, when a release is made"]
fn keep_the_program_of_this_build() {
    let account = Account {
        shell: SHELL.to_owned(),
        state_directory: Some(STATE.to_owned()),
        ..Account::default()
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/before/loader.sh");
    std::fs::write(file, loader(&account, None)).unwrap();
}
