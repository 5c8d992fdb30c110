//! The state of a stopped chain, read without starting it.
//!
//! Guarantees: takes the data directory's lock and changes nothing; what it gives is the state after the last final block,
//! with that block's certificate, or an error. It executes nothing: a directory whose state lags behind its blocks is refused.

use crate::app::{Dbs, empty_target, split_value};
use crate::block::{Block, Digest, Header};
use crate::core::Tip;
use crate::error::ChainError;
use crate::genesis::{Genesis, Roster};
use crate::handle::{Certified, Hold, Snapshot, explain, store_dir};
use crate::stack;
use crate::view::View;
use bytes::Bytes;
use commonware_codec::Encode as _;
use commonware_consensus::simplex::{scheme::ed25519::Scheme, types::Finalization};
use commonware_cryptography::Digestible as _;
use commonware_glue::stateful::db::DatabaseSet as _;
use commonware_runtime::{Runner as _, Supervisor as _, buffer::paged::CacheRef, tokio as engine_runtime};
use commonware_storage::archive::{Archive as _, Identifier, prunable};
use futures::{StreamExt as _, TryStreamExt as _};
use std::path::Path;
use std::sync::Arc;

/// What a stopped chain ended with.
pub struct StoredState {
    /// The state after the last final block.
    pub state: Snapshot,
    /// That block's header with its certificate.
    pub finality: Certified,
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
    let cache = stack::page_cache();
    let (height, root, view) = read_view(context.child("live"), cache.clone()).await?;
    let index = roster.engine_height(height).ok_or_else(|| damaged("blocks", format!("block {height} is missing")))?.get();
    let (block, last) = read_block(context.child("blocks"), &roster, cache.clone(), index).await?;
    let header = block.header.clone();
    if last > index {
        return Err(ChainError::Behind { state: height, last: roster.genesis.header.base.saturating_add(last) });
    }
    if header.state_root != root || header.height != height {
        return Err(damaged("state", format!("its root is not the one that block {height} commits to")));
    }
    let certificate =
        read_certificate(context.child("finality"), &roster, cache, index).await?.ok_or(ChainError::Uncertified { height })?;
    let finality = Certified { headers: vec![header.clone()], certificate };
    let tip = Tip { header, digest: block.digest(), view };
    Ok(StoredState { state: Snapshot::new(Arc::new(tip)), finality })
}

fn damaged(part: &'static str, detail: String) -> ChainError {
    ChainError::Corrupt { part, path: format!("chain-{part}-*").into(), detail }
}

async fn read_view(context: engine_runtime::Context, cache: CacheRef) -> Result<(u64, [u8; 32], View), ChainError> {
    let dbs = Dbs::<engine_runtime::Context>::init(context, stack::db_config(stack::PREFIX, cache), None).await;
    let db = dbs.read().await;
    let metadata = db.get_metadata().await.map_err(|error| damaged("state", error.to_string()))?;
    let height = metadata.and_then(|bytes| bytes.first_chunk::<8>().map(|b| u64::from_be_bytes(*b))).ok_or(ChainError::Empty)?;
    let entries: Result<Vec<(Bytes, Bytes)>, ChainError> = db
        .stream_range(..)
        .map(|entry| {
            let (_, stored) = entry.map_err(|error| damaged("state", error.to_string()))?;
            split_value(&stored).ok_or_else(|| damaged("state", "a record is unreadable".into()))
        })
        .try_collect()
        .await;
    Ok((height, db.root().0, View::from_entries(entries?)))
}

/// The block, and the index of the last one that is stored.
async fn read_block(context: engine_runtime::Context, roster: &Roster, cache: CacheRef, index: u64) -> Result<(Block, u64), ChainError> {
    let failed = |error: String| damaged("blocks", error);
    let blocks = prunable::Archive::<_, _, Digest, Block>::init(context, stack::archive_config("blocks", roster, cache, ()))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let block = blocks.get(Identifier::Index(index)).await.map_err(|error| failed(error.to_string()))?;
    let block = block.ok_or_else(|| failed("the block of the state is missing".into()))?;
    Ok((block, blocks.last_index().unwrap_or(index)))
}

async fn read_certificate(
    context: engine_runtime::Context,
    roster: &Roster,
    cache: CacheRef,
    index: u64,
) -> Result<Option<Vec<u8>>, ChainError> {
    let failed = |error: String| damaged("finality", error);
    let config = stack::archive_config("finality", roster, cache, crate::genesis::MAX_VALIDATORS);
    let certificates = prunable::Archive::<_, _, Digest, Finalization<Scheme, Digest>>::init(context, config)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let certificate = certificates.get(Identifier::Index(index)).await.map_err(|error| failed(error.to_string()))?;
    Ok(certificate.map(|c| c.encode().to_vec()))
}

impl StoredState {
    /// The last final block's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.state.header()
    }
}
