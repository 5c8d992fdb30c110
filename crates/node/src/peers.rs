//! `DATA/zone/network.toml`: where a zone's validators are.
//!
//! ```text
//!  listen = "0.0.0.0:8740"          where this validator listens; without it, at its own address
//!  private = false                  whether addresses of private networks may be dialled and let in
//!  [[validator]]                    this one, and some of the others to begin with: the rest is learned from them
//!  key = "3f2a..."                  its public key
//!  address = "203.0.113.7:8740"     where the others reach it
//! ```
//! Guarantees: it is read at the start and never written again once it is there: it is its operator's. It holds no secret, and is not
//! part of what the zone agrees on: an address may differ from node to node.

use crate::NodeError;
use crate::zone::NETWORK;
use pasture_chain::Network;
use pasture_types::NodeId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;

/// Largest file.
const MAX_BYTES: u64 = 1 << 20;

/// Where the validators of a zone are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// Where this validator listens; without it, at its own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Whether addresses of private networks may be dialled and let in.
    #[serde(default)]
    pub private: bool,
    /// This one, and some of the others.
    #[serde(default, rename = "validator")]
    pub validators: Vec<Peer>,
}

/// Where one validator is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its public key.
    pub key: NodeId,
    /// Where the others reach it.
    pub address: SocketAddr,
}

impl NetworkFile {
    /// The file of a data directory; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not what it must be; the line is named.
    pub fn load(dir: &Path) -> Result<Option<Self>, NodeError> {
        Self::read(&dir.join(NETWORK))
    }

    /// Reads a file; `None` if it is not there.
    ///
    /// # Errors
    /// As [`NetworkFile::load`].
    pub fn read(path: &Path) -> Result<Option<Self>, NodeError> {
        let io = |source| pasture_store::StoreError::Io { action: "read", path: path.into(), source };
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e).into()),
            Ok(found) if found.len() > MAX_BYTES => return Err(NodeError::Options(format!("{} is too large", path.display()))),
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        toml::from_str(&text).map(Some).map_err(|e| NodeError::Options(format!("{}: {}", path.display(), e.to_string().trim_end())))
    }

    /// The file's text.
    ///
    /// # Errors
    /// It cannot be written as TOML.
    pub fn text(&self) -> Result<String, NodeError> {
        toml::to_string(self).map_err(|e| NodeError::Options(format!("the network's addresses: {e}")))
    }

    /// What the engine needs of it, for the validator with this key.
    pub(crate) fn network(self, own: [u8; 32]) -> Network {
        let mine = self.validators.iter().find(|peer| peer.key.0 == own).map(|peer| peer.address);
        // Without any the engine says that nobody knows where this validator is.
        let listen = self.listen.or(mine).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let peers = self.validators.into_iter().map(|peer| (peer.key.0, peer.address)).collect();
        Network { listen, address: mine.unwrap_or(listen), peers, private: self.private }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> Peer {
        Peer { key: NodeId([n; 32]), address: SocketAddr::from(([10, 0, 0, n], 8740)) }
    }

    #[test]
    fn a_file_is_read_back_and_says_where_to_listen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(NetworkFile::load(dir.path()).unwrap(), None);
        let file = NetworkFile { listen: None, private: true, validators: vec![peer(1), peer(2)] };
        std::fs::create_dir(dir.path().join("zone")).unwrap();
        std::fs::write(dir.path().join(NETWORK), file.text().unwrap()).unwrap();
        assert_eq!(NetworkFile::load(dir.path()).unwrap(), Some(file.clone()));
        let network = file.clone().network([2; 32]);
        assert_eq!((network.listen, network.private, network.peers.len()), (peer(2).address, true, 2));
        let elsewhere = NetworkFile { listen: Some(SocketAddr::from(([0, 0, 0, 0], 9))), ..file };
        assert_eq!(elsewhere.network([2; 32]).listen.port(), 9);
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.toml");
        let wrong = ["listen = 5", "listen = \"1.2.3.4\"", "[[validator]]\nkey = \"00\"\naddress = \"1.2.3.4:5\"", "\u{0}"];
        for text in wrong {
            std::fs::write(&path, text).unwrap();
            let error = NetworkFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("network.toml") && error.contains("line 1") | error.contains("line 2"), "{error}");
        }
        std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
        assert!(NetworkFile::read(&path).unwrap_err().to_string().contains("too large"));
    }
}
