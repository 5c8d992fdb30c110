//! Explanations and their ways out as properties, over offers with every kind of term. Spec: `docs/specs/market.md` §7.

#![cfg(test)]

use pasture_scheduler::*;
use pasture_types::credential::{CredentialKind, CredentialQuery};
use pasture_types::market::*;
use pasture_types::market_rules::MarketParams;
use pasture_types::*;
use proptest::prelude::*;

static MARKET: MarketParams = MarketParams::dev();
const NOW: Timestamp = Timestamp(1_795_392_000_000);
const HOUR: u64 = 3_600_000;

const fn need(terms: &OrderTerms) -> Need<'_> {
    Need { terms, epoch: Millis(5_000), now: NOW, max_lease: Millis(7 * 24 * HOUR), balance: None, market: &MARKET, seed: &[7; 32] }
}

#[derive(Clone, Debug)]
struct Standing {
    terms: OfferTerms,
    used: Resources,
    leases: u32,
    flags: [bool; 4],
    rate_room: Option<Amount>,
    has_credential: bool,
}

fn gpu(model: &str, count: u16, gib: u64) -> GpuLine {
    GpuLine { model: model.into(), count, vram_bytes: gib << 30 }
}

fn units(units: u64) -> ServiceLine {
    ServiceLine { class: "inference.tokens".into(), units }
}

prop_compose! {
    /// A machine; `rare` is how often it has what few have.
    fn machine(most: u32, rare: f64)(
        cores in 1..=most, gib in 1..=u64::from(most), disk in 0u64..3, vram in 1u64..3,
        gpus in prop::option::weighted(rare, (prop_oneof![Just("H100"), Just("A100")], 1u16..4)), tokens in prop::option::weighted(rare, 1u64..4),
    ) -> Resources {
        let gpus = gpus.map(|(model, count)| gpu(model, count, vram * 40)).into_iter().collect();
        let services = tokens.map(|n| units(n * 100)).into_iter().collect();
        Resources { cpu_millis: cores * 1000, memory_bytes: gib << 30, disk_bytes: disk << 30, gpus, services }
    }
}

prop_compose! {
    fn standing()(
        resources in machine(8, 0.5), used in prop::option::weighted(0.3, machine(4, 0.3)), price in 0u64..1_000_000_000,
        region in prop_oneof![Just("eu-west"), Just("us-east")], hours in 1u64..6, least in prop::option::weighted(0.2, 1u64..3), lock in 0u64..4,
        closes in prop::option::weighted(0.3, 0u16..8), leases in prop::option::weighted(0.2, 0u32..3),
        flags in proptest::array::uniform4(prop::bool::weighted(0.03)), room in prop::option::weighted(0.1, 0u64..3_000_000_000), has_credential: bool,
    ) -> Standing {
        let rates = Rates {
            cpu_core: Amount(price.into()),
            memory_gib: Amount(u128::from(price) / 7),
            gpus: vec![Amount(u128::from(price) * 3); resources.gpus.len()],
            services: vec![Amount(u128::from(price) / 100); resources.services.len()],
            ..Rates::default()
        };
        let windows = match closes {
            None => vec![],
            Some(0) => vec![Window { from: 60, to: 120 }],
            Some(n) => vec![Window { from: 0, to: n * 20 }],
        };
        let terms = OfferTerms {
            resources, rates, region: region.into(), windows,
            max_leases: if leases.is_some() { 2 } else { 0 },
            max_duration: Millis(hours * HOUR), min_duration: Millis(least.unwrap_or(0) * HOUR / 2), price_lock: Millis(lock * HOUR),
            ..OfferTerms::default()
        };
        Standing { terms, used: used.unwrap_or_default(), leases: leases.unwrap_or(0), flags, rate_room: room.map(|r| Amount(r.into())), has_credential }
    }
}

prop_compose! {
    fn order()(
        resources in machine(5, 0.2), region in prop::option::of(prop_oneof![Just("eu"), Just("us")]), credential in prop::bool::weighted(0.2),
        node in prop::option::weighted(0.1, 0u8..8), max_price in 100_000_000u64..9_000_000_000, minutes in 1u64..200,
        budget in prop::option::weighted(0.2, 0u64..800_000_000), term in 0u8..6, preemptible: bool,
    ) -> OrderTerms {
        let mut constraints: Vec<Constraint> = region.map(|r| Constraint::Region(r.into())).into_iter().collect();
        constraints.extend(node.map(|n| Constraint::Node(NodeId([n; 32]))));
        if credential {
            constraints.push(Constraint::Credential(CredentialQuery { issuer: None, kind: CredentialKind::Audit, at_least: 1 }));
        }
        let (term, duration) = match term {
            0 => (Term::Open, minutes * 60_000),
            1 => (Term::Rental { unit: BillingUnit::Hour, committed: 1, locked: 2, renew: true }, HOUR),
            _ => (Term::Fixed, minutes * 60_000),
        };
        OrderTerms {
            resources, constraints, term, preemptible,
            max_price_per_hour: Amount(max_price.into()),
            max_duration: Millis(duration),
            budget: budget.map_or(Amount::credits(100), |b| Amount(b.into())),
            ..OrderTerms::default()
        }
    }
}

