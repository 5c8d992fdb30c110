//! The operator's account, as the validator's own parts pay from it.
//!
//! Guarantees: each purse has a lane of its own, so that none waits for another; what is submitted is final, or the reason why not is
//! told. It repeats nothing.

use pasture_chain::{Chain, TxOutcome};
use pasture_ledger::query;
use pasture_rt::Clock;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, TxBody};
use pasture_types::{Amount, AssetId, Millis, SigningKey, Timestamp, ZoneId, codec};
use std::sync::Arc;

/// Most that a transaction may cost; it costs a few microcredits at usual prices.
const MAX_FEE: Amount = Amount::credits(1);

/// Submits for the operator's account in one lane.
#[derive(Clone)]
pub(crate) struct Purse {
    pub(crate) chain: Chain,
    pub(crate) operator: SigningKey,
    pub(crate) zone: ZoneId,
    pub(crate) clock: Arc<dyn Clock>,
    /// A lane that nothing else of the program uses.
    pub(crate) lane: u8,
    /// How long a transaction may wait for its block.
    pub(crate) valid_for: Millis,
}

impl Purse {
    /// Submits actions as one transaction and waits until it is final; the block's height, or why it did not take effect.
    pub(crate) async fn submit(&self, actions: Vec<Action>) -> Result<u64, String> {
        let account = self.operator.account();
        let state = self.chain.state().map_err(|e| e.to_string())?;
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: self.zone,
            account,
            auth: Auth::Single,
            lane: self.lane,
            seq: query::next_seq(&state, &account.0, self.lane),
            valid_until: Timestamp(self.clock.now_ms()).plus(self.valid_for),
            max_fee: MAX_FEE,
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        let tx = codec::encode(&body.sign(&self.operator));
        let receipt = self.chain.submit(tx.into()).map_err(|e| e.to_string())?.finalized().await.map_err(|e| e.to_string())?;
        match receipt.outcome {
            TxOutcome::Applied { ok: true, .. } => Ok(receipt.height),
            TxOutcome::Applied { message, .. } | TxOutcome::NotIncludable { message, .. } => Err(message),
        }
    }
}
