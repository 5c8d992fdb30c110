//! What is counted while a run goes: per strategy what was served, paid and lost, and how close a lease came to its bound.
//!
//! Guarantees: bounds are those of the specs, computed for each lease from what its user saw and did. It judges nothing: see `report`.

use crate::config::{LIST_RATE, costs, zone_params};
use crate::strategy::{Serving, Using};
use crate::world::Service;
use pasture_types::event::Settlement;
use pasture_types::{Amount, Millis};
use serde::Serialize;
use std::collections::BTreeMap;

/// Nano-credits, which may be owed.
pub type Nanos = i128;

/// A provider's share without a model, in parts per million.
fn provider_ppm() -> Nanos {
    let p = zone_params();
    Nanos::from(p.provider_ppm) + Nanos::from(p.model_ppm)
}

/// A loss and what it may be at most.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Worst {
    /// The largest loss of any lease.
    pub loss: Nanos,
    /// The bound of that lease.
    pub bound: Nanos,
    /// The highest part of its bound that any lease reached, in parts per million.
    pub reached_ppm: Nanos,
}

impl Worst {
    fn see(&mut self, loss: Nanos, bound: Nanos) {
        if loss > self.loss {
            (self.loss, self.bound) = (loss, bound);
        }
        let reached = loss.max(0) * 1_000_000 / bound.max(1);
        self.reached_ppm = self.reached_ppm.max(reached);
    }
}

/// What came of a kind of people.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Sums {
    /// Leases settled.
    pub leases: u64,
    /// What users paid for them.
    pub charged: Nanos,
    /// What of that went to providers.
    pub to_provider: Nanos,
    /// What was withheld.
    pub withheld: Nanos,
    /// What was really served, at the leases' own rates.
    pub fair: Nanos,
    /// What the other side lost, by lease.
    pub worst: Worst,
    /// What was paid to providers for service that was not there, by lease (for users: what providers were not paid).
    pub unearned: Worst,
}

/// What a node really did.
#[derive(Clone, Copy, Default, Debug)]
pub struct Work {
    /// Milliseconds of its machine that really served.
    pub machine_ms: u64,
    /// Epochs proven.
    pub proven: u64,
}

impl Work {
    /// What serving and proving cost outside the ledger.
    #[must_use]
    pub fn cost(&self) -> Nanos {
        let part = |ppm: u128, ms: u64| over(LIST_RATE, ms) * Nanos::try_from(ppm).unwrap_or(0) / 1_000_000;
        let proving = self.proven.saturating_mul(zone_params().epoch.0);
        part(costs::SERVING_PPM, self.machine_ms) + part(costs::PROVING_PPM, proving)
    }
}

/// What is counted.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// By what the node did, whoever used it; its own other names left out.
    pub by_serving: BTreeMap<Serving, Sums>,
    /// By what the user did, at honest nodes.
    pub by_using: BTreeMap<Using, Sums>,
    /// Leases of users at nodes that are not honest.
    pub cheated: BTreeMap<Using, u64>,
    /// What over-claiming nodes were paid too much, by node.
    pub excess: BTreeMap<usize, Nanos>,
    /// What users were charged, wherever.
    pub charged: BTreeMap<Using, Nanos>,
    /// Hours served and epochs proven, by node.
    pub work: BTreeMap<usize, Work>,
    /// Orders that found no machine.
    pub unserved: u64,
    /// Audits by strategy and verdict.
    pub verdicts: BTreeMap<(Serving, String), u64>,
    /// Changes of proven rates.
    pub rated: u64,
}

/// What a rate comes to over a time.
fn over(rate: Amount, ms: u64) -> Nanos {
    rate.per_hour_for(ms).and_then(|a| Nanos::try_from(a.0).ok()).unwrap_or(Nanos::MAX)
}

fn nanos(a: Amount) -> Nanos {
    Nanos::try_from(a.0).unwrap_or(Nanos::MAX)
}

/// The service that may be paid wrongly and that which may be withheld, in milliseconds: `docs/specs/settlement.md` §5 and §7,
/// and two seconds for clocks (§4).
struct Bounds {
    unearned_ms: u64,
    loss_ms: u64,
}

