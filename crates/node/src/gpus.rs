//! Which GPUs a machine offers, at which price, and whether its engine can attach them. Spec: `docs/specs/gpu.md`.
//!
//! Guarantees: real ones only where the engine can attach them; simulated ones are files below the machine's own folder and say so
//! in the offer. What the zone allows is the provider's to check.

use crate::NodeError;
use pasture_provider::{Gpus, NvidiaGpus, SimulatedGpu, SimulatedGpus};
use pasture_runtime::{Capabilities, GpuSupport};
use pasture_types::Amount;
use pasture_types::market::{MAX_ATTRIBUTES, OfferTerms};
use std::path::Path;
use std::sync::Arc;

/// A price to begin with for a GPU, in credits per hour: two.
pub const SUGGESTED_GPU_RATE: Amount = Amount(2_000_000_000);

/// What a machine offers of GPUs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GpuOffer {
    /// Its own: those with these ids, or all where none is named.
    Real(Vec<String>),
    /// Simulated ones.
    Simulated(Vec<SimulatedGpu>),
}

/// Looks at the GPUs that are to be offered. `data`: the machine's folder, an absolute path.
///
/// # Errors
/// Why they cannot be found out.
pub async fn look_at_gpus(offer: &GpuOffer, data: &Path) -> Result<Gpus, NodeError> {
    let looked = match offer {
        GpuOffer::Real(only) => Gpus::look(Arc::new(NvidiaGpus::default()), only).await?,
        GpuOffer::Simulated(kinds) => Gpus::look(Arc::new(SimulatedGpus::new(data.join("simulated-gpus"), kinds.clone())), &[]).await?,
    };
    if looked.devices().is_empty() {
        return Err(NodeError::Options("this machine has no GPU that could be offered; farm doctor says more".into()));
    }
    Ok(looked)
}

/// Refuses real GPUs that the engine cannot attach: a job would run without.
pub(crate) fn attachable(gpus: Option<&Gpus>, engine: &Capabilities) -> Result<(), NodeError> {
    match (gpus, &engine.gpus) {
        (Some(gpus), GpuSupport::Missing(why)) if !gpus.are_simulated() => {
            Err(NodeError::Options(format!("{} cannot attach GPUs to jobs: {why}. Run `farm doctor --fix`", engine.engine)))
        }
        (Some(gpus), GpuSupport::Cdi(known)) if !gpus.are_simulated() => match gpus.devices().iter().find(|d| !known.contains(&d.uuid)) {
            Some(device) => {
                Err(NodeError::Options(format!("the engine knows no {}: describe the GPUs anew with `farm doctor --fix`", device.uuid)))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Adds GPUs to an offer, each at this price per hour.
pub(crate) fn add(offer: &mut OfferTerms, gpus: &Gpus, rate: Amount) -> Result<(), NodeError> {
    offer.resources.gpus = gpus.lines();
    offer.rates.gpus = vec![rate; offer.resources.gpus.len()];
    offer.attributes.extend(gpus.attributes());
    offer.attributes.sort();
    if offer.attributes.len() > MAX_ATTRIBUTES {
        let most = MAX_ATTRIBUTES.saturating_sub(gpus.attributes().len());
        return Err(NodeError::Options(format!("beside what is said of its GPUs, at most {most} labels can be said of a machine")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_offer_says_what_its_gpus_are() {
        let dir = tempfile::tempdir().unwrap();
        let kinds = vec!["H100:2:80Gi".parse().unwrap(), "T4:1:16Gi".parse().unwrap()];
        let gpus = look_at_gpus(&GpuOffer::Simulated(kinds), dir.path()).await.unwrap();
        let mut offer = OfferTerms { attributes: vec![("zz".into(), "1".into())], ..OfferTerms::default() };
        add(&mut offer, &gpus, SUGGESTED_GPU_RATE).unwrap();
        assert_eq!((offer.resources.gpus.len(), offer.rates.gpus.len()), (2, 2));
        assert!(offer.attributes.is_sorted());
        for name in ["gpu.simulated", "gpu.cuda.12.4", "gpu.driver.550", "zz"] {
            assert!(offer.attributes.iter().any(|(n, _)| n == name), "{name}");
        }
        assert!(!offer.attributes.iter().any(|(n, _)| n == "gpu.cuda.12.5"));
        let labels = (0..MAX_ATTRIBUTES).map(|n| (format!("l{n}"), "x".into())).collect();
        let mut full = OfferTerms { attributes: labels, ..OfferTerms::default() };
        assert!(add(&mut full, &gpus, SUGGESTED_GPU_RATE).is_err());
    }
}
