//! Making a zone: its validators' announcements in, its genesis and address book out.
//!
//! ```text
//!  each operator:  announce(DATA) ─► announcement ─┐
//!  one of them:                                    ├─► Launch::make ─► genesis + network.toml ─► everybody
//!  each operator:  settle(DATA, genesis, network) ◄┘
//! ```
//! Guarantees: nothing secret leaves a data directory; an announcement whose keys do not belong together is refused; a directory that has
//! a zone keeps it. Whoever makes the genesis decides nothing that the others cannot read in it (`farm genesis --show`).

use crate::NodeError;
use crate::peers::{NetworkFile, Peer};
use crate::zone::{CHECKPOINT, GENESIS, LocalZone, NETWORK, dev_operator, genesis_validator, read_genesis, secrets};
use pasture_light::Checkpoint;
use pasture_rt::Clock;
use pasture_store::{DataDir, write_atomic};
use pasture_types::audit::{GpuRate, MemoryAsk};
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::keys::ParseKeyError;
use pasture_types::validator::ValidatorParams;
use pasture_types::{NodeId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Most validators of a genesis.
pub const MAX_FOUNDERS: usize = 64;

/// What a validator's operator tells whoever makes the genesis. Nothing in it is secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Its public key: signs votes, identifies it to the others.
    pub key: NodeId,
    /// Its key for the zone's randomness, in hex.
    pub bls_key: String,
    /// The proof that it holds that key, in hex.
    pub bls_pop: String,
    /// The key of the account that earns its fees, as `ed25519:...`.
    pub operator: String,
    /// Where the others reach it.
    pub address: SocketAddr,
}

/// Makes the keys of a validator in a data directory, if there are none, and says what the others must know.
///
/// # Errors
/// The directory cannot be used.
pub fn announce(dir: &Path, address: SocketAddr) -> Result<Announcement, NodeError> {
    let held = DataDir::open(dir)?;
    announcement(held.path(), address)
}

/// As [`announce`], in a directory that is held.
pub(crate) fn announcement(dir: &Path, address: SocketAddr) -> Result<Announcement, NodeError> {
    let (identity, operator) = secrets(dir)?;
    let own = genesis_validator(&identity, &operator);
    let (bls_key, bls_pop) = (hex::encode(own.bls_key), hex::encode(own.bls_pop));
    Ok(Announcement { key: NodeId(own.key), bls_key, bls_pop, operator: operator.public().to_string(), address })
}

/// A zone that is to be.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its name, for people.
    pub name: String,
    /// A development zone: test credits for everybody, rules that can be tried out fast, and no value.
    pub dev: bool,
    /// Whether machines are audited from the beginning.
    pub audits: bool,
    /// What GPUs have to show then, by model; none are asked else.
    pub gpus: Vec<GpuRate>,
    /// Whether audits ask for memory as well; those of a development zone do.
    pub memory: bool,
    /// Its validators.
    pub founders: Vec<Announcement>,
    /// Who has money at the beginning.
    pub accounts: Vec<GenesisAccount>,
}

/// A zone's parameters with audits that ask these rates of GPUs, each model once.
pub(crate) fn audited(params: Params, gpus: &[GpuRate]) -> Params {
    let mut params = params.audited();
    let rates: BTreeMap<&String, u64> = gpus.iter().map(|rate| (&rate.model, rate.macs_per_s)).collect();
    params.audits.gpus = rates.into_iter().map(|(model, macs_per_s)| GpuRate { model: model.clone(), macs_per_s }).collect();
    params
}

impl Launch {
    /// The zone's genesis and address book.
    ///
    /// # Errors
    /// What makes no sense.
    pub fn make(&self, clock: &dyn Clock) -> Result<(Genesis, NetworkFile), NodeError> {
        self.make_with(clock, self.params().validators)
    }

