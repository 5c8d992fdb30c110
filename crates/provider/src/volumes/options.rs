//! How much a provider keeps for others, and for how long. Documented fields with units, and a check.

use super::Limits;
use pasture_types::Millis;
use std::time::Duration;

/// What a provider keeps of its users' volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VolumeOptions {
    /// How long a volume is kept after the last job that had it; whoever wants it longer runs a job with it. Nobody pays for it meanwhile.
    pub keep: Duration,
    /// Sizes of all volumes and snapshots together, in bytes; zero keeps none.
    pub bytes: u64,
    /// The same for one account.
    pub account_bytes: u64,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self { keep: Duration::from_secs(7 * 24 * 3600), bytes: 16 << 30, account_bytes: 8 << 30 }
    }
}

impl VolumeOptions {
    pub(crate) fn limits(&self) -> Limits {
        let keep = Millis(u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX));
        Limits { keep, bytes: self.bytes, account_bytes: self.account_bytes }
    }
}
