//! Transactions that wait for a block: pure decisions, no clock, no lock, no I/O.
//!
//! Guarantees: within a lane, transactions come out in sequence and a gap holds back what follows it; across lanes
//! the higher tip goes first, then the earlier arrival. A transaction stays until it is final, expires or is
//! removed, so a block that never becomes final loses nothing. One whose tip is a tenth higher takes the place of another at its position;
//! who handed the other in hears of it once the position is decided, since a block may carry the other already. Every dimension is bounded ([`Limits`]); what does
//! not fit is refused at the door.
//! It does not know what a transaction means: [`Admission`] says all it needs.

use crate::machine::Admission;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};

/// Identity of a transaction.
pub type TxId = [u8; 32];
type LaneKey = ([u8; 32], u8);

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in all.
    pub count: usize,
    /// Bytes in all.
    pub bytes: usize,
    /// Transactions of one account.
    pub per_account: usize,
    /// Transactions that one other validator sent.
    pub per_peer: usize,
    /// How far ahead of its lane a transaction may be.
    pub seq_ahead: u64,
    /// Bytes of one transaction.
    pub tx_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { count: 50_000, bytes: 64 << 20, per_account: 4_096, per_peer: 12_500, seq_ahead: 4_096, tx_bytes: 256 << 10 }
    }
}

/// How much one block takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// Transactions.
    pub count: usize,
    /// Bytes.
    pub bytes: usize,
    /// Measured cost in microseconds.
    pub cost_us: u64,
}

/// What became of a transaction that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many transactions or bytes wait in all.
    #[error("too many transactions are waiting")]
    Full,
    /// Too many of this account wait.
    #[error("too many transactions of this account are waiting")]
    AccountFull,
    /// Too many that came from the same validator wait.
    #[error("too many transactions from this validator are waiting")]
    PeerFull,
    /// The lane is already past this position.
    #[error("the lane is already past this sequence number")]
    Past,
    /// Another transaction waits at this position of the lane, and this one's tip is not a tenth higher.
    #[error("another transaction waits at this sequence number; one whose tip is a tenth higher takes its place")]
    Taken,
    /// Too far ahead of the lane.
    #[error("the sequence number is too far ahead of its lane")]
    Ahead,
    /// Larger than one transaction may be.
    #[error("the transaction is too large")]
    Large,
}

/// What [`Mempool::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It waits.
    New,
    /// It already waited.
    Known,
    /// It waits in the place of another one of its position.
    Instead,
}

/// Where a transaction came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was handed in here.
    Here,
    /// This validator sent it.
    Peer([u8; 32]),
}

struct Entry {
    lane: LaneKey,
    seq: u64,
    arrival: u64,
    expires_ms: u64,
    tip: u128,
    cost_us: u32,
    origin: Origin,
    /// When it came, or was last told to be sent again.
    since_ms: u64,
    tx: Bytes,
    /// What waited at this position before. A block that somebody proposed may carry one of them still.
    replaced: Vec<TxId>,
}

impl Entry {
    /// Whether a block carries this one, or what it replaced.
    fn is_carried(&self, id: &TxId, carried: &HashSet<TxId>) -> bool {
        carried.contains(id) || self.replaced.iter().any(|old| carried.contains(old))
    }
}

/// Most replacements of one position: each tip is a tenth higher, so nobody needs more.
const MAX_REPLACED: usize = 16;

/// The least tip that takes the place of a transaction with `tip`.
const fn outbids(tip: u128) -> u128 {
    tip.saturating_add(tip / 10).saturating_add(1)
}

#[derive(Default)]
struct Lane {
    next: u64,
    waiting: BTreeMap<u64, TxId>,
}

/// The waiting transactions.
pub struct Mempool {
    limits: Limits,
    arrivals: u64,
    bytes: usize,
    entries: HashMap<TxId, Entry>,
    /// What was replaced, by what waits in its place.
    instead: HashMap<TxId, TxId>,
    lanes: HashMap<LaneKey, Lane>,
    accounts: HashMap<[u8; 32], usize>,
    peers: HashMap<[u8; 32], usize>,
    expiry: BTreeSet<(u64, TxId)>,
}

