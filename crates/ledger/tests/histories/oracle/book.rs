//! The books: what every account must have, from what was sent and what happened; the ledger's balances must be the same.
//!
//! Guarantees: every movement of money is derived here a second time. Records are asked for what a lease or an order holds and has
//! paid, which the other judges bound; fees, shares, refunds, deposits and vouchers are computed.

use crate::climate::ASSETS;
use pasture_ledger::{BlockCtx, Lease, Order, OrderState, fee_for, query};
use pasture_types::channel::ChannelEvent;
use pasture_types::event::Event;
use pasture_types::genesis::{Genesis, Params};
use pasture_types::governance::{GovernanceEvent, Rejection};
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market_rules::MarketEvent;
use pasture_types::service::ServiceEvent;
use pasture_types::stake::DepositEvent;
use pasture_types::state::MemoryState;
use pasture_types::tx::Envelope;
use pasture_types::validator::ValidatorEvent;
use pasture_types::{AccountId, Amount, AssetId, BlobHash, ChannelId, LeaseId, OrderId, ProposalId};
use std::collections::{BTreeMap, BTreeSet};

const PPM: u128 = 1_000_000;
const NANOS: u128 = 1_000_000_000;

/// What a lease had cost and paid when it was last looked at.
struct Held {
    account: AccountId,
    provider: AccountId,
    asset: AssetId,
    model: Option<BlobHash>,
    cost: i128,
    to_provider: i128,
    to_model: i128,
}

struct Channel {
    asset: AssetId,
    model: Option<BlobHash>,
    escrow: i128,
    paid: i128,
}

/// The books of one history.
pub(super) struct Book {
    balances: BTreeMap<(AccountId, AssetId), i128>,
    accounts: BTreeSet<AccountId>,
    minted: BTreeMap<AssetId, i128>,
    leases: BTreeMap<LeaseId, Held>,
    open_leases: BTreeSet<LeaseId>,
    /// The treasury's part when each lease was matched.
    treasury: BTreeMap<LeaseId, u32>,
    orders: BTreeMap<OrderId, (AccountId, AssetId, i128)>,
    channels: BTreeMap<ChannelId, Channel>,
    proposals: BTreeMap<ProposalId, (AccountId, i128)>,
    /// What models earned before anybody claimed them.
    unclaimed: BTreeMap<(BlobHash, AssetId), i128>,
    owners: BTreeMap<BlobHash, AccountId>,
    /// What was kept of each provider's earnings, in all.
    withheld: BTreeMap<AccountId, i128>,
    fees: BTreeMap<AssetId, (i128, i128)>,
    /// Who earns this block's fees, and whether half of them wait for others.
    proposer: Option<AccountId>,
    pooled: bool,
    params: Option<Params>,
    /// The largest least deposit of this block.
    min_stake: i128,
    /// What the next transaction's payer had of the first fees, and what was set aside today.
    first_fees: Option<Amount>,
    set_aside: (u64, i128),
}

fn int(amount: Amount) -> i128 {
    i128::try_from(amount.0).expect("no history has so much")
}

fn part(of: i128, ppm: u32) -> i128 {
    of * i128::from(ppm) / PPM as i128
}

impl Book {
    pub(super) fn new(state: &MemoryState, genesis: &Genesis) -> Self {
        let accounts: BTreeSet<_> = genesis.accounts.iter().map(|a| a.key.account()).collect();
        let mut balances = BTreeMap::new();
        for account in &genesis.accounts {
            balances.insert((account.key.account(), AssetId::CREDIT), int(account.balance));
        }
        for asset in &genesis.assets {
            for a in &asset.allocations {
                balances.insert((a.account, asset.asset.id), int(a.amount));
            }
        }
        let mut minted = BTreeMap::new();
        for ((_, asset), amount) in &balances {
            *minted.entry(*asset).or_default() += amount;
        }
        let book = Self {
            balances,
            accounts,
            minted,
            leases: BTreeMap::new(),
            open_leases: BTreeSet::new(),
            treasury: BTreeMap::new(),
            orders: BTreeMap::new(),
            channels: BTreeMap::new(),
            proposals: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            owners: BTreeMap::new(),
            withheld: BTreeMap::new(),
            fees: BTreeMap::new(),
            proposer: None,
            pooled: false,
            params: None,
            min_stake: 0,
            first_fees: None,
            set_aside: (0, 0),
        };
        book.compare(state);
        book
    }

    fn give(&mut self, to: AccountId, asset: AssetId, amount: i128) {
        self.accounts.insert(to);
        *self.balances.entry((to, asset)).or_default() += amount;
    }

    fn take(&mut self, from: AccountId, asset: AssetId, amount: i128) {
        self.give(from, asset, -amount);
    }

