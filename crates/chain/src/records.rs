//! All records of a store, read in the order in which they lie on the disk.
//!
//! The store's own iterator goes by keys, which are hashes: a read of the disk for each record, one after another.
//! Guarantees: each record that is in the state is given once; memory beside the result is that of one read.

use crate::app::{Db, Rt, split_value};
use bytes::Bytes;
use commonware_storage::qmdb::any::operation::Operation;
use commonware_utils::bitmap::Readable as _;
use std::num::NonZeroU64;

/// Operations that are read at once.
const AT_ONCE: NonZeroU64 = NonZeroU64::MIN.saturating_add(4_095);

/// Every key with its value, in no particular order.
///
/// # Errors
/// What cannot be read.
pub(crate) async fn records<E: Rt>(db: &Db<E>) -> Result<Vec<(Bytes, Bytes)>, String> {
    let bounds = db.bounds();
    let mut found = Vec::new();
    // Before the boundary nothing is in the state any more.
    let mut at = db.sync_boundary().max(bounds.start);
    while at < bounds.end {
        let (_, operations) = db.ops_historical_proof(bounds.end, at, AT_ONCE).await.map_err(|error| error.to_string())?;
        if operations.is_empty() {
            return Err(format!("it ends at operation {at} instead of {}", bounds.end));
        }
        for operation in operations {
            // What was written again or deleted since is not active.
            if let Operation::Update(update) = operation
                && db.bitmap().get_bit(*at)
            {
                found.push(split_value(&update.value).ok_or("a record is unreadable")?);
            }
            at += 1;
        }
    }
    Ok(found)
}
