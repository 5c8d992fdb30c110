//! Nodes of one zone on this machine, each with its engine, disk and sockets.

use super::{ADD, Counter, Members, PUT, tx};
use pasture_chain::{Chain, History, Options, Pending};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take that has to happen.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// Long enough for a block where there can be one; used to see that there is none.
pub(crate) const A_WHILE: Duration = Duration::from_secs(3);
/// Who changes the seats: its transactions are numbered.
pub(crate) const CLERK: u8 = 250;

/// Nodes of one zone; some may be stopped.
pub(crate) struct Zone {
    pub(crate) members: Members,
    pub(crate) root: TempDir,
    /// The clerk's next transaction.
    pub(crate) clerk: u64,
    /// How many blocks each keeps.
    pub(crate) keep_blocks: Option<u64>,
    chains: Vec<Option<Chain>>,
}

impl Zone {
    /// The first of the members run.
    pub(crate) fn start(members: Members, running: usize) -> Self {
        Self::keeping(members, running, None)
    }
    pub(crate) fn keeping(members: Members, running: usize, keep_blocks: Option<u64>) -> Self {
        let mut zone = Self { root: tempfile::tempdir().unwrap(), clerk: 0, keep_blocks, chains: vec![], members };
        zone.chains.resize_with(zone.members.secrets.len(), || None);
        (0..running).for_each(|index| zone.up(index));
        zone
    }
    pub(crate) fn dir(&self, index: usize) -> PathBuf {
        self.root.path().join(index.to_string())
    }
    pub(crate) fn options(&self, index: usize) -> Options {
        let history = History { keep_blocks: self.keep_blocks, ..History::default() };
        Options { history, ..self.members.options(index, &self.dir(index)) }
    }
    pub(crate) fn up(&mut self, index: usize) {
        self.begin(index, self.options(index));
    }
    /// One that is told where some of the others are.
    pub(crate) fn up_naming(&mut self, index: usize, named: &[usize]) {
        self.begin(index, self.members.options_naming(index, &self.dir(index), named));
    }
    pub(crate) fn begin(&mut self, index: usize, options: Options) {
        self.keep(index, Chain::start(options, Arc::new(Counter)).unwrap());
    }
    /// Takes in one that runs.
    pub(crate) fn keep(&mut self, index: usize, chain: Chain) {
        self.chains[index] = Some(chain);
    }
    pub(crate) async fn down(&mut self, index: usize) {
        self.chains[index].take().unwrap().shutdown(SOON).await.unwrap();
    }
    pub(crate) fn chain(&self, index: usize) -> &Chain {
        self.chains[index].as_ref().unwrap()
    }
    /// A transaction of the clerk's, final where it was handed in.
    pub(crate) async fn write(&mut self, index: usize, name: u8, value: &[u8]) -> u64 {
        let written = tx(CLERK, 0, self.clerk, PUT, &[&[name], value].concat());
        self.clerk += 1;
        soon(self.chain(index).submit(written).unwrap()).await
    }
    pub(crate) fn hand_in(&self, index: usize, sender: u8, seq: u64) -> Pending {
        self.chain(index).submit(tx(sender, 0, seq, ADD, b"")).unwrap()
    }
    pub(crate) async fn add(&self, index: usize, sender: u8, seq: u64) -> u64 {
        soon(self.hand_in(index, sender, seq)).await
    }
    /// Waits until a condition holds of a node, looking after each of its blocks.
    pub(crate) async fn until(&self, index: usize, what: &str, holds: impl Fn(&Chain) -> bool) {
        let chain = self.chain(index);
        let mut blocks = chain.subscribe();
        let waited = async {
            while !holds(chain) {
                blocks.next().await.unwrap();
            }
        };
        tokio::select! {
            waited = tokio::time::timeout(SOON, waited) => assert!(waited.is_ok(), "node {index} at {:?}: {what}", chain.status()),
            error = chain.failed() => panic!("node {index}: {error}"),
        }
    }
    pub(crate) async fn until_height(&self, index: usize, height: u64) {
        self.until(index, &format!("height {height}"), |chain| chain.status().height >= height).await;
    }
    /// The digest of a node's block at a height, once it has it.
    pub(crate) async fn digest_at(&self, index: usize, height: u64) -> [u8; 32] {
        self.until_height(index, height).await;
        self.chain(index).block(height).await.unwrap().unwrap().digest
    }
    /// All that run have the same block at the height of the highest.
    pub(crate) async fn agree(&self) -> u64 {
        let running: Vec<usize> = (0..self.chains.len()).filter(|index| self.chains[*index].is_some()).collect();
        let height = running.iter().map(|index| self.chain(*index).status().height).max().unwrap();
        let first = self.digest_at(running[0], height).await;
        for index in &running[1..] {
            assert_eq!(self.digest_at(*index, height).await, first, "node {index} at {height}");
        }
        height
    }
    /// Those who proposed the last blocks of a node.
    pub(crate) async fn proposers(&self, index: usize, last: u64) -> BTreeSet<[u8; 32]> {
        let chain = self.chain(index);
        let height = chain.status().height;
        let mut found = BTreeSet::new();
        for at in height.saturating_sub(last).max(1)..=height {
            found.insert(chain.block(at).await.unwrap().unwrap().header.proposer);
        }
        found
    }
}

/// The height of the block that a transaction is final in.
pub(crate) async fn soon(pending: Pending) -> u64 {
    tokio::time::timeout(SOON, pending.finalized()).await.unwrap().unwrap().height
}
