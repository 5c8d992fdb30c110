//! The state of a stopped chain, read without starting it.
//!
//! Guarantees: takes the data directory's lock and changes nothing; what it gives is the state after the last final block,
//! with that block's certificate and whatever leads to it from the founders, or an error. It executes nothing: a directory whose state
//! lags behind its blocks is refused.

use crate::app::{Dbs, empty_target};
use crate::block::{Block, Digest, Header};
use crate::core::Tip;
use crate::error::ChainError;
use crate::genesis::{Genesis, Roster, Validator};
use crate::handle::{Certified, Handover, Hold, Snapshot, explain, store_dir};
use crate::records::records;
use crate::stack::{self, MANY_OPERATIONS, Sizes};
use crate::terms::Book;
use crate::view::View;
use commonware_codec::Encode as _;
use commonware_consensus::simplex::{scheme::ed25519::Scheme, types::Finalization};
use commonware_cryptography::Digestible as _;
use commonware_glue::stateful::db::DatabaseSet as _;
use commonware_runtime::{Runner as _, Supervisor as _, buffer::paged::CacheRef, tokio as engine_runtime};
use commonware_storage::{
    archive::{Archive as _, Identifier, prunable},
    translator::EightCap,
};
use std::path::Path;
use std::sync::Arc;

/// What a stopped chain ended with.
pub struct StoredState {
    /// The state after the last final block.
    pub state: Snapshot,
    /// That block's header with its certificate.
    pub finality: Certified,
    /// How the validators that this run began with handed over to those of the block after it, oldest first.
    pub handovers: Vec<Handover>,
    /// Who certifies the block after it, ascending by key.
    pub next: Vec<Validator>,
}

/// Reads the last final state of a data directory on which no node runs.
///
/// # Errors
/// The directory is in use, of another zone, damaged, without a block, or its node did not stop in order.
pub fn stored_state(data_dir: &Path, genesis: &Genesis) -> Result<StoredState, ChainError> {
    let _hold = Hold::take(data_dir, &genesis.zone)?;
    let store = store_dir(data_dir);
    let config = engine_runtime::Config::new().with_worker_threads(1).with_storage_directory(&store);
    let genesis = genesis.clone();
    // A thread of its own, so that a caller within an async runtime may read too.
    let work = move || engine_runtime::Runner::new(config).start(|context| run(context, genesis));
    let reading = std::thread::Builder::new().name("export".into()).spawn(work);
    let reading = reading.map_err(|e| ChainError::Fatal(format!("cannot start a thread: {e}")))?;
    reading.join().unwrap_or_else(|panic| Err(explain(&store, &*panic)))
}

async fn run(context: engine_runtime::Context, genesis: Genesis) -> Result<StoredState, ChainError> {
    let (ops_root, ops) = empty_target::<engine_runtime::Context>();
    let roster = Roster::new(&genesis, ops_root, ops)?;
    let cache = stack::page_cache(Sizes::default());
    let (height, root, view) = read_view(context.child("live"), cache.clone()).await?;
    let index = roster.engine_height(height).ok_or_else(|| damaged("blocks", format!("block {height} is missing")))?.get();
    let files = Files::open(&context, &roster, cache).await?;
    let block = files.block(index).await?;
    let header = block.header.clone();
    let last = files.blocks.last_index().unwrap_or(index);
    if last > index {
        return Err(ChainError::Behind { state: height, last: roster.genesis.header.base.saturating_add(last) });
    }
    if header.state_root != root || header.height != height {
        return Err(damaged("state", format!("its root is not the one that block {height} commits to")));
    }
    let certificate = files.certificate(index).await?.ok_or(ChainError::Uncertified { height })?;
    let kept = Book::read(context.child("terms"), stack::PREFIX).await.map_err(|error| damaged("terms", error))?.kept()?;
    let next = kept.iter().map(|(_, seats)| seats.as_ref()).chain([&*roster.founders]).find(|seats| seats.hash == header.next_validators);
    let next = next.ok_or_else(|| damaged("terms", format!("who certifies after block {height} is not there")))?.named.clone();
    let handovers = kept.iter().map(|(change, seats)| Handover::of(change, seats)).collect();
    let finality = Certified { headers: vec![header.clone()], certificate };
    let tip = Tip { header, digest: block.digest(), view };
    Ok(StoredState { state: Snapshot::new(Arc::new(tip)), finality, handovers, next })
}

fn damaged(part: &'static str, detail: String) -> ChainError {
    ChainError::Corrupt { part, path: format!("chain-{part}-*").into(), detail }
}

async fn read_view(context: engine_runtime::Context, cache: CacheRef) -> Result<(u64, [u8; 32], View), ChainError> {
    let config = stack::db_config(stack::PREFIX, cache, (MANY_OPERATIONS, Sizes::default()));
    let dbs = Dbs::<engine_runtime::Context>::init(context, config, None).await;
    let db = dbs.read().await;
    let metadata = db.get_metadata().await.map_err(|error| damaged("state", error.to_string()))?;
    let height = metadata.and_then(|bytes| bytes.first_chunk::<8>().map(|b| u64::from_be_bytes(*b))).ok_or(ChainError::Empty)?;
    let entries = records(&db).await.map_err(|error| damaged("state", error))?;
    Ok((height, db.root().0, View::from_entries(entries)))
}

/// Blocks and certificates, by the engine's height.
struct Files {
    blocks: prunable::Archive<EightCap, engine_runtime::Context, Digest, Block>,
    certificates: prunable::Archive<EightCap, engine_runtime::Context, Digest, Finalization<Scheme, Digest>>,
}

impl Files {
    async fn open(context: &engine_runtime::Context, roster: &Roster, cache: CacheRef) -> Result<Self, ChainError> {
        let config = stack::archive_config("blocks", (roster, Sizes::default()), cache.clone(), ());
        let blocks = prunable::Archive::init(context.child("blocks"), config).await;
        let config = stack::archive_config("finality", (roster, Sizes::default()), cache, crate::genesis::MAX_VALIDATORS);
        let certificates = prunable::Archive::init(context.child("finality"), config).await;
        Ok(Self {
            blocks: blocks.map_err(|error| damaged("blocks", error.to_string()))?,
            certificates: certificates.map_err(|error| damaged("finality", error.to_string()))?,
        })
    }

    async fn block(&self, index: u64) -> Result<Block, ChainError> {
        let block = self.blocks.get(Identifier::Index(index)).await.map_err(|error| damaged("blocks", error.to_string()))?;
        block.ok_or_else(|| damaged("blocks", format!("number {index} of this run is missing")))
    }

    async fn certificate(&self, index: u64) -> Result<Option<Vec<u8>>, ChainError> {
        let found = self.certificates.get(Identifier::Index(index)).await.map_err(|error| damaged("finality", error.to_string()))?;
        Ok(found.map(|certificate| certificate.encode().to_vec()))
    }
}

impl StoredState {
    /// The last final block's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.state.header()
    }
}
