//! The randomness of draws: a mix that no few proposers choose. Spec: `docs/specs/stake.md` §9.
//!
//! Guarantees: a mix for a height depends only on blocks after it, and on blocks of f + 1 different proposers at least; it
//! never changes once it is there; a bounded number of blocks is kept. That a block's randomness is its proposer's unique
//! signature over its parent's is the engine's to verify.

use super::{BEACON, Beacon};
use crate::block::BlockCtx;
use crate::tables::{self, get, head_number, key, put};
use pasture_types::NodeId;
use pasture_types::event::Hash32;
use pasture_types::ids::derive;
use pasture_types::state::{StateRead, StateWrite};
use std::collections::BTreeSet;

/// Blocks that are kept: whoever decides by a mix does so within as many blocks of what it decides.
pub(crate) const BEACONS_KEPT: u64 = 512;
/// Most old ones that a block drops: more than it adds.
const MAX_DROPPED: usize = 2;

const MIX_DOMAIN: &str = "pasture 2026-11 randomness mix v1";

fn beacon_key(height: u64) -> Vec<u8> {
    key(BEACON, &[&height.to_be_bytes()])
}

pub(crate) fn beacon(s: &dyn StateRead, height: u64) -> Option<Beacon> {
    get(s, &beacon_key(height))
}

/// Notes a block's randomness when it begins.
pub(crate) fn note(s: &mut dyn StateWrite, ctx: &BlockCtx) {
    put(s, beacon_key(ctx.height), &Beacon { proposer: NodeId(ctx.proposer), randomness: Hash32(ctx.randomness) });
    let end = beacon_key((ctx.height + 1).saturating_sub(BEACONS_KEPT));
    for k in tables::keys_between(s, &[BEACON], &end, MAX_DROPPED) {
        s.delete(&k);
    }
}

/// The first height whose mix may still be made of blocks that are kept once block `head` has begun.
pub(crate) const fn first_mixed(head: u64) -> u64 {
    head.saturating_sub(BEACONS_KEPT)
}

/// How many different proposers a mix needs: one more than may be faulty.
fn proposers_needed(s: &dyn StateRead) -> usize {
    let seats = tables::zone(s).map_or(1, |z| z.validators.max(1)) as usize;
    (seats - 1) / 3 + 1
}

/// The mix for what block `height` committed: from the first block by which f + 1 different proposers have followed it, each
/// of whose signatures that block's randomness contains. None while there is no such block, or when it is no longer kept.
pub(crate) fn mix_after(s: &dyn StateRead, height: u64) -> Option<[u8; 32]> {
    let need = proposers_needed(s);
    let mut proposers = BTreeSet::new();
    let mut next = height.checked_add(1)?;
    let mut found = None;
    s.scan(&beacon_key(next), &[BEACON + 1], &mut |k, v| {
        // Every block in between must be known, or this is not the first such block.
        let (Some(at), Ok(beacon)) = (head_number(k), borsh::from_slice::<Beacon>(v)) else { return false };
        if at != next {
            return false;
        }
        next = next.saturating_add(1);
        proposers.insert(beacon.proposer);
        if proposers.len() >= need {
            found = Some(derive(MIX_DOMAIN, &[&height.to_be_bytes(), &beacon.randomness.0]));
        }
        found.is_none()
    });
    found
}
