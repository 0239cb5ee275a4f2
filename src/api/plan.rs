//! From a spec to a plan, and to what is asked for now.
//!
//! Every rule of the contract that keeps a promise is checked here too, not only what the API
//! server cannot see: `remote-command run` has no API server.

use kube::ResourceExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::command::{
    Direct, DirectShell, Execution, Idempotency, RemoteCommand, RemoteCommandSpec,
    ResolutionVerdict, RunPolicy, Verify,
};
use super::duration::Duration;
use super::host::{HostRef, RemoteHostSpec};
use super::invalid::{self, InvalidSpec, duration, rule};
use super::limits::Timeouts;
use super::pace;
use super::sentences;
use super::value::{EnvVar, Stdin, ValueSource};
use crate::core::plan;

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place<'a> {
    /// A RemoteHost of the namespace.
    Named(&'a str),
    /// A machine described in place.
    Inline(&'a RemoteHostSpec),
}

impl Place<'_> {
    /// The host's name as users know it.
    pub fn name(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Inline(host) => &host.address,
        }
    }
}

/// Where this command runs.
///
/// # Errors
/// When the spec names no place, or two.
pub fn place(spec: &RemoteCommandSpec) -> Result<Place<'_>, InvalidSpec> {
    match (&spec.host_ref, &spec.host) {
        (Some(named), None) => Ok(Place::Named(&named.name)),
        (None, Some(host)) => Ok(Place::Inline(host)),
        (Some(_), Some(_)) | (None, None) => Err(InvalidSpec::Rule(sentences::ONE_HOST)),
    }
}

/// The plan of a command: complete, with all defaults applied.
///
/// # Errors
/// What cannot be carried out, as a sentence that says what to write.
pub fn plan(command: &RemoteCommand) -> Result<plan::Plan, InvalidSpec> {
    let spec = &command.spec;
    fits_together(spec)?;
    Ok(plan::Plan {
        uid: command
            .uid()
            .filter(|uid| !uid.is_empty())
            .ok_or(InvalidSpec::Rule("metadata.uid is required"))?,
        host: place(spec)?.name().to_owned(),
        idempotency: match spec.idempotency {
            Idempotency::NonIdempotent => plan::Idempotency::NonIdempotent,
            Idempotency::Idempotent => plan::Idempotency::Idempotent,
            Idempotency::Verifiable => plan::Idempotency::Verifiable,
        },
        execution: execution(spec)?,
        verify: spec.verify.as_ref().map(verify).transpose()?,
        limits: limits(spec)?,
        retry: retry(spec)?,
        success_exit_codes: spec.success_exit_codes.clone(),
        program: program(spec)?,
    })
}

fn fits_together(spec: &RemoteCommandSpec) -> Result<(), InvalidSpec> {
    let verifiable = spec.idempotency == Idempotency::Verifiable;
    let repeatable = spec.idempotency != Idempotency::NonIdempotent;
    let direct = spec.execution == Execution::Direct;
    let codes = spec.retry.exit_codes.as_deref().unwrap_or_default();
    let script = has_script(spec);
    rule(spec.interpreter.is_none() || script, sentences::INTERPRETER_NEEDS_SCRIPT)?;
    rule(spec.verify.is_some() == verifiable, sentences::VERIFY_WITH_VERIFIABLE)?;
    rule(direct || spec.direct.is_none(), sentences::DIRECT_WITH_DIRECT)?;
    rule(!spec.retry.may_overlap || (direct && repeatable), sentences::OVERLAP)?;
    rule(repeatable || codes.is_empty(), sentences::NO_REPEAT)?;
    let both = codes.iter().any(|code| spec.success_exit_codes.contains(code));
    rule(!both, sentences::EXIT_CODES_DISJOINT)
}

fn has_script(spec: &RemoteCommandSpec) -> bool {
    spec.script.is_some() || spec.script_from.is_some()
}

fn execution(spec: &RemoteCommandSpec) -> Result<plan::Execution, InvalidSpec> {
    if spec.execution == Execution::Recorded {
        return Ok(plan::Execution::Recorded);
    }
    let Direct { shell, forced_command } = spec.direct.clone().unwrap_or_default();
    let no_shell = shell == DirectShell::None;
    // The line that carries the values keeps its own in variables of such names.
    let reserved = |variable: &EnvVar| variable.name.starts_with("rcmd_");
    let names = spec.env.as_deref().unwrap_or_default();
    rule(!names.iter().any(reserved), sentences::RESERVED_NAME)?;
    let words = spec.command.as_deref().unwrap_or_default();
    let others = [spec.interpreter.as_deref(), spec.verify.as_ref().map(|v| v.command.as_slice())];
    let mut programs = [Some(words)].into_iter().chain(others).flatten().filter_map(<[_]>::first);
    rule(!programs.any(|program| program.starts_with('-')), sentences::DIRECT_PROGRAM)?;
    if forced_command {
        let environment = has_script(spec)
            || spec.env.is_some()
            || spec.working_directory.is_some()
            || spec.run_as.is_some();
        rule(!environment, sentences::FORCED_COMMAND)?;
        rule(spec.idempotency != Idempotency::Verifiable, sentences::FORCED_CHECK)?;
        invalid::bare_words("spec.command", words)?;
    }
    if no_shell {
        let environment = has_script(spec)
            || spec.env.is_some()
            || spec.stdin.is_some()
            || spec.working_directory.is_some()
            || spec.run_as.is_some();
        rule(!environment, sentences::NO_SHELL)?;
        invalid::bare_words("spec.command", words)?;
        if let Some(verify) = &spec.verify {
            invalid::bare_words("spec.verify.command", &verify.command)?;
        }
    }
    let may_overlap = spec.retry.may_overlap;
    Ok(plan::Execution::Direct(plan::Direct { no_shell, forced_command, may_overlap }))
}

