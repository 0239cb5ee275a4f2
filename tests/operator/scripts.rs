//! Scripts: who runs them, and where they come from.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use remote_command::api::Phase;
use serde_json::{Value, json};

use crate::world::{World, condition};

const MIB: usize = 1 << 20;

fn from(kind: &str, name: &str) -> Value {
    json!({format!("{kind}KeyRef"): {"name": name, "key": "script"}})
}

/// `text` with comments up to so many bytes, in lines like those of a program.
fn filled(text: &str, bytes: usize) -> String {
    let line = format!("# {}\n", "x".repeat(61));
    let mut filled = text.to_owned();
    while filled.len() + line.len() <= bytes {
        filled.push_str(&line);
    }
    let rest = bytes - filled.len();
    filled + &"#".repeat(rest)
}

async fn tail(world: &World, name: &str) -> String {
    let object = world.shows(name, "Succeeded", "Completed").await;
    object.status.unwrap().output.unwrap().stdout.tail.unwrap()
}

async fn message(world: &World, name: &str, phase: &str, reason: &str) -> String {
    world.shows(name, phase, reason).await.status.unwrap().message.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_1_mib_from_a_config_map_or_a_secret_runs_as_it_is() {
    let world = World::new().await;
    let python =
        "#!/usr/bin/env python3\nimport os, sys\nprint('py', os.path.getsize(sys.argv[0]))\n";
    let bash = "#!/bin/bash -eu\n[[ $- == *e*u* ]] && echo bash $(wc -c <\"$0\")\nexit 0\n";
    world.config_map("map", "script", &filled(python, MIB)).await;
    world.secret("secret", &[("script", &filled(bash, MIB))]).await;
    for (name, kind, expected) in
        [("map", "configMap", "py 1048576\n"), ("secret", "secret", "bash 1048576\n")]
    {
        world.command(name, json!({"scriptFrom": from(kind, name)})).await;
        assert_eq!(tail(&world, name).await, expected);
    }
    // Of a Secret nothing is kept but the file, while it runs.
    let log = std::fs::read_to_string(world.log(0)).unwrap();
    assert!(!log.contains("xxxxxxxx") && !log.contains("getsize"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scripts_own_first_line_chooses_in_both_executions() {
    let world = World::new().await;
    let python = "#!/usr/bin/env python3\nimport sys\nprint(sys.stdin.read(), end='')\n";
    let split = "#!/usr/bin/env -S python3 -u -X utf8\nimport sys\nprint(sys.flags.utf8_mode)\n";
    world.config_map("python", "script", python).await;
    world.secret("python", &[("script", python)]).await;
    for execution in ["Recorded", "Direct"] {
        let specs = [
            ("literal", json!({"script": python}), "it's\n"),
            ("map", json!({"scriptFrom": from("configMap", "python")}), "it's\n"),
            ("secret", json!({"scriptFrom": from("secret", "python")}), "it's\n"),
            ("split", json!({"script": split}), "1\n"),
            ("bash", json!({"script": "#! /bin/bash -eu\necho ${BASH##*/} $-\n"}), "bash ehuB\n"),
            ("plain", json!({"script": "echo plain"}), "plain\n"),
            // Whatever the first line says.
            ("over", json!({"script": python, "interpreter": ["/bin/cat"]}), python),
            (
                "first",
                json!({"scriptFrom": from("secret", "python"), "interpreter": ["head", "-n1"]}),
                "#!/usr/bin/env python3\n",
            ),
        ];
        for (name, mut spec, expected) in specs {
            let name = format!("{name}-{}", execution.to_lowercase());
            spec["execution"] = json!(execution);
            spec["stdin"] = json!({"value": "it's\n"});
            world.command(&name, spec).await;
            assert_eq!(tail(&world, &name).await, expected, "{name}");
        }
        let name = format!("nobody-{}", execution.to_lowercase());
        let script = "#!/no/such/interpreter -x\necho never\n";
        world.command(&name, json!({"script": script, "execution": execution})).await;
        let object = world.shows(&name, "Failed", "CommandNotFound").await;
        let stderr = object.status.unwrap().output.unwrap().stderr.tail.unwrap();
        assert!(stderr.contains("/no/such/interpreter: no such program"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_script_starts_nothing_and_says_why() {
    let world = World::new().await;
    world.binary_config_map("binary", "script", b"#!/bin/sh\necho \xff\n").await;
    world.secret("nul", &[("script", "#!/bin/sh\necho s3cret\0\n")]).await;
    world.secret("empty", &[("script", "")]).await;
    world.secret("crlf", &[("script", "#!/bin/s3cret\r\n")]).await;
    world.config_map("long", "script", &filled("#!/bin/sh\n", 262_145)).await;
    let direct = |name: &str| json!({"scriptFrom": from("configMap", name), "execution": "Direct"});
    let unfit = [
        (
            "binary",
            json!({"scriptFrom": from("configMap", "binary")}),
            "key \"script\" of config map \"binary\" is in binaryData; text goes into data",
        ),
        ("nul", json!({"scriptFrom": from("secret", "nul")}), "it holds a NUL byte"),
        ("empty", json!({"scriptFrom": from("secret", "empty")}), "it is empty"),
        ("crlf", json!({"scriptFrom": from("secret", "crlf")}), "its first line holds a carriage"),
        (
            "written",
            json!({"script": "#!/bin/sh\r\n"}),
            "spec.script cannot be run as a script: its",
        ),
        ("long", direct("long"), "it has 262145 bytes; with spec.execution Direct a script has at"),
    ];
    for (name, spec, sentence) in unfit {
        world.command(name, spec).await;
        let told = message(&world, name, "Pending", "InvalidSpec").await;
        assert!(told.contains(sentence) && !told.contains("s3cret"), "{told}");
        let object = world.commands().get(name).await.unwrap();
        assert_eq!(condition(&object, "Stalled"), "True", "{name}");
        assert_eq!(object.status.unwrap().attempt, None, "{name}");
    }
    // It goes on by itself when that is mended.
    let maps = Api::<ConfigMap>::namespaced(world.client.clone(), &world.namespace);
    let mended = Patch::Merge(json!({"binaryData": null, "data": {"script": "echo mended"}}));
    maps.patch("binary", &PatchParams::default(), &mended).await.unwrap();
    assert_eq!(tail(&world, "binary").await, "mended\n");
    // The same is no matter where there is a record.
    let recorded = json!({"scriptFrom": from("configMap", "long")});
    world.command("recorded", recorded).await;
    world.shows("recorded", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_comes_late_is_waited_for_and_read_anew_at_each_launch() {
    let world = World::new().await;
    world.command("map", json!({"scriptFrom": from("configMap", "late")})).await;
    world.command("secret", json!({"scriptFrom": from("secret", "late")})).await;
    world.secret("other", &[("other", "x")]).await;
    world.command("key", json!({"scriptFrom": from("secret", "other")})).await;
    message(&world, "map", "Pending", "ConfigMapNotFound").await;
    message(&world, "secret", "Pending", "SecretNotFound").await;
    message(&world, "key", "Pending", "SecretKeyNotFound").await;
    world.config_map("late", "script", "echo one").await;
    world.secret("late", &[("script", "#!/bin/bash\necho ${BASH##*/}")]).await;
    assert_eq!(tail(&world, "map").await, "one\n");
    assert_eq!(tail(&world, "secret").await, "bash\n");
    // Nobody asks for another run by changing the text: a person does.
    let maps = Api::<ConfigMap>::namespaced(world.client.clone(), &world.namespace);
    let changed = Patch::Merge(json!({"data": {"script": "#!/usr/bin/env python3\nprint('two')"}}));
    maps.patch("late", &PatchParams::default(), &changed).await.unwrap();
    world.patch("map", json!({"rerunToken": "again"})).await;
    world
        .until("map", "the second run is over", |object| {
            let status = object.status.clone().unwrap_or_default();
            status.run == Some(2) && status.phase == Phase::Succeeded
        })
        .await;
    assert_eq!(tail(&world, "map").await, "two\n");
}