/// What the ledger would show of the offers to this very order: credentials go by the places of its conditions.
fn views<'a>(standing: &'a [Standing], order: &OrderTerms) -> Vec<OfferView<'a>> {
    let view = |(n, s): (usize, &'a Standing)| {
        let asks = |c: &Constraint| matches!(c, Constraint::Credential(_)) && s.has_credential;
        let credentials = order.constraints.iter().enumerate().filter(|(_, c)| asks(c)).fold(0, |bits, (at, _)| bits | 1 << at);
        let id = u8::try_from(n).unwrap();
        OfferView {
            offer: OfferId([id; 32]),
            node: NodeId([id; 32]),
            provider: AccountId([1; 32]),
            terms: &s.terms,
            free: s.terms.resources.saturating_sub(&s.used),
            leases: s.leases,
            ageing: s.flags[0],
            paused: s.flags[1],
            refused: s.flags[2],
            suspended: s.flags[3],
            rate_room: s.rate_room,
            reputation_ppm: 500_000,
            history_ppm: 500_000,
            credentials,
        }
    };
    standing.iter().enumerate().map(view).collect()
}

fn matching(standing: &[Standing], order: &OrderTerms) -> Vec<Quote> {
    views(standing, order).iter().filter_map(|v| evaluate(&need(order), v).serves()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_way_out_really_lets_somebody_in_at_its_price(standing in proptest::collection::vec(standing(), 0..8), order in order()) {
        let e = explain(&need(&order), views(&standing, &order));
        let excluded: u32 = e.steps.iter().map(|s| s.excluded).sum();
        prop_assert_eq!(excluded + e.matching, e.offers, "counts add up");
        prop_assert_eq!(e.steps.last().map(|s| s.remain), Some(e.matching));
        prop_assert_eq!(e.matching as usize, matching(&standing, &order).len(), "the same as a draw");
        prop_assert!(e.relaxations.len() <= MAX_RELAXATIONS);
        prop_assert!(e.matching == 0 || e.relaxations.is_empty());
        let singles = e.relaxations.iter().filter(|r| r.changes.len() == 1).count();
        let pairs = e.relaxations.iter().filter(|r| r.changes.len() == 2).count();
        prop_assert!(singles == 0 || pairs == 0, "pairs only where no single change suffices");
        for r in e.relaxations.iter().filter(|r| !r.changes.is_empty()) {
            let quotes = matching(&standing, &r.apply(&order));
            prop_assert_eq!(quotes.len(), r.offers as usize, "{}", &r.change);
            prop_assert!(!quotes.is_empty(), "{} admits nobody", &r.change);
            prop_assert_eq!(quotes.iter().map(|q| q.rate_per_hour).min(), r.rate_per_hour);
        }
    }

    #[test]
    fn a_single_change_is_found_wherever_there_is_one(standing in proptest::collection::vec(standing(), 1..6), order in order(), extra in 1u64..3_000_000_000) {
        // An order that some offer serves, asked for at less than its price: allowing the price must be among the ways out.
        let any = Amount::credits(1_000_000);
        let small = Resources { cpu_millis: order.resources.cpu_millis, memory_bytes: 1 << 20, ..Resources::default() };
        let order = OrderTerms { resources: small, constraints: vec![], max_price_per_hour: any, budget: any, term: Term::Fixed, ..order };
        let least = matching(&standing, &order).iter().map(|q| q.rate_per_hour).min();
        let Some(price) = least.and_then(|l| l.checked_sub(Amount(extra.into()))) else { return Ok(()) };
        let dear = OrderTerms { max_price_per_hour: price, ..order };
        let e = explain(&need(&dear), views(&standing, &dear));
        prop_assert!(e.relaxations.iter().any(|r| r.changes.len() == 1), "{:?}", e.relaxations);
    }

    #[test]
    fn a_quote_keeps_every_bound_of_the_order(standing in proptest::collection::vec(standing(), 0..12), order in order()) {
        for v in views(&standing, &order) {
            let Some(q) = evaluate(&need(&order), &v).serves() else { continue };
            prop_assert!(q.rate_per_hour <= order.max_price_per_hour && q.escrow <= order.budget && q.score <= 1_000_000);
            let taken = v.free.place(&order.resources).expect("it fits");
            prop_assert!(v.free.checked_sub(&taken).is_some(), "never more than is free");
            let lines = v.terms.rates.lines(&v.terms.resources, &taken).expect("each line has a rate");
            prop_assert_eq!(lines.iter().map(|l| l.rate_per_hour.0).sum::<u128>(), q.rate_per_hour.0, "the lines are the rate");
        }
    }
}

#[test]
fn no_number_without_meaning_is_shown() {
    let huge = OrderTerms {
        resources: Resources {
            cpu_millis: u32::MAX,
            memory_bytes: u64::MAX,
            disk_bytes: u64::MAX,
            gpus: vec![gpu("H100", u16::MAX, 0)],
            services: vec![],
        },
        constraints: vec![Constraint::Credential(CredentialQuery { issuer: None, kind: CredentialKind::Carbon, at_least: u64::MAX })],
        max_price_per_hour: Amount(u128::MAX),
        max_duration: Millis(u64::MAX),
        budget: Amount(u128::MAX),
        ..OrderTerms::default()
    };
    let offer = Standing {
        terms: OfferTerms { resources: Resources { cpu_millis: 1, ..Resources::default() }, ..OfferTerms::default() },
        used: Resources::default(),
        leases: 0,
        flags: [false; 4],
        rate_room: None,
        has_credential: false,
    };
    let offers = [offer];
    for term in [Term::Fixed, Term::Open, Term::Rental { unit: BillingUnit::Month, committed: u32::MAX, locked: u32::MAX, renew: true }] {
        let order = OrderTerms { term, ..huge.clone() };
        let e = explain(&need(&order), views(&offers, &order));
        for text in e.steps.iter().map(|s| &s.filter).chain(e.relaxations.iter().map(|r| &r.change)) {
            let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
            assert!(digits <= 9, "{text}");
        }
    }
}