fn verify(verify: &Verify) -> Result<plan::Verify, InvalidSpec> {
    invalid::words("spec.verify.command", &verify.command)?;
    let timeout = duration("spec.verify.timeout", &verify.timeout)?;
    Ok(plan::Verify { command: verify.command.clone(), timeout })
}

fn limits(spec: &RemoteCommandSpec) -> Result<plan::Limits, InvalidSpec> {
    let timeouts = &spec.timeouts;
    let idle = timeouts.idle.as_ref();
    Ok(plan::Limits {
        queue: duration("spec.timeouts.queue", &timeouts.queue)?,
        execution: duration("spec.timeouts.execution", &timeouts.execution)?,
        idle: idle.map(|idle| duration("spec.timeouts.idle", idle)).transpose()?,
        termination: duration("spec.timeouts.termination", &timeouts.termination)?,
        resolve: duration("spec.timeouts.resolve", &timeouts.resolve)?,
        cleanup: duration("spec.timeouts.cleanup", &timeouts.cleanup)?,
    })
}

/// The limits of a spec that may have others that cannot be read: those have their defaults.
pub fn limits_where_valid(spec: &RemoteCommandSpec) -> plan::Limits {
    let (written, usual) = (&spec.timeouts, Timeouts::default());
    let either = |written: &Duration, usual: &Duration| {
        // A default is always valid.
        written.get().or_else(|_| usual.get()).unwrap_or_default()
    };
    plan::Limits {
        queue: either(&written.queue, &usual.queue),
        execution: either(&written.execution, &usual.execution),
        idle: written.idle.as_ref().and_then(|idle| idle.get().ok()),
        termination: either(&written.termination, &usual.termination),
        resolve: either(&written.resolve, &usual.resolve),
        cleanup: either(&written.cleanup, &usual.cleanup),
    }
}

fn retry(spec: &RemoteCommandSpec) -> Result<plan::Retry, InvalidSpec> {
    let backoff = &spec.retry.backoff;
    let initial = pace::backoff("spec.retry.backoff.initial", &backoff.initial)?;
    let max = pace::backoff("spec.retry.backoff.max", &backoff.max)?;
    rule(initial <= max, sentences::BACKOFF_ORDER)?;
    Ok(plan::Retry {
        limit: invalid::number("spec.retry.limit", spec.retry.limit, 0..=1000)?,
        initial,
        max,
        exit_codes: spec.retry.exit_codes.clone().unwrap_or_default(),
    })
}

fn program(spec: &RemoteCommandSpec) -> Result<plan::Program, InvalidSpec> {
    let (argv, script) = match (&spec.command, &spec.script, &spec.script_from) {
        (Some(command), None, None) => {
            invalid::words("spec.command", command)?;
            (command.clone(), None)
        }
        (None, Some(script), None) => {
            invalid::text("spec.script", script, "spec.scriptFrom")?;
            invalid::no_nul("spec.script", script)?;
            let text = plan::Value::Literal(script.clone());
            (interpreter(spec)?, Some(text))
        }
        (None, None, Some(source)) => (interpreter(spec)?, Some(named(source)?)),
        _ => return Err(InvalidSpec::Rule(sentences::ONE_PROGRAM)),
    };
    if let Some(directory) = &spec.working_directory {
        invalid::no_nul("spec.workingDirectory", directory)?;
        rule(directory.starts_with('/'), sentences::WORKING_DIRECTORY)?;
    }
    if let Some(user) = &spec.run_as {
        let odd = |c: char| c.is_whitespace() || ":/\0".contains(c);
        rule(
            !user.is_empty() && !user.starts_with(['-', '#']) && !user.contains(odd),
            sentences::RUN_AS,
        )?;
    }
    Ok(plan::Program {
        argv,
        script,
        env: variables(spec.env.as_deref().unwrap_or_default())?,
        stdin: spec.stdin.as_ref().map(stdin).transpose()?,
        working_directory: spec.working_directory.clone(),
        run_as: spec.run_as.clone(),
        output_limit: spec.output.size_limit.bytes()?,
    })
}

