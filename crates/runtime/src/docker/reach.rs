//! Connections to ports inside an instance.
//!
//! Where we are root on the engine's machine, a thread of its own steps into the instance's network namespace and connects to the
//! instance's loopback there: so a port needs no network and no address, and the packet filter stays as it is. Elsewhere the
//! instance's address in its own network is used, if it has one.
//!
//! Guarantees: only the instance's own ports can be reached. The namespace is refused if it is ours, and belongs to a process in the
//! instance's own cgroup; addresses are those of the instance's network, never loopback. Nothing is opened in the engine.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    time::Duration,
};

use bollard::{models::ContainerInspectResponse, query_parameters::InspectContainerOptions};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use super::{
    Inner,
    instance::{gone, seen},
    probe::found,
};
use crate::{Connection, InstanceId, Observed, RuntimeError};

/// Longest that a connection may take to stand: the port is on this machine. Bounds the threads, too.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

impl Inner {
    /// A running instance of ours.
    pub(super) async fn running(&self, id: &InstanceId) -> Result<ContainerInspectResponse, RuntimeError> {
        let answer = found(self.docker.inspect_container(&id.0, None::<InspectContainerOptions>).await);
        let container = answer.map_err(|error| self.engine_error(error))?.ok_or_else(|| gone(id))?;
        let seen = seen(container.clone());
        if seen.key().is_none() {
            return Err(gone(id));
        }
        if !matches!(seen.state, Observed::Running { .. }) {
            return Err(RuntimeError::Conflict("the instance does not run".into()));
        }
        Ok(container)
    }

    pub(super) async fn connect(&self, id: &InstanceId, port: u16) -> Result<Connection, RuntimeError> {
        let container = self.running(id).await?;
        let (pid, address) = (pid(&container), address(&container));
        let failed = |error| RuntimeError::io(format!("connect to port {port}"), error);
        let entered = match pid.filter(|_| self.facts.can_signal) {
            // A service may be root and yet not allowed to do this.
            Some(pid) => match inside(id.0.clone(), pid, port).await {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                other => Some(other.map_err(failed)?),
            },
            None => None,
        };
        let stream = match (entered, address) {
            (Some(stream), _) => stream,
            (None, Some(address)) => timeout(CONNECT_DEADLINE, TcpStream::connect((address, port)))
                .await
                .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
                .map_err(failed)?,
            (None, None) => return Err(RuntimeError::Conflict("ports of an instance without a network are reached by root only".into())),
        };
        // Its user decides what waits for what.
        let _ = stream.set_nodelay(true);
        let (output, input) = stream.into_split();
        Ok(Connection { input: Box::pin(input), output: Box::pin(output) })
    }
}

pub(super) fn pid(container: &ContainerInspectResponse) -> Option<i32> {
    container.state.as_ref()?.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
}

/// The instance's address in a network of its own.
fn address(container: &ContainerInspectResponse) -> Option<IpAddr> {
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    let addresses = networks.values().filter_map(|network| network.ip_address.as_ref()?.parse::<Ipv4Addr>().ok());
    addresses.filter(Ipv4Addr::is_private).map(IpAddr::V4).next()
}

/// Connects from inside the instance.
async fn inside(id: String, pid: i32, port: u16) -> io::Result<TcpStream> {
    let stream = within(id, pid, move || dial(port)).await?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Does something from inside the instance. The thread is not ours to use again: it stays in there, and ends.
pub(super) async fn within<T: Send + 'static>(id: String, pid: i32, act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("port".into()).spawn(move || {
        // Whoever asked may have gone.
        let _ = tell.send(enter(&id, pid).and_then(|()| act()));
    })?;
    told.await.map_err(|_| io::Error::other("the thread in the instance ended"))?
}

fn enter(id: &str, pid: i32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // Looked at after it was opened: the number may have passed to somebody else in between.
    let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let (theirs, ours) = (namespace.metadata()?, std::fs::metadata("/proc/self/ns/net")?);
    if !group.contains(id) || (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the instance has no network namespace of its own"));
    }
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Loopback here is the instance's.
fn dial(port: u16) -> io::Result<std::net::TcpStream> {
    let connect = |ip: IpAddr| std::net::TcpStream::connect_timeout(&SocketAddr::new(ip, port), CONNECT_DEADLINE);
    match connect(Ipv4Addr::LOCALHOST.into()) {
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
            // Some listen on the newer protocol only; where that is off, the first word counts.
            connect(Ipv6Addr::LOCALHOST.into()).map_err(|_| refused)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::{EndpointSettings, NetworkSettings};

    use super::*;

    #[test]
    fn our_own_namespace_is_never_entered() {
        let me = i32::try_from(std::process::id()).unwrap();
        let group = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        // Any word of our own cgroup: that check passes, the other must not.
        let word = group.chars().find(|c| !c.is_whitespace()).unwrap().to_string();
        assert_eq!(enter(&word, me).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(enter("no such cgroup", me).is_err());
    }

    #[test]
    fn only_private_addresses_are_dialled() {
        let with = |ip: &str| ContainerInspectResponse {
            network_settings: Some(NetworkSettings {
                networks: Some(HashMap::from([(
                    "n".to_owned(),
                    EndpointSettings { ip_address: Some(ip.to_owned()), ..Default::default() },
                )])),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(address(&with("10.213.0.2")), Some([10, 213, 0, 2].into()));
        for bad in ["127.0.0.1", "", "169.254.169.254", "8.8.8.8"] {
            assert_eq!(address(&with(bad)), None, "{bad}");
        }
        assert_eq!(pid(&ContainerInspectResponse::default()), None);
    }
}
