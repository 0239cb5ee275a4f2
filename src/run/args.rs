//! The options of `run`, and what its help says of them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::exit::EXIT_CODES_HELP;

/// Options of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// File with YAML documents: RemoteCommand, RemoteHost, Secret, ConfigMap; `-` is stdin
    #[arg(short, long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// Where it is noted what each command has done, so that running it again re-attaches
    ///
    /// Unset: $XDG_STATE_HOME/remote-command/run, or else ~/.local/state/remote-command/run. A
    /// command is known there by its metadata.namespace and metadata.name, whatever file it is
    /// in: projects that use the same names need a directory each.
    #[arg(long, value_name = "DIRECTORY")]
    pub state_directory: Option<PathBuf>,
    /// Ask for a new run of commands that have already been run, also where the command, its
    /// host or a value that it is given was changed since
    #[arg(long)]
    pub new_run: bool,
    /// Run again what did not succeed, and skip what did
    ///
    /// What failed gets a new run, also where it was changed since; what never ran is run, and
    /// what is under way is followed. What is Unknown is looked at first, and gets a new run
    /// where its idempotency says that repeating does no harm. A NonIdempotent one that is still
    /// Unknown gets one only with --new-run beside this option.
    #[arg(long)]
    pub only_unfinished: bool,
    /// Run this many commands of the files at once, in file order
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub parallel: u16,
    /// Begin each line of the commands' output with the command's name
    ///
    /// Done by itself, with --parallel and several commands, for a stream that is a terminal.
    #[arg(long)]
    pub prefix: bool,
    /// Run on this machine instead of over SSH, whatever host the commands name
    #[arg(long)]
    pub local: bool,
    /// On Ctrl-C or SIGTERM, leave the command running instead of cancelling it
    #[arg(long)]
    pub detach_on_interrupt: bool,
    /// Say nothing on stderr but errors and the command's own output
    #[arg(short, long)]
    pub quiet: bool,
    /// Write a report of all results, as JSON, to this file when done
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// What stdout is for: the commands' output, or one JSON report at the end
    #[arg(short, long, value_enum, default_value_t = RunOutput::Live)]
    pub output: RunOutput,
}

/// What `run` prints on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunOutput {
    /// The commands' stdout, byte for byte, as it comes
    Live,
    /// A JSON report when all are done; the output is in it as tails
    Json,
}

/// What `run --help` says below its options.
pub fn help() -> String {
    format!(
        "\
The command's stdout and stderr arrive on stdout and stderr, byte for byte. Progress is told on
stderr. Interrupting cancels the command and waits until its whole process tree has ended; a
second interrupt, or a terminal that goes, leaves it running.

Whatever happens to this program, running it again goes on where it stopped and does not start the
command twice; after a kill -9 up to 64 KiB of output may come a second time, and a file that was
emptied since (`> FILE`) gets all of it again, unless all had been written: then that is told, with
228. Where nothing was started yet, running it again tries at once, with the files as they are
then; timeouts.queue counts only while a `run` is at work.

A command that has ended is not started again without --new-run or --only-unfinished. What it is
known by is its metadata.namespace and metadata.name, in all projects of this login (see
--state-directory). One that was changed since, or has another host (address, port, user, jump
hosts) or is given another value, is refused with 225; its credentials, host keys and limits may
change.

{EXIT_CODES_HELP}

Examples:
  remote-command run -f host.yaml restart.yaml
  remote-command run --new-run -q -f backup.yaml > backup.tar
  remote-command run --parallel 8 --only-unfinished -f fleet.yaml
  generate | remote-command run -f - --report result.json
  remote-command run --local -f try-it-here.yaml"
    )
}
