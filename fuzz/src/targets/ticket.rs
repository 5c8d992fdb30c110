//! What a machine is given to join with, and what nodes say of where they are: read or refused, and what is read says the same when it is written.

use pasture_net::{Place, Ticket};

/// Takes one input: `0` and text, or a ticket's content; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if *kind != b'0' {
        if let Ok(ticket) = Ticket::read(rest) {
            let again = Ticket::parse(&ticket.to_text()).expect("what was read can be written");
            assert_eq!(again.content(), ticket.content());
            for gate in &ticket.gates {
                let place = ticket.place_of(gate);
                let (node, read) = Place::parse(&place.with_node(&gate.node)).expect("what a ticket names is an address");
                assert_eq!((node, read), (gate.node, place));
            }
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if let Ok((node, place)) = Place::parse(text) {
        let again = place.with_node(&node);
        assert!(Place::is_meant(&again));
        assert_eq!(Place::parse(&again), Ok((node, place)));
    }
    if let Ok(ticket) = Ticket::parse(text) {
        assert_eq!(ticket.to_text(), text.trim());
    }
}
