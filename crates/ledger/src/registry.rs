//! Accounts, providers, nodes and their offers. Spec: `docs/specs/ledger.md` §7, `docs/specs/market.md` §1.
//!
//! Guarantees: a node belongs to one provider for good, an offer never exceeds what its node declared, and every index
//! agrees with its record. It does not match offers: see `market`.

use crate::apply::Tx;
use crate::error::TxError;
use crate::market::index;
use crate::records::{Node, Offer, Provider};
use crate::stake::Bond;
use crate::stake::value::may_offer;
use crate::tables::{
    self, DISMISSED, OFFER_OF_NODE, OFFER_OF_PROVIDER, ageing_key, key, keys_with, mark, offer_key, put_account, put_node,
    put_offer as save_offer, put_provider, region_key, tail_id,
};
use crate::{auth, bank, governance, market, seams, service, validate};
use pasture_types::event::Event;
use pasture_types::keys::Signature;
use pasture_types::market::OfferTerms;
use pasture_types::market_rules::MarketEvent;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::{NodeDeclaration, node_registration_digest, offer_id};
use pasture_types::{Amount, AssetId, NodeId, OfferId, PublicKey, Resources};

/// Most offers of one node.
const MAX_OFFERS_OF_NODE: usize = 16;

pub(crate) fn register_account(s: &mut dyn StateWrite, tx: &mut Tx<'_>, keys: &[PublicKey], threshold: u8) -> Result<(), TxError> {
    if tables::account(s, &tx.account).is_some() {
        return Err(TxError::Exists("the account"));
    }
    let account = auth::new_account(&tx.account, keys, threshold, tx.env.now())?;
    put_account(s, &tx.account, &account);
    tx.events.push(Event::AccountRegistered { account: tx.account });
    Ok(())
}

pub(crate) fn register_provider(s: &mut dyn StateWrite, tx: &mut Tx<'_>, name: &str) -> Result<(), TxError> {
    validate::name(name)?;
    governance::provider_name(tx.env, name)?;
    if tables::provider(s, &tx.account).is_some() {
        return Err(TxError::Exists("the provider"));
    }
    let provider = Provider {
        account: tx.account,
        name: name.into(),
        stake: Amount::ZERO,
        nodes: 0,
        registered_at: tx.env.now(),
        bond: Bond::default(),
    };
    put_provider(s, &tx.account, &provider);
    tx.events.push(Event::ProviderRegistered { account: tx.account });
    Ok(())
}

fn acting_provider(s: &dyn StateRead, tx: &Tx<'_>) -> Result<Provider, TxError> {
    tables::provider(s, &tx.account).ok_or_else(|| TxError::unknown("provider", &tx.account))
}

fn own_node(s: &dyn StateRead, tx: &Tx<'_>, node: &NodeId) -> Result<Node, TxError> {
    let record = tables::node(s, node).ok_or_else(|| TxError::unknown("node", node))?;
    if record.provider == tx.account { Ok(record) } else { Err(TxError::NotYours("the node")) }
}

pub(crate) fn register_node(
    s: &mut dyn StateWrite,
    tx: &mut Tx<'_>,
    id: &NodeId,
    declaration: &NodeDeclaration,
    signature: &Signature,
) -> Result<(), TxError> {
    let mut provider = acting_provider(s, tx)?;
    validate::declaration(declaration)?;
    let digest = node_registration_digest(&tx.env.zone.id, &tx.account, id, declaration);
    PublicKey::from(*id).verify(&digest, signature).map_err(|source| TxError::Signature { whose: "node's consent", source })?;
    match tables::node(s, id) {
        Some(mut node) => {
            if node.provider != tx.account {
                return Err(TxError::NotYours("the node"));
            }
            if node.open_leases > 0 {
                return Err(TxError::BadState {
                    what: "the node",
                    state: "leased".into(),
                    hint: "declare it anew once its leases are settled",
                });
            }
            let fits = offers_of(s, id).iter().all(|o| declaration.resources.checked_sub(&o.terms.resources).is_some());
            if !fits {
                return Err(TxError::Invalid("a standing offer of this node is larger than that; withdraw it first".into()));
            }
            let old = std::mem::replace(&mut node.declaration, declaration.clone());
            put_node(s, id, &node);
            // Its provider wants it back.
            if is_dismissed(s, id) {
                s.delete(&key(DISMISSED, &[&id.0]));
            }
            seams::node_declared_anew(s, id, &old, declaration);
        }
        None => {
            let node = Node {
                id: *id,
                provider: tx.account,
                declaration: declaration.clone(),
                committed: Resources::default(),
                open_leases: 0,
                registered_at: tx.env.now(),
            };
            put_node(s, id, &node);
            provider.nodes = provider.nodes.saturating_add(1);
            put_provider(s, &tx.account, &provider);
        }
    }
    tx.events.push(Event::NodeRegistered { node: *id, provider: tx.account });
    Ok(())
}

/// Writes a provider whose deposit may have changed.
pub(crate) fn save_provider(s: &mut dyn StateWrite, p: &Provider) {
    let before = tables::provider(s, &p.account).map_or(Amount::ZERO, |old| old.stake);
    put_provider(s, &p.account, p);
    seams::deposit_moved(s, &p.account, before, p.stake);
}

