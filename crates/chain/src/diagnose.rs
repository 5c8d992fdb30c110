//! Turns an engine's panic into an error that names the damaged files and the way out.
//!
//! Guarantees: it never touches the store. Where the message does not say what the system refused, it tries the disk with a file of its own,
//! beside the store, which it removes.

use crate::app::GENESIS_UNREADABLE;
use crate::core::TWIN;
use crate::error::ChainError;
use std::io::Write as _;
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
/// What the system says where there is no room: the disk, a quota, the largest file. By its message and by its name.
const NO_ROOM: [&str; 6] =
    ["no space left on device", "storagefull", "disk quota exceeded", "quotaexceeded", "file too large", "filetoolarge"];
/// What it says where it did not write although there is room.
const UNWRITTEN: [&str; 4] = ["input/output error", "read-only file system", "readonlyfilesystem", "blob sync failed"];
/// A disk that has less room than this is full.
const LEAST_ROOM: usize = 1 << 20;
/// The file by which that is tried.
const PROBE: &str = "probe";
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

/// Without the types that the engine names, each longer than all the rest.
fn readable(text: &str) -> String {
    let mut parts = text.split(" (type ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or("", |(_, rest)| rest))
}

/// What a disk refuses to take now, if it does.
fn refused(store: &Path, text: &str) -> Option<ChainError> {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    /// The system's number for an error of the device, which has no kind.
    const EIO: i32 = 5;
    let probe = store.parent()?.join(PROBE);
    let tried = std::fs::File::create(&probe).and_then(|mut file| file.write_all(&vec![0; LEAST_ROOM]).and_then(|()| file.sync_all()));
    // What cannot be removed was not made, or lies on a disk that takes nothing.
    let _ = std::fs::remove_file(&probe);
    let error = tried.err()?;
    let (path, detail) = (store.to_path_buf(), format!("{} ({error})", readable(text)));
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Some(ChainError::NoRoom { path, detail }),
        ReadOnlyFilesystem => Some(ChainError::Unwritten { path, detail }),
        _ if error.raw_os_error() == Some(EIO) => Some(ChainError::Unwritten { path, detail }),
        _ => None,
    }
}

pub(crate) fn explain(store: &Path, text: String) -> ChainError {
    if let Some(detail) = text.strip_prefix(GENESIS_UNREADABLE) {
        return ChainError::Genesis(detail.to_owned());
    }
    if text == TWIN {
        return ChainError::Twin;
    }
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // Before damage: what could not be written is not what was written wrongly.
    if says(&NO_ROOM) {
        return ChainError::NoRoom { path: store.to_path_buf(), detail: readable(&text) };
    }
    if says(&UNWRITTEN) {
        return ChainError::Unwritten { path: store.to_path_buf(), detail: readable(&text) };
    }
    // The engine keeps some of the system's reasons to itself.
    if let Some(error) = refused(store, &text) {
        return error;
    }
    if !DAMAGE.iter().any(|word| lower.contains(word)) {
        return ChainError::Fatal(text);
    }
    let (part, files) = PARTS.iter().find(|(word, ..)| lower.contains(word)).map_or(("chain", "*"), |(_, part, files)| (*part, *files));
    ChainError::Corrupt { part, path: store.join(files), detail: text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_failing_one_are_told_from_damage() {
        let said = |text: &str| explain(Path::new("/d"), text.to_owned());
        let full = "state store: io error: No space left on device (os error 28)";
        assert!(matches!(said(full), ChainError::NoRoom { path, .. } if path == Path::new("/d")));
        assert!(matches!(said("called `Result::unwrap()` on an `Err` value: Io(Os { kind: StorageFull })"), ChainError::NoRoom { .. }));
        let synced = "finality store: blob sync failed: chain-finality-key/00 error: Input/output error (os error 5)";
        assert!(matches!(said(synced), ChainError::Unwritten { .. }));
        assert_eq!(readable("sync failed (type a::B<c>): why (type d)"), "sync failed: why");
        assert!(matches!(said("finality store: invalid or missing checksum"), ChainError::Corrupt { part: "finality", .. }));
        assert!(matches!(said("a part of the engine ended by itself"), ChainError::Fatal(_)));
    }
}
