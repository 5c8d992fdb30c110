//! The relay role: a meeting place for nodes that see no way to each other, which also tells them their address as seen from outside.
//!
//! Guarantees: it carries sealed datagrams between keys and reads nothing of them; each client's traffic is limited. One port, TCP for relaying
//! (HTTPS) and UDP for addresses (QUIC address discovery: without it two NATs are never punched).

use crate::error::NetError;
use crate::trust::certificate;
use iroh::RelayConfig as ClientConfig;
use iroh_relay::RelayQuicConfig;
use iroh_relay::server::{CertConfig, ClientRateLimit, QuicConfig, RelayConfig, Server, ServerConfig, TlsConfig};
use pasture_types::SigningKey;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

/// What a relay's certificate is made from.
const CERTIFICATE: &str = "pasture relay certificate v1";
/// Bytes a second that a relay takes from one client: relays are for finding a direct path, and for what has none.
const CLIENT_BYTES_PER_S: NonZeroU32 = NonZeroU32::new(32 << 20).unwrap();
/// In one burst.
const CLIENT_BURST: NonZeroU32 = NonZeroU32::new(8 << 20).unwrap();

/// A relay as its clients know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relay {
    /// `https://HOST:PORT`; TCP and UDP have the same port.
    pub url: String,
    /// The BLAKE3 hash of its certificate.
    pub pin: [u8; 32],
}

/// A text is no relay's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no relay: it is one word, https://HOST:PORT#HASH, as the relay shows it")]
pub struct NoRelay;

/// Longest word of a relay.
const MAX_WORD: usize = 512;

impl std::fmt::Display for Relay {
    /// As a word that people hand on: `https://HOST:PORT#HASH`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.url, data_encoding::HEXLOWER.encode(&self.pin))
    }
}

impl std::str::FromStr for Relay {
    type Err = NoRelay;

    fn from_str(word: &str) -> Result<Self, NoRelay> {
        let (url, hash) = word.trim().split_once('#').filter(|_| word.len() <= MAX_WORD).ok_or(NoRelay)?;
        let pin = data_encoding::HEXLOWER.decode(hash.as_bytes()).ok().and_then(|pin| pin.try_into().ok()).ok_or(NoRelay)?;
        let relay = Self { url: url.to_owned(), pin };
        relay.config().is_some().then_some(relay).ok_or(NoRelay)
    }
}

impl Relay {
    /// As the library takes it; `None` if its URL is none.
    pub(crate) fn config(&self) -> Option<ClientConfig> {
        let url = crate::place::relay_url(&self.url)?;
        let port = url.port_or_known_default()?;
        Some(ClientConfig::new(url, Some(RelayQuicConfig::new(port))))
    }
}

/// A running relay; it ends when it is dropped.
#[derive(Debug)]
pub struct RelayServer {
    server: Server,
    pin: [u8; 32],
    address: SocketAddr,
}

impl RelayServer {
    /// Begins to relay at an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`NetError::Relay`].
    pub async fn start(key: &SigningKey, address: SocketAddr) -> Result<Self, NetError> {
        let wrong = |why: String| NetError::Relay { address, why };
        let (pin, tls) = certificate(&key.derive_secret(CERTIFICATE), address)?;
        let mut relay = RelayConfig::new((Ipv4Addr::LOCALHOST, 0));
        relay.tls = Some(TlsConfig::new(address, CertConfig::Manual { server_config: tls.clone() }));
        let mut limit = ClientRateLimit::new(CLIENT_BYTES_PER_S);
        limit.max_burst_bytes = Some(CLIENT_BURST);
        relay.limits.client_rx = Some(limit);
        let mut config = ServerConfig::default();
        config.relay = Some(relay);
        if address.port() != 0 {
            config.quic = Some(quic(address, tls.clone()));
            let server = Server::spawn(config).await.map_err(|e| wrong(e.to_string()))?;
            return Ok(Self { server, pin, address });
        }
        // Both sockets need one port: a free one is found by trying.
        let mut last = String::new();
        for _ in 0..PORT_TRIES {
            let port = free_port(address).map_err(|e| wrong(e.to_string()))?;
            let at = SocketAddr::new(address.ip(), port);
            match Box::pin(Self::start(key, at)).await {
                Ok(relay) => return Ok(relay),
                Err(error) => last = error.to_string(),
            }
        }
        Err(wrong(last))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How clients know it that reach it at this host.
    #[must_use]
    pub fn named(&self, host: &str) -> Relay {
        Relay { url: format!("https://{host}:{}", self.address.port()), pin: self.pin }
    }

    /// Ends it.
    pub async fn stop(self) {
        if let Err(error) = self.server.shutdown().await {
            tracing::debug!(%error, "the relay ended otherwise");
        }
    }
}

/// Free ports that are tried.
const PORT_TRIES: usize = 8;

fn quic(address: SocketAddr, tls: rustls::ServerConfig) -> QuicConfig {
    let mut quic = QuicConfig::new(address);
    quic.server_config = Some(tls);
    quic
}

/// A port that nobody has now.
fn free_port(address: SocketAddr) -> std::io::Result<u16> {
    Ok(std::net::UdpSocket::bind(SocketAddr::new(address.ip(), 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_word_is_read_as_it_was_written_and_nothing_else_is() {
        let relay = Relay { url: "https://203.0.113.7:8731".into(), pin: [7; 32] };
        let word = relay.to_string();
        assert_eq!(word, format!("https://203.0.113.7:8731#{}", "07".repeat(32)));
        assert_eq!(format!(" {word}\n").parse(), Ok(relay));
        let hash = "07".repeat(32);
        for wrong in [
            "",
            "https://203.0.113.7:8731",
            &format!("http://203.0.113.7:8731#{hash}"),
            &format!("https://203.0.113.7:8731#{}", "07".repeat(31)),
            &format!("https://203.0.113.7:8731#{}", "0G".repeat(32)),
            &format!("https://{}:8731#{hash}", "a".repeat(600)),
            &format!("203.0.113.7:8731#{hash}"),
        ] {
            assert_eq!(wrong.parse::<Relay>(), Err(NoRelay), "{wrong}");
        }
    }
}
