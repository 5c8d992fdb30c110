//! How a gateway is set up.

use pasture_net::{Doorway, Endpoint, Ticket};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

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
/// How many gates a ticket names that is handed on: one that is there in a year is enough.
const TICKET_GATES: usize = 3;
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
    /// Where everybody is let in to what jobs publish. Without, nobody is.
    pub ingress: Option<IngressOptions>,
}

/// Where everybody is let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngressOptions {
    /// Where it listens for HTTP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What names end with, in small letters; all its subdomains lead here.
    pub domain: String,
    /// Where it listens for HTTP over TLS; what comes without is then sent there.
    pub tls: Option<TlsOptions>,
    /// The first and the last of the ports, at the same address, that are given to what speaks TCP.
    pub tcp: Option<(u16, u16)>,
    /// Whom it asks about domains; nobody named: those that this machine asks.
    pub nameservers: Vec<SocketAddr>,
}

/// How HTTP over TLS is served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsOptions {
    /// Where; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate of the domain's names.
    pub certificate: Option<CertificateOptions>,
    /// Where certificates are had for names that this one is not for.
    pub acme: Option<AcmeOptions>,
}

/// Whence a certificate comes that is not asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CertificateOptions {
    /// Two files in PEM, read again when they change.
    Given {
        /// The certificate, and those between it and its root.
        chain: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Made here for each name, by an authority that is kept in this folder. Nobody believes it without being told to.
    SelfSigned {
        /// Where.
        folder: PathBuf,
    },
}

/// Where certificates are had (RFC 8555), by answering over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcmeOptions {
    /// The server's directory: a URL.
    pub directory: String,
    /// Whom it tells when a certificate is about to end.
    pub contact: Option<String>,
    /// The root of the server's own certificate, in PEM; those that this machine believes, if there is none.
    pub root: Option<PathBuf>,
    /// Where the account and certificates are kept.
    pub folder: PathBuf,
}

/// What makes a gateway reachable from anywhere, and machines behind NATs reachable for it.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// The way through it for HTTP.
    pub door: Doorway,
    /// All gates and relays of the network that are known, its own first.
    pub network: watch::Receiver<Ticket>,
}

impl Peers {
    /// What a machine needs to reach this network, in a word that can be copied: this gateway, and two others if they are known.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.network.borrow().clone().first(TICKET_GATES)
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
            ingress: None,
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
