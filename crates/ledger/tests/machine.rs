//! Random actions, right and wrong, over blocks with virtual time: the invariants hold after every block, a transaction is
//! all or nothing, two runs agree to the byte, and when everybody goes home everything is settled.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::state::MemoryState;
use pasture_types::tx::*;
use pasture_types::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Transfer {
        from: usize,
        to: usize,
        amount: u64,
    },
    Place {
        user: usize,
        cores: u32,
        millis: u64,
        price: u64,
        budget: u64,
        priority: u8,
        model: bool,
    },
    Cancel {
        user: usize,
        pick: usize,
    },
    Answer {
        pick: usize,
        accept: bool,
        with: usize,
    },
    Usage {
        pick: usize,
        served: u64,
        build: u64,
        confirmed: bool,
        with: usize,
    },
    Close {
        pick: usize,
        with: usize,
        reason: u8,
    },
    Object {
        pick: usize,
        with: usize,
    },
    Extend {
        pick: usize,
        with: usize,
        millis: u64,
    },
    Beat {
        node: usize,
        back: u64,
        honest: bool,
    },
    Offer {
        node: usize,
        number: u32,
        cores: u32,
        price: u64,
    },
    Withdraw {
        node: usize,
        number: u32,
    },
    Stake {
        who: usize,
        amount: u64,
    },
    Mint {
        amount: u64,
    },
    /// An order that is placed, drawn and accepted.
    Lease {
        user: usize,
        cores: u32,
        millis: u64,
        model: bool,
    },
    /// The node reports this share of the time since the lease was accepted.
    Report {
        pick: usize,
        percent: u64,
        confirmed: bool,
    },
    /// Time passes and every node answers its epochs.
    Serve {
        millis: u64,
    },
    Wait {
        millis: u64,
    },
    Halt {
        epochs: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0usize..5;
    let pick = 0usize..64;
    prop_oneof![
        2 => (who.clone(), who.clone(), any::<u64>()).prop_map(|(from, to, amount)| Op::Transfer { from, to, amount }),
        6 => (0usize..3, 1u32..6, 1_000u64..40_000, 1u64..12, 1u64..100_000_000, 0u8..102, any::<bool>()).prop_map(
            |(user, cores, millis, price, budget, priority, model)| Op::Place { user, cores, millis, price, budget, priority, model }),
        1 => (0usize..3, pick.clone()).prop_map(|(user, pick)| Op::Cancel { user, pick }),
        6 => (pick.clone(), prop::bool::weighted(0.8), who.clone()).prop_map(|(pick, accept, with)| Op::Answer { pick, accept, with }),
        8 => (pick.clone(), 0u64..30_000, prop_oneof![4 => Just(0u64), 1 => 0u64..2_000_000], any::<bool>(), who.clone()).prop_map(
            |(pick, served, build, confirmed, with)| Op::Usage { pick, served, build, confirmed, with }),
        4 => (pick.clone(), prop_oneof![2 => Just(5usize), 1 => who.clone()], 0u8..4).prop_map(|(pick, with, reason)| Op::Close { pick, with, reason }),
        3 => (pick.clone(), prop_oneof![3 => Just(5usize), 1 => who.clone()]).prop_map(|(pick, with)| Op::Object { pick, with }),
        1 => (pick.clone(), who.clone(), 0u64..60_000).prop_map(|(pick, with, millis)| Op::Extend { pick, with, millis }),
        8 => (0usize..2, 0u64..3, prop::bool::weighted(0.9)).prop_map(|(node, back, honest)| Op::Beat { node, back, honest }),
        2 => (0usize..2, 0u32..2, 0u32..6, 0u64..3_000_000_000).prop_map(
            |(node, number, cores, price)| Op::Offer { node, number, cores, price }),
        1 => (0usize..2, 0u32..2).prop_map(|(node, number)| Op::Withdraw { node, number }),
        1 => (who, 0u64..2_000_000_000).prop_map(|(who, amount)| Op::Stake { who, amount }),
        1 => any::<u64>().prop_map(|amount| Op::Mint { amount }),
        6 => (0usize..3, 1u32..3, 5_000u64..90_000, any::<bool>()).prop_map(
            |(user, cores, millis, model)| Op::Lease { user, cores, millis, model }),
        16 => (pick.clone(), 0u64..105, any::<bool>()).prop_map(|(pick, percent, confirmed)| Op::Report { pick, percent, confirmed }),
        10 => (0u64..12_000).prop_map(|millis| Op::Serve { millis }),
        6 => (0u64..6_000).prop_map(|millis| Op::Wait { millis }),
        1 => (3u64..200).prop_map(|epochs| Op::Halt { epochs }),
    ]
}

