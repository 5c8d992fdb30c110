//! Who serves a network's API, and at which relays its nodes wait, beyond what a ticket said.
//!
//! ```text
//!  validator with a gate ─ notice ─► every validator ─► its gate: GET /v1/gates ─► machines and people, who keep it in a file
//! ```
//! Guarantees: validators name gates, each one gate and a few relays, and nobody else does, so that strangers cannot fill the list. What was
//! learned is put beside a ticket and never in the place of it: whoever is told lies can still go back to whom the ticket named. A file that
//! cannot be read, or is of another network, counts for nothing.

use crate::public::{MAX_RELAYS, Own};
use pasture_api::ApiClient;
use pasture_chain::Chain;
use pasture_net::{Endpoint, Ticket};
use pasture_store::write_atomic;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// How often a machine asks who serves its network.
const LOOK: Duration = Duration::from_secs(300);
/// How soon it asks again if nobody answered.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Largest file; a ticket is shorter.
const MAX_BYTES: u64 = 8 << 10;

/// Tells the other validators of this one's gate, and keeps the list of theirs, for as long as it is polled.
pub(crate) async fn share(chain: Chain, node: Own, network: watch::Sender<Ticket>) {
    let (mut news, mut changes) = (chain.news(), node.endpoint().changes());
    loop {
        news.mark_unchanged();
        changes.mark_unchanged();
        let own = node.ticket();
        chain.say(&own.content());
        let others: Vec<Ticket> = chain.heard().iter().filter_map(|(_, notice)| named(&own, notice)).collect();
        let all = others.iter().fold(own, Ticket::with);
        node.endpoint().set_network(&all).await;
        network.send_replace(all);
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// The gate that a validator's notice names; `None` if it is no such notice.
fn named(own: &Ticket, notice: &[u8]) -> Option<Ticket> {
    let ticket = Ticket::read(notice).ok()?;
    let fits = ticket.zone == own.zone && ticket.gates.len() == 1 && ticket.relays.len() <= MAX_RELAYS && ticket.invite.is_none();
    fits.then_some(ticket)
}

/// A ticket with what was learned since, as a file keeps it.
#[must_use]
pub fn with_learned(ticket: &Ticket, file: &Path) -> Ticket {
    let small = std::fs::metadata(file).is_ok_and(|about| about.len() <= MAX_BYTES);
    let kept = small.then(|| std::fs::read_to_string(file).ok()).flatten();
    match kept.and_then(|text| Ticket::parse(&text).ok()).filter(|learned| learned.zone == ticket.zone) {
        Some(learned) => ticket.clone().with(&learned),
        None => ticket.clone(),
    }
}

/// Asks who serves the network, and keeps the answer; returns the ticket with it, `None` if nobody answered as they should.
pub async fn learn(client: &ApiClient, ticket: &Ticket, file: &Path) -> Option<Ticket> {
    let shown = client.gates().await.ok()?;
    let learned = Ticket::parse(&shown.ticket).ok().filter(|learned| learned.zone == ticket.zone)?;
    let text = Ticket { invite: None, ..learned.clone() }.to_text();
    // Also if it says what it said before: its age tells when it was asked for last.
    let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    if folder.is_err() || write_atomic(file, text.as_bytes()).is_err() {
        tracing::warn!(file = %file.display(), "who serves the network could not be written down");
    }
    Some(ticket.clone().with(&learned))
}

/// Keeps an endpoint and a file up to date about who serves the network, for as long as it is polled.
pub(crate) async fn follow(client: ApiClient, endpoint: Endpoint, ticket: Ticket, file: PathBuf) {
    loop {
        let pause = match learn(&client, &ticket, &file).await {
            Some(network) => {
                endpoint.set_network(&network).await;
                LOOK
            }
            None => LOOK_AGAIN,
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_net::{Gate, Relay};
    use pasture_types::{NodeId, ZoneId};

    fn ticket(zone: u8, gates: &[u8]) -> Ticket {
        let gate = |n: &u8| Gate { node: NodeId([*n; 32]), direct: vec![([198, 18, 0, *n], 8730).into()] };
        let relay = |n: &u8| Relay { url: format!("https://198.18.0.{n}:8731"), pin: [*n; 32] };
        Ticket {
            zone: ZoneId([zone; 32]),
            gates: gates.iter().map(gate).collect(),
            relays: gates.iter().map(relay).collect(),
            invite: None,
        }
    }

    #[test]
    fn a_validator_names_one_gate_of_this_network() {
        let own = ticket(1, &[1]);
        let read = |other: &Ticket| named(&own, &other.content()).map(|t| t.gates.len());
        assert_eq!(read(&ticket(1, &[2])), Some(1));
        assert_eq!(read(&ticket(1, &[2, 3])), None, "a crowd");
        assert_eq!(read(&ticket(2, &[2])), None, "another network");
        let relays = Ticket { relays: ticket(1, &[4, 5, 6]).relays, ..ticket(1, &[2]) };
        assert_eq!(read(&relays), None, "too many relays");
        assert_eq!(named(&own, b"something else").map(|t| t.gates.len()), None);
        assert!(ticket(1, &[2]).content().len() < pasture_chain::MAX_NOTICE);
    }

    #[test]
    fn what_was_learned_stands_beside_the_ticket_and_a_spoilt_file_harms_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("network");
        let given = ticket(1, &[1]);
        let gates = |file: &Path| with_learned(&given, file).gates.iter().map(|g| g.node.0[0]).collect::<Vec<_>>();
        assert_eq!(gates(&file), [1]);
        std::fs::write(&file, ticket(1, &[2, 3]).to_text()).unwrap();
        assert_eq!(gates(&file), [1, 2, 3]);
        std::fs::write(&file, ticket(2, &[2]).to_text()).unwrap();
        assert_eq!(gates(&file), [1], "another network's");
        std::fs::write(&file, "pasture-join-spoilt").unwrap();
        assert_eq!(gates(&file), [1]);
        std::fs::write(&file, vec![b'a'; 1 << 20]).unwrap();
        assert_eq!(gates(&file), [1]);
    }
}
