//! A small state machine for the chain's tests: counters, lanes, timers.
//!
//! A transaction is `sender(32) lane(1) seq(8) op(1) rest`; signatures are not part of it.

#![allow(dead_code, reason = "each test and the example use a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

pub(crate) mod zone;

use bytes::Bytes;
use pasture_chain::{
    Admission, Base, BlockContext, Chain, Due, Entries, Genesis, Identity, Machine, Network, Options, Rejection, StoredState, TxOutcome,
    Validator,
};
use pasture_types::state::{StateRead, StateWrite};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Adds one to the sender's counter.
pub(crate) const ADD: u8 = 0;
/// Sets a timer at the ledger time in the rest.
pub(crate) const TIMER: u8 = 1;
/// Is included, fails, and changes nothing but the sequence.
pub(crate) const FAIL: u8 = 2;
/// Writes `rest[1..]` under a key named by `rest[0]`.
pub(crate) const PUT: u8 = 3;
/// Removes the key named by `rest[0]`.
pub(crate) const DELETE: u8 = 4;
/// Is admitted but may never be in a block.
pub(crate) const NEVER: u8 = 5;

pub(crate) const GENESIS_KEY: &[u8] = b"g";

pub(crate) struct Counter;

pub(crate) fn tx(sender: u8, lane: u8, seq: u64, op: u8, rest: &[u8]) -> Bytes {
    let mut out = vec![sender; 32];
    out.push(lane);
    out.extend_from_slice(&seq.to_be_bytes());
    out.push(op);
    out.extend_from_slice(rest);
    out.into()
}

pub(crate) fn counter_key(sender: u8) -> Vec<u8> {
    let mut key = vec![b'c'];
    key.extend_from_slice(&[sender; 32]);
    key
}

pub(crate) fn counter(state: &dyn StateRead, sender: u8) -> u64 {
    number(state, &counter_key(sender))
}

pub(crate) fn named_key(name: u8) -> Vec<u8> {
    vec![b'n', name]
}

/// Names of [`PUT`]: the numbers of those who sit from the next term on, and of those who may follow.
pub(crate) const SEATS: u8 = 250;
pub(crate) const CANDIDATES: u8 = 251;

pub(crate) fn fired_key(at_ms: u64) -> Vec<u8> {
    [&b"f"[..], &at_ms.to_be_bytes()].concat()
}

fn number(state: &dyn StateRead, key: &[u8]) -> u64 {
    state.get(key).and_then(|v| v.try_into().ok()).map_or(0, u64::from_be_bytes)
}

struct Parsed<'a> {
    id: [u8; 32],
    sender: [u8; 32],
    lane: u8,
    seq: u64,
    op: u8,
    rest: &'a [u8],
}

fn parse(tx: &[u8]) -> Option<Parsed<'_>> {
    let (head, rest) = tx.split_at_checked(42)?;
    let (sender, tail) = head.split_first_chunk::<32>()?;
    let seq = u64::from_be_bytes(tail.get(1..9)?.try_into().ok()?);
    Some(Parsed { id: *blake3::hash(tx).as_bytes(), sender: *sender, lane: *tail.first()?, seq, op: *tail.get(9)?, rest })
}

fn lane_key(sender: &[u8; 32], lane: u8) -> Vec<u8> {
    [&b"l"[..], sender, &[lane]].concat()
}

fn first_timer(state: &dyn StateRead) -> Option<u64> {
    let mut first = None;
    state.scan(b"t", b"u", &mut |key, _| {
        first = key.get(1..9).and_then(|k| k.try_into().ok()).map(u64::from_be_bytes);
        false
    });
    first
}

