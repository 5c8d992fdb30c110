//! What people and machines do in a history: mostly sensible things, some that the rules refuse.
//!
//! Guarantees: a sensible deed is one that this state allows as far as its maker looked; every kind of refusal has a maker.

mod accounts;
mod audits;
mod envelopes;
mod governance;
mod leases;
mod market;
mod service;
mod stake;
mod validators;

use crate::zone::Zone;
use pasture_ledger::Signatures;
use pasture_types::SigningKey;
use pasture_types::keys::Signature;
use pasture_types::tx::{Envelope, TxBody, TxSignature};

pub(crate) use market::opening;

/// One transaction.
pub(crate) struct Deed {
    pub(crate) envelope: Envelope,
    /// Instead of the envelope's own encoding.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) signatures: Signatures,
    /// Whoever signed it had no right to: it must never be included.
    pub(crate) forged: bool,
}

impl Deed {
    /// An envelope with these signatures, which nobody checks.
    pub(crate) const fn with(body: TxBody, signatures: Vec<TxSignature>) -> Self {
        Self { envelope: Envelope { body, signatures }, bytes: None, signatures: Signatures::Verified, forged: false }
    }
    /// An envelope that names its signer, and whose signature nobody checks.
    pub(crate) fn checked(body: TxBody, who: &SigningKey) -> Self {
        let signature = TxSignature { account: body.account, key: who.public(), signature: Signature::Ed25519([0; 64]) };
        Self::with(body, vec![signature])
    }
    pub(crate) fn forged(self) -> Self {
        Self { forged: true, ..self }
    }
}

/// Makes up a deed, if this state has one for it.
pub(crate) type Maker = fn(&mut Zone) -> Option<Deed>;

/// Makers and how often each is asked, relative to the others.
const MAKERS: [(u64, Maker); 64] = [
    (5, market::provide),
    (5, market::offer),
    (1, market::withdraw),
    (2, market::pause_offer),
    (1, market::dismiss),
    (20, market::order),
    (3, market::cancel),
    (4, market::wrong_order),
    (1, market::wrong_offer),
    (34, leases::accept),
    (2, leases::reject),
    (34, leases::usage),
    (6, leases::bundle),
    (20, leases::heartbeat),
    (6, leases::close),
    (5, leases::object),
    (7, leases::extend),
    (3, leases::top_up),
    (2, leases::stop_renewal),
    (4, leases::preempt),
    (5, leases::wrong_usage),
    (3, leases::wrong_beat),
    (4, accounts::transfer),
    (2, accounts::test_money),
    (2, accounts::open_account),
    (3, accounts::set_keys),
    (1, accounts::cancel_keys),
    (4, accounts::grant),
    (4, accounts::watch_grant),
    (5, accounts::by_grant),
    (1, accounts::revoke),
    (2, accounts::claim),
    (6, accounts::enroll),
    (4, accounts::open_channel),
    (2, accounts::top_up_channel),
    (5, accounts::cash),
    (2, accounts::close_channel),
    (5, accounts::certify),
    (1, accounts::revoke_certificate),
    (1, accounts::withdraw_certificate),
    (5, accounts::rate),
    (3, stake::stake),
    (3, stake::unbond),
    (3, stake::sponsor),
    (5, stake::withdraw_sponsorship),
    (1, stake::dismiss),
    (3, stake::unjail),
    (3, stake::newcomer),
    (3, stake::newcomer_of_nothing),
    (3, validators::register),
    (4, validators::bond),
    (1, validators::unbond),
    (3, validators::unjail),
    (3, validators::accuse),
    (3, validators::rotate),
    (4, governance::propose),
    (12, governance::vote),
    (2, governance::pause),
    (1, governance::unpause),
    (36, audits::any),
    (5, service::watch),
    (14, service::any),
    (6, envelopes::wrong),
    (1, envelopes::stuff),
];

/// A deed by a maker that has something to do.
pub(crate) fn any(zone: &mut Zone) -> Deed {
    while let Some(maker) = zone.next.pop_front() {
        if let Some(deed) = maker(zone) {
            return deed;
        }
    }
    let all: u64 = MAKERS.iter().map(|(w, _)| w).sum();
    for _ in 0..32 {
        let mut at = zone.rng.below(all);
        for (weight, maker) in MAKERS {
            if at < weight {
                if let Some(deed) = maker(zone) {
                    return deed;
                }
                break;
            }
            at -= weight;
        }
    }
    market::order(zone).expect("an order can always be made up")
}