struct Run {
    w: World,
    /// Three users, a provider, and a key that no account has.
    keys: Vec<SigningKey>,
    nodes: Vec<SigningKey>,
}

impl Run {
    fn new() -> Self {
        let mut params = Params::dev();
        params.start_window = Millis::secs(60);
        params.max_lease = Millis::secs(120);
        let mut w = World::with(params, 2);
        w.offer();
        let (provider, second) = (w.provider.clone(), key(6));
        let mut terms = offer_terms();
        terms.max_duration = Millis::secs(100);
        w.act(
            &provider,
            vec![
                w.register_node(&provider, &second, declaration()),
                Action::PutOffer { node: second.node_id(), number: 0, terms: Box::new(terms) },
            ],
        )
        .unwrap();
        for n in [5, 7] {
            let user = w.user.clone();
            let new = key(n);
            let actions = vec![Action::RegisterAccount { keys: vec![new.public()], threshold: 1 }];
            let mut body = w.body(new.account(), Auth::Single, actions);
            body.fee_payer = Some(user.account());
            w.send(&body.sign(&new).and_sign(user.account(), &user)).unwrap();
            w.user_act(vec![Action::Transfer { to: new.account(), asset: AssetId::CREDIT, amount: Amount::credits(10) }]).unwrap();
        }
        w.idle();
        let nodes = vec![w.node.clone(), second];
        let keys = vec![w.user.clone(), key(5), key(7), provider, key(99)];
        Self { w, keys, nodes }
    }

    fn leases(&self) -> Vec<Lease> {
        self.nodes.iter().flat_map(|n| query::leases_of_node(&self.w.state, &n.node_id(), None, 500)).collect()
    }

    fn pick(&self, pick: usize) -> Option<Lease> {
        let mut open: Vec<_> = self.leases().into_iter().filter(|l| l.state != LeaseState::Closed).collect();
        if open.is_empty() {
            open = self.leases();
        }
        open.get(pick % open.len().max(1)).cloned()
    }

    fn node_of(&self, lease: &Lease) -> SigningKey {
        self.nodes.iter().find(|n| n.node_id() == lease.node).unwrap().clone()
    }

    /// Signs as one of the five keys, or as the lease's node where `with` is 4.
    fn sign(&mut self, with: usize, lease: Option<&Lease>, action: Action) -> Envelope {
        if with == 4
            && let Some(lease) = lease
        {
            let node = self.node_of(lease);
            return self.w.body(lease.provider, Auth::Node(node.node_id()), vec![action]).sign(&node);
        }
        // 5 is whoever pays for the lease.
        let paying = lease.and_then(|l| self.keys.iter().find(|k| k.account() == l.account));
        let key = self.keys.get(with).or(paying).unwrap_or(&self.keys[0]).clone();
        self.w.body(key.account(), Auth::Single, vec![action]).sign(&key)
    }

    fn envelope(&mut self, op: &Op) -> Option<Envelope> {
        Some(match op {
            Op::Transfer { from, to, amount } => {
                let to = self.keys[*to].account();
                let amount = Amount(u128::from(*amount));
                self.sign(*from, None, Action::Transfer { to, asset: AssetId::CREDIT, amount })
            }
            Op::Place { user, cores, millis, price, budget, priority, model } => {
                let mut terms = self.w.order_terms();
                terms.resources = resources(*cores, 1);
                terms.max_duration = Millis(*millis);
                terms.max_price_per_hour = Amount::credits(*price);
                terms.budget = Amount(u128::from(*budget));
                terms.priority = *priority;
                terms.model = model.then_some(BlobHash([1; 32]));
                terms.expires = self.w.now.plus(Millis(*millis));
                self.sign(*user, None, Action::PlaceOrder { terms: Box::new(terms) })
            }
            Op::Cancel { user, pick } => {
                let account = self.keys[*user].account();
                let orders = query::orders_of_account(&self.w.state, &account, None, 500);
                let order = orders.get(pick % orders.len().max(1))?.id;
                self.sign(*user, None, Action::CancelOrder { order })
            }
            Op::Answer { .. } | Op::Report { .. } | Op::Usage { .. } | Op::Close { .. } | Op::Object { .. } | Op::Extend { .. } => {
                return self.about_lease(op);
            }
            Op::Beat { node, back, honest } => {
                let epochs = query::open_epochs(&self.w.state);
                let epoch = epochs.iter().rev().nth(usize::try_from(*back).ok()?)?.number;
                let key = self.nodes[*node].clone();
                let own = std::mem::replace(&mut self.w.node, key.clone());
                let mut heartbeat = self.w.shares(epoch);
                self.w.node = own;
                if !honest {
                    heartbeat.nonces.reverse();
                }
                let provider = self.keys[3].account();
                self.w.body(provider, Auth::Node(key.node_id()), vec![Action::SubmitHeartbeat { heartbeat }]).sign(&key)
            }
            Op::Offer { node, number, cores, price } => {
                let mut terms = offer_terms();
                terms.resources = resources(*cores, 4);
                terms.rates.cpu_core = Amount(u128::from(*price));
                let node = self.nodes[*node].node_id();
                self.sign(3, None, Action::PutOffer { node, number: *number, terms: Box::new(terms) })
            }
            Op::Withdraw { node, number } => {
                let offer = offer_id(&self.nodes[*node].node_id(), *number);
                self.sign(3, None, Action::WithdrawOffer { offer })
            }
            Op::Stake { who, amount } => self.sign(*who, None, Action::Stake { amount: Amount(u128::from(*amount)) }),
            Op::Mint { amount } => {
                let to = self.keys[0].account();
                self.sign(0, None, Action::TestCredits { to, amount: Amount(u128::from(*amount)) })
            }
            Op::Lease { .. } | Op::Serve { .. } | Op::Wait { .. } | Op::Halt { .. } => return None,
        })
    }

