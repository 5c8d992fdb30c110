//! Who there is in a run: a seed chooses the zone's rules, providers and users, honest and dishonest, and operators of validators.
//!
//! Guarantees: everybody is an account of the genesis and acts through transactions. What is really served under a lease is known to
//! [`Truth`] alone; a node's user sees of it what a check would show.

use super::agent::{Hand, live};
use super::bugs::{Bug, Wrong};
use super::machine::{Sharing, Verified};
use super::model::{Counts, Ledger, Opinion};
use super::operator::Operator;
use super::provider::{Provider, Serving};
use super::user::{User, Using};
use super::{Options, lock};
use pasture_chain::Machine;
use pasture_chain::sim::{BEGIN, Dice, Door, Founders, Life, Model, Newcomer, Scenario};
use pasture_machine::LedgerMachine;
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::governance::FeeParams;
use pasture_types::keys::Signature;
use pasture_types::validator::{ValidatorParams, validator_consent_digest};
use pasture_types::{AccountId, Amount, LeaseId, Millis, SigningKey, Timestamp, ZoneId, ids};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The ledger begins so long before the run.
const BEFORE: u64 = 60_000;
/// Everybody begins with so much.
const PURSE: Amount = Amount::credits(100_000);
/// Most nodes of a run.
const MAX_NODES: usize = 100;
/// How many times as long as in the busiest runs people wait between two looks in the calmest.
const MOST_LEISURE: u64 = 4;
/// How many times as slow as in the quickest runs everything on the ledger goes (epochs, terms, windows, jobs, looks), every factor about as often: the
/// network and its faults are as quick as ever, so that they strike once in many epochs, or many times in one.
const SLOWNESS: [u64; 7] = [1, 2, 3, 4, 6, 8, 12];
/// A run lasts at least so long for each of that, in virtual seconds: some twenty epochs.
const SECONDS_OF_SLOWNESS: u64 = 80;
/// Paid leases, accepted after the faults, that a run must see before it ends.
const MORE_PAID: u64 = 2;
/// How long that may take: an order that is drawn again and again, a job, its windows.
const RECOVERY: Duration = Duration::from_secs(180);

/// A seed for a key by what it is of.
fn seed_of(what: &str, number: usize) -> [u8; 32] {
    ids::derive("pasture network simulation key", &[what.as_bytes(), &(number as u64).to_be_bytes()])
}

/// What really happens under a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// When the node says that it began.
    pub(super) started: Timestamp,
    /// When service really ends: with `started`, if there is none at all.
    pub(super) until: Timestamp,
}

impl Service {
    /// How long it was really served by a time.
    pub(super) fn served(&self, at: Timestamp) -> Millis {
        at.min(self.until).since(self.started)
    }
}

/// What only the world knows.
pub(super) type Truth = Mutex<BTreeMap<LeaseId, Service>>;

/// A user as its node reaches it.
pub(super) struct Reachable {
    pub(super) key: SigningKey,
    pub(super) using: Using,
}

/// What everybody shares.
pub(super) struct Shared {
    pub(super) genesis: Genesis,
    pub(super) truth: Truth,
    pub(super) users: BTreeMap<AccountId, Reachable>,
    pub(super) accounts: Vec<AccountId>,
    /// One of [`SLOWNESS`].
    pub(super) slowness: u64,
}

enum Person {
    Provider { serving: Serving, provider: SigningKey, node: Box<SigningKey>, ppm: u128 },
    User { using: Using, key: SigningKey },
    Operator { key: SigningKey, validator: [u8; 32], registers: Option<Newcomer> },
}

/// A zone with its people.
pub(super) struct Town {
    shared: Arc<Shared>,
    people: Vec<Person>,
    ledger: Arc<Mutex<Ledger>>,
    verified: Verified,
    bug: Option<Bug>,
    nodes: usize,
    leisure: u64,
}

fn one_of<T: Copy>(dice: &Dice, all: &[T]) -> Option<T> {
    all.get(dice.index(all.len())).copied()
}

