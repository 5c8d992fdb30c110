//! Balances, supply, treasury and fees. Spec: `docs/specs/ledger.md` §3.
//!
//! Guarantees: money is only moved, but for genesis and test money; the supply bounds every balance, so that a
//! credit cannot overflow. It does not know why money moves.

use crate::env::Env;
use crate::error::TxError;
use crate::service;
use crate::tables::{self, META_FEES, META_POOL, META_SUPPLY, META_TIPS, META_TREASURY, asset_meta, balance_key, get, key, keys_with, put};
use pasture_types::asset::MAX_ASSETS;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, BlobHash};
use std::collections::BTreeSet;

pub(crate) fn balance(s: &dyn StateRead, account: &AccountId, asset: AssetId) -> Amount {
    get(s, &balance_key(account, asset)).unwrap_or_default()
}

fn set(s: &mut dyn StateWrite, key: Vec<u8>, amount: Amount) {
    if amount.is_zero() {
        s.delete(&key);
    } else {
        put(s, key, &amount);
    }
}

/// Adds to whatever amount a key holds. Cannot overflow: all amounts together are the supply, which is checked when it grows.
fn add(s: &mut dyn StateWrite, key: Vec<u8>, amount: Amount) {
    if !amount.is_zero() {
        let now: Amount = get(s, &key).unwrap_or_default();
        set(s, key, now.saturating_add(amount));
    }
}

pub(crate) fn credit(s: &mut dyn StateWrite, account: &AccountId, asset: AssetId, amount: Amount) {
    add(s, balance_key(account, asset), amount);
}

pub(crate) fn debit(
    s: &mut dyn StateWrite,
    account: &AccountId,
    asset: AssetId,
    amount: Amount,
    what: &'static str,
) -> Result<(), TxError> {
    let has = balance(s, account, asset);
    let rest = has.checked_sub(amount).ok_or(TxError::InsufficientBalance { what, needs: amount, has })?;
    set(s, balance_key(account, asset), rest);
    Ok(())
}

/// Makes money: genesis and test money only.
pub(crate) fn mint(s: &mut dyn StateWrite, to: &AccountId, asset: AssetId, amount: Amount) -> Result<(), TxError> {
    let supply: Amount = get(s, &asset_meta(META_SUPPLY, asset)).unwrap_or_default();
    let supply = supply.checked_add(amount).ok_or(TxError::AmountTooLarge)?;
    set(s, asset_meta(META_SUPPLY, asset), supply);
    credit(s, to, asset, amount);
    Ok(())
}

pub(crate) fn supply(s: &dyn StateRead, asset: AssetId) -> Amount {
    get(s, &asset_meta(META_SUPPLY, asset)).unwrap_or_default()
}

pub(crate) fn treasury(s: &dyn StateRead, asset: AssetId) -> Amount {
    get(s, &asset_meta(META_TREASURY, asset)).unwrap_or_default()
}

pub(crate) fn to_treasury(s: &mut dyn StateWrite, asset: AssetId, amount: Amount) {
    add(s, asset_meta(META_TREASURY, asset), amount);
}

/// Takes from the treasury: what a vote spends, what a newcomer's first fees cost.
pub(crate) fn from_treasury(s: &mut dyn StateWrite, asset: AssetId, amount: Amount) -> Result<(), TxError> {
    let has = treasury(s, asset);
    let rest = has.checked_sub(amount).ok_or(TxError::InsufficientBalance { what: "a payment by the treasury", needs: amount, has })?;
    set(s, asset_meta(META_TREASURY, asset), rest);
    Ok(())
}

/// Pays a model's share to its creator, or holds it until one has registered.
pub(crate) fn to_model(s: &mut dyn StateWrite, model: &BlobHash, asset: AssetId, amount: Amount) {
    match service::models::creator(s, model) {
        Some(creator) => credit(s, &creator, asset, amount),
        None => add(s, model_key(model, asset), amount),
    }
}

