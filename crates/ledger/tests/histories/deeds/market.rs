//! Providers, nodes, offers and orders.

use super::Deed;
use crate::climate::{DOLLAR, START, TOKEN};
use crate::zone::{Machine, Zone};
use pasture_ledger::{OrderState, query};
use pasture_types::credential::{CredentialKind, CredentialQuery};
use pasture_types::market::{
    AliveCheck, BillingUnit, Constraint, Disclose, Egress, Failover, Fence, OfferTerms, OrderTerms, Rates, Term, Verification, Window,
};
use pasture_types::market_rules::MarketAction;
use pasture_types::resources::{GpuLine, ServiceLine};
use pasture_types::tx::{Action, NodeDeclaration, node_registration_digest};
use pasture_types::{Amount, AssetId, BlobHash, Millis, OrderId, Resources, SigningKey, Timestamp};

/// Hashes per second that machines declare: the fewest the rules take, so that proofs cost next to nothing here.
pub(super) const HASHES_PER_S: u64 = 1_000;
const HOUR: u64 = 3_600_000;

/// What a zone begins with: providers, their machines and one offer of each, one deed after the other.
pub(crate) fn opening(zone: &mut Zone) -> Vec<Deed> {
    let machines = zone.machines.clone();
    let mut deeds = vec![];
    for m in &machines {
        let owner = zone.accounts[m.owner].clone();
        let mut actions = vec![register(zone, m, &owner)];
        if m.key.node_id() == machines[m.owner].key.node_id() {
            actions.insert(0, Action::RegisterProvider { name: "p".into() });
            // One of them begins without a deposit.
            if m.owner == 2 {
                actions.push(super::stake::stamped(zone));
            } else {
                actions.push(Action::Stake { amount: Amount(180_000_000) });
            }
        }
        let price = 100_000_000 * u128::from(1 + zone.rng.below(9));
        let mut terms = offered(zone, 4, price);
        if m.owner == 2 {
            terms.asset = AssetId::CREDIT;
        }
        terms.region = "eu-west".into();
        terms.windows.clear();
        terms.max_leases = 0;
        actions.push(Action::PutOffer { node: m.key.node_id(), number: 0, terms: Box::new(terms) });
        deeds.push((owner, actions));
    }
    // Numbers of lanes are read when a deed is made, so several of one account go in one transaction.
    let mut merged: Vec<(SigningKey, Vec<Action>)> = vec![];
    for (owner, actions) in deeds {
        match merged.iter_mut().find(|(o, _)| o.account() == owner.account()) {
            Some((_, all)) => all.extend(actions),
            None => merged.push((owner, actions)),
        }
    }
    merged.into_iter().map(|(owner, actions)| zone.by(&owner, actions)).collect()
}

fn asset(zone: &mut Zone) -> AssetId {
    match zone.rng.below(8) {
        0 | 1 => DOLLAR,
        2 => TOKEN,
        _ => AssetId::CREDIT,
    }
}

fn gpu(count: u16) -> GpuLine {
    GpuLine { model: "H100".into(), count, vram_bytes: 80 << 30 }
}

fn tokens(units: u64) -> ServiceLine {
    ServiceLine { class: "inference.tokens".into(), units }
}

fn offered(zone: &mut Zone, size: u32, price: u128) -> OfferTerms {
    let known = if zone.rng.once_in(24) { 4 } else { 3 };
    let region = ["eu-west", "eu-north", "us", "US"];
    let region = zone.rng.pick(&region[..known]).copied().unwrap_or("eu-west");
    let mut resources = resources(size, u64::from(size));
    let mut rates = Rates { cpu_core: Amount(price), memory_gib: Amount(price / 9), disk_gib: Amount(price / 50), ..Rates::default() };
    if zone.rng.once_in(3) {
        resources.gpus = vec![gpu(2)];
        rates.gpus = vec![Amount(price * 2)];
    }
    if zone.rng.once_in(4) {
        resources.services = vec![tokens(1_000)];
        rates.services = vec![Amount(price / 1_000)];
    }
    OfferTerms {
        resources,
        rates,
        asset: asset(zone),
        region: region.into(),
        egress: if zone.rng.once_in(3) { Egress::None } else { Egress::Open },
        max_duration: Millis::secs(60 + zone.rng.below(7_200)),
        attributes: vec![("disk".into(), "nvme".into())],
        max_leases: if zone.rng.once_in(5) { 2 } else { 0 },
        windows: if zone.rng.once_in(12) { Window::daily(0, 720) } else { vec![] },
        valid_until: zone.rng.once_in(6).then(|| zone.now.plus(Millis::secs(30 + zone.rng.below(300)))),
        price_lock: if zone.rng.once_in(4) { Millis(0) } else { Millis(8 * HOUR) },
        ..OfferTerms::default()
    }
}

