//! What people and machines do in a history: mostly sensible things, some that the rules refuse.
//!
//! Guarantees: a sensible deed is one that this state allows as far as its maker looked; every kind of refusal has a maker.

use crate::zone::{Machine, START, Zone};
use pasture_ledger::{Lease, OrderState, Signatures, query};
use pasture_types::keys::Signature;
use pasture_types::lease::{Countersignature, EndReason, LeaseState, SignedUsage, Usage};
use pasture_types::market::{AliveCheck, Constraint, Disclose, Egress, Failover, Fence, OfferTerms, OrderTerms, Rates, Verification};
use pasture_types::proof::{HEARTBEAT_SHARES, Heartbeat, ResourceClass, heartbeat_hashes, heartbeat_seed, share_hash};
use pasture_types::tx::{Action, Auth, Envelope, NodeDeclaration, node_registration_digest};
use pasture_types::{Amount, AssetId, BlobHash, GrantId, LeaseId, Millis, NodeId, OrderId, Resources, SigningKey, Timestamp};

/// Hashes per second that machines declare: the fewest the rules take, so that proofs cost next to nothing here.
const HASHES_PER_S: u64 = 1_000;

/// One transaction.
pub(crate) struct Deed {
    pub(crate) envelope: Envelope,
    /// Instead of the envelope's own encoding.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) signatures: Signatures,
}

