//! Random histories with failover, watchers, halts and two assets: the invariants hold after every block, a lease's money adds up over
//! its generations, and when everybody goes home everything is settled.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::service::query as more;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{Failover, Fence, OrderTerms};
use pasture_types::service::*;
use pasture_types::tx::Action;
use pasture_types::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Op {
    Order {
        mode: u8,
        fence: bool,
        watcher: bool,
        dollars: bool,
        millis: u64,
    },
    Answer {
        farm: usize,
        accept: bool,
    },
    /// Time passes while the farms of this mask answer their epochs.
    Serve {
        mask: u8,
        millis: u64,
    },
    Usage {
        pick: usize,
        percent: u64,
        by: u8,
        steal: u64,
        generation: u32,
    },
    Evidence {
        pick: usize,
        back: u64,
    },
    Loss {
        pick: usize,
        by: u8,
    },
    Watch {
        pick: usize,
        on: bool,
    },
    Close {
        pick: usize,
        who: u8,
    },
    Object {
        pick: usize,
    },
    Extend {
        pick: usize,
        millis: u64,
    },
    Halt {
        epochs: u64,
    },
    /// A lease with failover has its node fall silent while the others answer everything.
    Lose {
        pick: usize,
        millis: u64,
    },
    Grace {
        farm: usize,
        epochs: u32,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let pick = 0usize..32;
    prop_oneof![
        6 => (0u8..3, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), 10_000u64..110_000)
            .prop_map(|(mode, fence, watcher, dollars, millis)| Op::Order { mode, fence, watcher, dollars, millis }),
        8 => (0usize..3, prop::bool::weighted(0.85)).prop_map(|(farm, accept)| Op::Answer { farm, accept }),
        14 => (0u8..8, 500u64..14_000).prop_map(|(mask, millis)| Op::Serve { mask, millis }),
        14 => (pick.clone(), 0u64..104, 0u8..3, 0u64..8_000, 0u32..3)
            .prop_map(|(pick, percent, by, steal, generation)| Op::Usage { pick, percent, by, steal, generation }),
        2 => (pick.clone(), 0u64..3).prop_map(|(pick, back)| Op::Evidence { pick, back }),
        2 => (pick.clone(), 0u8..16).prop_map(|(pick, by)| Op::Loss { pick, by }),
        2 => (pick.clone(), any::<bool>()).prop_map(|(pick, on)| Op::Watch { pick, on }),
        3 => (pick.clone(), 0u8..3).prop_map(|(pick, who)| Op::Close { pick, who }),
        1 => pick.clone().prop_map(|pick| Op::Object { pick }),
        1 => (pick, 0u64..20_000).prop_map(|(pick, millis)| Op::Extend { pick, millis }),
        1 => (3u64..100).prop_map(|epochs| Op::Halt { epochs }),
        4 => (0usize..32, 10_000u64..32_000).prop_map(|(pick, millis)| Op::Lose { pick, millis }),
        1 => (0usize..3, 0u32..80).prop_map(|(farm, epochs)| Op::Grace { farm, epochs }),
    ]
}

struct Run {
    w: World,
    farms: Vec<Farm>,
    watcher: SigningKey,
    validators: Vec<SigningKey>,
    seen: BTreeSet<&'static str>,
}

impl Run {
    fn new() -> Self {
        let mut params = Params::dev();
        params.start_window = Millis::secs(40);
        params.max_lease = Millis::secs(120);
        params.service.watcher_per_day = Millis(30_000);
        let mut w = world_with_dollars(params);
        let validators: Vec<SigningKey> = (60..63).map(key).collect();
        let one = w.genesis.validators[0].clone();
        w.genesis.validators = validators.iter().map(|v| genesis::GenesisValidator { key: v.node_id().0, ..one.clone() }).collect();
        w.state = pasture_ledger::genesis(&w.genesis);
        w.offer();
        let mut farms = vec![first(&w), farm(&mut w, 40, 120), farm(&mut w, 41, 140)];
        // The second also takes dollars.
        let f = farms[1].clone();
        let terms = market::OfferTerms { asset: DOLLAR, ..offer_terms() };
        w.act(&f.provider, vec![Action::PutOffer { node: f.node.node_id(), number: 1, terms: Box::new(terms) }]).unwrap();
        farms[1] = f;
        let watcher = key(20);
        join(&mut w, &watcher);
        w.idle();
        Self { w, farms, watcher, validators, seen: BTreeSet::new() }
    }

    fn leases(&self) -> Vec<Lease> {
        query::leases_of_account(&self.w.state, &self.w.user.account(), None, 500)
    }

    fn pick(&self, pick: usize) -> Option<Lease> {
        let open: Vec<_> = self.leases().into_iter().filter(|l| l.state != LeaseState::Closed).collect();
        open.get(pick % open.len().max(1)).cloned()
    }

    fn farm_of(&self, node: &NodeId) -> Farm {
        self.farms.iter().find(|f| f.node.node_id() == *node).unwrap().clone()
    }

