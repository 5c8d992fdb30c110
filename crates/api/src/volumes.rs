//! What an account has on a node beyond its leases: volumes. Paths on the node (`/accounts/{account}/...`; behind a gateway
//! `/v1/nodes/{node}/accounts/{account}/...`, signed over the node's form of the path by a key of the account, see [`crate::auth`]):
//!
//! | request | answer |
//! |---|---|
//! | `GET volumes` | [`VolumeView`]s, by name |
//! | `DELETE volumes/NAME?all=true` | the volume is gone; with snapshots it is refused unless `all` |
//! | `PUT volumes/NAME/snapshots/SNAP` | answers when the snapshot is on the disk |
//! | `DELETE volumes/NAME/snapshots/SNAP` | |
//! | `POST volumes/NAME/restore?from=SNAP&to=NEW` | NAME, or a new volume NEW, has the snapshot's content |

use pasture_types::{LeaseId, Timestamp};
use serde::{Deserialize, Serialize};

/// A volume as its node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VolumeView {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What it takes of the node's disk now.
    pub stored_bytes: u64,
    /// When it was made.
    pub created: Timestamp,
    /// Leases that have it now.
    pub used_by: Vec<LeaseId>,
    /// They can only read.
    pub read_only: bool,
    /// Until when it is kept if nobody uses it; `None` while somebody does.
    pub kept_until: Option<Timestamp>,
    /// Its snapshots, oldest first. They go with it.
    pub snapshots: Vec<SnapshotView>,
}

/// A snapshot of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotView {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it takes of the node's disk now.
    pub stored_bytes: u64,
}