    /// The parameters that it begins with unless somebody says otherwise.
    #[must_use]
    pub fn params(&self) -> Params {
        let params = if self.dev { Params::dev() } else { Params::production() };
        let mut params = if self.audits { audited(params, &self.gpus) } else { params };
        if self.audits && self.memory {
            params.audits.memory.get_or_insert(MemoryAsk::production());
        }
        params
    }

    /// As [`Launch::make`], with other rules for seats and deposits of validators.
    ///
    /// # Errors
    /// What makes no sense.
    pub fn make_with(&self, clock: &dyn Clock, rules: ValidatorParams) -> Result<(Genesis, NetworkFile), NodeError> {
        let wrong = |what: String| Err(NodeError::Options(what));
        if self.name.is_empty() || self.name.len() > 64 || self.name.chars().any(char::is_control) {
            return wrong("a network's name has 1 to 64 characters that can be printed".into());
        }
        if self.founders.is_empty() || self.founders.len() > MAX_FOUNDERS {
            return wrong(format!("a network begins with 1 to {MAX_FOUNDERS} validators"));
        }
        rules.check(self.dev).map_err(|e| NodeError::Options(e.to_string()))?;
        let mut founders = self.founders.iter().map(founder).collect::<Result<Vec<_>, _>>()?;
        founders.sort_by_key(|f| f.validator.key);
        let (mut keys, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for Founder { validator, address, .. } in &founders {
            let named = NodeId(validator.key).short();
            if !keys.insert(validator.key) {
                return wrong(format!("validator {named} is named twice"));
            }
            if !addresses.insert(*address) {
                return wrong(format!("validator {named}: another one is at {address} too"));
            }
        }
        let mut genesis = self.genesis(clock, &founders)?;
        genesis.params.validators = rules;
        Ok((genesis, address_book(&founders)))
    }

    fn genesis(&self, clock: &dyn Clock, founders: &[Founder]) -> Result<Genesis, NodeError> {
        let mut accounts = self.accounts.clone();
        if self.dev {
            let named = |key: &PublicKey| self.accounts.iter().any(|a| a.key == *key);
            let operators: BTreeSet<_> = founders.iter().map(|f| f.operator).filter(|key| !named(key)).collect();
            accounts.extend(operators.into_iter().map(dev_operator));
        }
        let distinct: BTreeSet<_> = accounts.iter().map(|a| a.key).collect();
        if distinct.len() != accounts.len() {
            return Err(NodeError::Options("an account is named twice".into()));
        }
        if accounts.is_empty() {
            return Err(NodeError::Options("nobody has any money: name accounts with what they have at the beginning".into()));
        }
        Ok(Genesis {
            name: self.name.clone(),
            time: Timestamp(clock.now_ms()),
            rules_version: RULES_VERSION,
            params: self.params(),
            validators: founders.iter().map(|f| f.validator.clone()).collect(),
            accounts,
            assets: vec![],
        })
    }
}

/// An announcement that was read and whose keys belong together.
struct Founder {
    validator: GenesisValidator,
    operator: PublicKey,
    address: SocketAddr,
}

fn founder(said: &Announcement) -> Result<Founder, NodeError> {
    let wrong = |what: &str| NodeError::Options(format!("validator {}: {what}", said.key.short()));
    let bytes = |text: &str| hex::decode(text).map_err(|_| wrong("a key is not hex"));
    let operator: PublicKey = said.operator.parse().map_err(|e: ParseKeyError| wrong(&e.to_string()))?;
    let (bls_key, bls_pop) = (bytes(&said.bls_key)?, bytes(&said.bls_pop)?);
    let keys = pasture_chain::Validator { key: said.key.0, bls_key, bls_pop };
    if !keys.verify() {
        return Err(wrong("its keys and its proof do not belong together"));
    }
    let pasture_chain::Validator { key, bls_key, bls_pop } = keys;
    Ok(Founder { validator: GenesisValidator { key, bls_key, bls_pop, operator: operator.account() }, operator, address: said.address })
}

/// Whether an address is of a network that not everybody reaches.
const fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            // The engine's network takes those between carriers and for benchmarks for private, too.
            let shared = matches!(ip.octets(), [100, 64..=127, ..] | [198, 18 | 19, ..]);
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn address_book(founders: &[Founder]) -> NetworkFile {
    NetworkFile {
        listen: None,
        private: founders.iter().any(|f| is_private(f.address.ip())),
        validators: founders.iter().map(|f| Peer { key: NodeId(f.validator.key), address: f.address }).collect(),
    }
}

/// What a validator is in a zone that it was put into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The genesis names it.
    Founder,
    /// The genesis does not: it follows the others, and may be elected once it is registered.
    Candidate,
}

