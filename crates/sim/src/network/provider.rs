//! What a provider's node does: joins, takes leases, serves or not, proves or not, claims, closes.
//!
//! Guarantees: it reads the ledger and writes transactions; what it does physically goes into [`super::town::Truth`]. Heartbeats are
//! really computed.

use super::agent::{Look, Mind};
use super::lock;
use super::town::{Service, Shared};
use super::user::Using;
use pasture_chain::sim::{Dice, Door};
use pasture_ledger::{Lease, query};
use pasture_types::lease::{Countersignature, EndReason, LeaseState, SignedUsage, Usage};
use pasture_types::market::{OfferTerms, Rates};
use pasture_types::proof::{HEARTBEAT_SHARES, Heartbeat, ResourceClass, heartbeat_seed, share_hash, threshold};
use pasture_types::tx::{Action, NodeDeclaration, node_registration_digest};
use pasture_types::{Amount, BlobHash, Millis, NodeId, Resources, SigningKey, Timestamp};
use std::sync::Arc;

/// Declared hashes a second of a core: the least that the ledger takes.
const CORE_HASHES: u64 = 1_000;
/// Nonces that a heartbeat is looked for among.
const MAX_NONCES: u64 = 1_000_000;
/// Jobs that a machine holds at once.
const SLOTS: u32 = 2;
const STAKE: Amount = Amount::credits(1_000);
/// Shortest and longest job.
const JOB_MS: (u64, u64) = (4_000, 30_000);
/// An account and a node each have their hand.
const OWNER: usize = 0;
const NODE: usize = 1;

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Serving {
    /// Serves, proves, claims what it served.
    Honest,
    /// Serves and saves the proofs.
    NoProof,
    /// Proves and claims, and serves nothing.
    Pretends,
    /// Takes leases and does nothing at all.
    Stalls,
    /// Stops early and claims the whole job.
    StopsEarly,
    /// Sends what must be refused: others' leases, forged confirmations, claims of the future, the same twice.
    Forges,
}

impl Serving {
    pub(super) const ALL: [Self; 5] = [Self::NoProof, Self::Pretends, Self::Stalls, Self::StopsEarly, Self::Forges];

    const fn proves(self) -> bool {
        !matches!(self, Self::NoProof | Self::Stalls)
    }
}

/// What an order asks and a machine has.
pub(super) fn machine(times: u32) -> Resources {
    Resources { cpu_millis: 1_000 * times, memory_bytes: u64::from(times) << 30, ..Resources::default() }
}

/// A provider with one node.
pub(super) struct Provider {
    serving: Serving,
    account: pasture_types::AccountId,
    key: SigningKey,
    node: NodeId,
    rates: Rates,
    shared: Arc<Shared>,
    dice: Dice,
}

impl Provider {
    pub(super) fn new(serving: Serving, provider: &SigningKey, key: SigningKey, ppm: u128, shared: Arc<Shared>, dice: Dice) -> Self {
        let rates = Rates { cpu_core: Amount(1_000 * ppm), memory_gib: Amount(100 * ppm), ..Rates::default() };
        Self { serving, account: provider.account(), node: key.node_id(), key, rates, shared, dice }
    }

    fn join(&self) -> Vec<Action> {
        let resources = machine(SLOTS);
        let declaration = NodeDeclaration {
            resources: resources.clone(),
            cpu_hashes_per_s: CORE_HASHES,
            cpu_model: "simulated".into(),
            arch: "x86_64".into(),
        };
        let digest = node_registration_digest(&self.shared.genesis.zone(), &self.account, &self.node, &declaration);
        let terms = OfferTerms {
            resources,
            rates: self.rates.clone(),
            region: "here".into(),
            max_duration: Millis(3_600_000),
            ..OfferTerms::default()
        };
        vec![
            Action::RegisterProvider { name: "simulated".into() },
            Action::RegisterNode { node: self.node, declaration, node_signature: self.key.sign(&digest) },
            Action::Stake { amount: STAKE },
            Action::PutOffer { node: self.node, number: 0, terms: Box::new(terms) },
        ]
    }

