//! What we remember of a deployment: what was asked, and which order serves each part of it.
//!
//! ```text
//!  <data>/deployments/<network>-<name>.json   Deployment, replaced as a whole
//! ```
//! Guarantees: an order is noted before it is sent, so that a crash leaves nothing that runs and is not known; what is noted and
//! was never placed is found out by asking the ledger. Array members that ended well are kept as ranges, so that a record stays
//! small however large the array.

use crate::config::make_private;
use crate::exit::Failure;
use pasture_jobfile::{checked, is_name};
use pasture_store::RecordFile;
use pasture_types::keep::VolumeMount;
use pasture_types::spec::{CheckedSpec, JobSpec};
use pasture_types::{Amount, OrderId, ZoneId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A part of a deployment: a service's replica or member.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Its service.
    pub(crate) service: String,
    /// Which, from 0 on.
    pub(crate) index: u32,
}

/// What serves a part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// Which part.
    pub(crate) key: Key,
    /// Its order.
    pub(crate) order: OrderId,
    /// What its manifest was salted with: the same again gives the same manifest.
    pub(crate) salt: [u8; 16],
    /// Of what was asked when it was placed.
    pub(crate) print: String,
    /// Put on hold for it at most.
    pub(crate) hold: Amount,
    /// How often it had to go elsewhere for reasons that are not its own.
    pub(crate) moves: u32,
    /// It has ended and is accounted for; `true`: well.
    pub(crate) ended: Option<bool>,
    /// Its volumes, as they were settled when it was placed: they are part of its manifest.
    #[serde(default)]
    pub(crate) volumes: Vec<VolumeMount>,
}

/// An order that is to be stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Leaving {
    /// Which.
    pub(crate) order: OrderId,
    /// What it is for as long as nothing has taken its place: that part, which the new one has to be ready as; nothing: it goes at
    /// once.
    pub(crate) unit: Option<Unit>,
}

impl Leaving {
    /// The part that takes its place.
    pub(crate) fn after(&self) -> Option<&Key> {
        self.unit.as_ref().map(|u| &u.key)
    }
}

/// Numbers as ranges: `0..5, 7..8`.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Numbers(Vec<(u32, u32)>);

impl Numbers {
    pub(crate) fn contains(&self, n: u32) -> bool {
        self.0.iter().any(|(from, to)| (*from..*to).contains(&n))
    }
    pub(crate) fn insert(&mut self, n: u32) {
        if self.contains(n) {
            return;
        }
        self.0.push((n, n.saturating_add(1)));
        self.0.sort_unstable();
        let mut joined: Vec<(u32, u32)> = vec![];
        for (from, to) in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if last.1 == from => last.1 = to,
                _ => joined.push((from, to)),
            }
        }
        self.0 = joined;
    }
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }
}

/// Members of an array that ended well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Completed {
    /// Of what was asked: another print begins anew.
    pub(crate) print: String,
    /// Which.
    pub(crate) members: Numbers,
}

/// A deployment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Deployment {
    /// Its name.
    pub(crate) name: String,
    /// Its network.
    pub(crate) network: ZoneId,
    /// When it was made, by our clock.
    pub(crate) created_ms: u64,
    /// Where it was read from.
    pub(crate) origin: String,
    /// Most to spend on all of it.
    pub(crate) budget: Option<Amount>,
    /// What was asked, by service; folders are absolute.
    pub(crate) services: BTreeMap<String, JobSpec>,
    /// What serves it now.
    pub(crate) units: Vec<Unit>,
    /// Orders that are still to be stopped.
    pub(crate) leaving: Vec<Leaving>,
    /// By service.
    pub(crate) completed: BTreeMap<String, Completed>,
    /// Spent on what has ended, as far as it was seen.
    pub(crate) spent: Amount,
    /// The user stopped it.
    pub(crate) stopped: bool,
}

impl Deployment {
    /// One that nothing was done for yet.
    pub(crate) fn new(name: String, network: ZoneId, now_ms: u64) -> Self {
        Self {
            name,
            network,
            created_ms: now_ms,
            origin: String::new(),
            budget: None,
            services: BTreeMap::new(),
            units: vec![],
            leaving: vec![],
            completed: BTreeMap::new(),
            spent: Amount::ZERO,
            stopped: false,
        }
    }

    /// What is asked, checked.
    pub(crate) fn specs(&self) -> Result<BTreeMap<String, CheckedSpec>, Failure> {
        checked(&self.services).map_err(|(service, e)| Failure::new("spec", format!("services.{service}.{e}")))
    }
    pub(crate) fn unit(&self, key: &Key) -> Option<&Unit> {
        self.units.iter().find(|u| u.key == *key)
    }
    pub(crate) fn unit_mut(&mut self, key: &Key) -> Option<&mut Unit> {
        self.units.iter_mut().find(|u| u.key == *key)
    }

    fn file(folder: &Path, network: &ZoneId, name: &str) -> RecordFile<Self> {
        let zone: String = network.to_string().chars().take(16).collect();
        RecordFile::new(folder.join(format!("{zone}-{name}.json")))
    }

    /// Writes it down.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Failure> {
        make_private(folder)?;
        Self::file(folder, &self.network, &self.name).save(self).map_err(Failure::from)
    }

    /// The deployment of a name, if there is one.
    pub(crate) fn load(folder: &Path, network: &ZoneId, name: &str) -> Result<Option<Self>, Failure> {
        if !is_name(name) {
            return Ok(None);
        }
        Ok(Self::file(folder, network, name).load().map_err(Failure::from)?.filter(|d| d.network == *network && d.name == name))
    }
}

/// Where deployments are kept, beside the records of jobs.
pub(crate) fn folder(jobs: &Path) -> PathBuf {
    jobs.with_file_name("deployments")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        let mut numbers = Numbers::default();
        for n in [3, 1, 0, 2, 7, 5, 6, 3] {
            numbers.insert(n);
        }
        assert_eq!(numbers.0, [(0, 4), (5, 8)]);
        assert!(numbers.contains(3) && !numbers.contains(4) && numbers.count() == 7);
    }

    #[test]
    fn a_deployment_is_found_by_its_name_on_its_network() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(&dir.path().join("jobs"));
        let (here, there) = (ZoneId([1; 32]), ZoneId([2; 32]));
        let mut one = Deployment::new("shop".into(), here, 5);
        let spec: JobSpec = serde_json::from_str(r#"{"image": "a", "resources": {"cpu": 0.5, "memory": "1Gi"}, "replicas": 2}"#).unwrap();
        one.services.insert("web".into(), spec);
        one.save(&folder).unwrap();
        assert_eq!(Deployment::load(&folder, &here, "shop").unwrap(), Some(one));
        assert_eq!(Deployment::load(&folder, &there, "shop").unwrap(), None);
        assert_eq!(Deployment::load(&folder, &here, "../shop").unwrap(), None);
    }
}
