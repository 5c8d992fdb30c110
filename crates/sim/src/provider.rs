//! What providers do: join, take leases, serve or not, prove or not, claim, leave.
//!
//! Guarantees: each strategy acts through transactions that the ledger may refuse. What it does physically goes into
//! [`Service`], which only its user can see.

use crate::chain::Signer;
use crate::config::{self, CORE_HASHES};
use crate::strategy::{Serving, Using};
use crate::world::{Service, Wake, World, seed_of};
use pasture_ledger::query;
use pasture_types::audit::{AuditAction, HeartbeatBundle, MAX_BUNDLED_EPOCHS, PackedShares};
use pasture_types::event::{ConfirmedBy, Settlement};
use pasture_types::lease::{Countersignature, EndReason, SignedUsage, Usage};
use pasture_types::market::OfferTerms;
use pasture_types::proof::{HEARTBEAT_SHARES, ResourceClass, heartbeat_seed, share_hash, threshold};
use pasture_types::stake::DepositAction;
use pasture_types::tx::{Action, NodeDeclaration, node_registration_digest};
use pasture_types::{Amount, AssetId, BlobHash, LeaseId, Millis, NodeId, Timestamp};

/// Accounts that a provider buys from itself with.
pub const OTHER_NAMES: usize = 12;
/// What each of them has: enough for fees of `pair_cap`.
pub const OTHER_NAME_PURSE: Amount = Amount::credits(120);
/// A provider that pretends begins anew after so many disputes.
const DISPUTES_UNTIL_NEW_NAME: u32 = 10;
/// Epochs between two ticks: a bundle's.
const TICK_EPOCHS: u64 = MAX_BUNDLED_EPOCHS as u64;
/// Every so many ticks a node reports usage: two interim periods.
const TICKS_PER_USAGE: u64 = 6;
/// Nonces that a heartbeat is looked for among before it is given up: thousands of times what is expected.
const MAX_NONCES: u64 = 1_000_000;

impl World {
    /// Registers a provider's account of now with its node and offer.
    pub fn join_as_provider(&mut self, at: usize) {
        let Some(n) = self.nodes.get(at) else { return };
        let times = if n.serving == Serving::OverClaim { 2 } else { 1 };
        let resources = config::machine(times);
        let declaration = NodeDeclaration {
            resources: resources.clone(),
            cpu_hashes_per_s: CORE_HASHES,
            cpu_model: "simulated".into(),
            arch: "x86_64".into(),
        };
        let node = n.node.node_id();
        let digest = node_registration_digest(&self.chain.zone, &n.provider.account, &node, &declaration);
        let terms = OfferTerms {
            resources,
            rates: config::list_rates(n.price_ppm),
            region: config::region(at as u64),
            max_duration: Millis(config::DAY_MS),
            ..OfferTerms::default()
        };
        let mut actions = vec![
            Action::RegisterProvider { name: format!("provider {at}.{}", n.name) },
            Action::RegisterNode { node, declaration, node_signature: n.node.key.sign(&digest) },
            Action::Stake { amount: config::zone_params().min_stake },
            Action::PutOffer { node, number: 0, terms: Box::new(terms) },
        ];
        if n.name > 0 {
            actions.insert(0, Action::RegisterAccount { keys: vec![n.provider.public()], threshold: 1 });
        }
        let signer = n.provider.clone();
        self.chain.send(&signer, actions);
    }

    /// A node that was drawn takes the lease, whatever it means to do with it.
    pub fn accept(&mut self, at: usize, lease: LeaseId) {
        if let Some(n) = self.nodes.get(at) {
            let signer = n.node.clone();
            self.chain.send(&signer, vec![Action::AcceptLease { lease }]);
        }
    }

