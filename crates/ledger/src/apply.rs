//! One transaction: fee and lane first, then all its actions or none. Spec: `docs/specs/ledger.md` §5.
//!
//! Guarantees: `NotIncludable` changed nothing, `Failed` changed fee and lane only, `Done` changed everything. It does not
//! decide the order of transactions.

use crate::auth::{self, Checked};
use crate::block::BlockCtx;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{lane_key, put};
use crate::{
    audits, bank, channels, credentials, governance, grants, keys, lease, load, market, proofs, registry, reputation, seams, service,
    stake, validators,
};
use pasture_types::event::Event;
use pasture_types::state::{Overlay, StateRead, StateWrite, merge};
use pasture_types::tx::{Action, Auth, Envelope, TxBody};
use pasture_types::{AccountId, GrantId, NodeId, TxId};

pub use crate::auth::Signatures;

const BAD_TX_DOMAIN: &str = "pasture 2026-11 undecodable transaction v1";

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Everything it asked was done.
    Done {
        /// Its identity.
        id: TxId,
        /// What it did.
        events: Vec<Event>,
    },
    /// The fee was taken and the lane advanced; nothing else changed.
    Failed {
        /// Its identity.
        id: TxId,
        /// Why.
        error: TxError,
    },
    /// Nothing changed; it must not be in this block.
    NotIncludable {
        /// Its identity.
        id: TxId,
        /// Why.
        error: TxError,
    },
}

/// What an action knows of its transaction.
pub(crate) struct Tx<'a> {
    pub(crate) env: &'a Env,
    pub(crate) id: TxId,
    pub(crate) index: u32,
    pub(crate) account: AccountId,
    /// The node whose key signed, with `node` auth.
    pub(crate) node: Option<NodeId>,
    /// The grant by which it acts, with `delegated` auth.
    pub(crate) grant: Option<GrantId>,
    pub(crate) events: Vec<Event>,
}

/// Applies one transaction within the block that [`crate::begin_block`] opened.
pub fn apply(state: &mut dyn StateWrite, ctx: &BlockCtx, tx: &[u8], signatures: Signatures) -> Applied {
    let envelope = match auth::decode(tx) {
        Ok(envelope) => envelope,
        Err(error) => return Applied::NotIncludable { id: TxId(pasture_types::ids::derive(BAD_TX_DOMAIN, &[tx])), error },
    };
    let (env, checked) = match includable(state, ctx, &envelope, signatures) {
        Ok(ok) => ok,
        Err(error) => return Applied::NotIncludable { id: envelope.body.id(), error },
    };
    let id = checked.id;
    let mut overlay = Overlay::new(state);
    if let Err(error) = charge(&mut overlay, &env, &envelope.body, &checked) {
        return Applied::NotIncludable { id, error };
    }
    match act(&mut overlay, &env, &envelope.body, id) {
        Ok(events) => {
            let changes = overlay.into_changes();
            merge(state, changes);
            Applied::Done { id, events }
        }
        Err(error) => {
            // Charged anew on the untouched state; it succeeded a moment ago and nothing has changed since.
            let mut overlay = Overlay::new(state);
            let charged = charge(&mut overlay, &env, &envelope.body, &checked);
            let changes = overlay.into_changes();
            if charged.is_ok() {
                merge(state, changes);
            }
            Applied::Failed { id, error }
        }
    }
}

fn includable(state: &dyn StateRead, ctx: &BlockCtx, envelope: &Envelope, signatures: Signatures) -> Result<(Env, Checked), TxError> {
    let env = Env::within(state, ctx).ok_or(TxError::NoGenesis)?;
    let checked = auth::check(state, &env, envelope, signatures)?;
    let (lane, got, next) = (envelope.body.lane, envelope.body.seq, checked.next_seq);
    match got.cmp(&next) {
        std::cmp::Ordering::Less if !(cfg!(mutant_5) && got + 1 == next) => Err(TxError::SeqUsed { lane, got, next }),
        std::cmp::Ordering::Greater => Err(TxError::SeqAhead { lane, got, next }),
        _ => Ok((env, checked)),
    }
}