/// Takes out what is held for a model's creator.
pub(crate) fn take_held_for_model(s: &mut dyn StateWrite, model: &BlobHash, asset: AssetId) -> Amount {
    let k = model_key(model, asset);
    let held: Amount = get(s, &k).unwrap_or_default();
    s.delete(&k);
    held
}

pub(crate) fn model_key(model: &BlobHash, asset: AssetId) -> Vec<u8> {
    key(tables::MODEL, &[&model.0, &asset.0.to_be_bytes()])
}

/// Takes fee and tip from the payer into the block's pots of their asset.
pub(crate) fn charge_fee(s: &mut dyn StateWrite, payer: &AccountId, asset: AssetId, fee: Amount, tip: Amount) -> Result<(), TxError> {
    let all = fee.checked_add(tip).ok_or(TxError::AmountTooLarge)?;
    debit(s, payer, asset, all, "the fee")?;
    add(s, asset_meta(META_FEES, asset), fee);
    add(s, asset_meta(META_TIPS, asset), tip);
    Ok(())
}

/// Puts fees that were set aside to the block's.
pub(crate) fn add_fees(s: &mut dyn StateWrite, amount: Amount) {
    add(s, asset_meta(META_FEES, AssetId::CREDIT), amount);
}

/// What waits for the seated validators.
pub(crate) fn pool(s: &dyn StateRead, asset: AssetId) -> Amount {
    get(s, &asset_meta(META_POOL, asset)).unwrap_or_default()
}

/// The assets in which anything waits for them.
pub(crate) fn pools(s: &dyn StateRead) -> Vec<AssetId> {
    assets_of(s, META_POOL)
}

/// The assets that a pot holds anything of; at most the credit and every listed asset has one.
fn assets_of(s: &dyn StateRead, pot: u8) -> Vec<AssetId> {
    let pots = keys_with(s, &tables::meta(pot), MAX_ASSETS + 1);
    pots.iter().filter_map(|k| k.last_chunk::<4>()).map(|id| AssetId(u32::from_be_bytes(*id))).collect()
}

/// Takes all of it; the caller pays it out.
pub(crate) fn empty_pool(s: &mut dyn StateWrite, asset: AssetId) -> Amount {
    let all = pool(s, asset);
    set(s, asset_meta(META_POOL, asset), Amount::ZERO);
    all
}

/// Pays a block's pots out, asset by asset: tips and the larger half of the fees to the proposer's operator, the rest to the pool
/// of the seated validators, who with one validator are the proposer. A proposer that has no seat earns nothing; the treasury does.
pub(crate) fn distribute_fees(s: &mut dyn StateWrite, env: &Env, proposer: &[u8; 32]) {
    let mut paid_in = BTreeSet::new();
    for pot in [META_FEES, META_TIPS] {
        paid_in.extend(assets_of(s, pot));
    }
    for asset in paid_in {
        distribute(s, env, proposer, asset);
    }
}

fn distribute(s: &mut dyn StateWrite, env: &Env, proposer: &[u8; 32], asset: AssetId) {
    let fees: Amount = get(s, &asset_meta(META_FEES, asset)).unwrap_or_default();
    let tips: Amount = get(s, &asset_meta(META_TIPS, asset)).unwrap_or_default();
    set(s, asset_meta(META_FEES, asset), Amount::ZERO);
    set(s, asset_meta(META_TIPS, asset), Amount::ZERO);
    let pooled = if env.zone.validators > 1 { Amount(fees.0 / 2) } else { Amount::ZERO };
    let own = fees.saturating_sub(pooled).saturating_add(tips);
    add(s, asset_meta(META_POOL, asset), pooled);
    match get::<AccountId>(s, &key(tables::VALIDATOR, &[proposer])) {
        Some(operator) => credit(s, &operator, asset, own),
        None => to_treasury(s, asset, own),
    }
}
