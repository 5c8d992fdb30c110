//! Which standing offers a draw looks at, and what is free of them. Spec: `docs/specs/market.md` §3.
//!
//! Guarantees: an order's narrowest indexed condition chooses the bucket; a bucket that is too large is entered at a drawn
//! point and wraps around, so that no offer is favoured for its id. It filters nothing: the scheduler does.

use crate::env::Env;
use crate::records::{Node, Offer};
use crate::registry::ready_height;
use crate::seams;
use crate::tables::{self, OFFER, OFFER_IN_REGION, OFFER_OF_NODE, OFFER_OF_PROVIDER, key, keys_between, prefix_end, tail_id};
use pasture_scheduler::OfferView;
use pasture_types::market::{Constraint, OrderTerms};
use pasture_types::state::StateRead;
use pasture_types::{Amount, NodeId, OfferId, Resources};

/// Most offers that one draw looks at.
pub(crate) const MAX_OFFERS_SCANNED: usize = 1_024;

/// An offer with its node.
pub(crate) struct Standing {
    pub(crate) offer: Offer,
    pub(crate) node: Node,
    suspended: bool,
    rate_room: Option<Amount>,
    reputation_ppm: u64,
}

impl Standing {
    pub(crate) fn load(s: &dyn StateRead, env: &Env, id: &OfferId) -> Option<Self> {
        let mut offer = tables::offer(s, id)?;
        let node = tables::node(s, &offer.node)?;
        seams::within_proven(s, &node, &mut offer.terms.resources);
        let (provider, id) = (offer.provider, offer.node);
        Some(Self {
            suspended: seams::suspended(s, env, &provider, &id),
            rate_room: seams::rate_room(s, env, &provider, &id),
            reputation_ppm: seams::reputation_ppm(s, env, &provider),
            offer,
            node,
        })
    }
    /// What the scheduler sees.
    pub(crate) fn view(&self, env: &Env, refused: &[NodeId]) -> OfferView<'_> {
        OfferView {
            offer: self.offer.id,
            node: self.offer.node,
            provider: self.offer.provider,
            terms: &self.offer.terms,
            free: free(&self.offer, &self.node),
            ageing: env.clock.height < ready_height(env.zone.params.offer_age_blocks, &self.offer),
            refused: refused.contains(&self.offer.node),
            suspended: self.suspended,
            rate_room: self.rate_room,
            reputation_ppm: self.reputation_ppm,
        }
    }
}

/// What is free of an offer: what it offers less what all leases of its node hold, never below nothing.
pub(crate) fn free(offer: &Offer, node: &Node) -> Resources {
    let (all, used) = (&offer.terms.resources, &node.committed);
    Resources {
        cpu_millis: all.cpu_millis.saturating_sub(used.cpu_millis),
        memory_bytes: all.memory_bytes.saturating_sub(used.memory_bytes),
        disk_bytes: all.disk_bytes.saturating_sub(used.disk_bytes),
        gpus: Vec::new(),
    }
}

/// The buckets that hold every offer an order could take: one or two key prefixes.
fn buckets(terms: &OrderTerms) -> Vec<Vec<u8>> {
    let find = |pick: &dyn Fn(&Constraint) -> Option<Vec<Vec<u8>>>| terms.constraints.iter().find_map(pick);
    find(&|c| match c {
        Constraint::Node(n) => Some(vec![key(OFFER_OF_NODE, &[&n.0])]),
        _ => None,
    })
    .or_else(|| {
        find(&|c| match c {
            Constraint::Provider(p) => Some(vec![key(OFFER_OF_PROVIDER, &[&p.0])]),
            _ => None,
        })
    })
    .or_else(|| {
        find(&|c| match c {
            Constraint::Region(r) => Some(vec![key(OFFER_IN_REGION, &[r.as_bytes(), &[0]]), key(OFFER_IN_REGION, &[r.as_bytes(), b"-"])]),
            _ => None,
        })
    })
    .unwrap_or_else(|| vec![vec![OFFER]])
}

/// Offers for an order, at most [`MAX_OFFERS_SCANNED`]; each bucket is entered at the seed.
pub(crate) fn for_order(s: &dyn StateRead, env: &Env, terms: &OrderTerms, seed: &[u8; 32]) -> Vec<Standing> {
    let mut ids = Vec::new();
    for bucket in buckets(terms) {
        let middle = key_at(&bucket, seed);
        let end = prefix_end(&bucket);
        let room = MAX_OFFERS_SCANNED.saturating_sub(ids.len());
        let mut found = keys_between(s, &middle, &end, room);
        let rest = room.saturating_sub(found.len());
        found.extend(keys_between(s, &bucket, &middle, rest));
        ids.extend(found.iter().filter_map(|k| tail_id(k)).map(OfferId));
    }
    ids.iter().filter_map(|id| Standing::load(s, env, id)).collect()
}

fn key_at(bucket: &[u8], seed: &[u8; 32]) -> Vec<u8> {
    let mut k = bucket.to_vec();
    k.extend_from_slice(seed);
    k
}
