//! Peer to peer for a node that others join by: an endpoint, a relay beside it, and the ticket; and the other side, a door for whoever has one.
//!
//! Guarantees: a node that is not told to let others in opens nothing. What is opened ends with the node, the endpoint after all that uses it.

use crate::zone::{MAX_GENESIS_BYTES, trusted_by};
use crate::{NodeError, gates};
use pasture_api::ApiClient;
use pasture_chain::Chain;
use pasture_gateway::Peers;
use pasture_light::ValidatorSet;
use pasture_net::{Announcement, Doorway, Endpoint, Gate, NetError, Options, Relay, RelayServer, Ticket};
use pasture_rt::{Shutdown, ShutdownToken, TaskKind};
use pasture_store::keys;
use pasture_types::genesis::Genesis;
use pasture_types::{SigningKey, ZoneId, codec};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use tokio::sync::watch;

/// Most relays that one node names.
pub(crate) const MAX_RELAYS: usize = 2;
/// The key of a node's endpoint, beside its other keys.
const GATEWAY_KEY: &str = "gateway.key";
/// Addresses of documentation networks (RFC 5737, RFC 3849): asking for the way to one sends nothing, and tells the address that this machine goes out by.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
const ANYWHERE_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);

/// How a node is reached peer to peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicOptions {
    /// Where its endpoint hears datagrams; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its relay listens, TCP and UDP; `None` runs none.
    pub relay: Option<SocketAddr>,
    /// The name or address under which others reach the relay; `None` takes the address that it listens on.
    pub host: Option<String>,
    /// Relays that others run, which it names beside its own.
    pub also: Vec<Relay>,
    /// Whether the LAN is told that the network can be joined here.
    pub tell_lan: bool,
}

/// What a node says of itself.
#[derive(Clone)]
pub(crate) struct Own {
    endpoint: Endpoint,
    zone: ZoneId,
    relays: Vec<Relay>,
}

impl Own {
    /// Its gate and its relays.
    pub(crate) fn ticket(&self) -> Ticket {
        let gate = Gate { node: self.endpoint.node(), direct: self.endpoint.place().direct };
        Ticket { zone: self.zone, gates: vec![gate], relays: self.relays.clone(), invite: None }
    }
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// A node that others can join by.
pub(crate) struct Public {
    peers: Peers,
    /// Who it says serves the network.
    network: watch::Sender<Ticket>,
    own: Own,
    listen: SocketAddr,
    relay: Option<RelayServer>,
    /// Tells the LAN.
    announcement: Option<Announcement>,
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
        let relays: Vec<Relay> = named.into_iter().chain(options.also.iter().cloned()).take(MAX_RELAYS).collect();
        let endpoint = Endpoint::open(Options { key, listen: options.listen, relays: relays.clone() }, closing.token()).await?;
        let own = Own { endpoint: endpoint.clone(), zone, relays };
        let door = door_of(&endpoint, closing.token())?;
        let network = watch::Sender::new(own.ticket());
        Ok(Self {
            peers: Peers { endpoint, door, network: network.subscribe() },
            network,
            own,
            listen: options.listen,
            relay,
            announcement: None,
            closing,
        })
    }

    /// Tells the LAN that the network of this name can be joined here.
    pub(crate) fn tell_lan(&mut self, name: &str) {
        match Announcement::begin(name, &self.own.endpoint.node(), &self.own.ticket(), self.listen) {
            Ok(announcement) => self.announcement = Some(announcement),
            // It can be joined all the same.
            Err(error) => tracing::warn!(%error, "this LAN is not told that the network can be joined here"),
        }
    }

    pub(crate) fn peers(&self) -> Peers {
        self.peers.clone()
    }
    /// The ticket to hand on now.
    pub(crate) fn ticket(&self) -> Ticket {
        self.network.send_modify(|network| *network = self.own.ticket().with(network));
        self.peers.ticket()
    }
    /// Tells the validators of this one's gate and relay, and hears of theirs, until this node is closed.
    pub(crate) fn share(&self, chain: Chain) {
        let (sharing, stop) = (gates::share(chain, self.own.clone(), self.network.clone()), self.closing.token());
        pasture_rt::spawn(TaskKind::Server, async move { stop.guard(sharing).await });
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
#[must_use]
pub fn host_of(address: SocketAddr) -> String {
    let named = |ip: IpAddr| SocketAddr::new(ip, 0).to_string().trim_end_matches(":0").to_owned();
    if !address.ip().is_unspecified() {
        return named(address.ip());
    }
    let goes_out_by = |anywhere: SocketAddr| {
        let any: IpAddr = if anywhere.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(anywhere).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    // Of IPv4 where it has both: who has one only has that more often.
    let own = if address.is_ipv4() { goes_out_by(ANYWHERE) } else { goes_out_by(ANYWHERE).or_else(|| goes_out_by(ANYWHERE_V6)) };
    named(own.unwrap_or(Ipv4Addr::LOCALHOST.into()))
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
    endpoint.set_network(ticket).await;
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
