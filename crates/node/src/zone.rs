//! A local zone's files: its genesis, its validator's key, and the account that funds newcomers.
//!
//! ```text
//! DATA/zone/genesis        the genesis (record with checksum)
//! DATA/zone/validator.key  signs blocks
//! DATA/zone/operator.key   earns the fees; in development also pays for newcomers
//! DATA/ledger/             the engine's store
//! DATA/provider/           the provider agent
//! ```
//! Guarantees: the same directory always gives the same zone. It starts nothing.

use crate::NodeError;
use pasture_chain::{Genesis as ChainGenesis, Identity};
use pasture_rt::Clock;
use pasture_store::{RecordFile, keys};
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::{Amount, SigningKey, Timestamp};
use std::path::Path;

/// What the operator of a development zone has at genesis.
const DEV_OPERATOR_CREDITS: u64 = 1_000_000_000;
/// Largest genesis.
const MAX_GENESIS_BYTES: usize = 1 << 20;

/// A zone whose only validator runs here.
pub struct LocalZone {
    /// Its genesis.
    pub genesis: Genesis,
    /// The validator's secrets.
    pub identity: Identity,
    /// The operator's key.
    pub operator: SigningKey,
}

impl LocalZone {
    /// Loads the zone of a data directory, or makes a new development zone.
    ///
    /// # Errors
    /// A damaged file, or keys that do not belong to the genesis.
    pub fn load_or_create(dir: &Path, clock: &dyn Clock) -> Result<Self, NodeError> {
        match Self::load(dir)? {
            Some(zone) => Ok(zone),
            None => Self::create(dir, clock),
        }
    }

    /// Loads the zone of a data directory; `None` if there is none.
    ///
    /// # Errors
    /// As [`LocalZone::load_or_create`].
    pub fn load(dir: &Path) -> Result<Option<Self>, NodeError> {
        let Some(text) = genesis_file(dir).load()? else { return Ok(None) };
        let bytes = hex_bytes(&text).ok_or_else(|| damaged(dir, "it is not hex"))?;
        let genesis: Genesis = pasture_types::codec::decode(&bytes, MAX_GENESIS_BYTES).map_err(|e| damaged(dir, &e.to_string()))?;
        let (identity, operator) = secrets(dir)?;
        let ours = identity.public_key();
        if !genesis.validators.iter().any(|v| v.key == ours) {
            return Err(damaged(dir, "its validator is not the one whose key lies beside it"));
        }
        Ok(Some(Self { genesis, identity, operator }))
    }

    fn create(dir: &Path, clock: &dyn Clock) -> Result<Self, NodeError> {
        let (identity, operator) = secrets(dir)?;
        let validator = identity.validator(None);
        let genesis = Genesis {
            name: "dev".into(),
            time: Timestamp(clock.now_ms()),
            rules_version: RULES_VERSION,
            params: Params::dev(),
            validators: vec![GenesisValidator {
                key: validator.key,
                bls_key: validator.bls_key,
                bls_pop: validator.bls_pop,
                operator: operator.account(),
            }],
            accounts: vec![GenesisAccount { key: operator.public(), balance: Amount::credits(DEV_OPERATOR_CREDITS) }],
        };
        genesis_file(dir).save(&hex_text(&pasture_types::codec::encode(&genesis)))?;
        Ok(Self { genesis, identity, operator })
    }

    /// The part of the genesis that the engine needs.
    #[must_use]
    pub fn chain_genesis(&self) -> ChainGenesis {
        ChainGenesis {
            zone: self.genesis.zone().0,
            timestamp_ms: self.genesis.time.0,
            validators: self
                .genesis
                .validators
                .iter()
                .map(|v| pasture_chain::Validator { key: v.key, bls_key: v.bls_key.clone(), bls_pop: v.bls_pop.clone(), address: None })
                .collect(),
            base: None,
        }
    }
}

fn genesis_file(dir: &Path) -> RecordFile<String> {
    RecordFile::new(dir.join("zone/genesis"))
}

fn secrets(dir: &Path) -> Result<(Identity, SigningKey), NodeError> {
    let seed = keys::load_or_create_seed(&dir.join("zone/validator.key"))?;
    let identity = Identity::from_secret(&seed).ok_or_else(|| damaged(dir, "validator.key is not a key"))?;
    let operator = keys::load_or_create(&dir.join("zone/operator.key"))?;
    Ok((identity, operator))
}

fn damaged(dir: &Path, detail: &str) -> NodeError {
    pasture_store::StoreError::Corrupt { path: dir.join("zone"), detail: detail.into() }.into()
}

fn hex_text(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_rt::ManualClock;

    #[test]
    fn a_directory_keeps_its_zone() {
        let dir = tempfile::tempdir().unwrap();
        let first = LocalZone::load_or_create(dir.path(), &ManualClock::new(5_000)).unwrap();
        let again = LocalZone::load_or_create(dir.path(), &ManualClock::new(9_000)).unwrap();
        assert_eq!(first.genesis, again.genesis);
        assert_eq!(first.genesis.time, Timestamp(5_000));
        let path = dir.path().join("zone/genesis");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(LocalZone::load(dir.path()).err().unwrap().to_string().contains("damaged"));
    }
}
