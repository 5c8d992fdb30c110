//! Audits in a zone in memory: validators with real keys, bursts that are really hashed, honest and lying witnesses.
//!
//! Guarantees: what a node answers and a witness says goes through transactions like anything else. It has no network: who
//! says what is up to the test.

#![allow(dead_code, unreachable_pub)]

use crate::common::*;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::event::Event;
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::proof::{ResourceClass, share_hash};
use pasture_types::tx::*;
use pasture_types::*;
use std::collections::BTreeMap;

/// Declared rate of one core; the node has four.
pub const CORE: u64 = 1_000;
/// Hashes of one honest burst of half a second.
pub const BURST_HASHES: u64 = CORE * 4 / 2;

/// Audits at every tick, with short bursts.
pub fn params() -> Params {
    let mut params = Params::dev();
    params.audits = AuditParams { active: true, interval: Millis(5_000), burst: Millis(500), ..AuditParams::dev() };
    params
}

pub fn validator_key(n: u8) -> SigningKey {
    SigningKey::from_seed([100 + n; 32])
}

pub fn operator_key(n: u8) -> SigningKey {
    SigningKey::from_seed([150 + n; 32])
}

pub fn declared(core: u64) -> NodeDeclaration {
    NodeDeclaration { cpu_hashes_per_s: core, ..declaration() }
}

/// A world with so many validators, each of its own operator, and one registered and offered node.
pub fn world(validators: u8, params: Params) -> World {
    let operators: Vec<AccountId> = (0..validators).map(|n| operator_key(n).account()).collect();
    world_of(&operators, params)
}

pub fn world_of(operators: &[AccountId], params: Params) -> World {
    let (user, provider, node, operator) = (key(1), key(2), key(3), key(4));
    let account = |k: &SigningKey, credits| GenesisAccount { key: k.public(), balance: Amount::credits(credits) };
    let mut validators: Vec<GenesisValidator> = operators
        .iter()
        .zip(0u8..)
        .map(|(operator, n)| GenesisValidator {
            key: validator_key(n).node_id().0,
            bls_key: vec![1; 96],
            bls_pop: vec![2; 48],
            operator: *operator,
        })
        .collect();
    validators.sort_by_key(|v| v.key);
    let accounts = vec![account(&user, 1_000), account(&provider, 1_000)];
    let genesis =
        Genesis { name: "test".into(), time: Timestamp(START), rules_version: RULES_VERSION, params, validators, accounts, assets: vec![] };
    let state = pasture_ledger::genesis(&genesis);
    let mut w =
        World { state, genesis, now: Timestamp(START), height: 0, seqs: BTreeMap::new(), events: vec![], user, provider, node, operator };
    let (provider, node) = (w.provider.clone(), w.node.clone());
    let register = w.register_node(&provider, &node, declared(CORE));
    let stake = Action::Stake { amount: Amount::credits(1) };
    w.act(&provider, vec![Action::RegisterProvider { name: "p".into() }, register, stake]).unwrap();
    let offer = Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(offer_terms()) };
    w.act(&provider, vec![offer]).unwrap();
    w.settle_down();
    w
}

/// What a witness says it saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    InTime,
    Late,
    /// In time, but of something else.
    Other,
    Silence,
}

pub trait Audits {
    fn zone(&self) -> ZoneId;
    fn settle_down(&mut self);
    fn drawn(&mut self) -> AuditRecord;
    fn open(&self) -> Option<AuditRecord>;
    fn of_node(&self) -> NodeAudit;
    fn answer_with(&self, audit: &AuditRecord, set: NonceSet, hashes: u64) -> Answer;
    fn answer(&self, audit: &AuditRecord, hashes: u64) -> Answer;
    fn receipts(&self, audit: &AuditRecord, witness: usize, receipt: Receipt) -> Action;
    fn word(&self, audit: &AuditRecord, witness: usize, answer: &Answer, word: Word, took: u16) -> Option<Action>;
    fn say(&mut self, action: Action) -> Result<Vec<Event>, TxError>;
    fn run(&mut self, audit: &AuditRecord, hashes: u64, words: &dyn Fn(usize) -> Word);
    fn until(&mut self, number: u64) -> AuditRecord;
    fn audited(&mut self, hashes: u64) -> Verdict;
}

