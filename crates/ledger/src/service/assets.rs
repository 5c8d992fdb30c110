//! Assets besides the credit: which there are, what fees cost in them, test money. Spec: `docs/specs/assets.md`.
//!
//! Guarantees: an amount of an asset that the zone does not list never exists. Moving money is `bank`'s.

use super::ASSET;
use crate::apply::Tx;
use crate::bank;
use crate::error::TxError;
use crate::tables::{get, key, keys_with, put};
use crate::validate::at_most;
use pasture_types::amount::NANOS_PER_CREDIT;
use pasture_types::asset::{Asset, FeeRate, GenesisAsset, MAX_ASSETS, MAX_DECIMALS, MAX_FEE_ASSETS, MAX_SYMBOL};
use pasture_types::event::Event;
use pasture_types::governance::AssetTerms;
use pasture_types::service::ServiceParams;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId};

/// Symbols that would pass for the credit.
const RESERVED: [&str; 2] = ["CREDIT", "CREDITS"];
/// Most test money that one action mints.
const MAX_TEST_MONEY: Amount = Amount::credits(10_000);

fn asset_key(id: AssetId) -> Vec<u8> {
    key(ASSET, &[&id.0.to_be_bytes()])
}

/// A listed asset; the credit is not in the table.
pub(crate) fn find(s: &dyn StateRead, id: AssetId) -> Option<Asset> {
    get(s, &asset_key(id))
}

/// All listed assets, ascending.
pub(crate) fn list(s: &dyn StateRead) -> Vec<Asset> {
    keys_with(s, &[ASSET], MAX_ASSETS).iter().filter_map(|k| get(s, k)).collect()
}

/// The credit and all listed assets.
pub(crate) fn ids(s: &dyn StateRead) -> Vec<AssetId> {
    std::iter::once(AssetId::CREDIT).chain(list(s).iter().map(|a| a.id)).collect()
}

pub(crate) fn must_be_known(s: &dyn StateRead, id: AssetId) -> Result<(), TxError> {
    if id == AssetId::CREDIT || s.get(&asset_key(id)).is_some() {
        return Ok(());
    }
    Err(TxError::Unknown { what: "asset", id: id.0.to_string() })
}

/// Lists the assets of a genesis. One that nobody can have meant (a wrong id, symbol or sum) is left out, like an account's
/// overflowing balance.
pub(crate) fn at_genesis(s: &mut dyn StateWrite, assets: &[GenesisAsset]) {
    for entry in assets.iter().take(MAX_ASSETS) {
        let a = &entry.asset;
        if find(s, a.id).is_some() || sound(s, a).is_err() {
            continue;
        }
        put(s, asset_key(a.id), a);
        for allocation in &entry.allocations {
            let _ = bank::mint(s, &allocation.account, a.id, allocation.amount);
        }
    }
}

/// What an asset must be, beside others.
fn sound(s: &dyn StateRead, a: &Asset) -> Result<(), TxError> {
    let invalid = |why: &str| Err(TxError::Invalid(why.into()));
    if a.id == AssetId::CREDIT {
        return invalid("asset 0 is the credit, whose terms are fixed; give another number");
    }
    if a.symbol.is_empty() || a.symbol.len() > MAX_SYMBOL || !a.symbol.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return invalid("an asset's symbol is 1 to 12 letters and digits");
    }
    at_most("decimals (amounts count billionths)", u64::from(a.decimals), u64::from(MAX_DECIMALS))?;
    // Two assets that look alike are one trap.
    let like = |other: &str| other.eq_ignore_ascii_case(&a.symbol);
    if RESERVED.iter().any(|name| like(name)) || list(s).iter().any(|other| other.id != a.id && like(&other.symbol)) {
        return Err(TxError::Exists("an asset with this symbol"));
    }
    Ok(())
}