    fn params(&self) -> &Params {
        self.params.as_ref().expect("a block has begun")
    }

    /// The operator of this block's proposer, as the term before this block says, gets its fees.
    pub(super) fn begun(&mut self, state: &MemoryState, ctx: &BlockCtx) {
        let zone = query::zone(state).expect("a zone");
        let term = query::validators::term(state).expect("a term");
        self.proposer = term.seats.iter().find(|s| s.validator.0 == ctx.proposer).map(|s| s.operator);
        self.pooled = zone.validators > 1;
        self.min_stake = int(zone.params.min_stake);
        self.params = Some(zone.params);
    }

    pub(super) fn before(&mut self, state: &MemoryState, envelope: &Envelope) {
        let payer = envelope.body.fee_payer.unwrap_or(envelope.body.account);
        self.first_fees = query::deposits::first_fees(state, &payer);
        let count = query::deposits::newcomers(state);
        self.set_aside = (count.day, int(count.fees));
    }

    /// Fee and tip of a transaction that is in the block, whatever became of it.
    pub(super) fn paid_fee(&mut self, state: &MemoryState, envelope: &Envelope) {
        let body = &envelope.body;
        let payer = body.fee_payer.unwrap_or(body.account);
        let credits = fee_for(self.params(), envelope).0;
        let rate = self.params().service.fee_rates.iter().flatten().find(|r| r.asset == body.fee_asset);
        let fee = rate.map_or(credits, |r| (credits * r.per_credit.0).div_ceil(NANOS));
        let (fee, tip) = (i128::try_from(fee).expect("a fee"), int(body.tip));
        let left = query::deposits::first_fees(state, &payer);
        let count = query::deposits::newcomers(state);
        let had = match (self.first_fees, left) {
            (Some(had), _) => int(had),
            (None, Some(_)) => int(count.fees) - if count.day == self.set_aside.0 { self.set_aside.1 } else { 0 },
            (None, None) => 0,
        };
        let covered = had - left.map_or(0, int);
        assert!(covered == 0 || covered == fee, "first fees paid {covered} of a fee of {fee}");
        self.take(payer, body.fee_asset, fee - covered + tip);
        let pots = self.fees.entry(body.fee_asset).or_default();
        (pots.0, pots.1) = (pots.0 + fee, pots.1 + tip);
    }

    /// What an event says that moved.
    pub(super) fn saw(&mut self, state: &MemoryState, event: &Event, sender: Option<AccountId>) {
        match event {
            Event::Transferred { from, to, asset, amount } => {
                match from {
                    Some(from) => self.take(*from, *asset, int(*amount)),
                    None => *self.minted.entry(*asset).or_default() += int(*amount),
                }
                self.give(*to, *asset, int(*amount));
            }
            Event::AccountRegistered { account } => drop(self.accounts.insert(*account)),
            Event::Staked { account, amount } => self.take(*account, AssetId::CREDIT, int(*amount)),
            Event::OrderPlaced { order, account } => self.placed(state, *order, *account),
            Event::LeaseMatched { lease, .. } => {
                self.open_leases.insert(*lease);
                self.treasury.insert(*lease, query::zone(state).map_or(0, |z| z.params.treasury_ppm));
            }
            Event::Service(ServiceEvent::LeaseMoved { past, .. }) => drop(self.open_leases.insert(*past)),
            Event::Service(ServiceEvent::ModelRegistered { model, account, .. }) => {
                // What was paid until now waited; what this transaction pays later is the owner's.
                self.leases(state);
                for asset in ASSETS {
                    let held = self.unclaimed.remove(&(*model, asset)).unwrap_or(0);
                    self.give(*account, asset, held);
                }
                self.owners.insert(*model, *account);
            }
            Event::Market(MarketEvent::RentalCancelled { lease, fee, .. }) => {
                let lease = query::lease(state, lease).expect("a lease");
                let stopped = lease.end_reason() == Some(&EndReason::ServiceStopped);
                let treasury = self.treasury.get(&lease.id).copied().unwrap_or_default();
                let share = if stopped { 0 } else { int(*fee) - part(int(*fee), treasury) };
                self.give(lease.provider, lease.asset, share);
            }
            Event::Governance(e) => self.governance(state, e),
            Event::Deposit(e) => self.deposit(e, sender),
            Event::Validator(e) => self.validator(state, e, sender),
            Event::Channel(e) => self.channel(state, e),
            _ => {}
        }
    }

    fn placed(&mut self, state: &MemoryState, id: OrderId, account: AccountId) {
        let order = query::order(state, &id).expect("an order that was placed");
        let (deposit, price) = (int(self.params().order_deposit), int(self.params().market.priority_price));
        assert_eq!(int(order.deposit), deposit, "a new order's deposit");
        self.take(account, AssetId::CREDIT, price * i128::from(order.terms.priority));
        self.take(account, order.terms.asset, deposit);
        self.orders.insert(id, (account, order.terms.asset, deposit));
    }

