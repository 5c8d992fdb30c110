//! Whether an envelope may be applied: structure, zone, expiry, lane, keys, fee. Spec: `docs/specs/ledger.md` §2.
//!
//! Guarantees: nothing is written here; the check in the mempool and the check in the block are one function. It does not
//! judge what the actions do.

use crate::env::Env;
use crate::error::TxError;
use crate::governance::UnsupportedRules;
use crate::grants::{self, Grant};
use crate::records::Account;
use crate::stake::newcomers::verify_stamp;
use crate::tables::{self, get, lane_key};
use crate::validate::at_most;
use crate::{audits, bank, cost, governance, load, registry, seams, service};
use pasture_types::channel::ChannelAction;
use pasture_types::market_rules::MarketAction;
use pasture_types::service::ServiceAction;
use pasture_types::state::StateRead;
use pasture_types::tx::{
    Action, Auth, ENVELOPE_VERSION, Envelope, MAX_ACTIONS, MAX_LANES, MAX_SIGNATURES, MAX_TX_BYTES, MAX_VALIDITY, TxBody,
};
use pasture_types::{AccountId, Amount, PublicKey, Timestamp, TxId};

/// How far ahead of its lane a waiting transaction may be.
pub const MAX_LANE_AHEAD: u64 = 4_096;
/// Most keys of an account.
const MAX_KEYS: usize = MAX_SIGNATURES;
/// Most test credits that one transaction mints.
const MAX_TEST_CREDITS: Amount = Amount::credits(10_000);

/// A transaction that may wait for a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// Its identity.
    pub id: TxId,
    /// Who acts.
    pub account: AccountId,
    /// Whose lane it uses: the account's id or, with `node` auth, the node's or, with `delegated` auth, the grant's.
    pub sender: [u8; 32],
    /// Which lane.
    pub lane: u8,
    /// Its number in the lane.
    pub seq: u64,
    /// The lane's next number in this state.
    pub next_seq: u64,
    /// Until when it may be in a block.
    pub valid_until: Timestamp,
    /// What it pays to go first, in credits.
    pub tip: Amount,
    /// What it costs, in microseconds.
    pub cost_us: u32,
    /// What it pays, in its fee asset.
    pub fee: Amount,
}

/// Whether signatures are still to be verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signatures {
    /// Verify each.
    Verify,
    /// This very transaction was verified before (when it was admitted).
    Verified,
}

/// An envelope that passed every check but its lane's exact position.
pub(crate) struct Checked {
    pub(crate) id: TxId,
    pub(crate) sender: [u8; 32],
    pub(crate) next_seq: u64,
    pub(crate) payer: AccountId,
    pub(crate) fee: Amount,
    pub(crate) cost_us: u32,
}

/// Decodes an envelope within its size limit.
pub(crate) fn decode(tx: &[u8]) -> Result<Envelope, TxError> {
    pasture_types::codec::decode(tx, MAX_TX_BYTES).map_err(|e| TxError::Malformed(e.to_string()))
}

/// Decides whether a transaction may wait for a block.
///
/// # Errors
/// The first rule that it breaks; nothing was changed.
pub fn admit(state: &dyn StateRead, now: Timestamp, tx: &[u8]) -> Result<Admitted, TxError> {
    let envelope = decode(tx)?;
    let mut env = Env::load(state).ok_or(TxError::NoGenesis)?;
    env.clock.time = now.max(env.clock.time);
    let checked = check(state, &env, &envelope, Signatures::Verify)?;
    let body = &envelope.body;
    let (lane, got, next) = (body.lane, body.seq, checked.next_seq);
    if got < next {
        return Err(TxError::SeqUsed { lane, got, next });
    }
    if got - next >= MAX_LANE_AHEAD {
        return Err(TxError::SeqAhead { lane, got, next });
    }
    Ok(Admitted {
        id: checked.id,
        account: body.account,
        sender: checked.sender,
        lane,
        seq: got,
        next_seq: next,
        valid_until: body.valid_until,
        tip: service::assets::worth_in_credits(&env.zone.params.service, body.fee_asset, body.tip),
        cost_us: checked.cost_us,
        fee: checked.fee,
    })
}

/// Checks what needs no state: the form and that each signature is one of the key it names.
///
/// # Errors
/// The first rule that is broken.
pub fn verify_stateless(tx: &[u8]) -> Result<TxId, TxError> {
    let envelope = decode(tx)?;
    structure(&envelope)?;
    verify_all(&envelope)
}

fn verify_all(envelope: &Envelope) -> Result<TxId, TxError> {
    let id = envelope.verify_signatures().map_err(|source| TxError::Signature { whose: "transaction", source })?;
    verify_stamp(&envelope.body)?;
    Ok(id)
}

