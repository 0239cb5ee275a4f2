//! `remote-command run`: the same step as the operator's, without a cluster.
//!
//! Documents of files take the place of objects, and a file per command that of its status.
//! Not here: what is decided and how hosts are spoken to; both are the operator's too.

pub mod args;
pub mod documents;
pub mod drive;
mod ending;
pub mod exit;
pub mod interrupt;
pub mod job;
mod origin;
pub mod output;
pub mod place;
pub mod progress;
pub mod reach;
pub mod report;
pub mod schema;
pub mod store;
mod tally;
pub mod yaml;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::follow::{Destination, Prefixes};
use crate::host::hosts::Hosts;
use crate::output::mark::Marks;
use crate::output::standard::{Kept, standard_streams};
use crate::output::writer::Writer;
use crate::reach::Ways;

use args::{RunArgs, RunOutput};
use documents::{Documents, Namespace};
use drive::Drive;
use exit::ExitCode;
use interrupt::Wanted;
use job::{Again, Job, Manner, Refused};
use output::Output;
use place::Place;
use progress::{Progress, say};
use reach::{Machines, this_machine};
use report::{CommandReport, Report};
use store::StoreError;

/// How long ending the connections may take.
const FAREWELL: Duration = Duration::from_secs(2);

const NO_REPORT: &str = "cannot write the report";

/// Why nothing was run, or not everything told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(
        "there is no directory for the state: set HOME or XDG_STATE_HOME, or --state-directory"
    )]
    NoStateDirectory,
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
}

impl RunError {
    /// The causes, the innermost last: the outer ones name what the inner ones are about.
    fn cause(&self) -> Option<String> {
        let causes = std::iter::successors(self.source(), |&cause| cause.source());
        let causes: Vec<_> = causes.map(ToString::to_string).collect();
        (!causes.is_empty()).then(|| causes.join(": "))
    }

    /// The exit code this is told with.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Refused(Refused::BadInput(_)) => ExitCode::BadInput,
            Self::Refused(Refused::Store(_, StoreError::Busy(_))) => ExitCode::Busy,
            Self::Refused(Refused::Store(..)) | Self::NoStateDirectory | Self::Io(..) => {
                ExitCode::Trouble
            }
        }
    }
}

/// Runs every RemoteCommand of the files, and tells on stderr why not.
pub async fn run(args: RunArgs) -> ExitCode {
    match try_run(args).await {
        Ok(code) => code,
        Err(error) => {
            for line in error.to_string().lines() {
                say(line);
            }
            if let Some(cause) = error.cause() {
                say(&format!("because: {cause}"));
            }
            error.exit_code()
        }
    }
}

/// Everything that can be wrong with files and state is told before anything is started.
async fn try_run(args: RunArgs) -> Result<ExitCode, RunError> {
    let files = args.files.iter().map(AsRef::as_ref);
    let documents = Arc::new(Documents::read(files).map_err(Refused::from)?);
    // Not before: reading from a pipe may wait for ever, and must end with Ctrl-C.
    let wanted = interrupt::listen(args.detach_on_interrupt)
        .map_err(|error| RunError::Io("cannot listen to signals", error))?;
    let default = || store::default_directory().ok_or(RunError::NoStateDirectory);
    let directory = args.state_directory.clone().map_or_else(default, Ok)?;
    let again = Again { new_run: args.new_run, only_unfinished: args.only_unfinished };
    let manner = Manner { state_directory: &directory, again, local: args.local };
    let mut jobs = Vec::new();
    for written in documents.commands() {
        jobs.push(Job::prepare(&documents, written, manner).await?);
    }
    let place = args.report.as_deref().map(Place::take).transpose();
    let place = place.map_err(|error| RunError::Io(NO_REPORT, error))?;
    let destination = destination(&args, &directory)
        .map_err(|error| RunError::Io("cannot prepare the output", error))?;
    let hosts = Arc::new(Hosts::new());
    let common =
        Common { documents, hosts: Arc::clone(&hosts), destination, wanted, quiet: args.quiet };
    let names = names(&jobs);
    let prefixed = Prefixed::new(&args, jobs.len());
    let drives = jobs.into_iter().zip(&names).map(|(job, name)| common.drive(job, name, prefixed));
    let reports = at_once(drives.collect(), usize::from(args.parallel)).await;
    // Connections that do not end in order end with this process.
    let _ = timeout(FAREWELL, hosts.shutdown()).await;
    let reports: Vec<_> = names.into_iter().zip(reports).collect();
    if reports.len() > 1 && !args.quiet {
        tally::lines(&reports).iter().for_each(|line| say(line));
    }
    tell(args.output, place, reports.into_iter().map(|(_, report)| report).collect())
        .map_err(|error| RunError::Io(NO_REPORT, error))
}

