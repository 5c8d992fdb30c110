//! Using an invite: open our account with it and take its credits, in one transaction that the invite pays for.
//!
//! Guarantees: the code's secret signs here and is not sent; a code for another network is refused before anything is
//! signed. How an invite is made is an ordinary transaction of the account that invites.

use crate::views::GrantView;
use pasture_types::grant::{GrantAction, InviteCode, claim_digest};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody};
use pasture_types::{Amount, AssetId, Millis, SigningKey, Timestamp};

/// How long the transaction stays valid.
const VALID_FOR: Millis = Millis(60_000);
/// Lane of the invite that a claim uses.
const LANE: u8 = 0;

/// The transaction that opens the key's account with an invite, as the ledger knows that now.
#[must_use]
pub fn claim(code: &InviteCode, grant: &GrantView, key: &SigningKey, max_fee: Amount, now: Timestamp) -> Envelope {
    let (keys, threshold) = (vec![key.public()], 1);
    let proof = key.sign(&claim_digest(&code.zone, &code.grant, &keys, threshold));
    TxBody {
        version: ENVELOPE_VERSION,
        zone: code.zone,
        account: code.account,
        auth: Auth::Delegated(code.grant),
        lane: LANE,
        seq: grant.next_seq(LANE),
        valid_until: now.plus(VALID_FOR),
        max_fee,
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: None,
        actions: vec![Action::Grant(GrantAction::Claim { keys, threshold, proof })],
    }
    .sign(&code.key())
}
