//! What a client asks for when it wants a herd in its lease.
//!
//! Guarantees: [`HerdSpec::check`] refuses what could never run. Its hash is part of what the client signs, so that nobody on the way
//! can put another command in.

use crate::framing::Format;
use crate::limits::{Limits, MAX_WORKERS};
use serde::{Deserialize, Serialize};

/// Most words of a command.
const MAX_WORDS: usize = 256;
/// Most bytes of a command.
const MAX_COMMAND_BYTES: usize = 32 << 10;

/// A herd as its client wants it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HerdSpec {
    /// The worker's program and its arguments, inside the job's container.
    pub command: Vec<String>,
    /// How many of them.
    pub workers: u32,
    /// How they speak.
    #[serde(default)]
    pub format: Format,
    /// Acknowledged tasks survive the node's process.
    #[serde(default)]
    pub durable: bool,
    /// Its limits.
    #[serde(default)]
    pub limits: Limits,
}

impl HerdSpec {
    /// Checks that it makes sense.
    ///
    /// # Errors
    /// A sentence about the first thing that does not.
    pub fn check(&self) -> Result<(), String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err("a worker's command is needed".into());
        }
        let bytes: usize = self.command.iter().map(String::len).fold(0, usize::saturating_add);
        if self.command.len() > MAX_WORDS || bytes > MAX_COMMAND_BYTES {
            return Err(format!("a worker's command has at most {MAX_WORDS} words and {MAX_COMMAND_BYTES} bytes"));
        }
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            return Err(format!("{} workers: 1 to {MAX_WORKERS} are possible", self.workers));
        }
        self.limits.validate()
    }

    /// What goes over the wire, and the hash of it that the request names.
    #[must_use]
    pub fn to_wire(&self) -> (Vec<u8>, String) {
        // A struct of texts and numbers: encoding it cannot fail.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let hash = pasture_types::blob::hash(&bytes).to_string();
        (bytes, hash)
    }
}
