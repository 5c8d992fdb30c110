//! What bounds a herd. Every limit has a name, a default and a reason.
//!
//! Guarantees: [`Limits::validate`] refuses numbers that could never work together. It enforces nothing.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Longest idempotency key: a hash or a path fits, an abuse as a second payload does not.
pub const MAX_KEY_BYTES: usize = 128;
/// Longest group name.
pub const MAX_GROUP_BYTES: usize = 64;
/// Largest payload: small tasks; large data goes through a volume or the network.
pub const MAX_PAYLOAD_BYTES: usize = 256 << 10;
/// Largest result; a larger one fails its task.
pub const MAX_RESULT_BYTES: usize = 256 << 10;
/// Longest reason of a failure that is kept.
pub const MAX_REASON_BYTES: usize = 4 << 10;
/// Most tasks in one batch of a shepherd: bounds what one message holds up.
pub const MAX_BATCH: usize = 4096;
/// Most bytes in one message of a shepherd or of us to one, whatever its form.
pub const MAX_FRAME_BYTES: usize = 8 << 20;
/// Most tasks that a worker has at once. Beyond what a fast worker does in [`TARGET_MS`] it only delays others.
pub const MAX_WINDOW: u32 = 64;
/// So many milliseconds of work lie before a worker: enough to never let it idle, little enough to lose with it.
pub const TARGET_MS: u64 = 4;
/// Most workers of one herd.
pub const MAX_WORKERS: u32 = 256;
/// Longest attempt.
pub const MAX_TIMEOUT_MS: u64 = 24 * 3600 * 1000;
/// Keys of acknowledged tasks that are remembered, oldest forgotten first: a shepherd that was away submits again what it
/// does not know to be done.
pub const KEYS_REMEMBERED: usize = 100_000;

/// Limits that a herd is opened with.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most tasks that wait or run.
    pub tasks: u64,
    /// Most bytes of payload that wait or run.
    pub bytes: u64,
    /// Results that may lie unacknowledged before no further task is begun.
    pub results: u64,
    /// Bytes of such results.
    pub result_bytes: u64,
    /// Time for an attempt of a task that names none, in milliseconds.
    pub timeout_ms: u64,
    /// Attempts of a task that names none.
    pub attempts: u8,
    /// Pause before the second attempt in milliseconds; it doubles with each further one.
    pub backoff_ms: u64,
    /// Longest such pause.
    pub max_backoff_ms: u64,
    /// Payloads and results must be single lines of text.
    pub lines: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tasks: 100_000,
            bytes: 64 << 20,
            results: 100_000,
            result_bytes: 64 << 20,
            timeout_ms: 60_000,
            attempts: 3,
            backoff_ms: 100,
            max_backoff_ms: 10_000,
            lines: false,
        }
    }
}

impl Limits {
    /// Largest number of tasks or results that a herd may be opened with: they lie in memory.
    pub const MOST: u64 = 1_000_000;
    /// Largest number of bytes of either.
    pub const MOST_BYTES: u64 = 256 << 20;

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// A sentence that names the first limit which does not.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, most: u64| {
            if (1..=most).contains(&value) { Ok(()) } else { Err(format!("{name}: {value} is not within 1 and {most}")) }
        };
        within("tasks", self.tasks, Self::MOST)?;
        within("bytes", self.bytes, Self::MOST_BYTES)?;
        within("results", self.results, Self::MOST)?;
        within("result_bytes", self.result_bytes, Self::MOST_BYTES)?;
        within("timeout_ms", self.timeout_ms, MAX_TIMEOUT_MS)?;
        within("attempts", self.attempts.into(), u8::MAX.into())?;
        within("backoff_ms", self.backoff_ms, MAX_TIMEOUT_MS)?;
        within("max_backoff_ms", self.max_backoff_ms, MAX_TIMEOUT_MS)
    }

    /// The pause after so many charged attempts.
    #[must_use]
    pub fn backoff(&self, attempts: u8) -> u64 {
        let doublings = u32::from(attempts.saturating_sub(1)).min(32);
        self.backoff_ms.saturating_mul(1u64 << doublings).min(self.max_backoff_ms)
    }
}
