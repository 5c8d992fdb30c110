//! The market's frozen formats: borsh bytes of its actions, events, terms and records. A change here breaks every ledger there is.
//!
//! When a format changes on purpose, the new text is in the file that the failure names; copy it over and write an ADR.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::credential::{CredentialKind, CredentialQuery};
use pasture_types::event::Event;
use pasture_types::market::*;
use pasture_types::market_rules::*;
use pasture_types::tx::Action;
use pasture_types::*;
use std::fmt::Write as _;

const FROZEN: &str = include_str!("golden/market.txt");

struct Book(String);

impl Book {
    /// Writes a line, after checking that the bytes decode to the same value.
    fn add<T: borsh::BorshSerialize + borsh::BorshDeserialize + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: &T) {
        let bytes = codec::encode(value);
        assert_eq!(codec::decode::<T>(&bytes, 1 << 20).as_ref(), Ok(value), "{name}");
        let mut hex = String::new();
        for b in bytes {
            write!(hex, "{b:02x}").unwrap();
        }
        writeln!(self.0, "{name} {hex}").unwrap();
    }
}

fn machine() -> Resources {
    Resources {
        cpu_millis: 1_500,
        memory_bytes: 3 << 30,
        disk_bytes: 5,
        gpus: vec![GpuLine { model: "H100".into(), count: 2, vram_bytes: 80 << 30 }],
        services: vec![ServiceLine { class: "inference.tokens".into(), units: 7 }],
    }
}

fn offer() -> OfferTerms {
    OfferTerms {
        resources: machine(),
        rates: Rates { cpu_core: Amount(1), memory_gib: Amount(2), disk_gib: Amount(3), gpus: vec![Amount(4)], services: vec![Amount(5)] },
        asset: AssetId::CREDIT,
        region: "eu-west".into(),
        egress: Egress::Open,
        max_duration: Millis(6),
        attributes: vec![("tier".into(), "4".into())],
        min_duration: Millis(7),
        max_leases: 8,
        windows: vec![Window { from: 9, to: 10 }],
        valid_until: Some(Timestamp(11)),
        price_lock: Millis(12),
    }
}

fn order(term: Term) -> OrderTerms {
    let query = CredentialQuery { issuer: Some(AccountId([1; 32])), kind: CredentialKind::Audit, at_least: 3 };
    OrderTerms {
        resources: machine(),
        constraints: vec![Constraint::Credential(query)],
        target_price_per_hour: Amount(13),
        term,
        preemptible: true,
        ..World::new().order_terms()
    }
}

fn events() -> Vec<(&'static str, MarketEvent)> {
    let (lease, account, node) = (LeaseId([1; 32]), AccountId([2; 32]), NodeId([3; 32]));
    let at = Timestamp(START);
    vec![
        ("offer_paused", MarketEvent::OfferPaused { offer: OfferId([4; 32]), paused: true }),
        ("lease_low", MarketEvent::LeaseLow { lease, account, ends: at }),
        ("rental_renewed", MarketEvent::RentalRenewed { lease, account, escrow: Amount(5), ends: at }),
        ("rental_cancelled", MarketEvent::RentalCancelled { lease, account, fee: Amount(6) }),
        ("preempt_notice", MarketEvent::PreemptNotice { lease, account, node, at }),
        ("node_dismissed", MarketEvent::NodeDismissed { node, provider: account }),
    ]
}

fn tenure() -> Tenure {
    let line = |class, units| LeaseLine { class, units, rate_per_hour: Amount(units.into()) };
    Tenure {
        lines: vec![
            line(LineClass::Cpu, 1),
            line(LineClass::Memory, 2),
            line(LineClass::Disk, 3),
            line(LineClass::Gpu("H100".into()), 4),
            line(LineClass::Service("storage.gib".into()), 5),
        ],
        term: Term::Rental { unit: BillingUnit::Hour, committed: 1, locked: 2, renew: true },
        budget: Amount(6),
        span: Millis(7),
        renew: true,
        warned: true,
        preemptible: true,
        preempt_shifted: Some(Timestamp(8)),
        cancel_fee: Amount(9),
        timer_shifted: Some(Timestamp(10)),
    }
}

#[test]
fn the_markets_formats_are_frozen() {
    let mut book = Book(String::new());
    let (lease, amount) = (LeaseId([1; 32]), Amount(1_000_000_007));
    for (name, action) in [
        ("pause_offer", MarketAction::PauseOffer { offer: OfferId([2; 32]), paused: true }),
        ("top_up", MarketAction::TopUp { lease, amount }),
        ("stop_renewal", MarketAction::StopRenewal { lease }),
        ("preempt", MarketAction::Preempt { lease }),
        ("dismiss_node", MarketAction::DismissNode { node: NodeId([4; 32]) }),
    ] {
        book.add(&format!("action.{name}"), &Action::Market(action));
    }
    for (name, event) in events() {
        let event = Event::Market(event);
        book.add(&format!("event.{name}"), &event);
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event, "{json}");
    }
    book.add("terms.offer", &offer());
    book.add("terms.order.fixed", &order(Term::Fixed));
    book.add("terms.order.open", &order(Term::Open));
    let rental = Term::Rental { unit: BillingUnit::Month, committed: 1, locked: 12, renew: false };
    book.add("terms.order.rental", &order(rental));
    book.add("record.tenure", &tenure());
    book.add("record.history", &History { good: 1, bad: 2 });
    book.add("params.dev", &MarketParams::dev());
    book.add("params.production", &MarketParams::production());
    for terms in [order(rental), order(Term::Open)] {
        let json = serde_json::to_string(&terms).unwrap();
        assert_eq!(serde_json::from_str::<OrderTerms>(&json).unwrap(), terms, "{json}");
    }
    // What a client of the version before sends still reads.
    let mut old = serde_json::to_value(World::new().order_terms()).unwrap();
    for new in ["target_price_per_hour", "term", "preemptible"] {
        old.as_object_mut().unwrap().remove(new).expect(new);
    }
    assert_eq!(serde_json::from_value::<OrderTerms>(old).unwrap(), World::new().order_terms());
    if book.0 != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("market.txt");
        std::fs::write(&path, &book.0).unwrap();
        panic!("formats changed; if that is meant, copy {} over tests/golden/market.txt", path.display());
    }
}
