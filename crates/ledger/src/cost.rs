//! What a transaction costs: measured microseconds per action, times the zone's price. Spec: `docs/specs/ledger.md` §4.
//!
//! Guarantees: the cost depends on the transaction's bytes only, so that a client can compute it before it signs.

use pasture_types::genesis::Params;
use pasture_types::tx::{Action, Envelope};
use pasture_types::{Amount, PublicKey};

/// Decoding, lane, fee and the two writes that every transaction makes.
const BASE_US: u32 = 10;
/// Verifying one Ed25519 signature.
const ED25519_US: u32 = 45;
/// Verifying one secp256k1 signature.
const SECP256K1_US: u32 = 180;
/// The share of a draw that an order causes later: scoring its candidates.
const DRAW_US: u32 = 600;
/// The share of settlement that a lease causes later.
const SETTLE_US: u32 = 200;

/// The cost of one action in microseconds, its later work included.
#[must_use]
pub const fn action_cost_us(action: &Action) -> u32 {
    match action {
        Action::Transfer { .. } | Action::TestCredits { .. } | Action::Stake { .. } => 5,
        Action::RegisterAccount { .. } | Action::RegisterProvider { .. } | Action::RegisterValidator { .. } => 10,
        Action::RegisterNode { .. } => 15 + ED25519_US,
        Action::PutOffer { .. } | Action::WithdrawOffer { .. } => 25,
        Action::PlaceOrder { .. } => 25 + DRAW_US,
        Action::CancelOrder { .. } => 15,
        Action::AcceptLease { .. } => 20 + SETTLE_US,
        Action::RejectLease { .. } => 25,
        Action::SubmitUsage { .. } => 60 + 2 * ED25519_US,
        Action::SubmitHeartbeat { .. } => 15,
        Action::CloseLease { .. } | Action::Object { .. } | Action::Extend { .. } => 20,
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
