//! Where a node can be reached: direct addresses, and relays at which it waits. Hints, which nobody has to believe.
//!
//! As text it follows a node's name: `pasture://<node>?direct=198.18.0.1:7841&relay=https://198.18.0.1:7843`.

use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use pasture_types::NodeId;
use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};

/// How addresses of nodes begin.
const SCHEME: &str = "pasture://";
/// Most addresses of one kind: a machine has a few, and each is tried.
const MAX_ADDRESSES: usize = 16;
/// Longest URL of a relay.
const MAX_URL: usize = 256;

/// Where a node can be reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Addresses at which it hears datagrams, as far as it knows.
    pub direct: Vec<SocketAddr>,
    /// URLs of relays at which it waits.
    pub relays: Vec<String>,
}

/// A text is no address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It does not look like one.
    #[error("`pasture://` and a node's 64 hex digits are expected")]
    Form,
    /// One of its parts cannot be read.
    #[error("`{0}` is no address of a node: `direct=IP:PORT` and `relay=URL` are expected")]
    Part(String),
    /// It has too many.
    #[error("at most {MAX_ADDRESSES} addresses of a kind are possible")]
    Many,
}

impl Place {
    /// A node's address as one word.
    #[must_use]
    pub fn with_node(&self, node: &NodeId) -> String {
        let mut text = format!("{SCHEME}{node}");
        let direct = self.direct.iter().map(|address| format!("direct={address}"));
        for (at, part) in direct.chain(self.relays.iter().map(|url| format!("relay={url}"))).enumerate() {
            // Writing into a string cannot fail.
            let _ = write!(text, "{}{part}", if at == 0 { '?' } else { '&' });
        }
        text
    }

    /// Whether a text is meant to be a node's address.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Reads a node's address.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn parse(text: &str) -> Result<(NodeId, Self), PlaceError> {
        let rest = text.strip_prefix(SCHEME).ok_or(PlaceError::Form)?;
        let (node, query) = rest.split_once('?').map_or((rest, None), |(node, query)| (node, Some(query)));
        let node: NodeId = node.trim_end_matches('/').parse().map_err(|_| PlaceError::Form)?;
        let mut place = Self::default();
        for part in query.iter().flat_map(|query| query.split('&')) {
            let wrong = || PlaceError::Part(part.chars().take(80).collect());
            match part.split_once('=') {
                Some(("direct", address)) => place.direct.push(address.parse().map_err(|_| wrong())?),
                Some(("relay", url)) => {
                    relay_url(url).ok_or_else(wrong)?;
                    place.relays.push(url.into());
                }
                _ => return Err(wrong()),
            }
        }
        if place.direct.len() > MAX_ADDRESSES || place.relays.len() > MAX_ADDRESSES {
            return Err(PlaceError::Many);
        }
        Ok((node, place))
    }

    /// What the library makes of it.
    pub(crate) fn address(&self, id: EndpointId) -> EndpointAddr {
        let direct = self.direct.iter().map(|address| TransportAddr::Ip(*address));
        let relays = self.relays.iter().filter_map(|url| relay_url(url)).map(TransportAddr::Relay);
        EndpointAddr::from_parts(id, direct.chain(relays))
    }

    /// What the library knows of one.
    pub(crate) fn of(address: &EndpointAddr) -> Self {
        let direct = address.ip_addrs().copied().take(MAX_ADDRESSES).collect();
        let relays = address.relay_urls().take(MAX_ADDRESSES).map(relay_text).collect();
        Self { direct, relays }
    }
}

/// What ends the names that stand for addresses of IPv6 within this process; nobody else resolves one (RFC 6761, §6.4).
const NAME_OF_V6: &str = ".v6.pasture.invalid";

/// The address of IPv6 that a name stands for.
pub(crate) fn address_in_name(name: &str) -> Option<Ipv6Addr> {
    let digits = name.trim_end_matches('.').strip_suffix(NAME_OF_V6)?;
    (digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u128::from_str_radix(digits, 16).ok().map(Into::into))
        .flatten()
}