    /// How long the job of a lease takes: of its order, so that every match of it is the same job.
    fn job(&self, lease: &Lease) -> Millis {
        let word = lease.order.0.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        Millis((JOB_MS.0 + word % (JOB_MS.1 - JOB_MS.0)) * self.shared.slowness)
    }

    /// What it serves under a lease, from the first look at it on.
    fn service(&self, lease: &Lease, now: Timestamp) -> Service {
        let job = self.job(lease);
        let really = match self.serving {
            Serving::Pretends | Serving::Stalls => Millis(0),
            Serving::StopsEarly => Millis(job.0 / 2),
            Serving::Honest | Serving::NoProof | Serving::Forges => job,
        };
        let mut truth = lock(&self.shared.truth);
        *truth.entry(lease.id).or_insert_with(|| {
            let started = now.max(lease.accepted_at.unwrap_or(now));
            Service { started, until: started.plus(really) }
        })
    }

    /// Usage up to a time as it states it, with whatever confirmation it gets.
    fn usage(&self, lease: &Lease, service: &Service, now: Timestamp) -> Option<Action> {
        let end = lease.closing.as_ref().map_or(now, |c| c.at.min(now));
        let job = self.job(lease);
        let claimed = match self.serving {
            Serving::Pretends | Serving::StopsEarly => end.since(service.started).min(job),
            _ => service.served(end),
        };
        let claimed = claimed.min(lease.max_duration);
        if claimed.0 == 0 || lease.last_claim().served >= claimed {
            return None;
        }
        Some(self.state(lease, service, claimed, now))
    }

