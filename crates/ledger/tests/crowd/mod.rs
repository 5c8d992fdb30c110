//! More people for a zone in memory: watchers, further providers with a node each, money of a second asset.
//!
//! Guarantees: everybody acts through transactions, like in `common`. It changes no rule.

#![allow(dead_code, unreachable_pub)]

use crate::common::*;
use pasture_ledger::*;
use pasture_types::asset::{Allocation, Asset, GenesisAsset};
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::grant::*;
use pasture_types::lease::{Countersignature, LeaseState, SignedUsage, Usage};
use pasture_types::market::{Failover, OfferTerms, OrderTerms};
use pasture_types::service::*;
use pasture_types::tx::*;
use pasture_types::*;

/// A bridged dollar.
pub const DOLLAR: AssetId = AssetId(7);

/// A provider and its node.
#[derive(Clone)]
pub struct Farm {
    pub provider: SigningKey,
    pub node: SigningKey,
}

pub fn act(action: ServiceAction) -> Action {
    Action::Service(Box::new(action))
}

pub fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

/// 1.0 credit an hour, in nano-credits for a time.
pub fn cost(ms: u64) -> Amount {
    Amount::credits(1).per_hour_for(ms).unwrap()
}

/// A zone that lists a dollar, of which the user has 100.
pub fn world_with_dollars(mut params: Params) -> World {
    let fee = pasture_types::asset::FeeRate { asset: DOLLAR, per_credit: Amount(500_000_000) };
    params.service.fee_rates[0] = Some(fee);
    let mut w = World::with(params, 1);
    let asset = Asset { id: DOLLAR, symbol: "USDX".into(), decimals: 6, bridged: true };
    let allocations = vec![Allocation { account: w.user.account(), amount: Amount::credits(100) }];
    w.genesis.assets = vec![GenesisAsset { asset, allocations }];
    w.state = pasture_ledger::genesis(&w.genesis);
    w
}

/// Opens an account with 10 credits, paid for by the user.
pub fn join(w: &mut World, new: &SigningKey) {
    let user = w.user.clone();
    let actions = vec![Action::RegisterAccount { keys: vec![new.public()], threshold: 1 }];
    let mut body = w.body(new.account(), Auth::Single, actions);
    body.fee_payer = Some(user.account());
    w.send(&body.sign(new).and_sign(user.account(), &user)).unwrap();
    w.user_act(vec![Action::Transfer { to: new.account(), asset: AssetId::CREDIT, amount: Amount::credits(10) }]).unwrap();
}

/// The provider and node that `common` knows.
pub fn first(w: &World) -> Farm {
    Farm { provider: w.provider.clone(), node: w.node.clone() }
}

/// One more provider with a node and an offer at so many hundredths of the usual price.
pub fn farm(w: &mut World, n: u8, percent: u128) -> Farm {
    let f = Farm { provider: key(n), node: key(n + 100) };
    join(w, &f.provider);
    let mut terms: OfferTerms = offer_terms();
    terms.rates.cpu_core = Amount(terms.rates.cpu_core.0 * percent / 100);
    terms.rates.memory_gib = Amount(terms.rates.memory_gib.0 * percent / 100);
    let actions = vec![
        Action::RegisterProvider { name: format!("p{n}") },
        w.register_node(&f.provider, &f.node, declaration()),
        Action::Stake { amount: Amount::credits(1) },
        Action::PutOffer { node: f.node.node_id(), number: 0, terms: Box::new(terms) },
    ];
    w.act(&f.provider.clone(), actions).unwrap();
    w.idle();
    f
}

/// Does something as if this were the only provider.
pub fn with<T>(w: &mut World, f: &Farm, what: impl FnOnce(&mut World) -> T) -> T {
    let before = first(w);
    (w.provider, w.node) = (f.provider.clone(), f.node.clone());
    let out = what(w);
    (w.provider, w.node) = (before.provider, before.node);
    out
}

fn serves(w: &World, f: &Farm) -> bool {
    query::open_leases_of_node(&w.state, &f.node.node_id()).iter().any(|l| l.state != LeaseState::Matched)
}

