//! The buckets of standing offers: which ones an order could take at all. Spec: `docs/specs/market.md` §4.
//!
//! Guarantees: every bucket of an order holds all offers that could serve it; the indexes follow each offer and what is free of
//! it; counting and walking a bucket is bounded. It filters nothing: the scheduler does.

use super::{OFFER_BY_CPU, OFFER_BY_MEMORY, OFFER_LEASES, OFFER_WITH_ATTRIBUTE, OFFER_WITH_GPU, OFFER_WITH_SERVICE};
use crate::offers::free;
use crate::records::{Lease, Node, Offer};
use crate::registry::offers_of;
use crate::tables::{
    OFFER, OFFER_IN_REGION, OFFER_OF_NODE, OFFER_OF_PROVIDER, get, key, keys_between, mark, prefix_end, put, put_node, tail_id,
};
use crate::{TxError, seams, tables, validate};
use pasture_types::market::{Constraint, OrderTerms};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{OfferId, Resources};

/// Most offers that one draw looks at: as many as it could score at most.
pub(crate) const MAX_OFFERS_SCANNED: usize = 128;
/// Most offers that an explanation looks at: nobody waits for it in a block.
pub(crate) const MAX_OFFERS_EXPLAINED: usize = 512;
/// Buckets are counted up to this: among larger ones the first is as good as any.
const MAX_COUNTED: usize = 256;
/// A bucket of so few offers is taken without looking at others.
const FEW: usize = 8;
/// Most buckets that are counted for one order.
const MAX_BUCKETS: usize = 6;
/// The largest size class: a larger machine is of this class too.
const MAX_CLASS: u8 = 24;
const MIB: u64 = 1 << 20;

/// The size class of an amount: the number of its binary digits, so that an offer of a lower class is too small for sure.
fn class_of(amount: u64) -> u8 {
    let digits = u64::BITS - amount.leading_zeros();
    u8::try_from(digits).unwrap_or(MAX_CLASS).min(MAX_CLASS)
}

fn cpu_class(r: &Resources) -> u8 {
    class_of(r.cpu_millis.into())
}

fn memory_class(r: &Resources) -> u8 {
    class_of(r.memory_bytes / MIB)
}

fn size_keys(offer: &OfferId, free: &Resources) -> [Vec<u8>; 2] {
    [key(OFFER_BY_CPU, &[&[cpu_class(free)], &offer.0]), key(OFFER_BY_MEMORY, &[&[memory_class(free)], &offer.0])]
}

/// Every key under which an offer stands here.
pub(super) fn keys_of(offer: &Offer, node: &Node) -> Vec<Vec<u8>> {
    let mut out = size_keys(&offer.id, &free(offer, node)).to_vec();
    let terms = &offer.terms;
    out.extend(terms.attributes.iter().map(|(n, v)| key(OFFER_WITH_ATTRIBUTE, &[n.as_bytes(), &[0], v.as_bytes(), &[0], &offer.id.0])));
    out.extend(terms.resources.gpus.iter().map(|g| key(OFFER_WITH_GPU, &[g.model.as_bytes(), &[0], &offer.id.0])));
    out.extend(terms.resources.services.iter().map(|l| key(OFFER_WITH_SERVICE, &[l.class.as_bytes(), &[0], &offer.id.0])));
    out
}

pub(crate) fn add(s: &mut dyn StateWrite, offer: &Offer, node: &Node) {
    for k in keys_of(offer, node) {
        mark(s, k);
    }
}

pub(crate) fn remove(s: &mut dyn StateWrite, offer: &Offer, node: &Node) {
    for k in keys_of(offer, node) {
        s.delete(&k);
    }
}

/// Saves a node whose leases hold something else now, and moves its offers to their new size classes.
fn put_held(s: &mut dyn StateWrite, before: &Node, after: &Node) {
    for offer in offers_of(s, &after.id) {
        let (old, new) = (size_keys(&offer.id, &free(&offer, before)), size_keys(&offer.id, &free(&offer, after)));
        for (old, new) in old.into_iter().zip(new) {
            if old != new {
                s.delete(&old);
                mark(s, new);
            }
        }
    }
    put_node(s, &after.id, after);
}

/// How many leases an offer has that hold its machine.
pub(crate) fn leases_of_offer(s: &dyn StateRead, offer: &OfferId) -> u32 {
    get(s, &key(OFFER_LEASES, &[&offer.0])).unwrap_or(0)
}

fn count_lease(s: &mut dyn StateWrite, offer: &OfferId, change: impl FnOnce(u32) -> u32) {
    match change(leases_of_offer(s, offer)) {
        0 => s.delete(&key(OFFER_LEASES, &[&offer.0])),
        n => put(s, key(OFFER_LEASES, &[&offer.0]), &n),
    }
}

/// Takes what a lease holds from its node.
pub(crate) fn hold(s: &mut dyn StateWrite, lease: &Lease) -> Result<(), TxError> {
    let before = tables::node(s, &lease.node).ok_or_else(|| TxError::unknown("node", &lease.node))?;
    let mut node = before.clone();
    node.committed = node.committed.checked_add(&lease.resources).ok_or(TxError::AmountTooLarge)?;
    node.open_leases = node.open_leases.saturating_add(1);
    put_held(s, &before, &node);
    count_lease(s, &lease.offer, |n| n.saturating_add(1));
    seams::machine_held(s, lease);
    Ok(())
}