pub(crate) fn stake(s: &mut dyn StateWrite, tx: &mut Tx<'_>, amount: Amount) -> Result<(), TxError> {
    if amount.is_zero() {
        return Err(TxError::Invalid("a deposit of nothing; give an amount".into()));
    }
    let mut provider = acting_provider(s, tx)?;
    bank::debit(s, &tx.account, AssetId::CREDIT, amount, "the deposit")?;
    provider.stake = provider.stake.checked_add(amount).ok_or(TxError::AmountTooLarge)?;
    save_provider(s, &provider);
    market::wake(s);
    tx.events.push(Event::Staked { account: tx.account, amount });
    Ok(())
}

pub(crate) fn offers_of(s: &dyn StateRead, node: &NodeId) -> Vec<Offer> {
    let ids = keys_with(s, &key(OFFER_OF_NODE, &[&node.0]), MAX_OFFERS_OF_NODE);
    ids.iter().filter_map(|k| tables::offer(s, &OfferId(tail_id(k)?))).collect()
}

pub(crate) fn put_offer(s: &mut dyn StateWrite, tx: &mut Tx<'_>, node_id: &NodeId, number: u32, terms: &OfferTerms) -> Result<(), TxError> {
    let node = own_node(s, tx, node_id)?;
    if is_dismissed(s, node_id) {
        let hint = "its provider registers it again first";
        return Err(TxError::BadState { what: "the node", state: "dismissed".into(), hint });
    }
    let provider = acting_provider(s, tx)?;
    validate::offer(terms, tx.env)?;
    service::assets::must_be_known(s, terms.asset)?;
    may_offer(tx.env, &provider, terms.asset)?;
    if node.declaration.resources.checked_sub(&terms.resources).is_none() {
        return Err(TxError::Invalid(format!("the offer is larger than its node, which declared {}", node.declaration.resources)));
    }
    let id = offer_id(node_id, number);
    match tables::offer(s, &id) {
        Some(old) => remove_indexes(s, tx.env.zone.params.offer_age_blocks, &old, &node),
        None if offers_of(s, node_id).len() >= MAX_OFFERS_OF_NODE => {
            let limit = MAX_OFFERS_OF_NODE as u64;
            return Err(TxError::Limit { what: "offers of this node", got: limit + 1, limit });
        }
        None => {}
    }
    let (height, put_at) = (tx.env.clock.height, tx.env.now());
    let offer = Offer { id, node: *node_id, provider: tx.account, number, terms: terms.clone(), height, put_at, paused: false };
    save_offer(s, &id, &offer);
    mark(s, key(OFFER_OF_NODE, &[&node_id.0, &id.0]));
    mark(s, key(OFFER_OF_PROVIDER, &[&tx.account.0, &id.0]));
    mark(s, region_key(&terms.region, &id));
    index::add(s, &offer, &node);
    mark(s, ageing_key(ready_height(tx.env.zone.params.offer_age_blocks, &offer), &id));
    seams::node_changed(s, node_id);
    tx.events.push(Event::OfferPut { offer: id, node: *node_id });
    Ok(())
}

/// The first height at whose end an offer may be drawn.
pub(crate) const fn ready_height(age_blocks: u64, offer: &Offer) -> u64 {
    offer.height.saturating_add(age_blocks)
}

fn remove_indexes(s: &mut dyn StateWrite, age_blocks: u64, offer: &Offer, node: &Node) {
    index::remove(s, offer, node);
    s.delete(&key(OFFER_OF_NODE, &[&offer.node.0, &offer.id.0]));
    s.delete(&key(OFFER_OF_PROVIDER, &[&offer.provider.0, &offer.id.0]));
    s.delete(&region_key(&offer.terms.region, &offer.id));
    s.delete(&ageing_key(ready_height(age_blocks, offer), &offer.id));
}

pub(crate) fn withdraw_offer(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &OfferId) -> Result<(), TxError> {
    let offer = tables::offer(s, id).ok_or_else(|| TxError::unknown("offer", id))?;
    if offer.provider != tx.account {
        return Err(TxError::NotYours("the offer"));
    }
    take_away(s, tx, &offer);
    Ok(())
}

fn take_away(s: &mut dyn StateWrite, tx: &mut Tx<'_>, offer: &Offer) {
    if let Some(node) = tables::node(s, &offer.node) {
        remove_indexes(s, tx.env.zone.params.offer_age_blocks, offer, &node);
    }
    s.delete(&offer_key(&offer.id));
    seams::node_changed(s, &offer.node);
    tx.events.push(Event::OfferWithdrawn { offer: offer.id });
}

/// Whether a node may offer nothing until its provider registers it again.
pub(crate) fn is_dismissed(s: &dyn StateRead, node: &NodeId) -> bool {
    s.get(&key(DISMISSED, &[&node.0])).is_some()
}

/// Takes a node's offers away, and its right to make others: for a machine that its owner does not trust any more. Leases that it has go on,
/// since their users want what they pay for.
pub(crate) fn dismiss_node(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &NodeId) -> Result<(), TxError> {
    own_node(s, tx, id)?;
    if is_dismissed(s, id) {
        return Err(TxError::BadState { what: "the node", state: "dismissed".into(), hint: "there is nothing to change" });
    }
    for offer in offers_of(s, id) {
        take_away(s, tx, &offer);
    }
    mark(s, key(DISMISSED, &[&id.0]));
    tx.events.push(Event::Market(MarketEvent::NodeDismissed { node: *id, provider: tx.account }));
    Ok(())
}
