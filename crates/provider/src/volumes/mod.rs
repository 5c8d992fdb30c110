//! The volumes of this node: `book.rs` decides, this acts.
//!
//! ```text
//!  volumes                        Book, replaced as a whole: what is in it is there
//!  runtime: kept/<node>/v<N>.img  made before the book names it, removed after the book has forgotten it
//! ```
//! Guarantees: a crash at any point leaves every volume and snapshot whole or not there; what the book does not name is removed at the
//! next start, and nothing that it names. A job that needs a volume while it is copied waits for that. Nothing here pays or charges.

mod book;
mod error;
mod options;

pub(crate) use book::Limits;
pub(crate) use error::VolumeError;
pub use options::VolumeOptions;

use crate::context::Context;
use crate::detect;
use crate::lease::{LeaseRecord, Shared};
use book::{Book, MAX_SNAPSHOTS, Snapshot, Volume};
use pasture_api::volumes::VolumeView;
use pasture_rt::TaskKind;
use pasture_runtime::{Keeper, Mount, Use, VolumeKey};
use pasture_store::{RecordFile, StoreError};
use pasture_types::spec::Manifest;
use pasture_types::{AccountId, LeaseId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, Notify, OwnedMutexGuard};

/// How long is waited for a copy to be made, or for the container of a job that has ended to be gone.
const FREE_WAIT: Duration = Duration::from_secs(600);

/// How often is looked again meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether a copy that is being made is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Copies {
    Awaited,
    Refused,
}

pub(crate) struct State {
    book: Book,
    /// Volumes that are being copied or replaced.
    busy: BTreeSet<VolumeKey>,
}

/// The volumes of one node. A lock and not an owner task: what is done under it takes moments, copies are made outside.
pub(crate) struct Volumes {
    file: RecordFile<Book>,
    state: Arc<Mutex<State>>,
    /// A copy has been made.
    free: Notify,
}

impl Volumes {
    /// Reads the book.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let file = RecordFile::<Book>::new(dir.join("volumes"));
        let book = file.load()?.unwrap_or_default();
        Ok(Self { file, state: Arc::new(Mutex::new(State { book, busy: BTreeSet::new() })), free: Notify::new() })
    }

    /// Writes a changed book; only then it counts.
    async fn commit(&self, state: &mut State, book: Book) -> Result<(), StoreError> {
        let (file, written) = (self.file.clone(), book.clone());
        // `None` only if the blocking pool is gone, which is the end of the process.
        if let Some(outcome) = pasture_rt::spawn_blocking(TaskKind::Connection, move || file.save(&written)).join().await {
            outcome?;
        }
        state.book = book;
        Ok(())
    }

    /// The state once nothing keeps these volumes that is about to pass: a job that has ended and whose container is not gone yet, and, if
    /// that is waited for, a copy.
    async fn when_free(
        &self,
        ctx: &Context,
        account: &AccountId,
        names: &BTreeSet<&str>,
        copies: Copies,
    ) -> Result<MutexGuard<'_, State>, VolumeError> {
        let wait = async {
            loop {
                let state = self.state.lock().await;
                let copied = |v: &Volume| copies == Copies::Awaited && state.busy.contains(&v.key);
                let ending = |v: &Volume| v.users.iter().any(|u| has_ended(ctx, &u.lease) && !is_over(ctx, &u.lease));
                let held = state.book.of(account).any(|v| names.contains(v.name.as_str()) && (copied(v) || ending(v)));
                if !held {
                    return state;
                }
                // Made while the lock is held: no word of an end is missed.
                let freed = self.free.notified();
                drop(state);
                // A job that never got a container ends without a word of it.
                let _ = tokio::time::timeout(LOOK_EVERY, freed).await;
            }
        };
        let name = names.iter().next().copied().unwrap_or_default().to_owned();
        tokio::time::timeout(FREE_WAIT, wait).await.map_err(|_| VolumeError::Busy(name))
    }

    /// Whether an account has something here.
    pub(crate) async fn knows(&self, account: &AccountId) -> bool {
        self.state.lock().await.book.of(account).next().is_some()
    }
}

fn limits(ctx: &Context) -> Limits {
    ctx.options.volumes.limits()
}

fn keeper(ctx: &Context) -> Result<&dyn Keeper, VolumeError> {
    ctx.runtime.keeper().ok_or(VolumeError::Unable)
}

fn now(ctx: &Context) -> Timestamp {
    Timestamp(ctx.clock.now_ms())
}

