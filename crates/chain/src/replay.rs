//! Executes every stored block again, from genesis, beside the live store, and compares.
//!
//! Guarantees: offline (it takes the data directory's lock); it changes nothing but a scratch area, which it removes.
//! It checks transactions' effects, both roots, randomness, time and linkage. It does not check certificates. A history whose beginning
//! is not here is refused.

use crate::app::{Dbs, empty_target, genesis_view, merkleize};
use crate::block::{Block, tx_root};
use crate::clock::LedgerClock;
use crate::core::{Core, Post, Settings, context_of};
use crate::error::ChainError;
use crate::execute::{Executed, Mode, execute};
use crate::genesis::{Genesis, Identity, Roster, raw};
use crate::handle::{Hold, explain, store_dir};
use crate::machine::{Machine, TxOutcome};
use crate::stack::{self, Sizes};
use commonware_cryptography::Digestible as _;
use commonware_glue::stateful::db::{DatabaseSet as _, Merkleized as _};
use commonware_runtime::{Runner as _, Supervisor as _, buffer::paged::CacheRef, tokio as engine_runtime};
use commonware_storage::archive::{Archive as _, Identifier, prunable};
use pasture_rt::ManualClock;
use std::path::Path;
use std::sync::Arc;

/// Prefix of the scratch area's directories.
const SCRATCH: &str = "replay";

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// Blocks executed.
    pub blocks: u64,
    /// Transactions executed.
    pub txs: u64,
    /// Transactions without effect.
    pub failed_txs: u64,
    /// Root of the state at the end.
    pub state_root: [u8; 32],
    /// The first block that does not come out as stored, and how.
    pub difference: Option<(u64, String)>,
}

/// Replays a data directory on which no node runs.
///
/// # Errors
/// The directory is in use, of another zone, or cannot be read. A block that executes differently is not an error but
/// in the report.
pub fn replay(data_dir: &Path, genesis: &Genesis, machine: Arc<dyn Machine>) -> Result<ReplayReport, ChainError> {
    let _hold = Hold::take(data_dir, &genesis.zone)?;
    let store = store_dir(data_dir);
    // A replay signs nothing; any key does.
    let identity = Identity::from_secret(&[1; 32]).ok_or_else(|| ChainError::Fatal("no key".into()))?;
    let config = engine_runtime::Config::new().with_worker_threads(1).with_storage_directory(&store);
    // A thread of its own, so that a caller within an async runtime may replay too.
    clear(&store)?;
    let thread = std::thread::Builder::new().name("replay".into());
    let genesis = genesis.clone();
    let work = move || engine_runtime::Runner::new(config).start(|context| run(context, genesis, identity, machine));
    let replaying = thread.spawn(work).map_err(|e| ChainError::Fatal(format!("cannot start a thread: {e}")))?;
    let result = replaying.join().unwrap_or_else(|panic| Err(explain(&store, &*panic)));
    clear(&store)?;
    result.map_err(|error| match error {
        ChainError::Corrupt { part, path, detail } => ChainError::Corrupt { part, path: store.join(path), detail },
        other => other,
    })
}

async fn run(
    context: engine_runtime::Context,
    genesis: Genesis,
    identity: Identity,
    machine: Arc<dyn Machine>,
) -> Result<ReplayReport, ChainError> {
    let (ops_root, ops) = empty_target::<engine_runtime::Context>();
    let roster = Roster::new(&genesis, ops_root, ops)?;
    let clock = LedgerClock::new(Arc::new(ManualClock::new(0)));
    let core = Core::new(machine, roster, identity, clock, Settings::default(), None);
    let cache = stack::page_cache(Sizes::default());
    let blocks = prunable::Archive::<_, _, crate::block::Digest, Block>::init(
        context.child("blocks"),
        stack::archive_config("blocks", (&core.roster, Sizes::default()), cache.clone(), ()),
    )
    .await
    .map_err(|error| blocks_damaged(error.to_string()))?;
    if let Some(first) = blocks.first_index().filter(|first| *first > 1) {
        return Err(ChainError::Partial { first: core.roster.genesis.header.base.saturating_add(first) });
    }
    let live = live_store(context.child("live"), &core, cache.clone()).await?;
    let config = stack::db_config(SCRATCH, cache, (stack::MANY_OPERATIONS, Sizes::default()));
    let dbs = Dbs::<engine_runtime::Context>::init(context.child("scratch"), config, None).await;

    let genesis = core.roster.genesis.clone();
    let founders = Arc::clone(&core.roster.founders);
    let mut parent = Post { header: genesis.header.clone(), view: genesis_view(&core), executed: Executed::default(), next: founders };
    let mut digest = genesis.digest();
    let mut report = ReplayReport { blocks: 0, txs: 0, failed_txs: 0, state_root: [0; 32], difference: None };
    for index in 1.. {
        let height = genesis.header.base.saturating_add(index);
        let block = blocks.get(Identifier::Index(index)).await.map_err(|error| ChainError::Corrupt {
            part: "blocks",
            path: "chain-blocks-*".into(),
            detail: error.to_string(),
        })?;
        let Some(block) = block else { break };
        if height == live.0 && block.header.state_root != live.1 {
            report.difference = Some((height, "the live state's root is not the one that the block commits to".into()));
            break;
        }
        match step(&core, &dbs, &parent, digest, &block).await {
            Ok(post) => {
                digest = block.digest();
                report.blocks += 1;
                report.txs += block.txs.len() as u64;
                report.failed_txs +=
                    post.executed.outcomes.iter().filter(|o| matches!(o, TxOutcome::Applied { ok: false, .. })).count() as u64;
                report.state_root = post.header.state_root;
                parent = post;
            }
            Err(difference) => {
                report.difference = Some((height, difference));
                break;
            }
        }
    }
    let reached = parent.header.height;
    if report.difference.is_none() && reached < live.0 {
        let detail = format!("the state is at block {}, but the last readable block is {reached}", live.0);
        return Err(blocks_damaged(detail));
    }
    Ok(report)
}