    fn governance(&mut self, state: &MemoryState, event: &GovernanceEvent) {
        match event {
            GovernanceEvent::Proposed { proposal, proposer } => {
                let deposit = int(self.params().governance.rules.deposit);
                self.take(*proposer, AssetId::CREDIT, deposit);
                self.proposals.insert(*proposal, (*proposer, deposit));
            }
            GovernanceEvent::Passed { proposal }
            | GovernanceEvent::Rejected { proposal, why: Rejection::NoQuorum | Rejection::NoMajority } => {
                let (proposer, deposit) = self.proposals.remove(proposal).expect("a vote ends once");
                self.give(proposer, AssetId::CREDIT, deposit);
            }
            GovernanceEvent::Rejected { proposal, why: Rejection::Vetoed } => {
                self.proposals.remove(proposal).expect("a vote ends once");
            }
            GovernanceEvent::Spent { to, asset, amount } => self.give(*to, *asset, int(*amount)),
            // What follows in this block is under the new parameters.
            GovernanceEvent::Executed { .. } => {
                self.params = query::zone(state).map(|z| z.params);
                self.min_stake = self.min_stake.max(int(self.params().min_stake));
            }
            _ => {}
        }
    }

    fn deposit(&mut self, event: &DepositEvent, sender: Option<AccountId>) {
        match event {
            DepositEvent::Sponsored { sponsor, amount, .. } => self.take(*sponsor, AssetId::CREDIT, int(*amount)),
            DepositEvent::Released { owner, amount, .. } => self.give(*owner, AssetId::CREDIT, int(*amount)),
            DepositEvent::Forfeited { forfeit, .. } if !forfeit.to_reporter.is_zero() => {
                self.give(sender.expect("somebody reported it"), AssetId::CREDIT, int(forfeit.to_reporter));
            }
            _ => {}
        }
    }

    fn validator(&mut self, state: &MemoryState, event: &ValidatorEvent, sender: Option<AccountId>) {
        match event {
            ValidatorEvent::Bonded { validator, amount } => {
                let operator = query::validators::validator(state, validator).expect("a validator").operator;
                self.take(operator, AssetId::CREDIT, int(*amount));
            }
            ValidatorEvent::Released { operator, amount, .. } => self.give(*operator, AssetId::CREDIT, int(*amount)),
            ValidatorEvent::FeesPaid { operator, asset, amount, .. } => self.give(*operator, *asset, int(*amount)),
            ValidatorEvent::Forfeited { forfeit, .. } if !forfeit.to_reporter.is_zero() => {
                self.give(sender.expect("somebody reported it"), AssetId::CREDIT, int(forfeit.to_reporter));
            }
            _ => {}
        }
    }

    fn channel(&mut self, state: &MemoryState, event: &ChannelEvent) {
        match event {
            ChannelEvent::Opened { channel, client, escrow, .. } => {
                let record = query::channel(state, channel).expect("a channel that was opened");
                self.take(*client, record.asset, int(*escrow));
                let opened = Channel { asset: record.asset, model: record.model, escrow: int(*escrow), paid: 0 };
                assert!(self.channels.insert(*channel, opened).is_none(), "a channel was opened twice");
            }
            ChannelEvent::ToppedUp { channel, client, escrow, .. } => {
                let known = self.channels.get_mut(channel).expect("an open channel");
                let (asset, more) = (known.asset, int(*escrow) - known.escrow);
                known.escrow = int(*escrow);
                self.take(*client, asset, more);
            }
            ChannelEvent::Cashed { channel, provider, amount, paid, .. } => {
                let known = self.channels.get_mut(channel).expect("an open channel");
                let (asset, model, amount) = (known.asset, known.model, int(*amount));
                known.paid += amount;
                assert_eq!(known.paid, int(*paid), "a channel's payments are what was cashed");
                assert!(known.paid <= known.escrow, "a channel paid more than it held");
                let (p, m) = (self.params().provider_ppm, self.params().model_ppm);
                match model {
                    Some(model) => {
                        self.give(*provider, asset, part(amount, p));
                        self.model(model, asset, part(amount, m));
                    }
                    None => self.give(*provider, asset, part(amount, p + m)),
                }
            }
            ChannelEvent::Closed { channel, client, paid, refunded, .. } => {
                let known = self.channels.remove(channel).expect("an open channel");
                assert_eq!((known.paid, known.escrow - known.paid), (int(*paid), int(*refunded)), "a closed channel's rest");
                self.give(*client, known.asset, int(*refunded));
            }
        }
    }

