//! The endpoint of a node: one UDP socket, one key, any number of connections.
//!
//! Guarantees: a stream that arrives came from the holder of the key that it is said to come from. Connections that are taken in are at most
//! [`MAX_CONNECTIONS`], of one peer [`MAX_OF_PEER`], streams of one connection [`MAX_STREAMS`]; what is beyond is refused at once. A connection
//! to another node is shared by all who call it, and made anew when it is gone.

use crate::error::NetError;
use crate::names::Names;
use crate::place::{Place, relay_url};
use crate::relay::Relay;
use crate::ticket::Ticket;
use crate::trust::Pins;
use axum::serve::Listener;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::{BindOpts, Connection, ConnectionError, Incoming, QuicTransportConfig, RecvStream, SendStream, VarInt, presets};
use iroh::{EndpointId, RelayMap, RelayMode, SecretKey, Watcher as _};
use pasture_rt::{ShutdownToken, TaskKind};
use pasture_types::{NodeId, SigningKey};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Connections from others at once.
const MAX_CONNECTIONS: usize = 2_048;
/// Of one peer: one for each service, and those that it has not noticed to be gone.
const MAX_OF_PEER: usize = 8;
/// Streams of one connection at once: what a gateway forwards to one machine goes through one.
const MAX_STREAMS: u32 = 256;
/// Streams of one service that are served at once, of all peers; more wait with their senders.
const MAX_SERVED: usize = 1_024;
/// How much later than the one before a gate is tried.
const NEXT_GATE: Duration = Duration::from_millis(1_500);
/// Streams that arrived and were not taken yet; more wait with their senders.
const MAX_ARRIVED: usize = 64;
/// Within which a handshake ends.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Within which a node is reached or is not there: a relay and a try at a direct path.
const CONNECT: Duration = Duration::from_secs(10);
/// After how long without a word a connection is gone. The library asks for one each five seconds; whoever changes networks is away for less. A
/// node that was killed and is back is reached through a new one, and not before: the library calls where the old one led.
const SILENCE: Duration = Duration::from_secs(15);
/// What a peer is told that has too many connections, or that talks at a bad time.
const BUSY: VarInt = VarInt::from_u32(1);
/// What a gate is told whose answers are not believed.
const DISBELIEVED: VarInt = VarInt::from_u32(2);
/// For how long such a gate is asked after all others.
const DISBELIEF: Duration = Duration::from_secs(600);
/// What a peer is told when this node ends.
const LEAVING: VarInt = VarInt::from_u32(0);

/// What a stream is for. One connection, and one name in the handshake, for each: whoever does not serve it, or not this version, is told so there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Service {
    /// The public API of a gateway.
    Api,
    /// The data plane of a machine.
    Node,
}

impl Service {
    const ALL: [Self; 2] = [Self::Api, Self::Node];

    /// Its name and version in the handshake.
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Api => b"pasture/api/1",
            Self::Node => b"pasture/node/1",
        }
    }
    /// Its name in URLs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Node => "node",
        }
    }
    /// The base URL at which a [`crate::Doorway`] finds it.
    #[must_use]
    pub fn url(self, node: &NodeId) -> String {
        format!("http://{node}.{}", self.name())
    }
}

/// How an endpoint is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who it is.
    pub key: SigningKey,
    /// Where it hears datagrams; port 0 takes a free one. Any address (`0.0.0.0`, or `[::]`) is any of IPv4 and, where the system has it, of IPv6,
    /// at the same port where that is free.
    pub listen: SocketAddr,
    /// At which relays it waits.
    pub relays: Vec<Relay>,
}

impl Options {
    /// The usual ones: any address, any port.
    #[must_use]
    pub const fn new(key: SigningKey, relays: Vec<Relay>) -> Self {
        Self { key, listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), relays }
    }
}

/// How another node is reached now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From machine to machine.
    Direct(SocketAddr),
    /// By a relay.
    Relayed,
}

/// The path to another node that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// How it goes.
    pub way: Way,
    /// There and back.
    pub rtt: Duration,
}

