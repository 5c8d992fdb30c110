//! Turns an engine's panic into an error that names the damaged files and the way out.
//!
//! Guarantees: reads the message only; it never touches the store.

use crate::app::GENESIS_UNREADABLE;
use crate::core::TWIN;
use crate::error::ChainError;
use std::path::Path;

/// Words in a panic of the engine that mean stored bytes do not read back as they were written.
const DAMAGE: [&str; 12] = [
    "corrupt",
    "checksum",
    "invalid blob",
    "invalid header",
    "blob magic",
    "codec",
    "missing",
    "unreadable",
    "its root is not",
    "mismatch",
    "insufficient length",
    "end of buffer",
];
/// Where a panic came from, and which partitions hold that part's files.
const PARTS: [(&str, &str, &str); 10] = [
    ("state store", "state", "chain-state-*"),
    ("database init", "state", "chain-state-*"),
    ("database", "state", "chain-state-*"),
    ("block store", "blocks", "chain-blocks-*"),
    ("finality store", "finality", "chain-finality-*"),
    ("term store", "terms", "chain-terms*"),
    ("sync metadata", "delivery", "chainstate_sync_metadata*"),
    ("processed", "delivery", "chain-*"),
    ("cache", "delivery", "chain-cache-*"),
    ("journal", "votes", "chain-votes-*"),
];

pub(crate) fn explain(store: &Path, text: String) -> ChainError {
    if let Some(detail) = text.strip_prefix(GENESIS_UNREADABLE) {
        return ChainError::Genesis(detail.to_owned());
    }
    if text == TWIN {
        return ChainError::Twin;
    }
    let lower = text.to_lowercase();
    if !DAMAGE.iter().any(|word| lower.contains(word)) {
        return ChainError::Fatal(text);
    }
    let (part, files) = PARTS.iter().find(|(word, ..)| lower.contains(word)).map_or(("chain", "*"), |(_, part, files)| (*part, *files));
    ChainError::Corrupt { part, path: store.join(files), detail: text }
}
