//! The state machine as the engine drives it: builds blocks, checks blocks, hears which are final.
//!
//! Guarantees: a block is accepted only if its zone, height, time, proposer, randomness, transactions, validator set
//! and *both* roots are what this node computes itself (the engine compares the operations root only). What is
//! written to the authenticated store is exactly what changed in the in-memory view.
//! It keeps no state of its own: everything is in [`Core`] or in the engine's batches.

use crate::block::{Block, Ctx, Digest, HEADER_VERSION, Header, Location, MAX_BLOCK_BYTES, MAX_BLOCK_TXS, tx_root};
use crate::core::{Core, Post, context_of};
use crate::execute::{Executed, Mode, execute};
use crate::genesis::raw;
use crate::mempool::BlockLimits;
use crate::view::View;
use bytes::Bytes;
use commonware_consensus::{Heightable as _, marshal::ancestry::Ancestry, simplex::scheme::ed25519::Scheme};
use commonware_cryptography::{Digestible as _, Hasher as _, Sha256, sha256};
use commonware_glue::stateful::{
    Application, Finality, Input, Proposed,
    db::{DatabaseSet, Merkleized as _, Shared, Unmerkleized as _},
};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Metrics, Spawner, Storage};
use commonware_storage::{
    mmr,
    qmdb::{any::value::VariableEncoding, current::ordered::variable, sync::Target},
    translator::EightCap,
};
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;

/// How far ahead of the local clock a block may be without being held back.
const MAX_DRIFT_MS: u64 = 2_000;
/// How far ahead a block may be at all; in between, the vote waits. Bounds what a bad clock can delay.
pub(crate) const MAX_AHEAD_MS: u64 = 10_000;
/// Bytes per chunk of the store's activity bitmap.
pub(crate) const BITMAP_CHUNK: usize = 32;

/// What the engine's runtime must offer; production and simulation both do.
pub(crate) trait Rt: Spawner + Storage + Clock + Metrics + rand_core::CryptoRng {}
impl<T: Spawner + Storage + Clock + Metrics + rand_core::CryptoRng> Rt for T {}

/// The authenticated store: hashed key to `(logical key, value)`, ordered so that absence can be proven.
pub(crate) type Db<E> = variable::Db<mmr::Family, E, Digest, Bytes, Sha256, EightCap, BITMAP_CHUNK, Sequential>;
pub(crate) type Dbs<E> = Shared<Db<E>>;
pub(crate) type Encoding = VariableEncoding<Bytes>;
type Unmerkleized<E> = <Dbs<E> as DatabaseSet<E>>::Unmerkleized;
type Merkleized<E> = <Dbs<E> as DatabaseSet<E>>::Merkleized;

/// How the panic begins that says so; `diagnose` knows it.
pub(crate) const GENESIS_UNREADABLE: &str = "genesis entries: ";
const KEY_DOMAIN: &[u8] = b"pasture 2026-11 state key v1";

/// Where a logical key lives in the authenticated store.
pub(crate) fn store_key(key: &[u8]) -> Digest {
    Sha256::hash(&[KEY_DOMAIN, key])
}

/// What the authenticated store holds for an entry.
pub(crate) fn store_value(key: &[u8], value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(4 + key.len() + value.len());
    out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    out.into()
}

/// The inverse of [`store_value`].
pub(crate) fn split_value(stored: &Bytes) -> Option<(Bytes, Bytes)> {
    let length = stored.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))?;
    let end = usize::try_from(length).ok()?.checked_add(4)?;
    (end <= stored.len()).then(|| (stored.slice(4..end), stored.slice(end..)))
}

/// Writes a block's changes into a batch on its parent's state and computes the roots.
pub(crate) async fn merkleize<E: Rt>(parent: &Post, header_height: u64, executed: &Executed, batches: Unmerkleized<E>) -> Merkleized<E> {
    let mut batches = batches.with_metadata(Bytes::copy_from_slice(&header_height.to_be_bytes()));
    if parent.header.is_base() {
        let mut first = Vec::with_capacity(parent.view.len());
        parent.view.each(&mut |key, value| {
            if !executed.changes.contains_key(key) {
                first.push((store_key(key), store_value(key, value)));
            }
        });
        for (key, value) in first {
            batches = batches.write(key, Some(value));
        }
    }
    for (key, value) in &executed.changes {
        // On the first block a removed genesis entry is not in the store yet.
        if value.is_some() || !parent.header.is_base() {
            batches = batches.write(store_key(key), value.as_ref().map(|v| store_value(key, v)));
        }
    }
    match batches.merkleize().await {
        Ok(merkleized) => merkleized,
        Err(error) => fail(&format!("state store: {error}")),
    }
}

/// Stops the engine: the store is not what it must be, and going on could sign something wrong.
pub(crate) fn fail(what: &str) -> ! {
    tracing::error!(what, "the chain cannot go on");
    // Unwinding is how the engine's runtime learns that a task cannot go on; `explain` turns it into an error.
    std::panic::resume_unwind(Box::new(what.to_owned()))
}

