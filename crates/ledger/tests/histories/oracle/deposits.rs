//! Deposits: a fault takes what the rules say of what stood behind it, once.
//!
//! Guarantees: what stands, leaves and is sponsored is added up before each transaction; a forfeit is held against that sum.

use pasture_ledger::{Sponsorship, Tranche, query};
use pasture_types::event::Event;
use pasture_types::stake::{DepositEvent, Fault, Forfeit};
use pasture_types::state::MemoryState;
use pasture_types::validator::ValidatorEvent;
use pasture_types::{AccountId, NodeId};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Deposits {
    /// What stands behind each provider, before what is looked at now.
    providers: BTreeMap<AccountId, u128>,
    validators: BTreeMap<NodeId, u128>,
}

fn leaving(all: &[Tranche]) -> u128 {
    all.iter().map(|t| t.amount.0).sum()
}

fn behind(state: &MemoryState, account: &AccountId) -> Option<u128> {
    let p = query::provider(state, account)?;
    let whole = |s: &Sponsorship| s.amount.0 + leaving(&s.leaving);
    let sponsors: u128 = query::deposits::sponsors(state, account).iter().map(whole).sum();
    Some(p.stake.0 + leaving(&p.bond.leaving) + sponsors)
}

impl Deposits {
    /// Only what an audit's statement can hit is added up: providers and validators of the keys in use.
    pub(super) fn before(&mut self, state: &MemoryState) {
        let keys = crate::keys::Keys::all();
        self.providers = keys.accounts.iter().map(|k| k.account()).filter_map(|a| Some((a, behind(state, &a)?))).collect();
        let validator = |id: NodeId| query::validators::validator(state, &id).map(|v| (id, v.bond.0 + leaving(&v.leaving)));
        self.validators = keys.validators.iter().filter_map(|k| validator(k.node_id())).collect();
    }

    pub(super) fn before_end(&mut self, state: &MemoryState) {
        self.before(state);
    }

    pub(super) fn saw(&mut self, state: &MemoryState, event: &Event) {
        let params = query::zone(state).expect("a zone").params.stake;
        // A failed audit falls due between transactions: what stood behind it before is not known here, only where it goes.
        if let Event::Deposit(DepositEvent::Forfeited { fault: Fault::FailedAudit, forfeit, .. }) = event {
            assert_eq!(forfeit.to_treasury.0, taken(forfeit), "what a failed audit takes goes to the treasury alone");
            return;
        }
        let (all, forfeit) = match event {
            Event::Deposit(DepositEvent::Forfeited { provider, forfeit, .. }) => {
                (self.providers.get_mut(provider).expect("a provider of ours"), forfeit)
            }
            Event::Validator(ValidatorEvent::Forfeited { validator, forfeit, .. }) => {
                (self.validators.get_mut(validator).expect("a validator of ours"), forfeit)
            }
            _ => return,
        };
        let taken = taken(forfeit);
        let due = *all * u128::from(params.equivocation_ppm) / 1_000_000;
        assert_eq!(taken, due, "a fault took {taken} of {all}, where {due} is due");
        assert_eq!(forfeit.to_treasury.0 + forfeit.to_reporter.0, taken, "what was taken is what arrived");
        assert!(forfeit.to_reporter.0 <= taken * u128::from(params.reporter_ppm) / 1_000_000, "the reporter's part");
        *all -= taken;
        if let Event::Deposit(DepositEvent::Forfeited { provider, .. }) = event {
            let left = behind(state, provider).unwrap_or(0);
            assert!(left <= *all, "what was forfeited is still there");
        }
    }
}

const fn taken(forfeit: &Forfeit) -> u128 {
    forfeit.own.0 + forfeit.unbonding.0 + forfeit.sponsors.0
}