/// What a zone begins with: providers, their machines and one offer of each, one deed after the other.
pub(crate) fn opening(zone: &mut Zone) -> Vec<Deed> {
    let machines = zone.machines.clone();
    let mut deeds = vec![];
    for m in &machines {
        let owner = zone.accounts[m.owner].clone();
        let mut actions = vec![register(zone, m, &owner)];
        if m.key.node_id() == machines[m.owner].key.node_id() {
            actions.insert(0, Action::RegisterProvider { name: "p".into() });
            actions.push(Action::Stake { amount: Amount::credits(2) });
        }
        let price = 100_000_000 * u128::from(1 + zone.rng.below(9));
        actions.push(Action::PutOffer { node: m.key.node_id(), number: 0, terms: Box::new(offered(zone, 4, price)) });
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

fn offered(zone: &mut Zone, size: u32, price: u128) -> OfferTerms {
    let known = if zone.rng.once_in(24) { 4 } else { 3 };
    let region = ["eu-west", "eu-north", "us", "US"];
    let region = zone.rng.pick(&region[..known]).copied().unwrap_or("eu-west");
    OfferTerms {
        resources: resources(size, u64::from(size)),
        rates: Rates { cpu_core: Amount(price), memory_gib: Amount(price / 9), disk_gib: Amount(price / 50), gpus: vec![] },
        asset: AssetId::CREDIT,
        region: region.into(),
        egress: if zone.rng.once_in(3) { Egress::None } else { Egress::Open },
        max_duration: Millis::secs(60 + zone.rng.below(7_200)),
        attributes: vec![("disk".into(), "nvme".into())],
    }
}

type Maker = fn(&mut Zone) -> Option<Deed>;

/// Makers and how often each is asked, relative to the others.
const MAKERS: [(u64, Maker); 21] = [
    (6, provide),
    (5, offer),
    (2, withdraw),
    (14, order),
    (3, cancel),
    (14, accept),
    (2, reject),
    (30, usage),
    (24, heartbeat),
    (7, close),
    (3, object),
    (4, extend),
    (5, transfer),
    (2, test_credits),
    (1, register_validator),
    (3, stake),
    (2, open_account),
    (10, wrong_envelope),
    (4, wrong_order),
    (6, wrong_usage),
    (4, wrong_beat),
];

/// A deed by a maker that has something to do.
pub(crate) fn any(zone: &mut Zone) -> Deed {
    let all: u64 = MAKERS.iter().map(|(w, _)| w).sum();
    for _ in 0..32 {
        let mut at = zone.rng.below(all);
        for (weight, maker) in MAKERS {
            if at < weight {
                if let Some(deed) = maker(zone) {
                    return deed;
                }
                break;
            }
            at -= weight;
        }
    }
    order(zone).expect("an order can always be made up")
}

fn resources(cores: u32, gib: u64) -> Resources {
    Resources { cpu_millis: cores * 1000, memory_bytes: gib << 30, disk_bytes: gib << 30, gpus: vec![] }
}

fn declaration(zone: &mut Zone) -> NodeDeclaration {
    let size = 4 + zone.rng.below(5) as u32;
    NodeDeclaration { resources: resources(size, u64::from(size)), cpu_hashes_per_s: HASHES_PER_S, cpu_model: "x".into(), arch: "y".into() }
}

fn register(zone: &mut Zone, machine: &Machine, owner: &SigningKey) -> Action {
    let declaration = declaration(zone);
    let node = machine.key.node_id();
    let digest = node_registration_digest(&zone.genesis.zone(), &owner.account(), &node, &declaration);
    Action::RegisterNode { node, declaration, node_signature: machine.key.sign(&digest) }
}

fn machine(zone: &mut Zone) -> Machine {
    let n = zone.rng.below(zone.machines.len() as u64) as usize;
    zone.machines[n].clone()
}

fn provide(zone: &mut Zone) -> Option<Deed> {
    let m = machine(zone);
    let owner = if zone.rng.once_in(12) { zone.someone() } else { zone.accounts[m.owner].clone() };
    let mut actions = vec![];
    if query::provider(&zone.state, &owner.account()).is_none() || zone.rng.once_in(10) {
        let name = if zone.rng.once_in(20) { "a\nb".into() } else { "p".into() };
        actions.push(Action::RegisterProvider { name });
    }
    if query::node(&zone.state, &m.key.node_id()).is_none() || zone.rng.once_in(5) {
        actions.push(register(zone, &m, &owner));
    }
    if actions.is_empty() { None } else { Some(zone.by(&owner, actions)) }
}

fn stake(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let amount = match zone.rng.below(8) {
        0 => Amount::ZERO,
        1 => Amount::credits(1_000),
        n => Amount(n as u128 * 300_000_000),
    };
    Some(zone.by(&who, vec![Action::Stake { amount }]))
}

fn offer(zone: &mut Zone) -> Option<Deed> {
    let m = machine(zone);
    let owner = if zone.rng.once_in(12) { zone.someone() } else { zone.accounts[m.owner].clone() };
    let provider = query::provider(&zone.state, &owner.account())?;
    let mut actions = vec![];
    if provider.stake < zone.genesis.params.min_stake && !zone.rng.once_in(6) {
        actions.push(Action::Stake { amount: Amount::credits(1) });
    }
    let size = 1 + zone.rng.below(4) as u32;
    let size = if zone.rng.once_in(12) { 64 } else { size };
    let price = 100_000_000 * u128::from(1 + zone.rng.below(9));
    let terms = offered(zone, size, price);
    let number = zone.rng.below(2) as u32;
    actions.push(Action::PutOffer { node: m.key.node_id(), number, terms: Box::new(terms) });
    Some(zone.by(&owner, actions))
}

fn withdraw(zone: &mut Zone) -> Option<Deed> {
    let id = *zone.rng.pick(&zone.offers.clone())?;
    let owner = query::offer(&zone.state, &id).and_then(|o| zone.key_of(&o.provider).cloned());
    let who = owner.unwrap_or_else(|| zone.someone());
    Some(zone.by(&who, vec![Action::WithdrawOffer { offer: id }]))
}

fn terms(zone: &mut Zone) -> OrderTerms {
    let size = 1 + zone.rng.below(3) as u32;
    let constraints = match zone.rng.below(8) {
        0 => vec![Constraint::Region("eu".into())],
        1 => vec![Constraint::Attribute { name: "disk".into(), value: "nvme".into() }],
        2 => vec![Constraint::Egress(Egress::Open)],
        3 => vec![Constraint::NotNode(zone.machines[0].key.node_id())],
        _ => vec![],
    };
    OrderTerms {
        resources: resources(size, u64::from(size)),
        constraints,
        max_price_per_hour: Amount::credits(1 + zone.rng.below(6)),
        max_duration: Millis::secs(5 + zone.rng.below(120)),
        budget: Amount(50_000_000 + u128::from(zone.rng.below(400_000_000))),
        asset: AssetId::CREDIT,
        priority: zone.rng.below(3) as u8,
        verification: Verification::None,
        alive: AliveCheck::Exec,
        failover: Failover::Off,
        fence: Fence::Serve,
        disclose: Disclose::Nobody,
        spec_hash: BlobHash([9; 32]),
        model: zone.rng.once_in(4).then_some(BlobHash([3; 32])),
        watcher: None,
        preferences: vec![zone.machines[1].key.node_id()],
        expires: zone.now.plus(Millis::secs(5 + zone.rng.below(60))),
    }
}

fn order(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let terms = terms(zone);
    Some(zone.by(&who, vec![Action::PlaceOrder { terms: Box::new(terms) }]))
}

fn wrong_order(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let mut t = terms(zone);
    match zone.rng.below(7) {
        0 => t.budget = Amount(1),
        1 => t.verification = Verification::Replicate(3),
        2 => t.priority = 101,
        3 => t.expires = Timestamp(START),
        4 => t.resources.cpu_millis = 0,
        5 => (t.budget, t.max_price_per_hour, t.max_duration) = (Amount::credits(9_000), Amount::credits(9_000), Millis::secs(3_600)),
        _ => t.constraints = vec![Constraint::Region("eu".into()); 17],
    }
    Some(zone.by(&who, vec![Action::PlaceOrder { terms: Box::new(t) }]))
}

/// An order in a state, or now and then any.
fn some_order(zone: &mut Zone, fits: impl Fn(&OrderState) -> bool) -> Option<pasture_ledger::Order> {
    let ids: Vec<OrderId> = zone.orders.iter().rev().take(24).copied().collect();
    let all: Vec<_> = ids.iter().filter_map(|id| query::order(&zone.state, id)).collect();
    let fitting: Vec<_> = all.iter().filter(|o| fits(&o.state)).cloned().collect();
    if fitting.is_empty() || zone.rng.once_in(8) { zone.rng.pick(&all).cloned() } else { zone.rng.pick(&fitting).cloned() }
}

fn cancel(zone: &mut Zone) -> Option<Deed> {
    let order = some_order(zone, |s| matches!(s, OrderState::Pending { .. } | OrderState::Waiting))?;
    let owner = zone.key_of(&order.account).cloned()?;
    let who = if zone.rng.once_in(10) { zone.someone() } else { owner };
    Some(zone.by(&who, vec![Action::CancelOrder { order: order.id }]))
}

/// A recent lease in one of some states, or now and then any.
fn some_lease(zone: &mut Zone, states: &[LeaseState]) -> Option<Lease> {
    let ids: Vec<LeaseId> = zone.leases.iter().rev().take(24).copied().collect();
    let all: Vec<_> = ids.iter().filter_map(|id| query::lease(&zone.state, id)).collect();
    let fitting: Vec<_> = all.iter().filter(|l| states.contains(&l.state)).cloned().collect();
    if fitting.is_empty() || zone.rng.once_in(12) { zone.rng.pick(&all).cloned() } else { zone.rng.pick(&fitting).cloned() }
}

/// As the node, as its provider, or as somebody who may not.
fn for_node(zone: &mut Zone, lease: &Lease, action: Action) -> Option<Deed> {
    match zone.rng.below(12) {
        0 => {
            let who = zone.someone();
            Some(zone.by(&who, vec![action]))
        }
        1 | 2 => {
            let who = zone.key_of(&lease.provider).cloned()?;
            Some(zone.by(&who, vec![action]))
        }
        _ => {
            let m = zone.machine_of(&lease.node).cloned()?;
            Some(zone.by_node(&m, vec![action]))
        }
    }
}

fn accept(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, &[LeaseState::Matched])?;
    for_node(zone, &lease, Action::AcceptLease { lease: lease.id })
}

fn reject(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, &[LeaseState::Matched])?;
    for_node(zone, &lease, Action::RejectLease { lease: lease.id })
}

