//! One example: its object, and what its annotations say must come of it.

use std::fs;
use std::path::PathBuf;

use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::remote_host;
use crate::support::{Result, programs};

use super::{CUT_OFF, Stage};

pub struct Example {
    /// The file's name without its ending.
    pub title: String,
    pub namespace: String,
    pub name: String,
    /// `Phase/Reason`, or `gone`.
    pub expected: String,
    /// `Phase/Reason`s that it must have shown before.
    pub passes: Vec<String>,
    /// How often its command starts, for those that count their starts.
    pub starts: Option<usize>,
    /// A line that must be the last of its standard output.
    pub last_line: Option<String>,
    /// Words of command lines that must be seen running, and be gone at the end.
    pub processes: Vec<String>,
}

impl Example {
    fn of(title: String, object: &DynamicObject) -> Result<Example> {
        let annotation = |key: &str| object.annotations().get(&format!("example/{key}")).cloned();
        let expected = annotation("expect");
        let list = |key: &str| {
            let list = annotation(key).unwrap_or_default();
            let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        Ok(Example {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            expected: expected.ok_or_else(|| format!("{title} has no example/expect"))?,
            starts: annotation("starts").map(|n| n.parse()).transpose()?,
            last_line: annotation("last-line"),
            passes: list("passes"),
            processes: list("processes"),
            title,
        })
    }
}

/// Applies every example, in the order of their names.
pub async fn apply_all(stage: &Stage) -> Result<Vec<Example>> {
    let directory = programs::root().join("examples");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
    files.sort();
    let mut examples = Vec::new();
    for file in files {
        let title = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let namespace = if title.contains("wiped") { CUT_OFF } else { "default" };
        examples.extend(apply(stage, &file.display().to_string(), title, namespace).await?);
    }
    Ok(examples)
}

async fn apply(
    stage: &Stage,
    file: &str,
    title: String,
    namespace: &str,
) -> Result<Option<Example>> {
    let made =
        stage.recipe().kubectl(&["apply", "-n", namespace, "-f", file, "-o", "name"]).await?;
    let Some(name) = made.lines().find_map(|l| l.strip_prefix("remotecommand.remotecommand.dev/"))
    else {
        return Ok(None);
    };
    let client = stage.plane.client().await?;
    let api = remote_host::objects(&client, "RemoteCommand", namespace);
    let object = api.get(name).await?;
    Example::of(title, &object).map(Some)
}