fn charge(s: &mut dyn StateWrite, env: &Env, body: &TxBody, checked: &Checked) -> Result<(), TxError> {
    load::take(s, env, checked.cost_us)?;
    let covered = seams::take_fee_cover(s, env, body, &checked.payer, checked.fee)?;
    let fee = checked.fee.saturating_sub(covered);
    bank::charge_fee(s, &checked.payer, body.fee_asset, fee, body.tip)?;
    if let (Auth::Delegated(id), true) = (body.auth, checked.payer == body.account) {
        grants::charge(s, &id, body.fee_asset, fee.checked_add(body.tip).ok_or(TxError::AmountTooLarge)?)?;
    }
    put(s, lane_key(&checked.sender, body.lane), &(checked.next_seq + 1));
    Ok(())
}

fn act(s: &mut dyn StateWrite, env: &Env, body: &TxBody, id: TxId) -> Result<Vec<Event>, TxError> {
    let (node, grant) = match body.auth {
        Auth::Node(node) => (Some(node), None),
        Auth::Delegated(grant) => (None, Some(grant)),
        Auth::Single | Auth::Multi => (None, None),
    };
    let mut tx = Tx { env, id, index: 0, account: body.account, node, grant, events: Vec::new() };
    for (index, action) in body.actions.iter().enumerate() {
        tx.index = u32::try_from(index).unwrap_or(u32::MAX);
        match &grant {
            Some(grant) => grants::run(s, &mut tx, grant, action)?,
            None => one(s, &mut tx, action)?,
        }
    }
    Ok(tx.events)
}

pub(crate) fn one(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &Action) -> Result<(), TxError> {
    if seams::paused(s, tx.env, action) {
        return Err(TxError::Paused);
    }
    match action {
        Action::RegisterAccount { keys, threshold } => registry::register_account(s, tx, keys, *threshold),
        Action::RegisterProvider { name } => registry::register_provider(s, tx, name),
        Action::RegisterNode { node, declaration, node_signature } => registry::register_node(s, tx, node, declaration, node_signature),
        Action::Stake { amount } => registry::stake(s, tx, *amount),
        Action::PutOffer { node, number, terms } => registry::put_offer(s, tx, node, *number, terms),
        Action::WithdrawOffer { offer } => registry::withdraw_offer(s, tx, offer),
        Action::PlaceOrder { terms } => market::place_order(s, tx, terms),
        Action::CancelOrder { order } => market::cancel_order(s, tx, order),
        Action::AcceptLease { lease } => market::accept_lease(s, tx, lease),
        Action::RejectLease { lease } => market::reject_lease(s, tx, lease),
        Action::SubmitUsage { usage } => lease::submit_usage(s, tx, usage),
        Action::SubmitHeartbeat { heartbeat } => proofs::submit_heartbeat(s, tx, heartbeat),
        Action::CloseLease { lease, reason } => lease::close_lease(s, tx, lease, reason),
        Action::Object { lease } => lease::object(s, tx, lease),
        Action::Extend { lease, duration } => lease::extend(s, tx, lease, *duration),
        Action::Transfer { to, asset, amount } => {
            service::assets::must_be_known(s, *asset)?;
            bank::debit(s, &tx.account, *asset, *amount, "the transfer")?;
            bank::credit(s, to, *asset, *amount);
            tx.events.push(Event::Transferred { from: Some(tx.account), to: *to, asset: *asset, amount: *amount });
            Ok(())
        }
        Action::TestCredits { to, amount } => {
            let asset = pasture_types::AssetId::CREDIT;
            bank::mint(s, to, asset, *amount)?;
            tx.events.push(Event::Transferred { from: None, to: *to, asset, amount: *amount });
            Ok(())
        }
        Action::Governance(action) => governance::act(s, tx, action),
        Action::Reputation(action) => reputation::act(s, tx, action),
        Action::RegisterValidator { validator, consent, bond } => validators::register(s, tx, validator, consent, *bond),
        Action::Deposit(action) => stake::act(s, tx, action),
        Action::Validator(action) => validators::act(s, tx, action),
        Action::Audit(action) => audits::act(s, tx, action),
        Action::Market(action) => market::act(s, tx, action),
        Action::Service(action) => service::act(s, tx, action),
        Action::Grant(a) => grants::apply(s, tx, a),
        Action::Keys(a) => keys::apply(s, tx, a),
        Action::Channel(a) => channels::apply(s, tx, a),
        Action::Credential(a) => credentials::apply(s, tx, a),
    }
}
