//! Machines of a test, each in a network namespace of its own, on two switches: whoever is moved to the other one is cut off.
//!
//! ```text
//!  test program ── left ──┬── machine 0     right ──┬── machine 2
//!  10.77.0.254            └── machine 1             └── machine 3
//! ```
//! Guarantees: everything is in namespaces that end with the test program and its children; nothing of the machine that the test runs on
//! is touched. It takes the rights to make namespaces. It drops and delays nothing by itself.

use crate::support::until;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Machines on two switches.
pub(crate) struct Wires {
    machines: Vec<Child>,
}

impl Drop for Wires {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            // It may have ended already.
            let _ = machine.kill();
            let _ = machine.wait();
        }
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let done = Command::new("ip").args(args).output().unwrap();
    assert!(done.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn namespace(process: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

impl Wires {
    /// Lays wires to `count` machines. Only within a namespace of the test's own: [`alone`].
    pub(crate) fn lay(count: usize) -> Self {
        ip(&["link", "set", "lo", "up"]);
        for switch in ["left", "right"] {
            ip(&["link", "add", "name", switch, "type", "bridge"]);
            ip(&["link", "set", switch, "up"]);
        }
        ip(&["address", "add", "10.77.0.254/24", "dev", "left"]);
        let mut wires = Self { machines: Vec::new() };
        for n in 0..count {
            let machine = Command::new("unshare").args(["--net", "sleep", "infinity"]).stdin(Stdio::null()).spawn().unwrap();
            let pid = machine.id().to_string();
            wires.machines.push(machine);
            until("the machine has a network of its own", || namespace(&pid) != namespace("self"));
            let (wire, end, address) = (format!("wire{n}"), format!("end{n}"), format!("{}/24", Self::address(n)));
            ip(&["link", "add", "name", &wire, "type", "veth", "peer", "name", &end]);
            ip(&["link", "set", &end, "netns", &pid]);
            for args in [vec!["address", "add", &address, "dev", &end], vec!["link", "set", &end, "up"], vec!["link", "set", "lo", "up"]] {
                let done = Command::new("nsenter").args(["--target", &pid, "--net", "ip"]).args(&args).output().unwrap();
                assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
            }
            ip(&["link", "set", &wire, "master", "left", "up"]);
        }
        wires
    }

    /// A machine's address.
    pub(crate) fn address(n: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(n + 1).unwrap())
    }

    /// Cuts a machine off from the test program and from those that are not cut off.
    pub(crate) fn cut(&self, n: usize) {
        ip(&["link", "set", &format!("wire{n}"), "master", "right"]);
    }

    /// Brings a machine back to the others.
    pub(crate) fn mend(&self, n: usize) {
        ip(&["link", "set", &format!("wire{n}"), "master", "left"]);
    }

    /// The same command on a machine.
    pub(crate) fn on(&self, n: usize, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.args(["--target", &self.machines[n].id().to_string(), "--net", "--"]);
        there.arg(command.get_program()).args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                there.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }
}

/// Name of the variable that says that this is the test program within its own network.
const INSIDE: &str = "PASTURE_TEST_ALONE";

/// Runs a test of this program once more in a network of its own, and returns `false` outside, when that is over. `test` is its whole name.
pub(crate) fn alone(test: &str) -> bool {
    #[allow(clippy::disallowed_methods, reason = "how a test program knows that it is its own child")]
    let inside = std::env::var_os(INSIDE).is_some();
    if !inside {
        let program = std::env::current_exe().unwrap();
        let done = Command::new("unshare")
            .arg("--net")
            .arg(program)
            .args(["--exact", test, "--nocapture", "--include-ignored"])
            .env(INSIDE, "1")
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "{test}: {done}");
    }
    inside
}