/// A stream between two nodes: what a TCP connection would be.
#[derive(Debug)]
pub struct Stream {
    receive: RecvStream,
    send: SendStream,
    peer: NodeId,
    /// Its place among those that arrived and are served.
    _place: Option<OwnedSemaphorePermit>,
}

impl Stream {
    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> NodeId {
        self.peer
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

/// Streams that others opened for one service; an HTTP server's listener.
#[derive(Debug)]
pub struct Arrivals {
    streams: mpsc::Receiver<Stream>,
    served: Arc<Semaphore>,
    me: NodeId,
}

impl Listener for Arrivals {
    type Io = Stream;
    type Addr = NodeId;

    async fn accept(&mut self) -> (Stream, NodeId) {
        let place = Arc::clone(&self.served).acquire_owned().await;
        match (self.streams.recv().await, place) {
            (Some(stream), Ok(place)) => {
                let peer = stream.peer;
                (Stream { _place: Some(place), ..stream }, peer)
            }
            // The endpoint is closed: nobody comes any more.
            _ => std::future::pending().await,
        }
    }
    fn local_addr(&self) -> io::Result<NodeId> {
        Ok(self.me)
    }
}

/// The connection to a service of a node.
#[derive(Debug, Default)]
struct Line {
    /// Held by whoever makes it.
    making: tokio::sync::Mutex<()>,
    /// The last one that was made.
    made: Mutex<Option<Connection>>,
}

/// Who is called, and for what.
type Lines = HashMap<(NodeId, Service), Arc<Line>>;

impl Line {
    /// The connection, if it is there.
    fn open(&self) -> Option<Connection> {
        lock(&self.made).clone().filter(|connection| connection.close_reason().is_none())
    }
}

/// A node's endpoint; clones are the same one.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: iroh::Endpoint,
    places: MemoryLookup,
    relays: Arc<Mutex<Vec<Relay>>>,
    pins: Pins,
    /// Who is called. A lock and no owner task: it is held for one look-up; each line has a lock of its own, held while it is made.
    lines: Arc<Mutex<Lines>>,
    doors: Arc<Mutex<HashMap<Service, mpsc::Sender<Stream>>>>,
    /// Nodes that serve the network's API, the one that answered last first.
    gates: Arc<Mutex<Vec<NodeId>>>,
    /// Those that said what cannot be true, and when.
    disbelieved: Arc<Mutex<HashMap<NodeId, Instant>>>,
    changes: Arc<watch::Sender<u64>>,
    me: NodeId,
}

/// Any address of the other family, for who listens at any; `None` for who listens at one.
fn other_family(listen: SocketAddr) -> Option<SocketAddr> {
    let other: IpAddr = if listen.is_ipv4() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    listen.ip().is_unspecified().then(|| SocketAddr::new(other, listen.port()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    /// Opens it, and takes connections in until the token asks it to stop.
    ///
    /// # Errors
    /// [`NetError::Bind`].
    pub async fn open(options: Options, stop: ShutdownToken) -> Result<Self, NetError> {
        let Options { key, listen, relays } = options;
        let wrong = |why: String| NetError::Bind { address: listen, why };
        let (places, pins) = (MemoryLookup::new(), Pins::of(&relays));
        let map: RelayMap = relays.iter().filter_map(Relay::config).collect();
        let silence = SILENCE.try_into().map_err(|_| wrong("no such time".into()))?;
        let transport = QuicTransportConfig::builder()
            .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(silence))
            .build();
        let mut builder = iroh::Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(&key.seed()))
            .alpns(Service::ALL.map(|service| service.alpn().to_vec()).to_vec())
            .relay_mode(RelayMode::Custom(map))
            .ca_tls_config(pins.config())
            .address_lookup(places.clone())
            .dns_resolver(Names::new(&[]).0)
            .transport_config(transport)
            .clear_ip_transports()
            .bind_addr(listen)
            .map_err(|e| wrong(e.to_string()))?;
        if let Some(other) = other_family(listen) {
            let optional = BindOpts::default().set_is_required(false);
            builder = builder.bind_addr_with_opts(other, optional).map_err(|e| wrong(e.to_string()))?;
        }
        let inner = builder.bind().await.map_err(|e| wrong(e.to_string()))?;
        let endpoint = Self {
            inner,
            places,
            relays: Arc::new(Mutex::new(relays)),
            pins,
            lines: Arc::default(),
            doors: Arc::default(),
            gates: Arc::default(),
            disbelieved: Arc::default(),
            changes: Arc::new(watch::Sender::new(0)),
            me: key.node_id(),
        };
        let (changes, mut moves, moving) = (Arc::clone(&endpoint.changes), endpoint.inner.watch_addr(), stop.clone());
        pasture_rt::spawn(TaskKind::Server, async move {
            while let Some(Ok(_)) = moving.guard(moves.updated()).await {
                changes.send_modify(|count| *count = count.wrapping_add(1));
            }
        });
        pasture_rt::spawn(TaskKind::Server, endpoint.clone().receive(stop));
        Ok(endpoint)
    }

    /// Who it is.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.me
    }

