//! A network namespace on a wire of its own, which can go silent: packets vanish and
//! nobody is told. [`super::link::Link`] is the other kind of fault, in which the far
//! kernel still acknowledges what nobody reads. Needs root.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Result, keeper, programs};

#[derive(Debug)]
pub struct Wire {
    /// Of the namespace, and of the near end of the wire.
    name: String,
    near: Ipv4Addr,
    far: Ipv4Addr,
}

impl Wire {
    pub fn start() -> Result<Wire> {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 64;
        let pid = std::process::id();
        // 198.18.0.0/15 is set aside for tests of networks (RFC 2544).
        let [.., high, low] = pid.to_be_bytes();
        let end = |last| Ipv4Addr::new(198, 18 + (high & 1), low, number * 4 + last);
        let name = format!("rc{pid}n{number}");
        keeper::namespace(&name)?;
        let wire = Wire { name, near: end(1), far: end(2) };
        wire.lay()?;
        Ok(wire)
    }

    /// The address of whatever listens inside.
    pub fn address(&self) -> Ipv4Addr {
        self.far
    }

    /// For `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// From now on packets vanish, in both directions.
    pub fn cut(&self) -> Result<()> {
        self.inside("link set far down")
    }

    pub fn heal(&self) -> Result<()> {
        self.inside("link set far up")
    }

    fn lay(&self) -> Result<()> {
        let Wire { name, near, far } = self;
        // Fixed, so that a cut wire is silence and not an unanswered question for it.
        let hardware = "02:00:00:00:00:02";
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {name} type veth peer name far address {hardware} netns {name}"))?;
        ip(&format!("address add {near}/30 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        ip(&format!("neighbour replace {far} lladdr {hardware} dev {name} nud permanent"))?;
        self.inside("link set lo up")?;
        self.inside(&format!("address add {far}/30 dev far"))?;
        self.heal()
    }

    fn inside(&self, words: &str) -> Result<()> {
        ip(&format!("-n {} {words}", self.name))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The wire goes with the namespace; what this leaves is the keeper's.
        let _ = ip(&format!("netns delete {}", self.name));
    }
}

fn ip(words: &str) -> Result<()> {
    let program = programs::debian("ip", "iproute2")?;
    let output = Command::new(program).args(words.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim_end()).into())
}