/// Whether a lease is over for its volumes: it has no container any more.
fn is_over(ctx: &Context, lease: &LeaseId) -> bool {
    ctx.leases.get(lease).is_none_or(|l| l.is_finished())
}

fn has_room(ctx: &Context, bytes: u64) -> Result<(), VolumeError> {
    let needed = bytes.saturating_add(ctx.options.reserve_disk_bytes);
    if detect::free_disk(&ctx.options.data_dir) < needed { Err(VolumeError::DiskFull) } else { Ok(()) }
}

/// Whether a lease's job has ended, although its container may still be there.
fn has_ended(ctx: &Context, lease: &LeaseId) -> bool {
    ctx.leases.get(lease).is_none_or(|l| l.status().end.is_some())
}

async fn forget(ctx: &Context, keys: Vec<VolumeKey>) {
    for key in &keys {
        let removed = match keeper(ctx) {
            Ok(keeper) => keeper.remove(&ctx.owner, key).await.map_err(VolumeError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(error = %crate::lease::chain(&error), volume = %key, "what is nobody's stays until the next start");
        }
    }
}

async fn rest(ctx: &Context, keys: &[VolumeKey]) {
    for key in keys {
        let rested = match keeper(ctx) {
            Ok(keeper) => keeper.rest(&ctx.owner, key).await.map_err(VolumeError::from),
            Err(error) => Err(error),
        };
        if let Err(error) = rested {
            tracing::warn!(error = %crate::lease::chain(&error), volume = %key, "a volume that nobody uses stays mounted");
        }
    }
}

/// At start-up, before leases go on: jobs that are over let go, and the disk is made to be as the book says. Until what is given is
/// dropped, nobody gets a volume: only when all leases are known is it clear which of them are over.
pub(crate) async fn take_up(ctx: &Context, records: &[LeaseRecord]) -> Result<OwnedMutexGuard<State>, VolumeError> {
    let alive: BTreeSet<LeaseId> =
        records.iter().filter(|r| !(r.end.is_some() && (r.removed || r.container.is_none()))).map(|r| r.terms.lease).collect();
    let mut state = Arc::clone(&ctx.volumes.state).lock_owned().await;
    let mut book = state.book.clone();
    if book.let_go(|lease| !alive.contains(lease), now(ctx)).0 {
        ctx.volumes.commit(&mut state, book).await?;
    }
    let keeper = match keeper(ctx) {
        Ok(keeper) => keeper,
        Err(error) if !state.book.volumes.is_empty() => {
            tracing::warn!(%error, "this node's volumes cannot be used");
            return Ok(state);
        }
        Err(_) => return Ok(state),
    };
    let mut keep = BTreeMap::new();
    for volume in &state.book.volumes {
        let using = if volume.users.is_empty() { Use::Resting } else { Use::Held };
        keep.extend(volume.keys().map(|key| (key.clone(), if *key == volume.key { using } else { Use::Resting })));
    }
    let removed = keeper.clear(&ctx.owner, &keep).await?;
    if removed > 0 {
        tracing::warn!(removed, "removed volumes that were never finished or are nobody's");
    }
    Ok(state)
}

/// The volumes of a job, made where they are new, as its container gets them.
pub(crate) async fn attach(ctx: &Context, lease: &Shared, manifest: &Manifest) -> Result<Vec<Mount>, VolumeError> {
    if manifest.volumes.is_empty() {
        return Ok(vec![]);
    }
    let (keeper, account, id) = (keeper(ctx)?, lease.terms.account, lease.id());
    let names = manifest.volumes.iter().map(|v| v.name.as_str()).collect();
    let mut state = ctx.volumes.when_free(ctx, &account, &names, Copies::Awaited).await?;
    let mut book = state.book.clone();
    book.let_go(|other| *other != id && is_over(ctx, other), now(ctx));
    let (mut mounts, mut made) = (vec![], vec![]);
    for mount in &manifest.volumes {
        if !mount.read_only && matches!(book.find(&account, &mount.name), Err(VolumeError::NoVolume(_))) {
            has_room(ctx, mount.bytes)?;
            made.push((book.add(account, &mount.name, mount.bytes, &limits(ctx), now(ctx))?.key.clone(), mount.bytes));
        }
        let volume = book.give(&account, mount, id)?;
        mounts.push(Mount { volume, path: mount.path.clone(), read_only: mount.read_only });
    }
    // What is made now is not made again under the same key, whatever becomes of it.
    state.book.spend(&book);
    let outcome = async {
        for (key, bytes) in &made {
            keeper.make(&ctx.owner, key, *bytes).await?;
        }
        ctx.volumes.commit(&mut state, book).await.map_err(VolumeError::from)
    };
    if let Err(error) = outcome.await {
        forget(ctx, made.into_iter().map(|(key, _)| key).collect()).await;
        return Err(error);
    }
    Ok(mounts)
}

/// A job's container is gone, or was never made.
pub(crate) async fn release(ctx: &Context, lease: &LeaseId) {
    let mut state = ctx.volumes.state.lock().await;
    let mut book = state.book.clone();
    let (changed, resting) = book.let_go(|l| l == lease, now(ctx));
    if !changed {
        return;
    }
    if let Err(error) = ctx.volumes.commit(&mut state, book).await {
        // Found again by the next job that wants it, or at the next start.
        tracing::warn!(%error, %lease, "that a job let go of its volumes cannot be recorded");
        return;
    }
    ctx.volumes.free.notify_waiters();
    // One that is being copied rests when that is done: a frozen file system must not be unmounted.
    let resting: Vec<_> = resting.into_iter().filter(|key| !state.busy.contains(key)).collect();
    rest(ctx, &resting).await;
}

/// What an account has here.
pub(crate) async fn list(ctx: &Context, account: &AccountId) -> Result<Vec<VolumeView>, VolumeError> {
    let keeper = keeper(ctx)?;
    let mut volumes: Vec<Volume> = ctx.volumes.state.lock().await.book.of(account).cloned().collect();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = vec![];
    for mut volume in volumes {
        volume.users.retain(|u| !has_ended(ctx, &u.lease));
        let mut stored = vec![];
        for key in volume.keys() {
            // One that was removed since takes nothing.
            stored.push(keeper.stored(&ctx.owner, key).await.unwrap_or_default());
        }
        out.push(volume.view(&limits(ctx), &stored));
    }
    Ok(out)
}

fn idle(state: &State, volume: &Volume) -> Result<(), VolumeError> {
    if state.busy.contains(&volume.key) { Err(VolumeError::Busy(volume.name.clone())) } else { Ok(()) }
}

/// Removes a volume; with snapshots only if they are meant, too.
pub(crate) async fn remove(ctx: &Context, account: &AccountId, name: &str, all: bool) -> Result<(), VolumeError> {
    let mut state = ctx.volumes.when_free(ctx, account, &BTreeSet::from([name]), Copies::Refused).await?;
    let mut book = state.book.clone();
    book.let_go(|l| is_over(ctx, l), now(ctx));
    let volume = book.find(account, name)?.clone();
    idle(&state, &volume)?;
    volume.unused()?;
    if !volume.snapshots.is_empty() && !all {
        return Err(VolumeError::HasSnapshots(name.to_owned()));
    }
    book.volumes.retain(|v| v.key != volume.key);
    ctx.volumes.commit(&mut state, book).await?;
    forget(ctx, volume.keys().cloned().collect()).await;
    Ok(())
}

/// Removes a snapshot.
pub(crate) async fn remove_snapshot(ctx: &Context, account: &AccountId, name: &str, snapshot: &str) -> Result<(), VolumeError> {
    let mut state = ctx.volumes.state.lock().await;
    let mut book = state.book.clone();
    idle(&state, book.find(account, name)?)?;
    let volume = book.find_mut(account, name)?;
    let found = volume.snapshot(snapshot).cloned();
    let found = found.ok_or_else(|| VolumeError::NoSnapshot { name: name.to_owned(), snapshot: snapshot.to_owned() })?;
    volume.snapshots.retain(|s| s.key != found.key);
    ctx.volumes.commit(&mut state, book).await?;
    forget(ctx, vec![found.key]).await;
    Ok(())
}

/// Copies `from` to a fresh file system while `volume` is marked busy, then has `record` write it into the book under the lock. What
/// was copied in vain is removed.
async fn copy(
    ctx: &Context,
    volume: &Volume,
    from: &VolumeKey,
    to: &VolumeKey,
    record: impl FnOnce(&mut Book) -> Result<Option<VolumeKey>, VolumeError>,
) -> Result<(), VolumeError> {
    let copied = keeper(ctx)?.copy(&ctx.owner, from, to).await;
    let mut state = ctx.volumes.state.lock().await;
    state.busy.remove(&volume.key);
    ctx.volumes.free.notify_waiters();
    let mut book = state.book.clone();
    let outcome = match copied.map_err(VolumeError::from).and_then(|()| record(&mut book)) {
        Ok(replaced) => ctx.volumes.commit(&mut state, book).await.map(|()| replaced).map_err(VolumeError::from),
        Err(error) => Err(error),
    };
    // Its job may have ended meanwhile.
    if state.book.volumes.iter().any(|v| v.key == volume.key && v.users.is_empty()) {
        rest(ctx, std::slice::from_ref(&volume.key)).await;
    }
    match outcome {
        Ok(replaced) => {
            forget(ctx, replaced.into_iter().collect()).await;
            Ok(())
        }
        Err(error) => {
            forget(ctx, vec![to.clone()]).await;
            Err(error)
        }
    }
}

/// Makes a snapshot. Meant to run to its end: the caller does not drop it.
pub(crate) async fn snapshot(ctx: &Context, account: &AccountId, name: &str, snapshot: &str) -> Result<(), VolumeError> {
    let _ = keeper(ctx)?;
    let (volume, to) = {
        let mut state = ctx.volumes.state.lock().await;
        let volume = state.book.find(account, name)?.clone();
        idle(&state, &volume)?;
        if volume.snapshot(snapshot).is_some() {
            return Err(VolumeError::Exists(snapshot.to_owned()));
        }
        if volume.snapshots.len() >= MAX_SNAPSHOTS {
            return Err(VolumeError::TooMany("snapshots of this volume"));
        }
        state.book.room(account, volume.bytes, &limits(ctx))?;
        has_room(ctx, keeper(ctx)?.stored(&ctx.owner, &volume.key).await?)?;
        let to = state.book.fresh()?;
        state.busy.insert(volume.key.clone());
        (volume, to)
    };
    let made = Snapshot { name: snapshot.to_owned(), key: to.clone(), created: now(ctx) };
    copy(ctx, &volume, &volume.key, &to, |book| {
        book.room(account, volume.bytes, &limits(ctx))?;
        book.find_mut(account, name)?.snapshots.push(made);
        Ok(None)
    })
    .await
}

/// Gives a volume that nobody uses, or a new one, the content of a snapshot. Meant to run to its end, like [`snapshot`].
pub(crate) async fn restore(ctx: &Context, account: &AccountId, name: &str, from: &str, new: Option<&str>) -> Result<(), VolumeError> {
    let new = new.filter(|new| *new != name);
    let (volume, source, to) = {
        let mut state = ctx.volumes.when_free(ctx, account, &BTreeSet::from([name]), Copies::Refused).await?;
        let mut book = state.book.clone();
        book.let_go(|l| is_over(ctx, l), now(ctx));
        let volume = book.find(account, name)?.clone();
        idle(&state, &volume)?;
        let source = volume.snapshot(from).map(|s| s.key.clone());
        let source = source.ok_or_else(|| VolumeError::NoSnapshot { name: name.to_owned(), snapshot: from.to_owned() })?;
        match new {
            Some(new) if book.find(account, new).is_ok() => return Err(VolumeError::Exists(new.to_owned())),
            Some(_) => book.room(account, volume.bytes, &limits(ctx))?,
            None => volume.unused()?,
        }
        has_room(ctx, keeper(ctx)?.stored(&ctx.owner, &source).await?)?;
        let to = state.book.fresh()?;
        state.busy.insert(volume.key.clone());
        (volume, source, to)
    };
    copy(ctx, &volume, &source, &to, |book| {
        match new {
            Some(new) => book.add(*account, new, volume.bytes, &limits(ctx), now(ctx))?.key = to.clone(),
            None => {
                let replaced = book.find_mut(account, name)?;
                replaced.key = to.clone();
                replaced.used = now(ctx);
            }
        }
        Ok(new.is_none().then(|| volume.key.clone()))
    })
    .await
}

/// Removes what nobody has used for long enough.
pub(crate) async fn collect(ctx: &Context) {
    let mut state = ctx.volumes.state.lock().await;
    let mut book = state.book.clone();
    let (changed, _) = book.let_go(|l| is_over(ctx, l), now(ctx));
    let gone = book.expire(&limits(ctx), now(ctx), |key| state.busy.contains(key));
    if !changed && gone.is_empty() {
        return;
    }
    if let Err(error) = ctx.volumes.commit(&mut state, book).await {
        tracing::warn!(%error, "volumes that were kept long enough cannot be removed");
        return;
    }
    for volume in &gone {
        tracing::info!(name = volume.name, account = %volume.account.short(), "a volume that nobody used was kept long enough");
        forget(ctx, volume.keys().cloned().collect()).await;
    }
}
