//! Output: stored up to a limit, drained for ever after, read by offset.

use std::fs;

use remote_command::core::action::StopReason;
use remote_command::core::record::Tree;
use remote_command::host::{Host as _, Stream};

use crate::rig::{LIMIT, Rig, Sh, claim_of, exit_of, is_alive, text_of};
use crate::stop::pids_in;
use crate::support::processes::Signal;
use crate::support::until;
use crate::under_every_shell;

under_every_shell! {
    output_is_cut_at_exactly_its_limit_and_the_writer_never_knows
    output_of_exactly_the_limit_is_whole
    the_two_streams_stay_apart
    stderr_has_nothing_that_the_command_did_not_write
    any_stretch_of_binary_output_can_be_read
    output_can_be_read_while_it_grows
    a_background_child_that_holds_the_pipe_leaves_the_output_open
    a_swept_entry_stores_nothing_more
    output_nobody_reads_is_no_obstacle
    a_command_whose_entry_was_wiped_can_go_on_writing
    output_goes_on_when_somebody_ended_what_stores_it
    whoever_held_a_stream_that_has_ended_is_not_named_as_alive
    output_that_a_limit_on_file_sizes_cuts_is_marked
}

async fn output_is_cut_at_exactly_its_limit_and_the_writer_never_knows(sh: Sh) {
    for limit in [1, 100, 65_535, 65_536, 70_000, 200_000] {
        let rig = Rig::new(sh);
        let text = "i=0; while [ $i -lt 400 ]; do echo 1234567890; i=$((i + 1)); done\n\
                    head -c 300000 /dev/zero && echo done >&2";
        let mut attempt = rig.script(text);
        attempt.plan.program.output_limit = limit;
        let (code, out, _) = attempt.run().await;
        assert_eq!((code, out.len() as u64), (0, limit));
        let output = attempt.probe().await.output;
        assert_eq!((output.stdout.bytes, output.stdout.truncated), (limit, true));
        let done = 5.min(limit);
        assert_eq!((output.stderr.bytes, output.stderr.truncated), (done, done < 5));
        let chatty = limit.min(4400) as usize;
        assert_eq!(out[..chatty], "1234567890\n".repeat(400).as_bytes()[..chatty]);
    }
}

async fn output_of_exactly_the_limit_is_whole(sh: Sh) {
    let rig = Rig::new(sh);
    for limit in [4u64, 65_536, 70_000] {
        let mut attempt = rig.command(&["/usr/bin/head", "-c", &limit.to_string(), "/dev/zero"]);
        attempt.plan.program.output_limit = limit;
        attempt.run().await;
        let output = attempt.probe().await.output;
        assert_eq!((output.stdout.bytes, output.stdout.truncated), (limit, false));
    }
}

async fn the_two_streams_stay_apart(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "for i in 1 2 3; do echo out$i; echo err$i >&2; done";
    let (_, out, err) = rig.script(text).run().await;
    assert_eq!(
        (out.as_slice(), err.as_slice()),
        (&b"out1\nout2\nout3\n"[..], &b"err1\nerr2\nerr3\n"[..])
    );
}

/// A shell may say "Killed" of what it waited for.
async fn stderr_has_nothing_that_the_command_did_not_write(sh: Sh) {
    let rig = Rig::new(sh);
    for signal in ["KILL", "TERM", "SEGV"] {
        let (code, _, err) = rig.script(&format!("echo mine >&2; kill -s {signal} $$")).run().await;
        assert!(code > 128, "{signal}: {code}");
        assert_eq!(String::from_utf8_lossy(&err), "mine\n", "{signal}");
    }
}