fn providers(dice: &Dice, nodes: usize) -> Vec<Person> {
    let one = |n: usize| Person::Provider {
        // Two are honest, or nothing could be asked of the end.
        serving: if n < 2 || dice.percent(60) { Serving::Honest } else { one_of(dice, &Serving::ALL).unwrap_or(Serving::Honest) },
        provider: SigningKey::from_seed(seed_of("provider", n)),
        node: Box::new(SigningKey::from_seed(seed_of("node", n))),
        ppm: u128::from(dice.range(800_000, 1_200_000)),
    };
    (0..nodes).map(one).collect()
}

fn users(dice: &Dice, count: usize) -> Vec<Person> {
    let one = |n: usize| Person::User {
        using: if n < 2 || dice.percent(60) { Using::Attentive } else { one_of(dice, &Using::ALL).unwrap_or(Using::Attentive) },
        key: SigningKey::from_seed(seed_of("user", n)),
    };
    (0..count).map(one).collect()
}

/// How slowly everything on the ledger goes in a run of so many seconds.
fn slowness(dice: &Dice, seconds: u64) -> u64 {
    let borne: Vec<u64> = SLOWNESS.into_iter().filter(|slow| slow * SECONDS_OF_SLOWNESS <= seconds).collect();
    if borne.len() > 1 { one_of(dice, &borne).unwrap_or(1) } else { 1 }
}

/// A development zone's rules, some of them chosen.
fn params(dice: &Dice, validators: usize, elects: bool, slowness: u64) -> Params {
    let second = 1_000 * slowness;
    let epoch = Millis(dice.range(4, 10) * second);
    let most = validators.saturating_sub(1).max(4);
    let seats = if elects { dice.range(4, most as u64) } else { 1 };
    Params {
        epoch,
        accept_window: Millis(dice.range(2_000, 8_000) * slowness),
        start_window: Millis(60 * second),
        fees: FeeParams { adaptive: dice.percent(50), ..FeeParams::dev() },
        validators: ValidatorParams {
            seats: u32::try_from(seats).unwrap_or(1),
            term: Millis(dice.range(10, 60) * second),
            unbond_delay: Millis(20 * second),
            ..ValidatorParams::dev()
        },
        ..Params::dev()
    }
}

/// What an operator shows to register whoever joins.
fn registration(newcomer: &Newcomer, operator: &SigningKey, zone: &ZoneId) -> (GenesisValidator, Signature) {
    let Newcomer { validator: v, secret } = newcomer;
    let consent = SigningKey::from_seed(*secret).sign(&validator_consent_digest(zone, &operator.account(), &v.key, &v.bls_key));
    (GenesisValidator { key: v.key, bls_key: v.bls_key.clone(), bls_pop: v.bls_pop.clone(), operator: operator.account() }, consent)
}

impl Town {
    pub(super) fn new(founders: Founders, options: &Options) -> Self {
        let Founders { validators, may_rotate, newcomer, dice, .. } = founders;
        // Most runs are small and a few are not: faults need time, not people.
        let chosen = if dice.percent(4) { dice.range(30, MAX_NODES as u64) } else { dice.range(3, 16) };
        let nodes = options.nodes.unwrap_or(usize::try_from(chosen).unwrap_or(3)).clamp(2, MAX_NODES);
        let slowness = slowness(&dice, options.seconds);
        let leisure = dice.range(1, MOST_LEISURE) * slowness;
        let mut people = providers(&dice, nodes);
        people.extend(users(&dice, nodes / 2 + 2));
        let mut members: Vec<GenesisValidator> = Vec::new();
        for (n, v) in validators.iter().enumerate() {
            let key = SigningKey::from_seed(seed_of("operator", n));
            members.push(GenesisValidator { key: v.key, bls_key: v.bls_key.clone(), bls_pop: v.bls_pop.clone(), operator: key.account() });
            if may_rotate {
                people.push(Person::Operator { key, validator: v.key, registers: None });
            }
        }
        // In half of the runs whoever joins stands for election too.
        if let Some(newcomer) = newcomer.filter(|_| may_rotate && dice.percent(50)) {
            let key = SigningKey::from_seed(seed_of("operator", validators.len()));
            people.push(Person::Operator { key, validator: newcomer.validator.key, registers: Some(newcomer) });
        }
        members.sort_by_key(|v| v.key);
        let genesis = Genesis {
            name: "simulated network".into(),
            time: Timestamp(BEGIN - BEFORE),
            rules_version: RULES_VERSION,
            params: params(&dice, validators.len(), may_rotate, slowness),
            validators: members,
            accounts: people.iter().map(|person| GenesisAccount { key: person.key().public(), balance: PURSE }).collect(),
            assets: vec![],
        };
        let reachable = |person: &Person| match person {
            Person::User { using, key } => Some((key.account(), Reachable { key: key.clone(), using: *using })),
            Person::Provider { .. } | Person::Operator { .. } => None,
        };
        let users = people.iter().filter_map(reachable).collect();
        let accounts = people.iter().map(|person| person.key().account()).collect();
        let ledger = Arc::new(Mutex::new(Ledger::new(&genesis, options.bug)));
        let shared = Arc::new(Shared { genesis, truth: Mutex::default(), users, accounts, slowness });
        Self { shared, people, ledger, verified: Verified::default(), bug: options.bug, nodes, leisure }
    }

