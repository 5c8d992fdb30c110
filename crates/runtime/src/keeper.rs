//! What a runtime keeps beyond its instances: volumes with a size that holds.
//!
//! Guarantees: a volume belongs to one [`Owner`] and one [`VolumeKey`]; it is there whole or not at all, also after a crash in the middle
//! of [`Keeper::make`] or [`Keeper::copy`], but for drafts that [`Keeper::clear`] removes; what was written to a volume that rests is on
//! the disk. An instance sees a volume under its path and writes no more into it than its size. Does not: know whose work a volume
//! belongs to, count its users, or decide when it goes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Owner, RuntimeError, VolumeKey};

/// A volume as an instance gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Which volume of the same owner; it must exist.
    pub volume: VolumeKey,
    /// Where the instance finds it: absolute, not inside another mount.
    pub path: String,
    /// The instance cannot write to it.
    pub read_only: bool,
}

/// Whether somebody uses a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// An instance has it.
    Held,
    /// Nobody has it: it is not mounted.
    Resting,
}

/// Volumes that outlive instances. One value serves a whole node; it is for the caller not to remove or copy over what is in use.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Makes an empty volume that rests. One of this key that is there is an error.
    async fn make(&self, owner: &Owner, volume: &VolumeKey, bytes: u64) -> Result<(), RuntimeError>;

    /// Makes a volume with the content of another at one moment. If that is in use, what wants to write to it waits until the copy is
    /// made. When this returns, the copy is on the disk.
    async fn copy(&self, owner: &Owner, from: &VolumeKey, to: &VolumeKey) -> Result<(), RuntimeError>;

    /// Bytes of disk that a volume takes now; at most a little more than its size.
    async fn stored(&self, owner: &Owner, volume: &VolumeKey) -> Result<u64, RuntimeError>;

    /// Nobody uses the volume any more: brings it to the disk.
    async fn rest(&self, owner: &Owner, volume: &VolumeKey) -> Result<(), RuntimeError>;

    /// Removes a volume and what is in it; nothing happens if there is none.
    async fn remove(&self, owner: &Owner, volume: &VolumeKey) -> Result<(), RuntimeError>;

    /// Removes all volumes and drafts of an owner but these, lets those that were being copied be written to again, and brings those
    /// to rest that nobody uses: for start-up. Gives how many were removed.
    async fn clear(&self, owner: &Owner, keep: &BTreeMap<VolumeKey, Use>) -> Result<usize, RuntimeError>;
}
