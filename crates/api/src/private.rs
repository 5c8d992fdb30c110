//! The private network of a deployment: which of an owner's jobs reach which, and by what names. Spec: `docs/specs/private.md`.
//!
//! Guarantees: only the form is checked here. Names lead to loopback addresses inside a container, each to one of its own, the same on every
//! machine and after every change, so that what a program remembers of a name stays true.

use pasture_types::ids::derive;
use pasture_types::{BlobHash, LeaseId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Most names that a job reaches.
pub const MAX_NAMES: usize = 256;
/// Most ports of a name.
pub const MAX_PORTS: usize = 16;
/// Most replicas of a name, and most machines that a job lets in.
pub const MAX_REPLICAS: usize = 256;
/// Longest name: a label of a host name.
pub const MAX_NAME: usize = 63;

const ADDRESS_DOMAIN: &str = "pasture 2026-11 private name v1";

/// A replica: a lease and the machine that it is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// The lease.
    pub lease: LeaseId,
    /// Its machine.
    pub node: NodeId,
}

/// A name inside, and where it leads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateName {
    /// The name.
    pub name: String,
    /// Ports, the same inside and at the replicas.
    pub ports: Vec<u16>,
    /// Any of these will do.
    pub replicas: Vec<Replica>,
}

/// A machine whose jobs of the same owner come in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admitted {
    /// The machine.
    pub node: NodeId,
    /// To these ports.
    pub ports: Vec<u16>,
}

/// What one job reaches and who reaches it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateNetwork {
    /// What it reaches, each name once.
    pub names: Vec<PrivateName>,
    /// Who reaches it, each machine once.
    pub admits: Vec<Admitted>,
}

impl PrivateNetwork {
    /// Whether it can be.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.names.len() > MAX_NAMES || self.admits.len() > MAX_REPLICAS {
            return Err(format!("at most {MAX_NAMES} names and {MAX_REPLICAS} machines"));
        }
        let ports = |ports: &[u16]| ports.len() <= MAX_PORTS && !ports.contains(&0);
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for name in &self.names {
            if !is_label(&name.name) {
                return Err(format!("`{}` is no name of a host", name.name.escape_debug()));
            }
            if !ports(&name.ports) || name.replicas.len() > MAX_REPLICAS {
                return Err(format!("at most {MAX_PORTS} ports, none of them 0, and {MAX_REPLICAS} replicas of a name"));
            }
            if !names.insert(&name.name) || !addresses.insert(address(&name.name)) {
                return Err(format!("`{}` is there twice", name.name));
            }
        }
        let machines: BTreeSet<_> = self.admits.iter().map(|a| a.node).collect();
        if machines.len() != self.admits.len() || !self.admits.iter().all(|a| ports(&a.ports)) {
            return Err(format!("each machine once, with at most {MAX_PORTS} ports, none of them 0"));
        }
        Ok(())
    }

    /// Whether a machine may connect to a port.
    #[must_use]
    pub fn admits(&self, node: &NodeId, port: u16) -> bool {
        self.admits.iter().any(|a| a.node == *node && a.ports.contains(&port))
    }

    /// Its bytes, and their hash for the request's path, which the signature covers.
    #[must_use]
    pub fn to_wire(&self) -> (Vec<u8>, BlobHash) {
        // Lists and texts: it cannot fail.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let hash = pasture_types::blob::hash(&bytes);
        (bytes, hash)
    }
}

/// Small letters, digits and dashes, no dash at the ends.
fn is_label(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    plain && !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('-') && !name.ends_with('-') && name != "localhost"
}

/// Where a name leads inside a container: 127.64.0.0/10, by the name's hash.
#[must_use]
pub fn address(name: &str) -> Ipv4Addr {
    let [a, b, c, ..] = derive(ADDRESS_DOMAIN, &[name.as_bytes()]);
    // Neither the first nor the last address of a range, which some programs take for others.
    Ipv4Addr::new(127, 64 | (a & 0x3f), b, c.clamp(1, 254))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> PrivateNetwork {
        let replica = |n| Replica { lease: LeaseId([n; 32]), node: NodeId([n; 32]) };
        PrivateNetwork {
            names: vec![PrivateName { name: "db".into(), ports: vec![5432], replicas: vec![replica(1), replica(2)] }],
            admits: vec![Admitted { node: NodeId([3; 32]), ports: vec![80] }],
        }
    }

    #[test]
    fn a_network_in_order_passes_and_lets_in_whom_it_names() {
        let n = network();
        n.check().unwrap();
        assert!(n.admits(&NodeId([3; 32]), 80));
        assert!(!n.admits(&NodeId([3; 32]), 81) && !n.admits(&NodeId([4; 32]), 80));
        let (bytes, hash) = n.to_wire();
        assert_eq!(serde_json::from_slice::<PrivateNetwork>(&bytes).unwrap(), n);
        assert_eq!(hash, pasture_types::blob::hash(&bytes));
    }

    #[test]
    fn names_that_are_none_and_lists_that_are_too_long_are_refused() {
        for name in ["", "a.b", "-a", "a-", "A", "localhost", "a b", "a\nb", &"a".repeat(64)] {
            let mut n = network();
            n.names[0].name = name.into();
            assert!(n.check().is_err(), "{name:?}");
        }
        let mut twice = network();
        twice.names.push(twice.names[0].clone());
        assert!(twice.check().unwrap_err().contains("twice"));
        let mut zero = network();
        zero.names[0].ports = vec![0];
        assert!(zero.check().is_err());
        let mut many = network();
        many.admits = vec![many.admits[0].clone(); 2];
        assert!(many.check().is_err(), "a machine is there once");
        many.admits = (0..=MAX_REPLICAS).map(|n| Admitted { node: NodeId(derive("n", &[&n.to_le_bytes()])), ports: vec![] }).collect();
        assert!(many.check().is_err());
    }

    #[test]
    fn a_name_has_one_address_everywhere() {
        assert_eq!(address("db"), address("db"));
        assert_ne!(address("db"), address("web"));
        for n in 0..2_000 {
            let [first, second, _, last] = address(&format!("name-{n}")).octets();
            assert!(first == 127 && (64..128).contains(&second) && (1..255).contains(&last));
        }
    }
}