impl Bounds {
    fn of(service: &Service, serving: Serving, using: Using) -> Self {
        let two = 2 * zone_params().epoch.0;
        let clock = 2_000;
        let closed = service.closed.unwrap_or(service.started);
        let since_look = closed.since(service.looked).0;
        let lie = if serving == Serving::LyingWatcher && using == Using::Deceived {
            two.min(zone_params().service.watcher_per_day.0).min(since_look)
        } else {
            0
        };
        let seen = service.objected || using == Using::Attentive || using == Using::Watched;
        let unearned_ms = if seen { since_look.saturating_sub(two) + lie } else { since_look };
        // Who looks at every epoch, or has somebody look, loses two epochs at most.
        let attended = matches!(using, Using::Attentive | Using::Watched) || (using == Using::Deceived && lie == 0);
        if attended {
            return Self { unearned_ms: clock, loss_ms: two + clock };
        }
        Self { unearned_ms: unearned_ms + clock, loss_ms: unearned_ms.max(two) + two + clock }
    }
}

impl Tally {
    /// Epochs that a node sent proofs of.
    pub fn proved(&mut self, node: usize, epochs: u64) {
        self.work.entry(node).or_default().proven += epochs;
    }

    /// What users of a kind were charged.
    #[must_use]
    pub fn paid_by(&self, using: Using) -> Nanos {
        self.charged.get(&using).copied().unwrap_or(0)
    }

    /// A lease was settled.
    pub fn settled(&mut self, service: &Service, s: &Settlement, serving: Serving, using: Using) {
        let closed = service.closed.unwrap_or(service.started);
        let served = service.served(closed).0;
        let speed = Nanos::try_from(service.speed_ppm).unwrap_or(0);
        let fair = over(service.rate, served) * speed / 1_000_000;
        let (charged, paid) = (nanos(s.charged), nanos(s.to_provider));
        if using == Using::Sybil {
            return;
        }
        *self.charged.entry(using).or_default() += charged;
        let machine_ms = u64::try_from(u128::from(served) * service.speed_ppm / 1_000_000).unwrap_or(0);
        self.work.entry(service.node).or_default().machine_ms += machine_ms;
        let bounds = Bounds::of(service, serving, using);
        let sums = self.by_serving.entry(serving).or_default();
        sums.add(s, fair);
        let (loss, unearned) = (charged - fair, paid - fair * provider_ppm() / 1_000_000);
        if serving == Serving::OverClaim {
            // The bound is the node's, not the lease's.
            *self.excess.entry(service.node).or_default() += unearned.max(0);
        } else if using.is_honest() {
            sums.worst.see(loss, over(service.rate, bounds.loss_ms));
            sums.unearned.see(unearned, over(service.rate, bounds.unearned_ms) * provider_ppm() / 1_000_000);
        }
        if serving == Serving::Honest {
            let two = 2 * zone_params().epoch.0 + 2_000;
            let allowed = if using == Using::Objects { two } else { 2_000 };
            let sums = self.by_using.entry(using).or_default();
            sums.add(s, fair);
            let bound = over(service.rate, allowed) * provider_ppm() / 1_000_000;
            sums.worst.see(-unearned, bound);
            sums.unearned.see(-unearned, bound);
        } else {
            *self.cheated.entry(using).or_default() += 1;
        }
    }
}

impl Sums {
    fn add(&mut self, s: &Settlement, fair: Nanos) {
        self.leases += 1;
        self.charged += nanos(s.charged);
        self.to_provider += nanos(s.to_provider);
        self.withheld += nanos(s.withheld);
        self.fair += fair;
    }
}

/// How much an over-claiming node may be paid too much before it is found out, at a mean time between audits: `docs/specs/audits.md`
/// §6 says within eight audits for double the truth; intervals are drawn, so twice as many.
#[must_use]
pub fn excess_bound(interval: Millis) -> Nanos {
    let excess = Amount(LIST_RATE.0 * 11 / 10);
    over(excess, 16 * interval.0) * provider_ppm() / 1_000_000
}
