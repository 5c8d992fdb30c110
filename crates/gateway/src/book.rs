//! The address book: where the data plane of each connected node listens.
//!
//! Guarantees: an address has been announced under the node's own key and names a loopback address unless remote ones
//! are allowed, so that nobody makes this gateway call elsewhere. An address lives for [`ANNOUNCED_FOR`] after it was last
//! announced, which nodes do again well before. It is kept in memory only: nodes also announce themselves after a restart. It
//! does not try whether anybody listens; an address that failed is forgotten.

use pasture_api::{ANNOUNCED_FOR, Problem};
use pasture_net::{Endpoint, Place, Service};
use pasture_types::{NodeId, Timestamp};
use reqwest::Url;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most nodes connected to one gateway.
pub(crate) const MAX_NODES: usize = 65_536;
/// Longest address in bytes.
const MAX_ADDRESS: usize = 256;
/// The same of one that is called peer to peer: several addresses and relays.
const MAX_PEER_ADDRESS: usize = 2_048;

/// Which addresses are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// Only this machine's loopback addresses.
    Loopback,
    /// Any.
    Anywhere,
}

/// The book. A lock and not a task of its own: each use is one look-up in memory.
pub(crate) struct AddressBook {
    reach: Reach,
    /// Who calls those that announce themselves peer to peer.
    endpoint: Option<Endpoint>,
    entries: Mutex<BTreeMap<NodeId, Entry>>,
}

struct Entry {
    address: Url,
    /// What it announced, if it is called peer to peer.
    place: Option<String>,
    /// Until when it counts.
    until: Timestamp,
}