/// Puts a genesis and its address book into a validator's data directory. `address`: where the others reach this validator, if the
/// address book does not say it or says something else. `checkpoint`: whom it knows besides the founders, when it joins by state.
///
/// # Errors
/// The directory has a zone already; a validator that the genesis does not name could not be reached, or reach nobody; or the
/// checkpoint is another network's.
pub fn settle(
    dir: &Path,
    genesis: &Genesis,
    network: &NetworkFile,
    address: Option<SocketAddr>,
    checkpoint: Option<&Checkpoint>,
) -> Result<Place, NodeError> {
    let held = DataDir::open(dir)?;
    if checkpoint.is_some_and(|checkpoint| *checkpoint.validators().zone() != genesis.zone().0) {
        return Err(NodeError::Options("the checkpoint is another network's than the genesis".into()));
    }
    let mut network = network.clone();
    if let Some(address) = address {
        if is_private(address.ip()) && !network.private {
            return Err(NodeError::Options(format!(
                "{address} is an address of a private network, and the file of addresses is for public ones: name the address that others \
                 dial (this machine's own can be `listen` in the file), or write `private = true` into the file"
            )));
        }
        let key = NodeId(secrets(held.path())?.0.public_key());
        network.validators.retain(|peer| peer.key != key);
        network.validators.push(Peer { key, address });
    }
    settle_in(held.path(), genesis, &network, checkpoint)
}

/// As [`settle`], in a directory that is held.
pub(crate) fn settle_in(dir: &Path, genesis: &Genesis, network: &NetworkFile, checkpoint: Option<&Checkpoint>) -> Result<Place, NodeError> {
    if read_genesis(&dir.join(GENESIS))?.is_some() {
        return Err(NodeError::Options(format!("{} belongs to a network already: take another folder", dir.display())));
    }
    let (identity, _) = secrets(dir)?;
    let own = identity.public_key();
    let place = if genesis.validators.iter().any(|v| v.key == own) { Place::Founder } else { Place::Candidate };
    if place == Place::Candidate {
        let key = hex::encode(own);
        if !network.validators.iter().any(|peer| peer.key.0 == own) {
            return Err(NodeError::Options(format!(
                "neither the genesis nor the file of addresses names the validator of {} ({key}): say where the others reach it with \
                 --address HOST:PORT",
                dir.display()
            )));
        }
        if network.validators.iter().all(|peer| peer.key.0 == own) {
            return Err(NodeError::Options("the file of addresses names no other validator, so that there is nobody to follow".into()));
        }
    }
    if let Some(checkpoint) = checkpoint {
        crate::checkpoint::replace_checkpoint(&dir.join(CHECKPOINT), checkpoint)?;
    }
    write_atomic(&dir.join(NETWORK), network.text()?.as_bytes())?;
    // Last: from here on the directory has a zone.
    LocalZone::write_genesis(dir, genesis)?;
    Ok(place)
}

/// Reads a genesis from a file.
///
/// # Errors
/// The file is absent, damaged or no genesis.
pub fn genesis_in_file(path: &Path) -> Result<Genesis, NodeError> {
    read_genesis(path)?.ok_or_else(|| NodeError::Options(format!("there is no file {}", path.display())))
}

/// Writes a genesis to a file.
///
/// # Errors
/// The file cannot be written.
pub fn write_genesis(path: &Path, genesis: &Genesis) -> Result<(), NodeError> {
    LocalZone::write_genesis_to(path, genesis)
}