    /// A lease was taken: what will really happen under it is decided here.
    pub fn taken(&mut self, at: usize, user: usize, id: LeaseId, now: Timestamp) {
        let Some(lease) = query::lease(&self.chain.state, &id) else { return };
        let (Some(serving), Some(u)) = (self.nodes.get(at).map(|n| n.serving), self.users.get(user)) else { return };
        let (job, using) = (u.job.0.max(60_000), u.using);
        // With its own other names a provider settles on paper only.
        let pretends = serving.pretends() || serving == Serving::Stall || using == Using::Sybil;
        let until = if pretends { now } else { now.plus(Millis(job)) };
        let service = Service {
            node: at,
            user,
            rate: lease.rate_per_hour,
            started: now,
            until,
            max: lease.max_duration,
            looked: now,
            ended: false,
            closed: None,
            objected: false,
            speed_ppm: 1_000_000,
        };
        self.services.insert(id, service);
        let (epoch, length) = (self.epoch_of(now), self.epoch().0);
        if let Some(n) = self.nodes.get_mut(at) {
            n.open.insert(id);
            // What was refused for want of a lease is sent again.
            let known = query::has_heartbeat(&self.chain.state, &n.node.node_id(), epoch);
            n.prove_from = if known || n.open.len() > 1 { n.prove_from } else { epoch };
        }
        let ends = if using == Using::Sybil || !pretends { now.plus(Millis(job)) } else { now.plus(lease.max_duration) };
        match serving {
            Serving::Stall => {}
            Serving::StopEarly => {
                let epochs = 1 + self.dice.below((job / length).max(1));
                let last = pasture_types::Timestamp(crate::world::START.0 + (epoch + epochs) * length);
                let stop = Timestamp(last.0.saturating_sub(5_000)).min(ends);
                self.wake_exactly(stop, Wake::Stop(at, id));
            }
            _ => self.wake(ends, Wake::Done(at, id)),
        }
        self.share_speed(at);
        self.start_ticking(at, now);
        self.served_from(user, id, pretends && using != Using::Sybil, now);
    }

    /// Two leases on one real machine run at half speed each.
    fn share_speed(&mut self, at: usize) {
        let Some(n) = self.nodes.get(at).filter(|n| n.serving == Serving::OverClaim) else { return };
        let live: Vec<LeaseId> = n.open.iter().filter(|l| self.services.get(l).is_some_and(|s| s.closed.is_none())).copied().collect();
        let speed = 1_000_000 / live.len().max(1) as u128;
        for id in live {
            if let Some(s) = self.services.get_mut(&id) {
                s.speed_ppm = s.speed_ppm.min(speed);
            }
        }
    }

    fn start_ticking(&mut self, at: usize, now: Timestamp) {
        let round = self.epoch().0 * TICK_EPOCHS;
        let Some(n) = self.nodes.get_mut(at).filter(|n| !n.ticking) else { return };
        n.ticking = true;
        let since = now.since(crate::world::START).0;
        let next = (since.saturating_sub(n.phase.0)) / round * round + n.phase.0;
        let next = if next > since { next } else { next + round };
        self.wake(crate::world::START.plus(Millis(next)), Wake::Tick(at));
    }

    /// A node's regular work while it has leases: proofs of up to five epochs, and usage.
    pub fn tick(&mut self, at: usize, now: Timestamp) {
        let round = self.epoch().0 * TICK_EPOCHS;
        let Some(n) = self.nodes.get_mut(at) else { return };
        n.ticks += 1;
        if n.open.is_empty() {
            n.ticking = false;
            return;
        }
        // Who pretends claims at once what could ripen.
        let reports = n.serving.pretends() || n.ticks.is_multiple_of(TICKS_PER_USAGE);
        let open: Vec<LeaseId> = n.open.iter().copied().collect();
        let reports = reports && n.serving != Serving::Stall;
        self.prove(at, self.epoch_of(now));
        if reports {
            for id in open {
                if self.services.get(&id).is_some_and(|s| s.closed.is_none() && !s.ended) {
                    self.report(at, id, now, vec![]);
                }
            }
        }
        self.wake(now.plus(Millis(round)), Wake::Tick(at));
    }

    /// Sends the proofs of all epochs up to one that are not sent yet and can still be taken.
    fn prove(&mut self, at: usize, to: u64) {
        let Some(n) = self.nodes.get(at).filter(|n| n.serving.proves()) else { return };
        // The epoch of a block that is not made yet has no randomness yet.
        let to = to.min(self.epoch_of(self.chain.now));
        let grace = config::zone_params().heartbeat_grace_epochs;
        let mut from = n.prove_from.max(to.saturating_sub(grace));
        let signer = n.node.clone();
        while from <= to {
            let last = to.min(from + TICK_EPOCHS - 1);
            let node = signer.node_id();
            let shares: Vec<PackedShares> = (from..=last).map(|e| self.shares(&node, e)).collect();
            self.tally.proved(at, shares.iter().filter(|s| !s.0.is_empty()).count() as u64);
            let bundle = HeartbeatBundle { node, class: ResourceClass::Cpu, device: 0, first: from, shares };
            self.chain.send(&signer, vec![Action::Audit(Box::new(AuditAction::Heartbeats(bundle)))]);
            from = last + 1;
        }
        if let Some(n) = self.nodes.get_mut(at) {
            n.prove_from = n.prove_from.max(to + 1);
        }
    }

