//! Settings of the Docker backend. Does not: read files or the environment; the binary resolves them.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::UnixStream, time::timeout};

/// Where engines usually listen, best first: the one that `scripts/engine.sh` starts, the system's, Podman's.
pub const KNOWN_SOCKETS: [&str; 4] = ["/run/pasture/docker.sock", "/var/run/docker.sock", "/run/docker.sock", "/run/podman/podman.sock"];

/// A local socket either accepts at once or nobody listens.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);

/// The first of these sockets that accepts a connection.
pub async fn find_socket(candidates: impl IntoIterator<Item = impl AsRef<Path>>) -> Option<PathBuf> {
    for candidate in candidates {
        let path = candidate.as_ref();
        if let Ok(Ok(_)) = timeout(CONNECT_DEADLINE, UnixStream::connect(path)).await {
            return Some(path.to_owned());
        }
    }
    None
}

/// How to use an engine.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// The engine's unix socket.
    pub socket: PathBuf,
    /// Directory of this node for output volumes; made if missing. Not shared between nodes: whatever lies there and
    /// belongs to no instance is removed by a sweep.
    pub state_dir: PathBuf,
    /// Longest the engine may take to answer an ordinary request. A busy machine needs seconds to start a container.
    pub request_timeout: Duration,
    /// Most log kept for one instance; older output is dropped beyond it, which a follower that keeps up never notices.
    pub log_bytes: u64,
    /// Jobs give way to other programs of this machine when both want the processor, where that can be had (see
    /// [`Capabilities::gives_way`](crate::Capabilities)).
    pub gives_way: bool,
    /// Private range that networks of instances are cut from, 16 addresses each. 12 to 24 bits of prefix.
    pub subnet_pool: (Ipv4Addr, u8),
}

impl DockerConfig {
    /// The defaults: usual priority, 60 s per request, 256 MiB of log per instance, networks from 10.213.0.0/16 (4,096 of them).
    pub fn new(socket: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            state_dir: state_dir.into(),
            request_timeout: Duration::from_secs(60),
            log_bytes: 256 << 20,
            gives_way: false,
            subnet_pool: (Ipv4Addr::new(10, 213, 0, 0), 16),
        }
    }
}
