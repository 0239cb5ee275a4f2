//! The operators of a world: started as users start them, each with its own log, state and
//! rights, and ended in every way.

use std::fs;
use std::path::PathBuf;

use super::{World, allow_leases};
use crate::support::link::Link;
use crate::support::program::Program;

/// The ServiceAccount to which `deploy/rbac.yaml` gives rights, as the API server names it.
const OPERATOR: &str = "system:serviceaccount:remote-command:remote-command-operator";

impl World {
    /// Starts another operator with a state directory of its own.
    pub fn start_operator(&self) -> usize {
        self.start_operator_with(&[])
    }

    /// Starts another one with these options, which are kept when it is started again.
    pub fn start_operator_with(&self, options: &[&str]) -> usize {
        let mut operators = self.operators.lock().unwrap();
        let program = self.program(operators.len()).args(options.iter().copied());
        operators.push(program.start().unwrap());
        operators.len() - 1
    }

    /// Starts another one that gets to the API server over `link`.
    pub fn start_operator_over(&self, link: &Link, options: &[&str]) -> usize {
        let number = self.operators.lock().unwrap().len();
        let kubeconfig = self.kubeconfig(number, OPERATOR);
        let direct = format!("127.0.0.1:{}", self.plane.recipe().api_port());
        let over = format!("127.0.0.1:{}", link.port());
        let text = fs::read_to_string(&kubeconfig).unwrap().replace(&direct, &over);
        let path = kubeconfig.with_extension("over-link");
        fs::write(&path, text).unwrap();
        let mut operators = self.operators.lock().unwrap();
        let program = self.program(number).args(options.iter().copied()).env("KUBECONFIG", path);
        operators.push(program.start().unwrap());
        number
    }

    /// Lets the operator have its Lease in this namespace.
    pub async fn allow_leases(&self, namespace: &str) {
        allow_leases(&self.client, namespace).await;
    }

    /// Starts one with the rights of another user.
    pub fn start_operator_as(&self, user: &str) {
        let mut operators = self.operators.lock().unwrap();
        let program = self.program_of(operators.len(), user);
        operators.push(program.start().unwrap());
    }

    fn kubeconfig(&self, number: usize, user: &str) -> PathBuf {
        let directory = self.place.join(&format!("operator-{number}"));
        fs::create_dir_all(&directory).unwrap();
        let kubeconfig = directory.join("kubeconfig");
        let user = self.plane.recipe().kubeconfig_for(user, "").unwrap();
        fs::write(&kubeconfig, user).unwrap();
        kubeconfig
    }

    fn program(&self, number: usize) -> Program {
        self.program_of(number, OPERATOR)
    }

    /// Starts one that denies the networks that an operator denies by itself.
    pub fn start_operator_with_usual_denials(&self) -> usize {
        let mut operators = self.operators.lock().unwrap();
        let program = self.bare_program(operators.len(), OPERATOR);
        operators.push(program.start().unwrap());
        operators.len() - 1
    }

    /// Its hosts are on this machine, to which an operator connects only if it is told so.
    fn program_of(&self, number: usize, user: &str) -> Program {
        self.bare_program(number, user).env("REMOTE_COMMAND_DENY_NETWORK", "none")
    }

    fn bare_program(&self, number: usize, user: &str) -> Program {
        let kubeconfig = self.kubeconfig(number, user);
        let state = kubeconfig.with_file_name("state");
        Program::new(env!("CARGO_BIN_EXE_remote-command"), self.log(number))
            .args(["--log", "info,kube=off,remote_command=debug", "operator"])
            .arg(format!("--namespace={}", self.namespace))
            .arg("--listen=127.0.0.1:0")
            .arg(format!("--state-directory={}", state.display()))
            // Options of a test's own win.
            .env("REMOTE_COMMAND_LEASE_DURATION", "4s")
            .env("REMOTE_COMMAND_RETRY_PERIOD", "500ms")
            .env("KUBECONFIG", kubeconfig)
    }

    pub fn log(&self, number: usize) -> PathBuf {
        self.place.join(&format!("operator-{number}.log"))
    }

    /// SIGKILL.
    pub fn kill_operator(&self, number: usize) {
        self.operators.lock().unwrap()[number].kill();
    }

    /// SIGTERM, and how it ended: true when it ended by itself in time.
    pub fn stop_operator(&self, number: usize) {
        self.operators.lock().unwrap()[number].stop();
    }

    /// Starts a killed one again, with the state directory it had.
    pub fn restart_operator(&self, number: usize) {
        let again = self.operators.lock().unwrap()[number].program().start().unwrap();
        self.operators.lock().unwrap()[number] = again;
    }

    /// What an operator has logged.
    pub fn said(&self, number: usize) -> String {
        fs::read_to_string(self.log(number)).unwrap_or_default()
    }
}