    fn model(&mut self, model: BlobHash, asset: AssetId, amount: i128) {
        match self.owners.get(&model).copied() {
            Some(owner) => self.give(owner, asset, amount),
            None => *self.unclaimed.entry((model, asset)).or_default() += amount,
        }
    }

    /// What leases, orders and deposits hold and paid since they were last looked at; then every balance.
    pub(super) fn settle(&mut self, state: &MemoryState) {
        self.leases(state);
        self.orders(state);
        self.kept(state);
        self.compare(state);
    }

    fn leases(&mut self, state: &MemoryState) {
        for id in self.open_leases.clone() {
            let lease = query::lease(state, &id).expect("leases stay");
            let now = held(&lease);
            if let Some(was) = self.leases.insert(id, held(&lease)) {
                self.lease(&was, -1);
            }
            self.lease(&now, 1);
            if lease.state == LeaseState::Closed {
                self.open_leases.remove(&id);
            }
        }
    }

    fn lease(&mut self, held: &Held, sign: i128) {
        self.take(held.account, held.asset, sign * held.cost);
        self.give(held.provider, held.asset, sign * held.to_provider);
        if let Some(model) = held.model {
            self.model(model, held.asset, sign * held.to_model);
        }
    }

    fn orders(&mut self, state: &MemoryState) {
        let draw = int(self.params().market.draw_price);
        let mut over = vec![];
        for (id, (account, asset, deposit)) in &mut self.orders {
            let order: Order = query::order(state, id).expect("orders stay");
            if matches!(order.state, OrderState::Served { .. } | OrderState::Expired | OrderState::Cancelled) {
                over.push((*id, *account, *asset, *deposit));
                continue;
            }
            let cost = *deposit - int(order.deposit);
            assert!(cost == 0 || cost == draw.min(*deposit), "an order's deposit fell by {cost}");
            *deposit -= cost;
        }
        for (id, account, asset, deposit) in over {
            self.orders.remove(&id);
            self.give(account, asset, deposit);
        }
    }

    fn kept(&mut self, state: &MemoryState) {
        for account in self.accounts.clone() {
            let Some(provider) = query::provider(state, &account) else { continue };
            let now = int(provider.bond.withheld);
            let was = self.withheld.insert(account, now).unwrap_or(0);
            assert!(now >= was, "what was kept shrank");
            if now > was {
                // It is kept for the least deposit, and not more than is missing.
                let all = provider.stake.saturating_add(provider.bond.sponsored);
                assert!(int(all) <= self.min_stake, "more was kept than was missing: {} of {}", all.0, self.min_stake);
                self.take(account, AssetId::CREDIT, now - was);
            }
        }
    }

    /// The end of a block: its fees are paid out.
    pub(super) fn ended(&mut self, state: &MemoryState) {
        for (asset, (fees, tips)) in std::mem::take(&mut self.fees) {
            let pooled = if self.pooled { fees / 2 } else { 0 };
            if let Some(operator) = self.proposer {
                self.give(operator, asset, fees - pooled + tips);
            }
        }
        self.settle(state);
    }

    fn compare(&self, state: &MemoryState) {
        for account in &self.accounts {
            for asset in ASSETS {
                let want = self.balances.get(&(*account, asset)).copied().unwrap_or(0);
                let has = int(query::balance(state, account, asset));
                assert_eq!(has, want, "{account:?} has {has} of asset {} where the books say {want}", asset.0);
            }
        }
    }

    pub(super) fn judge(&self, state: &MemoryState) {
        for asset in ASSETS {
            let minted = self.minted.get(&asset).copied().unwrap_or(0);
            assert_eq!(int(query::supply(state, asset)), minted, "money of asset {} came from nowhere", asset.0);
            for (model, of) in self.unclaimed.keys().filter(|(_, of)| *of == asset) {
                let waits = self.unclaimed[&(*model, *of)];
                assert_eq!(
                    int(pasture_ledger::service::query::held_for_model(state, model, asset)),
                    waits,
                    "what waits for a model's creator"
                );
            }
        }
    }
}

/// What a lease costs its account: all that it holds or held, and once it is closed what it paid.
fn held(lease: &Lease) -> Held {
    let paid = int(lease.paid.provider) + int(lease.paid.treasury) + int(lease.paid.model);
    let cost = if lease.state == LeaseState::Closed { paid } else { int(lease.escrow) };
    Held {
        account: lease.account,
        provider: lease.provider,
        asset: lease.asset,
        model: lease.model,
        cost: cost + int(lease.tenure.cancel_fee),
        to_provider: int(lease.paid.provider),
        to_model: int(lease.paid.model),
    }
}
