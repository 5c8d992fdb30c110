//! The GPUs of this machine: which there are, who holds which, and whether a job really sees its own. Spec: `docs/specs/gpu.md`.
//!
//! ```text
//!  source.look ─▶ inventory ─▶ offer lines, attributes
//!                     │
//!  lease matched ─▶ assign ─▶ LeaseRecord.gpus (on disk) ─▶ source.attach ─▶ container ─▶ check from inside ─▶ billing begins
//! ```
//! Guarantees: a device belongs to at most one lease that is not over; which one is decided once and on disk before the lease is
//! accepted; it is free again when the lease's process has ended. Where the zone leases no GPUs, none is offered or attached.
//! It installs nothing and does not choose between leases.

mod assign;
pub(crate) mod check;
mod nvidia;
pub(crate) mod nvml;
#[cfg(test)]
mod nvml_tests;
mod simulated;

pub use nvidia::NvidiaGpus;
pub use simulated::{SimulatedGpu, SimulatedGpus};

use crate::ProviderError;
use crate::context::Context;
use async_trait::async_trait;
use pasture_api::data::HeldGpu;
use pasture_runtime::Workload;
use pasture_types::genesis::Params;
use pasture_types::gpu::{Version, attributes};
use pasture_types::resources::MAX_GPU_LINES;
use pasture_types::{GpuLine, Resources};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a machine's GPUs cannot be found out, or attached, for.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// There is no driver: its library is not here, or says that nothing drives a device.
    #[error("no driver of NVIDIA answers ({0}): install the one of this system with its tools and restart")]
    NoDriver(String),
    /// The driver's library answers with an error.
    #[error("the NVIDIA driver fails {what} ({why}): {next}")]
    Driver {
        /// What it was asked for.
        what: String,
        /// What it says.
        why: String,
        /// What helps.
        next: &'static str,
    },
    /// The driver hangs.
    #[error("the NVIDIA driver does not answer within {} s: dmesg may say why, and a restart of the machine helps", .0.as_secs())]
    Silent(Duration),
    /// What it said makes no sense.
    #[error("the NVIDIA driver says what this version does not understand: {0}")]
    Output(String),
    /// A device was named that is not there.
    #[error("this machine has no GPU {0}")]
    Unknown(String),
    /// A file could not be written.
    #[error("{} cannot be written", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What was found on a machine.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Inventory {
    /// The devices, each once.
    pub devices: Vec<HeldGpu>,
    /// Version of their driver.
    pub driver: Option<Version>,
    /// Newest CUDA version that it runs.
    pub cuda: Option<Version>,
}

/// Where GPUs come from: the machine's own, or simulated ones.
#[async_trait]
pub trait GpuSource: Send + Sync + 'static {
    /// Whether its devices only look like ones.
    fn is_simulated(&self) -> bool;
    /// Looks which devices there are.
    async fn look(&self) -> Result<Inventory, GpuError>;
    /// Has a container get these devices and no others.
    fn attach(&self, gpus: &[HeldGpu], workload: &mut Workload);
    /// What to run inside a container to see its devices.
    fn check_command(&self) -> Vec<String>;
    /// The devices in what that printed: hostile, it comes from inside a job.
    fn seen(&self, output: &str) -> Result<Vec<HeldGpu>, String>;
}

/// The GPUs that a machine offers.
#[derive(Clone)]
pub struct Gpus {
    source: Arc<dyn GpuSource>,
    inventory: Inventory,
}

impl fmt::Debug for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpus").field("simulated", &self.source.is_simulated()).field("inventory", &self.inventory).finish()
    }
}

impl Gpus {
    /// Looks at a source. `only`: the ids of those to offer; empty for all.
    ///
    /// # Errors
    /// [`GpuError`] if they cannot be looked at, or one that was named is not there.
    pub async fn look(source: Arc<dyn GpuSource>, only: &[String]) -> Result<Self, GpuError> {
        let mut inventory = source.look().await?;
        if let Some(unknown) = only.iter().find(|id| !inventory.devices.iter().any(|d| d.uuid == **id)) {
            return Err(GpuError::Unknown(unknown.clone()));
        }
        inventory.devices.retain(|d| only.is_empty() || only.contains(&d.uuid));
        let mut ids = BTreeSet::new();
        inventory.devices.retain(|d| ids.insert(d.uuid.clone()));
        // What has no place in an offer is not assigned either.
        let lines = lines(&inventory.devices);
        inventory.devices.retain(|d| lines.iter().any(|l| l.model == d.model && l.vram_bytes == d.vram_bytes));
        Ok(Self { source, inventory })
    }

    /// The lines of an offer.
    #[must_use]
    pub fn lines(&self) -> Vec<GpuLine> {
        lines(&self.inventory.devices)
    }

    /// What an offer says of them.
    #[must_use]
    pub fn attributes(&self) -> Vec<(String, String)> {
        attributes(self.inventory.driver, self.inventory.cuda, self.source.is_simulated())
    }

    /// The devices.
    #[must_use]
    pub fn devices(&self) -> &[HeldGpu] {
        &self.inventory.devices
    }

    /// Whether they only look like GPUs.
    #[must_use]
    pub fn are_simulated(&self) -> bool {
        self.source.is_simulated()
    }

    pub(crate) fn source(&self) -> &dyn GpuSource {
        &*self.source
    }