/// Drives so many commands at a time, and gives their reports in file order. The next one begins
/// as soon as any of them ends: `buffered` counts those whose report waits for an earlier one's
/// as if they still ran, so that a long first command would keep all others waiting.
async fn at_once(drives: Vec<Drive>, most: usize) -> Vec<CommandReport> {
    let numbered = stream::iter(drives.into_iter().enumerate());
    let driven = numbered.map(async |(number, drive)| (number, drive.to_the_end().await));
    let mut reports: Vec<_> = driven.buffer_unordered(most).collect().await;
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// What all commands of one `run` share.
struct Common {
    documents: Arc<Documents>,
    hosts: Arc<Hosts>,
    destination: Destination,
    wanted: watch::Receiver<Wanted>,
    quiet: bool,
}

impl Common {
    fn drive(&self, job: Job, name: &str, prefixed: Prefixed) -> Drive {
        let (namespace, _) = job.key.clone();
        let lookup = Arc::new(Namespace::new(Arc::clone(&self.documents), &namespace));
        Drive {
            output: Output::new(prefixed.apply(self.destination.clone(), name), job.tail_bytes),
            machines: Arc::new(Machines {
                ways: Ways::new(Arc::clone(&self.hosts), &namespace, lookup),
                local: this_machine(),
                now: job.asked.connection.clone(),
            }),
            job,
            progress: Progress::new(name, self.quiet),
            wanted: self.wanted.clone(),
        }
    }
}

fn destination(args: &RunArgs, directory: &Path) -> io::Result<Destination> {
    if args.output == RunOutput::Json {
        return Ok(Destination::Nowhere);
    }
    let (stdout, stderr) = standard_streams()?;
    let marks = Marks::open(&directory.join("@output"))?;
    let kept = Kept::by(&stdout, &stderr);
    let (writer, marks) = (Writer::start(stdout, stderr)?, Some(marks));
    Ok(Destination::Plain { writer, marks, kept, prefixes: Prefixes::default() })
}

/// What the commands go by: their names, with their namespaces where names alone are not enough.
fn names(jobs: &[Job]) -> Vec<String> {
    let is_alone = |name: &String| jobs.iter().filter(|job| job.key.1 == *name).count() == 1;
    let shown = |Job { key: (namespace, name), .. }: &Job| {
        if is_alone(name) { name.clone() } else { format!("{namespace}/{name}") }
    };
    jobs.iter().map(shown).collect()
}

/// Whose lines begin with the command's name. A file gets the output as it is unless asked for
/// otherwise.
#[derive(Clone, Copy, Debug)]
struct Prefixed {
    stdout: bool,
    stderr: bool,
}

impl Prefixed {
    fn new(args: &RunArgs, commands: usize) -> Self {
        let mixed = commands > 1 && args.parallel > 1;
        Self {
            stdout: args.prefix || mixed && io::stdout().is_terminal(),
            stderr: args.prefix || mixed && io::stderr().is_terminal(),
        }
    }

    fn apply(self, destination: Destination, name: &str) -> Destination {
        let prefix = |wanted: bool| wanted.then(|| Arc::from(format!("{name} | ")));
        match destination {
            Destination::Plain { writer, marks, kept, .. } => {
                let prefixes =
                    Prefixes { stdout: prefix(self.stdout), stderr: prefix(self.stderr) };
                Destination::Plain { writer, marks, kept, prefixes }
            }
            Destination::Nowhere | Destination::Log { .. } => destination,
        }
    }
}

/// Writes the report where it is wanted, and gives the exit code of all.
fn tell(
    output: RunOutput,
    place: Option<Place>,
    commands: Vec<CommandReport>,
) -> io::Result<ExitCode> {
    let code = commands.iter().map(|command| command.code).find(|code| *code != 0);
    let report = Report { code: code.unwrap_or_default(), commands };
    let mut text = serde_json::to_vec_pretty(&report)?;
    text.push(b'\n');
    if let Some(place) = place {
        place.write(&text)?;
    }
    if output == RunOutput::Json {
        io::stdout().write_all(&text)?;
    }
    Ok(ExitCode::Own(report.code))
}
