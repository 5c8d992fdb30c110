//! Peer to peer for a node that others join by: an endpoint, a relay beside it, and the ticket; and the other side, a door for whoever has one.
//!
//! Guarantees: a node that is not told to let others in opens nothing. What is opened ends with the node, the endpoint after all that uses it.

use crate::NodeError;
use crate::zone::{MAX_GENESIS_BYTES, trusted_by};
use pasture_api::ApiClient;
use pasture_gateway::Peers;
use pasture_light::ValidatorSet;
use pasture_net::{Doorway, Endpoint, NetError, Options, RelayServer, Ticket};
use pasture_rt::{Shutdown, ShutdownToken};
use pasture_store::keys;
use pasture_types::genesis::Genesis;
use pasture_types::{SigningKey, ZoneId, codec};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// The key of a node's endpoint, beside its other keys.
const GATEWAY_KEY: &str = "gateway.key";
/// An address of a documentation network (RFC 5737): asking for the way to it sends nothing, and tells the address that this machine goes out by.
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// How a node is reached peer to peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicOptions {
    /// Where its endpoint hears datagrams; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its relay listens, TCP and UDP; `None` runs none.
    pub relay: Option<SocketAddr>,
    /// The name or address under which others reach the relay; `None` takes the address that it listens on.
    pub host: Option<String>,
}

/// A node that others can join by.
pub(crate) struct Public {
    peers: Peers,
    relay: Option<RelayServer>,
    /// Ends what was opened, after all that uses it.
    closing: Shutdown,
}

impl Public {
    pub(crate) async fn open(dir: &Path, options: &PublicOptions, zone: ZoneId) -> Result<Self, NodeError> {
        let key = keys::load_or_create(&dir.join(GATEWAY_KEY))?;
        let relay = match options.relay {
            Some(address) => Some(RelayServer::start(&key, address).await?),
            None => None,
        };
        let named = relay.as_ref().map(|relay| relay.named(&options.host.clone().unwrap_or_else(|| host_of(relay.address()))));
        let closing = Shutdown::new();
        let endpoint =
            Endpoint::open(Options { key, listen: options.listen, relays: named.into_iter().collect() }, closing.token()).await?;
        let own = endpoint.clone();
        let door = door_of(&own, closing.token())?;
        Ok(Self { peers: Peers { endpoint, door, zone }, relay, closing })
    }

    pub(crate) fn peers(&self) -> Peers {
        self.peers.clone()
    }
    pub(crate) fn ticket(&self) -> Ticket {
        self.peers.ticket()
    }

    pub(crate) async fn close(self) {
        self.closing.trigger();
        self.peers.endpoint.close().await;
        if let Some(relay) = self.relay {
            relay.stop().await;
        }
    }
}

/// How others name a machine that listens at an address.
fn host_of(address: SocketAddr) -> String {
    let ip = address.ip();
    if !ip.is_unspecified() {
        return SocketAddr::new(ip, 0).to_string().trim_end_matches(":0").to_owned();
    }
    let out = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(ANYWHERE)?;
        socket.local_addr()
    });
    out.map_or_else(|_| Ipv4Addr::LOCALHOST.to_string(), |address| address.ip().to_string())
}

/// A secret for a door.
fn secret() -> Result<[u8; 16], NodeError> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(|e| NodeError::Options(format!("the system gives no random numbers: {e}")))?;
    Ok(secret)
}

/// Opens an endpoint of whoever has a ticket: it knows the ticket's gates, and waits at its relays.
pub(crate) async fn endpoint_of(ticket: &Ticket, key: SigningKey, stop: ShutdownToken) -> Result<Endpoint, NetError> {
    let endpoint = Endpoint::open(Options::new(key, ticket.relays.clone()), stop).await?;
    for gate in &ticket.gates {
        endpoint.add_gate(gate, &ticket.place_of(gate));
    }
    Ok(endpoint)
}

/// A door to the network of a ticket, for a client; its endpoint, with a key of its own, is opened when it is first used.
///
/// # Errors
/// No loopback socket, no random numbers.
pub fn door_to(ticket: &Ticket, key: SigningKey, stop: ShutdownToken) -> Result<Doorway, NodeError> {
    let (ticket, token) = (ticket.clone(), stop.clone());
    let opening = move || {
        let (ticket, key, token) = (ticket.clone(), key.clone(), token.clone());
        Box::pin(async move { endpoint_of(&ticket, key, token).await }) as std::pin::Pin<Box<dyn Future<Output = _> + Send>>
    };
    Ok(Doorway::start(opening, secret()?, stop)?)
}

/// A door through an endpoint that is open.
pub(crate) fn door_of(endpoint: &Endpoint, stop: ShutdownToken) -> Result<Doorway, NodeError> {
    let own = endpoint.clone();
    Ok(Doorway::start(move || Box::pin(std::future::ready(Ok(own.clone()))), secret()?, stop)?)
}

/// The name of a network that was joined, and whom it began with, as a gateway of it says: it is believed if its hash is the network's.
///
/// # Errors
/// The network does not answer, or shows the genesis of another one.
pub async fn joined_genesis(client: &ApiClient, zone: &ZoneId) -> Result<(String, ValidatorSet), NodeError> {
    let shown = client.genesis().await?;
    let wrong =
        |why: &str| NodeError::Options(format!("{} shows the beginnings of another network than the ticket's: {why}", client.base()));
    let bytes = hex::decode(&shown.genesis).map_err(|_| wrong("they are not hex"))?;
    let genesis: Genesis = codec::decode(&bytes, MAX_GENESIS_BYTES).map_err(|_| wrong("they cannot be read"))?;
    if genesis.zone() != *zone {
        return Err(wrong("their hash is another"));
    }
    Ok((genesis.name.clone(), trusted_by(&genesis)?))
}
