//! Filters, ranking and explanations as properties. Spec: `docs/specs/market.md`.

#![cfg(test)]

use pasture_scheduler::*;
use pasture_types::market::*;
use pasture_types::market_rules::MarketParams;
use pasture_types::*;
use proptest::prelude::*;

fn terms() -> OrderTerms {
    OrderTerms {
        resources: Resources { cpu_millis: 1000, memory_bytes: 1 << 30, ..Resources::default() },
        max_price_per_hour: Amount::credits(2),
        max_duration: Millis::secs(3600),
        budget: Amount::credits(5),
        expires: Timestamp(1),
        ..OrderTerms::default()
    }
}

#[derive(Clone, Debug)]
struct Shape {
    cores: u32,
    gib: u64,
    price: u64,
    region: &'static str,
    hours: u64,
    ageing: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let region = prop_oneof![Just("eu-west"), Just("eu"), Just("europe"), Just("us-east")];
    (0u32..5, 0u64..4, 0u64..3_000_000_000, region, 0u64..3, prop::bool::weighted(0.2))
        .prop_map(|(cores, gib, price, region, hours, ageing)| Shape { cores, gib, price, region, hours, ageing })
}

fn offer(s: &Shape) -> OfferTerms {
    OfferTerms {
        resources: Resources { cpu_millis: s.cores * 1000, memory_bytes: s.gib << 30, disk_bytes: 1 << 40, ..Resources::default() },
        rates: Rates { cpu_core: Amount(u128::from(s.price)), ..Rates::default() },
        asset: AssetId::CREDIT,
        region: s.region.into(),
        egress: Egress::Open,
        max_duration: Millis::secs(s.hours * 3600),
        ..OfferTerms::default()
    }
}

fn view<'a>(n: usize, terms: &'a OfferTerms, shape: &Shape) -> OfferView<'a> {
    let n = u8::try_from(n % 200).unwrap();
    OfferView {
        offer: OfferId([n; 32]),
        node: NodeId([n; 32]),
        provider: AccountId([1; 32]),
        terms,
        free: terms.resources.clone(),
        leases: 0,
        ageing: shape.ageing,
        paused: false,
        refused: false,
        suspended: false,
        rate_room: None,
        reputation_ppm: 500_000,
        history_ppm: 500_000,
        credentials: 0,
    }
}

static MARKET: MarketParams = MarketParams::dev();

const fn need(terms: &OrderTerms) -> Need<'_> {
    let max_lease = Millis(7 * 24 * 3_600_000);
    Need { terms, epoch: Millis(5_000), now: Timestamp(0), max_lease, balance: None, market: &MARKET, seed: &[0; 32] }
}

fn seeded<'a>(terms: &'a OrderTerms, seed: &'a [u8; 32]) -> Need<'a> {
    Need { seed, ..need(terms) }
}