/// Every rule but the lane's exact position.
pub(crate) fn check(s: &dyn StateRead, env: &Env, envelope: &Envelope, signatures: Signatures) -> Result<Checked, TxError> {
    structure(envelope)?;
    let body = &envelope.body;
    if body.zone != env.zone.id {
        return Err(TxError::WrongZone { got: body.zone.short(), want: env.zone.id.short() });
    }
    let now = env.now();
    if body.valid_until < now {
        return Err(TxError::Expired { valid_until: body.valid_until, now });
    }
    if body.valid_until.since(now) > MAX_VALIDITY {
        return Err(TxError::TooFarInFuture { valid_until: body.valid_until, now, limit: MAX_VALIDITY });
    }
    let payer = body.fee_payer.unwrap_or(body.account);
    let grant = rights(s, env, envelope, &payer)?;
    if !env.zone.params.dev && body.actions.iter().any(|a| matches!(a, Action::TestCredits { .. })) {
        return Err(TxError::NotActive("test credits exist only in development networks and are"));
    }
    if !governance::known(env) {
        return Err(TxError::Rules(UnsupportedRules { version: env.zone.rules_version, height: env.clock.height }));
    }
    let cost_us = cost::tx_cost_us(envelope);
    // More than a block holds could wait for ever.
    at_most("microseconds of cost", u64::from(cost_us), load::block_tx_cost_us(&env.zone.params))?;
    let fee = service::assets::fee_in(&env.zone.params.service, body.fee_asset, cost::fee_for(&env.zone.params, envelope))?;
    if fee > body.max_fee {
        return Err(TxError::FeeTooLow { needs: fee, max_fee: body.max_fee });
    }
    let covered = seams::fee_covered(s, env, body, &payer, fee)?;
    if matches!(body.auth, Auth::Node(_)) && body.tip > fee {
        // Whoever has a machine's key has no way to its account's money by what it pays to go first.
        return Err(TxError::Invalid("a node's own key pays at most its fee once more to go first; lower the tip".into()));
    }
    let needs = fee.saturating_sub(covered).checked_add(body.tip).ok_or(TxError::AmountTooLarge)?;
    if let Some(left) = grant.filter(|_| payer == body.account).map(|g| g.left(body.fee_asset))
        && left < needs
    {
        return Err(TxError::GrantBudget { needs, left });
    }
    let has = bank::balance(s, &payer, body.fee_asset);
    if has < needs {
        return Err(TxError::InsufficientBalance { what: "the fee", needs, has });
    }
    let id = match signatures {
        Signatures::Verify => verify_all(envelope)?,
        Signatures::Verified => body.id(),
    };
    let sender = match body.auth {
        Auth::Node(node) => node.0,
        // A grant has lanes of its own: a delegate cannot block its account.
        Auth::Delegated(grant) => grant.0,
        Auth::Single | Auth::Multi => body.account.0,
    };
    let next_seq = get(s, &lane_key(&sender, body.lane)).unwrap_or(0);
    Ok(Checked { id, sender, next_seq, payer, fee, cost_us })
}

/// Limits of the format.
fn structure(envelope: &Envelope) -> Result<(), TxError> {
    let body = &envelope.body;
    if body.version != ENVELOPE_VERSION {
        return Err(TxError::Version { got: body.version, want: ENVELOPE_VERSION });
    }
    at_most("lane", u64::from(body.lane), u64::from(MAX_LANES) - 1)?;
    at_most("actions", body.actions.len() as u64, MAX_ACTIONS as u64)?;
    at_most("signatures", envelope.signatures.len() as u64, MAX_SIGNATURES as u64)?;
    if body.actions.is_empty() {
        return Err(TxError::Invalid("a transaction needs at least one action".into()));
    }
    if body.seq == u64::MAX {
        return Err(TxError::Invalid("the lane is used up; take another lane".into()));
    }
    let mut minted = Amount::ZERO;
    for action in &body.actions {
        if let Action::TestCredits { amount, .. } = action {
            minted = minted.checked_add(*amount).ok_or(TxError::AmountTooLarge)?;
        }
    }
    if minted > MAX_TEST_CREDITS {
        return Err(TxError::Invalid(format!("a transaction mints at most {MAX_TEST_CREDITS} test credits; ask for less")));
    }
    Ok(())
}

/// Whether the named keys may act for account and payer, and nobody else signed.
fn rights(s: &dyn StateRead, env: &Env, envelope: &Envelope, payer: &AccountId) -> Result<Option<Grant>, TxError> {
    let body = &envelope.body;
    for (i, a) in envelope.signatures.iter().enumerate() {
        if a.account != body.account && a.account != *payer {
            return Err(TxError::KeyNotAllowed { key: a.key.to_string(), whose: "anyone in this transaction" });
        }
        if envelope.signatures.iter().skip(i + 1).any(|b| b.account == a.account && b.key == a.key) {
            return Err(TxError::Invalid("a key signed twice; each signs once".into()));
        }
    }
    let mut grant = None;
    match body.auth {
        Auth::Delegated(id) => grant = Some(grants::rights(s, env, body, &id, &keys_of(envelope, &body.account))?),
        Auth::Node(node) => node_rights(s, envelope, node)?,
        Auth::Single | Auth::Multi => {
            let account = acting_account(s, body)?;
            let keys = keys_of(envelope, &body.account);
            let whose = "the account";
            if body.auth == Auth::Single && account.threshold > 1 {
                return Err(TxError::SignatureCount { whose, got: keys.len().min(1), want: usize::from(account.threshold) });
            }
            if body.auth == Auth::Single && keys.len() > 1 {
                return Err(TxError::SignatureCount { whose, got: keys.len(), want: 1 });
            }
            enough(&account, &keys, whose)?;
            // A new account proves that it holds the key that its id is made of.
            if tables::account(s, &body.account).is_none() && !account.keys.first().is_some_and(|k| keys.contains(k)) {
                return Err(TxError::KeyNotAllowed { key: "missing first key".into(), whose });
            }
        }
    }
    if *payer != body.account {
        let account = tables::account(s, payer).ok_or_else(|| TxError::UnknownAccount(payer.short()))?;
        enough(&account, &keys_of(envelope, payer), "the fee payer")?;
    }
    Ok(grant)
}

