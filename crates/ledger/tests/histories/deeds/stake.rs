//! Deposits: own, sponsors', newcomers without.

use super::Deed;
use crate::zone::Zone;
use pasture_ledger::{Start, query};
use pasture_types::market::OfferTerms;
use pasture_types::stake::{DepositAction, Stamp};
use pasture_types::tx::{Action, Auth};
use pasture_types::{AccountId, Amount, SigningKey};

const DAY_MS: u64 = 24 * 3_600_000;

/// A newcomer that owes its deposit since a fault, and has no leases.
fn owing(zone: &Zone) -> Option<SigningKey> {
    let owes = |k: &&SigningKey| {
        let record = query::provider(&zone.state, &k.account());
        record.is_some_and(|p| p.bond.start == Start::Owing && p.bond.locked.is_zero())
    };
    zone.accounts.iter().find(owes).cloned()
}

pub(super) fn stake(zone: &mut Zone) -> Option<Deed> {
    let owing = owing(zone);
    let who = owing.unwrap_or_else(|| zone.someone());
    let amount = match zone.rng.below(8) {
        0 => Amount::ZERO,
        1 => Amount::credits(1_000),
        n => Amount(n as u128 * 40_000_000),
    };
    Some(zone.by(&who, vec![Action::Stake { amount }]))
}

/// One of those who provide.
fn provider(zone: &mut Zone) -> SigningKey {
    let n = if zone.rng.once_in(10) { zone.rng.below(8) } else { zone.rng.below(3) };
    zone.accounts[n as usize].clone()
}

fn deposit(zone: &Zone, who: &SigningKey, action: DepositAction) -> Deed {
    zone.by(who, vec![Action::Deposit(action)])
}

pub(super) fn unbond(zone: &mut Zone) -> Option<Deed> {
    let owing = owing(zone).filter(|k| query::provider(&zone.state, &k.account()).is_some_and(|p| !p.stake.is_zero()));
    let who = owing.unwrap_or_else(|| provider(zone));
    let has = query::provider(&zone.state, &who.account())?.stake;
    let amount = match zone.rng.below(6) {
        0 => has,
        1 => Amount(has.0 + 1),
        2 => Amount::ZERO,
        n => Amount(has.0 * u128::from(n) / 8),
    };
    Some(deposit(zone, &who, DepositAction::Unbond { amount }))
}

pub(super) fn sponsor(zone: &mut Zone) -> Option<Deed> {
    let (who, whom) = (zone.someone(), provider(zone).account());
    let amount = Amount(u128::from(zone.rng.below(6)) * 50_000_000);
    Some(deposit(zone, &who, DepositAction::Sponsor { provider: whom, amount }))
}

pub(super) fn withdraw_sponsorship(zone: &mut Zone) -> Option<Deed> {
    let whom = provider(zone).account();
    let all = query::deposits::sponsors(&zone.state, &whom);
    let one = zone.rng.pick(&all)?.clone();
    let who = if zone.rng.once_in(8) { zone.someone() } else { zone.key_of(&one.sponsor).cloned()? };
    let amount = match zone.rng.below(4) {
        0 => Amount(one.amount.0 / 2),
        1 => Amount(one.amount.0 + 1),
        _ => one.amount,
    };
    Some(deposit(zone, &who, DepositAction::WithdrawSponsorship { provider: whom, amount }))
}

pub(super) fn dismiss(zone: &mut Zone) -> Option<Deed> {
    let who = provider(zone);
    let all = query::deposits::sponsors(&zone.state, &who.account());
    let sponsor = zone.rng.pick(&all).map_or(AccountId([0xdd; 32]), |s| s.sponsor);
    Some(deposit(zone, &who, DepositAction::DismissSponsor { sponsor }))
}

/// Ends a suspension, mostly one that is there; its time has passed or not.
pub(super) fn unjail(zone: &mut Zone) -> Option<Deed> {
    let nodes = zone.machines.iter().map(|m| m.key.node_id());
    let jailed: Vec<_> = nodes.filter(|n| query::deposits::node_bond(&zone.state, n).jail.is_some()).collect();
    if let Some(node) = zone.rng.pick(&jailed).copied()
        && !zone.rng.once_in(8)
    {
        let owner = query::node(&zone.state, &node)?.provider;
        let who = zone.key_of(&owner).cloned()?;
        return Some(deposit(zone, &who, DepositAction::Unjail { node: Some(node) }));
    }
    let who = provider(zone);
    let node = if zone.rng.once_in(2) { Some(zone.machine().key.node_id()) } else { None };
    Some(deposit(zone, &who, DepositAction::Unjail { node }))
}

/// A stamp whose work nobody checks here: it shows the bits, on the day.
pub(super) fn stamped(zone: &mut Zone) -> Action {
    let today = zone.now.0 / DAY_MS;
    let (day, first) = match zone.rng.below(12) {
        0 => (today + 1, 0),
        1 => (today, 0xff),
        2 => (today - 1, 0),
        _ => (today, 0),
    };
    let mut tag = [7; 32];
    tag[0] = first;
    Action::Deposit(DepositAction::Newcomer { stamp: Stamp { day, nonce: zone.rng.next(), tag, front: 0 } })
}

/// Somebody who has a deposit begins without, or somebody new.
pub(super) fn newcomer(zone: &mut Zone) -> Option<Deed> {
    let n = zone.rng.below(8) as usize;
    let who = zone.accounts[n].clone();
    let mut actions = vec![];
    if query::provider(&zone.state, &who.account()).is_none() {
        actions.push(Action::RegisterProvider { name: "n".into() });
    }
    actions.push(stamped(zone));
    // Two in one block are one too many.
    if zone.rng.once_in(3) {
        zone.next.push_back(newcomer);
    }
    Some(zone.by(&who, actions))
}

/// An account without any money begins: the treasury pays its first fees.
pub(super) fn newcomer_of_nothing(zone: &mut Zone) -> Option<Deed> {
    let known: Vec<SigningKey> = zone.seen.fresh.iter().rev().take(6).cloned().collect();
    let begun: Vec<SigningKey> = known
        .iter()
        .filter(|k| query::provider(&zone.state, &k.account()).is_some_and(|p| p.bond.start == Start::Newcomer))
        .cloned()
        .collect();
    if let Some(who) = begun.first()
        && zone.rng.once_in(2)
    {
        // Its own work, for which its first fees are, or something that they are not for.
        let number = zone.rng.below(4) as u32;
        let node = zone.machine().key.node_id();
        let terms = Box::new(OfferTerms::default());
        let work = Action::PutOffer { node, number, terms };
        let other = Action::Transfer { to: zone.accounts[0].account(), asset: pasture_types::AssetId::CREDIT, amount: Amount(1) };
        let action = if zone.rng.once_in(4) { other } else { work };
        return Some(zone.by(who, vec![action]));
    }
    let mut bytes = [0x66; 32];
    bytes[..8].copy_from_slice(&zone.rng.next().to_le_bytes());
    let fresh = SigningKey::from_seed(bytes);
    let open = Action::RegisterAccount { keys: vec![fresh.public()], threshold: 1 };
    let actions = vec![open, Action::RegisterProvider { name: "n".into() }, stamped(zone)];
    let body = zone.body(fresh.account(), Auth::Single, actions);
    let deed = Deed::checked(body, &fresh);
    zone.seen.fresh.push(fresh);
    Some(deed)
}
