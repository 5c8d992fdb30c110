//! Why something about a volume was not done, for its owner: over the data plane, or as the reason why a job did not start.

use pasture_api::Problem;
use pasture_runtime::RuntimeError;
use pasture_store::StoreError;
use pasture_types::LeaseId;

/// A volume cannot be given, copied or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// This machine keeps none.
    #[error("this machine cannot keep volumes: it must be able to mount them, which needs root and an engine on the same machine")]
    Unable,
    /// No such volume of this account.
    #[error("there is no volume `{0}` of yours on this machine")]
    NoVolume(String),
    /// No such snapshot.
    #[error("volume `{name}` has no snapshot `{snapshot}`")]
    NoSnapshot {
        /// Of which volume.
        name: String,
        /// Which.
        snapshot: String,
    },
    /// There is one of this name.
    #[error("there is a volume or snapshot `{0}` already")]
    Exists(String),
    /// A job has it.
    #[error("volume `{name}` is in use by lease {}", lease.short())]
    InUse {
        /// Which.
        name: String,
        /// By whom.
        lease: LeaseId,
    },
    /// It is being copied.
    #[error("volume `{0}` is being copied; try again when that is done")]
    Busy(String),
    /// The lease does not pay for its size.
    #[error("volume `{name}` has {has} bytes, which is not what the job was ordered with")]
    Size {
        /// Which.
        name: String,
        /// Its size.
        has: u64,
    },
    /// Its snapshots would go with it.
    #[error("volume `{0}` has snapshots, which would go with it")]
    HasSnapshots(String),
    /// A limit of this machine.
    #[error("this machine keeps at most {limit} bytes of volumes and snapshots for {whose}")]
    Full {
        /// For whom.
        whose: &'static str,
        /// How many.
        limit: u64,
    },
    /// A limit on how many.
    #[error("there are too many {0} already")]
    TooMany(&'static str),
    /// The disk itself.
    #[error("this machine's disk has no room for it")]
    DiskFull,
    /// The engine's host failed.
    #[error("the machine could not do this")]
    Runtime(#[from] RuntimeError),
    /// The record could not be written.
    #[error("the machine could not record this")]
    Store(#[from] StoreError),
}

impl VolumeError {
    /// As an answer. What failed inside the machine is for its log.
    pub(crate) fn problem(&self) -> Problem {
        let (status, code) = match self {
            Self::Unable => (501, "no-volumes"),
            Self::NoVolume(_) => (404, "no-volume"),
            Self::NoSnapshot { .. } => (404, "no-snapshot"),
            Self::Exists(_) => (409, "exists"),
            Self::InUse { .. } => (409, "in-use"),
            Self::Busy(_) => (409, "busy"),
            Self::Size { .. } => (409, "other-size"),
            Self::HasSnapshots(_) => (409, "has-snapshots"),
            Self::Full { .. } => (507, "volumes-full"),
            Self::TooMany(_) => (409, "too-many"),
            Self::DiskFull => (507, "disk-full"),
            Self::Store(e) if e.is_disk_full() => (507, "disk-full"),
            Self::Runtime(_) | Self::Store(_) => {
                tracing::error!(error = %crate::lease::chain(self), "a volume cannot be kept");
                (500, "internal")
            }
        };
        Problem::new(status, code, self.to_string())
    }
}