    /// What someone sends about one lease, chosen among all that there are.
    fn about_lease(&mut self, op: &Op) -> Option<Envelope> {
        Some(match op {
            Op::Answer { pick, accept, with } => {
                let l = self.pick(*pick)?;
                let action = if *accept { Action::AcceptLease { lease: l.id } } else { Action::RejectLease { lease: l.id } };
                self.sign(*with, Some(&l), action)
            }
            Op::Report { pick, percent, confirmed } => {
                let l = self.pick(*pick)?;
                let started = l.started_at.or(l.accepted_at)?;
                let served = self.w.now.since(started).0 * percent / 100;
                return self.about_lease(&Op::Usage { pick: *pick, served, build: 0, confirmed: *confirmed, with: 4 });
            }
            Op::Usage { pick, served, build, confirmed, with } => {
                let l = self.pick(*pick)?;
                let started = l.started_at.or(l.accepted_at).unwrap_or(self.w.now);
                let mut usage = self.w.usage(&l.id, started, *served);
                usage.build_ms = Millis(*build).max(l.last.as_ref().map(|u| u.build_ms).unwrap_or_default());
                let user = self.keys.iter().find(|k| k.account() == l.account)?.clone();
                let node = self.node_of(&l);
                let (w_user, w_node) = (std::mem::replace(&mut self.w.user, user), std::mem::replace(&mut self.w.node, node));
                let action = self.w.signed(usage, *confirmed);
                (self.w.user, self.w.node) = (w_user, w_node);
                self.sign(*with, Some(&l), action)
            }
            Op::Close { pick, with, reason } => {
                let l = self.pick(*pick)?;
                let reason = match reason {
                    0 => EndReason::StoppedByUser,
                    1 => EndReason::ServiceStopped,
                    2 => EndReason::OutOfMemory,
                    _ => EndReason::Exited { code: 0 },
                };
                self.sign(*with, Some(&l), Action::CloseLease { lease: l.id, reason })
            }
            Op::Object { pick, with } => {
                let l = self.pick(*pick)?;
                self.sign(*with, Some(&l), Action::Object { lease: l.id })
            }
            Op::Extend { pick, with, millis } => {
                let l = self.pick(*pick)?;
                self.sign(*with, Some(&l), Action::Extend { lease: l.id, duration: Millis(*millis) })
            }
            _ => return None,
        })
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Wait { millis } => self.w.wait(*millis),
            Op::Lease { user, cores, millis, model } => {
                let (user, cores, millis, model) = (*user, *cores, *millis, *model);
                self.step(&Op::Place { user, cores, millis, price: 4, budget: 400_000_000, priority: 9, model });
                self.w.idle();
                for pick in 0..self.leases().len() {
                    if self.pick(pick).is_some_and(|l| l.state == LeaseState::Matched) {
                        self.step(&Op::Answer { pick, accept: true, with: 4 });
                    }
                }
            }
            Op::Serve { millis } => {
                let end = self.w.now.plus(Millis(*millis));
                while self.w.now < end {
                    self.w.wait(end.since(self.w.now).0.min(2_500));
                    for node in 0..self.nodes.len() {
                        self.step(&Op::Beat { node, back: 0, honest: true });
                    }
                }
            }
            Op::Halt { epochs } => {
                let ms = epochs * self.w.genesis.params.epoch.0;
                self.w.block(ms, &[]);
            }
            _ => {
                if let Some(envelope) = self.envelope(op) {
                    self.one_block(&envelope);
                }
            }
        }
    }

    /// A block with one transaction, whose writes are compared key by key.
    fn one_block(&mut self, envelope: &Envelope) {
        let ctx = self.w.ctx(7);
        begin_block(&mut self.w.state, &ctx);
        let before = self.w.state.clone();
        let tx = codec::encode(envelope);
        let admitted = admit(&before, ctx.now, &tx);
        let applied = apply(&mut self.w.state, &ctx, &tx, Signatures::Verify);
        let mut again = before.clone();
        assert_eq!(apply(&mut again, &ctx, &tx, Signatures::Verified), applied, "the outcome depends on the state only");
        assert_eq!(again, self.w.state);
        match &applied {
            Applied::Done { events, .. } => {
                assert!(admitted.is_ok());
                assert!(events.iter().all(|e| codec::decode::<Event>(&codec::encode(e), 1 << 16).as_ref() == Ok(e)));
            }
            Applied::Failed { .. } => only_fee_and_lane(&before, &self.w.state, envelope),
            Applied::NotIncludable { .. } => {
                assert!(admitted.is_err(), "what is admitted at the lane's next number can be included");
                assert_eq!(before, self.w.state);
            }
        }
        end_block(&mut self.w.state, &ctx);
        if let Err(violations) = check(&self.w.state) {
            panic!("{violations:#?}");
        }
    }

    /// Everybody goes home.
    fn drain(&mut self) {
        self.w.wait(1_000_000);
        assert_eq!(next_due(&self.w.state), Due::Never, "nothing is left to do");
        assert_eq!(query::counts(&self.w.state), Counts::default());
        for l in self.leases() {
            assert_eq!(l.state, LeaseState::Closed);
            let Some(s) = &l.settlement else { continue };
            // What an objection did not reach any more counts as if nobody had objected.
            let reach = if l.disputed { 2 * self.w.genesis.params.epoch.0 } else { u64::MAX };
            let counted = l.accepted_claim().served.0.max(l.last_claim().served.0.saturating_sub(reach));
            assert!(s.billed_ms.0 <= counted, "nothing is billed that nobody confirmed: {l:?}");
            let two_epochs = l.rate_per_hour.per_hour_for(2 * self.w.genesis.params.epoch.0).unwrap();
            assert!(s.withheld <= two_epochs.saturating_add(Amount(1)));
            assert_eq!((l.paid.provider, l.paid.model), (s.to_provider, s.to_model), "parts add up to the whole");
            assert_eq!(l.paid.treasury, s.to_treasury.saturating_add(s.withheld));
        }
        for account in &self.keys {
            for o in query::orders_of_account(&self.w.state, &account.account(), None, 500) {
                assert!(matches!(o.state, OrderState::Served { .. } | OrderState::Expired | OrderState::Cancelled), "{o:?}");
            }
        }
    }
}