    pub(super) const fn nodes(&self) -> usize {
        self.nodes
    }

    pub(super) fn elects(&self) -> bool {
        self.shared.genesis.params.validators.seats >= 4
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.ledger).counts.clone()
    }
}

impl Person {
    const fn key(&self) -> &SigningKey {
        match self {
            Self::Provider { provider: key, .. } | Self::User { key, .. } | Self::Operator { key, .. } => key,
        }
    }
}

impl Scenario for Town {
    fn zone(&self) -> ([u8; 32], u64) {
        (self.shared.genesis.zone().0, self.shared.genesis.time.0)
    }

    fn machine(&self) -> Arc<dyn Machine> {
        let ledger = Arc::new(LedgerMachine::new(self.shared.genesis.clone()));
        let machine = Arc::new(Sharing { inner: ledger, verified: Arc::clone(&self.verified) });
        match self.bug {
            None => machine,
            Some(bug) => Arc::new(Wrong::new(machine, bug)),
        }
    }

    fn model(&self) -> Box<dyn Model> {
        Box::new(Opinion(Arc::clone(&self.ledger)))
    }

    fn clients(&self) -> usize {
        self.people.len()
    }

    fn live(&self, client: usize, door: Door) -> Life {
        let leisure = self.leisure;
        let (shared, zone, dice) = (Arc::clone(&self.shared), self.shared.genesis.zone(), door.dice().clone());
        let ledger = Arc::clone(&self.ledger);
        let of = |key: &SigningKey| Hand::of_account(key.clone(), key.account(), zone);
        match self.people.get(client) {
            Some(Person::Provider { serving, provider, node, ppm }) => {
                let hands = vec![of(provider), Hand::of_node(node.as_ref().clone(), provider.account(), node.node_id(), zone)];
                let mind = Provider::new(*serving, provider, node.as_ref().clone(), *ppm, shared, dice);
                Box::pin(live(door, Box::new(mind), hands, ledger))
            }
            Some(Person::User { using, key }) => {
                Box::pin(live(door, Box::new(User::new(*using, key.account(), leisure, shared, dice)), vec![of(key)], ledger))
            }
            Some(Person::Operator { key, validator, registers }) => {
                let mut operator = Operator::new(*validator, &shared, dice);
                if let Some(newcomer) = registers {
                    let (new, consent) = registration(newcomer, key, &zone);
                    operator = operator.registering(new, consent);
                }
                Box::pin(live(door, Box::new(operator), vec![of(key)], ledger))
            }
            None => Box::pin(std::future::ready(())),
        }
    }

    fn mended(&self) {
        lock(&self.ledger).count_from_now();
    }

    fn missing(&self) -> Option<String> {
        let paid = lock(&self.ledger).paid_since.map_or(0, |(_, paid)| paid);
        (paid < MORE_PAID).then(|| format!("{paid} of {MORE_PAID} leases that began since then are paid"))
    }

    fn recovery(&self) -> Duration {
        RECOVERY * u32::try_from(self.shared.slowness).unwrap_or(1)
    }
}