impl AddressBook {
    pub(crate) const fn new(reach: Reach, endpoint: Option<Endpoint>) -> Self {
        Self { reach, endpoint, entries: Mutex::new(BTreeMap::new()) }
    }
    fn entries(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Enters, replaces or renews a node's address; whether it is news.
    pub(crate) fn set(&self, node: NodeId, address: &str, now: Timestamp) -> Result<bool, Problem> {
        let (address, place) = match Place::is_meant(address) {
            true => (self.peer(&node, address)?, Some(address.to_owned())),
            false => (parse(address, self.reach)?, None),
        };
        let mut entries = self.entries();
        if entries.len() >= MAX_NODES && !entries.contains_key(&node) {
            // A full book is the time to look for those that left; between, each is looked at when it is asked for.
            entries.retain(|_, e| now < e.until);
            if entries.len() >= MAX_NODES {
                return Err(Problem::unavailable(format!("this gateway already serves {MAX_NODES} nodes: announce to another one")));
            }
        }
        let entry = Entry { address: address.clone(), place: place.clone(), until: now.plus(ANNOUNCED_FOR) };
        let before = entries.insert(node, entry);
        Ok(before.is_none_or(|e| e.until <= now || e.address != address || e.place != place))
    }
    /// The URL of a node that is called peer to peer; where it is goes to the endpoint.
    fn peer(&self, node: &NodeId, address: &str) -> Result<Url, Problem> {
        let wrong = |why: String| Problem::bad_request(format!("this cannot be a node's address: {why}"));
        let endpoint = self.endpoint.as_ref().ok_or_else(|| wrong("this gateway calls nobody peer to peer".into()))?;
        if address.len() > MAX_PEER_ADDRESS {
            return Err(wrong("it is too long".into()));
        }
        let (named, place) = Place::parse(address).map_err(|e| wrong(e.to_string()))?;
        if named != *node {
            return Err(wrong("it names another node".into()));
        }
        endpoint.learn(node, &place);
        Url::parse(&Service::Node.url(node)).map_err(|e| wrong(e.to_string()))
    }
    /// What a node announced that is called peer to peer.
    pub(crate) fn place(&self, node: &NodeId, now: Timestamp) -> Option<String> {
        self.entries().get(node).filter(|e| now < e.until)?.place.clone()
    }
    pub(crate) fn get(&self, node: &NodeId, now: Timestamp) -> Option<Url> {
        self.entries().get(node).filter(|e| now < e.until).map(|e| e.address.clone())
    }
    pub(crate) fn knows(&self, node: &NodeId, now: Timestamp) -> bool {
        self.entries().get(node).is_some_and(|e| now < e.until)
    }
    /// Forgets an address where nobody answered, unless the node has announced another one since.
    pub(crate) fn forget(&self, node: &NodeId, failed: &Url) {
        let mut entries = self.entries();
        if entries.get(node).is_some_and(|e| e.address == *failed) {
            entries.remove(node);
        }
    }
    /// How many are connected.
    pub(crate) fn len(&self, now: Timestamp) -> usize {
        self.entries().values().filter(|e| now < e.until).count()
    }
}

fn parse(text: &str, reach: Reach) -> Result<Url, Problem> {
    let wrong = |why: &str| {
        let shown: String = text.chars().take(MAX_ADDRESS).collect();
        Problem::bad_request(format!("`{shown}` cannot be a node's address: {why}; e.g. http://127.0.0.1:4711 is expected"))
    };
    if text.len() > MAX_ADDRESS {
        return Err(wrong("it is too long"));
    }
    let url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    if url.scheme() != "http" {
        return Err(wrong("it does not begin with http://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has more than a host and a port"));
    }
    if url.port() == Some(0) {
        return Err(wrong("nobody listens on port 0"));
    }
    // Only literal addresses are loopback for certain: a name resolves to whatever its owner says when we call.
    let ip = url.host_str().and_then(|h| h.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    match (reach, ip) {
        (Reach::Anywhere, _) => Ok(url),
        (Reach::Loopback, Some(ip)) if ip.is_loopback() => Ok(url),
        (Reach::Loopback, _) => Err(wrong("this gateway only takes nodes on its own machine (a loopback address)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_loopback_addresses_are_taken() {
        for good in ["http://127.0.0.1:4711", "http://127.9.9.9:1/", "http://[::1]:80", "http://127.0.0.1"] {
            assert!(parse(good, Reach::Loopback).is_ok(), "{good}");
        }
        let long = format!("http://127.0.0.1:1/{}", "x".repeat(300));
        for bad in [
            "",
            "127.0.0.1:4711",
            "https://127.0.0.1:1",
            "file:///etc/passwd",
            "http://localhost:1",
            "http://10.0.0.1:1",
            "http://169.254.169.254",
            "http://127.0.0.1.example.org:1",
            "http://user@127.0.0.1:1",
            "http://user:secret@127.0.0.1:1",
            "http://127.0.0.1:1/path",
            "http://127.0.0.1:1/?q",
            "http://127.0.0.1:1/#f",
            "http://127.0.0.1:0",
            "http://[::ffff:8.8.8.8]:1",
            &long,
        ] {
            let problem = parse(bad, Reach::Loopback).unwrap_err();
            assert_eq!(problem.status, 400, "{bad}");
            assert!(problem.detail.contains("http://127.0.0.1:4711 is expected"), "{}", problem.detail);
        }
        assert!(parse("http://10.0.0.1:1", Reach::Anywhere).is_ok());
        assert!(parse("http://10.0.0.1:1/path", Reach::Anywhere).is_err());
    }

    #[test]
    fn a_failed_address_is_forgotten_but_not_its_successor() {
        let book = AddressBook::new(Reach::Loopback, None);
        let (node, now) = (NodeId([1; 32]), Timestamp(5));
        book.set(node, "http://127.0.0.1:1", now).unwrap();
        let old = book.get(&node, now).unwrap();
        book.set(node, "http://127.0.0.1:2", now).unwrap();
        book.forget(&node, &old);
        assert!(book.knows(&node, now));
        let new = book.get(&node, now).unwrap();
        book.forget(&node, &new);
        assert!(!book.knows(&node, now));
    }

    #[test]
    fn an_address_lives_as_long_as_it_is_renewed() {
        let book = AddressBook::new(Reach::Loopback, None);
        let node = NodeId([1; 32]);
        let at = |ms| Timestamp(ANNOUNCED_FOR.0 + ms);
        assert!(book.set(node, "http://127.0.0.1:1", Timestamp(0)).unwrap());
        assert!(book.knows(&node, Timestamp(ANNOUNCED_FOR.0 - 1)));
        assert!(!book.knows(&node, at(0)) && book.get(&node, at(0)).is_none() && book.len(at(0)) == 0);
        assert!(book.set(node, "http://127.0.0.1:1", at(0)).unwrap(), "one that was gone is news");
        assert!(!book.set(node, "http://127.0.0.1:1", at(9)).unwrap(), "one that is renewed is not");
        assert!(book.knows(&node, Timestamp(at(8).0 + ANNOUNCED_FOR.0)));
    }
}