/// Gives what a lease holds back to its node.
pub(crate) fn release(s: &mut dyn StateWrite, lease: &Lease) {
    if let Some(before) = tables::node(s, &lease.node) {
        let mut node = before.clone();
        node.committed = node.committed.checked_sub(&lease.resources).unwrap_or_default();
        put_held(s, &before, &node);
    }
    count_lease(s, &lease.offer, |n| n.saturating_sub(1));
    seams::machine_freed(s, lease);
}

/// Ranges of keys that together hold every offer an order could take.
type Bucket = Vec<Vec<u8>>;

fn size_bucket(table: u8, class: u8) -> Bucket {
    (class..=MAX_CLASS).map(|c| vec![table, c]).collect()
}

/// All buckets of an order, those that tend to be narrow first; the last ones hold all offers that are large enough.
fn buckets(terms: &OrderTerms) -> Vec<Bucket> {
    let mut out: Vec<(u8, Bucket)> = terms
        .constraints
        .iter()
        .filter_map(|c| match c {
            Constraint::Node(n) => Some((0, vec![key(OFFER_OF_NODE, &[&n.0])])),
            Constraint::Provider(p) => Some((1, vec![key(OFFER_OF_PROVIDER, &[&p.0])])),
            Constraint::Attribute { name, value } => {
                Some((4, vec![key(OFFER_WITH_ATTRIBUTE, &[name.as_bytes(), &[0], value.as_bytes(), &[0]])]))
            }
            Constraint::Region(r) => {
                Some((5, vec![key(OFFER_IN_REGION, &[r.as_bytes(), &[0]]), key(OFFER_IN_REGION, &[r.as_bytes(), b"-"])]))
            }
            Constraint::NotNode(_) | Constraint::Egress(_) | Constraint::Credential(_) => None,
        })
        .collect();
    let asked = &terms.resources;
    out.extend(asked.gpus.iter().map(|g| (2, vec![key(OFFER_WITH_GPU, &[g.model.as_bytes(), &[0]])])));
    out.extend(asked.services.iter().filter(|l| l.units > 0).map(|l| (3, vec![key(OFFER_WITH_SERVICE, &[l.class.as_bytes(), &[0]])])));
    out.sort();
    // The sizes always have a place: without any other condition they are the buckets.
    out.truncate(MAX_BUCKETS - 2);
    let mut out: Vec<Bucket> = out.into_iter().map(|(_, b)| b).collect();
    out.push(size_bucket(OFFER_BY_CPU, cpu_class(asked)));
    out.push(size_bucket(OFFER_BY_MEMORY, memory_class(asked)));
    out
}

/// How many keys a bucket has, counted up to a limit.
fn count(s: &dyn StateRead, bucket: &Bucket, limit: usize) -> usize {
    let mut n = 0;
    for prefix in bucket {
        if n >= limit {
            break;
        }
        s.scan(prefix, &prefix_end(prefix), &mut |_, _| {
            n += 1;
            n < limit
        });
    }
    n
}

/// The narrowest bucket of an order, by a bounded count; of equal ones the first.
fn narrowest(s: &dyn StateRead, terms: &OrderTerms) -> Bucket {
    let mut best: Option<(usize, Bucket)> = None;
    for bucket in buckets(terms) {
        let limit = best.as_ref().map_or(MAX_COUNTED, |(n, _)| *n);
        let n = count(s, &bucket, limit);
        if best.as_ref().is_none_or(|(least, _)| n < *least) {
            best = Some((n, bucket));
        }
        if n <= FEW {
            break;
        }
    }
    best.map_or_else(Vec::new, |(_, bucket)| bucket)
}

/// Offers for an order, at most [`MAX_OFFERS_SCANNED`]: the narrowest bucket, each of its ranges entered at the seed and
/// wrapped around, so that no offer is favoured for its id; of sizes the smallest that may suffice first.
pub(crate) fn for_order(s: &dyn StateRead, terms: &OrderTerms, seed: &[u8; 32]) -> Vec<OfferId> {
    // Each condition on certificates makes an offer dearer to look at: so many fewer are looked at.
    let most = MAX_OFFERS_SCANNED / (1 + validate::certificates(terms) as usize);
    walk(s, &narrowest(s, terms), seed, most)
}

/// Any standing offers, at most [`MAX_OFFERS_EXPLAINED`].
pub(crate) fn anywhere(s: &dyn StateRead, seed: &[u8; 32]) -> Vec<OfferId> {
    walk(s, &vec![vec![OFFER]], seed, MAX_OFFERS_EXPLAINED)
}

fn walk(s: &dyn StateRead, bucket: &Bucket, seed: &[u8; 32], most: usize) -> Vec<OfferId> {
    let mut ids = Vec::new();
    for prefix in bucket {
        let mut middle = prefix.clone();
        middle.extend_from_slice(seed);
        let room = most.saturating_sub(ids.len());
        let mut found = keys_between(s, &middle, &prefix_end(prefix), room);
        let rest = room.saturating_sub(found.len());
        found.extend(keys_between(s, prefix, &middle, rest));
        ids.extend(found.iter().filter_map(|k| tail_id(k)).map(OfferId));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_that_suffices_is_never_of_a_lower_class() {
        for need in [0, 1, 2, 3, 4, 999, 1_000, 1_023, 1_024, u64::from(u32::MAX), u64::MAX] {
            for free in [need, need.saturating_add(1), need.saturating_mul(3), u64::MAX] {
                assert!(class_of(free) >= class_of(need), "{need} {free}");
            }
        }
        assert_eq!((class_of(0), class_of(1), class_of(1_000), class_of(u64::MAX)), (0, 1, 10, MAX_CLASS));
    }
}