/// Sends every heartbeat of a node that can still be sent, while it has a lease to prove for.
fn beat(w: &mut World, f: &Farm) {
    for epoch in query::open_epochs(&w.state) {
        let late = epoch.deadline_shifted.plus(query::clock(&w.state).halted) < w.now.plus(Millis(10));
        if !late && serves(w, f) && !query::has_heartbeat(&w.state, &f.node.node_id(), epoch.number) {
            with(w, f, |w| {
                let heartbeat = w.shares(epoch.number);
                w.node_act(vec![Action::SubmitHeartbeat { heartbeat }]).unwrap();
            });
        }
    }
}

/// Lets time pass while these nodes answer every epoch.
pub fn serve(w: &mut World, farms: &[&Farm], ms: u64) {
    let end = w.now.plus(Millis(ms));
    while w.now < end {
        for f in farms {
            beat(w, f);
        }
        let rest = end.since(w.now).0.min(1_000);
        w.wait(rest);
    }
}

/// Whoever was asked last to stand by or to serve accepts, if it is one of these.
pub fn accept_all(w: &mut World, farms: &[&Farm]) {
    for f in farms {
        for l in query::open_leases_of_node(&w.state, &f.node.node_id()) {
            if w.lease(&l.id).state == LeaseState::Matched {
                let answered = with(w, f, |w| w.node_act(vec![Action::AcceptLease { lease: l.id }]));
                // Each answer takes a block, and the time to answer may be over with that very one.
                let late = matches!(answered, Err(TxError::BadState { .. })) && w.lease(&l.id).state == LeaseState::Closed;
                assert!(answered.is_ok() || late, "{answered:?}");
            }
        }
    }
}

/// The farm that a lease is on.
pub fn of<'a>(farms: &[&'a Farm], lease: &Lease) -> &'a Farm {
    farms.iter().find(|f| f.node.node_id() == lease.node).expect("a known node")
}

/// A usage signed by a node and countersigned by somebody.
pub fn usage_by(node: &SigningKey, usage: Usage, by: Option<&SigningKey>) -> Action {
    let countersignature =
        by.map(|k| Countersignature { account: k.account(), key: k.public(), signature: k.sign(&usage.counter_digest()) });
    let node_signature = node.sign(&usage.digest());
    Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: node.node_id(), node_signature, countersignature }) }
}

/// The user's grant by which a watcher confirms with its own key, for so much in credits and dollars.
pub fn let_watch(w: &mut World, by: &SigningKey, most: Amount) -> GrantId {
    let budget = [AssetId::CREDIT, DOLLAR].map(|asset| Budget { asset, amount: most }).to_vec();
    let expires = w.now.plus(Millis::secs(30 * 24 * 3600));
    let terms = GrantTerms { key: by.public(), may: GrantUse::Watch { watcher: by.account() }, budget, expires };
    let events = w.user_act(vec![Action::Grant(GrantAction::Create { terms: Box::new(terms) })]).unwrap();
    let Event::Grant(GrantEvent::Created { grant, .. }) = events[0] else { panic!("{events:?}") };
    grant
}

/// Reports service that somebody confirms; a watcher without a grant of the user gets a large one first.
pub fn confirm(w: &mut World, lease: &LeaseId, started: Timestamp, served: u64, by: &SigningKey) -> Result<Vec<Event>, TxError> {
    let user = w.user.account();
    if by.account() != user && query::watch_left(&w.state, &user, &by.account(), &by.public(), AssetId::CREDIT).is_none() {
        let_watch(w, by, Amount::credits(1_000_000));
    }
    let mut usage = w.usage(lease, started, served);
    usage.generation = query::lease(&w.state, lease).unwrap().generation;
    let node = w.node.clone();
    w.node_act(vec![usage_by(&node, usage, Some(by))])
}

pub fn evidence(w: &World, lease: &LeaseId, epoch: u64, by: &SigningKey) -> Action {
    let l = w.lease(lease);
    let check = query::order(&w.state, &l.order).unwrap().terms.alive;
    let report = FailedCheck { lease: *lease, generation: l.generation, epoch, check };
    let signature = by.sign(&report.digest());
    act(ServiceAction::ReportFailure { report, key: by.public(), signature })
}

pub fn failover_terms(w: &World, mode: Failover) -> OrderTerms {
    OrderTerms { failover: mode, ..w.order_terms() }
}
