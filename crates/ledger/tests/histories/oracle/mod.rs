//! What must hold after every block, worked out from the events and the transactions alone, beside the ledger's own check.
//!
//! Guarantees: nothing here calls the rules that it judges; money is followed from what was sent and what happened, an epoch is
//! proven because a heartbeat's event was seen, service is claimed because a usage was sent. It reads records through the
//! public queries.

mod accounts;
mod book;
mod deposits;
mod leases;
mod lives;
mod matches;
mod votes;

use crate::coverage::Coverage;
use pasture_ledger::{BlockCtx, check};
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::state::MemoryState;
use pasture_types::tx::Envelope;
use pasture_types::{AccountId, Timestamp};

/// The judge of one history.
pub(crate) struct Oracle {
    book: book::Book,
    leases: leases::Leases,
    accounts: accounts::Accounts,
    deposits: deposits::Deposits,
    matches: matches::Matches,
    votes: votes::Votes,
    lives: lives::Lives,
    /// Who sent the transaction that is being looked at.
    sender: Option<AccountId>,
}

impl Oracle {
    pub(crate) fn new(state: &MemoryState, genesis: &Genesis) -> Self {
        Self {
            book: book::Book::new(state, genesis),
            leases: leases::Leases::default(),
            accounts: accounts::Accounts::default(),
            deposits: deposits::Deposits::default(),
            matches: matches::Matches::default(),
            votes: votes::Votes::default(),
            lives: lives::Lives::default(),
            sender: None,
        }
    }

    /// A block began.
    pub(crate) fn begun(&mut self, state: &MemoryState, ctx: &BlockCtx, events: &[Event]) {
        self.book.begun(state, ctx);
        self.events(state, events);
    }

    /// A transaction is about to be included.
    pub(crate) fn before(&mut self, state: &MemoryState, envelope: &Envelope) {
        self.book.before(state, envelope);
        self.accounts.before(state, &envelope.body);
        self.deposits.before(state);
    }

    /// It was: with these events, or for its fee alone.
    pub(crate) fn after(&mut self, state: &MemoryState, envelope: &Envelope, events: Option<&[Event]>) {
        let body = &envelope.body;
        self.sender = Some(body.account);
        self.book.paid_fee(state, envelope);
        self.accounts.included(state, body, events.is_some());
        if let Some(events) = events {
            self.events(state, events);
        }
        self.book.settle(state);
        self.sender = None;
    }

    /// A block ended.
    pub(crate) fn ended(&mut self, state: &MemoryState, events: &[Event]) {
        self.deposits.before_end(state);
        self.events(state, events);
        self.book.ended(state);
        self.matches.ended(state, events);
    }

    fn events(&mut self, state: &MemoryState, events: &[Event]) {
        for event in events {
            self.book.saw(state, event, self.sender);
            self.leases.saw(state, event);
            self.accounts.saw(event);
            self.deposits.saw(state, event);
            self.votes.saw(state, event);
            self.matches.saw(state, event);
            self.lives.saw(event);
        }
    }

    /// The state after a block.
    pub(crate) fn judge(&mut self, state: &MemoryState, now: Timestamp, coverage: &mut Coverage) {
        if let Err(broken) = check(state) {
            panic!("the ledger's own check: {broken:#?}");
        }
        self.book.judge(state);
        self.leases.judge(state, now);
        self.votes.judge(state);
        self.lives.look(state, coverage);
    }
}
