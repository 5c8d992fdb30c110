//! Networks in this LAN: nodes that let others in say so by multicast DNS (RFC 6762, 6763), and whoever has no ticket asks.
//!
//! Guarantees: what is said holds a ticket and the network's name, nothing secret; what is heard may be anybody's, so nothing is joined because of it
//! alone. A node that others reach at one address says it on that address's interface only.

use crate::{NetError, Ticket};
use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use pasture_types::NodeId;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SERVICE: &str = "_pasture._udp.local.";
/// What a record's text may hold less its name (RFC 6763, §6.1: 255 bytes).
const PIECE: usize = 200;
/// Most pieces of a ticket.
const PIECES: usize = 20;
/// Longest name that is shown.
const MAX_NAME: usize = 64;
/// Most networks that are told of.
const MAX_FOUND: usize = 32;

/// A network that somebody in this LAN lets others in to, as they say.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is called; of plain characters, and believed by nobody.
    pub name: String,
    /// How it is joined.
    pub ticket: Ticket,
}

fn wrong(e: &mdns_sd::Error) -> NetError {
    NetError::Lan(e.to_string())
}

/// Says in this LAN that a network can be joined, until it is dropped.
pub struct Announcement {
    daemon: ServiceDaemon,
}

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Announcement")
    }
}

impl Announcement {
    /// Begins to say it. `listen`: where the node listens.
    ///
    /// # Errors
    /// Multicast DNS cannot be had.
    pub fn begin(name: &str, node: &NodeId, ticket: &Ticket, listen: SocketAddr) -> Result<Self, NetError> {
        let daemon = ServiceDaemon::new().map_err(|e| wrong(&e))?;
        let announcement = Self { daemon };
        if !listen.ip().is_unspecified() {
            announcement.daemon.disable_interface(IfKind::All).map_err(|e| wrong(&e))?;
            announcement.daemon.enable_interface(IfKind::Addr(listen.ip())).map_err(|e| wrong(&e))?;
        }
        let text = Ticket { invite: None, ..ticket.clone() }.to_text();
        let mut told = vec![("name".to_owned(), plain(name))];
        let pieces = text.as_bytes().chunks(PIECE).map(String::from_utf8_lossy).enumerate();
        told.extend(pieces.map(|(n, piece)| (format!("t{n}"), piece.into_owned())));
        let addresses: Vec<IpAddr> =
            ticket.gates.iter().filter(|gate| gate.node == *node).flat_map(|gate| &gate.direct).map(SocketAddr::ip).collect();
        let short = node.short();
        let info = ServiceInfo::new(
            SERVICE,
            &format!("pasture {short}"),
            &format!("pasture-{short}.local."),
            &addresses[..],
            listen.port(),
            &told[..],
        );
        announcement.daemon.register(info.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
        Ok(announcement)
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Says goodbye, in its own thread.
        let _ = self.daemon.shutdown();
    }
}

/// The characters of a name that can be shown.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_NAME).collect::<String>().trim().to_owned()
}

/// The networks that are told of in this LAN within some time, each once.
///
/// # Errors
/// Multicast DNS cannot be had.
pub async fn look(within: Duration) -> Result<Vec<Found>, NetError> {
    let daemon = ServiceDaemon::new().map_err(|e| wrong(&e))?;
    let heard = daemon.browse(SERVICE).map_err(|e| wrong(&e))?;
    let mut found = BTreeMap::new();
    let listen = async {
        while let Ok(event) = heard.recv_async().await {
            let ServiceEvent::ServiceResolved(service) = event else { continue };
            let text = |key: &str| service.txt_properties.get_property_val_str(key);
            if let Some(network) = understood(&text).filter(|_| found.len() < MAX_FOUND) {
                let known = found.entry(network.ticket.zone).or_insert_with(|| network.clone());
                // Several of its nodes may be here.
                known.ticket = known.ticket.clone().with(&network.ticket);
            }
        }
    };
    let _ = tokio::time::timeout(within, listen).await;
    let _ = daemon.shutdown();
    Ok(found.into_values().collect())
}

/// What the texts of a record say, if they make sense.
fn understood<'a>(text: &dyn Fn(&str) -> Option<&'a str>) -> Option<Found> {
    let ticket: String = (0..PIECES).map_while(|n| text(&format!("t{n}"))).collect();
    let ticket = Ticket::parse(&ticket).ok().filter(|ticket| ticket.invite.is_none())?;
    let name = text("name").map(plain).filter(|name| !name.is_empty()).unwrap_or_else(|| ticket.zone.short());
    Some(Found { name, ticket })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gate;
    use pasture_types::ZoneId;

    #[test]
    fn what_is_heard_is_a_ticket_in_pieces_and_a_plain_name() {
        let gate = |n: u8| Gate { node: NodeId([n; 32]), direct: vec![SocketAddr::from(([198, 18, 0, n], 8_730))] };
        let ticket = Ticket { zone: ZoneId([7; 32]), gates: (1..9).map(gate).collect(), relays: vec![], invite: None };
        let text = ticket.to_text();
        assert!(text.len() > 2 * PIECE, "several pieces");
        let pieces: Vec<&str> = text.as_bytes().chunks(PIECE).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
        let with = |name: Option<&'static str>, skip: usize| {
            let pieces = pieces.clone();
            understood(&move |key: &str| match key.strip_prefix('t') {
                Some(n) => n.parse::<usize>().ok().filter(|n| *n != skip).and_then(|n| pieces.get(n).copied()),
                None => name.filter(|_| key == "name"),
            })
        };
        let found = with(Some("my\u{1b}[31m  home"), 99).unwrap();
        assert_eq!((found.name.as_str(), found.ticket.to_text()), ("my[31m  home", text.clone()));
        assert_eq!(with(None, 99).unwrap().name, ticket.zone.short());
        assert!(with(Some("home"), 1).is_none(), "a piece is missing");
    }
}