    /// A heartbeat that the ledger takes: the first sixteen nonces below the threshold. It computes as little as it can; that
    /// an honest node computes more is in [`config::costs`].
    fn shares(&self, node: &NodeId, epoch: u64) -> PackedShares {
        let Some(randomness) = query::epoch_randomness(&self.chain.state, epoch) else { return PackedShares::default() };
        let seed = heartbeat_seed(&randomness, node, ResourceClass::Cpu, 0, epoch);
        let limit = threshold(CORE_HASHES, config::zone_params().heartbeat_work);
        let good: Vec<u64> = (0..MAX_NONCES).filter(|n| share_hash(&seed, *n) <= limit).take(HEARTBEAT_SHARES).collect();
        PackedShares::pack(&good).unwrap_or_default()
    }

    /// Sends usage of all that the node says it served, with whatever confirmation it gets, and further actions.
    fn report(&mut self, at: usize, id: LeaseId, now: Timestamp, more: Vec<Action>) {
        let (Some(n), Some(service)) = (self.nodes.get(at), self.services.get(&id)) else { return };
        let end = service.closed.map_or(now, |c| c.min(now));
        let claimed = match n.serving {
            _ if n.serving.pretends() || self.is_paper(service) => end.since(service.started),
            // It says that it served the epoch to its end.
            Serving::StopEarly if service.ended => Millis(service.served(end).0 + 5_000).min(end.since(service.started)),
            _ => service.served(end),
        };
        let claimed = claimed.min(service.max);
        if claimed.0 == 0 {
            return;
        }
        let usage = Usage {
            lease: id,
            generation: 1,
            epoch: self.epoch_of(service.started.plus(claimed)),
            started: service.started,
            served_ms: claimed,
            build_ms: Millis(0),
            log_root: BlobHash([0; 32]),
            log_bytes: 0,
            steal_ms: Millis(0),
        };
        let countersignature = self.confirmation(service, &usage, now);
        let node_signature = n.node.key.sign(&usage.digest());
        let signed = SignedUsage { usage, node: n.node.node_id(), node_signature, countersignature };
        let mut actions = vec![Action::SubmitUsage { usage: Box::new(signed) }];
        actions.extend(more);
        let signer = n.node.clone();
        self.chain.send(&signer, actions);
    }

    fn is_paper(&self, service: &Service) -> bool {
        self.users.get(service.user).is_some_and(|u| u.using == Using::Sybil)
    }

    /// What a node gets when it asks for a countersignature: whoever is asked signs what it saw.
    fn confirmation(&self, service: &Service, usage: &Usage, now: Timestamp) -> Option<Countersignature> {
        let user = self.users.get(service.user)?;
        let seen = usage.served_ms.0 <= service.served(now).0 + 2_000;
        let by = match user.using {
            Using::Attentive if seen => &user.signer,
            Using::Sybil => &user.signer,
            Using::Watched if seen => self.watching(service, usage, now)?,
            Using::Deceived => {
                let lies = self.nodes.get(service.node).is_some_and(|n| n.serving == Serving::LyingWatcher);
                if !(seen || lies) {
                    return None;
                }
                self.watching(service, usage, now)?
            }
            _ => return None,
        };
        Some(Countersignature { account: by.account, key: by.public(), signature: by.key.sign(&usage.counter_digest()) })
    }

    /// The watcher of a lease, if it may still confirm that much today.
    fn watching(&self, service: &Service, usage: &Usage, now: Timestamp) -> Option<&Signer> {
        let lease = query::lease(&self.chain.state, &usage.lease)?;
        let today = now.0 / config::DAY_MS;
        let used = if lease.watched.day == today { lease.watched.used.0 } else { 0 };
        let more = usage.served_ms.0.saturating_sub(lease.accepted_claim().served.0);
        let watcher = self.users.get(service.user).and_then(|u| self.watchers.get(u.watcher))?;
        (used + more <= config::zone_params().service.watcher_per_day.0).then_some(&watcher.signer)
    }

