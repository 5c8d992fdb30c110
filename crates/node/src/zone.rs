//! A local zone's files: its genesis, its validator's key, and the account that funds newcomers.
//!
//! ```text
//! DATA/zone/genesis        the genesis (record with checksum)
//! DATA/zone/validator.key  signs blocks
//! DATA/zone/base           the exported state that it goes on from, if it was carried here
//! DATA/zone/operator.key   earns the fees; in development also pays for newcomers
//! DATA/zone/network.toml   where the zone's validators are, if there are several
//! DATA/ledger/             the engine's store
//! DATA/provider/           the provider agent
//! ```
//! Guarantees: the same directory always gives the same zone. It starts nothing.

use crate::NodeError;
use crate::moving;
use crate::peers::NetworkFile;
use pasture_chain::{Base, Genesis as ChainGenesis, Identity, Network};
use pasture_light::{Handover, ValidatorSet};
use pasture_rt::Clock;
use pasture_store::{RecordFile, keys};
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::{Amount, PublicKey, SigningKey, Timestamp};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// What the operator of a development zone has at genesis.
const DEV_OPERATOR_CREDITS: u64 = 1_000_000_000;
/// Blocks of a term of the engine, at whose end the ledger's seats become the engine's: two minutes of a network that does nothing, which
/// makes two a second, and seconds of a busy one. A change of term costs one validator a few milliseconds.
const TERM_BLOCKS: NonZeroU64 = NonZeroU64::MIN.saturating_add(255);
/// In development: an election is seen to take effect within half a minute.
const DEV_TERM_BLOCKS: NonZeroU64 = NonZeroU64::MIN.saturating_add(63);
/// Keys within a data directory.
pub(crate) const VALIDATOR_KEY: &str = "zone/validator.key";
pub(crate) const OPERATOR_KEY: &str = "zone/operator.key";
/// The exported state that the zone goes on from.
pub(crate) const BASE: &str = "zone/base";
/// The genesis within a data directory.
pub(crate) const GENESIS: &str = "zone/genesis";
/// Where the validators are, within a data directory.
pub(crate) const NETWORK: &str = "zone/network.toml";
/// Whom a validator that joins by state knows besides the founders, within a data directory.
pub(crate) const CHECKPOINT: &str = "zone/checkpoint";
/// Largest genesis.
pub(crate) const MAX_GENESIS_BYTES: usize = 1 << 20;

/// A zone of which a validator runs here.
pub struct LocalZone {
    /// Its genesis.
    pub genesis: Genesis,
    /// The validator's secrets.
    pub identity: Identity,
    /// The operator's key.
    pub operator: SigningKey,
    /// What it goes on from, if its state was carried here.
    pub(crate) base: Option<LocalBase>,
    /// How its validators reach each other, if there are several.
    pub(crate) network: Option<Network>,
}

/// An exported state that a zone goes on from.
pub(crate) struct LocalBase {
    /// The file.
    pub(crate) path: PathBuf,
    /// What the engine needs of it.
    pub(crate) chain: Base,
    /// Who certifies the block after it, ascending by key.
    pub(crate) validators: Vec<pasture_chain::Validator>,
    /// How the genesis's validators handed over to them, oldest first.
    pub(crate) lineage: Vec<Handover>,
}

impl LocalZone {
    /// Loads the zone of a data directory, or makes a new development zone.
    ///
    /// # Errors
    /// A damaged file, or keys that do not belong to the genesis.
    pub fn load_or_create(dir: &Path, clock: &dyn Clock) -> Result<Self, NodeError> {
        match Self::load(dir)? {
            Some(zone) => Ok(zone),
            None => Self::create(dir, Params::dev(), clock),
        }
    }

    /// Loads the zone of a data directory; `None` if there is none.
    ///
    /// # Errors
    /// As [`LocalZone::load_or_create`].
    pub fn load(dir: &Path) -> Result<Option<Self>, NodeError> {
        let base_path = dir.join(BASE);
        let Some(genesis) = read_genesis(&dir.join(GENESIS))? else {
            // Making a new zone now would give an old one's keys a second beginning.
            return match base_path.exists() {
                true => Err(damaged(dir, "an import was interrupted: import again")),
                false => Ok(None),
            };
        };
        let base = if base_path.exists() { Some(moving::base(&base_path, &genesis)?) } else { None };
        let (identity, operator) = secrets(dir)?;
        let ours = identity.public_key();
        let network = NetworkFile::load(dir)?.map(|file| file.network(ours));
        let zone = Self { genesis, identity, operator, base, network };
        // Who is not among those who begin follows the others, if it is said where they are.
        if zone.network.is_none() && !zone.beginners().iter().any(|v| v.key == ours) {
            return Err(damaged(dir, "its validator is not the one whose key lies beside it"));
        }
        Ok(Some(zone))
    }

