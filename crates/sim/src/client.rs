//! What users and watchers do: order, look, confirm, object, come back.
//!
//! Guarantees: a user knows of its job what it could see: whether a check of it succeeds. Everything else it reads from the ledger.

use crate::config::{self, LIST_RATE, MAX_AVOIDED, MEAN_JOB, MEAN_THINK};
use crate::strategy::{Serving, Using};
use crate::world::{START, Service, Wake, World};
use pasture_ledger::query;
use pasture_types::grant::{Budget, GrantAction, GrantTerms, GrantUse, MAX_GRANT_LIFE};
use pasture_types::lease::EndReason;
use pasture_types::market::{AliveCheck, Constraint, OrderTerms};
use pasture_types::service::{FailedCheck, ServiceAction};
use pasture_types::tx::Action;
use pasture_types::{Amount, AssetId, BlobHash, LeaseId, Millis, Timestamp};

/// How long an order waits for a machine.
const ORDER_WAIT: Millis = Millis(config::HOUR_MS);
/// A user whose job was not done orders anew after so long.
const AGAIN: Millis = Millis(30_000);
/// Orders that a spammer places at a time, and how often.
const SPAM_ORDERS: usize = 4;
/// How long its orders wait: each machine that becomes free draws them anew, which is all the work of a run.
const SPAM_WAIT: Millis = Millis(10 * 60_000);
const SPAM_EVERY: Millis = Millis(config::HOUR_MS);
/// What clocks may differ by.
const CLOCKS: Millis = Millis(2_000);
/// What a user lets its watcher confirm in all: more than anybody pays in what is simulated.
const WATCHED_CREDITS: u64 = 100_000;
/// Shortest job.
const MIN_JOB_MS: u64 = 10 * 60_000;
/// Accounts younger than this give nobody standing.
const SYBILS_WAIT: Millis = Millis(7 * config::DAY_MS);

impl World {
    /// When a user comes for the first time.
    pub fn first_order(&mut self, at: usize) {
        let Some(u) = self.users.get(at) else { return };
        let first = match u.using {
            Using::Sybil => SYBILS_WAIT.0 + config::HOUR_MS,
            // Offers come of age within the first minute.
            _ => 60_000 + self.dice.around(MEAN_THINK.0),
        };
        self.wake(START.plus(Millis(first)), Wake::Order(at));
    }

    /// A user places an order.
    pub fn order(&mut self, at: usize, now: Timestamp) {
        if !self.is_open() {
            return;
        }
        let job = Millis(self.dice.around(MEAN_JOB.0).clamp(MIN_JOB_MS, config::MAX_JOB.0));
        let region = config::region(at as u64);
        let Some(u) = self.users.get_mut(at) else { return };
        u.job = job;
        let mut terms = OrderTerms {
            resources: config::machine(1),
            constraints: u.avoids.iter().map(|n| Constraint::NotNode(*n)).chain([Constraint::Region(region)]).collect(),
            max_price_per_hour: Amount(LIST_RATE.0 * 3 / 2),
            // Somebody who does not know how long it takes asks for somewhat more.
            max_duration: Millis((job.0 * 5 / 4).min(config::MAX_JOB.0)),
            budget: Amount::credits(1_000),
            spec_hash: BlobHash([9; 32]),
            expires: now.plus(ORDER_WAIT),
            ..OrderTerms::default()
        };
        match u.using {
            Using::Watched | Using::Deceived => terms.watcher = self.watchers.get(u.watcher).map(|w| w.signer.account),
            Using::Sybil => {
                let own = u.of.and_then(|n| self.nodes.get(n)).map(|n| n.provider.account);
                terms.constraints = own.map(Constraint::Provider).into_iter().collect();
                let purse = query::balance(&self.chain.state, &u.signer.account, pasture_types::AssetId::CREDIT);
                // As long as its purse and a lease allow: fees count, not leases.
                terms.budget = purse.saturating_sub(Amount::credits(1));
                terms.max_price_per_hour = LIST_RATE.saturating_add(Amount(LIST_RATE.0 / 10));
                terms.max_duration = config::MAX_JOB;
                u.job = config::MAX_JOB;
            }
            _ => {}
        }
        let (signer, using) = (u.signer.clone(), u.using);
        if using == Using::Spams {
            self.spam(at, &terms, now);
            return;
        }
        let mut actions: Vec<Action> = self.leave_to_watch(at, now).into_iter().collect();
        actions.push(Action::PlaceOrder { terms: Box::new(terms) });
        self.chain.send(&signer, actions);
    }