impl Machine for Counter {
    fn genesis(&self) -> Result<Entries, String> {
        Ok(vec![(GENESIS_KEY.to_vec(), b"in the beginning".to_vec()), (counter_key(200), 7u64.to_be_bytes().to_vec())])
    }

    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        let parsed = parse(tx).ok_or(Rejection { code: 1, message: "malformed".into() })?;
        let next_seq = number(state, &lane_key(&parsed.sender, parsed.lane));
        if parsed.seq < next_seq {
            return Err(Rejection { code: 2, message: "sequence already used".into() });
        }
        Ok(Admission {
            id: parsed.id,
            sender: parsed.sender,
            lane: parsed.lane,
            seq: parsed.seq,
            next_seq,
            expires_ms: now_ms + 60_000,
            tip: 0,
            cost_us: 5,
        })
    }

    fn next_seq(&self, sender: &[u8; 32], lane: u8, state: &dyn StateRead) -> u64 {
        number(state, &lane_key(sender, lane))
    }

    fn verify(&self, txs: &[Bytes]) -> bool {
        txs.iter().all(|tx| parse(tx).is_some())
    }

    /// What a vote put there, else enough for any test.
    fn block_cost_us(&self, state: &dyn StateRead) -> u64 {
        state.get(&named_key(6)).map_or(120_000, |_| 10)
    }

    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        let mut events = Vec::new();
        while let Some(at) = first_timer(state).filter(|at| *at <= ctx.timestamp_ms) {
            state.delete(&[&b"t"[..], &at.to_be_bytes()].concat());
            state.put(fired_key(at), ctx.height.to_be_bytes().to_vec());
            events.push(at.to_be_bytes().to_vec());
        }
        events
    }

    fn apply(&self, state: &mut dyn StateWrite, _: &BlockContext, tx: &[u8]) -> TxOutcome {
        let Some(parsed) = parse(tx) else { return TxOutcome::NotIncludable { id: [0; 32], code: 1, message: "malformed".into() } };
        let id = parsed.id;
        if parsed.op == NEVER {
            return TxOutcome::NotIncludable { id, code: 3, message: "never".into() };
        }
        let key = lane_key(&parsed.sender, parsed.lane);
        if number(state, &key) != parsed.seq {
            return TxOutcome::NotIncludable { id, code: 2, message: "out of sequence".into() };
        }
        state.put(key, (parsed.seq + 1).to_be_bytes().to_vec());
        let (mut ok, mut events) = (true, Vec::new());
        match (parsed.op, parsed.rest.split_first()) {
            (ADD, _) => {
                let key = counter_key(parsed.sender[0]);
                let value = number(state, &key) + 1;
                state.put(key, value.to_be_bytes().to_vec());
                events.push(value.to_be_bytes().to_vec());
            }
            (TIMER, _) => state.put([b"t", parsed.rest].concat(), vec![]),
            (PUT, Some((name, value))) => state.put(named_key(*name), value.to_vec()),
            (DELETE, Some((name, _))) => state.delete(&named_key(*name)),
            _ => ok = false,
        }
        TxOutcome::Applied { id, ok, code: u16::from(!ok), message: String::new(), events }
    }

    fn end(&self, _: &mut dyn StateWrite, _: &BlockContext) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Those whose numbers somebody put under [`SEATS`].
    fn seats(&self, state: &dyn StateRead) -> Option<Vec<Validator>> {
        let numbers = state.get(&named_key(SEATS))?;
        Some(numbers.iter().map(|n| Identity::from_secret(&[*n; 32]).unwrap().validator()).collect())
    }

    /// Those whose numbers somebody put under [`CANDIDATES`].
    fn candidates(&self, state: &dyn StateRead) -> Vec<[u8; 32]> {
        let numbers = state.get(&named_key(CANDIDATES)).unwrap_or_default();
        numbers.iter().map(|n| Identity::from_secret(&[*n; 32]).unwrap().public_key()).collect()
    }

    fn next_due(&self, state: &dyn StateRead) -> Due {
        first_timer(state).map_or(Due::Never, Due::At)
    }
}

/// What a run begins with that goes on from where another ended.
pub(crate) fn after(ended: &StoredState) -> Base {
    let header = ended.header();
    Base {
        height: header.height,
        timestamp_ms: header.timestamp_ms,
        digest: header.digest(),
        randomness: header.randomness,
        entries: [5; 32],
        first_term: header.term + 1,
    }
}

/// [`Counter`], beginning with given entries.
pub(crate) struct Carried(pub(crate) Result<Entries, String>);

