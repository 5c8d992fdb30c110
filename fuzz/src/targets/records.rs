//! Files of a data directory with anything in them: records, the genesis, key seeds, pieces of a blob.

use pasture_store::{PartialBlob, RecordFile, StoreError, keys};
use pasture_types::genesis::Genesis;
use pasture_types::{blob, codec};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// As the node reads it.
const MAX_GENESIS_BYTES: usize = 1 << 20;

thread_local! { static DIR: tempfile::TempDir = tempfile::tempdir().expect("a folder for files"); }

fn record(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
    let file = RecordFile::<String>::new(path);
    match file.load() {
        Ok(Some(text)) => {
            if let Ok(bytes) = hex::decode(&text) {
                let _ = codec::decode::<Genesis>(&bytes, MAX_GENESIS_BYTES);
            }
            file.save(&text).expect("saved");
            assert_eq!(file.load().expect("reads back"), Some(text));
        }
        Err(StoreError::Corrupt { .. }) => {}
        other => panic!("{other:?}"),
    }
    let _ = RecordFile::<serde_json::Value>::new(path).load();
}

fn seed(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("made private");
    let seed = keys::load_seed(path);
    let digits = std::str::from_utf8(bytes).ok().and_then(|t| hex::decode(t.trim()).ok()).filter(|b| b.len() == 32);
    assert_eq!(seed.ok().flatten().map(|s| s.to_vec()), digits);
}

/// Pieces at any offset never make more than was announced, nor something else.
fn pieces(path: PathBuf, bytes: &[u8]) {
    let Some((&size, rest)) = bytes.split_first() else { return };
    let want = &rest[..usize::from(size).min(rest.len())];
    let mut partial = PartialBlob::open(&path, blob::hash(want), want.len() as u64).expect("opened");
    for piece in rest.chunks(9) {
        let offset = partial.received() + u64::from(piece[0] % 4 / 3);
        let _ = partial.append(offset, &piece[1..]);
        assert!(partial.received() <= want.len() as u64);
    }
    if partial.finish().unwrap_or(false) {
        assert_eq!(std::fs::read(&path).expect("complete"), want);
        std::fs::remove_file(&path).expect("removed");
    } else {
        let _ = std::fs::remove_file(path.with_extension("partial"));
    }
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    DIR.with(|dir| match which % 4 {
        0 => record(&dir.path().join("record"), data),
        1 => {
            let sum = format!("blake3:{}\n", blake3::hash(data).to_hex());
            record(&dir.path().join("record"), &[sum.as_bytes(), data].concat());
        }
        2 => seed(&dir.path().join("key"), data),
        _ => pieces(dir.path().join("blob"), data),
    });
}
