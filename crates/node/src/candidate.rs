//! What a validator's folder is asked for when its operator acts on the ledger: its keys, and their consent.
//!
//! Guarantees: reads only, also while the validator runs; no key is made here, and none leaves but the operator's own, for signing in
//! this process.

use crate::NodeError;
use crate::zone::{GENESIS, OPERATOR_KEY, VALIDATOR_KEY, read_genesis};
use pasture_chain::Identity;
use pasture_store::keys;
use pasture_types::genesis::GenesisValidator;
use pasture_types::keys::Signature;
use pasture_types::validator::validator_consent_digest;
use pasture_types::{AccountId, NodeId, SigningKey, ZoneId};
use std::path::Path;

/// What a registration carries besides the deposit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The validator, with the proof that it holds its key for the randomness.
    pub validator: GenesisValidator,
    /// Its key's consent to belong to the operator.
    pub consent: Signature,
}

/// The consent of a folder's validator to belong to an operator of a zone.
///
/// # Errors
/// The folder has no validator, or is of another zone.
pub fn registration(dir: &Path, zone: &ZoneId, operator: AccountId) -> Result<Registration, NodeError> {
    let seed = seed(dir)?;
    let identity = Identity::from_secret(&seed).ok_or_else(|| none(dir))?;
    let pasture_chain::Validator { key, bls_key, bls_pop } = identity.validator();
    if let Some(other) = read_genesis(&dir.join(GENESIS))?.map(|genesis| genesis.zone()).filter(|id| id != zone) {
        return Err(NodeError::Options(format!(
            "{} belongs to network {}, and the one that answers is {}: name its API with --api-url",
            dir.display(),
            other.short(),
            zone.short()
        )));
    }
    let consent = SigningKey::from_seed(seed).sign(&validator_consent_digest(zone, &operator, &key, &bls_key));
    Ok(Registration { validator: GenesisValidator { key, bls_key, bls_pop, operator }, consent })
}

/// The public key of a folder's validator.
///
/// # Errors
/// The folder has no validator.
pub fn validator_key(dir: &Path) -> Result<NodeId, NodeError> {
    let identity = Identity::from_secret(&seed(dir)?).ok_or_else(|| none(dir))?;
    Ok(NodeId(identity.public_key()))
}

/// The key of the account that a folder's validator was announced with as its operator's.
///
/// # Errors
/// The folder has no validator.
pub fn operator_key(dir: &Path) -> Result<SigningKey, NodeError> {
    keys::load_seed(&dir.join(OPERATOR_KEY))?.map(SigningKey::from_seed).ok_or_else(|| none(dir))
}

fn seed(dir: &Path) -> Result<[u8; 32], NodeError> {
    keys::load_seed(&dir.join(VALIDATOR_KEY))?.ok_or_else(|| none(dir))
}

fn none(dir: &Path) -> NodeError {
    NodeError::Options(format!(
        "{} has no validator's keys: make them with farm validator init --data DIR --address ADDRESS",
        dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce;

    #[test]
    fn a_folder_consents_to_its_operator_in_its_zone_and_makes_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (zone, operator) = (ZoneId([3; 32]), AccountId([4; 32]));
        let error = registration(dir.path(), &zone, operator).unwrap_err().to_string();
        assert!(error.contains("farm validator init"), "{error}");
        assert!(validator_key(dir.path()).is_err() && operator_key(dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let said = announce(dir.path(), "127.0.0.1:1".parse().unwrap()).unwrap();
        let made = registration(dir.path(), &zone, operator).unwrap();
        assert_eq!((NodeId(made.validator.key), made.validator.operator), (said.key, operator));
        let digest = validator_consent_digest(&zone, &operator, &made.validator.key, &made.validator.bls_key);
        pasture_types::PublicKey::from(said.key).verify(&digest, &made.consent).unwrap();
        assert_eq!(operator_key(dir.path()).unwrap().public().to_string(), said.operator);
        assert_eq!(validator_key(dir.path()).unwrap(), said.key);
    }
}
