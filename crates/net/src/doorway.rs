//! The way from this process's HTTP clients to other nodes: a SOCKS5 proxy (RFC 1928, RFC 1929) on loopback, for names `<node>.api` and `<node>.node`.
//!
//! Guarantees: only who knows its secret is let in, so that no other user of this machine speaks as this node. Names of anything else are refused:
//! it leads to nodes and nowhere else. Connections at once are limited.

use crate::endpoint::{Endpoint, Service};
use crate::error::NetError;
use crate::place::Place;
use pasture_rt::{ShutdownToken, TaskKind};
use pasture_types::{NodeId, ZoneId};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OnceCell, Semaphore};

/// Connections through it at once.
const MAX_CONNECTIONS: usize = 1_024;
/// Within which a client says where it wants to go.
const GREETING: Duration = Duration::from_secs(5);
/// How long an end waits until others have heard of it.
const FAREWELL: Duration = Duration::from_millis(500);
/// Bytes that are copied at once in each direction.
const BUFFER: usize = 64 << 10;
/// SOCKS.
const VERSION: u8 = 5;
const WITH_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const BY_NAME: u8 = 3;
/// Answers.
const DONE: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const NO_HOST: u8 = 4;

/// How the name of any node that serves a network's API begins; the network's own follows, for whoever keeps several apart.
const GATE: &str = "network-";

/// Looks for where a node is; `None` if it cannot be called.
type Finder = Box<dyn Fn(NodeId) -> Pin<Box<dyn Future<Output = Option<Place>> + Send>> + Send + Sync>;

/// Opens the endpoint when it is first needed.
type Opening = Pin<Box<dyn Future<Output = Result<Endpoint, NetError>> + Send>>;

/// The way to other nodes.
#[derive(Clone)]
pub struct Doorway {
    url: Arc<str>,
    door: Arc<Door>,
}

impl std::fmt::Debug for Doorway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doorway(secret)")
    }
}

impl Doorway {
    /// Begins to serve on a free loopback port; the endpoint is opened when somebody comes first, and once.
    ///
    /// # Errors
    /// [`NetError::Doorway`].
    pub fn start(opening: impl Fn() -> Opening + Send + Sync + 'static, secret: [u8; 16], stop: ShutdownToken) -> Result<Self, NetError> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(NetError::Doorway)?;
        listener.set_nonblocking(true).map_err(NetError::Doorway)?;
        let address: SocketAddr = listener.local_addr().map_err(NetError::Doorway)?;
        let listener = TcpListener::from_std(listener).map_err(NetError::Doorway)?;
        let secret = hex::encode(secret);
        // Resolved at the other end of the proxy: the names mean nothing to a resolver.
        let url = format!("socks5h://pasture:{secret}@{address}").into();
        let door = Arc::new(Door { opening: Box::new(opening), endpoint: OnceCell::new(), finder: OnceLock::new(), secret });
        let this = Self { url, door: Arc::clone(&door) };
        pasture_rt::spawn(TaskKind::Server, async move {
            let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let accepted = tokio::select! {
                    () = stop.requested() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((client, _)) = accepted else { continue };
                let (door, stop) = (Arc::clone(&door), stop.clone());
                pasture_rt::spawn(TaskKind::Connection, async move {
                    if let Some(Err(error)) = stop.guard(door.serve(client)).await {
                        tracing::debug!(%error, "a connection to a node ended");
                    }
                    drop(place);
                });
            }
        });
        Ok(this)
    }

    /// How a node is reached through it now; `None` if it is not.
    #[must_use]
    pub fn path(&self, node: &NodeId) -> Option<crate::Path> {
        self.door.endpoint.get()?.path(node)
    }

    /// Ends the endpoint, if one was opened: those who were called hear of it, and need not wait until they notice.
    pub async fn close(&self) {
        if let Some(endpoint) = self.door.endpoint.get() {
            // Whoever ends must not wait for somebody who is away.
            let _ = tokio::time::timeout(FAREWELL, endpoint.close()).await;
        }
    }