async fn any_stretch_of_binary_output_can_be_read(sh: Sh) {
    let rig = Rig::new(sh);
    let bytes: Vec<u8> =
        (0..400_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let file = rig.place.join("bytes");
    fs::write(&file, &bytes).unwrap();
    let mut attempt = rig.command(&["/bin/cat", file.to_str().unwrap()]);
    attempt.launch().await;
    attempt.finished().await;
    let stretches = [
        (0, 10),
        (0, 1 << 20),
        (1, 1 << 20),
        (65_535, 3),
        (65_536, 65_536),
        (65_537, 65_536),
        (131_072, 131_072),
        (131_073, 200_000),
        (399_999, 5),
        (400_000, 5),
        (500_000, 5),
        (1000, 1024),
        (1000, 1025),
        (200_001, 70_000),
        (3, 131_072),
    ];
    for (offset, max) in stretches {
        let chunk = attempt.host.read(&attempt.entry, Stream::Stdout, offset, max).await.unwrap();
        let from = bytes.len().min(offset as usize);
        let to = bytes.len().min(from + max as usize);
        assert!(chunk.bytes == bytes[from..to], "{offset} {max}: {} bytes", chunk.bytes.len());
    }
}

async fn output_can_be_read_while_it_grows(sh: Sh) {
    let rig = Rig::new(sh);
    let fifo = rig.place.join("fifo");
    let text = "echo one; mkfifo $0.f; read line <$0.f; echo two";
    let mut attempt = rig.command(&["/bin/sh", "-c", text, fifo.to_str().unwrap()]);
    attempt.launch().await;
    let record = attempt.until("the first line", |record| record.output.stdout.bytes > 0).await;
    assert!(!record.output.stdout.ended);
    assert_eq!(attempt.output(Stream::Stdout).await, b"one\n");
    let fifo = rig.place.join("fifo.f");
    until(LIMIT, "the fifo", async || fifo.exists()).await.unwrap();
    tokio::fs::write(fifo, "go\n").await.unwrap();
    attempt.finished().await;
    let chunk = attempt.host.read(&attempt.entry, Stream::Stdout, 4, 100).await.unwrap();
    assert_eq!((chunk.offset, chunk.bytes.as_slice()), (4, &b"two\n"[..]));
}

async fn a_background_child_that_holds_the_pipe_leaves_the_output_open(sh: Sh) {
    let rig = Rig::new(sh);
    let go = rig.place.join("go");
    let text = "sh -c 'until [ -e $0 ]; do sleep 0.1; done; echo late' $0 & exit 0";
    let mut attempt = rig.command(&["/bin/sh", "-c", text, go.to_str().unwrap()]);
    attempt.launch().await;
    let record = attempt.until("the end", |record| exit_of(record).is_some()).await;
    let ended = exit_of(&record).unwrap().ended_uptime_ms().unwrap();
    let record = attempt.until("two seconds later", |r| r.uptime_ms >= ended + 2000).await;
    assert!(!record.output.stdout.ended);
    fs::write(go, "").unwrap();
    attempt.finished().await;
    assert_eq!(attempt.output(Stream::Stdout).await, b"late\n");
}

async fn a_swept_entry_stores_nothing_more(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "sh -c 'trap \"\" PIPE; while :; do head -c 100000 /dev/zero || exit; sleep 0.05; done' & echo $! >$0";
    let file = rig.place.join("pids");
    let mut attempt = rig.command(&["/bin/sh", "-c", text, file.to_str().unwrap()]);
    let claim = attempt.launch().await;
    attempt
        .until("the end, and output", |r| exit_of(r).is_some() && r.output.stdout.bytes > 0)
        .await;
    let writer = pids_in(&file, 1).await[0];
    attempt.sweep().await;
    let out = attempt.directory(&rig).join("out");
    assert!(!out.exists());
    // Nobody holds the removed file open, and the writer goes on.
    until(LIMIT, "the file is let go", async || {
        rig.processes().iter().all(|process| {
            let Ok(files) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else { return true };
            !files.flatten().any(|file| {
                fs::read_link(file.path())
                    .is_ok_and(|to| to.to_string_lossy().contains("/out (deleted)"))
            })
        })
    })
    .await
    .unwrap();
    assert!(is_alive(writer));
    assert!(!out.exists());
    assert!(!is_alive(claim.processes.command.pid));
}

async fn output_nobody_reads_is_no_obstacle(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt =
        rig.script("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 4");
    attempt.launch().await;
    assert_eq!(attempt.finished().await.code(), 4);
    let record = attempt.probe().await;
    assert_eq!((record.output.stdout.bytes, record.output.stderr.bytes), (3_000_000, 3_000_000));
    assert_eq!(claim_of(&attempt.kill(StopReason::Deleted, None).await).stop, None);
}

async fn a_command_whose_entry_was_wiped_can_go_on_writing(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "trap 'echo broken >$RIG/result' PIPE; echo first; \
                until [ -e $RIG/go ]; do sleep 0.1; done; i=0; \
                while [ $i -lt 300 ]; do echo 1234567890; i=$((i + 1)); done; \
                sleep 0.5; echo 1234567890; [ -e $RIG/result ] || echo whole >$RIG/result";
    let mut attempt = rig.script(text);
    attempt.plan.program.output_limit = 100;
    attempt.launch().await;
    attempt.until("the first line", |record| record.output.stdout.bytes > 0).await;
    fs::remove_dir_all(rig.store()).unwrap();
    fs::write(rig.place.join("go"), "").unwrap();
    assert_eq!(text_of(&rig.place.join("result")).await, "whole\n");
    // A drain that cannot open its file any more does not try that in copy after copy of itself.
    let mut most = 0;
    until(LIMIT, "nobody but helper shells is left", async || {
        let count = rig.processes().len();
        most = most.max(count);
        count <= rig.channels().len()
    })
    .await
    .unwrap();
    assert!(most < 30, "{most} processes");
}

async fn output_goes_on_when_somebody_ended_what_stores_it(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "echo first; until [ -e $RIG/go ]; do sleep 0.1; done; echo second";
    let mut attempt = rig.script(text);
    attempt.launch().await;
    attempt.until("the first line", |record| record.output.stdout.bytes > 0).await;
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut stores = Vec::new();
    until(LIMIT, "both streams are stored", async || {
        stores = rig.processes();
        stores.retain(|process| name(process.pid) == "dd\n");
        stores.len() == 2
    })
    .await
    .unwrap();
    for dd in stores {
        dd.signal(Signal::KILL);
        until(LIMIT, "a dd gone", async || !is_alive(dd.pid)).await.unwrap();
    }
    fs::write(rig.place.join("go"), "").unwrap();
    attempt.finished().await;
    assert_eq!(attempt.output(Stream::Stdout).await, b"first\nsecond\n");
    assert!(!attempt.probe().await.output.stdout.truncated);
}

async fn whoever_held_a_stream_that_has_ended_is_not_named_as_alive(sh: Sh) {
    let rig = Rig::new(sh);
    for _ in 0..15 {
        let mut attempt = rig.script("(sleep 0.1; printf later) & exit 0");
        attempt.launch().await;
        let record = attempt
            .until("exit and end of output", |record| {
                let output = &record.output;
                exit_of(record).is_some() && output.stdout.ended && output.stderr.ended
            })
            .await;
        assert_eq!(record.tree, Tree::Empty);
    }
}

async fn output_that_a_limit_on_file_sizes_cuts_is_marked(sh: Sh) {
    let mut rig = Rig::new(sh);
    let shell = &rig.account.shell;
    rig.program("login", &format!("#!/bin/dash\nulimit -f 100\nexec {shell} \"$@\"\n"));
    rig.transport = std::sync::Arc::new(Rig::local_with(&rig.place, "bin/login"));
    let mut attempt = rig.script("head -c 300000 /dev/zero; exit 3");
    let (code, out, _) = attempt.run().await;
    let output = attempt.probe().await.output;
    assert_eq!((code, output.stdout.truncated, output.stderr.truncated), (3, true, false));
    assert_eq!(out.len() as u64, output.stdout.bytes);
}
