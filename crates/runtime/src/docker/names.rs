//! Names inside an instance that lead to us.
//!
//! A listener is opened from inside the instance's network namespace and stays in there, while its connections are ours: so an instance
//! without a network reaches what we let it reach, and nothing else of this machine. A name's address is one of the instance's loopback; a
//! rule of the namespace's own packet filter leads each of its ports to a listener at a free one, since a program that listens on that port
//! at all addresses would leave no room for us, nor we for it. The name stands in the instance's `/etc/hosts`, a file of the engine's or of
//! the instance's disk, which is mounted there.
//!
//! Guarantees: nothing of the host's own packet filter changes; rules and names of a former call are gone after the next; what others
//! wrote there stays.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, TcpListener as Listener},
    process::{Command, Stdio},
};

use tokio::net::TcpListener;

use super::{
    Inner,
    reach::{pid, within},
    tool::TOOL_PATH,
};
use crate::{InnerName, InstanceId, RuntimeError};

/// The chain of the namespace that is ours.
const CHAIN: &str = "PASTURE-PRIVATE";
/// How long the packet filter may be somebody else's, in seconds.
const LOCK: &str = "10";
/// What stands around names of ours.
const BEGIN: &str = "# names of the deployment's private network";
const END: &str = "# end of these names";

impl Inner {
    pub(super) async fn open_names(&self, id: &InstanceId, names: &[InnerName]) -> Result<Vec<TcpListener>, RuntimeError> {
        if let Some(strange) = names.iter().find(|n| !n.ip.is_loopback()) {
            return Err(RuntimeError::Conflict(format!("{} is not an address that the instance alone reaches", strange.ip)));
        }
        let container = self.running(id).await?;
        let Some(pid) = pid(&container).filter(|_| self.facts.can_signal) else {
            return Err(RuntimeError::Conflict("only root opens names in an instance".into()));
        };
        // The engine's file, or the one on the instance's own disk that we had it mount; never something that it leads to.
        let plain = |path: &String| path.ends_with("/hosts") && std::fs::symlink_metadata(path).is_ok_and(|about| about.is_file());
        let path = container.hosts_path.filter(plain);
        let path = path.ok_or_else(|| RuntimeError::Conflict("the engine keeps no file of the instance's names".into()))?;
        let (wanted, group) = (names.to_vec(), id.0.clone());
        let listeners = within(group, pid, move || open(&wanted)).await.map_err(|e| RuntimeError::io("open names in the instance", e))?;
        let failed = |error| RuntimeError::io(format!("write {path}"), error);
        let old = std::fs::read_to_string(&path).map_err(failed)?;
        // In place: the instance has this very file mounted.
        std::fs::write(&path, hosts(&old, names)).map_err(failed)?;
        let ours = |listener: Listener| listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        listeners.into_iter().map(ours).collect::<io::Result<_>>().map_err(|e| RuntimeError::io("open names in the instance", e))
    }
}

/// Inside the instance: a listener for each port, and the rules that lead there.
fn open(names: &[InnerName]) -> io::Result<Vec<Listener>> {
    let mut listeners = vec![];
    let mut rules = vec![];
    for name in names {
        for port in &name.ports {
            let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0))?;
            rules.push((name.ip, *port, listener.local_addr()?.port()));
            listeners.push(listener);
        }
    }
    let jumps = iptables(&["-t", "nat", "-C", "OUTPUT", "-j", CHAIN]).stderr(Stdio::null()).status()?.success();
    let mut restore = tool("iptables-restore", &["-w", LOCK, "--noflush"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = restore.stdin.take() {
        input.write_all(table(&rules, jumps).as_bytes())?;
    }
    let done = restore.wait_with_output()?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!("iptables-restore: {}: {}", done.status, why.trim())));
    }
    Ok(listeners)
}

/// This thread is in the instance's namespace, and so is what it starts.
fn tool(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("PATH", TOOL_PATH).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn iptables(args: &[&str]) -> Command {
    tool("iptables", &[&["-w", LOCK], args].concat())
}

/// Our chain anew, and the jump to it if there is none.
fn table(rules: &[(Ipv4Addr, u16, u16)], jumps: bool) -> String {
    let jump = if jumps { String::new() } else { format!("-I OUTPUT 1 -j {CHAIN}\n") };
    let rule = |(ip, port, to): &(Ipv4Addr, u16, u16)| format!("-A {CHAIN} -d {ip}/32 -p tcp --dport {port} -j REDIRECT --to-ports {to}\n");
    let rules: String = rules.iter().map(rule).collect();
    format!("*nat\n:{CHAIN} - [0:0]\n{jump}{rules}COMMIT\n")
}

/// A table of names with ours in the place of those that were there.
fn hosts(old: &str, names: &[InnerName]) -> String {
    let mut ours = false;
    let mut out = String::new();
    for line in old.lines() {
        match line {
            BEGIN => ours = true,
            END => ours = false,
            _ if ours => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    if !names.is_empty() {
        let lines: String = names.iter().map(|n| format!("{}\t{}\n", n.ip, n.name)).collect();
        out.push_str(&format!("{BEGIN}\n{lines}{END}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, last: u8) -> InnerName {
        InnerName { name: name.into(), ip: Ipv4Addr::new(127, 64, 0, last), ports: vec![80] }
    }

    #[test]
    fn names_take_the_place_of_former_ones_and_of_nothing_else() {
        let engine = "127.0.0.1\tlocalhost\n10.0.0.2\tabc\n";
        let one = hosts(engine, &[name("db", 1), name("web", 2)]);
        assert_eq!(one, format!("{engine}{BEGIN}\n127.64.0.1\tdb\n127.64.0.2\tweb\n{END}\n"));
        let two = hosts(&one, &[name("db", 1)]);
        assert_eq!(two, format!("{engine}{BEGIN}\n127.64.0.1\tdb\n{END}\n"));
        assert_eq!(hosts(&two, &[]), engine);
    }

    #[test]
    fn the_chain_is_written_anew_and_jumped_to_once() {
        let rules = [(Ipv4Addr::new(127, 64, 0, 1), 80, 40_000)];
        let first = table(&rules, false);
        assert_eq!(
            first,
            "*nat\n:PASTURE-PRIVATE - [0:0]\n-I OUTPUT 1 -j PASTURE-PRIVATE\n\
             -A PASTURE-PRIVATE -d 127.64.0.1/32 -p tcp --dport 80 -j REDIRECT --to-ports 40000\nCOMMIT\n"
        );
        assert!(!table(&rules, true).contains("OUTPUT"));
    }
}
