//! What a launch is given: the plan's words with the values fetched for it.

use zeroize::Zeroizing;

use super::Material;
use crate::core::action::Kind;
use crate::core::plan::{Plan, Value};
use crate::shim::wire::Inputs;

/// Puts the plan and the fetched values together. Values of the plan that are literal need
/// not be fetched; fetched ones win.
///
/// # Errors
/// What is missing or cannot be handed to a process, for people: nothing was sent.
pub(super) fn inputs(
    plan: &Plan,
    kind: Kind,
    material: Option<Material>,
) -> Result<Inputs, String> {
    let Material { mut env, stdin } = material.unwrap_or_default();
    let program = &plan.program;
    for (name, value) in &program.env {
        if env.iter().any(|(fetched, _)| fetched == name) {
            continue;
        }
        let Value::Literal(text) = value else {
            return Err(format!("no value was fetched for {name}"));
        };
        env.push((name.clone(), Zeroizing::new(text.clone().into_bytes())));
    }
    let (argv, script, stdin, deadline) = match (kind, &plan.verify) {
        (Kind::Verify, Some(verify)) => (&verify.command, None, None, verify.timeout),
        (Kind::Verify, None) => return Err("there is no check to run".into()),
        (Kind::Command, _) => {
            let stdin = match (stdin, &program.stdin) {
                (Some(fetched), _) => Some(fetched),
                (None, Some(Value::Literal(text))) => {
                    Some(Zeroizing::new(text.clone().into_bytes()))
                }
                (None, None) => None,
                (None, Some(_)) => return Err("no value was fetched for stdin".into()),
            };
            (&program.argv, program.script.as_ref(), stdin, plan.limits.execution)
        }
    };
    let inputs = Inputs {
        argv: argv.iter().map(|word| word.clone().into_bytes()).collect(),
        env,
        working_directory: program.working_directory.clone().unwrap_or_default().into_bytes(),
        script: script.map(|text| text.clone().into_bytes()),
        stdin,
        output_limit: program.output_limit,
        deadline,
        grace: plan.limits.termination,
    };
    carried(&inputs)?;
    Ok(inputs)
}

/// A process cannot be given a NUL, nor a variable by a name that is none.
fn carried(inputs: &Inputs) -> Result<(), String> {
    if inputs.argv.is_empty() {
        return Err("there is no command".into());
    }
    if inputs.argv.iter().any(|word| word.contains(&0)) {
        return Err("an argument holds a NUL byte".into());
    }
    if inputs.working_directory.contains(&0) {
        return Err("the working directory holds a NUL byte".into());
    }
    for (name, value) in &inputs.env {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let fits = name.chars().all(|c| letter(c) || c.is_ascii_digit());
        if !fits || !name.starts_with(letter) {
            return Err(format!("{name:?} cannot name a variable"));
        }
        if value.contains(&0) {
            return Err(format!("the value of {name} holds a NUL byte"));
        }
    }
    Ok(())
}
