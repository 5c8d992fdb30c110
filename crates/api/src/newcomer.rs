//! A newcomer's first transaction in a development zone: open the account and take test credits, paid by the funder.
//!
//! Guarantees: the account signs first, so the funder cannot change what it asked for. Elsewhere than in a development
//! zone there is no funder, and this says so.

use crate::{ApiClient, ApiError, NetworkStatus, Problem, TxResult};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, SigningKey, Timestamp};

/// How long the transaction stays valid.
const VALID_FOR: Millis = Millis(60_000);
/// Most that the funder is asked to pay as fee.
const MAX_FEE: Amount = Amount(1_000_000_000);

/// The transaction, signed by the newcomer; the funder's signature is added by the gateway.
#[must_use]
pub fn envelope(status: &NetworkStatus, funder: AccountId, key: &SigningKey, amount: Amount, registered: Option<u64>) -> Envelope {
    let account = key.account();
    let mut actions = vec![];
    if registered.is_none() {
        actions.push(Action::RegisterAccount { keys: vec![key.public()], threshold: 1 });
    }
    actions.push(Action::TestCredits { to: account, amount });
    TxBody {
        version: ENVELOPE_VERSION,
        zone: status.zone,
        account,
        auth: Auth::Single,
        lane: 0,
        seq: registered.unwrap_or(0),
        valid_until: Timestamp::plus(status.time.max(status.genesis_time), VALID_FOR),
        max_fee: MAX_FEE,
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: Some(funder),
        actions,
    }
    .sign(key)
}

/// Makes sure that the key's account exists, with test credits if it had to be opened. `now` is the caller's clock.
///
/// # Errors
/// [`ApiError`]; a problem `no-funder` where the network gives no test credits.
pub async fn ensure_account(api: &ApiClient, key: &SigningKey, amount: Amount, now: Timestamp) -> Result<Option<TxResult>, ApiError> {
    match api.account(&key.account()).await {
        Ok(_) => Ok(None),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => take_test_credits(api, key, amount, now, None).await.map(Some),
        Err(e) => Err(e),
    }
}

/// Takes test credits; `seq` is the next number of the account's lane 0, or `None` if it is not registered yet.
///
/// # Errors
/// As [`ensure_account`].
pub async fn take_test_credits(
    api: &ApiClient,
    key: &SigningKey,
    amount: Amount,
    now: Timestamp,
    seq: Option<u64>,
) -> Result<TxResult, ApiError> {
    let mut status = api.status().await?;
    status.time = status.time.max(now);
    let no_funder = || Problem::new(404, "no-funder", "this network gives no test credits: ask somebody on it to send you some");
    let funder = status.funder.ok_or_else(no_funder)?;
    let result = api.test_credits(&envelope(&status, funder, key, amount, seq)).await?;
    if result.ok {
        Ok(result)
    } else {
        Err(Problem { ledger_code: Some(result.code), ..Problem::new(422, "refused-by-ledger", result.message) }.into())
    }
}