/// None where the script itself is to say: that is asked at launch only, so that what it says
/// never counts for an attempt that is under way.
fn interpreter(spec: &RemoteCommandSpec) -> Result<Vec<String>, InvalidSpec> {
    let words = spec.interpreter.as_deref().unwrap_or_default();
    if spec.interpreter.is_some() {
        invalid::words("spec.interpreter", words)?;
    }
    Ok(words.to_vec())
}

fn variables(env: &[EnvVar]) -> Result<Vec<(String, plan::Value)>, InvalidSpec> {
    let mut variables = Vec::with_capacity(env.len());
    for (number, variable) in env.iter().enumerate() {
        let written = variable.value.as_deref().unwrap_or_default();
        invalid::variable(number, &variable.name, written)?;
        let value = value(variable.value.as_ref(), variable.value_from.as_ref())?;
        variables.push((variable.name.clone(), value));
    }
    Ok(variables)
}

fn stdin(stdin: &Stdin) -> Result<plan::Value, InvalidSpec> {
    let written = stdin.value.as_deref().unwrap_or_default();
    invalid::text("spec.stdin", written, "spec.stdin.valueFrom")?;
    value(stdin.value.as_ref(), stdin.value_from.as_ref())
}

fn value(written: Option<&String>, from: Option<&ValueSource>) -> Result<plan::Value, InvalidSpec> {
    match (written, from) {
        (Some(text), None) => Ok(plan::Value::Literal(text.clone())),
        (None, Some(source)) => named(source),
        (Some(_), Some(_)) | (None, None) => Err(InvalidSpec::Rule(sentences::ONE_VALUE)),
    }
}

fn named(source: &ValueSource) -> Result<plan::Value, InvalidSpec> {
    match (source.secret_key_ref.clone(), source.config_map_key_ref.clone()) {
        (Some(at), None) => Ok(plan::Value::SecretKey { name: at.name, key: at.key }),
        (None, Some(at)) => Ok(plan::Value::ConfigMapKey { name: at.name, key: at.key }),
        (Some(_), Some(_)) | (None, None) => Err(InvalidSpec::Rule(sentences::ONE_SOURCE)),
    }
}

/// What the user wants now. `hold`, `connection` and `poke` are the caller's to fill in.
pub fn asked(command: &RemoteCommand) -> plan::Asked {
    let spec = &command.spec;
    plan::Asked {
        rerun_token: spec.rerun_token.clone().unwrap_or_default(),
        frozen_digest: frozen_digest(spec),
        on_change: spec.run_policy == RunPolicy::OnChange,
        suspend: spec.suspend.unwrap_or_default(),
        cancel: spec.cancel.unwrap_or_default(),
        delete: command.metadata.deletion_timestamp.is_some(),
        resolution: spec.resolution.as_ref().map(|word| plan::Resolution {
            run: word.run,
            attempt: word.attempt,
            verdict: match word.verdict {
                ResolutionVerdict::Succeeded => plan::Verdict::Succeeded,
                ResolutionVerdict::Failed => plan::Verdict::Failed,
                ResolutionVerdict::Retry => plan::Verdict::Retry,
            },
        }),
        ..plan::Asked::default()
    }
}

/// The same digest as in [`asked`] without an inline host: for who compares by other means where
/// it leads, because its keys, credentials and limits may be mended.
pub fn digest_without_host(spec: &RemoteCommandSpec) -> String {
    let spec = RemoteCommandSpec { host: None, ..spec.clone() };
    frozen_digest(&spec)
}

/// The fields whose change under OnChange is a new run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Frozen<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host_ref: &'a Option<HostRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: &'a Option<RemoteHostSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_from: &'a Option<ValueSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interpreter: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: &'a Option<Vec<EnvVar>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdin: &'a Option<Stdin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as: &'a Option<String>,
    execution: Execution,
    #[serde(skip_serializing_if = "Option::is_none")]
    direct: &'a Option<Direct>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: &'a Option<Verify>,
    success_exit_codes: &'a [i32],
}

/// SHA-256 over the frozen fields, in lower-case hex.
///
/// It is kept in the stage. A field that a later version adds must be left out of it while it
/// has its default, or an upgrade would start every OnChange command again.
fn frozen_digest(spec: &RemoteCommandSpec) -> String {
    let frozen = Frozen {
        host_ref: &spec.host_ref,
        host: &spec.host,
        command: &spec.command,
        script: &spec.script,
        script_from: &spec.script_from,
        interpreter: &spec.interpreter,
        env: &spec.env,
        stdin: &spec.stdin,
        working_directory: &spec.working_directory,
        run_as: &spec.run_as,
        execution: spec.execution,
        direct: &spec.direct,
        verify: &spec.verify,
        success_exit_codes: &spec.success_exit_codes,
    };
    // Serialising to memory fails for maps with odd keys only; there is none.
    let text = serde_json::to_vec(&frozen).unwrap_or_default();
    Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
