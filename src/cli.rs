//! The command line: what can be typed, and what an exit code means.
//!
//! Only words and their meaning; what the subcommands do, and which options they have, lives in
//! `operator` and `run`, which know nothing of it.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::api::crd;
use crate::log::{self, LogFormat};
use crate::operator;
use crate::run::args::{self, RunArgs};

pub use crate::run::exit::ExitCode;

/// Crate version and the API version it speaks.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (API remotecommand.dev/v1alpha1)");

/// Runs commands on other machines over SSH and tells the truth about what happened.
#[derive(Debug, Parser)]
#[command(name = "remote-command", version = VERSION, max_term_width = 100, after_help = TOP_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

const TOP_HELP: &str = "\
Installed as kubectl-remote_command, the same program is `kubectl remote-command`.

Examples:
  remote-command run -f host.yaml -f restart.yaml     Run without a cluster
  remote-command crds | kubectl apply -f -            Install the two resource types
  remote-command operator                             Run the operator";

/// The subcommands.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one value of it in a process")]
pub enum Command {
    /// Run the operator: carry out RemoteCommand objects of a cluster
    #[command(after_help = OPERATOR_HELP)]
    Operator(operator::Config),
    /// Run the RemoteCommands of files, without a cluster
    #[command(after_help = args::help())]
    Run(RunArgs),
    /// Print the custom resource definitions as YAML
    #[command(after_help = "Examples:\n  remote-command crds | kubectl apply --server-side -f -")]
    Crds {
        /// Write one file per definition into this directory instead
        #[arg(long, value_name = "DIRECTORY")]
        output_dir: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    #[command(after_help = COMPLETION_HELP)]
    Completion {
        /// The shell that is to read the script
        shell: Shell,
    },
}

impl Command {
    /// What is logged unless asked for otherwise: `run` tells its progress by other means. The SSH
    /// library would log what servers send, as much as they like.
    pub fn log_directives(&self) -> &'static str {
        match self {
            Self::Operator(_) => "info,kube=warn,kube_client::client=off,russh=off",
            Self::Run(_) | Self::Crds { .. } | Self::Completion { .. } => "error,russh=off",
        }
    }
}

const OPERATOR_HELP: &str = "\
Every line of output of a command is one JSON object on stdout, with kind \"output\". The
operator's own log goes to stderr.

Examples:
  remote-command operator                             In a pod, or with KUBECONFIG
  remote-command operator --namespace team-a          Only this namespace
  remote-command --log-format json operator";

const COMPLETION_HELP: &str = "\
Examples:
  source <(remote-command completion bash)
  remote-command completion zsh > ~/.zfunc/_remote-command
  remote-command completion fish > ~/.config/fish/completions/remote-command.fish";

/// How the program speaks about itself, on stderr.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// What to log on stderr, as directives of the `tracing` library
    #[arg(long, env = "REMOTE_COMMAND_LOG", value_name = "DIRECTIVES", global = true)]
    pub log: Option<String>,
    /// Shape of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

/// Prints what clap has to say (help, version or a mistake) and tells the exit code for it.
pub fn answer(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a terminal that is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::BadInput } else { ExitCode::Own(0) }
}

/// Prints why the command line is wrong although each option is right, and tells the exit code.
pub fn refuse(why: &dyn std::error::Error) -> ExitCode {
    answer(&Cli::command().error(clap::error::ErrorKind::ArgumentConflict, why))
}

/// Writes the completion script of `shell`.
///
/// # Errors
/// When it cannot be written.
pub fn complete(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), called_as(), &mut script);
    out.write_all(&script)?;
    out.flush()
}

/// Writes the definitions: to `out` as one stream of documents, or one file each into
/// `directory`.
///
/// # Errors
/// When they cannot be written.
pub fn write_definitions(directory: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    for definition in crd::all() {
        let text = crd::yaml(&definition).map_err(io::Error::other)?;
        match directory {
            Some(directory) => {
                fs::create_dir_all(directory)?;
                fs::write(directory.join(crd::file_name(&definition)), text)?;
            }
            None => out.write_all(text.as_bytes())?,
        }
    }
    out.flush()
}

/// The name the shell knows us by; kubectl finds its plugins as `kubectl-NAME`.
fn called_as() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    let stem = Path::new(&name).file_name().and_then(OsStr::to_str);
    stem.unwrap_or("remote-command").to_owned()
}

/// Sends the program's own log to stderr.
pub fn start_logging(args: &LogArgs, default: &str) {
    log::start(args.log_format, args.log.as_deref().unwrap_or(default));
}