/// What the node of a lease would truthfully say now, or a bit more or less.
fn statement(zone: &mut Zone, lease: &Lease) -> Usage {
    let accepted = lease.accepted_at.unwrap_or(zone.now);
    let began = zone.started.get(&lease.id).copied().or(lease.started_at.filter(|_| lease.last_claim().served.0 > 0));
    let started = began.unwrap_or_else(|| accepted.plus(Millis(zone.now.since(accepted).0 / 4)));
    let end = lease.closing.as_ref().map_or(zone.now, |c| c.at);
    let mut served = end.since(started).0.min(lease.max_duration.0);
    if zone.rng.once_in(4) {
        served /= 2;
    }
    let served = served.max(if zone.rng.once_in(3) { 0 } else { lease.last_claim().served.0 });
    let build = lease.last_claim().build.0.max(if zone.rng.once_in(3) { started.since(accepted).0 } else { 0 });
    let zone_record = query::zone(&zone.state).expect("a zone");
    Usage {
        lease: lease.id,
        generation: lease.generation,
        epoch: zone_record.epoch_of(started.plus(Millis(served))).max(lease.last.as_ref().map_or(0, |u| u.epoch)),
        started,
        served_ms: Millis(served),
        build_ms: Millis(build),
        log_root: BlobHash([0; 32]),
        log_bytes: lease.last.as_ref().map_or(0, |u| u.log_bytes),
    }
}

