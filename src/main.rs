//! The command line's way in: parse, start logging, dispatch, exit.

use std::process;

use anyhow::Context;
use clap::Parser;
use remote_command::cli::{self, Cli, Command, ExitCode};
use remote_command::{operator, run};
use tokio::runtime;

fn main() -> process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return cli::answer(&answer).into(),
    };
    cli::start_logging(&cli.log, cli.command.log_directives());
    match dispatch(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            run::progress::say(&format!("{error:#}"));
            ExitCode::Trouble.into()
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = carry_out(cli, &runtime);
    // A name that is being looked up cannot be called off, and nobody waits for it.
    runtime.shutdown_background();
    done
}

fn carry_out(cli: Cli, runtime: &runtime::Runtime) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Completion { shell } => {
            cli::complete(shell, &mut std::io::stdout()).context("writing the script")?;
        }
        Command::Crds { output_dir } => {
            cli::write_definitions(output_dir.as_deref(), &mut std::io::stdout())
                .context("writing the definitions")?;
        }
        Command::Operator(config) => {
            if let Err(unsound) = config.check() {
                return Ok(cli::refuse(&unsound));
            }
            runtime.block_on(operator::run(config))?;
        }
        Command::Run(args) => return Ok(runtime.block_on(run::run(args))),
    }
    Ok(ExitCode::Own(0))
}
