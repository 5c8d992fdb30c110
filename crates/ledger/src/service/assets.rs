//! Assets besides the credit: which there are, what fees cost in them, test money. Spec: `docs/specs/assets.md`.
//!
//! Guarantees: an amount of an asset that the zone does not list never exists. Moving money is `bank`'s.

use super::ASSET;
use crate::apply::Tx;
use crate::bank;
use crate::error::TxError;
use crate::tables::{get, key, keys_with, put};
use pasture_types::asset::{Asset, FeeRate, GenesisAsset, MAX_ASSETS, MAX_DECIMALS, MAX_SYMBOL};
use pasture_types::event::Event;
use pasture_types::service::ServiceParams;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId};

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
        let plain = !a.symbol.is_empty() && a.symbol.len() <= MAX_SYMBOL && a.symbol.bytes().all(|b| b.is_ascii_alphanumeric());
        if a.id == AssetId::CREDIT || !plain || a.decimals > MAX_DECIMALS || find(s, a.id).is_some() {
            continue;
        }
        put(s, asset_key(a.id), a);
        for allocation in &entry.allocations {
            let _ = bank::mint(s, &allocation.account, a.id, allocation.amount);
        }
    }
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
