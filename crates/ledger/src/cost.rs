//! What a transaction costs: measured microseconds per action, times the zone's price. Spec: `docs/specs/ledger.md` §4.
//!
//! Guarantees: the cost depends on the transaction's bytes only, so that a client can compute it before it signs.

use crate::{audits, channels, credentials, governance, grants, keys, reputation, stake, validators};
use pasture_types::genesis::Params;
use pasture_types::keys::Signature;
use pasture_types::market::Failover;
use pasture_types::tx::{Action, Envelope};
use pasture_types::{Amount, PublicKey};

/// Decoding, lane, fee and the writes that every transaction makes.
const BASE_US: u32 = 10;
/// Verifying one Ed25519 signature.
pub(crate) const ED25519_US: u32 = 40;
/// Verifying one secp256k1 signature.
const SECP256K1_US: u32 = 135;
/// The draw that an order causes later: looking at a full bucket of offers.
const DRAW_US: u32 = 850;
/// An order with more conditions on certificates is refused, whatever it pays.
const MAX_HARDER: u32 = 4;
/// The settlement that a lease causes later.
const SETTLE_US: u32 = 100;

/// Verifying a signature that an action carries.
pub(crate) const fn signature_us(signature: &Signature) -> u32 {
    match signature {
        Signature::Ed25519(_) => ED25519_US,
        Signature::Eip191(_) | Signature::Eip712(_) => SECP256K1_US,
    }
}

/// The cost of one action in microseconds, its later work included.
#[must_use]
pub fn action_cost_us(action: &Action) -> u32 {
    match action {
        Action::Transfer { .. } | Action::TestCredits { .. } | Action::Stake { .. } => 5,
        Action::RegisterAccount { .. }
        | Action::RegisterProvider { .. }
        | Action::PutOffer { .. }
        | Action::WithdrawOffer { .. }
        | Action::CancelOrder { .. }
        | Action::CloseLease { .. }
        | Action::Object { .. }
        | Action::Extend { .. } => 10,
        Action::Deposit(action) => stake::cost_us(action),
        Action::Validator(action) => validators::cost_us(action),
        Action::RegisterValidator { .. } => validators::register_cost_us(),
        Action::RejectLease { .. } | Action::SubmitHeartbeat { .. } => 15,
        Action::RegisterNode { .. } => 10 + ED25519_US,
        // A lease with failover is drawn for once more, for its standby or its next node.
        Action::PlaceOrder { terms } => {
            let draws = if matches!(terms.failover, Failover::Off) { 1 } else { 2 };
            // Conditions on certificates: fewer offers are looked at, each of them at several times the price.
            let harder = crate::validate::certificates(terms).min(MAX_HARDER);
            10 + draws * (1 + harder) * DRAW_US
        }
        Action::AcceptLease { .. } => 10 + SETTLE_US,
        Action::SubmitUsage { .. } => 10 + 2 * ED25519_US,
        Action::Governance(action) => governance::cost_us(action),
        Action::Reputation(action) => reputation::cost_us(action),
        Action::Audit(action) => audits::cost_us(action),
        Action::Market(action) => crate::market::cost_us(action),
        Action::Service(action) => crate::service::cost_us(action),
        Action::Grant(a) => grants::cost_us(a),
        Action::Keys(a) => keys::cost_us(a),
        Action::Channel(a) => channels::cost_us(a),
        Action::Credential(a) => credentials::cost_us(a),
    }
}

/// The cost of a transaction in microseconds: base, signatures and actions.
#[must_use]
pub fn tx_cost_us(envelope: &Envelope) -> u32 {
    let signatures = envelope.signatures.iter().map(|s| match s.key {
        PublicKey::Ed25519(_) => ED25519_US,
        PublicKey::Secp256k1(_) => SECP256K1_US,
    });
    let actions = envelope.body.actions.iter().map(action_cost_us);
    signatures.chain(actions).fold(BASE_US, u32::saturating_add)
}

/// The fee of a transaction: `cost x base_price`.
#[must_use]
pub fn fee_for(params: &Params, envelope: &Envelope) -> Amount {
    Amount(params.base_price.0.saturating_mul(u128::from(tx_cost_us(envelope))))
}