/// A relay's URL as the library takes it, if it can be one. It takes no address of IPv6 for a server's name: a name stands for that.
pub(crate) fn relay_url(url: &str) -> Option<RelayUrl> {
    let plain =
        url.len() <= MAX_URL && url.starts_with("https://") && url.bytes().all(|b| b.is_ascii_graphic() && !b"&?#\"<>".contains(&b));
    let parsed: RelayUrl = plain.then(|| url.parse().ok()).flatten()?;
    let address = parsed.host_str()?.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::parse::<Ipv6Addr>);
    let Some(address) = address else { return Some(parsed) };
    let port = parsed.port_or_known_default()?;
    format!("https://{:032x}{NAME_OF_V6}:{port}", u128::from(address.ok()?)).parse().ok()
}

/// The URL that [`relay_url`] made this of.
fn relay_text(url: &RelayUrl) -> String {
    match (url.host_str().and_then(address_in_name), url.port_or_known_default()) {
        (Some(address), Some(port)) => format!("https://[{address}]:{port}"),
        _ => url.to_string().trim_end_matches('/').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_relay_at_an_address_of_ipv6_has_a_name_within_this_process_alone() {
        let text = "https://[2001:db8::2]:8731";
        let url = relay_url(text).unwrap();
        assert_eq!(url.host_str().unwrap(), "20010db8000000000000000000000002.v6.pasture.invalid");
        assert_eq!(address_in_name(url.host_str().unwrap()), Some("2001:db8::2".parse().unwrap()));
        assert_eq!(relay_text(&url), text);
        assert_eq!(relay_text(&relay_url("https://[::1]").unwrap()), "https://[::1]:443");
        for other in ["https://198.18.0.9:7843", "https://relay.example.org"] {
            assert_eq!(relay_text(&relay_url(other).unwrap()), other);
        }
        for none in
            ["", "example.org", "v6.pasture.invalid", "12.v6.pasture.invalid", "+0010db8000000000000000000000002.v6.pasture.invalid"]
        {
            assert_eq!(address_in_name(none), None, "{none}");
        }
    }

    #[test]
    fn an_address_of_a_node_is_one_word_and_comes_back() {
        let node = NodeId([0xab; 32]);
        let place = Place {
            direct: vec!["198.18.0.1:7841".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()],
            relays: vec!["https://198.18.0.9:7843".into()],
        };
        let text = place.with_node(&node);
        assert_eq!(text, format!("pasture://{node}?direct=198.18.0.1:7841&direct=[2001:db8::1]:9&relay=https://198.18.0.9:7843"));
        assert_eq!(Place::parse(&text), Ok((node, place)));
        assert_eq!(Place::parse(&format!("pasture://{node}/")), Ok((node, Place::default())));
    }

    #[test]
    fn what_is_no_address_of_a_node_is_refused() {
        let node = NodeId([1; 32]);
        let refused = |text: &str| Place::parse(text).unwrap_err();
        assert_eq!(refused(&format!("http://{node}")), PlaceError::Form);
        assert_eq!(refused("pasture://abcd"), PlaceError::Form);
        for part in ["direct=host:1", "direct=1.2.3.4", "relay=http://1.2.3.4:5", "relay=https://a b", "other=1", ""] {
            assert_eq!(refused(&format!("pasture://{node}?{part}")), PlaceError::Part(part.into()));
        }
        let many = vec!["direct=1.2.3.4:5"; MAX_ADDRESSES + 1].join("&");
        assert_eq!(refused(&format!("pasture://{node}?{many}")), PlaceError::Many);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,120}") {
            let _ = Place::parse(&text);
            let _ = Place::parse(&format!("pasture://{}?{text}", NodeId([2; 32])));
        }
    }
}