/// The k smallest hashes' nonces among the first `hashes`.
pub fn smallest(seed: &[u8; 32], hashes: u64) -> Vec<u64> {
    let mut all: Vec<(u64, u64)> = (0..hashes).map(|n| (share_hash(seed, n), n)).collect();
    all.sort_unstable();
    all.into_iter().take(AUDIT_SHARES).map(|(_, n)| n).collect()
}

pub fn statement_digest(zone: &ZoneId, audit: &AuditRecord, statement: &Statement) -> [u8; 32] {
    statement.digest(zone, audit.number, &audit.node)
}

impl Audits for World {
    fn zone(&self) -> ZoneId {
        self.genesis.zone()
    }

    /// Lets pending offers age.
    fn settle_down(&mut self) {
        for _ in 0..3 {
            self.block(10, &[]);
        }
    }

    /// Lets time pass until the world's node has an audit open.
    fn drawn(&mut self) -> AuditRecord {
        for _ in 0..400 {
            if let Some(found) = self.open() {
                return found;
            }
            self.wait(1_000);
        }
        panic!("nothing was drawn");
    }

    fn open(&self) -> Option<AuditRecord> {
        query::open_audits(&self.state).into_iter().find(|a| a.node == self.node.node_id())
    }

    fn of_node(&self) -> NodeAudit {
        query::node_audit(&self.state, &self.node.node_id()).unwrap()
    }

    fn answer_with(&self, audit: &AuditRecord, set: NonceSet, hashes: u64) -> Answer {
        let seed = audit_seed(&audit.randomness.0, audit.number, &audit.node, audit.epoch, ResourceClass::Cpu, 0, &set);
        let shares = PackedShares::pack(&smallest(&seed, hashes)).unwrap();
        Answer::signed(&self.zone(), audit.number, set, shares, &self.node)
    }

    /// A burst with the first nonces that are enough.
    fn answer(&self, audit: &AuditRecord, hashes: u64) -> Answer {
        let members = quorum(audit.witnesses.len());
        let nonces = (0..members as u64).map(|n| audit.number * 1_000 + n).collect();
        let mask = if members == 64 { u64::MAX } else { (1 << members) - 1 };
        self.answer_with(audit, NonceSet { mask, nonces }, hashes)
    }

    fn receipts(&self, audit: &AuditRecord, witness: usize, receipt: Receipt) -> Action {
        let id = audit.witnesses[witness];
        let signer = (0..100).map(validator_key).find(|k| k.node_id() == id).unwrap();
        let batch = ReceiptBatch { witness: id, base: audit.number, receipts: vec![receipt] };
        let signature = signer.sign(&batch.digest(&self.zone()));
        Action::Audit(Box::new(AuditAction::Receipts { batch, signature }))
    }

    fn word(&self, audit: &AuditRecord, witness: usize, answer: &Answer, word: Word, took: u16) -> Option<Action> {
        let right = receipt_tag(&audit.witnesses[witness], &statement_digest(&self.zone(), audit, &answer.statement()));
        let (elapsed_ms, tag) = match word {
            Word::InTime => (took + 20, right),
            Word::Late => (0, 0),
            Word::Other => (took + 20, right ^ 2),
            Word::Silence => return None,
        };
        Some(self.receipts(audit, witness, Receipt { offset: 0, elapsed_ms, rtt_ms: 20, tag }))
    }

    /// Somebody carries it.
    fn say(&mut self, action: Action) -> Result<Vec<Event>, TxError> {
        self.user_act(vec![action])
    }

    /// The node's answer, and what each witness says of it.
    fn run(&mut self, audit: &AuditRecord, hashes: u64, words: &dyn Fn(usize) -> Word) {
        let answer = self.answer(audit, hashes);
        let mut actions = vec![Action::Audit(Box::new(AuditAction::Answers(vec![answer.clone()])))];
        actions.extend((0..audit.witnesses.len()).filter_map(|w| self.word(audit, w, &answer, words(w), 500)));
        self.user_act(actions).unwrap();
    }

    /// Lets time pass until an audit is judged.
    fn until(&mut self, number: u64) -> AuditRecord {
        for _ in 0..100 {
            let record = query::audit(&self.state, number).unwrap();
            if record.verdict.is_some() {
                return record;
            }
            self.wait(1_000);
        }
        panic!("audit {number} is never judged");
    }

    /// One audit with honest witnesses.
    fn audited(&mut self, hashes: u64) -> Verdict {
        let audit = self.drawn();
        self.run(&audit, hashes, &|_| Word::InTime);
        self.until(audit.number).verdict.unwrap()
    }
}