fn blocks_damaged(detail: String) -> ChainError {
    ChainError::Corrupt { part: "blocks", path: "chain-blocks-*".into(), detail }
}

/// Height and root of the live store.
async fn live_store(context: engine_runtime::Context, core: &Core, cache: CacheRef) -> Result<(u64, [u8; 32]), ChainError> {
    let config = stack::db_config(stack::PREFIX, cache, (stack::MANY_OPERATIONS, Sizes::default()));
    let dbs = Dbs::<engine_runtime::Context>::init(context, config, None).await;
    let db = dbs.read().await;
    let metadata = db.get_metadata().await.map_err(|error| ChainError::Fatal(error.to_string()))?;
    let height =
        metadata.and_then(|bytes| bytes.first_chunk::<8>().map(|b| u64::from_be_bytes(*b))).unwrap_or(core.roster.genesis.header.base);
    Ok((height, db.root().0))
}

/// Removes what a replay leaves.
fn clear(store: &Path) -> Result<(), ChainError> {
    let entries = match std::fs::read_dir(store) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ChainError::io(store, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| ChainError::io(store, &error))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"replay-")) {
            std::fs::remove_dir_all(&path).map_err(|error| ChainError::io(&path, &error))?;
        }
    }
    Ok(())
}

/// Executes one block; says how it differs from what is stored.
async fn step(
    core: &Core,
    dbs: &Dbs<engine_runtime::Context>,
    parent: &Post,
    parent_digest: crate::block::Digest,
    block: &Block,
) -> Result<Post, String> {
    let header = &block.header;
    if header.parent != parent_digest.0 || header.zone != core.roster.zone || header.base != parent.header.base {
        return Err("it does not follow the block before it".into());
    }
    if header.timestamp_ms < parent.header.timestamp_ms {
        return Err("its time is before its parent's".into());
    }
    if header.tx_root != tx_root(&block.txs) {
        return Err("its transactions are not those its header commits to".into());
    }
    let seats = &parent.next;
    if header.validators != seats.hash {
        return Err("its validators are not those who had to certify it".into());
    }
    let proposer = seats.keys.keys().find(|key| raw(key) == header.proposer).ok_or("its proposer is no validator")?;
    if !seats.randomness_follows(header, &parent.header.randomness, proposer) {
        return Err("its randomness is not its proposer's".into());
    }
    if !core.machine.verify(&block.txs) {
        return Err("a signature in it is not valid".into());
    }
    let context = context_of(header, &parent.header);
    core.machine.ready(&parent.view)?;
    let executed = execute(&*core.machine, &parent.view, &context, block.txs.clone(), Mode::Check)
        .ok_or("it contains a transaction that no block may contain")?;
    let merkleized = merkleize::<engine_runtime::Context>(parent, header.height, &executed, dbs.new_batches().await).await;
    if merkleized.root().0 != header.state_root || merkleized.ops_root().0 != header.ops_root {
        return Err("its state root is not what its transactions give".into());
    }
    dbs.apply(merkleized).await;
    let view = parent.view.with(&executed.changes);
    let next = core.seats_after(header, &view, seats);
    if next.hash != header.next_validators {
        return Err("it names other validators for the next block than its state gives".into());
    }
    Ok(Post { header: header.clone(), view, executed, next })
}