    /// From now on asks where nodes are that it was not told of, and calls none of which the answer is that it cannot be called. The first one
    /// that is given counts.
    pub fn finding(&self, finder: impl Fn(NodeId) -> Pin<Box<dyn Future<Output = Option<Place>> + Send>> + Send + Sync + 'static) {
        let _ = self.door.finder.set(Box::new(finder));
    }

    /// The base URL of the network's API through it, whoever serves it.
    #[must_use]
    pub fn api_url(zone: &ZoneId) -> String {
        format!("http://{GATE}{}.{}", zone.short(), Service::Api.name())
    }

    /// The URL of the proxy, with its secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

struct Door {
    opening: Box<dyn Fn() -> Opening + Send + Sync>,
    endpoint: OnceCell<Endpoint>,
    finder: OnceLock<Finder>,
    secret: String,
}

impl Door {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let asked = tokio::time::timeout(GREETING, self.greet(&mut client)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let Some(goal) = asked.as_deref().and_then(named) else {
            return answer(&mut client, NOT_ALLOWED).await;
        };
        let dialed = match (self.endpoint.get_or_try_init(|| (self.opening)()).await, goal) {
            (Ok(endpoint), Goal::Node(node, service)) => match self.find(endpoint, node).await {
                Ok(()) => endpoint.dial(node, service).await,
                Err(error) => Err(error),
            },
            (Ok(endpoint), Goal::Gate) => endpoint.dial_gate().await,
            (Err(error), _) => Err(error),
        };
        let mut stream = match dialed {
            Ok(stream) => stream,
            Err(error) => {
                tracing::info!(%error, "a node was not reached");
                return answer(&mut client, NO_HOST).await;
            }
        };
        answer(&mut client, DONE).await?;
        copy_bidirectional_with_sizes(&mut client, &mut stream, BUFFER, BUFFER).await.map(drop)
    }

    async fn find(&self, endpoint: &Endpoint, node: NodeId) -> Result<(), NetError> {
        let Some(finder) = self.finder.get().filter(|_| !endpoint.knows(&node)) else { return Ok(()) };
        let nowhere = || NetError::Unreachable { node, why: "the network does not say that it can be called".into() };
        let place = finder(node).await.ok_or_else(nowhere)?;
        endpoint.learn(&node, &place);
        Ok(())
    }

    /// Hears who comes and where it wants to go; `None` if that is nothing that it may.
    async fn greet(&self, client: &mut TcpStream) -> io::Result<Option<String>> {
        let [version, methods] = read::<2>(client).await?;
        let methods = read_vec(client, methods).await?;
        if version != VERSION || !methods.contains(&WITH_PASSWORD) {
            client.write_all(&[VERSION, NO_METHOD]).await?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        client.write_all(&[VERSION, WITH_PASSWORD]).await?;
        let [_, name] = read::<2>(client).await?;
        read_vec(client, name).await?;
        let [length] = read::<1>(client).await?;
        let password = read_vec(client, length).await?;
        // Compared as hashes, so that the time tells nothing.
        let right = pasture_types::blob::hash(&password) == pasture_types::blob::hash(self.secret.as_bytes());
        client.write_all(&[1, u8::from(!right)]).await?;
        if !right {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let [_, command, _, kind] = read::<4>(client).await?;
        if command != CONNECT || kind != BY_NAME {
            return Ok(None);
        }
        let [length] = read::<1>(client).await?;
        let name = read_vec(client, length).await?;
        read::<2>(client).await?;
        Ok(String::from_utf8(name).ok())
    }
}

/// Where a client may want to go.
enum Goal {
    Node(NodeId, Service),
    /// Any node that serves the API.
    Gate,
}

/// What a name means.
fn named(name: &str) -> Option<Goal> {
    let (node, service) = name.rsplit_once('.')?;
    if service == Service::Api.name() && node.starts_with(GATE) {
        return Some(Goal::Gate);
    }
    let service = [Service::Api, Service::Node].into_iter().find(|known| known.name() == service)?;
    Some(Goal::Node(node.parse().ok()?, service))
}

async fn read<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_vec(client: &mut TcpStream, length: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(length)];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn answer(client: &mut TcpStream, what: u8) -> io::Result<()> {
    client.write_all(&[VERSION, what, 0, 1, 0, 0, 0, 0, 0, 0]).await
}