/// The state that this run begins with.
pub(crate) fn genesis_view(core: &Core) -> View {
    let entries = core.machine.genesis().unwrap_or_else(|error| fail(&format!("{GENESIS_UNREADABLE}{error}")));
    View::from_entries(entries.into_iter().map(|(k, v)| (Bytes::from(k), Bytes::from(v))))
}

/// The application that the engine calls.
#[derive(Clone)]
pub(crate) struct App(pub(crate) Arc<Core>);

impl App {
    /// The parent's post-state; derived from the nearest known ancestor if this node never saw it.
    async fn parent_post(&self, parent: &Block, mut ancestry: impl Ancestry<Block>) -> Option<Arc<Post>> {
        self.0.ready().await;
        let mut missing: Vec<Block> = Vec::new();
        let mut post = self.0.post(&parent.digest());
        let mut cursor = parent.clone();
        while post.is_none() {
            let next = ancestry.next().await?;
            missing.push(std::mem::replace(&mut cursor, next.inner().clone()));
            post = self.0.post(&cursor.digest());
        }
        let mut post = post?;
        for block in missing.iter().rev() {
            post = self.0.derive(block, &post)?;
        }
        Some(post)
    }

    /// The rules that need no state. `None` is final: no clock of ours takes part.
    fn check_header(&self, header: &Header, before: &Post, finality: Finality) -> Option<()> {
        let (parent, seats) = (&before.header, &before.next);
        let proposer = seats.keys.keys().find(|key| raw(key) == header.proposer)?;
        let sound = header.version == HEADER_VERSION
            && header.zone == self.0.roster.zone
            && header.validators == seats.hash
            && header.base == parent.base
            && header.height == parent.height.checked_add(1)?
            && header.timestamp_ms >= parent.timestamp_ms;
        // A final block's randomness was checked by those who made it final.
        let random = finality == Finality::Finalized || seats.randomness_follows(header, &parent.randomness, proposer);
        (sound && random).then_some(())
    }

    /// Holds the vote back from a block that is ahead of our clock; refuses one that is absurdly ahead.
    async fn await_time<E: Rt>(&self, rt: &E, header: &Header, parent: &Header) -> Option<()> {
        let now = self.0.clock.now(parent.timestamp_ms);
        let ahead = header.timestamp_ms.saturating_sub(now);
        if ahead > MAX_AHEAD_MS {
            return None;
        }
        if ahead > MAX_DRIFT_MS {
            rt.sleep(Duration::from_millis(ahead - MAX_DRIFT_MS)).await;
        }
        Some(())
    }

    async fn build<E: Rt>(&self, context: Ctx, mut ancestry: impl Ancestry<Block>, batches: Unmerkleized<E>) -> Option<Proposed<Self, E>> {
        let core = &self.0;
        let parent_block = ancestry.next().await?;
        let parent = self.parent_post(parent_block.inner(), ancestry).await?;
        let parent_digest = parent_block.digest();
        let height = parent.header.height.checked_add(1)?;
        let (randomness_proof, randomness) = core.identity.randomness(&parent.header.randomness, height);
        let limits = BlockLimits { count: MAX_BLOCK_TXS, bytes: MAX_BLOCK_BYTES, cost_us: core.machine.block_cost_us(&parent.view) };
        let txs = core.select(limits, &core.carried(&parent_digest));
        let mut header = Header {
            version: HEADER_VERSION,
            zone: core.roster.zone,
            height,
            base: parent.header.base,
            parent: parent_digest.0,
            timestamp_ms: core.clock.now(parent.header.timestamp_ms),
            state_root: [0; 32],
            ops_root: [0; 32],
            ops_start: 0,
            ops_end: 1,
            tx_root: [0; 32],
            validators: parent.next.hash,
            next_validators: [0; 32],
            proposer: raw(&context.leader),
            randomness,
            randomness_proof,
            term: context.round.epoch().get(),
            view: context.round.view().get(),
            parent_view: context.parent.0.get(),
        };
        core.must_be_ready(&parent.view);
        let executed = execute(&*core.machine, &parent.view, &context_of(&header, &parent.header), txs, Mode::Build)?;
        core.reject(&executed.dropped);
        let merkleized = merkleize::<E>(&parent, height, &executed, batches).await;
        header.state_root = merkleized.root().0;
        header.ops_root = merkleized.ops_root().0;
        header.ops_start = *merkleized.sync_boundary();
        header.ops_end = *merkleized.bounds().tip.size;
        header.tx_root = tx_root(&executed.txs);
        let view = parent.view.with(&executed.changes);
        let next = core.seats_after(&header, &view, &parent.next);
        header.next_validators = next.hash;
        let block = Block::new(header.clone(), executed.txs.clone())?;
        core.built(block.digest());
        core.insert_post(block.digest(), Arc::new(Post { header, view, executed, next }));
        core.failpoint("chain.proposed");
        Some(Proposed { block, merkleized })
    }