/// The writes of a failed transaction: the payer's balance, the lane, the block's fee and tip pots, and how full it is.
fn only_fee_and_lane(before: &MemoryState, after: &MemoryState, envelope: &Envelope) {
    let payer = envelope.body.fee_payer.unwrap_or(envelope.body.account);
    let changed: Vec<_> = after.0.iter().filter(|(k, v)| before.0.get(*k) != Some(v)).map(|(k, _)| k.clone()).collect();
    let gone = before.0.keys().filter(|k| !after.0.contains_key(*k)).count();
    assert!(gone <= 1, "at most a balance that the fee used up");
    for k in changed {
        let fee_pot = k[0] == 1 && (k[1] == 5 || k[1] == 6);
        let balance = k[0] == 3 && k[1..33] == payer.0;
        let (lane, load) = (k[0] == 4, k[..] == [1, 0x55]);
        assert!(fee_pot || balance || lane || load, "a failed transaction wrote {k:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_survive_everybody(ops in proptest::collection::vec(op(), 1..120)) {
        let mut run = Run::new();
        for op in &ops {
            run.step(op);
        }
        run.drain();
    }
}

proptest! {
    #[test]
    fn decoding_random_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let w = World::new();
        prop_assert!(admit(&w.state, w.now, &bytes).is_err());
        prop_assert!(verify_stateless(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_never_panics_and_never_acts_for_somebody_else(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut w = World::new();
        let user = w.user.clone();
        let action = Action::Transfer { to: key(9).account(), asset: AssetId::CREDIT, amount: Amount(5) };
        let mut bytes = codec::encode(&w.body(user.account(), Auth::Single, vec![action]).sign(&user));
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != value);
        bytes[at] = value;
        let applied = w.block(10, &[bytes]).remove(0);
        let refused = matches!(applied, Applied::NotIncludable { .. });
        prop_assert!(refused, "{:?}", applied);
    }
}