    /// Makes a zone of one validator in a directory that has none.
    pub(crate) fn create(dir: &Path, params: Params, clock: &dyn Clock) -> Result<Self, NodeError> {
        let (identity, operator) = secrets(dir)?;
        let genesis = Genesis {
            name: "dev".into(),
            time: Timestamp(clock.now_ms()),
            rules_version: RULES_VERSION,
            params,
            validators: vec![genesis_validator(&identity, &operator)],
            accounts: vec![dev_operator(operator.public())],
            assets: vec![],
        };
        Self::write_genesis(dir, &genesis)?;
        Ok(Self { genesis, identity, operator, base: None, network: None })
    }

    pub(crate) fn write_genesis_to(path: &Path, genesis: &Genesis) -> Result<(), NodeError> {
        Ok(RecordFile::new(path).save(&hex_text(&pasture_types::codec::encode(genesis)))?)
    }

    pub(crate) fn write_genesis(dir: &Path, genesis: &Genesis) -> Result<(), NodeError> {
        Self::write_genesis_to(&dir.join(GENESIS), genesis)
    }

    /// Who certifies the engine's first term: the genesis's validators, or those of the state that was carried here.
    fn beginners(&self) -> Vec<pasture_chain::Validator> {
        match &self.base {
            Some(base) => base.validators.clone(),
            None => self
                .genesis
                .validators
                .iter()
                .map(|v| pasture_chain::Validator { key: v.key, bls_key: v.bls_key.clone(), bls_pop: v.bls_pop.clone() })
                .collect(),
        }
    }

    /// How the genesis's validators handed over to those whom the engine began with, oldest first.
    pub(crate) fn lineage(&self) -> &[Handover] {
        self.base.as_ref().map_or(&[], |base| &base.lineage)
    }

    /// The part of the genesis that the engine needs.
    #[must_use]
    pub fn chain_genesis(&self) -> ChainGenesis {
        ChainGenesis {
            zone: self.genesis.zone().0,
            timestamp_ms: self.genesis.time.0,
            validators: self.beginners(),
            term_blocks: if self.genesis.params.dev { DEV_TERM_BLOCKS } else { TERM_BLOCKS },
            base: self.base.as_ref().map(|base| base.chain),
        }
    }
}

/// The validators of a genesis, which a client that believes the genesis trusts.
///
/// # Errors
/// [`NodeError::Options`] if they are none.
pub fn trusted_by(genesis: &Genesis) -> Result<ValidatorSet, NodeError> {
    let member = |v: &GenesisValidator| Some(pasture_light::Validator { key: v.key, bls_key: v.bls_key.as_slice().try_into().ok()? });
    let members = genesis.validators.iter().map(member).collect::<Option<Vec<_>>>();
    let members = members.ok_or_else(|| NodeError::Options("a validator of the genesis has no key".into()))?;
    ValidatorSet::new(genesis.zone().0, members).map_err(|e| NodeError::Options(e.to_string()))
}

pub(crate) fn read_genesis(path: &Path) -> Result<Option<Genesis>, NodeError> {
    let Some(text) = RecordFile::<String>::new(path).load()? else { return Ok(None) };
    let corrupt = |detail: String| pasture_store::StoreError::Corrupt { path: path.into(), detail };
    let bytes = hex::decode(&text).map_err(|_| corrupt("it is not hex".into()))?;
    Ok(Some(pasture_types::codec::decode(&bytes, MAX_GENESIS_BYTES).map_err(|e| corrupt(e.to_string()))?))
}

/// How a genesis names a validator.
pub(crate) fn genesis_validator(identity: &Identity, operator: &SigningKey) -> GenesisValidator {
    let validator = identity.validator();
    GenesisValidator { key: validator.key, bls_key: validator.bls_key, bls_pop: validator.bls_pop, operator: operator.account() }
}

/// What a validator's operator has in a development zone.
pub(crate) const fn dev_operator(key: PublicKey) -> GenesisAccount {
    GenesisAccount { key, balance: Amount::credits(DEV_OPERATOR_CREDITS) }
}

/// The keys of a data directory; made if there are none.
pub(crate) fn secrets(dir: &Path) -> Result<(Identity, SigningKey), NodeError> {
    let seed = keys::load_or_create_seed(&dir.join(VALIDATOR_KEY))?;
    let identity = Identity::from_secret(&seed).ok_or_else(|| damaged(dir, "validator.key is not a key"))?;
    let operator = keys::load_or_create(&dir.join(OPERATOR_KEY))?;
    Ok((identity, operator))
}

fn damaged(dir: &Path, detail: &str) -> NodeError {
    pasture_store::StoreError::Corrupt { path: dir.join("zone"), detail: detail.into() }.into()
}

fn hex_text(bytes: &[u8]) -> String {
    hex::encode(bytes)
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