proptest! {
    #[test]
    fn what_is_ranked_passes_every_filter_and_what_is_excluded_is_explained(
        shapes in proptest::collection::vec(shape(), 0..40),
        region in prop::option::of(prop_oneof![Just("eu"), Just("us")]),
        seed in any::<[u8; 32]>(),
    ) {
        let mut order = terms();
        order.constraints.extend(region.map(|r| Constraint::Region(r.into())));
        let offers: Vec<_> = shapes.iter().map(offer).collect();
        let views: Vec<_> = offers.iter().zip(&shapes).enumerate().map(|(n, (o, s))| view(n, o, s)).collect();
        let best = rank(&seeded(&order, &seed), views.clone());
        let explanation = explain(&need(&order), views.clone());
        let fits = |s: &Shape| {
            let placed = match region { Some("eu") => s.region == "eu" || s.region == "eu-west", Some(_) => s.region == "us-east", None => true };
            !s.ageing && s.cores >= 1 && s.gib >= 1 && s.hours >= 1 && s.price <= 2_000_000_000 && placed
        };
        let matching = shapes.iter().filter(|s| fits(s)).count();
        prop_assert_eq!(explanation.matching as usize, matching);
        prop_assert_eq!(best.len(), matching.min(TOP));
        prop_assert_eq!(explanation.best.len(), best.len());
        let excluded: u32 = explanation.steps.iter().map(|s| s.excluded).sum();
        prop_assert_eq!(excluded + explanation.matching, explanation.offers);
        prop_assert_eq!(explanation.steps.last().map(|s| s.remain), Some(explanation.matching));
        for c in &best {
            prop_assert!(fits(&shapes[usize::from(c.offer.0[0])]));
            prop_assert!(c.rate_per_hour <= order.max_price_per_hour && c.escrow <= order.budget && c.score <= 1_000_000);
        }
        prop_assert!(best.windows(2).all(|w| w[0].score >= w[1].score));
        prop_assert_eq!(rank(&seeded(&order, &seed), views.into_iter().rev()), best, "the order of offers does not matter");
    }

    #[test]
    fn a_hold_covers_exactly_what_it_pays_for(rate in 1u128..10_000_000_000_000, ms in 1u64..1_000_000_000, budget in 1u128..1_000_000_000_000_000) {
        let mut order = terms();
        (order.max_duration, order.budget) = (Millis(ms), Amount(budget));
        let hold = hold_for(&order, Amount(rate));
        let lasts = affordable(hold, Amount(rate)).min(Millis(ms));
        prop_assert!(Amount(rate).per_hour_for(lasts.0).unwrap() <= hold, "what it lasts for is within the hold");
        if price_for(Amount(rate), Millis(ms)) <= Amount(budget) {
            prop_assert_eq!(lasts, Millis(ms), "a budget that suffices covers the whole time");
        }
    }

    #[test]
    fn equal_offers_are_chosen_by_the_draw(seeds in proptest::collection::vec(any::<[u8; 32]>(), 64)) {
        let shape = Shape { cores: 4, gib: 4, price: 1, region: "eu", hours: 2, ageing: false };
        let offers: Vec<_> = (0..4).map(|_| offer(&shape)).collect();
        let mut won = [0; 4];
        for seed in &seeds {
            let views = offers.iter().enumerate().map(|(n, o)| view(n, o, &shape));
            won[usize::from(rank(&seeded(&terms(), seed), views)[0].offer.0[0])] += 1;
        }
        prop_assert!(won.iter().all(|n| *n > 0), "{won:?}");
    }
}

#[test]
fn a_better_price_a_preference_and_a_tighter_fit_each_raise_the_score() {
    let base = Shape { cores: 4, gib: 4, price: 1_000_000_000, region: "eu-west", hours: 2, ageing: false };
    let score = |s: &Shape, order: &OrderTerms| {
        let o = offer(s);
        evaluate(&need(order), &view(7, &o, s)).quote.unwrap().score
    };
    let order = terms();
    let plain = score(&base, &order);
    assert!(score(&Shape { price: 900_000_000, ..base.clone() }, &order) > plain);
    assert!(score(&Shape { cores: 1, ..base.clone() }, &order) > plain);
    let mut wanted = terms();
    wanted.preferences = vec![NodeId([1; 32]), NodeId([7; 32])];
    assert!(score(&base, &wanted) > plain);
    let mut exact = terms();
    exact.constraints = vec![Constraint::Region("eu-west".into())];
    let mut within = terms();
    within.constraints = vec![Constraint::Region("eu".into())];
    assert!(score(&base, &exact) > score(&base, &within));
}

#[test]
fn extreme_numbers_do_not_overflow() {
    let mut order = terms();
    (order.max_price_per_hour, order.budget, order.max_duration) = (Amount(u128::MAX), Amount(u128::MAX), Millis(u64::MAX));
    order.resources = Resources { cpu_millis: u32::MAX, memory_bytes: u64::MAX, disk_bytes: u64::MAX, ..Resources::default() };
    let mut o = offer(&Shape { cores: 4, gib: 4, price: 1, region: "eu", hours: 2, ageing: false });
    o.rates = Rates { cpu_core: Amount(u128::MAX), memory_gib: Amount(u128::MAX), disk_gib: Amount(u128::MAX), ..Rates::default() };
    let shape = Shape { cores: 0, gib: 0, price: 0, region: "eu", hours: 0, ageing: false };
    assert!(evaluate(&need(&order), &view(0, &o, &shape)).excluded.contains(&Exclusion::Price));
    o.rates = Rates::default();
    (o.resources, o.max_duration) = (order.resources.clone(), Millis(u64::MAX));
    assert!(evaluate(&need(&order), &view(0, &o, &shape)).serves().unwrap().score <= 1_000_000);
    assert_eq!(affordable(Amount(1), Amount::ZERO), Millis(u64::MAX));
}