    /// Where it can be reached, as far as it knows by now.
    #[must_use]
    pub fn place(&self) -> Place {
        Place::of(&self.inner.addr())
    }

    /// Returns when a relay has it, or none is named.
    pub async fn online(&self) {
        if !lock(&self.relays).is_empty() {
            self.inner.online().await;
        }
    }

    /// Changes whenever where it can be reached has changed, or who serves its network.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The port of its socket, of IPv4 where it has two.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let bound = self.inner.bound_sockets();
        bound.iter().find(|at| at.is_ipv4()).or_else(|| bound.first()).map(SocketAddr::port)
    }

    /// Where another one may be; forgets nothing, and believes nothing either. Of relays only those that this one was given are kept: nobody
    /// makes it call elsewhere.
    pub fn learn(&self, node: &NodeId, place: &Place) {
        let own = lock(&self.relays).clone();
        let relays = place.relays.iter().filter(|url| own.iter().any(|relay| relay.url == **url)).cloned().collect();
        if let Ok(id) = id(node) {
            self.places.add_endpoint_info(Place { direct: place.direct.clone(), relays }.address(id));
        }
    }

    /// Whether somebody said where a node is.
    #[must_use]
    pub fn knows(&self, node: &NodeId) -> bool {
        id(node).is_ok_and(|id| self.places.get_endpoint_info(id).is_some())
    }

    /// The relays at which it waits.
    #[must_use]
    pub fn relays(&self) -> Vec<Relay> {
        lock(&self.relays).clone()
    }

    /// From now on these are the gates and the relays of its network, and no others; those that answered last stay the first to be asked.
    pub async fn set_network(&self, network: &Ticket) {
        for gate in &network.gates {
            self.learn(&gate.node, &Place { direct: gate.direct.clone(), relays: vec![] });
        }
        let named: Vec<NodeId> = network.gates.iter().map(|gate| gate.node).filter(|node| *node != self.me).collect();
        let mut changed = false;
        {
            let mut gates = lock(&self.gates);
            let before = gates.clone();
            gates.retain(|gate| named.contains(gate));
            gates.extend(named.into_iter().filter(|gate| !before.contains(gate)));
            changed |= *gates != before;
        }
        let (new, gone) = {
            let mut known = lock(&self.relays);
            let new: Vec<Relay> = network.relays.iter().filter(|relay| !known.contains(relay)).cloned().collect();
            let gone: Vec<Relay> = known.iter().filter(|relay| !network.relays.contains(relay)).cloned().collect();
            known.clone_from(&network.relays);
            (new, gone)
        };
        changed |= !(new.is_empty() && gone.is_empty());
        for url in gone.iter().filter(|relay| network.relays.iter().all(|kept| kept.url != relay.url)).filter_map(|r| relay_url(&r.url)) {
            self.inner.remove_relay(&url).await;
        }
        for relay in new {
            self.pins.add(&relay);
            if let Some(config) = relay.config() {
                self.inner.insert_relay(config.url.clone(), Arc::new(config)).await;
            }
        }
        if changed {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// The nodes that serve its network's API, as far as it knows, the one that answered last first.
    #[must_use]
    pub fn gates(&self) -> Vec<NodeId> {
        lock(&self.gates).clone()
    }

    /// The streams that others open for a service from now on. Asked a second time, the first one hears of no more.
    #[must_use]
    pub fn arrivals(&self, service: Service) -> Arrivals {
        let (door, streams) = mpsc::channel(MAX_ARRIVED);
        lock(&self.doors).insert(service, door);
        Arrivals { streams, served: Arc::new(Semaphore::new(MAX_SERVED)), me: self.me }
    }

    /// Opens a stream to a service of another node.
    ///
    /// # Errors
    /// [`NetError::Unreachable`], [`NetError::Version`].
    pub async fn dial(&self, node: NodeId, service: Service) -> Result<Stream, NetError> {
        let line = Arc::clone(lock(&self.lines).entry((node, service)).or_default());
        if let Some(connection) = line.open()
            && let Ok(stream) = open(&connection, node).await
        {
            return Ok(stream);
        }
        // Whoever calls at the same time waits for one connection instead of making a second.
        let making = line.making.lock().await;
        let connection = match line.open() {
            Some(made) => made,
            None => self.connect(node, service).await?,
        };
        *lock(&line.made) = Some(connection.clone());
        drop(making);
        open(&connection, node).await.map_err(|e| NetError::Unreachable { node, why: e.to_string() })
    }

    /// The gate that answered last said what cannot be true: its connection ends, and for ten minutes it is asked only where no other
    /// answers. Who that is; `None` where there is no other.
    #[must_use]
    pub fn disbelieve(&self) -> Option<NodeId> {
        let gates = lock(&self.gates).clone();
        let [first, _, ..] = gates.as_slice() else { return None };
        lock(&self.disbelieved).insert(*first, Instant::now());
        let line = lock(&self.lines).get(&(*first, Service::Api)).map(Arc::clone);
        if let Some(connection) = line.and_then(|line| lock(&line.made).take()) {
            connection.close(DISBELIEVED, b"not believed");
        }
        Some(*first)
    }

    /// The gates that may be believed, and those that were not of late.
    fn by_belief(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let mut disbelieved = lock(&self.disbelieved);
        disbelieved.retain(|_, since| since.elapsed() < DISBELIEF);
        lock(&self.gates).iter().partition(|gate| !disbelieved.contains_key(gate))
    }

    /// Opens a stream to the API of any node that serves it: the one that answered last, or else the others in turn; those that were not
    /// believed after all others.
    ///
    /// # Errors
    /// As [`Endpoint::dial`], of the last one that was tried.
    pub async fn dial_gate(&self) -> Result<Stream, NetError> {
        let (believed, others) = self.by_belief();
        match self.dial_one_of(believed).await {
            Err(_) if !others.is_empty() => self.dial_one_of(others).await,
            called => called,
        }
    }

    async fn dial_one_of(&self, gates: Vec<NodeId>) -> Result<Stream, NetError> {
        let mut last = NetError::Unreachable { node: self.me, why: "no node is known that serves the network's API".into() };
        // One that is away must not hold up the others: each is tried a moment after the one before.
        let calls = gates.into_iter().zip(0u32..).map(|(gate, at)| async move {
            tokio::time::sleep(NEXT_GATE * at).await;
            (gate, self.dial(gate, Service::Api).await)
        });
        let mut calls: FuturesUnordered<_> = calls.collect();
        while let Some((gate, called)) = calls.next().await {
            match called {
                Ok(stream) => {
                    let mut gates = lock(&self.gates);
                    gates.retain(|known| *known != gate);
                    gates.insert(0, gate);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect(&self, node: NodeId, service: Service) -> Result<Connection, NetError> {
        let mut address =
            self.places.get_endpoint_info(id(&node)?).map_or_else(|| id(&node).map(Into::into), |info| Ok(info.into_endpoint_addr()))?;
        // Whoever is of this network waits at one of its relays, also if nobody said at which.
        for relay in lock(&self.relays).iter().filter_map(|relay| relay_url(&relay.url)) {
            address = address.with_relay_url(relay);
        }
        let unreachable = |why: String| NetError::Unreachable { node, why };
        if address.is_empty() {
            return Err(unreachable("nobody said where it is, and there is no relay".into()));
        }
        match tokio::time::timeout(CONNECT, self.inner.connect(address, service.alpn())).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                let why = format!("{error:#}");
                // TLS alert 120, no_application_protocol (RFC 7301).
                Err(if why.contains("error 120") { NetError::Version { node } } else { unreachable(why) })
            }
            Err(_) => Err(unreachable(format!("no answer in {} s", CONNECT.as_secs()))),
        }
    }

    /// How a node is reached that is called, or was of late; `None` if it is not.
    #[must_use]
    pub fn path(&self, node: &NodeId) -> Option<Path> {
        let lines = Service::ALL.iter().filter_map(|service| lock(&self.lines).get(&(*node, *service)).map(Arc::clone));
        lines.filter_map(|line| line.open()).find_map(|connection| {
            let paths = connection.paths();
            let used = paths.iter().find(|path| path.is_selected())?;
            let way = match used.remote_addr() {
                iroh::TransportAddr::Ip(address) => Way::Direct(*address),
                _ => Way::Relayed,
            };
            Some(Path { way, rtt: used.rtt() })
        })
    }

    /// Ends all connections; what was sent is given a moment to arrive.
    pub async fn close(&self) {
        self.inner.close().await;
    }

    async fn receive(self, stop: ShutdownToken) {
        let (places, peers) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Peers::default());
        loop {
            let incoming = tokio::select! {
                () = stop.requested() => break,
                incoming = self.inner.accept() => match incoming {
                    Some(incoming) => incoming,
                    None => break,
                },
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let (doors, peers) = (Arc::clone(&self.doors), peers.clone());
            pasture_rt::spawn(TaskKind::Connection, async move {
                serve(incoming, &doors, &peers).await;
                drop(place);
            });
        }
        self.inner.close().await;
    }
}

/// How many connections each peer has. A lock: it is held for one look-up.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<NodeId, usize>>>);

impl Peers {
    fn enter(&self, peer: NodeId) -> Option<Guest> {
        let mut open = lock(&self.0);
        let count = open.entry(peer).or_default();
        if *count >= MAX_OF_PEER {
            return None;
        }
        *count += 1;
        Some(Guest { peers: self.clone(), peer })
    }
}

/// A peer's connection, counted until it is dropped.
struct Guest {
    peers: Peers,
    peer: NodeId,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut open = lock(&self.peers.0);
        if let Some(count) = open.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// Serves one connection: its streams go to the door of its service.
async fn serve(incoming: Incoming, doors: &Mutex<HashMap<Service, mpsc::Sender<Stream>>>, peers: &Peers) {
    let Ok(handshake) = incoming.accept() else { return };
    let connection = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake failed"),
        Err(_) => return,
    };
    let peer = NodeId(*connection.remote_id().as_bytes());
    let Some(service) = Service::ALL.into_iter().find(|service| service.alpn() == connection.alpn()) else { return };
    let Some(_guest) = peers.enter(peer) else {
        return connection.close(BUSY, b"too many connections of one node");
    };
    loop {
        let (send, receive) = match connection.accept_bi().await {
            Ok(stream) => stream,
            Err(ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed) => return,
            Err(error) => return tracing::debug!(peer = %peer.short(), %error, "a connection ended"),
        };
        let door = lock(doors).get(&service).cloned();
        let Some(door) = door else {
            return connection.close(BUSY, b"this service is not served here");
        };
        if door.send(Stream { receive, send, peer, _place: None }).await.is_err() {
            return connection.close(LEAVING, b"the service has ended");
        }
    }
}

async fn open(connection: &Connection, peer: NodeId) -> Result<Stream, ConnectionError> {
    let (send, receive) = connection.open_bi().await?;
    Ok(Stream { receive, send, peer, _place: None })
}

fn id(node: &NodeId) -> Result<EndpointId, NetError> {
    EndpointId::from_bytes(&node.0).map_err(|_| NetError::Key(*node))
}