pub(super) fn resources(cores: u32, gib: u64) -> Resources {
    Resources { cpu_millis: cores * 1000, memory_bytes: gib << 30, disk_bytes: gib << 30, ..Resources::default() }
}

fn declaration(zone: &mut Zone) -> NodeDeclaration {
    let size = 4 + zone.rng.below(3) as u32;
    let mut resources = resources(size, u64::from(size));
    resources.gpus = vec![gpu(2)];
    resources.services = vec![tokens(1_000)];
    NodeDeclaration { resources, cpu_hashes_per_s: HASHES_PER_S, cpu_model: "x".into(), arch: "y".into() }
}

pub(super) fn register(zone: &mut Zone, machine: &Machine, owner: &SigningKey) -> Action {
    let declaration = declaration(zone);
    let node = machine.key.node_id();
    let digest = node_registration_digest(&zone.genesis.zone(), &owner.account(), &node, &declaration);
    Action::RegisterNode { node, declaration, node_signature: machine.key.sign(&digest) }
}

pub(super) fn provide(zone: &mut Zone) -> Option<Deed> {
    let m = zone.machine();
    let owner = if zone.rng.once_in(12) { zone.someone() } else { zone.accounts[m.owner].clone() };
    let mut actions = vec![];
    if query::provider(&zone.state, &owner.account()).is_none() || zone.rng.once_in(10) {
        let name = match zone.rng.below(20) {
            0 => "a\nb",
            1 => "",
            _ => "p",
        };
        actions.push(Action::RegisterProvider { name: name.into() });
    }
    if query::node(&zone.state, &m.key.node_id()).is_none() || zone.rng.once_in(5) {
        actions.push(register(zone, &m, &owner));
    }
    if actions.is_empty() { None } else { Some(zone.by(&owner, actions)) }
}

pub(super) fn offer(zone: &mut Zone) -> Option<Deed> {
    let m = zone.machine();
    let owner = if zone.rng.once_in(12) { zone.someone() } else { zone.accounts[m.owner].clone() };
    let provider = query::provider(&zone.state, &owner.account())?;
    let mut actions = vec![];
    if provider.stake < zone.genesis.params.min_stake && zone.rng.once_in(3) {
        actions.push(Action::Stake { amount: Amount(200_000_000) });
    }
    let size = 2 + zone.rng.below(3) as u32;
    let size = if zone.rng.once_in(12) { 64 } else { size };
    let price = 100_000_000 * u128::from(1 + zone.rng.below(9));
    let terms = offered(zone, size, price);
    let number = zone.rng.below(2) as u32;
    actions.push(Action::PutOffer { node: m.key.node_id(), number, terms: Box::new(terms) });
    Some(zone.by(&owner, actions))
}

pub(super) fn wrong_offer(zone: &mut Zone) -> Option<Deed> {
    let m = zone.machine();
    let owner = zone.accounts[m.owner].clone();
    let mut terms = offered(zone, 2, 100_000_000);
    match zone.rng.below(4) {
        0 => terms.rates.cpu_core = Amount(u128::MAX),
        1 => terms.valid_until = Some(Timestamp(START)),
        2 => terms.windows = vec![Window { from: 9, to: 3 }],
        _ => terms.attributes = vec![("b".into(), "1".into()), ("a".into(), "1".into())],
    }
    Some(zone.by(&owner, vec![Action::PutOffer { node: m.key.node_id(), number: 3, terms: Box::new(terms) }]))
}