impl Mempool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            arrivals: 0,
            bytes: 0,
            entries: HashMap::new(),
            instead: HashMap::new(),
            lanes: HashMap::new(),
            accounts: HashMap::new(),
            peers: HashMap::new(),
            expiry: BTreeSet::new(),
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this one waits.
    #[must_use]
    pub fn contains(&self, id: &TxId) -> bool {
        self.entries.contains_key(id)
    }

    /// Cheap answer before signatures are checked: is there room at all?
    ///
    /// # Errors
    /// [`Refused::Full`] or [`Refused::Large`].
    pub fn has_room(&self, len: usize) -> Result<(), Refused> {
        if len > self.limits.tx_bytes {
            return Err(Refused::Large);
        }
        if self.entries.len() >= self.limits.count || self.bytes.saturating_add(len) > self.limits.bytes {
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Takes a transaction in, at `now_ms` of ledger time.
    ///
    /// # Errors
    /// Why it may not wait.
    pub fn insert(&mut self, admission: &Admission, tx: Bytes, origin: Origin, now_ms: u64) -> Result<Inserted, Refused> {
        if let Some(known) = self.entries.get_mut(&admission.id) {
            // Whoever was handed it answers for it from now on.
            if origin == Origin::Here
                && let Origin::Peer(peer) = std::mem::replace(&mut known.origin, origin)
            {
                release(&mut self.peers, &peer);
            }
            return Ok(Inserted::Known);
        }
        if self.instead.contains_key(&admission.id) {
            return Err(Refused::Taken);
        }
        self.has_room(tx.len())?;
        let key = (admission.sender, admission.lane);
        let waits = self.lanes.get(&key).and_then(|lane| lane.waiting.get(&admission.seq)).copied();
        if let Some(waits) = waits.filter(|_| admission.seq >= admission.next_seq) {
            return self.replace(waits, admission, tx, origin, now_ms);
        }
        if self.accounts.get(&admission.sender).copied().unwrap_or(0) >= self.limits.per_account {
            return Err(Refused::AccountFull);
        }
        if let Origin::Peer(peer) = origin
            && self.peers.get(&peer).copied().unwrap_or(0) >= self.limits.per_peer
        {
            return Err(Refused::PeerFull);
        }
        let next = self.lanes.get(&key).map_or(0, |lane| lane.next).max(admission.next_seq);
        if admission.seq < next {
            return Err(Refused::Past);
        }
        if admission.seq - next > self.limits.seq_ahead {
            return Err(Refused::Ahead);
        }
        let lane = self.lanes.entry(key).or_default();
        lane.next = next;
        lane.waiting.insert(admission.seq, admission.id);
        *self.accounts.entry(admission.sender).or_default() += 1;
        if let Origin::Peer(peer) = origin {
            *self.peers.entry(peer).or_default() += 1;
        }
        self.expiry.insert((admission.expires_ms, admission.id));
        self.bytes += tx.len();
        self.arrivals += 1;
        let entry = Entry {
            lane: key,
            seq: admission.seq,
            arrival: self.arrivals,
            expires_ms: admission.expires_ms,
            tip: admission.tip,
            cost_us: admission.cost_us,
            origin,
            since_ms: now_ms,
            tx,
            replaced: Vec::new(),
        };
        self.entries.insert(admission.id, entry);
        Ok(Inserted::New)
    }

    /// Puts a transaction in the place of the one that waits at its position, if its tip is higher.
    fn replace(&mut self, waits: TxId, admission: &Admission, tx: Bytes, origin: Origin, now_ms: u64) -> Result<Inserted, Refused> {
        let Some(old) = self.entries.get(&waits) else { return Err(Refused::Taken) };
        if admission.tip < outbids(old.tip) || old.replaced.len() >= MAX_REPLACED {
            return Err(Refused::Taken);
        }
        let Some(mut entry) = self.entries.remove(&waits) else { return Err(Refused::Taken) };
        entry.replaced.push(waits);
        for old in &entry.replaced {
            self.instead.insert(*old, admission.id);
        }
        self.expiry.remove(&(entry.expires_ms, waits));
        self.expiry.insert((admission.expires_ms, admission.id));
        self.bytes = self.bytes.saturating_sub(entry.tx.len()).saturating_add(tx.len());
        // Whoever was handed one of them answers for the place.
        if origin == Origin::Here
            && let Origin::Peer(peer) = std::mem::replace(&mut entry.origin, origin)
        {
            release(&mut self.peers, &peer);
        }
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            lane.waiting.insert(entry.seq, admission.id);
        }
        let Admission { tip, cost_us, expires_ms, .. } = *admission;
        self.entries.insert(admission.id, Entry { tip, cost_us, expires_ms, since_ms: now_ms, tx, ..entry });
        Ok(Inserted::Instead)
    }

    /// Removes one that cannot be in a block, and returns what it had replaced.
    pub fn remove(&mut self, id: &TxId) -> Vec<TxId> {
        self.take(id).map(|entry| entry.replaced).unwrap_or_default()
    }

    /// Removes one that is final, or that was replaced and is final after all; its lane goes on after it. Returns the others of its
    /// position, which no block will contain.
    pub fn finalized(&mut self, id: &TxId) -> Vec<TxId> {
        let waits = self.instead.get(id).copied().unwrap_or(*id);
        let Some(entry) = self.take(&waits) else { return Vec::new() };
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            lane.next = lane.next.max(entry.seq.saturating_add(1));
        }
        let all = entry.replaced.into_iter().chain([waits]);
        all.filter(|other| other != id).collect()
    }

    /// Lanes whose first waiting transaction is not the one that they expect: what is before it may be final without ever having
    /// waited here.
    #[must_use]
    pub fn gaps(&self) -> Vec<([u8; 32], u8)> {
        let gap = |lane: &Lane| lane.waiting.first_key_value().is_some_and(|(seq, _)| *seq > lane.next);
        self.lanes.iter().filter(|(_, lane)| gap(lane)).map(|(key, _)| *key).collect()
    }

    /// A lane of the latest final state expects this position next.
    pub fn advance(&mut self, sender: [u8; 32], lane: u8, next_seq: u64) {
        if let Some(lane) = self.lanes.get_mut(&(sender, lane)) {
            lane.next = lane.next.max(next_seq);
        }
    }

    /// The transactions handed in here that have waited for `age_ms` since they came or were last told, oldest first, and no more bytes
    /// than `bytes` (but for the first).
    pub fn stale(&mut self, now_ms: u64, age_ms: u64, bytes: usize) -> Vec<Bytes> {
        let is_due = |entry: &Entry| entry.origin == Origin::Here && now_ms.saturating_sub(entry.since_ms) >= age_ms;
        let mut due: Vec<_> = self.entries.values_mut().filter(|entry| is_due(entry)).collect();
        due.sort_unstable_by_key(|entry| (entry.since_ms, entry.arrival));
        let (mut out, mut size) = (Vec::new(), 0usize);
        for entry in due {
            size = size.saturating_add(entry.tx.len());
            if size > bytes && !out.is_empty() {
                break;
            }
            entry.since_ms = now_ms;
            out.push(entry.tx.clone());
        }
        out
    }

    /// Removes what expired before `now_ms` and returns it.
    pub fn expire(&mut self, now_ms: u64) -> Vec<TxId> {
        let mut out = Vec::new();
        while let Some((expires, id)) = self.expiry.first().copied() {
            if expires >= now_ms {
                break;
            }
            let replaced = self.take(&id).map(|entry| entry.replaced);
            out.push(id);
            out.extend(replaced.into_iter().flatten());
        }
        out
    }

    /// When the next one expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// Whether a block on top of blocks that already carry `carried` would have a transaction.
    #[must_use]
    pub fn has_ready(&self, carried: &HashSet<TxId>) -> bool {
        // Lanes are only kept while something waits in them, so this looks at each waiting lane at most once.
        self.lanes.values().any(|lane| self.first_ready(lane, lane.next, carried).is_some())
    }

    /// The transactions of the next block on top of blocks that already carry `carried`, in the order of the block.
    #[must_use]
    pub fn select(&self, limits: BlockLimits, carried: &HashSet<TxId>) -> Vec<(TxId, Bytes)> {
        let mut heads = BinaryHeap::new();
        for (key, lane) in &self.lanes {
            self.push_head(&mut heads, *key, lane, lane.next, carried);
        }
        let mut out = Vec::new();
        let (mut bytes, mut cost) = (0usize, 0u64);
        while let Some((_, _, key, id)) = heads.pop() {
            let Some(entry) = self.entries.get(&id) else { continue };
            let (more_bytes, more_cost) = (bytes.saturating_add(entry.tx.len()), cost.saturating_add(u64::from(entry.cost_us)));
            // A transaction above the cost limit by itself still gets a block of its own.
            if out.len() >= limits.count || more_bytes > limits.bytes || (more_cost > limits.cost_us && !out.is_empty()) {
                break;
            }
            (bytes, cost) = (more_bytes, more_cost);
            out.push((id, entry.tx.clone()));
            if let Some(lane) = self.lanes.get(&key) {
                self.push_head(&mut heads, key, lane, entry.seq.saturating_add(1), carried);
            }
        }
        out
    }

    fn push_head(
        &self,
        heads: &mut BinaryHeap<(u128, Reverse<u64>, LaneKey, TxId)>,
        key: LaneKey,
        lane: &Lane,
        from: u64,
        carried: &HashSet<TxId>,
    ) {
        if let Some(id) = self.first_ready(lane, from, carried)
            && let Some(entry) = self.entries.get(&id)
        {
            heads.push((entry.tip, Reverse(entry.arrival), key, id));
        }
    }

    /// The first transaction from position `from` on that no block carries yet, if no gap precedes it.
    fn first_ready(&self, lane: &Lane, from: u64, carried: &HashSet<TxId>) -> Option<TxId> {
        let mut expected = from;
        for (seq, id) in lane.waiting.range(from..) {
            if *seq != expected {
                return None;
            }
            if !self.entries.get(id).is_some_and(|entry| entry.is_carried(id, carried)) {
                return Some(*id);
            }
            expected = expected.saturating_add(1);
        }
        None
    }

    fn take(&mut self, id: &TxId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        for old in &entry.replaced {
            self.instead.remove(old);
        }
        self.bytes = self.bytes.saturating_sub(entry.tx.len());
        self.expiry.remove(&(entry.expires_ms, *id));
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            lane.waiting.remove(&entry.seq);
            if lane.waiting.is_empty() {
                // `admit` learns the lane's position from the state, so an empty lane need not be remembered.
                self.lanes.remove(&entry.lane);
            }
        }
        release(&mut self.accounts, &entry.lane.0);
        if let Origin::Peer(peer) = entry.origin {
            release(&mut self.peers, &peer);
        }
        Some(entry)
    }
}

/// Counts one less.
fn release(counts: &mut HashMap<[u8; 32], usize>, of: &[u8; 32]) {
    if let Some(count) = counts.get_mut(of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(of);
        }
    }
}