impl Machine for Carried {
    fn genesis(&self) -> Result<Entries, String> {
        self.0.clone()
    }
    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        Counter.admit(tx, state, now_ms)
    }
    fn next_seq(&self, sender: &[u8; 32], lane: u8, state: &dyn StateRead) -> u64 {
        Counter.next_seq(sender, lane, state)
    }
    fn verify(&self, txs: &[Bytes]) -> bool {
        Counter.verify(txs)
    }
    fn block_cost_us(&self, state: &dyn StateRead) -> u64 {
        Counter.block_cost_us(state)
    }
    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        Counter.begin(state, ctx)
    }
    fn apply(&self, state: &mut dyn StateWrite, ctx: &BlockContext, tx: &[u8]) -> TxOutcome {
        Counter.apply(state, ctx, tx)
    }
    fn end(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        Counter.end(state, ctx)
    }
    fn seats(&self, state: &dyn StateRead) -> Option<Vec<Validator>> {
        Counter.seats(state)
    }
    fn candidates(&self, state: &dyn StateRead) -> Vec<[u8; 32]> {
        Counter.candidates(state)
    }
    fn next_due(&self, state: &dyn StateRead) -> Due {
        Counter.next_due(state)
    }
}

pub(crate) fn identity() -> Identity {
    Identity::from_secret(&[9; 32]).unwrap()
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        zone: [42; 32],
        timestamp_ms: 1_000,
        validators: vec![identity().validator()],
        term_blocks: NonZeroU64::new(1_000).unwrap(),
        base: None,
    }
}

pub(crate) fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_path_buf(),
        genesis: genesis(),
        identity: identity(),
        network: None,
        signs_from_ms: 0,
        history: Default::default(),
        limits: Default::default(),
        clock: Arc::new(pasture_rt::SystemClock),
        failpoint: None,
    }
}

pub(crate) fn start(dir: &Path) -> Chain {
    Chain::start(options(dir), Arc::new(Counter)).unwrap()
}

/// Validators on this machine: who they are and where.
pub(crate) struct Members {
    pub(crate) secrets: Vec<[u8; 32]>,
    genesis: Genesis,
    network: Network,
}

impl Members {
    pub(crate) fn new(count: u8) -> Self {
        Self::founded_by(count, count, 1_000)
    }

    /// The first `founders` of `count` certify the first term, which has so many blocks.
    pub(crate) fn founded_by(founders: u8, count: u8, term_blocks: u64) -> Self {
        let secrets: Vec<[u8; 32]> = (1..=count).map(|n| [n; 32]).collect();
        let validators: Vec<_> = secrets.iter().map(|secret| Identity::from_secret(secret).unwrap().validator()).collect();
        let peers = validators.iter().zip(free_ports(count)).map(|(v, port)| (v.key, ([127, 0, 0, 1], port).into())).collect();
        let validators = validators.into_iter().take(usize::from(founders)).collect();
        let genesis = Genesis { validators, term_blocks: NonZeroU64::new(term_blocks).unwrap(), ..genesis() };
        let nowhere = ([127, 0, 0, 1], 0).into();
        Self { secrets, genesis, network: Network { listen: nowhere, address: nowhere, peers, private: true } }
    }

    pub(crate) fn options(&self, index: usize, dir: &Path) -> Options {
        let everybody: Vec<usize> = (0..self.secrets.len()).collect();
        self.options_naming(index, dir, &everybody)
    }

    /// One that is told where some of the others are.
    pub(crate) fn options_naming(&self, index: usize, dir: &Path, named: &[usize]) -> Options {
        let own = self.network.peers[index].1;
        let peers = named.iter().map(|i| self.network.peers[*i]).collect();
        let network = Network { listen: own, address: own, peers, private: true };
        Options {
            genesis: self.genesis.clone(),
            identity: Identity::from_secret(&self.secrets[index]).unwrap(),
            network: Some(network),
            ..options(dir)
        }
    }
}

/// Ports below those that the system gives to outgoing connections, each bound once to see that it is free.
fn free_ports(count: u8) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = 10_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    let mut found = Vec::new();
    while found.len() < usize::from(count) {
        let port = 10_000 + (from + NEXT.fetch_add(1, Ordering::SeqCst)) % 20_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.push(port);
        }
    }
    found
}