    /// Why an offer with these GPUs makes no sense; `None` if it does.
    pub(crate) fn problem(gpus: Option<&Self>, offered: &Resources) -> Option<String> {
        let has = Resources { gpus: gpus.map_or_else(Vec::new, Self::lines), ..Resources::default() };
        let wants = Resources { gpus: offered.gpus.clone(), ..Resources::default() };
        has.checked_sub(&wants).is_none().then(|| "GPUs are offered that this machine does not have".into())
    }
}

/// Devices as lines of an offer: counted by model and memory.
pub(crate) fn lines(devices: &[HeldGpu]) -> Vec<GpuLine> {
    let mut counted: BTreeMap<(&str, u64), u16> = BTreeMap::new();
    for device in devices {
        let count = counted.entry((&device.model, device.vram_bytes)).or_default();
        *count = count.saturating_add(1);
    }
    let line = |((model, vram_bytes), count): ((&str, u64), u16)| GpuLine { model: model.to_owned(), count, vram_bytes };
    counted.into_iter().map(line).take(MAX_GPU_LINES).collect()
}

/// Whether a zone lets these GPUs be offered: all, or those of models that its audits prove.
pub(crate) fn allowed(gpus: Option<&Gpus>, params: &Params) -> Result<(), ProviderError> {
    match gpus {
        Some(gpus) if gpus.are_simulated() && !params.dev => {
            Err(ProviderError::Gpus("simulated GPUs are for trying things out: only a development network takes them, and this is none"))
        }
        Some(gpus) if !gpus.lines().iter().all(|line| params.leases_gpu(&line.model)) => Err(ProviderError::Gpus(
            "this network does not lease all of these GPUs: it neither is for development nor says what each model has to prove",
        )),
        _ => Ok(()),
    }
}

/// The devices for a lease with these resources; empty if it wants none, `None` if they cannot be had.
pub(crate) fn reserve(ctx: &Context, resources: &Resources) -> Option<Vec<HeldGpu>> {
    if resources.gpus.is_empty() {
        return Some(vec![]);
    }
    if !resources.gpus.iter().all(|line| ctx.facts.params.leases_gpu(&line.model)) {
        return None;
    }
    let gpus = ctx.options.gpus.as_ref()?;
    assign::assign(gpus.devices(), &ctx.leases.held_gpus(), &resources.gpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::audit::GpuRate;

    async fn simulated(kinds: &[&str], only: &[String]) -> Result<Gpus, GpuError> {
        let dir = tempfile::tempdir().unwrap();
        let kinds = kinds.iter().map(|k| k.parse().unwrap()).collect();
        Gpus::look(Arc::new(SimulatedGpus::new(dir.path().into(), kinds)), only).await
    }

    #[tokio::test]
    async fn devices_become_lines_and_no_more_is_offered_than_is_there() {
        let gpus = simulated(&["H100:2:80Gi", "T4:1:16Gi", "H100:1:80Gi"], &[]).await.unwrap();
        let lines = gpus.lines();
        assert_eq!(lines.iter().map(|l| (l.model.as_str(), l.count)).collect::<Vec<_>>(), [("H100", 3), ("T4", 1)]);
        let offer = |gpus: Vec<GpuLine>| Resources { gpus, ..Resources::default() };
        assert_eq!(Gpus::problem(Some(&gpus), &offer(lines.clone())), None);
        assert_eq!(Gpus::problem(None, &offer(vec![])), None);
        assert!(Gpus::problem(None, &offer(lines.clone())).is_some());
        let more = lines.iter().map(|l| GpuLine { count: l.count + 1, ..l.clone() }).collect();
        assert!(Gpus::problem(Some(&gpus), &offer(more)).is_some());
        assert!(matches!(simulated(&["T4:1:16Gi"], &["GPU-1".into()]).await, Err(GpuError::Unknown(id)) if id == "GPU-1"));
        let kinds: Vec<String> = (1..=MAX_GPU_LINES + 2).map(|n| format!("T4:1:{n}Gi")).collect();
        let many = simulated(&kinds.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await.unwrap();
        assert_eq!((many.lines().len(), many.devices().len()), (MAX_GPU_LINES, MAX_GPU_LINES), "what cannot be offered is nobody's");
    }

    #[tokio::test]
    async fn the_node_itself_keeps_gpus_in_development_zones() {
        let gpus = simulated(&["T4:1:16Gi"], &[]).await.unwrap();
        let (dev, production) = (Params::dev(), Params::production());
        assert!(allowed(Some(&gpus), &dev).is_ok() && allowed(None, &production).is_ok());
        assert!(allowed(Some(&gpus), &production).unwrap_err().to_string().contains("development network"));
        let mut leased = Params::production();
        leased.market.gpu_leases = true;
        assert!(allowed(Some(&gpus), &leased).is_err(), "simulated ones are for development even where real ones are leased");
        let real = Gpus { source: Arc::new(NvidiaGpus::default()), inventory: gpus.inventory.clone() };
        assert!(allowed(Some(&real), &leased).is_ok() && allowed(Some(&real), &production).is_err());
        // Where audits prove a model, real ones of it are.
        let mut proving = Params::production().audited();
        assert!(allowed(Some(&real), &proving).is_err());
        proving.audits.gpus = vec![GpuRate { model: "T4".into(), macs_per_s: 1 << 40 }];
        assert!(allowed(Some(&real), &proving).is_ok() && allowed(Some(&gpus), &proving).is_err());
    }
}