    /// The standing grant without which a watcher's word counts for nothing, where a user names one and has given none yet.
    fn leave_to_watch(&self, at: usize, now: Timestamp) -> Option<Action> {
        let user = self.users.get(at).filter(|u| matches!(u.using, Using::Watched | Using::Deceived))?;
        let watcher = &self.watchers.get(user.watcher)?.signer;
        let standing = query::watch_left(&self.chain.state, &user.signer.account, &watcher.account, &watcher.public(), AssetId::CREDIT);
        // More than anybody pays in all that is simulated: how a grant is renewed is the client's business, not the ledger's.
        let budget = vec![Budget { asset: AssetId::CREDIT, amount: Amount::credits(WATCHED_CREDITS) }];
        let may = GrantUse::Watch { watcher: watcher.account };
        let terms = GrantTerms { key: watcher.public(), may, budget, expires: now.plus(MAX_GRANT_LIFE) };
        standing.is_none().then(|| Action::Grant(GrantAction::Create { terms: Box::new(terms) }))
    }

    /// Half of them ask for what nobody sells, the others take a machine and drop it.
    fn spam(&mut self, at: usize, terms: &OrderTerms, now: Timestamp) {
        let Some(signer) = self.users.get(at).map(|u| u.signer.clone()) else { return };
        for n in 0..SPAM_ORDERS {
            let max = if n % 2 == 0 { terms.max_price_per_hour } else { Amount(LIST_RATE.0 / 10) };
            let expires = now.plus(SPAM_WAIT);
            let terms = OrderTerms { max_price_per_hour: max, budget: Amount::credits(200), expires, ..terms.clone() };
            self.chain.send(&signer, vec![Action::PlaceOrder { terms: Box::new(terms) }]);
        }
        self.wake(now.plus(SPAM_EVERY), Wake::Order(at));
    }

    /// An order ended without a machine.
    pub fn unserved(&mut self, at: usize, now: Timestamp) {
        if self.users.get(at).is_some_and(|u| u.using != Using::Spams) {
            self.tally.unserved += 1;
            let wait = self.dice.around(MEAN_THINK.0);
            self.wake(now.plus(Millis(wait)), Wake::Order(at));
        }
    }