    /// The job is over, or the cap of a lease that never had one.
    pub fn done(&mut self, at: usize, id: LeaseId, now: Timestamp) {
        let Some(service) = self.services.get_mut(&id).filter(|s| s.closed.is_none() && !s.ended) else { return };
        service.ended = true;
        self.prove(at, self.epoch_of(now));
        let close = Action::CloseLease { lease: id, reason: EndReason::Exited { code: 0 } };
        self.report(at, id, now, vec![close]);
    }

    /// It serves no more from five seconds before an epoch's end on and says that the job ended with the epoch.
    pub fn stop_early(&mut self, at: usize, id: LeaseId, now: Timestamp) {
        let Some(service) = self.services.get_mut(&id).filter(|s| s.closed.is_none()) else { return };
        if service.ended || service.until <= now {
            self.done(at, id, now);
            return;
        }
        service.until = now;
        self.wake_exactly(now.plus(Millis(5_000)), Wake::Done(at, id));
    }

    /// A lease is closing: its node says and proves the rest.
    pub fn closing(&mut self, at: usize, user: usize, id: LeaseId, now: Timestamp) {
        let Some(service) = self.services.get_mut(&id) else { return };
        service.closed = Some(now);
        service.until = service.until.min(now);
        let ended = service.ended;
        let Some(serving) = self.nodes.get(at).map(|n| n.serving) else { return };
        self.prove(at, self.epoch_of(now));
        if !ended && serving != Serving::Stall {
            // Apart, so that a usage that says nothing new does not keep the close from being said.
            self.report(at, id, now, vec![]);
            if let Some(n) = self.nodes.get(at) {
                let signer = n.node.clone();
                self.chain.send(&signer, vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByUser }]);
            }
        }
        self.share_speed(at);
        self.lease_ended(user, id, now);
    }

    /// After a settlement: reputation-minded providers count.
    pub fn after_settlement(&mut self, at: usize, service: &Service, settlement: &Settlement, now: Timestamp) {
        let disputed = matches!(settlement.confirmed_by, ConfirmedBy::Objection | ConfirmedBy::Evidence(_));
        let Some(n) = self.nodes.get_mut(at) else { return };
        n.disputes += u32::from(disputed);
        let rename = n.serving == Serving::Whitewash && n.disputes >= DISPUTES_UNTIL_NEW_NAME && n.open.is_empty();
        if rename {
            n.disputes = 0;
            self.wake(now, Wake::Rename(at));
        }
        self.paper_settled(service, now);
    }

    /// Takes its deposit back, as far as that goes, and begins anew with new keys.
    pub fn rename(&mut self, at: usize, now: Timestamp) {
        let stake = config::zone_params().min_stake;
        let needs = stake.saturating_add(Amount::credits(5));
        let Some(n) = self.nodes.get(at) else { return };
        let balance = self.balance(&n.provider.account);
        if balance < needs || !n.open.is_empty() || !self.is_open() {
            return;
        }
        let old = n.provider.clone();
        let name = n.name + 1;
        let number = (at as u64) << 16 | u64::from(name);
        let provider = Signer::account(seed_of("further provider", number));
        let node = Signer::node(seed_of("further node", number), provider.account);
        let offer = pasture_types::tx::offer_id(&n.node.node_id(), 0);
        let rest = balance.saturating_sub(Amount::credits(1));
        self.chain.send(&old, vec![Action::WithdrawOffer { offer }]);
        self.chain.send(&old, vec![Action::Deposit(DepositAction::Unbond { amount: stake })]);
        self.chain.send(&old, vec![Action::Transfer { to: provider.account, asset: AssetId::CREDIT, amount: rest }]);
        self.node_by_id.insert(node.node_id(), at);
        let epoch = self.epoch_of(now);
        if let Some(n) = self.nodes.get_mut(at) {
            n.accounts.push(provider.account);
            (n.provider, n.node, n.name, n.prove_from) = (provider, node, name, epoch);
        }
        self.join_as_provider(at);
    }
}
