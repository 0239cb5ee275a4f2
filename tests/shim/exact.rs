//! What a user passes arrives byte for byte, and nothing of it is ever run by a shell.

use crate::rig::{Rig, Sh};
use crate::under_every_shell;

under_every_shell! {
    a_command_runs_and_its_end_is_on_record
}

async fn a_command_runs_and_its_end_is_on_record(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]);
    let (code, out, err) = attempt.run().await;
    assert_eq!((code, out.as_slice(), err.as_slice()), (3, &b"out\n"[..], &b"err\n"[..]));
}
