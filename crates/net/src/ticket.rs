//! A ticket: all that a machine needs to reach a network that it never heard of. One word, to be copied or scanned.
//!
//! `pasture-join-` and, in base32 without padding, borsh of [`Content`] and six bytes of its hash, so that a mistyped one is told from a wrong one.
//! It says where, not who may: an invite (money to begin with) can be inside.

use crate::place::{Place, relay_url};
use crate::relay::Relay;
use borsh::{BorshDeserialize, BorshSerialize};
use data_encoding::{Encoding, Specification};
use pasture_types::grant::InviteCode;
use pasture_types::ids::derive;
use pasture_types::{AccountId, GrantId, NodeId, ZoneId};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

/// How tickets begin.
const PREFIX: &str = "pasture-join-";
const DOMAIN: &str = "pasture join ticket v1";
/// Bytes of the hash.
const CHECKSUM: usize = 6;
/// Longest ticket in bytes of text.
const MAX_TEXT: usize = 4096;
/// Most gates, relays, and addresses of a gate.
const MAX_LIST: usize = 16;

/// RFC 4648 in small letters.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut form = Specification::new();
    form.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    form.encoding().unwrap_or(data_encoding::HEXLOWER)
});

/// A node that serves the API and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gate {
    /// Its key.
    pub node: NodeId,
    /// Where it hears datagrams.
    pub direct: Vec<SocketAddr>,
}

/// All that a machine needs to reach a network.
#[derive(Clone)]
pub struct Ticket {
    /// The network: the hash of its genesis.
    pub zone: ZoneId,
    /// Nodes that serve its API; any of them will do.
    pub gates: Vec<Gate>,
    /// Relays, at which its nodes wait.
    pub relays: Vec<Relay>,
    /// Money to begin with.
    pub invite: Option<InviteCode>,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("zone", &self.zone).field("gates", &self.gates).field("relays", &self.relays).finish_non_exhaustive()
    }
}

/// A text is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not look like one.
    #[error("this is not a ticket; it begins with `{PREFIX}` and is one word")]
    Form,
    /// Something in it is mistyped.
    #[error("the ticket is mistyped or incomplete; copy it whole")]
    Checksum,
    /// It is of another version.
    #[error("the ticket was made by another version of this program; update the older one of the two")]
    Version,
    /// It names nobody to begin with, or too many.
    #[error("the ticket names no node of a network")]
    Empty,
}

/// A key, and its addresses.
type GateContent = ([u8; 32], Vec<(IpAddr, u16)>);

#[derive(BorshSerialize, BorshDeserialize)]
enum Content {
    V1 {
        zone: [u8; 32],
        gates: Vec<GateContent>,
        /// URL and certificate of each.
        relays: Vec<(String, [u8; 32])>,
        /// Grant, account and seed.
        invite: Option<[[u8; 32]; 3]>,
    },
}

impl Ticket {
    /// Where a gate can be reached: at its own addresses, and at every relay.
    #[must_use]
    pub fn place_of(&self, gate: &Gate) -> Place {
        Place { direct: gate.direct.clone(), relays: self.relays.iter().map(|relay| relay.url.clone()).collect() }
    }

