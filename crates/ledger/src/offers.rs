//! A standing offer with what a draw knows of it: its node, its provider, what is free. Spec: `docs/specs/market.md` §4.
//!
//! Guarantees: a draw and an explanation see the same. Which offers are looked at is `market::index`'s to say, which of them
//! serve the scheduler's.

use crate::env::Env;
use crate::market::{history, index};
use crate::records::{Node, Offer};
use crate::registry::ready_height;
use crate::{seams, tables};
use pasture_scheduler::OfferView;
use pasture_types::market::{Constraint, OrderTerms};
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Amount, NodeId, OfferId, Resources};

/// Who asks, and for what.
pub(crate) struct Asker<'a> {
    /// Whose order it is, if it is somebody's.
    pub(crate) account: Option<AccountId>,
    pub(crate) terms: &'a OrderTerms,
    /// Nodes that refused the order.
    pub(crate) refused: &'a [NodeId],
}

/// An offer with what is known of it.
pub(crate) struct Standing {
    pub(crate) offer: Offer,
    pub(crate) node: Node,
    leases: u32,
    refused: bool,
    suspended: bool,
    rate_room: Option<Amount>,
    reputation_ppm: u64,
    history_ppm: u64,
    credentials: u16,
}

impl Standing {
    pub(crate) fn load(s: &dyn StateRead, env: &Env, id: &OfferId, asker: &Asker<'_>) -> Option<Self> {
        let mut offer = tables::offer(s, id)?;
        let node = tables::node(s, &offer.node)?;
        seams::within_proven(s, env, &node, &mut offer.terms.resources);
        let (provider, on) = (offer.provider, offer.node);
        let own = asker.account.map(|account| history::of(s, &account, &provider)).unwrap_or_default();
        let mut credentials = 0;
        for (at, constraint) in asker.terms.constraints.iter().enumerate().take(u16::BITS as usize) {
            if let Constraint::Credential(query) = constraint
                && seams::has_credential(s, env, &provider, &on, query)
            {
                credentials |= 1u16 << at;
            }
        }
        let backing = seams::backing(s, env, &offer, asker.terms);
        Some(Self {
            leases: if offer.terms.max_leases == 0 { 0 } else { index::leases_of_offer(s, id) },
            refused: asker.refused.contains(&on),
            suspended: backing.suspended,
            rate_room: Some(backing.room),
            reputation_ppm: seams::reputation_ppm(s, env, &provider),
            history_ppm: history::part(own),
            credentials,
            offer,
            node,
        })
    }
    /// What the scheduler sees.
    pub(crate) fn view(&self, env: &Env) -> OfferView<'_> {
        OfferView {
            offer: self.offer.id,
            node: self.offer.node,
            provider: self.offer.provider,
            terms: &self.offer.terms,
            free: free(&self.offer, &self.node),
            leases: self.leases,
            ageing: env.clock.height < ready_height(env.zone.params.offer_age_blocks, &self.offer),
            paused: self.offer.paused,
            refused: self.refused,
            suspended: self.suspended,
            rate_room: self.rate_room,
            reputation_ppm: self.reputation_ppm,
            history_ppm: self.history_ppm,
            credentials: self.credentials,
        }
    }
}

/// What is free of an offer: what it offers less what all leases of its node hold, line by line, never below nothing.
pub(crate) fn free(offer: &Offer, node: &Node) -> Resources {
    if cfg!(mutant_10) {
        return offer.terms.resources.saturating_sub(&Resources { memory_bytes: 0, ..node.committed.clone() });
    }
    offer.terms.resources.saturating_sub(&node.committed)
}
