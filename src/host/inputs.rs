//! What a launch is given: the plan's words with the values fetched for it.

use zeroize::Zeroizing;

use super::Material;
use crate::core::action::Kind;
use crate::core::plan::{Plan, Program, Value};
use crate::shim::wire::Inputs;

/// What is missing of a launch, or cannot be handed to a process. Nothing was sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotCarried {
    #[error("there is no command")]
    NoCommand,
    #[error("there is no check to run")]
    NoCheck,
    #[error("the script is not at hand")]
    NoScript,
    #[error("no value was fetched for {0}")]
    NotFetched(String),
    #[error("an argument holds a NUL byte")]
    NulInArgument,
    #[error("the working directory holds a NUL byte")]
    NulInDirectory,
    #[error("{0:?} cannot name a variable")]
    NoName(String),
    #[error("the value of {0} holds a NUL byte")]
    NulInValue(String),
}

/// Puts the plan's words and the fetched values together: those of all variables and of stdin,
/// literal or not, and of a script what the plan does not hold.
///
/// # Errors
/// [`NotCarried`].
pub(super) fn inputs(
    plan: &Plan,
    kind: Kind,
    material: Option<Material>,
) -> Result<Inputs, NotCarried> {
    let Material { env, stdin, script, interpreter } = material.unwrap_or_default();
    let program = &plan.program;
    for (name, _) in &program.env {
        if !env.iter().any(|(fetched, _)| fetched == name) {
            return Err(NotCarried::NotFetched(name.clone()));
        }
    }
    if program.stdin.is_some() && stdin.is_none() {
        return Err(NotCarried::NotFetched("stdin".to_owned()));
    }
    let (argv, script, stdin, deadline) = match (kind, &plan.verify) {
        (Kind::Verify, Some(verify)) => (verify.command.as_slice(), None, None, verify.timeout),
        (Kind::Verify, None) => return Err(NotCarried::NoCheck),
        (Kind::Command, _) => {
            let script = script_of(program, script)?;
            (words(program, &interpreter), script, stdin, plan.limits.execution)
        }
    };
    let inputs = Inputs {
        argv: argv.iter().map(|word| word.clone().into_bytes()).collect(),
        env,
        working_directory: program.working_directory.clone().unwrap_or_default().into_bytes(),
        script,
        stdin,
        output_limit: program.output_limit,
        deadline,
        grace: plan.limits.termination,
    };
    carried(&inputs)?;
    Ok(inputs)
}

/// The program's words: its own, or what its script chose.
pub(super) fn words<'a>(program: &'a Program, interpreter: &'a [String]) -> &'a [String] {
    if program.argv.is_empty() { interpreter } else { &program.argv }
}

/// The script, where there is to be one: the plan's own text, or what was fetched.
pub(super) fn script_of(
    program: &Program,
    fetched: Option<Zeroizing<Vec<u8>>>,
) -> Result<Option<Zeroizing<Vec<u8>>>, NotCarried> {
    match &program.script {
        None => Ok(None),
        Some(Value::Literal(text)) => Ok(Some(Zeroizing::new(text.clone().into_bytes()))),
        Some(Value::SecretKey { .. } | Value::ConfigMapKey { .. }) => {
            Ok(Some(fetched.ok_or(NotCarried::NoScript)?))
        }
    }
}

/// A process cannot be given a NUL, nor a variable by a name that is none.
fn carried(inputs: &Inputs) -> Result<(), NotCarried> {
    if inputs.argv.is_empty() {
        return Err(NotCarried::NoCommand);
    }
    if inputs.argv.iter().any(|word| word.contains(&0)) {
        return Err(NotCarried::NulInArgument);
    }
    if inputs.working_directory.contains(&0) {
        return Err(NotCarried::NulInDirectory);
    }
    for (name, value) in &inputs.env {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let fits = name.chars().all(|c| letter(c) || c.is_ascii_digit());
        if !fits || !name.starts_with(letter) {
            return Err(NotCarried::NoName(name.clone()));
        }
        if value.contains(&0) {
            return Err(NotCarried::NulInValue(name.clone()));
        }
    }
    Ok(())
}