fn signed(zone: &mut Zone, lease: &Lease, usage: Usage, confirmed: bool) -> Option<Action> {
    let machine = zone.machine_of(&lease.node).cloned()?;
    let user = zone.key_of(&lease.account).cloned()?;
    let countersignature =
        confirmed.then(|| Countersignature { account: user.account(), key: user.public(), signature: user.sign(&usage.counter_digest()) });
    let node_signature = machine.key.sign(&usage.digest());
    Some(Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: lease.node, node_signature, countersignature }) })
}

fn usage(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, &[LeaseState::Accepted, LeaseState::Running, LeaseState::Closing])?;
    let usage = statement(zone, &lease);
    let confirmed = zone.rng.below(3) > 0;
    let action = signed(zone, &lease, usage, confirmed)?;
    for_node(zone, &lease, action)
}

fn wrong_usage(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, &[LeaseState::Accepted, LeaseState::Running])?;
    let mut usage = statement(zone, &lease);
    match zone.rng.below(6) {
        0 => usage.served_ms = Millis(usage.served_ms.0 + 3_600_000),
        1 => usage.generation += 1,
        2 => usage.started = Timestamp(START),
        3 => usage.epoch += 7,
        4 => usage.served_ms = Millis(0),
        _ => usage.build_ms = Millis(u64::MAX),
    }
    let mut action = signed(zone, &lease, usage, true)?;
    if zone.rng.once_in(4)
        && let Action::SubmitUsage { usage } = &mut action
    {
        usage.node_signature = Signature::Ed25519([1; 64]);
    }
    for_node(zone, &lease, action)
}

fn shares(zone: &Zone, node: &NodeId, randomness: &[u8; 32], epoch: u64) -> Vec<u64> {
    let seed = heartbeat_seed(randomness, node, ResourceClass::Cpu, 0, epoch);
    let hashes = heartbeat_hashes(HASHES_PER_S, zone.genesis.params.heartbeat_work) as u64;
    let mut all: Vec<_> = (0..hashes.max(HEARTBEAT_SHARES as u64)).map(|n| (share_hash(&seed, n), n)).collect();
    all.sort_unstable();
    all.into_iter().take(HEARTBEAT_SHARES).map(|(_, n)| n).collect()
}

fn beat(zone: &mut Zone, spoil: bool) -> Option<Deed> {
    let epochs = query::open_epochs(&zone.state);
    let epoch = zone.rng.pick(&epochs).copied()?;
    let busy: Vec<Machine> =
        zone.machines.iter().filter(|m| !query::open_leases_of_node(&zone.state, &m.key.node_id()).is_empty()).cloned().collect();
    let m = if spoil || busy.is_empty() { machine(zone) } else { zone.rng.pick(&busy).cloned()? };
    let node = m.key.node_id();
    if !spoil && query::has_heartbeat(&zone.state, &node, epoch.number) && !zone.rng.once_in(10) {
        return None;
    }
    let mut heartbeat = Heartbeat {
        node,
        class: ResourceClass::Cpu,
        device: 0,
        epoch: epoch.number,
        nonces: shares(zone, &node, &epoch.randomness.0, epoch.number),
    };
    if spoil {
        match zone.rng.below(5) {
            0 => heartbeat.nonces.reverse(),
            1 => heartbeat.epoch += 1_000,
            2 => heartbeat.class = ResourceClass::Gpu,
            3 => drop(heartbeat.nonces.pop()),
            _ => heartbeat.epoch = heartbeat.epoch.saturating_sub(4),
        }
    }
    Some(zone.by_node(&m, vec![Action::SubmitHeartbeat { heartbeat }]))
}

fn heartbeat(zone: &mut Zone) -> Option<Deed> {
    beat(zone, false)
}

fn wrong_beat(zone: &mut Zone) -> Option<Deed> {
    beat(zone, true)
}

fn close(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, &[LeaseState::Accepted, LeaseState::Running, LeaseState::Matched])?;
    if zone.rng.once_in(2) {
        let user = zone.key_of(&lease.account).cloned()?;
        let reason = match zone.rng.below(3) {
            0 => EndReason::ServiceStopped,
            1 => EndReason::StoppedByUser,
            _ if zone.rng.once_in(3) => EndReason::OutOfMemory,
            _ => EndReason::StoppedByUser,
        };
        return Some(zone.by(&user, vec![Action::CloseLease { lease: lease.id, reason }]));
    }
    let code = zone.rng.below(3) as i32;
    for_node(zone, &lease, Action::CloseLease { lease: lease.id, reason: EndReason::Exited { code } })
}

fn object(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, &[LeaseState::Running, LeaseState::Closing])?;
    let user = zone.key_of(&lease.account).cloned()?;
    let who = if zone.rng.once_in(8) { zone.someone() } else { user };
    Some(zone.by(&who, vec![Action::Object { lease: lease.id }]))
}

