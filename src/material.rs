//! The values that a launch is given, read by name at the moment of use, and whether a process can
//! be given them. Not here: what a missing one means for the run.

use zeroize::Zeroizing;

use crate::core::interpreter::{Misread, interpreter};
use crate::core::plan::{Execution, Plan, SCRIPT_BYTES, TEXT_BYTES, Value, WORD_BYTES};
use crate::host::{Lookup, LookupError, Material, SecretValues};

/// Why the values that a launch needs are not at hand.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// No environment can hold it; named by where it comes from.
    #[error("{0}")]
    Unusable(String),
    /// The script, named by where it comes from, cannot be run.
    #[error("{0} cannot be run as a script: {1}")]
    Script(String, UnusableScript),
}

/// Why a text is no script that can be run.
#[derive(Debug, thiserror::Error)]
pub enum UnusableScript {
    #[error("it is empty")]
    Empty,
    #[error("it holds a NUL byte, which no script can have")]
    Nul,
    #[error("it has {0} bytes; a script has at most {SCRIPT_BYTES}")]
    Long(usize),
    #[error("it has {0} bytes; with spec.execution Direct a script has at most {TEXT_BYTES}")]
    LongForDirect(usize),
    #[error(transparent)]
    Misread(#[from] Misread),
}

/// Fetches the values that a launch of the plan needs.
///
/// # Errors
/// The first that is missing or unusable, or a source that could not be asked.
pub async fn material(plan: &Plan, lookup: &dyn Lookup) -> Result<Material, Unfit> {
    let program = &plan.program;
    let mut env = Vec::with_capacity(program.env.len());
    for (name, value) in &program.env {
        let bytes = fetch(value, lookup).await?;
        fits(name, value, &bytes)?;
        env.push((name.clone(), bytes));
    }
    let stdin = match &program.stdin {
        Some(value) => Some(fetch(value, lookup).await?),
        None => None,
    };
    let mut material = Material { env, stdin, ..Material::default() };
    if let Some(value) = &program.script {
        let script = fetch_text(value, lookup).await?;
        let unfit = |why| Unfit::Script(source(value, "spec.script"), why);
        is_script(plan, &script).map_err(unfit)?;
        if program.argv.is_empty() {
            material.interpreter = interpreter(&script).map_err(|why| unfit(why.into()))?;
        }
        material.script = (!matches!(value, Value::Literal(_))).then_some(script);
    }
    Ok(material)
}

/// Whether a variable can have this value: the kernel takes `NAME=value` as one word.
fn fits(name: &str, value: &Value, bytes: &[u8]) -> Result<(), Unfit> {
    let source = source(value, "its value");
    let length = name.len().saturating_add(1).saturating_add(bytes.len());
    let flaw = if bytes.contains(&0) {
        "holds a NUL byte, which no variable can have".to_owned()
    } else if length > WORD_BYTES {
        format!("makes {length} bytes; a variable has at most {WORD_BYTES}")
    } else {
        return Ok(());
    };
    Err(Unfit::Unusable(format!("variable {name} cannot be set: {source} {flaw}")))
}

fn is_script(plan: &Plan, text: &[u8]) -> Result<(), UnusableScript> {
    let direct = matches!(plan.execution, Execution::Direct(_));
    match text.len() {
        0 => Err(UnusableScript::Empty),
        bytes if bytes > SCRIPT_BYTES => Err(UnusableScript::Long(bytes)),
        bytes if direct && bytes > TEXT_BYTES => Err(UnusableScript::LongForDirect(bytes)),
        _ if text.contains(&0) => Err(UnusableScript::Nul),
        _ => Ok(()),
    }
}

/// Where a value comes from, for people.
fn source(value: &Value, literal: &str) -> String {
    match value {
        Value::Literal(_) => literal.to_owned(),
        Value::SecretKey { name, key } => format!("key {key:?} of secret {name:?}"),
        Value::ConfigMapKey { name, key } => format!("key {key:?} of config map {name:?}"),
    }
}

async fn fetch(value: &Value, lookup: &dyn Lookup) -> Result<Zeroizing<Vec<u8>>, LookupError> {
    match value {
        Value::Literal(text) => Ok(Zeroizing::new(text.clone().into_bytes())),
        Value::SecretKey { name, key } => {
            let mut values: SecretValues = lookup.secret(name).await?;
            let missing = || LookupError::SecretKeyNotFound(name.clone(), key.clone());
            values.remove(key).ok_or_else(missing)
        }
        Value::ConfigMapKey { name, key } => {
            Ok(Zeroizing::new(lookup.config_map(name, key).await?))
        }
    }
}

/// The same where only text will do.
async fn fetch_text(value: &Value, lookup: &dyn Lookup) -> Result<Zeroizing<Vec<u8>>, LookupError> {
    match value {
        Value::Literal(_) | Value::SecretKey { .. } => fetch(value, lookup).await,
        Value::ConfigMapKey { name, key } => {
            Ok(Zeroizing::new(lookup.config_map_text(name, key).await?))
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::core::plan::Direct;

    /// A Secret and a ConfigMap with one key each, in which there is this.
    struct Kept(Vec<u8>);

    #[async_trait]
    impl Lookup for Kept {
        async fn secret(&self, _: &str) -> Result<SecretValues, LookupError> {
            Ok([("k".to_owned(), self.0.clone().into())].into())
        }

        async fn config_map(&self, _: &str, _: &str) -> Result<Vec<u8>, LookupError> {
            Ok(self.0.clone())
        }
    }

    fn secret(key: &str) -> Value {
        Value::SecretKey { name: "s".to_owned(), key: key.to_owned() }
    }

    fn plan(script: Value) -> Plan {
        let mut plan = Plan::plain("uid", "host", &[]);
        plan.program.script = Some(script);
        plan
    }

    async fn told(plan: &Plan, kept: &[u8]) -> String {
        let fetched = material(plan, &Kept(kept.to_vec())).await;
        fetched.map_or_else(|unfit| unfit.to_string(), |_| "fits".to_owned())
    }

    #[tokio::test]
    async fn the_scripts_own_first_line_chooses_wherever_the_text_is() {
        let text = "#!/usr/bin/env python3\nprint()\n";
        let map = Value::ConfigMapKey { name: "m".to_owned(), key: "k".to_owned() };
        for value in [Value::Literal(text.to_owned()), secret("k"), map] {
            let literal = matches!(value, Value::Literal(_));
            let mut plan = plan(value);
            let kept = Kept(text.as_bytes().to_vec());
            let fetched = material(&plan, &kept).await.unwrap();
            assert_eq!(fetched.interpreter, ["/usr/bin/env", "python3"]);
            // What the plan holds is not held twice.
            assert_eq!(fetched.script.is_none(), literal);
            plan.program.argv = vec!["ruby".to_owned()];
            let fetched = material(&plan, &kept).await.unwrap();
            assert!(fetched.interpreter.is_empty(), "spec.interpreter comes first");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_run_as_a_script_is_refused_with_its_place_and_never_quoted() {
        let from = "key \"k\" of secret \"s\" cannot be run as a script: ";
        let long = vec![b'x'; SCRIPT_BYTES + 1];
        for (kept, sentence) in [
            (&b""[..], "it is empty"),
            (b"XX\0SECRET", "it holds a NUL byte, which no script can have"),
            (&long, "it has 1048577 bytes; a script has at most 1048576"),
            (&long[1..], "fits"),
            (b"#!/bin/XXSECRET\r\n", "its first line holds a carriage return"),
        ] {
            let told = told(&plan(secret("k")), kept).await;
            let rest = told.strip_prefix(from).unwrap_or(&told);
            assert!(rest.starts_with(sentence) && !told.contains("XX"), "{told}");
        }
        let missing = told(&plan(secret("x")), b"").await;
        assert_eq!(missing, "secret \"s\" has no key \"x\"");
        let written = told(&plan(Value::Literal("#!/bin/sh\r\n".to_owned())), b"").await;
        assert!(written.starts_with("spec.script cannot be run as a script: its"), "{written}");
    }

    #[tokio::test]
    async fn a_script_that_a_direct_command_has_no_room_for_is_refused_before_it_is_sent() {
        let mut plan = plan(secret("k"));
        let direct = Direct { no_shell: false, forced_command: false, may_overlap: false };
        plan.execution = Execution::Direct(direct);
        let told_of = |bytes: usize| vec![b'#'; bytes];
        assert_eq!(told(&plan, &told_of(TEXT_BYTES)).await, "fits");
        let told = told(&plan, &told_of(TEXT_BYTES + 1)).await;
        assert!(told.ends_with("with spec.execution Direct a script has at most 262144"), "{told}");
    }
}
