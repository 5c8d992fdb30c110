//! What can go wrong on the way to another node.

use pasture_types::NodeId;
use std::net::SocketAddr;

/// Why something of the network beneath did not work.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The endpoint's socket cannot be had.
    #[error("cannot listen on {address} (UDP): {why}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the library said.
        why: String,
    },
    /// A relay cannot be started.
    #[error("cannot run a relay on {address}: {why}")]
    Relay {
        /// Where.
        address: SocketAddr,
        /// What the library said.
        why: String,
    },
    /// Nobody with this key answered, on any way that is known.
    #[error("node {} was not reached: {why}", .node.short())]
    Unreachable {
        /// Who.
        node: NodeId,
        /// What the library said.
        why: String,
    },
    /// It answered, and speaks no version that this one does.
    #[error("node {} speaks another version of the network's protocols: one of the two programs has to be updated", .node.short())]
    Version {
        /// Who.
        node: NodeId,
    },
    /// A name of 32 bytes that is no key.
    #[error("{0} is no node's key")]
    Key(NodeId),
    /// No nameserver says what is asked.
    #[error("no nameserver tells what there is at {name}: {why}")]
    Names {
        /// What was asked for.
        name: String,
        /// What the library said.
        why: String,
    },
    /// Multicast DNS cannot be had.
    #[error("this LAN cannot be asked, or told: {0}")]
    Lan(String),
    /// The loopback socket for local programs cannot be had.
    #[error("no loopback socket for what goes to other nodes")]
    Doorway(#[source] std::io::Error),
}