    fn state(&self, lease: &Lease, service: &Service, claimed: Millis, now: Timestamp) -> Action {
        let params = &self.shared.genesis.params;
        let epoch = service.started.plus(claimed).since(self.shared.genesis.time).0 / params.epoch.0;
        let usage = Usage {
            lease: lease.usage_id(),
            generation: 1,
            epoch,
            started: service.started,
            served_ms: claimed,
            build_ms: Millis(0),
            log_root: BlobHash([0; 32]),
            log_bytes: 0,
            steal_ms: Millis(0),
        };
        let countersignature = self.confirmation(lease, service, &usage, now);
        let node_signature = self.key.sign(&usage.digest());
        Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: self.node, node_signature, countersignature }) }
    }

    /// A user signs what it saw.
    fn confirmation(&self, lease: &Lease, service: &Service, usage: &Usage, now: Timestamp) -> Option<Countersignature> {
        let user = self.shared.users.get(&lease.account)?;
        let seen = usage.served_ms.0 <= service.served(now).0;
        let by = match (user.using, self.serving) {
            (Using::Attentive | Using::Impatient, _) if seen => &user.key,
            // Somebody else's signature under the user's name.
            (_, Serving::Forges) => &self.key,
            _ => return None,
        };
        Some(Countersignature { account: lease.account, key: user.key.public(), signature: by.sign(&usage.counter_digest()) })
    }

    /// The oldest period that it can still prove and has not.
    fn heartbeat(&self, look: &Look<'_>, leases: &[Lease]) -> Option<Action> {
        if !self.serving.proves() || !leases.iter().any(|l| l.state != LeaseState::Matched) {
            return None;
        }
        let epoch = query::open_epochs(look.state).into_iter().find(|e| {
            let open = query::clock(look.state).shifted() <= e.deadline_shifted;
            open && !query::has_heartbeat(look.state, &self.node, e.number)
        })?;
        let number = if self.serving == Serving::Forges && self.dice.percent(10) { epoch.number + 1 } else { epoch.number };
        let seed = heartbeat_seed(&epoch.randomness.0, &self.node, ResourceClass::Cpu, 0, number);
        let limit = threshold(CORE_HASHES, self.shared.genesis.params.heartbeat_work);
        let mut found: Vec<(u64, u64)> =
            (0..MAX_NONCES).map(|n| (share_hash(&seed, n), n)).filter(|(hash, _)| *hash <= limit).take(HEARTBEAT_SHARES).collect();
        found.sort_unstable();
        let nonces = found.into_iter().map(|(_, n)| n).collect();
        Some(Action::SubmitHeartbeat {
            heartbeat: Heartbeat { node: self.node, class: ResourceClass::Cpu, device: 0, epoch: number, nonces },
        })
    }

    /// What is to be done for one lease, if anything.
    fn tend(&self, lease: &Lease, now: Timestamp) -> Option<Vec<Action>> {
        let id = lease.id;
        if lease.state == LeaseState::Matched {
            let refuses = self.dice.percent(3);
            return Some(vec![if refuses { Action::RejectLease { lease: id } } else { Action::AcceptLease { lease: id } }]);
        }
        if self.serving == Serving::Stalls {
            return None;
        }
        let service = self.service(lease, now);
        let over = now >= service.started.plus(self.job(lease));
        match lease.state {
            LeaseState::Accepted | LeaseState::Running if over => {
                let mut actions: Vec<Action> = self.usage(lease, &service, now).into_iter().collect();
                actions.push(Action::CloseLease { lease: id, reason: EndReason::Exited { code: 0 } });
                Some(actions)
            }
            // Now and then before the end.
            LeaseState::Accepted | LeaseState::Running if self.dice.percent(8) => self.usage(lease, &service, now).map(|usage| vec![usage]),
            LeaseState::Closing if lease.closing.as_ref().is_some_and(|c| !c.complete) => match self.usage(lease, &service, now) {
                // Apart, so that a usage that comes too late does not keep the rest from being said.
                Some(usage) if self.dice.percent(50) => Some(vec![usage]),
                _ => Some(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByUser }]),
            },
            _ => None,
        }
    }

    /// Something that the ledger must refuse.
    fn forge(&self, look: &Look<'_>, leases: &[Lease]) -> Option<(usize, Vec<Action>)> {
        let others = lock(&self.shared.truth).keys().next_back().copied();
        let action = match (self.dice.below(4), leases.iter().find(|l| l.is_live())) {
            (0, _) => Action::AcceptLease { lease: others? },
            (1, _) => Action::CloseLease { lease: others?, reason: EndReason::Exited { code: 0 } },
            (2, Some(lease)) => {
                let service = self.service(lease, look.now);
                self.state(lease, &service, Millis(look.now.since(service.started).0 + 60_000), look.now)
            }
            (3, Some(lease)) => {
                let service = self.service(lease, look.now);
                self.state(lease, &service, lease.last_claim().served, look.now)
            }
            _ => return None,
        };
        Some((NODE, vec![action]))
    }
}

impl Mind for Provider {
    fn pace(&self) -> (u64, u64) {
        // A node that is away for a while: what it misses costs it, and nobody else.
        let (low, high) = if self.dice.below(1_000) < 4 { (4_000, 20_000) } else { (300, 1_500) };
        (low * self.shared.slowness, high * self.shared.slowness)
    }

    fn decide(&mut self, look: &Look<'_>, _: &Door) -> Option<(usize, Vec<Action>)> {
        if query::node(look.state, &self.node).is_none() {
            return Some((OWNER, self.join()));
        }
        let leases = query::open_leases_of_node(look.state, &self.node);
        if self.serving == Serving::Forges && self.dice.percent(15) {
            return self.forge(look, &leases);
        }
        let fresh = leases.iter().filter(|l| l.state == LeaseState::Matched).find_map(|l| self.tend(l, look.now));
        if let Some(actions) = fresh {
            return Some((NODE, actions));
        }
        if let Some(heartbeat) = self.heartbeat(look, &leases) {
            return Some((NODE, vec![heartbeat]));
        }
        leases.iter().filter(|l| l.state != LeaseState::Matched).find_map(|l| self.tend(l, look.now)).map(|actions| (NODE, actions))
    }
}