/// One of the offers, with who may change it.
fn some_offer(zone: &mut Zone) -> Option<(pasture_types::OfferId, SigningKey)> {
    let id = zone.recent(|s| &s.offers, 32)?;
    let owner = query::offer(&zone.state, &id).and_then(|o| zone.key_of(&o.provider).cloned());
    let stranger = owner.is_none() || zone.rng.once_in(10);
    Some((id, owner.filter(|_| !stranger).unwrap_or_else(|| zone.someone())))
}

pub(super) fn withdraw(zone: &mut Zone) -> Option<Deed> {
    let (offer, who) = some_offer(zone)?;
    Some(zone.by(&who, vec![Action::WithdrawOffer { offer }]))
}

pub(super) fn pause_offer(zone: &mut Zone) -> Option<Deed> {
    let (offer, who) = some_offer(zone)?;
    let rests = query::offer(&zone.state, &offer).is_some_and(|o| o.paused);
    let paused = if zone.rng.once_in(8) { rests } else { !rests };
    if paused {
        zone.next.push_back(wake_offer);
    }
    Some(zone.by(&who, vec![Action::Market(MarketAction::PauseOffer { offer, paused })]))
}

/// A provider lets a machine of its own offer nothing more.
pub(super) fn dismiss(zone: &mut Zone) -> Option<Deed> {
    let m = zone.machine();
    let who = if zone.rng.once_in(8) { zone.someone() } else { zone.accounts[m.owner].clone() };
    zone.next.push_back(take_back);
    Some(zone.by(&who, vec![Action::Market(MarketAction::DismissNode { node: m.key.node_id() })]))
}

/// And takes it back.
fn take_back(zone: &mut Zone) -> Option<Deed> {
    let machines = zone.machines.clone();
    let m = machines.iter().find(|m| query::is_dismissed(&zone.state, &m.key.node_id()))?;
    let owner = zone.accounts[m.owner].clone();
    let action = register(zone, m, &owner);
    Some(zone.by(&owner, vec![action]))
}

/// What was put to rest comes back soon, or nothing would be left to draw.
fn wake_offer(zone: &mut Zone) -> Option<Deed> {
    let all = zone.seen.offers.clone();
    let resting = all.iter().filter_map(|id| query::offer(&zone.state, id)).find(|o| o.paused)?;
    let who = zone.key_of(&resting.provider).cloned()?;
    Some(zone.by(&who, vec![Action::Market(MarketAction::PauseOffer { offer: resting.id, paused: false })]))
}

fn constraints(zone: &mut Zone) -> Vec<Constraint> {
    match zone.rng.below(14) {
        0 => vec![Constraint::Region("eu".into())],
        1 => vec![Constraint::Attribute { name: "disk".into(), value: "nvme".into() }],
        2 => vec![Constraint::Egress(Egress::Open)],
        3 => vec![Constraint::NotNode(zone.machines[0].key.node_id())],
        4 => vec![Constraint::Node(zone.machine().key.node_id())],
        5 => vec![Constraint::Provider(zone.accounts[zone.rng.below(3) as usize].account())],
        6 => {
            let issuer = zone.rng.once_in(2).then(|| zone.accounts[crate::climate::ISSUER].account());
            let kinds = [CredentialKind::DataCentreTier, CredentialKind::Carbon, CredentialKind::Region, CredentialKind::Audit];
            let kind = *zone.rng.pick(&kinds).unwrap_or(&CredentialKind::Carbon);
            let at_least = if kind == CredentialKind::Carbon { 300 } else { 1 };
            vec![Constraint::Credential(CredentialQuery { issuer, kind, at_least })]
        }
        _ => vec![],
    }
}

fn term(zone: &mut Zone) -> Term {
    match zone.rng.below(8) {
        0 => Term::Open,
        1 => Term::Rental { unit: BillingUnit::Hour, committed: 1, locked: 1 + zone.rng.below(3) as u32, renew: !zone.rng.once_in(3) },
        _ => Term::Fixed,
    }
}