    /// The ticket as one word.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = self.content();
        let sum = derive(DOMAIN, &[&bytes]);
        bytes.extend(sum.iter().take(CHECKSUM));
        format!("{PREFIX}{}", BASE32.encode(&bytes))
    }

    /// Reads a ticket.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let word = text.trim().strip_prefix(PREFIX).ok_or(TicketError::Form)?;
        if word.len() > MAX_TEXT {
            return Err(TicketError::Form);
        }
        let bytes = BASE32.decode(word.as_bytes()).map_err(|_| TicketError::Checksum)?;
        let (content, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(TicketError::Checksum)?;
        if !derive(DOMAIN, &[content]).starts_with(sum) {
            return Err(TicketError::Checksum);
        }
        Self::read(content)
    }

    /// What [`Ticket::to_text`] writes before the checksum.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let gates = self.gates.iter().map(|gate| (gate.node.0, gate.direct.iter().map(|at| (at.ip(), at.port())).collect())).collect();
        let relays = self.relays.iter().map(|relay| (relay.url.clone(), relay.pin)).collect();
        let invite = self.invite.as_ref().map(|invite| [invite.grant.0, invite.account.0, invite.seed]);
        pasture_types::codec::encode(&Content::V1 { zone: self.zone.0, gates, relays, invite })
    }

    /// Reads a ticket's content.
    ///
    /// # Errors
    /// [`TicketError`], but for a checksum.
    pub fn read(content: &[u8]) -> Result<Self, TicketError> {
        let Content::V1 { zone, gates, relays, invite } = borsh::from_slice(content).map_err(|_| TicketError::Version)?;
        let zone = ZoneId(zone);
        let fits = |count: usize| count <= MAX_LIST;
        if gates.is_empty() || !fits(gates.len()) || !fits(relays.len()) || !gates.iter().all(|(_, direct)| fits(direct.len())) {
            return Err(TicketError::Empty);
        }
        if !relays.iter().all(|(url, _)| relay_url(url).is_some()) {
            return Err(TicketError::Version);
        }
        let gate = |(node, direct): GateContent| Gate { node: NodeId(node), direct: direct.into_iter().map(SocketAddr::from).collect() };
        let invite = invite.map(|[grant, account, seed]| InviteCode { zone, grant: GrantId(grant), account: AccountId(account), seed });
        Ok(Self {
            zone,
            gates: gates.into_iter().map(gate).collect(),
            relays: relays.into_iter().map(|(url, pin)| Relay { url, pin }).collect(),
            invite,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        Ticket {
            zone: ZoneId([1; 32]),
            gates: vec![Gate { node: NodeId([2; 32]), direct: vec!["198.18.0.1:7841".parse().unwrap(), "[::1]:5".parse().unwrap()] }],
            relays: vec![Relay { url: "https://198.18.0.1:7843".into(), pin: [3; 32] }],
            invite: Some(InviteCode { zone: ZoneId([1; 32]), grant: GrantId([4; 32]), account: AccountId([5; 32]), seed: [6; 32] }),
        }
    }

    #[test]
    fn a_ticket_survives_copying_and_no_typing_error() {
        let text = ticket().to_text();
        let read = Ticket::parse(&format!(" {text}\n")).unwrap();
        assert_eq!((read.gates, read.relays, read.zone), (ticket().gates, ticket().relays, ticket().zone));
        assert_eq!(read.invite.unwrap().to_text(), ticket().invite.unwrap().to_text());
        for at in PREFIX.len()..text.len() {
            let mut typo: Vec<char> = text.chars().collect();
            typo[at] = if typo[at] == 'a' { 'b' } else { 'a' };
            assert!(Ticket::parse(&typo.into_iter().collect::<String>()).is_err(), "at {at}");
        }
        assert_eq!(Ticket::parse("pasture-invite-00").unwrap_err(), TicketError::Form);
        assert_eq!(Ticket::parse(&text[..text.len() - 8]).unwrap_err(), TicketError::Checksum);
        let nobody = Ticket { gates: vec![], ..ticket() };
        assert_eq!(Ticket::parse(&nobody.to_text()).unwrap_err(), TicketError::Empty);
        assert!(!format!("{:?}", ticket()).contains("6, 6"), "no secret in what is printed");
    }

    #[test]
    fn a_ticket_without_an_invite_fits_into_a_line_that_can_be_scanned() {
        let text = Ticket { invite: None, ..ticket() }.to_text();
        assert!(text.len() < 320, "{} characters", text.len());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(mut bytes: Vec<u8>) {
            let sum = derive(DOMAIN, &[&bytes]);
            bytes.extend(sum.iter().take(CHECKSUM));
            let _ = Ticket::parse(&format!("{PREFIX}{}", BASE32.encode(&bytes)));
        }
    }
}