/// A vote lists an asset, or changes its symbol.
pub(crate) fn set(s: &mut dyn StateWrite, id: AssetId, terms: &AssetTerms) -> Result<(), TxError> {
    let asset = Asset { id, symbol: terms.symbol.clone(), decimals: terms.decimals, bridged: terms.bridged };
    sound(s, &asset)?;
    match find(s, id) {
        Some(old) if old.decimals != asset.decimals || old.bridged != asset.bridged => {
            return Err(TxError::Invalid("an asset keeps its decimals and whether it is bridged; list another one".into()));
        }
        Some(_) => {}
        None => at_most("assets", list(s).len() as u64 + 1, MAX_ASSETS as u64)?,
    }
    put(s, asset_key(id), &asset);
    Ok(())
}

/// Sets, changes or ends what fees cost in an asset.
pub(crate) fn set_fee_rate(params: &mut ServiceParams, asset: AssetId, per_credit: Option<Amount>) -> Result<(), TxError> {
    for slot in &mut params.fee_rates {
        slot.take_if(|r| r.asset == asset);
    }
    let Some(per_credit) = per_credit else { return Ok(()) };
    let free = params.fee_rates.iter_mut().find(|slot| slot.is_none());
    let full = TxError::Limit { what: "assets that fees are paid in", got: MAX_FEE_ASSETS as u64 + 1, limit: MAX_FEE_ASSETS as u64 };
    *free.ok_or(full)? = Some(FeeRate { asset, per_credit });
    Ok(())
}

fn rate(params: &ServiceParams, asset: AssetId) -> Option<FeeRate> {
    params.fee_rates.iter().flatten().find(|r| r.asset == asset && !r.per_credit.is_zero()).copied()
}

/// A fee that is known in credits, in the asset that pays it.
pub(crate) fn fee_in(params: &ServiceParams, asset: AssetId, credits: Amount) -> Result<Amount, TxError> {
    if asset == AssetId::CREDIT {
        return Ok(credits);
    }
    let rate = rate(params, asset).ok_or(TxError::FeeAsset(asset.0))?;
    rate.from_credits(credits).ok_or(TxError::AmountTooLarge)
}

/// What an amount of an asset counts in credits: nothing where it has no rate.
pub(crate) fn worth_in_credits(params: &ServiceParams, asset: AssetId, amount: Amount) -> Amount {
    if asset == AssetId::CREDIT {
        return amount;
    }
    rate(params, asset).and_then(|r| r.to_credits(amount)).unwrap_or_default()
}

/// What an amount of an asset counts in credits, rounded up; one to one where it has no rate. `None` on overflow.
pub(crate) fn value_in_credits(params: &ServiceParams, asset: AssetId, amount: Amount) -> Option<Amount> {
    let Some(rate) = rate(params, asset).filter(|_| asset != AssetId::CREDIT) else { return Some(amount) };
    amount.0.checked_mul(NANOS_PER_CREDIT).map(|product| Amount(product.div_ceil(rate.per_credit.0)))
}

/// What an amount of credits is in an asset, rounded down; one to one where it has no rate. What cannot be counted is nothing.
pub(crate) fn credits_in(params: &ServiceParams, asset: AssetId, credits: Amount) -> Amount {
    let Some(rate) = rate(params, asset).filter(|_| asset != AssetId::CREDIT) else { return credits };
    credits.mul_div(rate.per_credit.0, NANOS_PER_CREDIT).unwrap_or_default()
}

pub(crate) fn test_money(s: &mut dyn StateWrite, tx: &mut Tx<'_>, to: &AccountId, asset: AssetId, amount: Amount) -> Result<(), TxError> {
    if !tx.env.zone.params.dev {
        return Err(TxError::NotActive("test money exists only in development networks and is"));
    }
    must_be_known(s, asset)?;
    if amount > MAX_TEST_MONEY {
        return Err(TxError::Invalid(format!("at most {MAX_TEST_MONEY} of test money at once; ask for less")));
    }
    bank::mint(s, to, asset, amount)?;
    tx.events.push(Event::Transferred { from: None, to: *to, asset, amount });
    Ok(())
}