    /// A lease began for a user; `failing`: it will see nothing of it.
    pub fn served_from(&mut self, at: usize, id: LeaseId, failing: bool, now: Timestamp) {
        let Some(using) = self.users.get(at).map(|u| u.using) else { return };
        match using {
            Using::Spams => {
                let signer = self.users.get(at).map(|u| u.signer.clone());
                if let Some(signer) = signer {
                    self.chain.send(&signer, vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByUser }]);
                }
            }
            Using::Absent => self.wake(now.plus(self.config.look), Wake::Look(at, id)),
            Using::Deceived if failing => {
                self.wake(now.plus(self.config.look), Wake::Look(at, id));
                self.will_see_failing(at, id, now);
            }
            _ if failing => self.will_see_failing(at, id, now),
            _ => {}
        }
    }

    /// One check each epoch; the second that fails ends it.
    fn will_see_failing(&mut self, at: usize, id: LeaseId, from: Timestamp) {
        let length = self.epoch().0;
        let phase = self.dice.below(length - 10_000);
        self.wake(from.plus(Millis(phase + length)), Wake::SeenFailing(at, id));
    }

    /// What user or watcher does when a job shows no sign of life, or claims more than it showed.
    pub fn seen_failing(&mut self, at: usize, id: LeaseId, now: Timestamp) {
        let (Some(u), Some(service)) = (self.users.get(at), self.services.get_mut(&id)) else { return };
        let serving = self.nodes.get(service.node).map(|n| n.serving);
        match u.using {
            Using::Deceived if serving == Some(Serving::LyingWatcher) => {}
            Using::Watched | Using::Deceived => {
                service.objected = true;
                let Some(watcher) = self.watchers.get(u.watcher).map(|w| w.signer.clone()) else { return };
                // The check failed before this block; a lease that closed meanwhile ends the time that can be shown.
                let seen = service.closed.map_or(now, |c| c.min(now));
                let report = FailedCheck {
                    lease: id,
                    generation: 1,
                    epoch: seen.since(START).0 / config::zone_params().epoch.0,
                    check: AliveCheck::Exec,
                };
                let signature = watcher.key.sign(&report.digest());
                let action = ServiceAction::ReportFailure { report, key: watcher.public(), signature };
                self.chain.send(&watcher, vec![Action::Service(Box::new(action))]);
            }
            Using::Attentive | Using::Absent => {
                service.objected = true;
                let action = match service.closed {
                    None => Action::CloseLease { lease: id, reason: EndReason::ServiceStopped },
                    Some(_) => Action::Object { lease: id },
                };
                let signer = u.signer.clone();
                self.chain.send(&signer, vec![action]);
            }
            Using::Objects | Using::Spams | Using::Sybil => {
                let signer = u.signer.clone();
                if service.closed.is_none() {
                    self.chain.send(&signer, vec![Action::CloseLease { lease: id, reason: EndReason::ServiceStopped }]);
                }
            }
        }
    }

    /// An absent user comes by.
    pub fn look(&mut self, at: usize, id: LeaseId, now: Timestamp) {
        let Some(service) = self.services.get_mut(&id).filter(|s| s.closed.is_none()) else { return };
        if service.until <= now {
            service.objected = true;
            if let Some(signer) = self.users.get(at).map(|u| u.signer.clone()) {
                self.chain.send(&signer, vec![Action::CloseLease { lease: id, reason: EndReason::ServiceStopped }]);
            }
        } else {
            service.looked = now;
            self.wake(now.plus(self.config.look), Wake::Look(at, id));
        }
    }

    /// A user that was served well says that it was not.
    pub fn object_anyway(&mut self, at: usize, id: LeaseId) {
        if let (Some(u), Some(service)) = (self.users.get(at), self.services.get_mut(&id)) {
            service.objected = true;
            let signer = u.signer.clone();
            self.chain.send(&signer, vec![Action::Object { lease: id }]);
        }
    }

    /// A lease is closing: its user looks at what is claimed, and comes back some time later.
    pub fn lease_ended(&mut self, at: usize, id: LeaseId, now: Timestamp) {
        let Some(service) = self.services.get(&id).cloned() else { return };
        let Some(u) = self.users.get_mut(at) else { return };
        let done = service.served(now).0 + 10_000 >= u.job.0;
        let claimed = query::lease(&self.chain.state, &id).map_or(0, |l| l.last_claim().served.0);
        let lied = !service.objected && claimed > service.served(now).0 + CLOCKS.0;
        let node = self.nodes.get(service.node).map(|n| n.node.node_id());
        if !done && let Some(node) = node.filter(|n| !u.avoids.contains(n)) {
            u.avoids.push(node);
            if u.avoids.len() > self.config.avoids.min(MAX_AVOIDED) {
                u.avoids.remove(0);
            }
        }
        match u.using {
            Using::Spams | Using::Sybil => return,
            Using::Objects => self.wake(now.plus(Millis(10_000)), Wake::ObjectAnyway(at, id)),
            Using::Attentive | Using::Watched | Using::Deceived if lied => self.wake(now.plus(Millis(10_000)), Wake::SeenFailing(at, id)),
            _ => {}
        }
        let wait = if done { self.dice.around(MEAN_THINK.0).max(60_000) } else { AGAIN.0 };
        self.wake(now.plus(Millis(wait)), Wake::Order(at));
    }

    /// A provider's other name has paid; it goes on until its purse is empty.
    pub fn paper_settled(&mut self, service: &Service, now: Timestamp) {
        let Some(u) = self.users.get(service.user).filter(|u| u.using == Using::Sybil) else { return };
        if self.balance(&u.signer.account) > Amount::credits(30) {
            self.wake(now.plus(AGAIN), Wake::Order(service.user));
        }
    }
}
