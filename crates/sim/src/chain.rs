//! The ledger as a chain drives it, without consensus: blocks of transactions on a state in memory, in virtual time.
//!
//! Guarantees: everybody acts through transactions only, in blocks that the ledger's own rules limit; what does not fit waits for
//! the next block. With `verify` envelopes are really signed, admitted and verified; without, the ledger is told that this was
//! done when they were admitted, as a node tells it. Draws no randomness but from its seed.

use crate::memory::Memory;
use pasture_ledger::{
    Applied, BlockCtx, Due, Signatures, TxError, Violation, admit, apply, begin_block, check, end_block, next_due, query,
};
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::keys::Signature;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody, TxSignature};
use pasture_types::{AccountId, Amount, AssetId, Millis, NodeId, PublicKey, SigningKey, Timestamp, ZoneId, codec, ids};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Least time between two blocks.
pub const BLOCK_GAP: Millis = Millis(500);
/// How long a transaction is valid: more than any queue of a run is long.
const VALID_FOR: Millis = Millis(600_000);
/// Kinds of refusals that are told apart.
const MAX_REFUSALS: usize = 256;

/// Somebody who signs.
#[derive(Clone)]
pub struct Signer {
    /// For whom.
    pub account: AccountId,
    /// The node, if it is a node's key.
    node: Option<NodeId>,
    /// With what.
    pub key: Rc<SigningKey>,
    public: PublicKey,
    unverified: Signature,
}

impl Signer {
    /// An account with one key made from a name.
    #[must_use]
    pub fn account(seed: [u8; 32]) -> Self {
        let key = SigningKey::from_seed(seed);
        Self { account: key.account(), node: None, public: key.public(), unverified: key.sign(&[0; 32]), key: Rc::new(key) }
    }
    /// A node of an account.
    #[must_use]
    pub fn node(seed: [u8; 32], of: AccountId) -> Self {
        let key = SigningKey::from_seed(seed);
        Self { account: of, node: Some(key.node_id()), public: key.public(), unverified: key.sign(&[0; 32]), key: Rc::new(key) }
    }
    /// Its public key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }
    /// The node's id (of an account's key: what it would be).
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.key.node_id()
    }
}

/// A zone with its time and what waits for a block.
pub struct Chain {
    /// The ledger's state.
    pub state: Memory,
    /// Its id.
    pub zone: ZoneId,
    /// The last block's time.
    pub now: Timestamp,
    /// The last block's height.
    pub height: u64,
    /// Transactions that were executed.
    pub transactions: u64,
    /// Refused ones by code, with the first message of each.
    pub refused: BTreeMap<u16, (u64, String)>,
    queue: VecDeque<(Signer, Vec<Action>)>,
    proposers: Vec<[u8; 32]>,
    seed: [u8; 8],
    verify: bool,
}

impl Chain {
    /// A zone at its genesis.
    #[must_use]
    pub fn new(genesis: &Genesis, seed: u64, verify: bool) -> Self {
        Self {
            state: Memory::from(pasture_ledger::genesis(genesis)),
            zone: genesis.zone(),
            now: genesis.time,
            height: 0,
            transactions: 0,
            refused: BTreeMap::new(),
            queue: VecDeque::new(),
            proposers: genesis.validators.iter().map(|v| v.key).collect(),
            seed: seed.to_be_bytes(),
            verify,
        }
    }

    /// Hands in a transaction for the next block with room.
    pub fn send(&mut self, by: &Signer, actions: Vec<Action>) {
        self.queue.push_back((by.clone(), actions));
    }

    /// Whether transactions wait.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// When the ledger wants its next block, at the earliest a gap after the last.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let least = self.now.plus(BLOCK_GAP);
        match next_due(&self.state) {
            Due::Now => Some(least),
            Due::At(at) => Some(at.max(least)),
            Due::Never => None,
        }
    }

    /// All violations of the ledger's own invariants.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        check(&self.state).err().unwrap_or_default()
    }

    fn envelope(&self, by: &Signer, now: Timestamp, actions: Vec<Action>) -> Envelope {
        let (auth, owner) = match by.node {
            Some(node) => (Auth::Node(node), node.0),
            None => (Auth::Single, by.account.0),
        };
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: self.zone,
            account: by.account,
            auth,
            lane: 0,
            seq: query::next_seq(&self.state, &owner, 0),
            valid_until: now.plus(VALID_FOR),
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        if self.verify {
            body.sign(&by.key)
        } else {
            Envelope { body, signatures: vec![TxSignature { account: by.account, key: by.public, signature: by.unverified }] }
        }
    }

    fn refuse(&mut self, error: &TxError) {
        if self.refused.len() < MAX_REFUSALS {
            self.refused.entry(error.code()).or_insert_with(|| (0, error.to_string())).0 += 1;
        }
    }

    /// Whether it was executed, well or in vain; if not it waits on.
    fn execute(&mut self, ctx: &BlockCtx, by: &Signer, actions: &[Action], events: &mut Vec<Event>) -> bool {
        let tx = codec::encode(&self.envelope(by, ctx.now, actions.to_vec()));
        let mut mode = Signatures::Verified;
        if self.verify {
            mode = Signatures::Verify;
            if let Err(error) = admit(&self.state, ctx.now, &tx) {
                self.refuse(&error);
                return true;
            }
        }
        match apply(&mut self.state, ctx, &tx, mode) {
            Applied::Done { events: more, .. } => events.extend(more),
            Applied::NotIncludable { error: TxError::BlockFull { .. }, .. } => return false,
            Applied::Failed { error, .. } | Applied::NotIncludable { error, .. } => self.refuse(&error),
        }
        self.transactions += 1;
        true
    }

    /// Makes a block with what waits and fits.
    pub fn block(&mut self, now: Timestamp) -> Vec<Event> {
        let parent_time = self.now;
        self.now = now.max(parent_time);
        self.height += 1;
        let randomness = ids::derive("pasture simulation block", &[&self.seed, &self.height.to_be_bytes()]);
        let turn = usize::try_from(self.height).unwrap_or(0) % self.proposers.len().max(1);
        let proposer = self.proposers.get(turn).copied().unwrap_or_default();
        let ctx = BlockCtx { height: self.height, now: self.now, parent_time, randomness, proposer };
        let mut events = begin_block(&mut self.state, &ctx);
        while let Some((by, actions)) = self.queue.pop_front() {
            if !self.execute(&ctx, &by, &actions, &mut events) {
                self.queue.push_front((by, actions));
                break;
            }
        }
        events.extend(end_block(&mut self.state, &ctx));
        events
    }
}