fn extend(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, &[LeaseState::Running, LeaseState::Accepted])?;
    let user = zone.key_of(&lease.account).cloned()?;
    let duration = Millis::secs([0, 30, 60, 90, 1_000_000][zone.rng.below(5) as usize]);
    Some(zone.by(&user, vec![Action::Extend { lease: lease.id, duration }]))
}

fn transfer(zone: &mut Zone) -> Option<Deed> {
    let (from, to) = (zone.someone(), zone.someone());
    let amount = match zone.rng.below(6) {
        0 if zone.rng.once_in(3) => Amount::credits(1_000_000),
        1 if zone.rng.once_in(3) => Amount(u128::MAX),
        n => Amount(u128::from(n) * 10_000_000),
    };
    let asset = if zone.rng.once_in(12) { AssetId(9) } else { AssetId::CREDIT };
    Some(zone.by(&from, vec![Action::Transfer { to: to.account(), asset, amount }]))
}

fn test_credits(zone: &mut Zone) -> Option<Deed> {
    let (from, to) = (zone.someone(), zone.someone());
    let amount = if zone.rng.once_in(6) { Amount::credits(20_000) } else { Amount::credits(2) };
    Some(zone.by(&from, vec![Action::TestCredits { to: to.account(), amount }]))
}

fn register_validator(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let validator = zone.genesis.validators.first()?.clone();
    Some(zone.by(&who, vec![Action::RegisterValidator { validator }]))
}

/// A new account, opened by itself with a fee payer, or one that exists already.
fn open_account(zone: &mut Zone) -> Option<Deed> {
    let payer = zone.someone();
    if zone.rng.once_in(4) {
        return Some(zone.by(&payer, vec![Action::RegisterAccount { keys: vec![payer.public()], threshold: 1 }]));
    }
    let seed = zone.rng.next();
    let mut bytes = [0x55; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let fresh = SigningKey::from_seed(bytes);
    let threshold = if zone.rng.once_in(4) { 2 } else { 1 };
    let mut body = zone.body(fresh.account(), Auth::Single, vec![Action::RegisterAccount { keys: vec![fresh.public()], threshold }]);
    body.fee_payer = Some(payer.account());
    let mut deed = Deed::checked(body, &fresh);
    let signature = Signature::Ed25519([0; 64]);
    deed.envelope.signatures.push(pasture_types::tx::TxSignature { account: payer.account(), key: payer.public(), signature });
    Some(deed)
}

/// An envelope that may not be in a block, or not by this right.
fn wrong_envelope(zone: &mut Zone) -> Option<Deed> {
    let (who, other) = (zone.accounts[0].clone(), zone.accounts[1].clone());
    let pay = Action::Transfer { to: other.account(), asset: AssetId::CREDIT, amount: Amount(1) };
    let mut body = zone.body(who.account(), Auth::Single, vec![pay.clone()]);
    let now = zone.now;
    match zone.rng.below(15) {
        0 => body.version = 9,
        1 => body.zone.0[0] ^= 1,
        2 => body.actions = vec![pay; 65],
        3 => body.valid_until = Timestamp(now.0 - 1),
        4 => body.valid_until = now.plus(Millis::secs(90_000)),
        5 if body.seq > 0 => body.seq -= 1,
        6 => body.seq += 2,
        7 => {
            let envelope = body.sign(&who);
            let mut envelope = envelope;
            envelope.body.tip = Amount(1);
            return Some(Deed { envelope, bytes: None, signatures: Signatures::Verify });
        }
        8 => return Some(Deed::checked(body, &other)),
        9 => {
            let mut deed = Deed::checked(body, &who);
            deed.envelope.signatures.clear();
            return Some(deed);
        }
        10 => {
            let stranger = SigningKey::from_seed([0xee; 32]);
            let body = zone.body(stranger.account(), Auth::Single, vec![pay]);
            return Some(Deed::checked(body, &stranger));
        }
        11 => body.max_fee = Amount(1),
        12 => {
            let m = machine(zone);
            let _ = query::node(&zone.state, &m.key.node_id())?;
            return Some(zone.by_node(&m, vec![pay]));
        }
        13 => body.auth = Auth::Delegated(GrantId([1; 32])),
        _ => {
            let deed = Deed::checked(body, &who);
            let bytes = vec![zone.rng.next() as u8; 1 + zone.rng.below(90) as usize];
            return Some(Deed { bytes: Some(bytes), ..deed });
        }
    }
    Some(Deed::checked(body, &who))
}