fn keys_of(envelope: &Envelope, account: &AccountId) -> Vec<PublicKey> {
    envelope.signatures.iter().filter(|s| s.account == *account).map(|s| s.key).collect()
}

pub(crate) fn enough(account: &Account, keys: &[PublicKey], whose: &'static str) -> Result<(), TxError> {
    if let Some(key) = keys.iter().find(|k| account.keys.binary_search(k).is_err()) {
        return Err(TxError::KeyNotAllowed { key: key.to_string(), whose });
    }
    let want = usize::from(account.threshold.max(1));
    if keys.len() < want {
        return Err(TxError::SignatureCount { whose, got: keys.len(), want });
    }
    Ok(())
}

/// The registered account or, if the first action registers it, the account that it will be.
fn acting_account(s: &dyn StateRead, body: &TxBody) -> Result<Account, TxError> {
    if let Some(account) = tables::account(s, &body.account) {
        return Ok(account);
    }
    match body.actions.first() {
        Some(Action::RegisterAccount { keys, threshold }) => new_account(&body.account, keys, *threshold, Timestamp(0)),
        _ => Err(TxError::UnknownAccount(body.account.short())),
    }
}

/// Checks the key set of a new account.
pub(crate) fn new_account(id: &AccountId, keys: &[PublicKey], threshold: u8, now: Timestamp) -> Result<Account, TxError> {
    if keys.first().map(PublicKey::account) != Some(*id) {
        return Err(TxError::Invalid("the account's id is not that of its first key; keys must be sorted".into()));
    }
    key_set_form(keys, threshold)?;
    Ok(Account { id: *id, keys: keys.to_vec(), threshold, registered_at: now })
}

/// Limits of a key set, new or later.
pub(crate) fn key_set_form(keys: &[PublicKey], threshold: u8) -> Result<(), TxError> {
    at_most("keys", keys.len() as u64, MAX_KEYS as u64)?;
    if !keys.iter().zip(keys.iter().skip(1)).all(|(a, b)| a < b) {
        return Err(TxError::Invalid("keys must be sorted, each once".into()));
    }
    if threshold == 0 || usize::from(threshold) > keys.len() {
        return Err(TxError::Invalid("the threshold is between one and the number of keys".into()));
    }
    Ok(())
}

/// A node acts with its own key, for the provider that owns it, and only in its own affairs.
fn node_rights(s: &dyn StateRead, envelope: &Envelope, node: pasture_types::NodeId) -> Result<(), TxError> {
    let body = &envelope.body;
    let record = tables::node(s, &node).ok_or_else(|| TxError::unknown("node", &node))?;
    if record.provider != body.account {
        return Err(TxError::NotYours("the node"));
    }
    let own: PublicKey = node.into();
    let keys = keys_of(envelope, &body.account);
    if !keys.contains(&own) {
        return Err(TxError::SignatureCount { whose: "the node", got: 0, want: 1 });
    }
    if let Some(key) = keys.iter().find(|k| **k != own) {
        return Err(TxError::KeyNotAllowed { key: key.to_string(), whose: "the node" });
    }
    let allowed = body.actions.iter().all(|a| {
        matches!(
            a,
            Action::AcceptLease { .. }
                | Action::RejectLease { .. }
                | Action::SubmitUsage { .. }
                | Action::SubmitHeartbeat { .. }
                | Action::CloseLease { .. }
                | Action::Market(MarketAction::Preempt { .. })
                | Action::Channel(ChannelAction::Cash { .. })
        ) || matches!(a, Action::Audit(said) if audits::node_may(said, &node))
            || matches!(a, Action::Service(said) if matches!(**said, ServiceAction::Usage(_)))
            || of_own(s, a, &node)
    });
    if allowed { Ok(()) } else { Err(TxError::NotForNodeKeys) }
}

/// What a node says of itself: its declaration, its offers. A dismissed one says nothing more.
fn of_own(s: &dyn StateRead, action: &Action, own: &pasture_types::NodeId) -> bool {
    match action {
        Action::RegisterNode { node, .. } => node == own && !registry::is_dismissed(s, own),
        Action::PutOffer { node, .. } => node == own,
        // One that is not there is told so.
        Action::WithdrawOffer { offer } => tables::offer(s, offer).is_none_or(|o| o.node == *own),
        _ => false,
    }
}
