//! How the playground starts the operator: the release build, with the rights of
//! `deploy/rbac.yaml` and no others, all that it writes below one directory.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::support::plane::{Recipe, free_ports};
use crate::support::program::Program;
use crate::support::{Result, programs};

/// The ServiceAccount and the namespace that `deploy/rbac.yaml` speaks of.
const USER: &str = "system:serviceaccount:remote-command:remote-command-operator";
const NAMESPACE: &str = "remote-command";
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Gives the operator its rights, and says who may use which hosts.
pub async fn allow(plane: &Recipe) -> Result<()> {
    for file in ["deploy/rbac.yaml", "deploy/policies.yaml"] {
        let path = programs::root().join(file).display().to_string();
        plane.kubectl(&["apply", "--filename", &path]).await?;
    }
    Ok(())
}

/// The operator with its log, state, kubeconfig and port in `directory`.
pub fn program(directory: &Path, plane: &Recipe) -> Result<Program> {
    // The playground is target/release/examples/playground.
    let this = std::env::current_exe()?;
    let release = this.parent().and_then(Path::parent).ok_or("this program has no directory")?;
    let path = release.join("remote-command");
    if !path.is_file() {
        return Err(format!("{} is missing: type `make build`", path.display()).into());
    }
    let state = directory.join("operator-state");
    fs::create_dir_all(&state)?;
    let kubeconfig = directory.join("operator.kubeconfig");
    fs::write(&kubeconfig, plane.kubeconfig_for(USER, "")?)?;
    Ok(Program::new(path, directory.join("operator.log"))
        .arg("operator")
        .arg(format!("--listen=127.0.0.1:{}", port(directory)?))
        .arg(format!("--state-directory={}", state.display()))
        .arg(format!("--lease-namespace={NAMESPACE}"))
        // Its hosts are on this machine.
        .arg("--deny-network=none")
        .env("KUBECONFIG", kubeconfig))
}

/// True when it says that it leads: until then it carries out nothing. That its port is open says
/// less; the kernel takes connections for a process that was killed until that is gone.
pub fn leads(directory: &Path) -> bool {
    readiness(directory).is_ok_and(|answer| answer.ends_with("leading"))
}

fn readiness(directory: &Path) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port(directory)?))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Where its metrics and health are; the same after a restart.
pub fn port(directory: &Path) -> Result<u16> {
    let file = directory.join("operator.port");
    if let Some(port) = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(port);
    }
    let [port] = free_ports()?;
    fs::write(file, format!("{port}\n"))?;
    Ok(port)
}