pub(super) fn terms(zone: &mut Zone) -> OrderTerms {
    // Sometimes the cores run out first, sometimes the memory.
    let mut resources = resources(1 + zone.rng.below(3) as u32, 1 + zone.rng.below(3));
    resources.disk_bytes = 1 << 29;
    if zone.rng.once_in(8) {
        resources.gpus = vec![gpu(1)];
    }
    if zone.rng.once_in(10) {
        resources.services = vec![tokens(100)];
    }
    let term = term(zone);
    let hour = matches!(term, Term::Rental { .. });
    let max_duration = if hour { Millis(HOUR) } else { Millis::secs(5 + zone.rng.below(120)) };
    let failover = match zone.rng.below(5) {
        0 => Failover::Warm,
        1 => Failover::Cold,
        _ => Failover::Off,
    };
    let watcher = zone.rng.once_in(3).then(|| zone.someone().account());
    let mut terms = OrderTerms {
        resources,
        constraints: constraints(zone),
        max_price_per_hour: Amount::credits(2 + zone.rng.below(6)),
        target_price_per_hour: Amount::credits(zone.rng.below(2)),
        max_duration,
        budget: if hour { Amount::credits(30) } else { Amount(100_000_000 + u128::from(zone.rng.below(400_000_000))) },
        asset: asset(zone),
        priority: zone.rng.below(3) as u8,
        failover,
        fence: if zone.rng.once_in(3) { Fence::Stop } else { Fence::Serve },
        alive: if zone.rng.once_in(4) { AliveCheck::Port(80) } else { AliveCheck::Exec },
        spec_hash: BlobHash([9; 32]),
        model: zone.rng.once_in(3).then(|| super::service::model(zone)),
        watcher,
        preferences: vec![zone.machines[1].key.node_id()],
        expires: zone.now.plus(Millis::secs(5 + zone.rng.below(40))),
        term,
        preemptible: zone.rng.once_in(3),
        ..OrderTerms::default()
    };
    if zone.genesis.params.service.disputes_active && zone.rng.once_in(4) {
        terms.verification = if zone.rng.once_in(2) { Verification::Replicate(2) } else { Verification::Audit(100_000) };
        terms.disclose = Disclose::Committee;
    }
    terms
}

pub(super) fn order(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let terms = terms(zone);
    let mut deed = zone.by(&who, vec![Action::PlaceOrder { terms: Box::new(terms) }]);
    if zone.rng.once_in(12) {
        deed.envelope.body.fee_asset = DOLLAR;
        deed.envelope.body.tip = Amount(u128::from(zone.rng.below(3)) * 1_000);
    }
    Some(deed)
}

pub(super) fn wrong_order(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let mut t = terms(zone);
    match zone.rng.below(9) {
        0 => t.budget = Amount(1),
        1 => t.verification = Verification::Zk,
        2 => t.priority = 101,
        3 => t.expires = Timestamp(START),
        4 => t.resources.cpu_millis = 0,
        5 => (t.budget, t.max_price_per_hour, t.max_duration) = (Amount::credits(9_000), Amount::credits(9_000), Millis::secs(3_600)),
        6 => t.watcher = Some(pasture_types::AccountId([0xdd; 32])),
        7 => t.asset = AssetId(9),
        _ => t.constraints = vec![Constraint::Region("eu".into()); 17],
    }
    Some(zone.by(&who, vec![Action::PlaceOrder { terms: Box::new(t) }]))
}

/// An order in a state, or now and then any.
fn some_order(zone: &mut Zone, fits: impl Fn(&OrderState) -> bool) -> Option<pasture_ledger::Order> {
    let ids: Vec<OrderId> = zone.seen.orders.iter().rev().take(24).copied().collect();
    let all: Vec<_> = ids.iter().filter_map(|id| query::order(&zone.state, id)).collect();
    let fitting: Vec<_> = all.iter().filter(|o| fits(&o.state)).cloned().collect();
    if zone.rng.once_in(8) { zone.rng.pick(&all).cloned() } else { zone.rng.pick(&fitting).cloned() }
}

pub(super) fn cancel(zone: &mut Zone) -> Option<Deed> {
    let order = some_order(zone, |s| matches!(s, OrderState::Pending { .. } | OrderState::Waiting))?;
    let owner = zone.key_of(&order.account).cloned()?;
    let who = if zone.rng.once_in(10) { zone.someone() } else { owner };
    Some(zone.by(&who, vec![Action::CancelOrder { order: order.id }]))
}
