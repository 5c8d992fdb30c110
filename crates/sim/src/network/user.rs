//! What a user does: orders, looks, closes, objects, cancels, pays others.
//!
//! Guarantees: of its job it knows whether a check would succeed; all else it reads from the ledger.

use super::agent::{Look, Mind};
use super::lock;
use super::provider::machine;
use super::town::Shared;
use pasture_chain::sim::{Dice, Door};
use pasture_ledger::{Lease, Order, OrderState, query};
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::OrderTerms;
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, AssetId, BlobHash, LeaseId, Millis};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Orders and leases that a user has at a time.
const MOST_OPEN: usize = 2;
/// Records that are looked at, after those that are over.
const LOOKED_AT: usize = 16;
/// How long service may be missing before a user ends the lease, in epochs.
const PATIENCE_EPOCHS: u64 = 2;
/// What nobody sells for.
const NOBODY: Amount = Amount(1_000);

/// What a user does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Using {
    /// Looks at its job, confirms what it saw, ends what is not served.
    Attentive,
    /// Orders and goes away: confirms nothing, ends nothing.
    Absent,
    /// Takes the service, confirms nothing and objects at the end.
    Objects,
    /// Cancels orders, drops matches, stops jobs.
    Impatient,
    /// Orders at prices at which nobody sells, and spends what it does not have.
    Asks,
}

impl Using {
    pub(super) const ALL: [Self; 4] = [Self::Absent, Self::Objects, Self::Impatient, Self::Asks];
}

/// One user.
pub(super) struct User {
    using: Using,
    account: AccountId,
    /// How many times as long as the busiest it waits between two looks.
    leisure: u64,
    shared: Arc<Shared>,
    dice: Dice,
    objected: BTreeSet<LeaseId>,
    /// The last of the first records that are over: lists begin with the oldest.
    order_over: Option<Order>,
    lease_over: Option<Lease>,
}

impl User {
    pub(super) const fn new(using: Using, account: AccountId, leisure: u64, shared: Arc<Shared>, dice: Dice) -> Self {
        Self { using, account, leisure, shared, dice, objected: BTreeSet::new(), order_over: None, lease_over: None }
    }

    fn order(&self, look: &Look<'_>) -> Action {
        let cheap = self.using == Using::Asks || self.dice.percent(4);
        let second = 1_000 * self.shared.slowness;
        let terms = OrderTerms {
            resources: machine(1),
            max_price_per_hour: if cheap { NOBODY } else { Amount::credits(2) },
            max_duration: Millis(self.dice.range(10, 60) * second),
            budget: Amount::credits(10),
            spec_hash: BlobHash([9; 32]),
            expires: look.now.plus(Millis(self.dice.range(5, 40) * second)),
            ..OrderTerms::default()
        };
        Action::PlaceOrder { terms: Box::new(terms) }
    }

    fn transfer(&self) -> Option<Action> {
        let to = self.shared.accounts.get(self.dice.index(self.shared.accounts.len())).copied()?;
        let much = self.using == Using::Asks && self.dice.percent(30);
        let amount = if much { Amount::credits(10_000_000) } else { Amount(u128::from(self.dice.range(1, 1_000_000))) };
        Some(Action::Transfer { to, asset: AssetId::CREDIT, amount })
    }

    /// Whether a lease is not served, as far as checks show.
    fn fails(&self, lease: &Lease, look: &Look<'_>) -> bool {
        let patience = Millis(self.shared.genesis.params.epoch.0 * PATIENCE_EPOCHS);
        let since = match lock(&self.shared.truth).get(&lease.id) {
            Some(service) => service.until.max(service.started),
            None => lease.accepted_at.unwrap_or(look.now),
        };
        look.now > since.plus(patience)
    }

    fn tend(&mut self, lease: &Lease, look: &Look<'_>) -> Option<Action> {
        let id = lease.id;
        let close = |reason| Some(Action::CloseLease { lease: id, reason });
        match (self.using, lease.state) {
            (Using::Attentive, LeaseState::Accepted | LeaseState::Running) if self.fails(lease, look) => close(EndReason::ServiceStopped),
            (Using::Impatient, LeaseState::Matched | LeaseState::Accepted | LeaseState::Running) if self.dice.percent(5) => {
                close(EndReason::StoppedByUser)
            }
            (Using::Objects, LeaseState::Closing) if self.objected.insert(id) => Some(Action::Object { lease: id }),
            _ => None,
        }
    }
}

const fn waits(order: &Order) -> bool {
    matches!(order.state, OrderState::Pending { .. } | OrderState::Waiting)
}

impl User {
    /// Its leases, but for the oldest that are closed.
    fn leases(&mut self, look: &Look<'_>) -> Vec<Lease> {
        let mut found = query::leases_of_account(look.state, &self.account, self.lease_over.as_ref(), LOOKED_AT);
        let over = found.iter().take_while(|l| l.state == LeaseState::Closed).count();
        self.lease_over = found.drain(..over).next_back().or(self.lease_over.take());
        found
    }

    /// Its orders, but for the oldest that are over.
    fn orders(&mut self, look: &Look<'_>) -> Vec<Order> {
        let mut found = query::orders_of_account(look.state, &self.account, self.order_over.as_ref(), LOOKED_AT);
        let over = found.iter().take_while(|o| matches!(o.state, OrderState::Expired | OrderState::Cancelled | OrderState::Served { .. }));
        let over = over.count();
        self.order_over = found.drain(..over).next_back().or(self.order_over.take());
        found
    }
}

impl Mind for User {
    fn pace(&self) -> (u64, u64) {
        (400 * self.leisure, 3_000 * self.leisure)
    }

    fn decide(&mut self, look: &Look<'_>, _: &Door) -> Option<(usize, Vec<Action>)> {
        let leases = self.leases(look);
        if let Some(action) = leases.iter().find_map(|lease| self.tend(lease, look)) {
            return Some((0, vec![action]));
        }
        let orders = self.orders(look);
        let waits = orders.iter().filter(|o| waits(o));
        if let Some(order) = waits.clone().find(|_| self.using == Using::Impatient && self.dice.percent(20)) {
            return Some((0, vec![Action::CancelOrder { order: order.id }]));
        }
        let open = waits.count() + leases.iter().filter(|l| l.state != LeaseState::Closed).count();
        if open < MOST_OPEN && self.dice.percent(25) {
            return Some((0, vec![self.order(look)]));
        }
        if self.dice.percent(10) {
            return self.transfer().map(|action| (0, vec![action]));
        }
        None
    }
}
