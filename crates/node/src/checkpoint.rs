//! Whom a client trusts, as a file that people hand to each other: a zone's founding file, or a checkpoint that somebody followed.
//!
//! Guarantees: both are records with a checksum, and one is never taken for the other. It believes the file; whether to is its
//! reader's question.

use crate::NodeError;
use crate::zone::{CHECKPOINT as CHECKPOINT_FILE, read_genesis, trusted_by};
use pasture_chain::Anchor;
use pasture_light::{Checkpoint, Handover, Validator, ValidatorSet};
use pasture_store::{RecordFile, StoreError};
use std::path::Path;

/// What the text of a checkpoint begins with; a genesis is hex alone.
const CHECKPOINT: &str = "checkpoint:";

/// Whom the founding file (`DATA/zone/genesis`, or a copy of it) or the checkpoint in a file names.
///
/// # Errors
/// The file is absent, damaged or neither.
pub fn trusted_in_file(path: &Path) -> Result<Checkpoint, NodeError> {
    let absent = || NodeError::Options(format!("there is no file {}", path.display()));
    let text = RecordFile::<String>::new(path).load()?.ok_or_else(absent)?;
    let Some(digits) = text.strip_prefix(CHECKPOINT) else {
        let genesis = read_genesis(path)?.ok_or_else(absent)?;
        // What has no value, as in a development zone, binds nobody however long it is held.
        let holds = if genesis.params.dev { 0 } else { genesis.params.validators.unbond_delay.0 };
        return Ok(Checkpoint::genesis(trusted_by(&genesis)?, genesis.time.0, holds));
    };
    let corrupt = |detail: String| StoreError::Corrupt { path: path.into(), detail };
    let bytes = hex::decode(digits).map_err(|_| corrupt("it is not hex".into()))?;
    Ok(Checkpoint::decode(&bytes).map_err(|e| corrupt(e.to_string()))?)
}

/// Writes a checkpoint to a file that does not exist yet.
///
/// # Errors
/// There is such a file, or it cannot be written.
pub fn write_checkpoint(path: &Path, checkpoint: &Checkpoint) -> Result<(), NodeError> {
    if path.exists() {
        return Err(NodeError::Options(format!("there is a file {} already: none is overwritten", path.display())));
    }
    replace_checkpoint(path, checkpoint)
}

/// Writes a checkpoint to a file.
pub(crate) fn replace_checkpoint(path: &Path, checkpoint: &Checkpoint) -> Result<(), NodeError> {
    Ok(RecordFile::new(path).save(&format!("{CHECKPOINT}{}", hex::encode(checkpoint.encode())))?)
}

/// Whom a validator's data directory knows besides the founders.
pub(crate) fn anchor_in(dir: &Path) -> Result<Option<Anchor>, NodeError> {
    let path = dir.join(CHECKPOINT_FILE);
    if RecordFile::<String>::new(&path).load()?.is_none() {
        return Ok(None);
    }
    let trusted = trusted_in_file(&path)?;
    Ok(Some(Anchor { since: trusted.since(), validators: *trusted.validators().hash() }))
}

/// A handover of the chain's as clients read it; `None` if it has not the form that every handover has.
pub(crate) fn handover(given: pasture_chain::Handover) -> Option<Handover> {
    let zone = given.header.zone;
    let member = |v: pasture_chain::Validator| Some(Validator { key: v.key, bls_key: v.bls_key.try_into().ok()? });
    let members = given.validators.into_iter().map(member).collect::<Option<Vec<_>>>()?;
    let (header, next) = (given.header.encode().try_into().ok()?, ValidatorSet::new(zone, members).ok()?);
    Some(Handover { header, certificate: given.certificate, next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::LocalZone;
    use pasture_rt::ManualClock;

    #[test]
    fn a_founding_file_and_a_checkpoint_say_whom_to_trust() {
        let dir = tempfile::tempdir().unwrap();
        let zone = LocalZone::load_or_create(dir.path(), &ManualClock::new(1_000)).unwrap();
        let founding = dir.path().join("zone/genesis");
        let trusted = trusted_in_file(&founding).unwrap();
        assert_eq!(trusted, Checkpoint::genesis(trusted_by(&zone.genesis).unwrap(), 1_000, 0), "a development zone");
        // In production it ages.
        let (path, mut genesis) = (dir.path().join("genesis"), zone.genesis);
        genesis.params = pasture_types::genesis::Params::production();
        LocalZone::write_genesis_to(&path, &genesis).unwrap();
        let trusted = trusted_in_file(&path).unwrap();
        assert_eq!(trusted.holds_ms(), genesis.params.validators.unbond_delay.0);
        assert_eq!(trusted.outlived(1_000 + trusted.holds_ms() + 1), Some(1));

        let (file, seen) = (dir.path().join("c"), trusted.seen(77_000));
        write_checkpoint(&file, &seen).unwrap();
        assert_eq!(trusted_in_file(&file).unwrap(), seen);
        assert!(write_checkpoint(&file, &seen).is_err(), "a file was overwritten");
        assert!(trusted_in_file(&dir.path().join("none")).is_err());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("02", "03")).unwrap();
        assert!(matches!(trusted_in_file(&file), Err(NodeError::Store(StoreError::Corrupt { .. }))));
        for bad in ["checkpoint:", "checkpoint:zz", "checkpoint:02ff", "zz", ""] {
            RecordFile::new(&file).save(&bad.to_string()).unwrap();
            assert!(trusted_in_file(&file).is_err(), "{bad}");
        }
    }
}
