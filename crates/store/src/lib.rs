//! Durable files of a node: data directories, records, keys, and blobs that arrive in pieces.
//!
//! Guarantees: [`write_atomic`] leaves the old or the new file, never half of one, and returns after fsync; a file that does
//! not read back as written is refused by name, with a way out; one data directory belongs to one process.
//! It keeps no ledger state: that is in the engine's authenticated store, see `chain`.

pub mod backup;
mod blob;
mod dir;
mod error;
pub mod export;
mod file;
pub mod keys;
pub mod locked;
pub mod said;
pub mod seal;
pub mod sealed;
mod vault;

pub use blob::{PartialBlob, hash_file};
pub use dir::DataDir;
pub use error::StoreError;
pub use file::{RecordFile, sync_dir, write_atomic};
pub use vault::{MAX_KEPT_SECRETS, MAX_SECRET_BYTES, Vault};