    fn note(&mut self, what: &'static str, r: &Result<Vec<Event>, TxError>) {
        if r.is_ok() {
            self.seen.insert(what);
        }
    }

    fn usage(&mut self, l: &Lease, percent: u64, by: u8, steal: u64, generation: u32) {
        let Some(started) = l.started_at.filter(|_| l.last_claim().served.0 > 0).or(l.accepted_at) else { return };
        let served = self.w.now.since(started).0 * percent / 100;
        let id = l.usage_id();
        let mut usage = self.w.usage(&id, started, served);
        usage.generation = if generation == 2 { l.generation + 1 } else { l.generation };
        usage.steal_ms = Millis(steal.min(served)).max(l.last_claim().steal.min(Millis(served)));
        let f = self.farm_of(&l.node);
        let by = match by {
            0 => None,
            1 => Some(self.w.user.clone()),
            _ => Some(self.watcher.clone()),
        };
        let action = usage_by(&f.node, usage, by.as_ref());
        let r = with(&mut self.w, &f, |w| w.node_act(vec![action]));
        let what = match (l.role, by.is_some()) {
            (Role::Primary, true) => "confirmed",
            (Role::Primary, false) => "bare",
            (Role::Standby { .. }, _) => "standby usage",
            (Role::Past { .. }, _) => "past usage",
        };
        self.note(what, &r);
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Order { mode, fence, watcher, dollars, millis } => {
                let terms = OrderTerms {
                    failover: [Failover::Off, Failover::Cold, Failover::Warm][usize::from(mode)],
                    fence: if fence { Fence::Stop } else { Fence::Serve },
                    watcher: watcher.then(|| self.watcher.account()),
                    asset: if dollars { DOLLAR } else { AssetId::CREDIT },
                    max_duration: Millis(millis),
                    budget: Amount(100_000_000),
                    ..self.w.order_terms()
                };
                let r = self.w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }]);
                self.note("order", &r);
            }
            Op::Answer { farm, accept } => {
                let f = self.farms[farm].clone();
                for l in query::open_leases_of_node(&self.w.state, &f.node.node_id()) {
                    if l.state == LeaseState::Matched {
                        let lease = l.id;
                        let action = if accept { Action::AcceptLease { lease } } else { Action::RejectLease { lease } };
                        let r = with(&mut self.w, &f, |w| w.node_act(vec![action]));
                        self.note(if matches!(l.role, Role::Standby { .. }) { "standby answer" } else { "answer" }, &r);
                    }
                }
            }
            Op::Serve { mask, millis } => {
                let farms: Vec<Farm> = (0..3).filter(|n| mask & (1 << n) != 0).map(|n| self.farms[n].clone()).collect();
                serve(&mut self.w, &farms.iter().collect::<Vec<_>>(), millis);
            }
            Op::Usage { pick, percent, by, steal, generation } => {
                if let Some(l) = self.pick(pick) {
                    self.usage(&l, percent, by, steal, generation);
                }
            }
            Op::Halt { epochs } => {
                self.w.block(epochs * 5_000, &[]);
            }
            Op::Lose { pick, millis } => {
                let live: Vec<_> =
                    self.leases().into_iter().filter(|l| l.is_live() && more::failover(&self.w.state, &l.id).is_some()).collect();
                let Some(l) = live.get(pick % live.len().max(1)) else { return };
                let others: Vec<Farm> = self.farms.iter().filter(|f| f.node.node_id() != l.node).cloned().collect();
                let others: Vec<&Farm> = others.iter().collect();
                for _ in 0..millis / 1_000 {
                    accept_all(&mut self.w, &others);
                    serve(&mut self.w, &others, 1_000);
                }
            }
            Op::Grace { farm, epochs } => {
                let f = self.farms[farm].clone();
                let node = f.node.node_id();
                let r = self.w.act(&f.provider, vec![act(ServiceAction::SetHaltGrace { node, epochs })]);
                self.note("grace", &r);
            }
            Op::Evidence { .. } | Op::Loss { .. } | Op::Watch { .. } | Op::Close { .. } | Op::Object { .. } | Op::Extend { .. } => {
                self.about_lease(op);
            }
        }
    }

    fn about_lease(&mut self, op: &Op) {
        match *op {
            Op::Evidence { pick, back } => {
                if let Some(l) = self.pick(pick) {
                    let epoch = self.w.epoch().saturating_sub(back);
                    let action = evidence(&self.w, &l.id, epoch, &self.watcher);
                    let r = self.w.user_act(vec![action]);
                    self.note("evidence", &r);
                }
            }
            Op::Loss { pick, by } => {
                if let Some(l) = self.pick(pick) {
                    let report = LossReport { lease: l.id, generation: l.generation, epoch: self.w.epoch() };
                    let who = self.validators.iter().enumerate().filter(|(n, _)| by & (1 << n) != 0);
                    let signatures =
                        who.map(|(_, v)| ObserverSignature { observer: v.node_id().0, signature: v.sign(&report.digest()) }).collect();
                    let r = self.w.user_act(vec![act(ServiceAction::ReportLoss { report, signatures })]);
                    self.note("loss", &r);
                }
            }
            Op::Watch { pick, on } => {
                if let Some(l) = self.pick(pick) {
                    let watcher = on.then(|| self.watcher.account());
                    let r = self.w.user_act(vec![act(ServiceAction::Watch { lease: l.id, watcher })]);
                    self.note("watch", &r);
                }
            }
            Op::Close { pick, who } => {
                if let Some(l) = self.pick(pick) {
                    let f = self.farm_of(&l.node);
                    let lease = l.id;
                    let r = match who {
                        0 => self.w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]),
                        1 => self.w.user_act(vec![Action::CloseLease { lease, reason: EndReason::ServiceStopped }]),
                        _ => {
                            let action = Action::CloseLease { lease, reason: EndReason::Exited { code: 0 } };
                            with(&mut self.w, &f, |w| w.node_act(vec![action]))
                        }
                    };
                    self.note("close", &r);
                }
            }
            Op::Object { pick } => {
                if let Some(l) = self.pick(pick) {
                    let r = self.w.user_act(vec![Action::Object { lease: l.id }]);
                    self.note("object", &r);
                }
            }
            Op::Extend { pick, millis } => {
                if let Some(l) = self.pick(pick) {
                    let r = self.w.user_act(vec![Action::Extend { lease: l.id, duration: Millis(millis) }]);
                    self.note("extend", &r);
                }
            }
            _ => {}
        }
    }

    /// Everybody goes home: all is settled, all money is back, nothing is left to do.
    fn drain(&mut self) {
        for l in self.leases() {
            if matches!(l.role, Role::Primary) && l.state != LeaseState::Closed {
                let _ = self.w.user_act(vec![Action::CloseLease { lease: l.id, reason: EndReason::StoppedByUser }]);
            }
        }
        for o in query::orders_of_account(&self.w.state, &self.w.user.account(), None, 500) {
            let _ = self.w.user_act(vec![Action::CancelOrder { order: o.id }]);
        }
        // Past the end of a term, at which the pool of fees is paid.
        self.w.wait(2_400_000);
        for l in self.leases() {
            assert_eq!(l.state, LeaseState::Closed, "{l:#?}");
            assert_eq!(l.held, Amount::ZERO);
            if l.role == Role::Primary {
                self.adds_up(&l);
            }
        }
        assert_eq!(next_due(&self.w.state), Due::Never);
    }

    /// No millisecond is paid twice, and each generation's money is within its own part.
    fn adds_up(&self, l: &Lease) {
        let mut all = more::generations(&self.w.state, l);
        all.push(l.clone());
        let first = all.iter().find_map(|g| g.accepted_at);
        let last = all.iter().filter_map(|g| g.closing.as_ref()).map(|c| c.at).max();
        if let (Some(first), Some(last)) = (first, last) {
            let billed: u64 = all.iter().filter_map(|g| g.settlement.as_ref()).map(|s| s.billed_ms.0).sum();
            assert!(billed <= last.since(first).0 + 4_000, "{billed} of {}", last.since(first).0);
        }
        for g in &all {
            if let Some(s) = &g.settlement {
                assert_eq!(s.charged.saturating_add(s.refunded), g.escrow);
                assert!(s.steal_ms.0 == 0 || s.billed_ms.0 <= g.last_claim().served.0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_survive_everybody(ops in proptest::collection::vec(op(), 20..140)) {
        let mut run = Run::new();
        for op in &ops {
            run.step(op);
        }
        run.drain();
    }
}

/// A fixed mixture reaches every kind of step and every turn of a lease's life, so that the property above is not about nothing.
#[test]
fn random_histories_reach_everything() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut seen = BTreeSet::new();
    let mut events = BTreeSet::new();
    for _ in 0..60 {
        let ops = proptest::collection::vec(op(), 120).new_tree(&mut runner).unwrap().current();
        let mut run = Run::new();
        for op in &ops {
            run.step(op);
        }
        run.drain();
        seen.extend(run.seen);
        for e in &run.w.events {
            if let Event::Service(e) = e {
                events.insert(format!("{e:?}").split([' ', '(']).next().unwrap().to_owned());
            }
        }
    }
    let all = [
        "answer",
        "bare",
        "close",
        "confirmed",
        "evidence",
        "extend",
        "grace",
        "loss",
        "object",
        "order",
        "past usage",
        "standby answer",
        "standby usage",
        "watch",
    ];
    let missing: Vec<_> = all.iter().filter(|a| !seen.contains(*a)).collect();
    assert!(missing.is_empty(), "never succeeded: {missing:?}");
    let told = ["CheckFailed", "HaltGraceSet", "LeaseMoved", "NodeLost", "Objected", "ObserversDrawn", "WatcherSet"];
    let missing: Vec<_> = told.iter().filter(|t| !events.contains(**t)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}
