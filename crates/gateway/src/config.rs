//! How a gateway is set up.

use pasture_net::{Doorway, Endpoint, Gate, Ticket};
use pasture_types::ZoneId;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections served at once unless said otherwise. With the streams' own connections to nodes, this stays below the
/// 1,024 open files that many systems grant a process.
pub(crate) const MAX_CONNECTIONS: usize = 512;
/// Of them, for one range of addresses (256 of IPv4, a /48 of IPv6): four owners of a range each leave nobody else a place.
const MAX_OF_RANGE: usize = MAX_CONNECTIONS / 4;
/// Event streams and forwarded requests open at once unless said otherwise.
pub(crate) const MAX_STREAMS: usize = 320;
/// How often an idle event stream carries a comment, so that proxies and clients see that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a transaction may wait for its block: shorter than the client's own deadline, so that it hears why.
const FINALITY_DEADLINE: Duration = Duration::from_secs(25);
/// How long open requests may take to end when the gateway stops.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(3);
/// The longest interval and deadline that makes sense here.
const LONGEST: Duration = Duration::from_secs(600);

/// Settings of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether nodes may announce addresses that are not on this machine. Off: this gateway calls nobody elsewhere.
    pub allow_remote_addresses: bool,
    /// Connections served at once; more wait to be accepted.
    pub max_connections: usize,
    /// Connections at once of one range of addresses (256 of IPv4, a /48 of IPv6), but for this machine's own and those of private
    /// networks; more are closed.
    pub max_connections_of_range: usize,
    /// Event streams and forwarded requests at once, at most as many as connections; more are refused with 503.
    pub max_streams: usize,
    /// How often an idle event stream carries a comment.
    pub keep_alive: Duration,
    /// How long a transaction may wait for its block before its sender is told to look again later.
    pub finality_deadline: Duration,
    /// How long open requests may take to end at a stop.
    pub shutdown_deadline: Duration,
    /// Where it also serves and how it calls nodes: peer to peer. Without, by addresses only.
    pub peers: Option<Peers>,
}

/// What makes a gateway reachable from anywhere, and machines behind NATs reachable for it.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The way through it for HTTP.
    pub door: Doorway,
    /// The network that its tickets are for.
    pub zone: ZoneId,
}

impl Peers {
    /// What a machine needs to reach this network through this gateway.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        let gate = Gate { node: self.endpoint.node(), direct: self.endpoint.place().direct };
        Ticket { zone: self.zone, gates: vec![gate], relays: self.endpoint.relays(), invite: None }
    }
}

/// Settings that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's {name} is {got}: {expected}")]
pub struct OptionsError {
    /// Which setting.
    pub name: &'static str,
    /// What it is.
    pub got: String,
    /// What it should be.
    pub expected: String,
}

impl GatewayOptions {
    /// The usual settings, listening at an address.
    #[must_use]
    pub const fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            allow_remote_addresses: false,
            max_connections: MAX_CONNECTIONS,
            max_connections_of_range: MAX_OF_RANGE,
            max_streams: MAX_STREAMS,
            keep_alive: KEEP_ALIVE,
            finality_deadline: FINALITY_DEADLINE,
            shutdown_deadline: SHUTDOWN_DEADLINE,
            peers: None,
        }
    }

    /// Checks that the settings make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let wrong = |name, got: String, expected: String| Err(OptionsError { name, got, expected });
        let most = usize::from(u16::MAX);
        if !(1..=most).contains(&self.max_connections) {
            return wrong("max_connections", self.max_connections.to_string(), format!("1 to {most} are possible"));
        }
        if self.max_connections_of_range == 0 {
            return wrong("max_connections_of_range", "0".into(), "at least 1 is possible".into());
        }
        if !(1..=self.max_connections).contains(&self.max_streams) {
            let expected = format!("1 to max_connections ({}) are possible", self.max_connections);
            return wrong("max_streams", self.max_streams.to_string(), expected);
        }
        let times =
            [("keep_alive", self.keep_alive), ("finality_deadline", self.finality_deadline), ("shutdown_deadline", self.shutdown_deadline)];
        for (name, value) in times {
            if value.is_zero() || value > LONGEST {
                return wrong(name, format!("{value:?}"), format!("more than nothing and at most {LONGEST:?} is possible"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_settings_are_named() {
        let good = GatewayOptions::new(([127, 0, 0, 1], 0).into());
        assert_eq!(good.validate(), Ok(()));
        let name = |o: GatewayOptions| o.validate().unwrap_err().name;
        assert_eq!(name(GatewayOptions { max_connections: 0, ..good.clone() }), "max_connections");
        assert_eq!(name(GatewayOptions { max_connections_of_range: 0, ..good.clone() }), "max_connections_of_range");
        assert_eq!(name(GatewayOptions { max_connections: 8, max_streams: 9, ..good.clone() }), "max_streams");
        assert_eq!(name(GatewayOptions { keep_alive: Duration::ZERO, ..good.clone() }), "keep_alive");
        assert_eq!(name(GatewayOptions { shutdown_deadline: Duration::from_secs(3_600), ..good }), "shutdown_deadline");
    }
}
