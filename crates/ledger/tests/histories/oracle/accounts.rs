//! Lanes, grants, channels, audits' evidence: what counts once, and what a delegate may take.
//!
//! Guarantees: every number of a lane is used once and in turn; what leaves an account by a grant is added up here and held against
//! its budget; a voucher's promise is remembered as the provider showed it.

use pasture_ledger::query;
use pasture_types::audit::AuditAction;
use pasture_types::channel::{ChannelAction, ChannelEvent, SignedVoucher};
use pasture_types::event::Event;
use pasture_types::grant::{ActionKind, GrantEvent, GrantUse};
use pasture_types::market::Term;
use pasture_types::stake::{DepositEvent, Fault};
use pasture_types::state::MemoryState;
use pasture_types::tx::{Action, Auth, TxBody};
use pasture_types::{AssetId, ChannelId, GrantId, TxId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Accounts {
    lanes: BTreeMap<([u8; 32], u8), u64>,
    included: BTreeSet<TxId>,
    /// What left its account by each grant, at least.
    spent: BTreeMap<(GrantId, AssetId), u128>,
    /// Balances of a delegate's account before its transaction.
    before: Vec<(AssetId, u128)>,
    allowed: Vec<(AssetId, u128)>,
    over: BTreeSet<GrantId>,
    /// What each opening of a channel paid.
    cashed: BTreeMap<(ChannelId, u64), u128>,
    shown: Option<SignedVoucher>,
    /// Audits whose statements are in the transaction that is looked at, if they are of one.
    accused: Option<u64>,
    convicted: BTreeSet<u64>,
}

impl Accounts {
    pub(super) fn before(&mut self, state: &MemoryState, body: &TxBody) {
        self.before.clear();
        self.shown = None;
        self.accused = None;
        for action in &body.actions {
            if let Action::Channel(ChannelAction::Cash { voucher } | ChannelAction::Close { last: Some(voucher), .. }) = action {
                self.shown = Some(*voucher);
            }
            if let Action::Audit(said) = action {
                match said.as_ref() {
                    AuditAction::Contradiction { audit, .. } => self.accused = Some(*audit),
                    AuditAction::Answers(answers) => self.accused = answers.first().map(|a| a.audit),
                    _ => {}
                }
            }
        }
        let Auth::Delegated(id) = body.auth else { return };
        assert!(!self.over.contains(&id), "a grant that is gone was used");
        let grant = query::grant(state, &id).expect("a grant that is used");
        assert!(grant.terms.expires > query::clock(state).time || query::clock(state).halted.0 > 0, "an expired grant was used");
        self.allowed = grant.terms.budget.iter().map(|b| (b.asset, b.amount.0)).collect();
        self.before = crate::climate::ASSETS.iter().map(|a| (*a, query::balance(state, &body.account, *a).0)).collect();
        if let GrantUse::Act { kinds, .. } = &grant.terms.may {
            let fits = body.actions.iter().all(|a| kinds.contains(&ActionKind::of(a)));
            assert!(fits, "a delegate did what was not granted");
        }
    }

    /// A transaction is in the block, whatever became of its actions.
    pub(super) fn included(&mut self, state: &MemoryState, body: &TxBody, done: bool) {
        let owner = match body.auth {
            Auth::Node(n) => n.0,
            Auth::Delegated(g) => g.0,
            Auth::Single | Auth::Multi => body.account.0,
        };
        let next = self.lanes.entry((owner, body.lane)).or_default();
        assert_eq!(body.seq, *next, "a number of a lane was used out of turn");
        *next += 1;
        assert!(self.included.insert(body.id()), "a transaction was included twice");
        let Auth::Delegated(id) = body.auth else { return };
        for (asset, had) in &self.before {
            let lost = had.saturating_sub(query::balance(state, &body.account, *asset).0);
            let promised: u128 = body.actions.iter().filter(|_| done).map(|a| promise(a, *asset)).sum();
            let spent = self.spent.entry((id, *asset)).or_default();
            *spent += lost + promised;
            let budget = self.allowed.iter().find(|(a, _)| a == asset).map_or(0, |(_, b)| *b);
            assert!(*spent <= budget, "a grant's budget of {budget} let {spent} of asset {} leave", asset.0);
        }
    }

    pub(super) fn saw(&mut self, event: &Event) {
        match event {
            Event::Grant(GrantEvent::Ended { grant, .. }) => assert!(self.over.insert(*grant), "a grant ended twice"),
            // What a failed audit costs comes of the verdict, not of what somebody showed.
            Event::Deposit(DepositEvent::Forfeited { fault: Fault::Equivocation, .. }) => {
                let audit = self.accused.expect("a deposit is forfeited for what somebody showed");
                assert!(self.convicted.insert(audit), "audit {audit}: one contradiction was punished twice");
            }
            Event::Channel(ChannelEvent::Cashed { channel, amount, paid, .. }) => {
                let v = self.shown.expect("who cashes shows a voucher").voucher;
                assert_eq!(v.channel, *channel, "a voucher of another channel was cashed");
                let cashed = self.cashed.entry((*channel, v.generation)).or_default();
                assert!(v.amount.0 > *cashed, "a voucher was cashed twice");
                *cashed += amount.0;
                assert!(*cashed <= v.amount.0 && paid.0 == *cashed, "a voucher paid more than it promises");
            }
            _ => {}
        }
    }
}

/// What an action promises of an asset beyond what it takes at once.
fn promise(action: &Action, asset: AssetId) -> u128 {
    match action {
        Action::PlaceOrder { terms } if terms.asset == asset && terms.term == Term::Fixed => {
            let price = (terms.max_price_per_hour.0 * u128::from(terms.max_duration.0)).div_ceil(3_600_000);
            price.min(terms.budget.0)
        }
        _ => 0,
    }
}
