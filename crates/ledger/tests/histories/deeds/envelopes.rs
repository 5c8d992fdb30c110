//! Envelopes that may not be in a block, or not by this right, or for which there is no room.

use super::Deed;
use crate::climate::TOKEN;
use crate::zone::Zone;
use pasture_ledger::{Signatures, query};
use pasture_types::market::Failover;
use pasture_types::tx::{Action, Auth};
use pasture_types::{Amount, AssetId, GrantId, Millis, SigningKey, Timestamp};

/// Orders that fill most of a block with their draws.
const STUFFING: usize = 36;

pub(super) fn wrong(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let other = zone.someone_but(&who.account());
    let pay = Action::Transfer { to: other.account(), asset: AssetId::CREDIT, amount: Amount(1) };
    let fair = zone.by(&who, vec![pay.clone()]);
    let now = zone.now;
    let mut deed = zone.by(&who, vec![pay.clone()]);
    let body = &mut deed.envelope.body;
    match zone.rng.below(18) {
        0 => body.version = 9,
        1 => body.zone.0[0] ^= 1,
        2 => body.actions = vec![pay; 65],
        3 => body.valid_until = Timestamp(now.0 - 1),
        4 => body.valid_until = now.plus(Millis::secs(90_000)),
        5 if body.seq > 0 => body.seq -= 1,
        6 => body.seq += 2,
        7 => {
            let mut envelope = fair.envelope.body.sign(&who);
            envelope.body.tip = Amount(1);
            deed = Deed { envelope, signatures: Signatures::Verify, ..deed };
        }
        // Keys never pass from one account to another here, so this key has no right to it.
        8 => deed = Deed::checked(fair.envelope.body, &other),
        9 => deed.envelope.signatures.clear(),
        10 => {
            let stranger = SigningKey::from_seed([0xee; 32]);
            deed = Deed::checked(zone.body(stranger.account(), Auth::Single, vec![pay]), &stranger);
        }
        11 => body.max_fee = Amount(1),
        12 => {
            let m = zone.machine();
            let _ = query::node(&zone.state, &m.key.node_id())?;
            deed = zone.by_node(&m, vec![pay]);
        }
        13 => body.auth = Auth::Delegated(GrantId([1; 32])),
        14 => body.fee_asset = TOKEN,
        15 => body.tip = Amount(u128::MAX),
        16 => body.tip = Amount::credits(1_000_000),
        _ => {
            let bytes = vec![zone.rng.next() as u8; 1 + zone.rng.below(90) as usize];
            deed.bytes = Some(bytes);
        }
    }
    Some(deed.forged())
}

/// Orders that nobody can pay for: together they fill the block, so that the next one finds no room.
pub(super) fn stuff(zone: &mut Zone) -> Option<Deed> {
    if !zone.rng.once_in(3) {
        return None;
    }
    let who = zone.someone();
    let mut terms = super::market::terms(zone);
    (terms.failover, terms.budget) = (Failover::Cold, Amount(1));
    let actions = vec![Action::PlaceOrder { terms: Box::new(terms) }; STUFFING];
    if zone.next.is_empty() {
        zone.next.push_back(stuff_again);
    }
    Some(zone.by(&who, actions))
}

fn stuff_again(zone: &mut Zone) -> Option<Deed> {
    stuff(zone).or_else(|| stuff(zone)).or_else(|| stuff(zone))
}