    /// [`App::check`] of a final block finds its ancestors on disk; if not, the engine is being stopped, and the
    /// answer is none rather than "invalid", which would be a reason to panic.
    async fn check_final<E: Rt>(&self, rt: &E, ancestry: impl Ancestry<Block>, batches: Unmerkleized<E>) -> Option<Merkleized<E>> {
        let mut probe = ancestry.clone();
        if probe.next().await.is_none() || probe.next().await.is_none() {
            return std::future::pending().await;
        }
        self.check(rt, ancestry, batches, Finality::Finalized).await
    }

    async fn check<E: Rt>(
        &self,
        rt: &E,
        mut ancestry: impl Ancestry<Block>,
        batches: Unmerkleized<E>,
        finality: Finality,
    ) -> Option<Merkleized<E>> {
        let core = &self.0;
        let digested = ancestry.next().await?;
        let block = digested.inner();
        let parent_block = ancestry.next().await?;
        let parent = self.parent_post(parent_block.inner(), ancestry).await?;
        self.check_header(&block.header, &parent, finality)?;
        let size: usize = block.txs.iter().map(Bytes::len).sum();
        if block.txs.len() > MAX_BLOCK_TXS || size > MAX_BLOCK_BYTES || block.header.tx_root != tx_root(&block.txs) {
            return None;
        }
        if finality == Finality::Candidate {
            self.await_time(rt, &block.header, &parent.header).await?;
            if !core.machine.verify(&block.txs) {
                return None;
            }
        }
        let context = context_of(&block.header, &parent.header);
        core.must_be_ready(&parent.view);
        let executed = execute(&*core.machine, &parent.view, &context, block.txs.clone(), Mode::Check)?;
        let merkleized = merkleize::<E>(&parent, block.header.height, &executed, batches).await;
        if merkleized.root().0 != block.header.state_root {
            tracing::error!(height = block.header.height, "a block's state root is not what its transactions give");
            return None;
        }
        let view = parent.view.with(&executed.changes);
        let next = core.seats_after(&block.header, &view, &parent.next);
        if next.hash != block.header.next_validators {
            tracing::error!(height = block.header.height, "a block names other validators for the next one than its state gives");
            return None;
        }
        core.insert_post(digested.digest(), Arc::new(Post { header: block.header.clone(), view, executed, next }));
        Some(merkleized)
    }
}

impl<E: Rt> Application<E> for App {
    type SigningScheme = Scheme;
    type Context = Ctx;
    type Block = Block;
    type Databases = Dbs<E>;
    type Captured = ();
    type Provider = ();
    type Input = ();

    fn sync_targets(block: &Block) -> <Dbs<E> as DatabaseSet<E>>::SyncTargets {
        // The decoder refuses an empty range, and a block of ours has at least its commit.
        let range = block.header.ops_range().unwrap_or_else(|| fail("a header with an empty operations range"));
        Target::new(sha256::Digest(block.header.ops_root), range)
    }

    async fn genesis(&mut self) -> Block {
        self.0.roster.genesis.clone()
    }

    async fn propose(
        &mut self,
        (_, context): (E, Ctx),
        ancestry: impl Ancestry<Block>,
        batches: Unmerkleized<E>,
        _: Input<(), ()>,
    ) -> Option<Proposed<Self, E>> {
        self.build::<E>(context, ancestry, batches).await
    }

    async fn process(
        &mut self,
        (rt, _): (E, Ctx),
        ancestry: impl Ancestry<Block>,
        batches: Unmerkleized<E>,
        finality: Finality,
    ) -> Option<Merkleized<E>> {
        match finality {
            Finality::Finalized => self.check_final::<E>(&rt, ancestry, batches).await,
            Finality::Candidate => self.check::<E>(&rt, ancestry, batches, finality).await,
        }
    }

    async fn capture(&mut self, _: (E, Ctx), _: &Block, _: &Merkleized<E>, _: <Dbs<E> as DatabaseSet<E>>::Readers) {
        self.0.failpoint("chain.before_apply");
    }

    async fn finalized(&mut self, _: (E, Ctx), block: &Block, (): (), _: <Dbs<E> as DatabaseSet<E>>::Readers) {
        // The block and its certificate are on disk; its state may not be, and is derived again after a crash.
        self.0.failpoint("chain.after_apply");
        if self.0.finalize(block).is_none() {
            fail(&format!("final block {} does not follow from the state before it", block.height()));
        }
        self.0.failpoint("chain.after_finalized");
    }
}

/// The operations range of an empty store.
pub(crate) fn empty_target<E: Rt>() -> ([u8; 32], (u64, u64)) {
    let target = <Dbs<E> as DatabaseSet<E>>::initial_sync_targets();
    let (start, end): (Location, Location) = (target.range.start(), target.range.end());
    (target.root.0, (*start, *end))
}
